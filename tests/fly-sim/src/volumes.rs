//! Volumes: one host, one region, at most one machine.

use axum::extract::{Path, State};
use axum::routing::{get, put};
use axum::{Extension, Json, Router};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::core::{CallId, Shared};
use crate::error::{FlyError, FlyResult};
use crate::id;
use crate::state::{App, Caller};
use crate::strict::Strict;

/// A volume.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "field names are Fly's")]
pub struct Volume {
    pub id: String,
    pub name: String,
    pub state: &'static str,
    pub size_gb: u64,
    pub region: String,
    pub zone: String,
    pub encrypted: bool,
    pub attached_machine_id: Option<String>,
    pub attached_alloc_id: Option<String>,
    pub created_at: Timestamp,
    pub fstype: String,
    pub blocks: u64,
    pub block_size: u64,
    pub blocks_free: u64,
    pub blocks_avail: u64,
    pub bytes_used: u64,
    pub bytes_total: u64,
    pub snapshot_retention: u64,
    pub auto_backup_enabled: bool,
    pub host_status: &'static str,
    pub host_dedication_key: String,
}

impl Volume {
    /// Can be attached.
    pub fn is_free(&self) -> bool {
        self.attached_machine_id.is_none() && self.state == "created"
    }
}

/// The routes of volumes.
pub fn router() -> Router<Shared> {
    Router::new()
        .route("/v1/apps/{app}/volumes", get(list).post(create))
        .route(
            "/v1/apps/{app}/volumes/{id}",
            get(read).put(update).delete(delete),
        )
        .route("/v1/apps/{app}/volumes/{id}/extend", put(extend))
        .route("/v1/apps/{app}/volumes/{id}/snapshots", get(snapshots))
        .route("/v1/orgs/{slug}/volumes", get(org_list))
}

async fn list(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(app): Path<String>,
) -> FlyResult<Json<Value>> {
    core.read(|world| {
        let app = world.app(&caller, &app)?;
        Ok(Json(json!(app.volumes.values().collect::<Vec<_>>())))
    })
}

async fn org_list(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(slug): Path<String>,
) -> FlyResult<Json<Value>> {
    core.read(|world| {
        world.org(&caller, &slug)?;
        let volumes: Vec<&Volume> = world
            .apps
            .values()
            .filter(|app| app.org_slug == slug)
            .flat_map(|app| app.volumes.values())
            .collect();
        Ok(Json(json!({"volumes": volumes, "next_cursor": ""})))
    })
}

fn find_mut<'a>(app: &'a mut App, id: &str) -> FlyResult<&'a mut Volume> {
    app.volumes
        .get_mut(id)
        .ok_or_else(|| FlyError::not_found(format!("not_found: volume {id} not found")))
}

