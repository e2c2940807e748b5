//! Managed Postgres as flyctl drives it: the ui-ex REST API, version 2 and the paths of version 1.

use axum::extract::{FromRequestParts, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, patch, post};
use axum::{Json, Router};
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::core::{CallId, Shared};
use crate::error::FlyError;
use crate::platform::clusters::{self, Cluster, FIRST_DATABASE, FIRST_USER, Status};
use crate::state::Caller;
use crate::strict;

/// A refusal in the envelope of this API.
#[derive(Debug)]
pub struct Refusal(FlyError);

impl From<FlyError> for Refusal {
    fn from(error: FlyError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({"ok": false, "errors": {"detail": self.0.message}});
        let mut response = (self.0.status, Json(body)).into_response();
        if self.0.status == StatusCode::SERVICE_UNAVAILABLE {
            let retry = HeaderValue::from_static("5");
            response.headers_mut().insert(header::RETRY_AFTER, retry);
        }
        response
    }
}

type Answer<T> = Result<T, Refusal>;

/// Caller and call of a request.
struct Who {
    caller: Caller,
    call: CallId,
}

impl<S: Send + Sync> FromRequestParts<S> for Who {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        Ok(Self {
            caller: parts.extensions.get().cloned().unwrap_or_default(),
            call: parts.extensions.get().copied().unwrap_or_default(),
        })
    }
}

fn body<T: DeserializeOwned>(bytes: &[u8]) -> Answer<T> {
    Ok(strict::parse(bytes)?)
}

/// The routes of Managed Postgres.
pub fn router() -> Router<Shared> {
    let mut router = Router::new().route("/api/v1/organizations/{slug}/postgres", get(list));
    for version in ["postgres", "postgresv2"] {
        let org = format!("/api/v1/organizations/{{slug}}/{version}");
        if version == "postgresv2" {
            router = router.route(&org, get(list).post(create));
        }
        let cluster = format!("/api/v1/{version}/{{id}}");
        router = router
            .route(&format!("{org}/regions"), get(regions))
            .route(
                &format!("{org}/{{id}}"),
                get(show_in_org).delete(remove_in_org),
            )
            .route(&cluster, get(show).delete(remove))
            .route(&format!("{cluster}/users"), get(users).post(add_user))
            .route(
                &format!("{cluster}/users/{{user}}"),
                patch(set_role).delete(drop_user),
            )
            .route(
                &format!("{cluster}/users/{{user}}/credentials"),
                get(credentials),
            )
            .route(
                &format!("{cluster}/databases"),
                get(databases).post(add_database),
            )
            .route(&format!("{cluster}/backups"), get(backups).post(back_up))
            .route(&format!("{cluster}/attachments"), post(attach))
            .route(&format!("{cluster}/attachments/{{name}}"), delete(detach));
    }
    router
}

fn data(core: &Shared, cluster: &Cluster) -> Value {
    let organization = core.read(|world| {
        world
            .orgs
            .get(&cluster.org_slug)
            .map(|org| json!({"id": org.id, "name": org.name, "slug": org.slug}))
    });
    let apps: Vec<_> = cluster
        .attachments
        .keys()
        .map(|name| json!({"name": name}))
        .collect();
    json!({
        "id": cluster.id,
        "name": cluster.name,
        "status": cluster.status.ui_word(),
        "engine": "postgres",
        "environment": "production",
        "plan": cluster.plan.name,
        "region": cluster.region,
        "organization": organization,
        "mpgd_cluster_id": cluster.id,
        "disk": cluster.disk_gb,
        "replicas": 1,
        "ip_assignments": {"direct": cluster.address().map(|at| at.ip().to_string())},
        "postgis_enabled": cluster.postgis,
        "attached_apps": apps,
    })
}

fn with_credentials(core: &Shared, cluster: &Cluster) -> Value {
    let credentials = match cluster.users.get(FIRST_USER) {
        Some(user) if cluster.status == Status::Ready => json!({
            "status": "ready",
            "user": FIRST_USER,
            "password": user.password,
            "dbname": FIRST_DATABASE,
            "pgbouncer_uri": cluster.url(FIRST_USER, FIRST_DATABASE),
        }),
        _ => json!({
            "status": "initializing", "user": "", "password": "", "dbname": "", "pgbouncer_uri": "",
        }),
    };
    json!({"data": data(core, cluster), "credentials": credentials})
}

