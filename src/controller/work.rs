//! The work of a leading process: the controller over all watched namespaces, with its context.

use std::{sync::Arc, time::Duration};

use futures::future;
use tokio_util::sync::CancellationToken;

use kube::runtime::events::Reporter;

use crate::{
    api::{FIELD_MANAGER, GROUP, bounds, notification::Notification},
    clock::ServerClock,
    controller::{self, Scope, operator::Parts},
    net::{probe::Probe, prometheus, tls::SetupError, vendor::Vendors},
    notifier::{self, Notifier},
    pipeline::{Fence, Installation, Timing},
    plan::{refs::Allowed, room::Room},
    process::{
        outside, publisher::Publisher, recorder::Recorder, settings::Settings, turnstile::Turnstile,
    },
    reconcile::{
        context::{Context, Departures, Redactors},
        memory::Memories,
    },
    store::installation_key,
    triggers::{Waits, secrets::SecretPoller},
};

/// Most looks at applications in the background at the same time.
const LOOKS: usize = 16;

/// Most receivers of the whole installation: what waits for all of them fits a ConfigMap.
const MOST_DEFAULTS: usize = 8;

/// Most of them that are for the objects of one namespace.
const LOOKS_OF_ONE: usize = 6;

/// The timing of the settings.
pub fn timing(settings: &Settings) -> Timing {
    Timing {
        recheck: settings.work.recheck_interval,
        backoff_min: settings.work.backoff_min,
        backoff_max: settings.work.backoff_max,
        settle: settings.work.settle,
        poll: settings.work.poll_interval,
        deadline: settings.work.reconcile_timeout,
    }
}

/// What all objects of this operator have in common.
pub fn installation(
    settings: &Settings,
    fingerprint_key: Arc<[u8]>,
    clock: &ServerClock,
) -> Installation {
    Installation {
        own_namespace: settings.namespaces.own.clone(),
        watched: settings.namespaces.watched.clone(),
        fingerprint_key,
        app_tokens: settings.fly.app_tokens,
        secrets: match settings.namespaces.require_secret_opt_in {
            true => Allowed::Labelled,
            false => Allowed::All,
        },
        looks: Turnstile::with_share(LOOKS, LOOKS_OF_ONE),
        timing: timing(settings),
        clock: clock.clone(),
        scale: settings.watch.scale(),
        prometheus: prometheus::Allowed::new(settings.watch.allow_prometheus.clone()),
    }
}

/// What makes requests to applications and to vendors.
///
/// # Errors
/// When a file with certificates cannot be used.
pub fn outside(settings: &Settings, clock: &ServerClock) -> Result<(Probe, Vendors), SetupError> {
    let network = &settings.network;
    let probe = Probe::new(&network.resolve, network.ca_file.as_deref(), clock)?;
    let vendors = &settings.vendors;
    let (meta_graph, mercado_pago) = (&vendors.meta_graph_url, &vendors.mercado_pago_url);
    let vendors = Vendors::new(meta_graph, mercado_pago, &probe.tls())?;
    Ok((probe, vendors))
}

/// The receivers of the whole installation, from the file that the flag names.
///
/// # Errors
/// What is wrong with the file, for a person.
fn default_receivers(settings: &Settings) -> Result<Vec<Notification>, String> {
    let Some(path) = &settings.notifications.default_notifications else {
        return Ok(Vec::new());
    };
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| format!("cannot be read: {error}"))?;
    let receivers: Vec<Notification> = serde_saphyr::from_str(&text)
        .map_err(|error| format!("is not a list as in spec.notifications: {error}"))?;
    for receiver in &receivers {
        let wrong = |rule| {
            format!(
                "has a receiver ({}) that is invalid: {rule}",
                receiver.title()
            )
        };
        receiver.check().map_err(wrong)?;
    }
    match receivers.len() <= MOST_DEFAULTS {
        true => Ok(receivers),
        false => Err(format!("has more than {MOST_DEFAULTS} receivers")),
    }
}

