//! The example application with its integrations, whose official secrets may come later; and what its status
//! says of them.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use golive::api::{
    ActivationStatus,
    status::{IntegrationResult, IntegrationStatus},
};
use serde_json::{Value, json};

use crate::support::env::{Env, root};
use crate::support::service::generated;

/// Name of the Activation and of the app.
pub const NAME: &str = "sist-cabanas-mvp";

/// What Meta and Mercado Pago have: Golive signs with it.
pub const VERIFY_TOKEN: &str = "ea863b245a47f4a0deed25c7faece57037cf4321d2e7379a";
pub const APP_SECRET: &str = "59c3330781715efd040ae625b7699406";
pub const SIGNATURE: &str = "e60ba6be61498d55e7c7806202617ca26650ad9a545659d1ed0af4af414428cb";

/// The example application, whose official secrets may come later.
pub fn cabanas() -> Value {
    let effect = |provider: &str| json!({"metric": {"name": "webhook_effects_total", "selector": {"provider": provider}}});
    json!({
        "app": NAME,
        "provision": {
            "postgres": {"managed": {}},
            "redis": {"upstash": {}},
            "secrets": {
                "generate": generated(),
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
pub async fn application(env: &Env, app_secret: &str) {
    let values = [
        ("WHATSAPP_VERIFY_TOKEN", VERIFY_TOKEN),
        ("WHATSAPP_APP_SECRET", app_secret),
        ("MERCADOPAGO_WEBHOOK_SECRET", SIGNATURE),
    ];
    env.secret("application", &values).await;
}

/// What the status says of an integration.
pub fn entry<'s>(status: &'s ActivationStatus, name: &str) -> &'s IntegrationStatus {
    let mut all = status.integrations.iter();
    all.find(|entry| entry.name == name).unwrap()
}

/// What a check of it found.
pub fn result(status: &ActivationStatus, name: &str, id: &str) -> Option<IntegrationResult> {
    let mut checks = entry(status, name).checks.iter();
    checks
        .find(|check| check.id == id)
        .map(|check| check.result)
}

/// The Secret of the senders, with this app secret of Meta.
pub async fn official(env: &Env, app_secret: &str) {
    let values = [
        ("VERIFY_TOKEN", VERIFY_TOKEN),
        ("APP_SECRET", app_secret),
        ("SIGNATURE", SIGNATURE),
    ];
    env.secret("official", &values).await;
}

/// What the example names beside its secrets.
pub async fn inputs(env: &Env) {
    let inputs = root().join("examples/sist-cabanas-inputs.yaml");
    env.apply(&std::fs::read_to_string(inputs).unwrap()).await;
}

/// The example at this tag, with these of its integrations alone.
pub fn with_only(tag: &str, names: &[&str]) -> Value {
    let mut spec = cabanas();
    spec["deploy"]["image"] = json!(format!("registry.fly.io/{NAME}:{tag}"));
    let integrations = spec["integrations"].as_object_mut().unwrap();
    integrations.retain(|name, _| name == "owner" || names.contains(&name.as_str()));
    spec
}

/// Notes of the events with this reason.
pub async fn events(env: &Env, reason: &str) -> Vec<String> {
    let all = env.events(NAME).await.into_iter();
    let those = all.filter(|(_, of, _)| of == reason);
    those.map(|(_, _, note)| note).collect()
}
