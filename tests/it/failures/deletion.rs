//! Deletion when Fly.io refuses or does not answer.

use fly_sim::{Fault, Kind};
use kube::api::DeleteParams;
use serde_json::json;

use super::{event, recovered, warnings, world};
use crate::env::{Env, is, message, reason};

/// A token is given up soon, and no re-check finds that before the deletion does.
const IMPATIENT: [&str; 4] = ["--token-patience", "1s", "--recheck-interval", "1h"];

async fn live(flags: &[&str]) -> Env {
    let env = world(flags).await;
    env.activation("hola", json!({})).await;
    recovered(&env, "hola").await;
    env
}

async fn begin_deletion(env: &Env) {
    env.activations()
        .delete("hola", &DeleteParams::default())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_dead_token_deletion_says_so_and_ends_when_it_is_told_to_forget() {
    let env = live(&IMPATIENT).await;
    env.sim.revoke(None);
    begin_deletion(&env).await;

    let status = env
        .wait("hola", "DeletionBlocked", |status| {
            reason(status, "Deleting") == "DeletionBlocked"
        })
        .await;

    let text = message(&status, "Deleting");
    assert!(text.contains("golive.dev/forget=hola-cabanas"), "{text}");
    assert!(is(&status, "Ready", "False"), "{status:?}");
    event(&env, "hola", "DeletionBlocked").await;
    assert_eq!(warnings(&env, "hola").await, ["DeletionBlocked"]);
    let forget = json!({"metadata": {"annotations": {"golive.dev/forget": "hola-cabanas"}}});
    env.patch("hola", forget).await;
    env.delete("hola").await;
    assert_eq!(env.sim.apps(), ["hola-cabanas"], "it stays as it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_was_blocked_ends_by_itself_with_a_good_token() {
    let env = live(&IMPATIENT).await;
    env.sim.revoke(None);
    begin_deletion(&env).await;
    env.wait("hola", "DeletionBlocked", |status| {
        reason(status, "Deleting") == "DeletionBlocked"
    })
    .await;
    // Somebody else's app is no way out: the value must name this one.
    let wrong = json!({"metadata": {"annotations": {"golive.dev/forget": "other"}}});
    env.patch("hola", wrong).await;

    env.sim.unrevoke(None);

    env.delete("hola").await;
    assert!(env.sim.apps().is_empty(), "{:?}", env.sim.apps());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_waits_for_fly_to_answer_again() {
    let env = live(&IMPATIENT).await;
    env.sim.fault(Fault::new("*", Kind::status(503)).always());
    begin_deletion(&env).await;

    let status = env.wait_for("hola", "Deleting", "True").await;

    assert_eq!(reason(&status, "Deleting"), "Deleting");
    assert_eq!(reason(&status, "Ready"), "Deleting");
    assert!(message(&status, "Deleting").contains("removed"));
    assert_eq!(env.sim.apps().len(), 1);
    env.sim.clear_faults();
    env.delete("hola").await;
    assert!(env.sim.apps().is_empty(), "{:?}", env.sim.apps());
}
