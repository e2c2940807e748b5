//! Start, stop, suspend, restart, signal, cordon, and what can be looked at: processes, events,
//! versions, memory.

use axum::extract::{Path, Query, State as AxumState};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{find, find_mut};
use super::{Command, Machine, Source, State, duration, lease, signal, sockets};
use crate::core::{CallId, Shared};
use crate::error::{FlyError, FlyResult};
use crate::state::Caller;
use crate::strict::{Strict, StrictOptional, StrictQuery};

/// The routes.
pub fn router() -> Router<Shared> {
    let base = "/v1/apps/{app}/machines/{id}";
    Router::new()
        .route(&format!("{base}/start"), post(start))
        .route(&format!("{base}/stop"), post(stop))
        .route(&format!("{base}/suspend"), post(suspend))
        .route(&format!("{base}/restart"), post(restart))
        .route(&format!("{base}/signal"), post(send_signal))
        .route(&format!("{base}/cordon"), post(cordon))
        .route(&format!("{base}/uncordon"), post(uncordon))
        .route(&format!("{base}/ps"), get(ps))
        .route(&format!("{base}/events"), get(events))
        .route(&format!("{base}/versions"), get(versions))
        .route(&format!("{base}/memory"), get(memory))
}

type Target = Path<(String, String)>;

/// Changes a machine under its lease and records the effect; `None` when nothing changed.
fn act<T>(
    core: &Shared,
    caller: &Caller,
    call: CallId,
    (app, id): (&str, &str),
    headers: &HeaderMap,
    kind: &str,
    change: impl FnOnce(&mut Machine) -> FlyResult<Option<T>>,
) -> FlyResult<Option<T>> {
    let (value, name, owner) = core.write(|world| {
        let machine = find_mut(world, caller, app, id)?;
        machine.check_lease(lease::nonce(headers).as_deref())?;
        let value = change(machine)?;
        Ok((value, machine.name.clone(), machine.metadata.clone()))
    })?;
    if value.is_some() {
        core.effect(call, kind, Some(app), id, &name, owner, json!({}));
    }
    Ok(value)
}

fn wrong_state(what: &str, machine: &Machine) -> FlyError {
    FlyError::precondition(format!(
        "unable to {what} machine from current state: '{}'",
        machine.state.as_str()
    ))
}

/// Starts a machine that is down; false if it is up already.
pub fn start_machine(machine: &mut Machine, source: Source) -> FlyResult<bool> {
    match machine.state {
        State::Started => Ok(false),
        State::Stopped | State::Suspended | State::Failed => {
            machine.state = State::Starting;
            machine.restart_count = 0;
            machine.send(Command::Launch(source));
            Ok(true)
        }
        _ => Err(wrong_state("start", machine)),
    }
}

async fn start(
    AxumState(core): AxumState<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path((app, id)): Target,
    headers: HeaderMap,
) -> FlyResult<Json<Value>> {
    let target = (app.as_str(), id.as_str());
    let mut previous = State::Started;
    act(
        &core,
        &caller,
        call,
        target,
        &headers,
        "machine.start",
        |machine| {
            previous = machine.state;
            start_machine(machine, Source::User).map(|started| started.then_some(()))
        },
    )?;
    Ok(Json(json!({
        "message": "",
        "status": "success",
        "previous_state": previous.as_str(),
    })))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct StopBody {
    id: Option<String>,
    signal: Option<Value>,
    timeout: Option<duration::GoDuration>,
}

async fn stop(
    AxumState(core): AxumState<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path((app, id)): Target,
    headers: HeaderMap,
    StrictOptional(body): StrictOptional<StopBody>,
) -> FlyResult<Json<Value>> {
    let body = body.unwrap_or_default();
    if body
        .id
        .is_some_and(|given| !given.is_empty() && given != id)
    {
        return Err(FlyError::bad_request(
            "invalid_argument: id does not match the path",
        ));
    }
    let signal = match &body.signal {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if text.is_empty() => None,
        Some(value) => Some(signal::from_json(value)?),
    };
    let target = (app.as_str(), id.as_str());
    act(
        &core,
        &caller,
        call,
        target,
        &headers,
        "machine.stop",
        |machine| {
            match machine.state {
                State::Stopped | State::Stopping => return Ok(None),
                State::Started | State::Starting | State::Suspended | State::Restarting => {}
                _ => return Err(wrong_state("stop", machine)),
            }
            machine.state = State::Stopping;
            machine.event("stop", "stopping", Source::User, json!({}));
            machine.send(Command::Stop {
                signal,
                timeout: body.timeout.map(|timeout| timeout.0),
                source: Source::Flyd,
            });
            Ok(Some(()))
        },
    )?;
    Ok(Json(json!({"ok": true})))
}

/// What keeps a machine from being suspended. Source: docs, machines/guides-examples/suspend;
/// the texts are ours.
fn unfit_to_sleep(machine: &Machine) -> Option<&'static str> {
    let guest = &machine.config_json["guest"];
    let init = machine.config.init.as_ref();
    if guest["memory_mb"].as_u64().is_some_and(|mb| mb > 2_048) {
        return Some("more than 2 GB of memory");
    }
    if init.is_some_and(|init| init.swap_size_mb.is_some_and(|mb| mb > 0)) {
        return Some("swap");
    }
    if guest["gpus"].as_u64().is_some_and(|gpus| gpus > 0) {
        return Some("a GPU");
    }
    machine.config.schedule.as_ref().map(|_| "a schedule")
}

