//! Update: the whole configuration is replaced and the machine gets a new version.

use axum::extract::{Path, State as AxumState};
use axum::{Extension, Json};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{check_secrets, find_mut, resolve};
use super::{Command, Lease, Machine, Source, State, actor, check, config, lease};
use crate::core::{CallId, Shared};
use crate::error::{FlyError, FlyResult};
use crate::http::Injected;
use crate::id;
use crate::images::Resolved;
use crate::state::Caller;
use crate::strict::Strict;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(
    dead_code,
    reason = "lsvd is accepted as Fly does, and means nothing here"
)]
pub(super) struct UpdateBody {
    name: Option<String>,
    region: Option<String>,
    config: Option<Value>,
    current_version: Option<String>,
    skip_launch: Option<bool>,
    skip_service_registration: Option<bool>,
    lease_ttl: Option<i64>,
    skip_secrets: Option<bool>,
    min_secrets_version: Option<u64>,
    lsvd: Option<bool>,
}

/// Sets a new version and tells the machine's task.
fn replace(
    machine: &mut Machine,
    raw: Value,
    config: config::Config,
    image: Resolved,
    launch: bool,
    source: Source,
) {
    let stop = actor::stop_config(machine);
    machine.version = id::ulid();
    machine
        .versions
        .push((machine.version.clone(), raw.clone()));
    machine.metadata = config.metadata.clone().unwrap_or_default();
    machine.checks = check::initial(&config);
    machine.config = config;
    machine.config_json = raw;
    machine.image = image;
    machine.state = State::Replacing;
    machine.event("update", "replacing", source, json!({}));
    machine.send(Command::Replace { launch, stop });
}

pub(super) async fn update(
    AxumState(core): AxumState<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Extension(injected): Extension<Injected>,
    Path((app_name, id)): Path<(String, String)>,
    headers: HeaderMap,
    Strict(body): Strict<UpdateBody>,
) -> FlyResult<Json<Value>> {
    core.read(|world| super::api::find(world, &caller, &app_name, &id).map(|_| ()))?;
    let raw = body
        .config
        .ok_or_else(|| FlyError::bad_request("invalid_argument: config is required"))?;
    let config = config::read(&raw)?;
    let image = resolve(&core, config.image.as_deref().unwrap_or_default())?;
    super::containers::check(&core, &config)?;
    let nonce = lease::nonce(&headers);

    let (value, name, owner, before) = core.write(|world| {
        let app = world.app_mut(&caller, &app_name)?;
        check_secrets(app, body.min_secrets_version)?;
        let machine = find_mut(world, &caller, &app_name, &id)?;
        machine.check_lease(nonce.as_deref())?;
        if matches!(machine.state, State::Destroying | State::Destroyed) {
            return Err(FlyError::precondition(format!(
                "unable to update machine from current state: '{}'",
                machine.state.as_str()
            )));
        }
        if let Some(current) = body.current_version.filter(|current| !current.is_empty())
            && current != machine.version
        {
            return Err(FlyError::conflict(
                "aborted: machine update failed due to concurrent update",
            ));
        }
        if body
            .name
            .as_ref()
            .is_some_and(|name| !name.is_empty() && *name != machine.name)
        {
            return Err(FlyError::bad_request(
                "invalid_argument: machine name cannot be changed",
            ));
        }
        if body
            .region
            .as_ref()
            .is_some_and(|region| !region.is_empty() && *region != machine.region)
        {
            return Err(FlyError::bad_request(
                "invalid_argument: region cannot be changed",
            ));
        }
        let volumes = |config: &config::Config| -> Vec<Option<String>> {
            let mounts = config.mounts.iter().flatten();
            mounts.map(|mount| mount.volume.clone()).collect()
        };
        if volumes(&config) != volumes(&machine.config) {
            return Err(FlyError::bad_request(
                "invalid_argument: the volume of an existing machine cannot be changed",
            ));
        }
        let before = (
            machine.config_json.clone(),
            machine.config.clone(),
            machine.image.clone(),
        );
        machine.skip_secrets = body.skip_secrets.unwrap_or(false);
        if let Some(delay) = injected.boot_delay {
            machine.boot_delay = delay;
        }
        if body.skip_service_registration == Some(true) {
            machine.cordoned = true;
        }
        let launch = !body.skip_launch.unwrap_or(false);
        let normal = config::normal(&raw, &config);
        replace(machine, normal, config, image, launch, Source::User);
        let mut value = machine.json();
        if let Some(ttl) = body.lease_ttl.filter(|ttl| *ttl > 0) {
            let owner = caller.tokens.first().map_or("", |token| token.id.as_str());
            let lease = machine
                .held()
                .cloned()
                .unwrap_or_else(|| Lease::new(owner, "", ttl));
            value["nonce"] = json!(lease.nonce);
            machine.lease = Some(lease);
        }
        Ok((
            value,
            machine.name.clone(),
            machine.metadata.clone(),
            before,
        ))
    })?;
    let detail = json!({"image": value["config"]["image"], "version": value["instance_id"]});
    core.effect(
        call,
        "machine.update",
        Some(&app_name),
        &id,
        &name,
        owner,
        detail,
    );
    if injected.silent_revert {
        revert(&core, &app_name, &id, before);
    }
    Ok(Json(value))
}

/// Takes an update back once it is through, and tells nobody.
fn revert(core: &Shared, app: &str, id: &str, before: (Value, config::Config, Resolved)) {
    let (core, app, id) = (core.clone(), app.to_owned(), id.to_owned());
    let task = std::sync::Arc::clone(&core);
    core.spawn(async move {
        let mut changes = task.changes();
        let settled = changes.wait_for(|_| {
            task.read(|world| {
                world
                    .apps
                    .get(&app)
                    .and_then(|app| app.machines.get(&id))
                    .is_none_or(|machine| machine.state.is_settled())
            })
        });
        if settled.await.is_err() {
            return;
        }
        let (raw, config, image) = before;
        let done = task.write(|world| {
            let machine = world.apps.get_mut(&app)?.machines.get_mut(&id)?;
            if machine.is_live() {
                let launch = machine.state == State::Started;
                replace(machine, raw, config, image, launch, Source::Flyd);
            }
            Some((machine.name.clone(), machine.metadata.clone()))
        });
        if let Some((name, owner)) = done {
            let detail = json!({});
            task.effect(
                CallId(None),
                "machine.revert",
                Some(&app),
                &id,
                &name,
                owner,
                detail,
            );
        }
    });
}
