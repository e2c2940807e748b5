//! Fly.io stops answering in the middle of Provision, of Deploy, and of an update. When it is back,
//! Golive continues, creates nothing twice (O1) and leaves nothing behind (O2).

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use fly_sim::{Fault, Kind, Point};
use serde_json::{Value, json};

use crate::support::trouble::{deploy, faulted, once_at, recovered, until, warnings, world};
use crate::support::{
    crash,
    env::{Env, is, reason},
};

const ADDRESS: &str = "POST /v1/apps/{app}/ip_assignments";
const RELEASE: &str = "POST /api/v1/releases";
const UPDATE: &str = "POST /v1/apps/{app}/machines/{id}";

/// Something of each kind, and nothing that outlives the object.
fn everything() -> Value {
    json!({
        "provision": {
            "postgres": {"managed": {}}, "redis": {"upstash": {}},
            "secrets": {"generate": [{"name": "JWT_SECRET"}]},
        },
        "deletionPolicy": {
            "app": "Delete", "database": "Delete", "redis": "Delete", "secrets": "Delete",
        },
    })
}

/// Answers every call with this fault, from the next call of this endpoint on. True once that call was
/// made.
fn breaks_at(env: &Env, endpoint: &'static str, kind: &Kind) -> Arc<AtomicBool> {
    let fault = Fault::new("*", kind.clone()).always();
    let broke = Arc::new(AtomicBool::new(false));
    let breaks = broke.clone();
    once_at(env, endpoint, Point::AfterApply, move |core| {
        core.faults.add(fault.clone());
        breaks.store(true, Ordering::SeqCst);
    });
    broke
}

/// Waits until the outage has begun and the object reports a retry, or `ObservationUnknown` when a
/// re-check failed first. Only calls from then on count: those of the previous outage may still be in
/// flight.
async fn tried_again(env: &Env, broke: &AtomicBool) {
    until("the outage", || broke.load(Ordering::SeqCst)).await;
    let before = faulted(env);
    until("calls in the outage", || faulted(env) >= before + 4).await;
    let status = env
        .wait("hola", "a retry", |status| {
            let mut steps = status.phases.iter().flat_map(|phase| &phase.steps);
            steps.any(|step| step.state.as_str() == "Retrying")
                || reason(status, "Observed") == "ObservationUnknown"
        })
        .await;
    assert!(!is(&status, "Stalled", "True"), "{status:?}");
    assert!(!is(&status, "Ready", "False"), "{status:?}");
}

async fn goes_on_after(kind: Kind) {
    let env = world(&[]).await;
    let broke = breaks_at(&env, ADDRESS, &kind);
    env.activation("hola", everything()).await;
    // In Provision: little more than the app exists.
    tried_again(&env, &broke).await;
    assert!(env.sim.machines("hola-cabanas").is_empty());
    let broke = breaks_at(&env, RELEASE, &kind);
    env.sim.clear_faults();
    // In Deploy: the release is begun.
    tried_again(&env, &broke).await;
    env.sim.clear_faults();

    recovered(&env, "hola").await;

    let uid = env.get("hola").await.unwrap().metadata.uid.unwrap();
    let history = crash::history(&env.sim, &uid);
    for (what, count) in &history {
        assert_eq!(*count, 1, "{what}: {history:?}");
        assert!(!what.contains("delete"), "{what}: {history:?}");
        assert!(!what.contains("destroyed"), "{what}: {history:?}");
    }
    for made in [
        "app.create",
        "postgres.create",
        "addon.create",
        "machine.create",
    ] {
        let found = history.keys().any(|what| what.starts_with(made));
        assert!(found, "{made}: {history:?}");
    }
    env.delete("hola").await;
    crash::never_two(&env.sim).unwrap();
    crash::nothing_left(&env).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_429_in_the_middle_of_provision_and_of_deploy_makes_nothing_twice() {
    let retry_after = Some("1".to_owned());
    goes_on_after(Kind::RateLimited { retry_after }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_500_in_the_middle_of_provision_and_of_deploy_makes_nothing_twice() {
    goes_on_after(Kind::status(500)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_503_in_the_middle_of_provision_and_of_deploy_makes_nothing_twice() {
    goes_on_after(Kind::status(503)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_408_in_the_middle_of_provision_and_of_deploy_makes_nothing_twice() {
    goes_on_after(Kind::status(408)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_in_the_middle_of_provision_and_of_deploy_makes_nothing_twice() {
    goes_on_after(Kind::ResetBefore).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_fly_does_not_answer_an_update_is_not_rolled_back_and_goes_on_afterwards() {
    let env = world(&[]).await;
    let text = "[deploy]\n  wait_timeout = \"8s\"\n\n[http_service]\n  internal_port = 8080\n\n\
        [[http_service.checks]]\n  path = \"/\"\n  interval = \"5s\"\n  timeout = \"2s\"\n  \
        grace_period = \"1s\"\n";
    env.activation("hola", json!({"deploy": {"config": {"inline": text}}}))
        .await;
    recovered(&env, "hola").await;
    env.sim.reset();
    // The first of two machines has been updated; from then on no call is answered.
    breaks_at(&env, UPDATE, &Kind::status(503));
    deploy(&env, "hola", "again").await;
    until("the outage", || faulted(&env) > 0).await;
    let since = Instant::now();

    // Longer than the deadline for a machine to become healthy.
    let status = env
        .wait("hola", "an unobserved update", |status| {
            since.elapsed() > Duration::from_secs(10) && is(status, "Observed", "Unknown")
        })
        .await;

    assert!(!is(&status, "Stalled", "True"), "{status:?}");
    assert!(!is(&status, "Deployed", "False"), "{status:?}");
    assert_eq!(env.sim.calls(UPDATE), 1, "the update has gone on unseen");
    env.sim.clear_faults();
    let status = env
        .wait("hola", "the update", |status| {
            is(status, "Live", "True")
                && status
                    .release
                    .as_ref()
                    .is_some_and(|release| release.image.ends_with(":again"))
        })
        .await;
    assert_eq!(env.sim.calls(UPDATE), 2, "each machine once, and none back");
    let outcomes: Vec<&str> = status.history.iter().map(|h| h.outcome.as_str()).collect();
    assert_eq!(outcomes.len(), 2, "{outcomes:?}");
    assert!(!outcomes.contains(&"RolledBack"), "{outcomes:?}");
    let warnings = warnings(&env, "hola").await;
    assert!(
        !warnings
            .iter()
            .any(|w| w.contains("RolledBack") || w == "NotHealthy"),
        "{warnings:?}"
    );
}
