//! A release that lets forgeries in, and the mended one; and the integrations of what serves beside a spec
//! that cannot go live.

use golive::api::status::{IntegrationResult, IntegrationState};
use serde_json::json;

use super::example::{
    APP_SECRET, NAME, application, entry, events, inputs, official, result, with_only,
};
use crate::support::env::{Env, is, message, reason};

fn image(tag: &str) -> serde_json::Value {
    json!({"spec": {"deploy": {"image": format!("registry.fly.io/{NAME}:{tag}")}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_accepts_forgeries_is_told_once_and_the_mended_one_is_healthy_by_itself() {
    let env = Env::start().await;
    inputs(&env).await;
    application(&env, APP_SECRET).await;
    official(&env, APP_SECRET).await;
    let spec = with_only("1.4.2-accepts-unsigned", &["whatsapp"]);
    env.activation(NAME, spec).await;
    env.wait_live(NAME).await;

    let status = env.wait_for(NAME, "IntegrationsHealthy", "False").await;
    assert_eq!(reason(&status, "IntegrationsHealthy"), "ForgeryAccepted");
    let whatsapp = entry(&status, "whatsapp");
    assert_eq!(whatsapp.state, IntegrationState::Failed);
    assert_eq!(whatsapp.owner.as_deref(), Some("Integraciones"));
    assert!(!whatsapp.next_action.is_empty());
    for id in ["W4", "W5", "W6"] {
        let found = result(&status, "whatsapp", id);
        assert_eq!(found, Some(IntegrationResult::Failed), "{id}");
    }
    assert!(is(&status, "Live", "True"), "{}", message(&status, "Live"));
    assert!(is(&status, "Ready", "True"));
    assert_eq!(reason(&status, "Ready"), "GoLive");
    let action = status.next_action.unwrap_or_default();
    assert!(action.starts_with("whatsapp (Integraciones): "), "{action}");
    env.wait_event(NAME, "ForgeryAccepted").await;

    // The mended release, without a word to Golive.
    env.patch(NAME, image("1.4.0")).await;
    env.wait_live(NAME).await;
    let status = env.wait_for(NAME, "IntegrationsHealthy", "True").await;
    assert_eq!(entry(&status, "whatsapp").release, Some(2));
    let told: Vec<(String, String, String)> = env.events(NAME).await;
    let forged = told.iter().filter(|(_, of, _)| of == "ForgeryAccepted");
    let forged: Vec<_> = forged.collect();
    assert_eq!(forged.len(), 1, "{forged:?}");
    assert_eq!(forged[0].0, "Warning");
    assert!(forged[0].2.contains("Integraciones"), "{forged:?}");
    assert!(forged[0].2.contains("next: "), "{forged:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_spec_that_cannot_go_live_the_integrations_of_what_serves_are_proven_again() {
    let env = Env::start().await;
    inputs(&env).await;
    application(&env, APP_SECRET).await;
    official(&env, APP_SECRET).await;
    let mut spec = with_only("1.4.0", &["whatsapp"]);
    spec["gates"] = json!([{"before": "Integrations"}]);
    env.activation(NAME, spec).await;
    env.wait_live(NAME).await;

    // Nothing is sent before the gate is open, and it holds up nothing else.
    let status = env
        .wait(NAME, "the gate", |status| {
            status.pending_gate.as_deref() == Some("Integrations") && is(status, "Ready", "True")
        })
        .await;
    assert_eq!(status.integrations, Vec::new());
    assert_eq!(reason(&status, "IntegrationsHealthy"), "AwaitingApproval");
    let digest = status.plan.map(|plan| plan.digest).unwrap_or_default();
    env.approve(NAME, "Integrations", &digest).await;
    let status = env.wait_for(NAME, "IntegrationsHealthy", "True").await;
    let since = entry(&status, "whatsapp").verified_at.clone();

    // A typo in the image; and another path of the webhook, and another Secret, which what serves does not
    // have.
    let mut typo = image("1.4.O");
    typo["spec"]["integrations"] = json!({"whatsapp": {
        "path": "/hooks/of/the/next/release",
        "appSecretRef": {"name": "official-of-the-next-release"},
        "verifyTokenSecretRef": {"name": "official-of-the-next-release"},
    }});
    env.patch(NAME, typo).await;
    let status = env
        .wait(
            NAME,
            "the spec is stuck, and the integration verified",
            |status| is(status, "Ready", "False") && is(status, "IntegrationsHealthy", "True"),
        )
        .await;
    assert_eq!(entry(&status, "whatsapp").verified_at, since);
    let waits = events(&env, "SecretMissing").await;
    assert_eq!(waits, [""; 0], "the Secret of what serves is there");

    // Somebody asks for the checks: they are made of the release that serves.
    let retry = json!({"golive.dev/retry-from": "Integrations/1"});
    env.patch(NAME, json!({"metadata": {"annotations": retry}}))
        .await;
    let asked = || {
        let versions = env.record().histories().into_values().flatten();
        let mut told = versions.filter_map(|version| version.status().cloned());
        told.any(|status| {
            let mut entries = status.integrations.iter();
            entries.any(|entry| entry.name == "whatsapp" && entry.requested)
        })
    };
    let status = env
        .wait(NAME, "the requested checks are made", |status| {
            let handled = status.last_handled_retry.as_deref() == Some("Integrations/1");
            handled && asked() && !entry(status, "whatsapp").requested
        })
        .await;
    assert_eq!(entry(&status, "whatsapp").verified_at, since);
    assert!(is(&status, "Ready", "False") && is(&status, "IntegrationsHealthy", "True"));

    // It is looked at again at once when a Secret says something else.
    let is_stuck = |status: &golive::api::ActivationStatus| {
        is(status, "Ready", "False") && is(status, "Live", "True")
    };
    official(&env, "0123456789abcdef0123456789abcdef").await;
    let status = env
        .wait(NAME, "the wrong secret is found", |status| {
            is_stuck(status) && reason(status, "IntegrationsHealthy") == "IntegrationFailed"
        })
        .await;
    let found = result(&status, "whatsapp", "W3");
    assert_eq!(found, Some(IntegrationResult::Failed));
    assert_eq!(entry(&status, "whatsapp").release, Some(1));
    official(&env, APP_SECRET).await;
    env.wait(NAME, "the right secret is found", |status| {
        is_stuck(status) && is(status, "IntegrationsHealthy", "True")
    })
    .await;
    assert_eq!(events(&env, "IntegrationFailed").await.len(), 1);
}
