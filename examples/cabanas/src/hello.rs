//! `cabanas hello`: the smallest service that can go live, without database, Redis and secrets.
//!
//! It answers the same health, readiness and metrics endpoints, so that an Activation without a
//! provision section has something to activate.

use std::sync::Arc;

use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use http::StatusCode;
use serde_json::json;

use crate::fault::Faults;
use crate::health::{HEALTHZ, READYZ};
use crate::metrics::{Metrics, epoch_seconds};
use crate::pages;
use crate::problem::Problem;
use crate::rehearsal;
use crate::traffic::{self, Traffic};

/// The routes of `hello`. Only the switches of [`Traffic`], `no-metrics` and `ical-stale` apply; with the last
/// one it shows the gauges of calendars that were imported when it started.
pub fn router(app: String, version: String, faults: &Faults, rehearsal: bool) -> Router {
    let calendars = faults.ical_stale_minutes.is_some();
    let metrics = Arc::new(Metrics::new(calendars, faults));
    if calendars {
        metrics.calendars_synced_at(epoch_seconds() as u64);
    }
    let well = {
        let version = version.clone();
        move || {
            let answer = Json(json!({ "status": "ok", "version": version }));
            async move { answer.into_response() }
        }
    };
    let page = Html(pages::html(&app, &version));
    let exposed = Arc::clone(&metrics);
    let no_metrics = faults.no_metrics;
    Router::new()
        .route("/", get(move || async move { page }))
        .route(HEALTHZ, get(well.clone()))
        .route(READYZ, get(well))
        .route(
            pages::METRICS,
            get(move || async move { exposition(&exposed, no_metrics) }),
        )
        .merge(rehearsal::routes(rehearsal))
        .layer(middleware::from_fn_with_state(
            Arc::new(Traffic::new(metrics, faults)),
            traffic::pass,
        ))
}

fn exposition(metrics: &Metrics, no_metrics: bool) -> Response {
    match no_metrics {
        true => Problem::new(StatusCode::NOT_FOUND, "there is nothing here").into_response(),
        false => pages::exposition(metrics),
    }
}
