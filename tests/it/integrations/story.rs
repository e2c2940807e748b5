//! An application goes live before its official secrets are there; they are handed in, one is replaced
//! by a wrong one, and it is mended.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::collections::BTreeSet;

use golive::api::status::{IntegrationResult, IntegrationState, PhaseState};
use serde_json::json;

use super::example::{
    APP_SECRET, NAME, application, cabanas, entry, events, inputs, official, result,
};
use crate::support::env::{Env, is, message, reason};

/// Ids of the machines that run.
fn started(env: &Env) -> BTreeSet<String> {
    let machines = env.sim.machines(NAME).into_iter();
    let machines = machines.filter(|machine| machine["state"] == "started");
    machines
        .filter_map(|machine| machine["id"].as_str().map(str::to_owned))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_secrets_come_after_go_live_and_a_wrong_one_is_told_until_it_is_mended() {
    let env = Env::start().await;
    inputs(&env).await;
    env.activation(NAME, cabanas()).await;

    // Live without the secrets that only Meta and Mercado Pago can give.
    let status = env.wait_live(NAME).await;
    assert_eq!(reason(&status, "Ready"), "GoLive");
    let status = env
        .wait(NAME, "what is missing", |status| {
            reason(status, "IntegrationsHealthy") == "SecretMissing"
        })
        .await;
    assert!(is(&status, "IntegrationsHealthy", "Unknown"));
    let whatsapp = entry(&status, "whatsapp");
    assert_eq!(whatsapp.state, IntegrationState::Waiting);
    assert_eq!(whatsapp.owner.as_deref(), Some("Integraciones"));
    let action = status.next_action.as_deref().unwrap();
    assert!(
        action.starts_with("whatsapp (Integraciones): create it with"),
        "{action}"
    );
    let machines = started(&env);

    // They are handed in: to the application, and to Golive, which signs as the vendors do.
    application(&env, APP_SECRET).await;
    official(&env, APP_SECRET).await;
    let status = env.wait_for(NAME, "IntegrationsHealthy", "True").await;
    assert_eq!(reason(&status, "IntegrationsHealthy"), "Verified");
    for (name, ids) in [
        ("whatsapp", &["W1", "W3", "W4", "W5", "W6", "W7", "W8"][..]),
        ("mercado-pago", &["M1", "M2", "M3", "M4", "M7"][..]),
        ("ical", &["C1", "C2"][..]),
    ] {
        assert_eq!(entry(&status, name).state, IntegrationState::Verified);
        assert!(entry(&status, name).verified_at.is_some());
        for id in ids {
            let found = result(&status, name, id);
            assert_eq!(found, Some(IntegrationResult::Passed), "{name} {id}");
        }
    }
    assert!(is(&status, "Live", "True"));
    assert!(!machines.is_empty());
    assert_eq!(started(&env), machines, "restarted, not replaced");
    let metrics = env.metrics();
    assert!(
        metrics.contains("golive_integration_last_verified_timestamp_seconds{"),
        "{metrics}"
    );

    // From now on `Ready` is about the integrations too.
    env.patch(NAME, json!({"spec": {"readyWhen": "IntegrationsVerified"}}))
        .await;
    env.wait(NAME, "Ready by Verified", |status| {
        is(status, "Ready", "True") && reason(status, "Ready") == "Verified"
    })
    .await;

    // One of the application's secrets is replaced by a wrong one.
    application(&env, "0123456789abcdef0123456789abcdef").await;
    env.wait_for(NAME, "IntegrationsHealthy", "False").await;
    let status = env
        .wait(NAME, "the other webhook is verified", |status| {
            entry(status, "mercado-pago").state == IntegrationState::Verified
        })
        .await;
    assert_eq!(reason(&status, "IntegrationsHealthy"), "IntegrationFailed");
    assert_eq!(
        result(&status, "whatsapp", "W3"),
        Some(IntegrationResult::Failed)
    );
    assert!(is(&status, "Live", "True"), "{}", message(&status, "Live"));
    assert!(is(&status, "Ready", "False"));
    assert_eq!(reason(&status, "Stalled"), "IntegrationFailed");
    let action = status.next_action.as_deref().unwrap();
    assert!(action.starts_with("whatsapp (Integraciones): "), "{action}");
    let phase = status
        .phases
        .iter()
        .find(|phase| phase.name.as_str() == "Integrations");
    assert_eq!(phase.unwrap().state, PhaseState::Failed);
    env.wait_event(NAME, "IntegrationFailed").await;
    let told = events(&env, "IntegrationFailed").await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("W3"), "{told:?}");

    // Mended, without a word to Golive.
    application(&env, APP_SECRET).await;
    let status = env.wait_for(NAME, "IntegrationsHealthy", "True").await;
    assert_eq!(
        result(&status, "whatsapp", "W3"),
        Some(IntegrationResult::Passed)
    );
    env.wait_for(NAME, "Ready", "True").await;
    assert_eq!(events(&env, "IntegrationFailed").await.len(), 1);
}
