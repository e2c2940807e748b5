//! What every request passes through: it is measured, logged, and broken where a switch says so.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::fault::{ErrorShare, Faults};
use crate::health::{HEALTHZ, READYZ};
use crate::metrics::{Kind, Metrics};
use crate::pages::METRICS;
use crate::problem::Problem;
use crate::webhooks::PROBE_HEADER;

/// Measures requests, and slows or fails them where a switch says so.
pub struct Traffic {
    metrics: Arc<Metrics>,
    slow: Option<Duration>,
    slow_text: Option<Duration>,
    slow_audio: Option<Duration>,
    silence: bool,
    errors: ErrorShare,
}

impl Traffic {
    /// Takes the switches `slow`, `slow-text`, `slow-audio`, `silence` and `errors` from `faults`.
    pub fn new(metrics: Arc<Metrics>, faults: &Faults) -> Self {
        Self {
            metrics,
            slow: faults.slow,
            slow_text: faults.slow_text,
            slow_audio: faults.slow_audio,
            silence: faults.silence,
            errors: ErrorShare::new(faults.errors_percent),
        }
    }
}

/// Probes of the platform are counted apart: at a check every few seconds they would drown the
/// guests' requests, whose share of errors is the one that matters.
fn is_probe(route: &str) -> bool {
    [HEALTHZ, READYZ, METRICS].contains(&route)
}

/// Golive's requests are no guests' either: many of them are forged on purpose, and their refusals
/// are no errors.
fn is_golives(request: &Request) -> bool {
    request.headers().contains_key(PROBE_HEADER)
}

/// The middleware.
pub async fn pass(State(traffic): State<Arc<Traffic>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());

    if is_probe(&route) {
        let response = next.run(request).await;
        traffic.metrics.probe(&route, response.status().as_u16());
        return response;
    }

    let golives = is_golives(&request);
    let _in_flight = traffic.metrics.begin();
    if let Some(pause) = traffic.slow {
        tokio::time::sleep(pause).await;
    }
    let response = if traffic.errors.next_fails() {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the switch errors is on").into_response()
    } else {
        next.run(request).await
    };

    let kind = response
        .extensions()
        .get::<Kind>()
        .copied()
        .unwrap_or_default();
    let pause = match kind {
        Kind::Text => traffic.slow_text,
        Kind::Audio => traffic.slow_audio,
    };
    if let Some(pause) = pause {
        tokio::time::sleep(pause).await;
    }
    let status = response.status().as_u16();
    let took = started.elapsed();
    if golives {
        traffic.metrics.probe(&route, status);
    } else if !traffic.silence {
        traffic.metrics.request(&route, kind, status, took);
    }
    // The route and never the path with its query: those carry verify tokens and guests' data.
    tracing::info!(
        %method,
        route,
        status,
        milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        "request"
    );
    response
}
