//! Managed Postgres in the Machines API: `/v1/postgres`, public, not what flyctl uses.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Json, Router};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::core::{CallId, Shared};
use crate::error::{FlyError, FlyResult};
use crate::platform::clusters::{self, Backup, Cluster, Status};
use crate::state::Caller;
use crate::strict::{Strict, StrictQuery};

/// The routes.
pub fn router() -> Router<Shared> {
    Router::new()
        .route("/v1/postgres", get(list).post(create))
        .route("/v1/postgres/{id}", get(show).delete(remove))
        .route(
            "/v1/postgres/{id}/attachments",
            get(attachments).post(attach),
        )
        .route("/v1/postgres/{id}/attachments/{name}", delete(detach))
        .route("/v1/postgres/{id}/backups", get(backups).post(back_up))
        .route(
            "/v1/postgres/{id}/databases",
            get(databases).post(add_database),
        )
        .route("/v1/postgres/{id}/databases/{name}", delete(drop_database))
        .route("/v1/postgres/{id}/users", get(users).post(add_user))
        .route(
            "/v1/postgres/{id}/users/{user}",
            delete(drop_user).patch(set_role),
        )
        .route(
            "/v1/postgres/{id}/users/{user}/credentials",
            get(credentials),
        )
        .route(
            "/v1/postgres/{id}/users/{user}/rotate_password",
            post(rotate),
        )
}

fn json_of(cluster: &Cluster) -> Value {
    let endpoint = cluster.address().map_or_else(
        || json!({}),
        |at| json!({"host": at.ip().to_string(), "port": at.port()}),
    );
    json!({
        "id": cluster.id,
        "name": cluster.name,
        "status": cluster.status.word(),
        "region": cluster.region,
        "plan": cluster.plan.name,
        "disk_size_gb": cluster.disk_gb,
        "cpus": cluster.plan.cpus,
        "cpu_kind": cluster.plan.cpu_kind,
        "memory_mb": cluster.plan.memory_mb,
        "replicas": 1,
        "pg_major_version": cluster.pg_major_version,
        "postgis_enabled": cluster.postgis,
        "endpoints": {"primary": {"direct": endpoint, "pooler": endpoint}},
        "organization": cluster.org_slug,
        "attached_apps": cluster.attachments.keys().collect::<Vec<_>>(),
        "created_at": cluster.created_at.to_string(),
    })
}

#[derive(Deserialize)]
struct ListQuery {
    org_slug: String,
    #[serde(default)]
    include_deleted: bool,
}

async fn list(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    StrictQuery(query): StrictQuery<ListQuery>,
) -> FlyResult<Json<Value>> {
    core.read(|world| world.org(&caller, &query.org_slug).map(|_| ()))?;
    let all = clusters::list(&core, &query.org_slug, query.include_deleted);
    Ok(Json(
        json!({"data": all.iter().map(json_of).collect::<Vec<_>>()}),
    ))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    org_slug: String,
    name: String,
    region: String,
    plan: String,
    #[serde(default)]
    disk_size_gb: Option<u64>,
    #[serde(default)]
    pg_major_version: Option<Value>,
    #[serde(default)]
    pool_mode: Option<String>,
    #[serde(default)]
    postgis_enabled: bool,
}

async fn create(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Strict(body): Strict<Create>,
) -> FlyResult<Response> {
    if !matches!(
        body.pool_mode.as_deref(),
        None | Some("session" | "transaction" | "statement")
    ) {
        return Err(FlyError::unprocessable(
            "Validation failed: Pool mode must be session, transaction or statement",
        ));
    }
    let version = match body.pg_major_version {
        None | Some(Value::Null) => "16".to_owned(),
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
    };
    let wanted = clusters::Wanted {
        name: body.name,
        org_slug: body.org_slug,
        region: body.region,
        plan: body.plan,
        disk_gb: body.disk_size_gb.unwrap_or(10),
        pg_major_version: version,
        postgis: body.postgis_enabled,
    };
    let cluster = clusters::create(&core, &caller, call, wanted).await?;
    Ok((
        StatusCode::CREATED,
        Json(json!({"data": json_of(&cluster)})),
    )
        .into_response())
}

#[derive(Deserialize)]
struct ShowQuery {
    #[serde(default)]
    include_deleted: bool,
}

async fn show(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    StrictQuery(query): StrictQuery<ShowQuery>,
) -> FlyResult<Json<Value>> {
    let cluster = clusters::find(&core, &caller, &id, query.include_deleted)?;
    Ok(Json(json!({"data": json_of(&cluster)})))
}

async fn remove(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path(id): Path<String>,
) -> FlyResult<StatusCode> {
    let cluster = clusters::find_to_change(&core, &caller, &id)?;
    if cluster.status == Status::Deleting {
        return Err(FlyError::new(
            StatusCode::GONE,
            format!("Cluster {id} is being deleted"),
        ));
    }
    clusters::delete(&core, call, &cluster);
    Ok(StatusCode::ACCEPTED)
}

