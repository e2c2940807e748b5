//! `GET /v1/orgs/{slug}/machines`: all machines of an organization, the cheap way to watch them.

use axum::extract::{Path, State as AxumState};
use axum::routing::get;
use axum::{Extension, Json, Router};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Machine;
use crate::core::Shared;
use crate::error::{FlyError, FlyResult};
use crate::state::Caller;
use crate::strict::StrictQuery;

/// The routes.
pub fn router() -> Router<Shared> {
    Router::new().route("/v1/orgs/{slug}/machines", get(machines))
}

#[derive(Debug, Deserialize)]
struct ListQuery {
    limit: Option<usize>,
    cursor: Option<String>,
    updated_after: Option<String>,
    state: Option<String>,
    region: Option<String>,
    include_deleted: Option<bool>,
}

async fn machines(
    AxumState(core): AxumState<Shared>,
    Extension(caller): Extension<Caller>,
    Path(slug): Path<String>,
    StrictQuery(query): StrictQuery<ListQuery>,
) -> FlyResult<Json<Value>> {
    let limit = query.limit.unwrap_or(500);
    if limit == 0 || limit > 1_000 {
        return Err(FlyError::bad_request(
            "invalid_argument: limit must be between 1 and 1000",
        ));
    }
    let after = match query.cursor.filter(|cursor| !cursor.is_empty()) {
        // The cursor is the time and id of the last machine of the page before.
        Some(cursor) => {
            let (time, id) = cursor
                .split_once('_')
                .and_then(|(time, id)| Some((time.parse::<i128>().ok()?, id.to_owned())))
                .ok_or_else(|| FlyError::bad_request("invalid_argument: invalid cursor"))?;
            Some((time, id))
        }
        None => match query.updated_after.filter(|time| !time.is_empty()) {
            Some(time) => {
                let time: Timestamp = time.parse().map_err(|_| {
                    FlyError::bad_request("invalid_argument: updated_after must be RFC 3339")
                })?;
                // Past every id of that very moment.
                Some((time.as_nanosecond(), "~".to_owned()))
            }
            None => None,
        },
    };
    core.read(|world| {
        world.org(&caller, &slug)?;
        let key = |machine: &Machine| (machine.updated_at.as_nanosecond(), machine.id.clone());
        let mut machines: Vec<(&str, &Machine)> = world
            .apps
            .values()
            .filter(|app| app.org_slug == slug)
            .flat_map(|app| {
                app.machines
                    .values()
                    .map(move |machine| (app.id.as_str(), machine))
            })
            .filter(|(_, machine)| query.include_deleted.unwrap_or(false) || machine.is_live())
            .filter(|(_, machine)| {
                query
                    .state
                    .as_deref()
                    .is_none_or(|state| state.split(',').any(|one| one == machine.state.as_str()))
            })
            .filter(|(_, machine)| {
                query
                    .region
                    .as_deref()
                    .is_none_or(|region| region == machine.region)
            })
            .filter(|(_, machine)| after.as_ref().is_none_or(|after| key(machine) > *after))
            .collect();
        machines.sort_by_key(|(_, machine)| key(machine));
        let more = machines.len() > limit;
        machines.truncate(limit);
        let last = machines.last().map(|(_, machine)| *machine);
        let next = last
            .filter(|_| more)
            .map(|machine| format!("{}_{}", machine.updated_at.as_nanosecond(), machine.id));
        let list: Vec<Value> = machines
            .iter()
            .map(|(app_id, machine)| {
                json!({
                    "id": machine.id,
                    "name": machine.name,
                    "app_id": app_id,
                    "app_name": machine.app,
                    "state": machine.state.as_str(),
                    "region": machine.region,
                    "private_ip": machine.private_ip,
                    "instance_id": machine.version,
                    "created_at": machine.created_at.to_string(),
                    "updated_at": machine.updated_at.to_string(),
                })
            })
            .collect();
        Ok(Json(json!({
            "machines": list,
            "next_cursor": next.unwrap_or_default(),
            "last_machine_id": last.map(|machine| machine.id.clone()).unwrap_or_default(),
            "last_updated_at": last.map(|machine| machine.updated_at.to_string()).unwrap_or_default(),
        })))
    })
}
