//! A failure of one object is reported on that object and does not affect others: a bug that panics,
//! and a pass that does not end.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use fly_sim::{Fault, Image, Kind, Options};
use golive::{
    api::ActivationStatus,
    controller::{self, Scope, operator::Parts, work},
    pipeline::Fence,
    process::metrics::Metrics,
    triggers::Waits,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::env::{Env, LIMIT, is, message, reason};

/// The operator with the test's own fence. It is called before every change, in the middle of a pass,
/// so a panic or a hang in it has the effect of a bug in a step.
struct Fenced {
    metrics: Metrics,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Fenced {
    fn start(env: &Env, fence: Fence, more: &[&str]) -> Self {
        let settings = env.settings(more);
        let metrics = Metrics::new();
        let clock = golive::clock::ServerClock::of_kubernetes();
        let config = env.cluster.config();
        let connection = golive::process::kube_client::Connection::new(config, &metrics, &clock);
        let (stop, kept) = (CancellationToken::new(), metrics.clone());
        let run = golive::controller::operator::run(
            settings,
            connection,
            metrics,
            clock,
            stop.clone(),
            move |parts, stop| work(parts, fence, stop),
        );
        let task = tokio::spawn(async move { run.await.expect("it stops in good order") });
        Self {
            metrics: kept,
            stop,
            task,
        }
    }

    fn panics(&self) -> u32 {
        let text = self.metrics.prometheus().expect("metrics");
        let name = "controller_runtime_reconcile_panics_total{controller=\"activation\"} ";
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0, |count| count.parse().unwrap())
    }
}

async fn work(parts: Parts, fence: Fence, stop: CancellationToken) {
    let settings = &parts.settings;
    let own = &settings.namespaces.own;
    let key = golive::store::installation_key::load(&parts.kube, own).await;
    let (waits, mut woken) = Waits::new(&[Some(own.clone())]);
    let installation = work::installation(settings, key.expect("a key"), &parts.clock);
    let outside = work::outside(settings, &parts.clock).expect("certificates");
    let leads = Fence::new(|| true);
    let context = work::context(
        &parts,
        installation,
        outside,
        Vec::new(),
        waits,
        (fence, leads),
    );
    let scope = Scope {
        namespace: Some(own.clone()),
        wakes: woken.remove(0),
    };
    controller::run(Arc::new(context), 8, vec![scope], parts.health, stop).await;
}

/// Another application beside the smallest one.
async fn other(env: &Env, more: Value) {
    let mut spec = json!({"app": "other-cabanas"});
    crate::support::env::merge(&mut spec, more);
    env.activation("other", spec).await;
}

/// Waits for two more passes of the live object.
async fn looked_at_twice(env: &Env) {
    let looks = || {
        let calls = env.sim.call_list().into_iter();
        calls
            .filter(|call| call.path == "/v1/apps/hola-cabanas/machines")
            .count()
    };
    let before = looks();
    env.wait("hola", "two looks", |_| looks() >= before + 2)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_counted_and_told_on_its_object_and_leaves_the_others_alone() {
    let mut images = crate::support::env::images();
    let cabanas = std::path::PathBuf::from(env!("CARGO_BIN_EXE_golive")).with_file_name("cabanas");
    images.add(Image::new("registry.fly.io/other-cabanas:1.0.0", cabanas).args(["hello"]));
    let env = Env::without_operator(Options {
        images,
        ..Options::default()
    })
    .await;
    // A token that only the failing object has: no other pass keeps it redacted.
    let token = env.sim.token("acme").unwrap();
    env.secret("acme", &[("token", &token)]).await;
    // When it panicked; `None` while it does not.
    let panicked: Arc<Mutex<Option<Vec<Instant>>>> = Arc::default();
    let bug = panicked.clone();
    let fence = Fence::new(move || {
        let armed = {
            let mut panicked = bug.lock().unwrap();
            panicked.as_mut().map(|times| times.push(Instant::now()))
        };
        assert!(armed.is_none(), "index 7 is out of bounds of {token}");
        true
    });
    let back_off = ["--backoff-min", "300ms", "--backoff-max", "10s"];
    let operator = Fenced::start(&env, fence, &back_off);
    env.activation("hola", json!({})).await;
    let before = env.wait_live("hola").await;
    *panicked.lock().unwrap() = Some(Vec::new());

    let spec = json!({
        "organization": "acme", "tokenSecretRef": {"name": "acme", "key": "token"},
        "deploy": {"image": "registry.fly.io/other-cabanas:1.0.0"},
    });
    other(&env, spec).await;

    let status = env
        .wait("other", "the panic", |status| {
            reason(status, "Ready") == "InternalError"
        })
        .await;
    assert!(is(&status, "Ready", "Unknown"), "{status:?}");
    assert!(is(&status, "Reconciling", "True"), "{status:?}");
    let text = message(&status, "Ready");
    assert!(
        text.contains("panicked: index 7 is out of bounds of [redacted]"),
        "{text}"
    );
    looked_at_twice(&env).await;
    env.wait("other", "five panics", |_| operator.panics() >= 5)
        .await;
    // Backoff of at least 0.3, 0.6, 1.2 and 2.4 s.
    let times = panicked.lock().unwrap().take().unwrap();
    let took = times[4].duration_since(times[0]);
    assert!(
        took >= Duration::from_millis(4_400),
        "{took:?}: no back-off"
    );
    let after = env.status("hola").await;
    assert_eq!(after.conditions, before.conditions);

    // When the bug is gone, the object recovers by itself.
    env.wait_live("other").await;
    assert_eq!(env.sim.machines("other-cabanas").len(), 2);
    operator.stop.cancel();
    operator.task.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_that_hangs_is_cut_off_with_its_intents_kept_and_holds_back_no_other() {
    let mut env = Env::without_operator(Options::default()).await;
    // The create succeeds, and its reply never arrives.
    let hangs = Kind::TimeoutApplied { hang_ms: 120_000 };
    env.sim.fault(Fault::new(
        "POST /api/v1/organizations/{slug}/postgresv2",
        hangs,
    ));
    // The timeout is long enough for a pass that does not hang, and the backoff long enough for the
    // report of the hanging pass to be observed before the next pass.
    let limits = [
        "--reconcile-timeout",
        "6s",
        "--backoff-min",
        "3s",
        "--backoff-max",
        "3s",
    ];
    env.start_operator(&limits).await;
    other(&env, json!({"provision": {"postgres": {"managed": {}}}})).await;
    let since = Instant::now();
    env.activation("hola", json!({})).await;

    // The unknown outcome stays on record.
    let unknown = |status: &ActivationStatus| {
        let mut intents = status.intents.iter();
        intents.any(|intent| intent.kind == "ManagedPostgres")
    };
    let cut = env.wait("other", "its deadline, and an intent kept", |status| {
        reason(status, "Ready") == "DeadlineExceeded" && unknown(status)
    });
    let (cut, _) = tokio::join!(cut, env.wait_live("hola"));

    assert!(is(&cut, "Ready", "Unknown"), "{cut:?}");
    assert!(message(&cut, "Ready").contains("within 6s"), "{cut:?}");
    assert!(since.elapsed() < LIMIT);
    let status = env.wait_live("other").await;
    assert_eq!(status.intents, []);
    let creates = env.sim.ledger();
    let creates = creates
        .iter()
        .filter(|effect| effect.kind == "postgres.create");
    assert_eq!(creates.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_goes_during_a_pass_is_forgotten_all_the_same() {
    let env = Env::start().await;
    let mut first = env.sim.pause_at(1, fly_sim::Point::BeforeApply);
    env.activation("hola", json!({})).await;
    first.reached().await.unwrap();
    // A person removes the finalizer by hand.
    let none = json!({"metadata": {"finalizers": null}});
    env.patch("hola", none).await;
    env.delete("hola").await;
    first.resume();
    let told = || env.metrics().contains("name=\"hola\"");
    let end = Instant::now() + LIMIT;
    // The pass that was running may still write its status.
    let mut quiet = 0;
    while quiet < 40 {
        assert!(Instant::now() < end, "it is remembered: {}", env.metrics());
        quiet = if told() { 0 } else { quiet + 1 };
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
