//! `exec`: a command that really runs, with the machine's environment and directory.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State as AxumState};
use axum::routing::post;
use axum::{Extension, Json, Router};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::find_mut;
use super::{BootEnv, ExecRequest, State, boot, lease, process};
use crate::core::{CallId, Shared};
use crate::error::{FlyError, FlyResult};
use crate::platform;
use crate::state::Caller;
use crate::strict::Strict;

/// Longest time of a command in seconds; proxies end requests after about a minute.
const LONGEST: u64 = 60;

/// The routes.
pub fn router() -> Router<Shared> {
    Router::new().route("/v1/apps/{app}/machines/{id}/exec", post(exec))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(
    dead_code,
    reason = "there is one namespace, so machine means nothing here"
)]
struct ExecBody {
    cmd: Option<String>,
    command: Option<Vec<String>>,
    container: Option<String>,
    machine: Option<bool>,
    stdin: Option<String>,
    timeout: Option<u64>,
}

async fn exec(
    AxumState(core): AxumState<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path((app, id)): Path<(String, String)>,
    headers: HeaderMap,
    Strict(body): Strict<ExecBody>,
) -> FlyResult<Json<Value>> {
    let command = match (body.command.filter(|command| !command.is_empty()), body.cmd) {
        (Some(command), _) => command,
        (None, Some(cmd)) => shell_words::split(&cmd)
            .map_err(|error| FlyError::bad_request(format!("invalid_argument: cmd: {error}")))?,
        (None, None) => Vec::new(),
    };
    if command.is_empty() {
        return Err(FlyError::bad_request(
            "invalid_argument: command is required",
        ));
    }
    if body
        .container
        .is_some_and(|container| !container.is_empty())
    {
        return Err(FlyError::not_found("not_found: container not found"));
    }
    let timeout = body
        .timeout
        .filter(|timeout| *timeout > 0)
        .unwrap_or(LONGEST);
    if timeout > LONGEST {
        return Err(FlyError::bad_request(format!(
            "invalid_argument: timeout must be at most {LONGEST} seconds"
        )));
    }
    let request = ExecRequest {
        command,
        stdin: body.stdin.unwrap_or_default(),
    };
    let (boot, builtin, name, owner) = core.write(|world| {
        let machine = find_mut(world, &caller, &app, &id)?;
        machine.check_lease(lease::nonce(&headers).as_deref())?;
        match (&machine.boot, machine.state) {
            (Some(boot), State::Started) => Ok((
                boot.clone(),
                machine.image.image.builtin.clone(),
                machine.name.clone(),
                machine.metadata.clone(),
            )),
            _ => Err(FlyError::precondition(format!(
                "machine not running, currently '{}'",
                machine.state.as_str()
            ))),
        }
    })?;
    let detail = json!({"program": request.command.first()});
    core.effect(call, "machine.exec", Some(&app), &id, &name, owner, detail);
    if let Some(builtin) = builtin {
        let done =
            platform::builtin_exec(Arc::clone(&core), builtin, boot.clone(), request.clone());
        if let Some(result) = done.await {
            return Ok(Json(json!(result)));
        }
    }
    run(&core, boot, request, Duration::from_secs(timeout)).await
}

async fn run(
    core: &Shared,
    mut boot: BootEnv,
    request: ExecRequest,
    limit: Duration,
) -> FlyResult<Json<Value>> {
    boot.args.clone_from(&request.command);
    let program = boot::program(&boot, &core.dir)
        .map_err(|why| FlyError::bad_request(format!("invalid_argument: {why}")))?;
    match process::run(&program, &request, limit).await {
        Ok(Some(result)) => Ok(Json(json!(result))),
        Ok(None) => Err(FlyError::timeout(
            "deadline_exceeded: command did not finish in time",
        )),
        Err(error) => Err(FlyError::bad_request(format!(
            "invalid_argument: cannot run command: {error}"
        ))),
    }
}