async fn attachments(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> FlyResult<Json<Value>> {
    let cluster = clusters::find(&core, &caller, &id, false)?;
    let all: Vec<_> = cluster
        .attachments
        .iter()
        .map(|(app, at)| json!({"app_name": app, "attached_at": at.attached_at.to_string()}))
        .collect();
    Ok(Json(json!({"data": all})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attach {
    app_name: String,
}

async fn attach(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path(id): Path<String>,
    Strict(body): Strict<Attach>,
) -> FlyResult<Response> {
    let cluster = clusters::find_to_change(&core, &caller, &id)?;
    let (at, new) = clusters::attach(&core, &caller, call, &cluster, &body.app_name)?;
    let status = if new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let answer = json!({"data": {
        "app_name": body.app_name, "attached_at": at.attached_at.to_string(),
    }});
    Ok((status, Json(answer)).into_response())
}

async fn detach(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path((id, app)): Path<(String, String)>,
) -> FlyResult<StatusCode> {
    let cluster = clusters::find_to_change(&core, &caller, &id)?;
    clusters::detach(&core, call, &cluster, &app)?;
    Ok(StatusCode::NO_CONTENT)
}

fn backup_json(backup: &Backup) -> Value {
    let at = backup.at.to_string();
    json!({"id": backup.id, "status": "completed", "type": backup.kind, "start": at, "stop": at})
}

async fn backups(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> FlyResult<Json<Value>> {
    let cluster = clusters::find(&core, &caller, &id, false)?;
    let all: Vec<_> = cluster.backups.iter().map(backup_json).collect();
    Ok(Json(json!({"data": all})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewBackup {
    #[serde(rename = "type")]
    kind: String,
}

async fn back_up(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path(id): Path<String>,
    Strict(body): Strict<NewBackup>,
) -> FlyResult<Response> {
    let cluster = clusters::find_ready(&core, &caller, &id)?;
    let backup = clusters::back_up(&core, call, &cluster, &body.kind)?;
    Ok((
        StatusCode::ACCEPTED,
        Json(json!({"data": backup_json(&backup)})),
    )
        .into_response())
}

async fn databases(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> FlyResult<Json<Value>> {
    let cluster = clusters::find(&core, &caller, &id, false)?;
    let all: Vec<_> = cluster
        .databases
        .iter()
        .map(|name| json!({"name": name}))
        .collect();
    Ok(Json(json!({"data": all})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewDatabase {
    name: String,
}

async fn add_database(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path(id): Path<String>,
    Strict(body): Strict<NewDatabase>,
) -> FlyResult<Response> {
    let cluster = clusters::find_ready(&core, &caller, &id)?;
    clusters::add_database(&core, call, &cluster, &body.name).await?;
    Ok((
        StatusCode::CREATED,
        Json(json!({"data": {"name": body.name}})),
    )
        .into_response())
}

async fn drop_database(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path((id, name)): Path<(String, String)>,
) -> FlyResult<StatusCode> {
    let cluster = clusters::find_ready(&core, &caller, &id)?;
    clusters::drop_database(&core, call, &cluster, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn users(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> FlyResult<Json<Value>> {
    let cluster = clusters::find(&core, &caller, &id, false)?;
    let all: Vec<_> = cluster
        .users
        .iter()
        .map(|(name, user)| json!({"username": name, "role": user.right.word()}))
        .collect();
    Ok(Json(json!({"data": all})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewUser {
    username: String,
    role: String,
}

async fn add_user(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path(id): Path<String>,
    Strict(body): Strict<NewUser>,
) -> FlyResult<Response> {
    let cluster = clusters::find_ready(&core, &caller, &id)?;
    clusters::add_user(&core, call, &cluster, &body.username, &body.role).await?;
    let answer = json!({"data": {"username": body.username, "role": body.role}});
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

async fn drop_user(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path((id, user)): Path<(String, String)>,
) -> FlyResult<StatusCode> {
    let cluster = clusters::find_ready(&core, &caller, &id)?;
    clusters::drop_user(&core, call, &cluster, &user).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Role {
    role: String,
}

async fn set_role(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path((id, user)): Path<(String, String)>,
    Strict(body): Strict<Role>,
) -> FlyResult<StatusCode> {
    let cluster = clusters::find_ready(&core, &caller, &id)?;
    clusters::set_right(&core, call, &cluster, &user, &body.role).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn credentials(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path((id, user)): Path<(String, String)>,
) -> FlyResult<Json<Value>> {
    let cluster = clusters::find_ready(&core, &caller, &id)?;
    let known = cluster
        .users
        .get(&user)
        .ok_or_else(|| FlyError::not_found(format!("user {user} not found")))?;
    Ok(Json(
        json!({"data": {"username": user, "password": known.password}}),
    ))
}

async fn rotate(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path((id, user)): Path<(String, String)>,
) -> FlyResult<Json<Value>> {
    let cluster = clusters::find_ready(&core, &caller, &id)?;
    let password = clusters::rotate_password(&core, call, &cluster, &user).await?;
    Ok(Json(
        json!({"data": {"username": user, "password": password}}),
    ))
}
