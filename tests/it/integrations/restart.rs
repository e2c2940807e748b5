//! The operator is killed while it probes.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use fly_sim::Options;
use golive::api::status::{IntegrationResult, IntegrationState};
use serde_json::json;

use super::{
    door::Door,
    example::{APP_SECRET, NAME, application, entry, events, inputs, official, with_only},
};
use crate::support::{
    env::{Env, is, reason},
    trouble::until,
};

/// Requests of one set at least.
const A_SET: usize = 15;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_under_way_when_the_operator_is_killed_is_repeated_and_nothing_is_said_twice() {
    let mut env = Env::without_operator(Options::default()).await;
    let door = Door::to(env.sim.edge()).await;
    let resolve = format!(
        "*.fly.dev:443={},*.fly.dev:*={}:*",
        door.address(),
        env.sim.edge_ip()
    );
    let flags = ["--resolve", &resolve];
    env.start_operator_process(&flags);
    inputs(&env).await;
    application(&env, APP_SECRET).await;
    env.activation(NAME, with_only("1.4.0", &["whatsapp"]))
        .await;
    env.wait_live(NAME).await;
    env.wait(NAME, "what is missing", |status| {
        reason(status, "IntegrationsHealthy") == "SecretMissing"
    })
    .await;

    // Killed in the middle of the first checks of all.
    door.hold_after(3);
    official(&env, APP_SECRET).await;
    until("a probe that waits", || door.waiting() > 1).await;
    env.kill_operator();
    let status = env.status(NAME).await;
    assert!(!is(&status, "IntegrationsHealthy", "True"));
    door.open();
    env.start_operator_process(&flags);
    let status = env.wait_for(NAME, "IntegrationsHealthy", "True").await;
    let since = entry(&status, "whatsapp").verified_at.clone();
    env.wait_event(NAME, "IntegrationVerified").await;

    // Killed in the middle of checks that somebody has requested.
    door.hold_after(3);
    let retry = json!({"golive.dev/retry-from": "Integrations"});
    env.patch(NAME, json!({"metadata": {"annotations": retry}}))
        .await;
    env.wait(NAME, "the request is open", |status| {
        entry(status, "whatsapp").requested
    })
    .await;
    until("a probe that waits", || door.waiting() > 1).await;
    env.kill_operator();
    let before = door.passed();
    door.open();
    env.start_operator_process(&flags);
    let status = env
        .wait(NAME, "the requested checks are made", |status| {
            !entry(status, "whatsapp").requested
        })
        .await;
    assert!(door.passed() - before > A_SET, "they were made anew");
    assert_eq!(entry(&status, "whatsapp").verified_at, since);
    assert!(is(&status, "IntegrationsHealthy", "True"));

    assert_eq!(events(&env, "IntegrationVerified").await.len(), 1);
    for failed in ["IntegrationFailed", "ForgeryAccepted", "ObservationUnknown"] {
        let told = events(&env, failed).await;
        let mut about = told.iter().filter(|note| note.starts_with("whatsapp"));
        assert_eq!(about.next(), None, "{failed}");
    }
    // No version of the status had a part of a result.
    for version in env.record().histories().into_values().flatten() {
        let all = version.status().map(|status| status.integrations.clone());
        for entry in all.into_iter().flatten() {
            let waits = entry.state == IntegrationState::Waiting;
            let is_whole = entry.checks.iter().any(|check| check.id == "W1")
                && entry.checks.iter().any(|check| check.id == "W10");
            assert!(waits || entry.checks.is_empty() || is_whole, "{entry:#?}");
            let failed = |result| matches!(result, IntegrationResult::Failed);
            assert!(
                !entry.checks.iter().any(|check| failed(check.result)),
                "{entry:#?}"
            );
        }
    }
}
