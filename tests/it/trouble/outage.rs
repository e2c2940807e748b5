//! Fly.io or the API server does not answer for a while.

use std::time::{Duration, Instant};

use fly_sim::{Fault, Kind};
use kube_env::{ControlPlane, control_plane};
use serde_json::json;

use crate::support::env::{Env, LIMIT, is, root};
use crate::support::trouble::{
    CREATE_MACHINE, event, options, pause_at, recovered, retrying, warnings, world,
};

/// Answers every call with this fault until the object reports it.
async fn answers(kind: Kind, cause: &[&str]) {
    let env = world(&[]).await;
    env.sim.fault(Fault::new("*", kind).always());
    env.activation("hola", json!({})).await;

    retrying(&env, "hola", cause).await;

    assert!(env.sim.apps().is_empty());
    env.sim.clear_faults();
    recovered(&env, "hola").await;
    let warnings = warnings(&env, "hola").await;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(cause.contains(&warnings[0].as_str()), "{warnings:?}");
    assert_eq!(env.sim.machines("hola-cabanas").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_while_of_429_passes() {
    let retry_after = Some("1".to_owned());
    answers(Kind::RateLimited { retry_after }, &["RateLimited"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_while_of_500_passes() {
    answers(Kind::status(500), &["FlyUnavailable"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_while_of_503_passes() {
    answers(Kind::status(503), &["FlyUnavailable"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_while_of_408_passes() {
    answers(Kind::status(408), &["FlyUnavailable"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_while_without_any_answer_passes() {
    answers(Kind::ResetBefore, &["FlyUnavailable"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_fly_is_down_what_is_live_stays_live_and_is_said_to_be_unobserved() {
    let env = world(&["--recheck-interval", "1s"]).await;
    env.activation("hola", json!({})).await;
    let before = recovered(&env, "hola").await;
    env.sim.fault(Fault::new("*", Kind::status(503)).always());

    let status = env.wait_for("hola", "Observed", "Unknown").await;

    assert!(is(&status, "Ready", "True"), "{status:?}");
    assert!(is(&status, "Live", "True"), "{status:?}");
    assert!(!is(&status, "Stalled", "True"), "{status:?}");
    assert!(is(&status, "Drifted", "Unknown"), "{status:?}");
    // The metric is updated after the status is written, so it may lag behind it.
    let end = Instant::now() + LIMIT;
    while env.metrics().contains("\ngolive_drift_fields{") {
        assert!(Instant::now() < end, "a number of unknown drift is shown");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    env.sim.clear_faults();
    let after = env.wait_for("hola", "Observed", "True").await;
    assert!(is(&after, "Ready", "True"), "{after:?}");
    assert_eq!(after.go_live, before.go_live);
    event(&env, "hola", "ObservationLost").await;
    assert_eq!(warnings(&env, "hola").await, ["ObservationLost"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_api_server_is_down_nothing_is_lost_and_the_activation_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut own = ControlPlane::start(control_plane::Options {
        dir: Some(dir.path().join("control-plane")),
        ..control_plane::Options::default()
    })
    .await
    .unwrap();
    let cluster = own.cluster().clone();
    cluster.apply_paths([root().join("crds")]).await.unwrap();
    let mut env = Env::on(cluster, options()).await;
    env.start_operator_process(&[]);
    // The create of the app is held until the API server is down, so that the rest runs without it.
    let mut pause = env.sim.pause_at(1, fly_sim::Point::BeforeApply);
    env.activation("hola", json!({})).await;
    pause.reached().await;

    own.stop();
    pause.resume();
    noticed(&env, 2, || !env.sim.apps().is_empty()).await;
    let mut pause = pause_at(&env, CREATE_MACHINE, fly_sim::Point::AfterApply);
    own.resume().await.unwrap();

    // The same in the middle of Deploy: one machine is created, and the reply comes too late to be
    // recorded.
    pause.reached().await;
    own.stop();
    pause.resume();
    noticed(&env, 2, || env.sim.machines("hola-cabanas").len() == 2).await;
    own.resume().await.unwrap();

    recovered(&env, "hola").await;
    assert_eq!(env.sim.machines("hola-cabanas").len(), 2);
    let creates = |kind: &str| {
        let effects = env.sim.ledger().into_iter();
        effects.filter(|effect| effect.kind == kind).count()
    };
    assert_eq!(creates("app.create"), 1);
    assert_eq!(creates("machine.create"), 2);
}

/// Waits until the operator has failed to reach the API server this often, and has made this progress
/// without it.
async fn noticed(env: &Env, times: usize, far: impl Fn() -> bool) {
    let count = || {
        let log = std::fs::read_to_string(env.log()).unwrap_or_default();
        log.matches("the reconcile failed").count()
    };
    let (before, end) = (count(), Instant::now() + LIMIT);
    while count() < before + times || !far() {
        assert!(Instant::now() < end, "the outage was not noticed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
