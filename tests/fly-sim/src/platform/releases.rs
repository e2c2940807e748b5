//! Releases and builds: what flyctl tells Fly about a deployment.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use axum::{Extension, Json, Router};
use http::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::core::{CallId, Shared};
use crate::error::{FlyError, FlyResult};
use crate::id;
use crate::state::{App, Caller};
use crate::strict::{Strict, StrictQuery};

/// Strategies that Fly knows.
const STRATEGIES: &[&str] = &[
    "BLUEGREEN",
    "CANARY",
    "IMMEDIATE",
    "ROLLING",
    "ROLLING_ONE",
    "SIMPLE",
];

/// A release.
#[derive(Clone, Debug)]
pub struct Release {
    /// Opaque id.
    pub id: String,
    /// 1, 2, 3, ... in its app.
    pub version: u64,
    /// `pending`, `running`, `complete`, `failed`, `interrupted`.
    pub status: String,
    /// Upper case.
    pub strategy: String,
    /// Image reference.
    pub image_ref: String,
    /// flyctl's application config as JSON.
    pub definition: Value,
    /// Whose token.
    pub user: String,
    /// When.
    pub created_at: Timestamp,
    /// What the client said at the end.
    pub metadata: Value,
}

impl Release {
    fn json(&self) -> Value {
        json!({
            "id": self.id,
            "version": self.version,
            "stable": self.status == "complete",
            "in_progress": matches!(self.status.as_str(), "pending" | "running"),
            "status": self.status,
            "strategy": self.strategy,
            "user": self.user,
            "created_at": self.created_at.to_string(),
            "image_ref": self.image_ref,
        })
    }

    /// As GraphQL shows it.
    pub fn graph(&self) -> Value {
        json!({
            "__typename": "ReleaseUnprocessed",
            "id": self.id,
            "version": self.version,
            "description": "Release",
            "reason": "deploy",
            "status": self.status,
            "stable": self.status == "complete",
            "inProgress": matches!(self.status.as_str(), "pending" | "running"),
            "imageRef": self.image_ref,
            "configDefinition": self.definition,
            "deploymentStrategy": self.strategy,
            "user": {
                "__typename": "User", "id": self.user, "email": self.user, "name": self.user,
            },
            "createdAt": self.created_at.to_string(),
            "evaluationId": null,
        })
    }

    /// Whether the status may become `next`.
    fn may_become(&self, next: &str) -> bool {
        match self.status.as_str() {
            same if same == next => true,
            "pending" => matches!(next, "running" | "complete" | "failed" | "interrupted"),
            "running" => matches!(next, "complete" | "failed" | "interrupted"),
            _ => false,
        }
    }
}

/// The routes of releases and builds.
pub fn router() -> Router<Shared> {
    Router::new()
        .route("/api/v1/releases", post(create))
        .route("/api/v1/releases/all_current", get(all_current))
        .route("/api/v1/releases/{id}", patch(update))
        .route("/api/v1/apps/{app}/releases", get(list))
        .route("/api/v1/apps/{app}/releases/current", get(current))
        .route("/api/v1/builds", post(build))
        .route("/api/v1/builds/finish", post(finish_build))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    app_name: String,
    #[serde(default)]
    #[expect(dead_code, reason = "accepted; builds have no life here")]
    build_id: Option<Value>,
    #[serde(default)]
    definition: Value,
    image: String,
    strategy: String,
}

async fn create(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Strict(body): Strict<Create>,
) -> FlyResult<Response> {
    let release = record(
        &core,
        &caller,
        call,
        &body.app_name,
        &body.image,
        &body.strategy,
        body.definition,
    )?;
    Ok((
        StatusCode::CREATED,
        Json(json!({"release": release.json()})),
    )
        .into_response())
}

