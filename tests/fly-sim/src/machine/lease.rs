//! Leases: one writer at a time, by nonce.

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use http::{HeaderMap, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Machine;
use super::api::find_mut;
use crate::core::{CallId, Shared};
use crate::error::{FlyError, FlyResult};
use crate::id;
use crate::state::Caller;
use crate::strict::StrictOptional;

/// The header with the nonce.
pub const NONCE: &str = "fly-machine-lease-nonce";

/// Seconds of a lease when none are given.
const DEFAULT_TTL: i64 = 120;

/// A lease.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Shows that a caller holds it.
    pub nonce: String,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// Whose it is.
    pub owner: String,
    /// What for.
    pub description: String,
}

impl Lease {
    /// A new lease from now on.
    pub fn new(owner: &str, description: &str, ttl: i64) -> Self {
        Self {
            nonce: id::nonce(),
            expires_at: expiry(ttl),
            owner: format!("{owner}@tokens.fly.io"),
            description: description.to_owned(),
        }
    }

    /// Without its nonce, as in `include_leases`.
    pub fn public(&self) -> Value {
        json!({
            "owner": self.owner,
            "expires_at": self.expires_at.as_second(),
            "description": self.description,
        })
    }
}

fn expiry(ttl: i64) -> Timestamp {
    Timestamp::now()
        .checked_add(SignedDuration::from_secs(ttl))
        .unwrap_or(Timestamp::MAX)
}

/// The nonce of a request.
pub fn nonce(headers: &HeaderMap) -> Option<String> {
    headers
        .get(NONCE)
        .and_then(|value| value.to_str().ok())
        .filter(|value| !value.is_empty())
        .map(str::to_owned)
}

impl Machine {
    /// The lease that holds now.
    pub fn held(&mut self) -> Option<&Lease> {
        if self
            .lease
            .as_ref()
            .is_some_and(|lease| lease.expires_at <= Timestamp::now())
        {
            self.lease = None;
        }
        self.lease.as_ref()
    }

    fn held_text(&self, lease: &Lease) -> String {
        format!(
            "machine ID {} lease currently held by {}, expires at {}",
            self.id,
            lease.owner,
            lease.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ")
        )
    }

    /// Refuses a write by whoever does not hold the lease: 409.
    pub fn check_lease(&mut self, nonce: Option<&str>) -> FlyResult<()> {
        match self.held().cloned() {
            Some(lease) if Some(lease.nonce.as_str()) != nonce => Err(FlyError::conflict(format!(
                "aborted: {}",
                self.held_text(&lease)
            ))),
            _ => Ok(()),
        }
    }
}

/// The routes of leases.
pub fn router() -> Router<Shared> {
    Router::new().route(
        "/v1/apps/{app}/machines/{id}/lease",
        get(read).post(acquire).delete(release),
    )
}

#[derive(Debug, Deserialize)]
struct LeaseQuery {
    ttl: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LeaseBody {
    ttl: Option<i64>,
    description: Option<String>,
}

fn envelope(machine: &Machine, lease: &Lease) -> Value {
    json!({
        "status": "success",
        "data": {
            "nonce": lease.nonce,
            "expires_at": lease.expires_at.as_second(),
            "owner": lease.owner,
            "description": lease.description,
            "version": machine.version,
        },
    })
}

async fn read(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path((app, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> FlyResult<Json<Value>> {
    core.write(|world| {
        world.app(&caller, &app)?;
        let machine = world
            .apps
            .get_mut(&app)
            .and_then(|app| app.machines.get_mut(&id))
            .ok_or_else(|| FlyError::machine_not_found(&id))?;
        let Some(lease) = machine.held().cloned() else {
            return Err(FlyError::not_found("lease not found").lease_envelope());
        };
        let mut value = envelope(machine, &lease);
        if nonce(&headers).as_deref() != Some(&lease.nonce) {
            value["data"]["nonce"] = json!("");
        }
        Ok(Json(value))
    })
}

async fn acquire(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path((app, id)): Path<(String, String)>,
    Query(query): Query<LeaseQuery>,
    headers: HeaderMap,
    StrictOptional(body): StrictOptional<LeaseBody>,
) -> Response {
    let body = body.unwrap_or_default();
    let ttl = body.ttl.or(query.ttl).unwrap_or(DEFAULT_TTL);
    if ttl <= 0 {
        return FlyError::bad_request("invalid_argument: ttl must be positive")
            .lease_envelope()
            .into_response();
    }
    let given = nonce(&headers);
    let done = core.write(|world| {
        let machine = find_mut(world, &caller, &app, &id)?;
        if !machine.is_live() {
            return Err(FlyError::machine_not_found(&id));
        }
        let lease = match (machine.held().cloned(), given.as_deref()) {
            (Some(held), Some(given)) if held.nonce == given => Lease {
                expires_at: expiry(ttl),
                ..held
            },
            (Some(held), _) => {
                return Err(FlyError::conflict(machine.held_text(&held)).lease_envelope());
            }
            (None, Some(_)) => {
                return Err(FlyError::not_found("lease not found").lease_envelope());
            }
            (None, None) => {
                let owner = caller.tokens.first().map_or("", |token| token.id.as_str());
                let description = body.description.as_deref().unwrap_or_default();
                Lease::new(owner, description, ttl)
            }
        };
        machine.lease = Some(lease.clone());
        Ok((
            envelope(machine, &lease),
            machine.name.clone(),
            machine.metadata.clone(),
        ))
    });
    match done {
        Ok((value, name, owner)) => {
            let detail = json!({"ttl": ttl});
            core.effect(call, "lease.acquire", Some(&app), &id, &name, owner, detail);
            (StatusCode::CREATED, Json(value)).into_response()
        }
        Err(error) => error.into_response(),
    }
}

async fn release(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path((app, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> FlyResult<Json<Value>> {
    let given = nonce(&headers)
        .ok_or_else(|| FlyError::bad_request("lease nonce is required").lease_envelope())?;
    let (name, owner) = core.write(|world| {
        let machine = find_mut(world, &caller, &app, &id)?;
        match machine.held().cloned() {
            None => return Err(FlyError::not_found("lease not found").lease_envelope()),
            Some(lease) if lease.nonce != given => {
                return Err(FlyError::conflict(machine.held_text(&lease)).lease_envelope());
            }
            Some(_) => machine.lease = None,
        }
        Ok((machine.name.clone(), machine.metadata.clone()))
    })?;
    let detail = json!({});
    core.effect(call, "lease.release", Some(&app), &id, &name, owner, detail);
    Ok(Json(json!({"status": "success", "data": {"ok": true}})))
}
