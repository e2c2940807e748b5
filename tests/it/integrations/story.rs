//! An application goes live before its official secrets are there; they are handed in, one is replaced
//! by a wrong one, and it is mended.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::collections::BTreeSet;

use golive::api::{
    ActivationStatus,
    status::{IntegrationResult, IntegrationState, IntegrationStatus, PhaseState},
};
use serde_json::{Value, json};

use crate::support::env::{Env, is, message, reason, root};

const NAME: &str = "sist-cabanas-mvp";

/// What Meta and Mercado Pago have: Golive signs with it.
const VERIFY_TOKEN: &str = "ea863b245a47f4a0deed25c7faece57037cf4321d2e7379a";
const APP_SECRET: &str = "59c3330781715efd040ae625b7699406";
const SIGNATURE: &str = "e60ba6be61498d55e7c7806202617ca26650ad9a545659d1ed0af4af414428cb";

/// The example application, whose official secrets may come later.
fn cabanas() -> Value {
    let effect = |provider: &str| json!({"metric": {"name": "webhook_effects_total", "selector": {"provider": provider}}});
    json!({
        "app": NAME,
        "provision": {
            "postgres": {"managed": {}},
            "redis": {"upstash": {}},
            "secrets": {
                "generate": [
                    {"name": "JWT_SECRET", "bytes": 48},
                    {"name": "REDIS_PASSWORD", "bytes": 24},
                    {"name": "ICS_SALT", "bytes": 16, "encoding": "hex"},
                    {"name": "ADMIN_CSRF_SECRET", "bytes": 32},
                    {"name": "GRAFANA_ADMIN_PASSWORD", "bytes": 18, "encoding": "alphanumeric"},
                ],
                "from": [{"secretRef": {"name": "application"}, "optional": true}],
            },
        },
        "deploy": {
            "image": format!("registry.fly.io/{NAME}:1.4.0"),
            "config": {"configMapRef": {"name": "sist-cabanas", "key": "fly.toml"}},
        },
        "smokeTest": {"checks": [{"name": "health", "http": {"path": "/api/v1/healthz"}}]},
        "integrations": {
            "owner": "Integraciones",
            "whatsapp": {
                "path": "/api/v1/webhooks/whatsapp",
                "verifyTokenSecretRef": {"name": "official", "key": "VERIFY_TOKEN"},
                "appSecretRef": {"name": "official", "key": "APP_SECRET"},
                "effect": effect("whatsapp"),
            },
            "mercadoPago": {
                "path": "/api/v1/webhooks/mercadopago",
                "signingSecretRef": {"name": "official", "key": "SIGNATURE"},
                "effect": effect("mercadopago"),
            },
            "ical": {"exportPath": "/api/v1/ical/export.ics"},
        },
    })
}

/// What the application gets.
async fn application(env: &Env, app_secret: &str) {
    let values = [
        ("WHATSAPP_VERIFY_TOKEN", VERIFY_TOKEN),
        ("WHATSAPP_APP_SECRET", app_secret),
        ("MERCADOPAGO_WEBHOOK_SECRET", SIGNATURE),
    ];
    env.secret("application", &values).await;
}

fn entry<'s>(status: &'s ActivationStatus, name: &str) -> &'s IntegrationStatus {
    let mut all = status.integrations.iter();
    all.find(|entry| entry.name == name).unwrap()
}

fn result(status: &ActivationStatus, name: &str, id: &str) -> Option<IntegrationResult> {
    let mut checks = entry(status, name).checks.iter();
    checks
        .find(|check| check.id == id)
        .map(|check| check.result)
}

/// Ids of the machines that run.
fn started(env: &Env) -> BTreeSet<String> {
    let machines = env.sim.machines(NAME).into_iter();
    let machines = machines.filter(|machine| machine["state"] == "started");
    machines
        .filter_map(|machine| machine["id"].as_str().map(str::to_owned))
        .collect()
}

async fn events(env: &Env, reason: &str) -> Vec<String> {
    let all = env.events(NAME).await.into_iter();
    let those = all.filter(|(_, of, _)| of == reason);
    those.map(|(_, _, note)| note).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_secrets_come_after_go_live_and_a_wrong_one_is_told_until_it_is_mended() {
    let env = Env::start().await;
    let inputs = root().join("examples/sist-cabanas-inputs.yaml");
    env.apply(&std::fs::read_to_string(inputs).unwrap()).await;
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
    let official = [
        ("VERIFY_TOKEN", VERIFY_TOKEN),
        ("APP_SECRET", APP_SECRET),
        ("SIGNATURE", SIGNATURE),
    ];
    env.secret("official", &official).await;
    let status = env.wait_for(NAME, "IntegrationsHealthy", "True").await;
    assert_eq!(reason(&status, "IntegrationsHealthy"), "Verified");
    for (name, ids) in [
        ("whatsapp", &["W1", "W3", "W4", "W5", "W6", "W7", "W8"][..]),
        ("mercado-pago", &["M1", "M2", "M3", "M4", "M7"][..]),
        ("ical", &["C1", "C3"][..]),
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
    let status = env.wait_for(NAME, "IntegrationsHealthy", "False").await;
    assert_eq!(reason(&status, "IntegrationsHealthy"), "IntegrationFailed");
    assert_eq!(
        result(&status, "whatsapp", "W3"),
        Some(IntegrationResult::Failed)
    );
    assert_eq!(
        entry(&status, "mercado-pago").state,
        IntegrationState::Verified
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