/// Adds a release to an app.
pub fn record(
    core: &Shared,
    caller: &Caller,
    call: CallId,
    app: &str,
    image: &str,
    strategy: &str,
    definition: Value,
) -> FlyResult<Release> {
    if !STRATEGIES.contains(&strategy) {
        return Err(FlyError::unprocessable(format!(
            "Validation failed: Strategy '{strategy}' is not one of {}",
            STRATEGIES.join(", ")
        )));
    }
    let user = caller
        .tokens
        .first()
        .map_or_else(String::new, |token| format!("{}@tokens.fly.io", token.id));
    let release = core.write(|world| {
        let app = world.app_mut(caller, app)?;
        let releases = &mut app.platform.releases;
        let release = Release {
            id: id::short(20),
            version: releases.last().map_or(0, |last| last.version) + 1,
            status: "pending".to_owned(),
            strategy: strategy.to_owned(),
            image_ref: image.to_owned(),
            definition,
            user,
            created_at: Timestamp::now(),
            metadata: Value::Null,
        };
        releases.push(release.clone());
        Ok::<_, FlyError>(release)
    })?;
    core.effect(
        call,
        "release.create",
        Some(app),
        &release.id,
        &release.version.to_string(),
        BTreeMap::new(),
        json!({"image": image, "strategy": strategy}),
    );
    Ok(release)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Update {
    status: String,
    #[serde(default)]
    metadata: Value,
}

async fn update(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path(id): Path<String>,
    Strict(body): Strict<Update>,
) -> FlyResult<Json<Value>> {
    let release = set_status(&core, &caller, call, &id, &body.status, body.metadata)?;
    Ok(Json(release.json()))
}

/// Moves a release on.
pub fn set_status(
    core: &Shared,
    caller: &Caller,
    call: CallId,
    id: &str,
    status: &str,
    metadata: Value,
) -> FlyResult<Release> {
    let missing = || FlyError::not_found(format!("Release {id} not found"));
    let (app, release) = core.write(|world| {
        let app: &mut App = world
            .apps
            .values_mut()
            .filter(|app| caller.changes(app))
            .find(|app| app.platform.releases.iter().any(|r| r.id == id))
            .ok_or_else(missing)?;
        let name = app.name.clone();
        let release = app
            .platform
            .releases
            .iter_mut()
            .find(|release| release.id == id)
            .ok_or_else(missing)?;
        if !release.may_become(status) {
            return Err(FlyError::unprocessable(format!(
                "Validation failed: Status cannot change from {} to {status}",
                release.status
            )));
        }
        status.clone_into(&mut release.status);
        if !metadata.is_null() {
            release.metadata = metadata;
        }
        Ok((name, release.clone()))
    })?;
    core.effect(
        call,
        "release.update",
        Some(&app),
        id,
        &release.version.to_string(),
        BTreeMap::new(),
        json!({"status": status}),
    );
    Ok(release)
}

#[derive(Deserialize)]
struct Limit {
    limit: Option<usize>,
}

async fn list(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(app): Path<String>,
    StrictQuery(query): StrictQuery<Limit>,
) -> FlyResult<Json<Value>> {
    core.read(|world| {
        let app = world.app(&caller, &app)?;
        let newest_first = app.platform.releases.iter().rev();
        let releases: Vec<_> = newest_first
            .take(query.limit.unwrap_or(25))
            .map(Release::json)
            .collect();
        Ok(Json(json!({"releases": releases})))
    })
}

async fn current(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(app): Path<String>,
) -> FlyResult<Json<Value>> {
    core.read(|world| {
        let app = world.app(&caller, &app)?;
        app.platform
            .releases
            .last()
            .map(|release| Json(release.json()))
            .ok_or_else(|| FlyError::not_found("Release not found"))
    })
}

async fn all_current(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
) -> Json<Value> {
    let releases: Vec<_> = core.read(|world| {
        world
            .apps
            .values()
            .filter(|app| caller.sees(app))
            .filter_map(|app| app.platform.releases.last().map(Release::json))
            .collect()
    });
    Json(json!({"releases": releases}))
}

#[derive(Deserialize)]
struct Build {
    app_name: String,
    builder_type: String,
}

async fn build(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Strict(body): Strict<Build>,
) -> FlyResult<Json<Value>> {
    let number = core.write(|world| {
        world.app_mut(&caller, &body.app_name)?;
        Ok::<_, FlyError>(world.number())
    })?;
    core.effect(
        call,
        "build.create",
        Some(&body.app_name),
        &number.to_string(),
        "",
        BTreeMap::new(),
        json!({"builder": body.builder_type}),
    );
    Ok(Json(
        json!({"id": number, "status": "started", "wallclock_time_ms": 0}),
    ))
}

async fn finish_build(Strict(report): Strict<Value>) -> Json<Value> {
    let id = &report["build_id"];
    Json(json!({"id": id, "status": "completed", "wallclock_time_ms": 0}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finished_release_stays_as_it_is() {
        let release = |status: &str| Release {
            id: String::new(),
            version: 1,
            status: status.to_owned(),
            strategy: "ROLLING".to_owned(),
            image_ref: String::new(),
            definition: Value::Null,
            user: String::new(),
            created_at: Timestamp::UNIX_EPOCH,
            metadata: Value::Null,
        };
        assert!(release("pending").may_become("running"));
        assert!(release("running").may_become("interrupted"));
        assert!(!release("running").may_become("pending"));
        assert!(!release("complete").may_become("failed"));
        assert!(!release("pending").may_become("done"));
    }
}
