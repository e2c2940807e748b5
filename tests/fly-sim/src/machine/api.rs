//! List, create, get, delete; update is in `update.rs`.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use axum::extract::{Path, Query, State as AxumState};
use axum::routing::get;
use axum::{Extension, Json, Router};
use http::HeaderMap;
use jiff::Timestamp;
use rand::RngExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};

use super::{Command, Lease, Machine, Source, State, actor, check, config, lease};
use crate::core::{CallId, Shared};
use crate::error::{FlyError, FlyResult};
use crate::http::Injected;
use crate::id;
use crate::images::Resolved;
use crate::state::{App, Caller, World};
use crate::strict::Strict;

/// The routes.
pub fn router() -> Router<Shared> {
    Router::new()
        .route("/v1/apps/{app}/machines", get(list).post(create))
        .route(
            "/v1/apps/{app}/machines/{id}",
            get(read).post(super::update::update).delete(delete),
        )
}

/// Refuses what is no machine id: 400.
fn check_id(id: &str) -> FlyResult<()> {
    let valid = id.len() == 14 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if valid {
        Ok(())
    } else {
        Err(FlyError::bad_request(format!("invalid machine ID, '{id}'")))
    }
}

/// A machine that the caller may read; destroyed ones too.
pub fn find<'a>(
    world: &'a World,
    caller: &Caller,
    app: &str,
    id: &str,
) -> FlyResult<(&'a App, &'a Machine)> {
    let app = world.app(caller, app)?;
    check_id(id)?;
    let machine = app
        .machines
        .get(id)
        .ok_or_else(|| FlyError::machine_not_found(id))?;
    Ok((app, machine))
}

/// A machine that the caller may change; destroyed ones too.
pub fn find_mut<'a>(
    world: &'a mut World,
    caller: &Caller,
    app: &str,
    id: &str,
) -> FlyResult<&'a mut Machine> {
    let app = world.app_mut(caller, app)?;
    check_id(id)?;
    app.machines
        .get_mut(id)
        .ok_or_else(|| FlyError::machine_not_found(id))
}

fn flag(query: &[(String, String)], name: &str) -> FlyResult<bool> {
    match query.iter().find(|(key, _)| key == name) {
        None => Ok(false),
        Some((_, value)) => match value.as_str() {
            "true" | "1" => Ok(true),
            "false" | "0" | "" => Ok(false),
            other => Err(FlyError::bad_request(format!(
                "invalid_argument: {name} must be a boolean, not '{other}'"
            ))),
        },
    }
}

