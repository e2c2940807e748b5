//! Metadata: marks that change without a new version and without a restart.

use std::collections::BTreeMap;

use axum::extract::{Path, State as AxumState};
use axum::routing::get;
use axum::{Extension, Json, Router};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{find, find_mut};
use super::{Machine, lease};
use crate::core::{CallId, Shared};
use crate::error::{FlyError, FlyResult};
use crate::state::Caller;
use crate::strict::Strict;

/// The routes.
pub fn router() -> Router<Shared> {
    let base = "/v1/apps/{app}/machines/{id}/metadata";
    Router::new()
        .route(base, get(all).patch(patch).put(put))
        .route(&format!("{base}/{{key}}"), get(one).post(set).delete(unset))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "updated_at is accepted as Fly does")]
struct MetadataBody {
    metadata: BTreeMap<String, Option<String>>,
    machine_version: Option<String>,
    updated_at: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "updated_at is accepted as Fly does")]
struct ValueBody {
    value: String,
    updated_at: Option<String>,
}

async fn all(
    AxumState(core): AxumState<Shared>,
    Extension(caller): Extension<Caller>,
    Path((app, id)): Path<(String, String)>,
) -> FlyResult<Json<Value>> {
    core.read(|world| {
        let (_, machine) = find(world, &caller, &app, &id)?;
        Ok(Json(json!(machine.metadata)))
    })
}

async fn one(
    AxumState(core): AxumState<Shared>,
    Extension(caller): Extension<Caller>,
    Path((app, id, key)): Path<(String, String, String)>,
) -> FlyResult<Json<Value>> {
    core.read(|world| {
        let (_, machine) = find(world, &caller, &app, &id)?;
        machine
            .metadata
            .get(&key)
            .map(|value| Json(json!({"value": value})))
            .ok_or_else(|| FlyError::not_found(format!("not_found: metadata key {key} not found")))
    })
}

fn change(
    core: &Shared,
    caller: &Caller,
    call: CallId,
    (app, id): (&str, &str),
    headers: &HeaderMap,
    change: impl FnOnce(&mut Machine) -> FlyResult<()>,
) -> FlyResult<StatusCode> {
    let (name, owner) = core.write(|world| {
        let machine = find_mut(world, caller, app, id)?;
        machine.check_lease(lease::nonce(headers).as_deref())?;
        if !machine.is_live() {
            return Err(FlyError::machine_not_found(id));
        }
        change(machine)?;
        machine.updated_at = jiff::Timestamp::now();
        Ok((machine.name.clone(), machine.metadata.clone()))
    })?;
    core.effect(
        call,
        "machine.metadata",
        Some(app),
        id,
        &name,
        owner,
        json!({}),
    );
    Ok(StatusCode::NO_CONTENT)
}

fn check_version(machine: &Machine, body: &MetadataBody) -> FlyResult<()> {
    match &body.machine_version {
        Some(version) if !version.is_empty() && *version != machine.version => Err(
            FlyError::precondition("machine_version does not match the current version"),
        ),
        _ => Ok(()),
    }
}

async fn patch(
    AxumState(core): AxumState<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path((app, id)): Path<(String, String)>,
    headers: HeaderMap,
    Strict(body): Strict<MetadataBody>,
) -> FlyResult<StatusCode> {
    change(&core, &caller, call, (&app, &id), &headers, |machine| {
        check_version(machine, &body)?;
        for (key, value) in body.metadata {
            match value {
                Some(value) => machine.metadata.insert(key, value),
                None => machine.metadata.remove(&key),
            };
        }
        Ok(())
    })
}

async fn put(
    AxumState(core): AxumState<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path((app, id)): Path<(String, String)>,
    headers: HeaderMap,
    Strict(body): Strict<MetadataBody>,
) -> FlyResult<StatusCode> {
    change(&core, &caller, call, (&app, &id), &headers, |machine| {
        check_version(machine, &body)?;
        machine.metadata = body
            .metadata
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)))
            .collect();
        Ok(())
    })
}

async fn set(
    AxumState(core): AxumState<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path((app, id, key)): Path<(String, String, String)>,
    headers: HeaderMap,
    Strict(body): Strict<ValueBody>,
) -> FlyResult<StatusCode> {
    change(&core, &caller, call, (&app, &id), &headers, |machine| {
        machine.metadata.insert(key, body.value);
        Ok(())
    })
}

async fn unset(
    AxumState(core): AxumState<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path((app, id, key)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> FlyResult<StatusCode> {
    change(&core, &caller, call, (&app, &id), &headers, |machine| {
        machine.metadata.remove(&key);
        Ok(())
    })
}
