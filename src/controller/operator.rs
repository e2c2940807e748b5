//! The life of the process: serve probes, be elected, work, stop.
//!
//! The order of shutdown matters: after the signal no change begins (the gate of the Fly.io client
//! is closed), running changes end, and only then is the lease released. When the lease is lost,
//! the process ends at once without waiting, because another replica may lead already.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::clock::{self, ServerClock};
use crate::fly::call::client::SetupError;
use crate::fly::{Endpoints, Fly, HttpOptions};
use crate::process::definitions::Definitions;
use crate::process::kube_client::{self, Connection};
use crate::process::leader::thread::{self, Elected};
use crate::process::leader::{Leader, Lost};
use crate::process::metrics::{FlyCall, Metrics};
use crate::process::server::{Health, Server};
use crate::process::settings::{self, Settings};

/// The cache that a leader must fill before it is ready.
pub const ACTIVATIONS: &str = "activations";

/// Why the process ends other than by a signal. Determines the exit code.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// An invalid setting.
    #[error("{0}")]
    Setting(#[from] settings::Invalid),
    /// `--log` cannot be parsed.
    #[error("--log cannot be parsed")]
    LogFilter(#[from] tracing_subscriber::filter::ParseError),
    /// The address of the probes cannot be bound.
    #[error("cannot listen on {address}; choose another --listen")]
    Listen {
        /// The configured address.
        address: std::net::SocketAddr,
        /// The error of the system.
        source: std::io::Error,
    },
    /// No client for the API server.
    #[error(transparent)]
    Kube(#[from] kube_client::Error),
    /// No election.
    #[error(transparent)]
    Election(#[from] thread::Error),
    /// No client for Fly.io.
    #[error("cannot set up the client of Fly.io")]
    Fly(#[from] SetupError),
    /// Another replica leads, or may.
    #[error("leadership is lost: {0}")]
    Leadership(#[from] Lost),
    /// Work did not end in time after the signal.
    #[error("work was cut off {} s after the signal to stop", .0.as_secs())]
    Grace(Duration),
    /// The controller ended without a signal.
    #[error("the controller ended without a signal")]
    Ended,
}

impl Failure {
    /// The exit code: 1 for a failure that a restart does not resolve, 3 for a lost lease, 4 for
    /// work that was cut off at the end of the grace period. (2 is wrong usage.)
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Leadership(_) => 3,
            Failure::Grace(_) => 4,
            _ => 1,
        }
    }
}

/// Inputs of the work.
#[derive(Clone)]
pub struct Parts {
    /// The settings.
    pub settings: Arc<Settings>,
    /// The API server.
    pub kube: Client,
    /// The client of Fly.io. Refuses changes when this process does not lead or is stopping.
    pub fly: Fly,
    /// The metrics.
    pub metrics: Metrics,
    /// The state of the readiness probe.
    pub health: Health,
    /// Whether and for how long this process leads.
    pub leader: Leader,
    /// The clock of the API server.
    pub clock: ServerClock,
    /// Identity of this process, the `reportingInstance` of events.
    pub identity: String,
}

/// Runs until `shutdown`, with `work` while this process leads. `work` gets a token; when it is
/// cancelled, `work` finishes what it has begun and returns.
pub async fn run<W>(
    settings: Settings,
    connection: Connection,
    metrics: Metrics,
    clock: ServerClock,
    shutdown: CancellationToken,
    work: impl FnOnce(Parts, CancellationToken) -> W,
) -> Result<(), Failure>
where
    W: Future<Output = ()>,
{
    settings.validate()?;
    let kube = connection.client()?;
    let health = Health::new();
    let stop_serving = CancellationToken::new();
    // Stops the server on every return.
    let _stop_serving = stop_serving.clone().drop_guard();
    let server = serve(&settings, &metrics, &health, stop_serving.clone()).await?;
    let definitions = Definitions::compare(kube.clone(), health.clone()).await;
    tokio::spawn(definitions.watch(stop_serving));

    let identity = identity();
    metrics.set_leader(&settings.lease.name, false);
    let mut term = None;
    if settings.lease.elect {
        let election = settings.election(identity.clone(), clock::wall);
        let connection = connection.clone();
        let elected = thread::elect(move || connection.client(), election, shutdown.clone());
        match elected.await? {
            Some(won) => term = Some(won),
            None => return Ok(()),
        }
    }
    let leader = term.as_ref().map_or_else(Leader::always, Elected::leader);
    // A leader is ready once it has listed the activations; a standby replica is ready at once.
    health.expect_cache(ACTIVATIONS);
    metrics.set_leader(&settings.lease.name, true);

    let fly = fly(
        &settings,
        &metrics,
        &clock,
        leader.clone(),
        health.clone(),
        shutdown.clone(),
    )?;
    let grace = settings.process.shutdown_grace;
    let lease_name = settings.lease.name.clone();
    let parts = Parts {
        settings: Arc::new(settings),
        kube,
        fly,
        metrics: metrics.clone(),
        health,
        leader,
        clock,
        identity,
    };
    let work = work(parts, shutdown.clone());
    supervise(work, term.as_mut(), &shutdown, grace).await?;
    metrics.set_leader(&lease_name, false);
    if let Some(term) = term {
        term.release().await;
    }
    drop(_stop_serving);
    let _ = server.await;
    Ok(())
}

/// Runs `work` to its end: within `grace` after `shutdown`. Returns at once when the lease is lost.
async fn supervise(
    work: impl Future<Output = ()>,
    term: Option<&mut Elected>,
    shutdown: &CancellationToken,
    grace: Duration,
) -> Result<(), Failure> {
    // On the heap, because the work of an operator is a large future.
    let mut work = Box::pin(work);
    let mut lost = pin!(lost(term));
    let stopping = || {
        tracing::info!(
            grace_seconds = grace.as_secs(),
            "stopping: no further change is made"
        );
    };
    tokio::select! {
        () = &mut work => {
            if !shutdown.is_cancelled() {
                return Err(Failure::Ended);
            }
            // The work ended first, with nothing to finish.
            stopping();
            return Ok(());
        }
        lost = &mut lost => return Err(lost.into()),
        () = shutdown.cancelled() => stopping(),
    }
    tokio::select! {
        () = &mut work => Ok(()),
        lost = &mut lost => Err(lost.into()),
        () = tokio::time::sleep(grace) => Err(Failure::Grace(grace)),
    }
}

/// Never returns without an election.
async fn lost(term: Option<&mut Elected>) -> Lost {
    match term {
        Some(term) => term.lost().await,
        None => std::future::pending().await,
    }
}

async fn serve(
    settings: &Settings,
    metrics: &Metrics,
    health: &Health,
    stop: CancellationToken,
) -> Result<tokio::task::JoinHandle<()>, Failure> {
    let address = settings.process.listen;
    let listen = |source| Failure::Listen { address, source };
    let server = Server::bind(address, metrics.clone(), health.clone()).await;
    let server = server.map_err(listen)?;
    let bound = server.address().map_err(listen)?;
    tracing::info!(address = %bound, "serving /healthz, /readyz and /metrics");
    Ok(tokio::spawn(async move {
        if let Err(error) = server.serve(stop).await {
            tracing::error!(%error, "probes and metrics are no longer served");
        }
    }))
}

/// The client of Fly.io, with metrics and the gate for changes.
fn fly(
    settings: &Settings,
    metrics: &Metrics,
    clock: &ServerClock,
    leader: Leader,
    health: Health,
    shutdown: CancellationToken,
) -> Result<Fly, SetupError> {
    let endpoints = Endpoints {
        machines: base(&settings.fly.machines_url),
        api: base(&settings.fly.api_url),
        uiex: base(&settings.fly.uiex_url),
        registry: base(&settings.fly.registry_url),
    };
    let metrics = metrics.clone();
    let options = HttpOptions {
        ca_file: settings.network.ca_file.clone(),
        auth_soft_for: settings.fly.token_patience,
        raised_limits: settings.fly.raised_limits,
        registries: settings
            .fly
            .registry_mirror
            .iter()
            .map(|mirror| (mirror.domain.clone(), base(&mirror.url)))
            .collect(),
        observer: Some(Arc::new(move |seen| {
            metrics.fly_call(FlyCall {
                endpoint: seen.endpoint,
                code: seen.status,
                duration: seen.duration,
                limited: !seen.limited.is_zero() || seen.status == Some(429),
            });
        })),
        gate: Some(Arc::new(move || {
            if shutdown.is_cancelled() {
                return Err("the operator is stopping".to_owned());
            }
            // What is done could not be recorded in a status that lacks fields.
            if let Some(older) = health.skew().older() {
                return Err(older);
            }
            leader.permit()
        })),
        clock: clock.clone(),
        ..HttpOptions::default()
    };
    Fly::new(endpoints, options)
}

/// The URL without the trailing slash that the parser adds.
fn base(url: &url::Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

/// Identity of this process: its host name (in Kubernetes the pod's name) and a random suffix. At
/// most 128 characters, as events require.
fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String = host.trim().chars().take(100).collect();
    let host = if host.is_empty() {
        "golive".to_owned()
    } else {
        host
    };
    format!("{host}_{:016x}", rand::random::<u64>())
}