async fn list(
    AxumState(core): AxumState<Shared>,
    Extension(caller): Extension<Caller>,
    Path(app): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> FlyResult<Json<Value>> {
    let include_deleted = flag(&query, "include_deleted")?;
    let include_leases = flag(&query, "include_leases")?;
    let summary = flag(&query, "summary")?;
    let value = |name: &str| {
        query
            .iter()
            .find(|(key, value)| key == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    };
    let region = value("region");
    let states: Option<Vec<&str>> = value("state").map(|text| text.split(',').collect());
    for state in states.iter().flatten() {
        if !matches!(*state, "created" | "started" | "stopped" | "suspended") {
            return Err(FlyError::bad_request(format!(
                "invalid_argument: state must be created, started, stopped or suspended, not \
                 '{state}'"
            )));
        }
    }
    let metadata: Vec<(&str, &str)> = query
        .iter()
        .filter_map(|(key, value)| Some((key.strip_prefix("metadata.")?, value.as_str())))
        .collect();
    core.read(|world| {
        let app = world.app(&caller, &app)?;
        let machines: Vec<Value> = app
            .machines
            .values()
            .filter(|machine| include_deleted || machine.is_live())
            .filter(|machine| region.is_none_or(|region| machine.region == region))
            .filter(|machine| {
                states
                    .as_ref()
                    .is_none_or(|states| states.contains(&machine.state.as_str()))
            })
            .filter(|machine| {
                metadata
                    .iter()
                    .all(|(key, value)| machine.metadata.get(*key).is_some_and(|is| is == value))
            })
            .map(|machine| {
                let mut value = if summary {
                    machine.summary()
                } else {
                    machine.json()
                };
                if include_leases {
                    add_lease(machine, &mut value);
                }
                value
            })
            .collect();
        Ok(Json(json!(machines)))
    })
}

fn add_lease(machine: &Machine, value: &mut Value) {
    if let Some(lease) = &machine.lease
        && lease.expires_at > Timestamp::now()
    {
        value["lease"] = lease.public();
    }
}

async fn read(
    AxumState(core): AxumState<Shared>,
    Extension(caller): Extension<Caller>,
    Path((app, id)): Path<(String, String)>,
    Query(query): Query<Vec<(String, String)>>,
) -> FlyResult<Json<Value>> {
    let include_leases = flag(&query, "include_leases")?;
    core.read(|world| {
        let (_, machine) = find(world, &caller, &app, &id)?;
        let mut value = machine.json();
        if include_leases {
            add_lease(machine, &mut value);
        }
        Ok(Json(value))
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(
    dead_code,
    reason = "lsvd is accepted as Fly does, and means nothing here"
)]
struct CreateBody {
    name: Option<String>,
    region: Option<String>,
    config: Option<Value>,
    skip_launch: Option<bool>,
    skip_service_registration: Option<bool>,
    lease_ttl: Option<i64>,
    skip_secrets: Option<bool>,
    min_secrets_version: Option<u64>,
    lsvd: Option<bool>,
}

/// The image for a reference, or Fly's refusal.
pub fn resolve(core: &Shared, image: &str) -> FlyResult<Resolved> {
    crate::platform::registry::resolve(core, image).ok_or_else(|| {
        FlyError::bad_request(format!(
            "invalid_argument: failed to get manifest {image}: manifest unknown"
        ))
    })
}

/// Refuses secrets that this host does not see yet: 412.
pub fn check_secrets(app: &App, wanted: Option<u64>) -> FlyResult<()> {
    let seen = app.platform.secrets_version();
    match wanted {
        Some(wanted) if wanted > seen => Err(FlyError::precondition(format!(
            "secrets version {wanted} is not available yet, current version is {seen}"
        ))),
        _ => Ok(()),
    }
}

/// Refuses names that Fly refuses.
fn check_name(name: &str) -> FlyResult<()> {
    let valid = name.len() <= 63
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if valid {
        Ok(())
    } else {
        Err(FlyError::bad_request(format!(
            "invalid_argument: invalid machine name '{name}'"
        )))
    }
}

/// A loopback address that no other live machine has.
fn free_ip(world: &World) -> Ipv4Addr {
    let mut rng = rand::rng();
    loop {
        let ip = Ipv4Addr::new(
            127,
            rng.random_range(16..=250),
            rng.random_range(0..=255),
            rng.random_range(1..=254),
        );
        let taken = world
            .apps
            .values()
            .flat_map(App::live_machines)
            .any(|machine| machine.ip == ip);
        if !taken {
            return ip;
        }
    }
}

fn private_ip(ip: Ipv4Addr, org: u64) -> String {
    let [a, b, c, d] = ip.octets();
    format!("fdaa:0:{org:x}:a7b:{a:02x}{b:02x}:{c:02x}{d:02x}:0:2")
}

fn random_name() -> String {
    const FIRST: &[&str] = &["autumn", "bold", "cool", "dawn", "little", "quiet", "wild"];
    const SECOND: &[&str] = &["brook", "cloud", "fire", "moon", "pond", "river", "star"];
    let mut rng = rand::rng();
    format!(
        "{}-{}-{}",
        FIRST[rng.random_range(0..FIRST.len())],
        SECOND[rng.random_range(0..SECOND.len())],
        rng.random_range(1_000..=9_999)
    )
}

async fn create(
    AxumState(core): AxumState<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Extension(injected): Extension<Injected>,
    Path(app_name): Path<String>,
    Strict(body): Strict<CreateBody>,
) -> FlyResult<Json<Value>> {
    core.read(|world| world.app(&caller, &app_name).map(|_| ()))?;
    let raw = body
        .config
        .ok_or_else(|| FlyError::bad_request("invalid_argument: config is required"))?;
    let config = config::read(&raw)?;
    let image = resolve(&core, config.image.as_deref().unwrap_or_default())?;
    super::containers::check(&core, &config)?;
    let name = body.name.filter(|name| !name.is_empty());
    if let Some(name) = &name {
        check_name(name)?;
    }
    if body.lease_ttl.is_some_and(|ttl| ttl < 0) {
        return Err(FlyError::bad_request(
            "invalid_argument: lease_ttl must not be negative",
        ));
    }
    let region = crate::placement::choose(&core, body.region.as_deref())?;
    let launch = !body.skip_launch.unwrap_or(false);

    let (value, id, name, owner) = core.write(|world| {
        let org = world.app(&caller, &app_name)?.org_slug.clone();
        check_org(world, &org)?;
        let number = world
            .orgs
            .get(&org)
            .map_or(0, |org| org.internal_numeric_id);
        let ip = free_ip(world);
        let app = world.app_mut(&caller, &app_name)?;
        check_secrets(app, body.min_secrets_version)?;
        let name = match name {
            Some(name) => {
                if let Some(other) = app.live_machines().find(|machine| machine.name == name) {
                    return Err(FlyError::conflict(format!(
                        "already_exists: unique machine name violation, machine ID {} already \
                         exists with name \"{name}\"",
                        other.id
                    )));
                }
                name
            }
            None => random_name(),
        };
        let id = id::machine();
        attach(app, &id, &region, &config)?;
        let (commands, receiver) = mpsc::unbounded_channel();
        let cancel = core.shutdown.child_token();
        let hurry = Arc::new(Notify::new());
        let version = id::ulid();
        let normal = config::normal(&raw, &config);
        let now = Timestamp::now();
        let mut machine = Machine {
            id: id.clone(),
            app: app_name.clone(),
            name: name.clone(),
            region: region.clone(),
            state: State::Created,
            versions: vec![(version.clone(), normal.clone())],
            version,
            ip,
            private_ip: private_ip(ip, number),
            created_at: now,
            updated_at: now,
            metadata: config.metadata.clone().unwrap_or_default(),
            checks: check::initial(&config),
            config,
            config_json: normal,
            image,
            events: std::collections::VecDeque::new(),
            lease: None,
            cordoned: body.skip_service_registration.unwrap_or(false),
            host_status: "ok".to_owned(),
            skip_secrets: body.skip_secrets.unwrap_or(false),
            restart_count: 0,
            in_flight: Arc::default(),
            last_request: Instant::now(),
            boot_delay: injected.boot_delay.unwrap_or(Duration::ZERO),
            boot: None,
            commands,
            cancel: cancel.clone(),
            hurry: Arc::clone(&hurry),
        };
        machine.event("launch", "created", Source::User, Value::Null);
        let mut value = machine.json();
        if let Some(ttl) = body.lease_ttl.filter(|ttl| *ttl > 0) {
            let owner = caller.tokens.first().map_or("", |token| token.id.as_str());
            let lease = Lease::new(owner, "", ttl);
            value["nonce"] = json!(lease.nonce);
            machine.lease = Some(lease);
        }
        machine.send(if launch {
            Command::Launch(Source::User)
        } else {
            Command::Settle
        });
        let owner = machine.metadata.clone();
        app.deployed = true;
        app.machines.insert(id.clone(), machine);
        actor::spawn(&core, &app_name, &id, receiver, cancel, hurry);
        Ok((value, id, name, owner))
    })?;
    let detail = json!({"region": region, "image": value["config"]["image"], "launch": launch});
    core.effect(
        call,
        "machine.create",
        Some(&app_name),
        &id,
        &name,
        owner,
        detail,
    );
    Ok(Json(value))
}

/// Refuses machines that the organization may not have: 422.
fn check_org(world: &World, slug: &str) -> FlyResult<()> {
    let Some(org) = world.orgs.get(slug) else {
        return Ok(());
    };
    match org.billing_status.as_str() {
        "SUSPENDED" | "DELINQUENT" | "TRIAL_ENDED" | "SOURCE_REQUIRED" => {
            return Err(FlyError::unprocessable(
                "We need your payment information to continue, please add a payment method",
            ));
        }
        _ => {}
    }
    let count = world
        .apps
        .values()
        .filter(|app| app.org_slug == slug)
        .flat_map(App::live_machines)
        .count();
    match org.machine_limit {
        Some(limit) if count >= limit => Err(FlyError::unprocessable(
            "Your organization has reached its machine limit. Please contact billing@fly.io",
        )),
        _ => Ok(()),
    }
}

/// Claims the volumes of a configuration for a machine.
fn attach(app: &mut App, machine: &str, region: &str, config: &config::Config) -> FlyResult<()> {
    for mount in config.mounts.iter().flatten() {
        let volume = match &mount.volume {
            Some(wanted) => app.volumes.get_mut(wanted).ok_or_else(|| {
                FlyError::not_found(format!("not_found: volume {wanted} not found"))
            })?,
            None => app
                .volumes
                .values_mut()
                .find(|volume| {
                    Some(&volume.name) == mount.name.as_ref()
                        && volume.region == region
                        && volume.is_free()
                })
                .ok_or_else(|| {
                    FlyError::precondition("no unattached volume of that name in the region")
                })?,
        };
        if volume.region != region {
            return Err(FlyError::unprocessable(format!(
                "volume {} is in region {}, not {region}",
                volume.id, volume.region
            )));
        }
        if !volume.is_free() {
            return Err(FlyError::precondition(format!(
                "volume {} is already claimed by machine {}",
                volume.id,
                volume.attached_machine_id.as_deref().unwrap_or("none")
            )));
        }
        volume.attached_machine_id = Some(machine.to_owned());
    }
    Ok(())
}

async fn delete(
    AxumState(core): AxumState<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path((app, id)): Path<(String, String)>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> FlyResult<Json<Value>> {
    let force = flag(&query, "force")? || flag(&query, "kill")?;
    let live = core.write(|world| {
        let machine = find_mut(world, &caller, &app, &id)?;
        if !machine.is_live() {
            return Ok(false);
        }
        machine.check_lease(lease::nonce(&headers).as_deref())?;
        let down = machine.is_down();
        if !force && !down {
            return Err(FlyError::precondition(format!(
                "unable to destroy machine, not currently stopped, suspended or failed (state: \
                 '{}')",
                machine.state.as_str()
            )));
        }
        Ok(true)
    })?;
    if live {
        destroy(&core, call, &app, &id, force, Source::User);
    }
    Ok(Json(json!({"ok": true})))
}

/// Starts to destroy a machine. Safe to repeat.
pub fn destroy(core: &Shared, call: CallId, app: &str, id: &str, kill: bool, source: Source) {
    let done = core.write(|world| {
        let machine = world.apps.get_mut(app)?.machines.get_mut(id)?;
        if matches!(machine.state, State::Destroying | State::Destroyed) {
            return None;
        }
        machine.state = State::Destroying;
        machine.event("destroy", "destroying", source, Value::Null);
        machine.send(Command::Destroy { kill });
        if kill {
            machine.hurry.notify_one();
        }
        Some((machine.name.clone(), machine.metadata.clone()))
    });
    if let Some((name, owner)) = done {
        core.effect(
            call,
            "machine.destroy",
            Some(app),
            id,
            &name,
            owner,
            json!({"kill": kill}),
        );
    }
}