async fn read(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path((app, id)): Path<(String, String)>,
) -> FlyResult<Json<Value>> {
    core.read(|world| {
        let app = world.app(&caller, &app)?;
        app.volumes
            .get(&id)
            .map(|volume| Json(json!(volume)))
            .ok_or_else(|| FlyError::not_found(format!("not_found: volume {id} not found")))
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(
    dead_code,
    reason = "accepted as Fly does; they place the volume, which is here always on one host"
)]
struct CreateBody {
    name: Option<String>,
    region: Option<String>,
    size_gb: Option<u64>,
    encrypted: Option<bool>,
    require_unique_zone: Option<bool>,
    unique_zone_app_wide: Option<bool>,
    fstype: Option<String>,
    snapshot_retention: Option<u64>,
    auto_backup_enabled: Option<bool>,
    snapshot_id: Option<String>,
    source_volume_id: Option<String>,
    compute: Option<Value>,
    compute_image: Option<String>,
    machines_only: Option<bool>,
}

fn check_retention(days: Option<u64>) -> FlyResult<()> {
    match days {
        Some(days) if !(1..=60).contains(&days) => Err(FlyError::bad_request(
            "invalid_argument: snapshot_retention must be between 1 and 60",
        )),
        _ => Ok(()),
    }
}

async fn create(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path(app_name): Path<String>,
    Strict(body): Strict<CreateBody>,
) -> FlyResult<Json<Value>> {
    let name = body.name.unwrap_or_default();
    let valid = !name.is_empty()
        && name.len() <= 30
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !valid {
        return Err(FlyError::bad_request(
            "invalid_argument: volume name must be 1 to 30 letters, digits or underscores",
        ));
    }
    let size_gb = body.size_gb.unwrap_or(3);
    if !(1..=500).contains(&size_gb) {
        return Err(FlyError::bad_request(
            "invalid_argument: size_gb must be between 1 and 500",
        ));
    }
    check_retention(body.snapshot_retention)?;
    if !matches!(body.fstype.as_deref(), None | Some("" | "ext4" | "raw")) {
        return Err(FlyError::bad_request(
            "invalid_argument: fstype must be ext4 or raw",
        ));
    }
    let region = crate::placement::choose(&core, body.region.as_deref())?;
    let total = size_gb * 1_073_741_824;
    let volume = Volume {
        id: id::volume(),
        name,
        state: "created",
        size_gb,
        region,
        zone: id::short(4),
        encrypted: body.encrypted.unwrap_or(true),
        attached_machine_id: None,
        attached_alloc_id: None,
        created_at: Timestamp::now(),
        fstype: body
            .fstype
            .filter(|kind| !kind.is_empty())
            .unwrap_or_else(|| "ext4".to_owned()),
        blocks: total / 4_096,
        block_size: 4_096,
        blocks_free: total / 4_096,
        blocks_avail: total / 4_096,
        bytes_used: 0,
        bytes_total: total,
        snapshot_retention: body.snapshot_retention.unwrap_or(5),
        auto_backup_enabled: body.auto_backup_enabled.unwrap_or(true),
        host_status: "ok",
        host_dedication_key: String::new(),
    };
    let value = json!(volume);
    let (id, name) = (volume.id.clone(), volume.name.clone());
    core.write(|world| {
        let app = world.app_mut(&caller, &app_name)?;
        app.volumes.insert(id.clone(), volume);
        Ok::<_, FlyError>(())
    })?;
    let owner = std::collections::BTreeMap::new();
    let detail = json!({"size_gb": size_gb});
    core.effect(
        call,
        "volume.create",
        Some(&app_name),
        &id,
        &name,
        owner,
        detail,
    );
    Ok(Json(value))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UpdateBody {
    snapshot_retention: Option<u64>,
    auto_backup_enabled: Option<bool>,
}

/// Changes a volume and records it.
fn change(
    core: &Shared,
    caller: &Caller,
    call: CallId,
    (app, id): &(String, String),
    kind: &str,
    change: impl FnOnce(&mut Volume) -> FlyResult<()>,
) -> FlyResult<Value> {
    let (value, name) = core.write(|world| {
        let volume = find_mut(world.app_mut(caller, app)?, id)?;
        change(volume)?;
        Ok::<_, FlyError>((json!(volume), volume.name.clone()))
    })?;
    let owner = std::collections::BTreeMap::new();
    core.effect(call, kind, Some(app), id, &name, owner, json!({}));
    Ok(value)
}

async fn update(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path(target): Path<(String, String)>,
    Strict(body): Strict<UpdateBody>,
) -> FlyResult<Json<Value>> {
    check_retention(body.snapshot_retention)?;
    change(&core, &caller, call, &target, "volume.update", |volume| {
        if let Some(days) = body.snapshot_retention {
            volume.snapshot_retention = days;
        }
        if let Some(enabled) = body.auto_backup_enabled {
            volume.auto_backup_enabled = enabled;
        }
        Ok(())
    })
    .map(Json)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExtendBody {
    size_gb: u64,
}

async fn extend(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path(target): Path<(String, String)>,
    Strict(body): Strict<ExtendBody>,
) -> FlyResult<Json<Value>> {
    let volume = change(&core, &caller, call, &target, "volume.extend", |volume| {
        if body.size_gb < volume.size_gb || body.size_gb > 500 {
            return Err(FlyError::unprocessable(format!(
                "volume size can only grow, from {} to at most 500 GB",
                volume.size_gb
            )));
        }
        volume.size_gb = body.size_gb;
        volume.bytes_total = body.size_gb * 1_073_741_824;
        Ok(())
    })?;
    Ok(Json(json!({"volume": volume, "needs_restart": false})))
}

async fn delete(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path(target): Path<(String, String)>,
) -> FlyResult<Json<Value>> {
    change(&core, &caller, call, &target, "volume.delete", |volume| {
        if let Some(machine) = &volume.attached_machine_id {
            return Err(FlyError::precondition(format!(
                "volume {} is currently attached to machine {machine}",
                volume.id
            )));
        }
        volume.state = "pending_destroy";
        Ok(())
    })
    .map(Json)
}

async fn snapshots(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path((app, id)): Path<(String, String)>,
) -> FlyResult<Json<Value>> {
    core.read(|world| {
        let app = world.app(&caller, &app)?;
        app.volumes
            .get(&id)
            .map(|_| Json(json!([])))
            .ok_or_else(|| FlyError::not_found(format!("not_found: volume {id} not found")))
    })
}
