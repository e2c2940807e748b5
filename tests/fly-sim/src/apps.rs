//! Apps: names are global over all organizations.

use std::collections::BTreeMap;

use axum::extract::{Path, Query, State};
use axum::routing::get;
use axum::{Extension, Json, Router};
use http::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::core::{CallId, Shared};
use crate::error::{FlyError, FlyResult};
use crate::platform::{self, AppPlatform};
use crate::state::{App, Caller, Scope, World};
use crate::strict::{Strict, StrictQuery};

/// The routes of apps.
pub fn router() -> Router<Shared> {
    Router::new()
        .route("/v1/apps", get(list).post(create))
        .route("/v1/apps/{app}", get(read).delete(delete))
}

/// An app as the API gives it.
pub fn app_json(world: &World, app: &App) -> Value {
    let org = world.orgs.get(&app.org_slug);
    json!({
        "id": app.id,
        "internal_numeric_id": app.internal_numeric_id,
        "name": app.name,
        "network": app.network,
        "status": app.status(),
        "machine_count": app.live_machines().count(),
        "volume_count": app.volumes.len(),
        "organization": {
            "name": org.map(|org| org.name.clone()).unwrap_or_default(),
            "slug": app.org_slug,
            "internal_numeric_id": org.map_or(0, |org| org.internal_numeric_id),
        },
        "cname_target": format!("{}.{}.flydns.net", crate::id::stable(&app.name), app.name),
        "app_role": app.role,
        "created_at": app.created_at.to_string(),
    })
}

#[derive(Debug, Deserialize)]
struct ListQuery {
    org_slug: Option<String>,
    app_role: Option<String>,
}

async fn list(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ListQuery>,
) -> FlyResult<Json<Value>> {
    let slug = query
        .org_slug
        .filter(|slug| !slug.is_empty())
        .ok_or_else(|| FlyError::bad_request("invalid_argument: org_slug is required"))?;
    core.read(|world| {
        if !world.orgs.contains_key(&slug) {
            return Err(FlyError::not_found(format!(
                "Could not find Organization \"{slug}\""
            )));
        }
        let apps: Vec<Value> = world
            .apps
            .values()
            .filter(|app| app.org_slug == slug && caller.sees(app))
            .filter(|app| query.app_role.as_ref().is_none_or(|role| *role == app.role))
            .map(|app| app_json(world, app))
            .collect();
        if apps.is_empty() {
            let member = caller.tokens.iter().any(|token| token.org_slug == slug);
            if !member {
                world.org(&caller, &slug)?;
            }
        }
        Ok(Json(json!({"total_apps": apps.len(), "apps": apps})))
    })
}