async fn regions(
    State(core): State<Shared>,
    who: Who,
    Path(slug): Path<String>,
) -> Answer<Json<Value>> {
    core.read(|world| {
        world.org(&who.caller, &slug)?;
        let all = world.platform.regions.iter();
        let regions: Vec<_> = all
            .filter(|region| !region.deprecated)
            .map(|region| json!({"code": region.code, "available": region.mpg_available}))
            .collect();
        Ok(Json(json!({"data": regions})))
    })
}

async fn list(
    State(core): State<Shared>,
    who: Who,
    Path(slug): Path<String>,
) -> Answer<Json<Value>> {
    core.read(|world| world.org(&who.caller, &slug).map(|_| ()))?;
    let clusters = clusters::list(&core, &slug, false);
    let all: Vec<_> = clusters
        .iter()
        .map(|cluster| data(&core, cluster))
        .collect();
    Ok(Json(json!({"data": all})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    name: String,
    region: String,
    org_slug: String,
    plan: String,
    #[serde(default)]
    pg_major_version: Option<String>,
    #[serde(default)]
    storage_in_gb: Option<u64>,
    #[serde(default)]
    postgis_enabled: bool,
}

async fn create(
    State(core): State<Shared>,
    who: Who,
    Path(slug): Path<String>,
    bytes: bytes::Bytes,
) -> Answer<Response> {
    let wanted: Create = body(&bytes)?;
    if wanted.org_slug != slug {
        return Err(FlyError::unprocessable("org_slug differs from the path").into());
    }
    let wanted = clusters::Wanted {
        name: wanted.name,
        org_slug: slug,
        region: wanted.region,
        plan: wanted.plan,
        disk_gb: wanted.storage_in_gb.unwrap_or(10),
        pg_major_version: wanted.pg_major_version.unwrap_or_else(|| "16".to_owned()),
        postgis: wanted.postgis_enabled,
    };
    let cluster = clusters::create(&core, &who.caller, who.call, wanted).await?;
    let answer = json!({"ok": true, "errors": {"detail": ""}, "data": data(&core, &cluster)});
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

async fn show(State(core): State<Shared>, who: Who, Path(id): Path<String>) -> Answer<Json<Value>> {
    let cluster = clusters::find(&core, &who.caller, &id, false)?;
    Ok(Json(with_credentials(&core, &cluster)))
}

async fn show_in_org(
    State(core): State<Shared>,
    who: Who,
    Path((slug, id)): Path<(String, String)>,
) -> Answer<Json<Value>> {
    let cluster = clusters::find(&core, &who.caller, &id, false)?;
    in_org(&cluster, &slug)?;
    Ok(Json(with_credentials(&core, &cluster)))
}

fn in_org(cluster: &Cluster, slug: &str) -> Answer<()> {
    if cluster.org_slug == slug {
        Ok(())
    } else {
        Err(FlyError::not_found(format!("Cluster {} not found", cluster.id)).into())
    }
}

async fn remove(
    State(core): State<Shared>,
    who: Who,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    let cluster = clusters::find_to_change(&core, &who.caller, &id)?;
    clusters::delete(&core, who.call, &cluster);
    Ok(StatusCode::NO_CONTENT)
}

async fn remove_in_org(
    State(core): State<Shared>,
    who: Who,
    Path((slug, id)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let cluster = clusters::find_to_change(&core, &who.caller, &id)?;
    in_org(&cluster, &slug)?;
    clusters::delete(&core, who.call, &cluster);
    Ok(StatusCode::NO_CONTENT)
}

async fn users(
    State(core): State<Shared>,
    who: Who,
    Path(id): Path<String>,
) -> Answer<Json<Value>> {
    let cluster = clusters::find(&core, &who.caller, &id, false)?;
    let users: Vec<_> = cluster
        .users
        .iter()
        .map(|(name, user)| json!({"name": name, "role": user.right.word()}))
        .collect();
    Ok(Json(json!({"data": users})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewUser {
    username: String,
    role: String,
}

async fn add_user(
    State(core): State<Shared>,
    who: Who,
    Path(id): Path<String>,
    bytes: bytes::Bytes,
) -> Answer<Response> {
    let user: NewUser = body(&bytes)?;
    let cluster = clusters::find_ready(&core, &who.caller, &id)?;
    clusters::add_user(&core, who.call, &cluster, &user.username, &user.role).await?;
    let answer = json!({"data": {"name": user.username, "role": user.role}});
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Role {
    role: String,
}

async fn set_role(
    State(core): State<Shared>,
    who: Who,
    Path((id, user)): Path<(String, String)>,
    bytes: bytes::Bytes,
) -> Answer<Json<Value>> {
    let role: Role = body(&bytes)?;
    let cluster = clusters::find_ready(&core, &who.caller, &id)?;
    clusters::set_right(&core, who.call, &cluster, &user, &role.role).await?;
    Ok(Json(json!({"data": {"name": user, "role": role.role}})))
}

async fn drop_user(
    State(core): State<Shared>,
    who: Who,
    Path((id, user)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let cluster = clusters::find_ready(&core, &who.caller, &id)?;
    clusters::drop_user(&core, who.call, &cluster, &user).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn credentials(
    State(core): State<Shared>,
    who: Who,
    Path((id, user)): Path<(String, String)>,
) -> Answer<Json<Value>> {
    let cluster = clusters::find_to_change(&core, &who.caller, &id)?;
    let known = cluster
        .users
        .get(&user)
        .ok_or_else(|| FlyError::not_found(format!("user {user} not found")))?;
    Ok(Json(
        json!({"data": {"username": user, "password": known.password}}),
    ))
}

async fn databases(
    State(core): State<Shared>,
    who: Who,
    Path(id): Path<String>,
) -> Answer<Json<Value>> {
    let cluster = clusters::find(&core, &who.caller, &id, false)?;
    let databases: Vec<_> = cluster
        .databases
        .iter()
        .map(|name| json!({"name": name}))
        .collect();
    Ok(Json(json!({"data": databases})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewDatabase {
    name: String,
}

async fn add_database(
    State(core): State<Shared>,
    who: Who,
    Path(id): Path<String>,
    bytes: bytes::Bytes,
) -> Answer<Response> {
    let database: NewDatabase = body(&bytes)?;
    let cluster = clusters::find_ready(&core, &who.caller, &id)?;
    clusters::add_database(&core, who.call, &cluster, &database.name).await?;
    Ok((
        StatusCode::CREATED,
        Json(json!({"data": {"name": database.name}})),
    )
        .into_response())
}

fn backup_json(backup: &clusters::Backup) -> Value {
    let at = backup.at.to_string();
    json!({"id": backup.id, "status": "completed", "type": backup.kind, "start": at, "stop": at})
}

async fn backups(
    State(core): State<Shared>,
    who: Who,
    Path(id): Path<String>,
) -> Answer<Json<Value>> {
    let cluster = clusters::find(&core, &who.caller, &id, false)?;
    let backups: Vec<_> = cluster.backups.iter().map(backup_json).collect();
    Ok(Json(json!({"data": backups})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewBackup {
    #[serde(rename = "type")]
    kind: String,
}

async fn back_up(
    State(core): State<Shared>,
    who: Who,
    Path(id): Path<String>,
    bytes: bytes::Bytes,
) -> Answer<Response> {
    let backup: NewBackup = body(&bytes)?;
    let cluster = clusters::find_ready(&core, &who.caller, &id)?;
    let backup = clusters::back_up(&core, who.call, &cluster, &backup.kind)?;
    Ok((
        StatusCode::ACCEPTED,
        Json(json!({"data": backup_json(&backup)})),
    )
        .into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attach {
    app_name: String,
}

async fn attach(
    State(core): State<Shared>,
    who: Who,
    Path(id): Path<String>,
    bytes: bytes::Bytes,
) -> Answer<Response> {
    let wanted: Attach = body(&bytes)?;
    let cluster = clusters::find_to_change(&core, &who.caller, &id)?;
    let (attachment, new) =
        clusters::attach(&core, &who.caller, who.call, &cluster, &wanted.app_name)?;
    let app_id = core.read(|world| {
        world
            .apps
            .get(&wanted.app_name)
            .map(|a| a.internal_numeric_id)
    });
    let status = if new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let answer = json!({"data": {
        "id": attachment.id,
        "app_id": app_id,
        "managed_service_id": cluster.id,
        "attached_at": attachment.attached_at.to_string(),
    }});
    Ok((status, Json(answer)).into_response())
}

async fn detach(
    State(core): State<Shared>,
    who: Who,
    Path((id, app)): Path<(String, String)>,
) -> Answer<Json<Value>> {
    let cluster = clusters::find_to_change(&core, &who.caller, &id)?;
    clusters::detach(&core, who.call, &cluster, &app)?;
    Ok(Json(
        json!({"data": {"message": "App successfully detached"}}),
    ))
}
