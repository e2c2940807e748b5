//! `GET /api/v1/rehearsal`: a request that takes as long and ends as it says, for rehearsals of the watch.
//!
//! It is there only with `CABANAS_REHEARSAL=true`. `cabanas traffic` asks it.

use std::time::Duration;

use axum::extract::Query;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use crate::metrics::Kind;
use crate::problem::Problem;

/// Route of the endpoint.
pub const ROUTE: &str = "/api/v1/rehearsal";

/// Longest time that a request may ask for.
pub const LONGEST: Duration = Duration::from_secs(60);

/// What a request asks for.
#[derive(Debug, Deserialize)]
struct Part {
    /// `text` or `audio`.
    kind: String,
    /// How long it takes.
    milliseconds: u64,
    /// How it ends.
    status: u16,
}

/// The route, if it is wanted.
pub fn routes<S: Clone + Send + Sync + 'static>(wanted: bool) -> Router<S> {
    match wanted {
        true => Router::new().route(ROUTE, get(play)),
        false => Router::new(),
    }
}

async fn play(Query(part): Query<Part>) -> Response {
    let kind = match part.kind.as_str() {
        "text" => Kind::Text,
        "audio" => Kind::Audio,
        _ => return refused("kind must be text or audio"),
    };
    let status = StatusCode::from_u16(part.status).ok();
    let Some(status) = status.filter(|status| (200..600).contains(&status.as_u16())) else {
        return refused("status must be from 200 to 599");
    };
    let time = Duration::from_millis(part.milliseconds);
    if time > LONGEST {
        return refused("milliseconds must be at most 60000");
    }
    tokio::time::sleep(time).await;
    let mut response = (status, Json(json!({"played": true}))).into_response();
    response.extensions_mut().insert(kind);
    response
}

fn refused(why: &'static str) -> Response {
    Problem::new(StatusCode::BAD_REQUEST, why).into_response()
}