/// A context with nothing remembered, which writes while the first fence is open and publishes
/// while the second is. Must be called within a tokio runtime.
pub fn context(
    parts: &Parts,
    installation: Installation,
    (probe, vendors): (Probe, Vendors),
    defaults: Vec<Notification>,
    waits: Waits,
    (fence, leads): (Fence, Fence),
) -> Context {
    let reporter = Reporter {
        controller: format!("{GROUP}/{FIELD_MANAGER}"),
        instance: Some(parts.identity.clone()),
    };
    let publisher = Arc::new(Publisher::start(Recorder::new(
        parts.kube.clone(),
        reporter,
        parts.clock.clone(),
    )));
    let receivers = &parts.settings.notifications;
    let notifier = Notifier::new(notifier::Parts {
        kube: parts.kube.clone(),
        own_namespace: installation.own_namespace.clone(),
        probe: probe.clone(),
        clock: parts.clock.clone(),
        leads: leads.clone(),
        allowed: installation.secrets,
        metrics: parts.metrics.clone(),
        publisher: publisher.clone(),
        defaults,
        origins: receivers.allow_receiver.clone(),
        pager_duty: receivers.pagerduty_url.clone(),
    });
    Context {
        kube: parts.kube.clone(),
        fly: parts.fly.clone(),
        probe,
        outside: Turnstile::new(outside::AT_ONCE),
        vendors,
        metrics: Arc::new(parts.metrics.clone()),
        installation: Arc::new(installation),
        source_interval_min: parts.settings.work.source_interval_min,
        fence,
        leads,
        waits,
        secret_poller: SecretPoller::default(),
        publisher,
        notifier,
        memories: Memories::default(),
        room: Room::default(),
        redactors: Redactors::default(),
        departures: Departures::default(),
    }
}

/// Works until `stop`, then waits for running reconciles.
pub async fn work(parts: Parts, stop: CancellationToken) {
    let settings = &parts.settings;
    bounds::prepare();
    let Some(fingerprint_key) = fingerprint_key(&parts, &stop).await else {
        return;
    };
    let outside = match outside(settings, &parts.clock) {
        Ok(outside) => outside,
        Err(error) => {
            tracing::error!(error = %crate::causes::chain(&error), "cannot set up requests to applications");
            return;
        }
    };
    let defaults = match default_receivers(settings) {
        Ok(receivers) => receivers,
        Err(wrong) => {
            tracing::error!("the file of --default-notifications {wrong}");
            return;
        }
    };
    let scopes: Vec<Option<String>> = if settings.namespaces.watched.is_empty() {
        vec![None]
    } else {
        settings
            .namespaces
            .watched
            .iter()
            .cloned()
            .map(Some)
            .collect()
    };
    let (waits, woken) = Waits::new(&scopes);
    let wakes = waits.clone();
    let leader = parts.leader.clone();
    let leading = leader.clone();
    let stopping = stop.clone();
    let fence = Fence::new(move || !stopping.is_cancelled() && leader.permit().is_ok());
    let leads = Fence::new(move || leading.permit().is_ok());
    let installation = installation(settings, fingerprint_key, &parts.clock);
    let context = Arc::new(context(
        &parts,
        installation,
        outside,
        defaults,
        waits,
        (fence, leads),
    ));
    parts
        .metrics
        .set_max_concurrent_reconciles(settings.work.max_concurrent_reconciles);
    let scopes = scopes.into_iter().zip(woken);
    let scopes = scopes.map(|(namespace, wakes)| Scope { namespace, wakes });
    let passes = controller::run(
        context.clone(),
        settings.work.max_concurrent_reconciles,
        scopes.collect(),
        parts.health.clone(),
        stop.clone(),
    );
    let polls = context.secret_poller.clone().run(
        parts.kube.clone(),
        wakes,
        settings.work.secret_look_interval,
        stop.clone(),
    );
    let notifier = context.notifier.clone();
    let told = notifier.run(stop.clone());
    future::join3(passes, polls, told).await;
    context.publisher.close().await;
}

/// The key, as soon as the API server returns it; `None` after `stop`.
async fn fingerprint_key(parts: &Parts, stop: &CancellationToken) -> Option<Arc<[u8]>> {
    let mut pause = Duration::from_millis(200);
    loop {
        match installation_key::load(&parts.kube, &parts.settings.namespaces.own).await {
            Ok(key) => return Some(key),
            Err(error) => {
                tracing::warn!(error = %crate::causes::chain(&error), again_in = ?pause, "cannot read the installation key; retrying");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(Duration::from_secs(30));
    }
}
