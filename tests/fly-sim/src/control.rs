//! The control port: ledger, faults, hooks and state, for tests and people. Not part of Fly.

use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::core::Shared;
use crate::fault::Fault;
use crate::strict::{Strict, StrictOptional};

/// All routes of the control port.
pub fn router(core: Shared) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/ledger", get(ledger))
        .route("/calls", get(calls))
        .route("/reset", post(reset))
        .route("/faults", get(faults).post(add_fault).delete(clear_faults))
        .route("/tokens/revoke", post(revoke))
        .route("/state", get(state))
        .route(
            "/metrics",
            get(async |State(core): State<Shared>| core.edge.text()),
        )
        .merge(crate::machine::control_router())
        .merge(crate::platform::control::router())
        .with_state(core)
}

async fn ledger(State(core): State<Shared>) -> impl IntoResponse {
    Json(json!({"effects": core.ledger.effects()}))
}

async fn calls(State(core): State<Shared>) -> impl IntoResponse {
    Json(json!({
        "counts": core.ledger.counts(),
        "mutations": core.ledger.mutations(),
        "calls": core.ledger.calls(),
    }))
}

/// Forgets calls, effects, faults and hooks. The world stays.
async fn reset(State(core): State<Shared>) -> StatusCode {
    core.ledger.clear();
    core.faults.clear();
    core.hooks.clear();
    StatusCode::NO_CONTENT
}

async fn faults(State(core): State<Shared>) -> impl IntoResponse {
    Json(core.faults.standing())
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    Many(Vec<Fault>),
    One(Fault),
}

async fn add_fault(State(core): State<Shared>, Strict(body): Strict<Value>) -> impl IntoResponse {
    let single: Result<Fault, _> = serde_json::from_value(body.clone());
    let faults = match (single, serde_json::from_value(body)) {
        (Ok(fault), _) | (Err(_), Ok(OneOrMany::One(fault))) => vec![fault],
        (Err(_), Ok(OneOrMany::Many(faults))) => faults,
        (Err(error), Err(_)) => {
            return (
                StatusCode::BAD_REQUEST,
                Json(json!({"error": error.to_string()})),
            );
        }
    };
    for fault in faults {
        core.plan(fault);
    }
    (StatusCode::CREATED, Json(json!(core.faults.standing())))
}

async fn clear_faults(State(core): State<Shared>) -> StatusCode {
    core.faults.clear();
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Revoke {
    /// The token; all if absent.
    token: Option<String>,
    /// False gives it back.
    #[serde(default = "yes")]
    revoked: bool,
}

fn yes() -> bool {
    true
}

async fn revoke(
    State(core): State<Shared>,
    StrictOptional(body): StrictOptional<Revoke>,
) -> impl IntoResponse {
    let body = body.unwrap_or(Revoke {
        token: None,
        revoked: true,
    });
    let changed = core.set_revoked(body.token.as_deref(), body.revoked);
    Json(json!({"changed": changed}))
}

async fn state(State(core): State<Shared>) -> impl IntoResponse {
    let apps: Vec<Value> = core.read(|world| {
        world
            .apps
            .values()
            .map(|app| {
                json!({
                    "name": app.name,
                    "organization": app.org_slug,
                    "status": app.status(),
                    "created_at": app.created_at.to_string(),
                    "machines": app.machines.values().map(|machine| machine.state_json()).collect::<Vec<_>>(),
                    "volumes": app.volumes.values().collect::<Vec<_>>(),
                    "addresses": app.platform.has_public_address(),
                    "secrets_version": app.platform.secrets_version(),
                })
            })
            .collect()
    });
    Json(json!({"apps": apps, "mutations": core.ledger.mutations()}))
}
