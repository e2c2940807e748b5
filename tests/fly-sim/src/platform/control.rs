//! What the control port says about the platform side: databases, DNS, room, images, tokens.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post, put};
use axum::{Json, Router};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::core::Shared;
use crate::error::FlyError;
use crate::platform::clusters::Status;
use crate::platform::{certificates, tokens};
use crate::state::Scope;

/// The routes of the platform side on the control port.
pub fn router() -> Router<Shared> {
    Router::new()
        .route("/regions/{code}", patch(region))
        .route("/postgres", get(clusters).patch(postgres))
        .route("/postgres/{id}", patch(cluster))
        .route("/certificates/{app}/{hostname}", put(certificate))
        .route("/images/remove", post(remove_image))
        .route("/images/restore", post(restore_images))
        .route("/images/tag", post(tag_image))
        .route("/images/private", post(private_image))
        .route("/images/public", post(public_image))
        .route("/tokens", post(token))
}

fn missing(what: &str) -> Response {
    FlyError::not_found(format!("no such {what}")).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RegionChange {
    capacity: Option<u64>,
    deprecated: Option<bool>,
    mpg_available: Option<bool>,
}

async fn region(
    State(core): State<Shared>,
    Path(code): Path<String>,
    Json(change): Json<RegionChange>,
) -> Response {
    core.write(|world| {
        let regions = &mut world.platform.regions;
        let Some(region) = regions.iter_mut().find(|region| region.code == code) else {
            return missing("region");
        };
        region.capacity = change.capacity.unwrap_or(region.capacity);
        region.deprecated = change.deprecated.unwrap_or(region.deprecated);
        region.mpg_available = change.mpg_available.unwrap_or(region.mpg_available);
        Json(region.json()).into_response()
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PostgresChange {
    /// So many clusters that become ready next fail instead.
    fail_next: Option<u32>,
    /// Clusters do not become ready while this is true.
    hold: Option<bool>,
}

async fn postgres(State(core): State<Shared>, Json(change): Json<PostgresChange>) -> Json<Value> {
    core.write(|world| {
        let platform = &mut world.platform;
        platform.postgres_failures = change.fail_next.unwrap_or(platform.postgres_failures);
        platform.postgres_hold = change.hold.unwrap_or(platform.postgres_hold);
        Json(json!({"fail_next": platform.postgres_failures, "hold": platform.postgres_hold}))
    })
}

async fn clusters(State(core): State<Shared>) -> Json<Value> {
    core.read(|world| {
        let all: Vec<_> = world
            .platform
            .clusters
            .values()
            .map(|cluster| {
                json!({
                    "id": cluster.id,
                    "name": cluster.name,
                    "organization": cluster.org_slug,
                    "status": cluster.status.word(),
                    "address": cluster.address().map(|at| at.to_string()),
                    "users": cluster.users.keys().collect::<Vec<_>>(),
                    "databases": cluster.databases,
                    "attached_apps": cluster.attachments.keys().collect::<Vec<_>>(),
                })
            })
            .collect();
        Json(json!(all))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClusterChange {
    /// `failed` or `ready`.
    status: Option<String>,
    /// Whether its address takes connections.
    reachable: Option<bool>,
}

async fn cluster(
    State(core): State<Shared>,
    Path(id): Path<String>,
    Json(change): Json<ClusterChange>,
) -> Response {
    core.write(|world| {
        let Some(cluster) = world.platform.clusters.get_mut(&id) else {
            return missing("cluster");
        };
        match change.status.as_deref() {
            Some("failed") => cluster.status = Status::Failed,
            Some("ready") if cluster.proxy.is_some() => cluster.status = Status::Ready,
            None => {}
            Some(_) => {
                return FlyError::bad_request("status is failed, or ready once it was ready")
                    .into_response();
            }
        }
        if let (Some(reachable), Some(proxy)) = (change.reachable, &cluster.proxy) {
            proxy.set_reachable(reachable);
        }
        Json(json!({"id": id, "status": cluster.status.word()})).into_response()
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dns {
    dns_configured: bool,
}

async fn certificate(
    State(core): State<Shared>,
    Path((app, hostname)): Path<(String, String)>,
    Json(change): Json<Dns>,
) -> Response {
    if certificates::set_dns(&core, &app, &hostname, change.dns_configured) {
        StatusCode::NO_CONTENT.into_response()
    } else {
        missing("certificate")
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RemovedImage {
    /// `registry.fly.io/app`, `registry.fly.io/app:tag`, or a digest.
    image: String,
}

async fn remove_image(State(core): State<Shared>, Json(body): Json<RemovedImage>) -> StatusCode {
    core.write(|world| world.platform.removed_images.insert(body.image));
    StatusCode::NO_CONTENT
}

async fn restore_images(State(core): State<Shared>) -> StatusCode {
    core.write(|world| world.platform.removed_images.clear());
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MovedTag {
    /// `registry.fly.io/app:stable`: new, or one that is there already.
    image: String,
    /// `registry.fly.io/app:1.4.0`: what it stands for from now on.
    to: String,
}

/// Adds a tag, or moves one.
async fn tag_image(State(core): State<Shared>, Json(body): Json<MovedTag>) -> Response {
    let whole = |text: &str| {
        let parsed = crate::images::Reference::parse(text)?;
        Some(format!("{}:{}", parsed.name(), parsed.tag))
    };
    let (Some(image), Some(to)) = (whole(&body.image), whole(&body.to)) else {
        return FlyError::bad_request("both are image references with tags").into_response();
    };
    core.write(|world| world.platform.moved_tags.insert(image, to));
    StatusCode::NO_CONTENT.into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PrivateImage {
    /// `ghcr.io/me/app`, without a tag.
    image: String,
    username: String,
    password: String,
    #[serde(default)]
    bearer: bool,
    #[serde(default)]
    public_pull: bool,
}

/// Makes an image of another registry one that only this user may read.
async fn private_image(State(core): State<Shared>, Json(body): Json<PrivateImage>) -> StatusCode {
    let private = crate::platform::private::Private {
        username: body.username,
        password: body.password,
        bearer: body.bearer,
        public_pull: body.public_pull,
    };
    core.write(|world| world.platform.private_images.insert(body.image, private));
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicImage {
    image: String,
}

async fn public_image(State(core): State<Shared>, Json(body): Json<PublicImage>) -> StatusCode {
    core.write(|world| world.platform.private_images.remove(&body.image));
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewToken {
    org: String,
    /// Only for this app.
    app: Option<String>,
    #[serde(default)]
    read_only: bool,
    /// How long it lives; negative is over already.
    expires_in_s: Option<i64>,
}

/// Makes a macaroon; the answer has it without a scheme.
async fn token(State(core): State<Shared>, Json(wanted): Json<NewToken>) -> Response {
    let scope = match wanted.app {
        Some(app) => Scope::App(app),
        None if wanted.read_only => Scope::ReadOnly,
        None => Scope::Org,
    };
    let expires_at = wanted.expires_in_s.and_then(|seconds| {
        Timestamp::now()
            .checked_add(SignedDuration::from_secs(seconds))
            .ok()
    });
    let made =
        core.write(|world| tokens::issue(world, &wanted.org, scope, "by control", expires_at));
    match made {
        Ok((id, token)) => Json(json!({"id": id, "token": token})).into_response(),
        Err(error) => error.into_response(),
    }
}

/// Digests of an app's secrets by name, for oracles.
pub fn digests(core: &Shared, app: &str) -> BTreeMap<String, String> {
    core.read(|world| {
        world
            .apps
            .get(app)
            .map(|app| app.platform.secrets.digests())
            .unwrap_or_default()
    })
}
