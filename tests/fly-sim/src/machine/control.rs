//! Machines on the control port: what no API call does to them.

use axum::extract::{Path, State as AxumState};
use axum::routing::post;
use axum::{Json, Router};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Command;
use crate::core::{CallId, Shared};
use crate::strict::Strict;

/// The routes.
pub fn router() -> Router<Shared> {
    Router::new()
        .route("/apps/{app}/machines/{id}/kill", post(kill))
        .route("/apps/{app}/machines/{id}/oom", post(oom))
        .route("/apps/{app}/machines/{id}/host", post(host))
        .route("/apps/{app}/delete", post(delete))
        .route("/orgs/{slug}", post(org))
}

fn tell(core: &Shared, app: &str, id: &str, command: Command) -> StatusCode {
    let told = core.read(|world| {
        world.apps.get(app)?.machines.get(id)?.send(command);
        Some(())
    });
    match told {
        Some(()) => StatusCode::NO_CONTENT,
        None => StatusCode::NOT_FOUND,
    }
}

/// The program is killed, as if it had crashed.
async fn kill(
    AxumState(core): AxumState<Shared>,
    Path((app, id)): Path<(String, String)>,
) -> StatusCode {
    tell(
        &core,
        &app,
        &id,
        Command::Signal(nix::sys::signal::Signal::SIGKILL),
    )
}

/// The program is killed for its memory.
async fn oom(
    AxumState(core): AxumState<Shared>,
    Path((app, id)): Path<(String, String)>,
) -> StatusCode {
    tell(&core, &app, &id, Command::OutOfMemory)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HostBody {
    status: String,
}

/// The host becomes `ok`, `unknown` or `unreachable`.
async fn host(
    AxumState(core): AxumState<Shared>,
    Path((app, id)): Path<(String, String)>,
    Strict(body): Strict<HostBody>,
) -> StatusCode {
    core.write(|world| {
        let machine = world.apps.get_mut(&app)?.machines.get_mut(&id)?;
        machine.host_status = body.status;
        Some(StatusCode::NO_CONTENT)
    })
    .unwrap_or(StatusCode::NOT_FOUND)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeleteBody {
    target: String,
}

/// Something is deleted behind everybody's back: `app`, `machines`, `machine:<id>`, ...
async fn delete(
    AxumState(core): AxumState<Shared>,
    Path(app): Path<String>,
    Strict(body): Strict<DeleteBody>,
) -> Json<Value> {
    Json(json!({"done": crate::deletion::delete(&core, &app, &body.target).await}))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OrgBody {
    billing_status: Option<String>,
    machine_limit: Option<usize>,
}

/// Changes an organization: its billing status; its machine limit (absent: none).
async fn org(
    AxumState(core): AxumState<Shared>,
    Path(slug): Path<String>,
    Strict(body): Strict<OrgBody>,
) -> StatusCode {
    let done = core.write(|world| {
        let org = world.orgs.get_mut(&slug)?;
        if let Some(status) = body.billing_status {
            org.billing_status = status;
        }
        org.machine_limit = body.machine_limit;
        Some(())
    });
    match done {
        Some(()) => {
            let owner = std::collections::BTreeMap::new();
            core.effect(
                CallId(None),
                "org.changed",
                None,
                &slug,
                "",
                owner,
                json!({}),
            );
            StatusCode::NO_CONTENT
        }
        None => StatusCode::NOT_FOUND,
    }
}