async fn suspend(
    AxumState(core): AxumState<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path((app, id)): Target,
    headers: HeaderMap,
) -> FlyResult<Json<Value>> {
    let target = (app.as_str(), id.as_str());
    act(
        &core,
        &caller,
        call,
        target,
        &headers,
        "machine.suspend",
        |machine| {
            match machine.state {
                State::Suspended | State::Suspending => return Ok(None),
                State::Started => {}
                _ => return Err(wrong_state("suspend", machine)),
            }
            if let Some(why) = unfit_to_sleep(machine) {
                return Err(FlyError::precondition(format!(
                    "machines with {why} cannot be suspended"
                )));
            }
            machine.state = State::Suspending;
            machine.event("suspend", "suspending", Source::User, json!({}));
            machine.send(Command::Suspend);
            Ok(Some(()))
        },
    )?;
    Ok(Json(json!({"ok": true})))
}

#[derive(Debug, Default, Deserialize)]
struct RestartQuery {
    force_stop: Option<bool>,
    timeout: Option<String>,
    signal: Option<String>,
}

async fn restart(
    AxumState(core): AxumState<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path((app, id)): Target,
    StrictQuery(query): StrictQuery<RestartQuery>,
    headers: HeaderMap,
) -> FlyResult<Json<Value>> {
    let timeout = match query.timeout.filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => Some(duration::parse(&text).ok_or_else(|| {
            FlyError::bad_request(format!("invalid_argument: invalid duration '{text}'"))
        })?),
    };
    let signal = match query.signal.filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => Some(signal::parse(&text)?),
    };
    let target = (app.as_str(), id.as_str());
    act(
        &core,
        &caller,
        call,
        target,
        &headers,
        "machine.restart",
        |machine| {
            match machine.state {
                State::Started | State::Stopped | State::Suspended | State::Failed => {}
                _ => return Err(wrong_state("restart", machine)),
            }
            machine.state = State::Restarting;
            machine.event("restart", "restarting", Source::User, json!({}));
            machine.send(Command::Restart {
                force: query.force_stop.unwrap_or(false),
                signal,
                timeout,
            });
            Ok(Some(()))
        },
    )?;
    Ok(Json(json!({"ok": true})))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignalBody {
    signal: Value,
}

async fn send_signal(
    AxumState(core): AxumState<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path((app, id)): Target,
    headers: HeaderMap,
    Strict(body): Strict<SignalBody>,
) -> FlyResult<Json<Value>> {
    let signal = signal::from_json(&body.signal)?;
    let target = (app.as_str(), id.as_str());
    act(
        &core,
        &caller,
        call,
        target,
        &headers,
        "machine.signal",
        |machine| {
            if machine.state != State::Started {
                return Err(wrong_state("signal", machine));
            }
            machine.send(Command::Signal(signal));
            Ok(Some(()))
        },
    )?;
    Ok(Json(json!({"ok": true})))
}

async fn cordon(
    AxumState(core): AxumState<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path(target): Target,
    headers: HeaderMap,
) -> FlyResult<Json<Value>> {
    set_cordoned(&core, &caller, call, &target, &headers, true)
}

