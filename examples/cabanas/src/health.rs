//! Whether the service is well and whether it may get requests.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;

use crate::database::chain;
use crate::schema;
use crate::server::App;

/// Is the service well? Fly's own check asks here.
pub const HEALTHZ: &str = "/api/v1/healthz";
/// May the service get requests?
pub const READYZ: &str = "/api/v1/readyz";

/// The answer of both endpoints. Causes go to the log: the endpoints are public.
#[derive(Debug, Serialize)]
struct Health {
    status: &'static str,
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    database: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    migrations: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redis: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

/// `GET /api/v1/healthz`: the database, and Redis when `HEALTHZ_CHECKS_REDIS` says so.
pub async fn healthz(State(app): State<Arc<App>>) -> Response {
    if app.config.faults.never_healthy {
        let health = Health {
            reason: Some("the switch never-healthy is on"),
            ..empty(&app)
        };
        return answer(health);
    }
    let redis = async {
        match app.config.healthz_checks_redis {
            true => Some(redis(&app).await),
            false => None,
        }
    };
    let (database, redis) = tokio::join!(database(&app), redis);
    answer(Health {
        database: Some(database),
        redis,
        ..empty(&app)
    })
}

/// `GET /api/v1/readyz`: the database, its schema, Redis, and whether we are shutting down.
pub async fn readyz(State(app): State<Arc<App>>) -> Response {
    if app.draining.load(Ordering::Relaxed) {
        return answer(Health {
            reason: Some("shutting down"),
            ..empty(&app)
        });
    }
    let schema = async {
        let database = database(&app).await;
        match database {
            OK => (database, migrations(&app).await),
            _ => (database, "unknown"),
        }
    };
    let ((database, migrations), redis) = tokio::join!(schema, redis(&app));
    answer(Health {
        database: Some(database),
        migrations: Some(migrations),
        redis: Some(redis),
        ..empty(&app)
    })
}

const OK: &str = "ok";

async fn database(app: &App) -> &'static str {
    match app.database.ping().await {
        Ok(()) => OK,
        Err(error) => {
            tracing::warn!(error = %chain(&error), "health: the database is unreachable");
            "unreachable"
        }
    }
}

async fn migrations(app: &App) -> &'static str {
    match app.database.applied_schema().await {
        Ok(applied) if schema::current(applied, schema::wanted(&app.config.version)) => OK,
        Ok(_) => "pending",
        Err(error) => {
            tracing::warn!(error = %chain(&error), "health: cannot read the schema version");
            "unknown"
        }
    }
}

async fn redis(app: &App) -> &'static str {
    match app.cache.ping().await {
        Ok(()) => OK,
        Err(error) => {
            tracing::warn!(%error, "health: Redis is unreachable");
            "unreachable"
        }
    }
}

fn empty(app: &App) -> Health {
    Health {
        status: OK,
        version: app.config.version.clone(),
        database: None,
        migrations: None,
        redis: None,
        reason: None,
    }
}

fn answer(mut health: Health) -> Response {
    let parts = [health.database, health.migrations, health.redis];
    let well = health.reason.is_none() && parts.into_iter().flatten().all(|part| part == OK);
    let code = if well {
        StatusCode::OK
    } else {
        health.status = "unavailable";
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, Json(health)).into_response()
}
