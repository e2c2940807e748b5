//! `wait`: a long poll for a state.

use std::time::Duration;

use axum::extract::{Path, Query, State as AxumState};
use axum::routing::get;
use axum::{Extension, Json, Router};
use serde_json::{Value, json};

use super::api::find;
use super::{Machine, State};
use crate::core::Shared;
use crate::error::{FlyError, FlyResult};
use crate::state::Caller;

/// The routes.
pub fn router() -> Router<Shared> {
    Router::new().route("/v1/apps/{app}/machines/{id}/wait", get(wait))
}

const STATES: &[&str] = &[
    "started",
    "stopped",
    "suspended",
    "destroyed",
    "failed",
    "settled",
];

/// What is waited for.
struct Wanted {
    states: Vec<String>,
    version: Option<String>,
    from_event: Option<String>,
    timeout: Duration,
}

fn parse(query: &[(String, String)]) -> FlyResult<Wanted> {
    let bad = |message: String| {
        Err(FlyError::bad_request(format!(
            "invalid_argument: {message}"
        )))
    };
    let mut wanted = Wanted {
        states: Vec::new(),
        version: None,
        from_event: None,
        timeout: Duration::from_secs(60),
    };
    for (key, value) in query {
        if value.is_empty() {
            continue;
        }
        match key.as_str() {
            "state" => wanted
                .states
                .extend(value.split(',').map(|state| state.trim().to_owned())),
            "version" | "instance_id" => wanted.version = Some(value.clone()),
            "from_event_id" => wanted.from_event = Some(value.clone()),
            "timeout" => {
                let seconds: i64 = match value.parse() {
                    Ok(seconds) => seconds,
                    Err(_) => return bad(format!("invalid timeout '{value}'")),
                };
                match u64::try_from(seconds) {
                    Ok(seconds @ 1..=60) => wanted.timeout = Duration::from_secs(seconds),
                    _ => {
                        return bad("invalid WaitMachineRequest.Timeout: value must be inside \
                                    range [1s, 1m0s]"
                            .to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    if wanted.states.is_empty() {
        wanted.states.push("started".to_owned());
    }
    if let Some(unknown) = wanted
        .states
        .iter()
        .find(|state| !STATES.contains(&state.as_str()))
    {
        return bad(format!("invalid state '{unknown}'"));
    }
    Ok(wanted)
}

/// `Some` when the wait is over, one way or the other.
fn outcome(machine: &Machine, wanted: &Wanted) -> Option<FlyResult<&'static str>> {
    if let Some(after) = &wanted.from_event
        && machine
            .events
            .front()
            .is_none_or(|newest| newest.id <= *after)
    {
        return None;
    }
    let wants = |state: &str| wanted.states.iter().any(|one| one == state);
    if let Some(version) = &wanted.version
        && *version != machine.version
    {
        if !machine.versions.iter().any(|(known, _)| known == version) {
            return Some(Err(FlyError::not_found(format!(
                "not_found: machine version {version} not found"
            ))));
        }
        // An old version does not run any more.
        return (wants("stopped") || wants("destroyed") || wants("settled"))
            .then_some(Ok("replaced"));
    }
    if wants(machine.state.as_str()) || (wants("settled") && machine.state.is_settled()) {
        return Some(Ok(machine.state.as_str()));
    }
    if machine.state == State::Destroyed {
        return Some(Err(FlyError::machine_not_found(&machine.id)));
    }
    None
}

async fn wait(
    AxumState(core): AxumState<Shared>,
    Extension(caller): Extension<Caller>,
    Path((app, id)): Path<(String, String)>,
    Query(query): Query<Vec<(String, String)>>,
) -> FlyResult<Json<Value>> {
    let wanted = parse(&query)?;
    let deadline = tokio::time::Instant::now() + wanted.timeout;
    let mut changes = core.changes();
    loop {
        changes.mark_unchanged();
        let (over, current) = core.read(|world| {
            let (_, machine) = find(world, &caller, &app, &id)?;
            let over = outcome(machine, &wanted).map(|outcome| {
                outcome.map(|state| {
                    json!({
                        "ok": true,
                        "state": state,
                        "version": machine.version,
                        "event_id": machine.events.front().map(|event| event.id.clone()),
                    })
                })
            });
            Ok::<_, FlyError>((over, machine.state))
        })?;
        if let Some(over) = over {
            return over.map(Json);
        }
        let changed = tokio::time::timeout_at(deadline, changes.changed()).await;
        if !matches!(changed, Ok(Ok(()))) {
            return Err(FlyError::timeout(format!(
                "deadline_exceeded: machine failed to reach desired state, {}, currently {}",
                wanted.states.join(", "),
                current.as_str()
            )));
        }
    }
}