async fn uncordon(
    AxumState(core): AxumState<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path(target): Target,
    headers: HeaderMap,
) -> FlyResult<Json<Value>> {
    set_cordoned(&core, &caller, call, &target, &headers, false)
}

fn set_cordoned(
    core: &Shared,
    caller: &Caller,
    call: CallId,
    (app, id): &(String, String),
    headers: &HeaderMap,
    cordoned: bool,
) -> FlyResult<Json<Value>> {
    let (kind, event) = if cordoned {
        ("machine.cordon", "cordon")
    } else {
        ("machine.uncordon", "uncordon")
    };
    act(core, caller, call, (app, id), headers, kind, |machine| {
        if !machine.is_live() {
            return Err(wrong_state(event, machine));
        }
        if machine.cordoned == cordoned {
            return Ok(None);
        }
        machine.cordoned = cordoned;
        machine.event(event, event, Source::User, json!({}));
        Ok(Some(()))
    })?;
    Ok(Json(json!({"ok": true})))
}

async fn ps(
    AxumState(core): AxumState<Shared>,
    Extension(caller): Extension<Caller>,
    Path((app, id)): Target,
) -> FlyResult<Json<Value>> {
    let (ip, private_ip, ports, command) = core.read(|world| {
        let (_, machine) = find(world, &caller, &app, &id)?;
        if machine.state != State::Started {
            return Err(FlyError::precondition("machine not running"));
        }
        let services = machine.config.services.iter().flatten();
        let ports: Vec<u16> = services
            .filter_map(|service| service.internal_port)
            .collect();
        let boot = machine.boot.as_ref();
        let command = boot.map_or_else(String::new, |boot| boot.args.join(" "));
        Ok((machine.ip, machine.private_ip.clone(), ports, command))
    })?;
    let of = id.clone();
    let found = tokio::task::spawn_blocking(move || sockets::of(&of, ip)).await;
    let mut processes = found.unwrap_or_default();
    if processes.is_empty() {
        // A program that is a part of the simulator.
        let mut listening = Vec::new();
        for port in ports {
            if tokio::net::TcpStream::connect((ip, port)).await.is_ok() {
                listening.push(json!({"proto": "tcp", "address": format!("0.0.0.0:{port}")}));
            }
        }
        processes.push(sockets::listed(313, &command, listening));
    }
    // Fly's SSH server is in every machine.
    let ssh = json!({"proto": "tcp", "address": format!("[{private_ip}]:22")});
    processes.push(sockets::listed(314, "/.fly/hallpass", vec![ssh]));
    Ok(Json(json!(processes)))
}

#[derive(Debug, Deserialize)]
struct EventsQuery {
    limit: Option<usize>,
}

async fn events(
    AxumState(core): AxumState<Shared>,
    Extension(caller): Extension<Caller>,
    Path((app, id)): Target,
    Query(query): Query<EventsQuery>,
) -> FlyResult<Json<Value>> {
    let limit = query.limit.unwrap_or(20);
    if limit == 0 || limit > 50 {
        return Err(FlyError::bad_request(
            "invalid_argument: limit must be between 1 and 50",
        ));
    }
    core.read(|world| {
        let (_, machine) = find(world, &caller, &app, &id)?;
        let events: Vec<_> = machine.events.iter().take(limit).collect();
        Ok(Json(json!(events)))
    })
}

async fn versions(
    AxumState(core): AxumState<Shared>,
    Extension(caller): Extension<Caller>,
    Path((app, id)): Target,
) -> FlyResult<Json<Value>> {
    core.read(|world| {
        let (_, machine) = find(world, &caller, &app, &id)?;
        let versions: Vec<Value> = machine
            .versions
            .iter()
            .rev()
            .map(|(version, config)| json!({"version": version, "user_config": config}))
            .collect();
        Ok(Json(json!(versions)))
    })
}

async fn memory(
    AxumState(core): AxumState<Shared>,
    Extension(caller): Extension<Caller>,
    Path((app, id)): Target,
) -> FlyResult<Json<Value>> {
    core.read(|world| {
        let (_, machine) = find(world, &caller, &app, &id)?;
        let limit = machine.config_json["guest"]["memory_mb"]
            .as_u64()
            .unwrap_or(256);
        Ok(Json(json!({"limit_mb": limit, "available_mb": limit / 2})))
    })
}