async fn read(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> FlyResult<Json<Value>> {
    core.read(|world| {
        let app = world.app(&caller, &name)?;
        Ok(Json(app_json(world, app)))
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "accepted as Fly does")]
struct CreateBody {
    name: Option<String>,
    app_name: Option<String>,
    org_slug: Option<String>,
    network: Option<String>,
    enable_subdomains: Option<bool>,
    idempotency_key: Option<String>,
    app_role_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "the simulator always waits")]
struct CreateQuery {
    wait: Option<bool>,
}

fn valid_name(name: &str) -> bool {
    (2..=63).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// What a new app is made of.
#[derive(Clone, Debug, Default)]
pub struct NewApp {
    /// Name.
    pub name: String,
    /// Organization.
    pub org_slug: String,
    /// Network; `default` if empty.
    pub network: String,
    /// Role; mostly empty.
    pub role: String,
    /// Makes a repeated call return the first app.
    pub idempotency_key: Option<String>,
}

/// Makes an app, or refuses: used by REST and by GraphQL.
pub fn make(core: &Shared, caller: &Caller, call: CallId, new: NewApp) -> FlyResult<Value> {
    if !valid_name(&new.name) {
        return Err(FlyError::unprocessable(
            "Validation failed: Name under 63 chars using numbers, lowercase letters and dashes",
        ));
    }
    let NewApp {
        name,
        org_slug,
        network,
        role,
        idempotency_key,
    } = new;
    let (value, created) = core.write(|world| {
        world.org(caller, &org_slug)?;
        let may = caller
            .tokens
            .iter()
            .any(|token| token.org_slug == org_slug && token.scope == Scope::Org);
        if !may {
            return Err(FlyError::forbidden(
                "unauthorized: this token may not create apps",
            ));
        }
        if let Some(key) = &idempotency_key {
            let first = world
                .apps
                .values()
                .find(|app| app.org_slug == org_slug && app.idempotency_key.as_ref() == Some(key));
            if let Some(first) = first {
                if first.name == name {
                    return Ok((app_json(world, first), false));
                }
                return Err(FlyError::unprocessable(
                    "Validation failed: idempotency_key was used for another app",
                ));
            }
        }
        if world.apps.contains_key(&name) {
            return Err(
                FlyError::unprocessable("Validation failed: Name has already been taken")
                    .code("name_taken"),
            );
        }
        let number = world.number();
        let app = App {
            id: name.clone(),
            internal_numeric_id: 2_000_000 + number,
            name: name.clone(),
            org_slug: org_slug.clone(),
            network: if network.is_empty() {
                "default".to_owned()
            } else {
                network
            },
            role,
            created_at: Timestamp::now(),
            idempotency_key,
            deployed: false,
            machines: BTreeMap::new(),
            volumes: BTreeMap::new(),
            platform: AppPlatform::default(),
        };
        let value = app_json(world, &app);
        world.apps.insert(name.clone(), app);
        Ok((value, true))
    })?;
    if created {
        let detail = json!({"organization": org_slug});
        core.effect(
            call,
            "app.create",
            Some(&name),
            &name,
            &name,
            BTreeMap::new(),
            detail,
        );
    }
    Ok(value)
}

async fn create(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    StrictQuery(_query): StrictQuery<CreateQuery>,
    Strict(body): Strict<CreateBody>,
) -> FlyResult<(StatusCode, Json<Value>)> {
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let name = given(body.name)
        .or(given(body.app_name))
        .ok_or_else(|| FlyError::bad_request("invalid_argument: name is required"))?;
    let org_slug = given(body.org_slug)
        .ok_or_else(|| FlyError::bad_request("invalid_argument: org_slug is required"))?;
    let new = NewApp {
        name,
        org_slug,
        network: body.network.unwrap_or_default(),
        role: body.app_role_id.unwrap_or_default(),
        idempotency_key: given(body.idempotency_key),
    };
    let value = make(&core, &caller, call, new)?;
    Ok((StatusCode::CREATED, Json(value)))
}

#[derive(Debug, Deserialize)]
struct DeleteQuery {
    force: Option<bool>,
}

async fn delete(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path(name): Path<String>,
    StrictQuery(query): StrictQuery<DeleteQuery>,
) -> FlyResult<StatusCode> {
    // `force` says that machines may run. Without it they may too: flyctl's own acceptance test
    // destroys an app that has just been launched, and flyctl does not send it.
    let _ = query.force;
    core.write(|world| world.app_mut(&caller, &name).map(|_| ()))?;
    remove(&core, call, &name).await;
    Ok(StatusCode::ACCEPTED)
}

/// Removes an app and all that is in it; says whether there was one.
pub async fn remove(core: &Shared, call: CallId, name: &str) -> bool {
    crate::machine::destroy_all(core, call, name, None).await;
    // In one step: a machine whose own end is not over yet ends with its app, and whoever sees that the
    // app is gone finds every end on the ledger.
    let removed = core.write(|world| {
        let app = world.apps.remove(name)?;
        for machine in app.live_machines() {
            core.effect(
                call,
                "machine.destroyed",
                Some(name),
                &machine.id,
                &machine.name,
                machine.metadata.clone(),
                json!({"with": "app"}),
            );
        }
        Some(app)
    });
    let Some(app) = removed else {
        return false;
    };
    for machine in app.machines.values() {
        machine.end();
    }
    platform::app_deleted(core, &app);
    core.logs.remove(name);
    core.effect(
        call,
        "app.delete",
        Some(name),
        &app.id,
        name,
        BTreeMap::new(),
        json!({}),
    );
    true
}
