//! `/healthz`, `/readyz` and `/metrics`, on one plain HTTP port.
//!
//! Healthy: the work queue moves, for somebody. A failing probe makes Kubernetes restart the pod, so it covers
//! nothing that a restart cannot correct, such as Fly.io or the API server. Ready: the caches are
//! filled, and the definitions in the cluster have all fields of this version. A standby replica is
//! ready, because it can take over.
//!
//! Nothing here needs authentication, and none of it is secret.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::process::metrics::Metrics;
use crate::process::skew::Skew;

/// How long no work may begin or end while work is due, before `/healthz` fails.
pub const QUEUE_STALL: Duration = Duration::from_secs(60);

/// The media type of OpenMetrics, which Prometheus requests by default.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The media type of the older text format, for everything else.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the readiness probe reports. Cheap to clone.
#[derive(Clone, Default)]
pub struct Health {
    caches: Arc<Mutex<Caches>>,
    skew: Arc<Mutex<Option<Skew>>>,
}

/// Name of a cache, and whether it has been filled.
type Caches = BTreeMap<&'static str, bool>;

impl Health {
    /// Without any cache: ready.
    pub fn new() -> Health {
        Health::default()
    }

    /// Readiness requires this cache from now on.
    pub fn expect_cache(&self, name: &'static str) {
        self.lock().entry(name).or_insert(false);
    }

    /// The cache has been filled.
    pub fn cache_filled(&self, name: &'static str) {
        self.lock().insert(name, true);
    }

    /// Names of the caches that are not filled yet.
    fn missing(&self) -> Vec<&'static str> {
        let caches = self.lock();
        let missing = caches.iter().filter(|(_, filled)| !**filled);
        missing.map(|(name, _)| *name).collect()
    }

    /// What the comparison of the definitions found; whether that is news.
    pub fn set_skew(&self, skew: Skew) -> bool {
        let mut known = self.skew.lock().unwrap_or_else(PoisonError::into_inner);
        let news = known.as_ref() != Some(&skew);
        *known = Some(skew);
        news
    }

    /// The last comparison; no difference before the first one.
    pub fn skew(&self) -> Skew {
        let known = self.skew.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Caches> {
        self.caches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone)]
struct AppState {
    metrics: Metrics,
    health: Health,
}

/// A server that listens and does not serve yet.
pub struct Server {
    listener: TcpListener,
    router: Router,
}

impl Server {
    /// Binds the address. With port 0 the system chooses one.
    pub async fn bind(
        listen: SocketAddr,
        metrics: Metrics,
        health: Health,
    ) -> std::io::Result<Server> {
        let listener = TcpListener::bind(listen).await?;
        let router = Router::new()
            .route("/healthz", get(healthz))
            .route("/livez", get(healthz))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics_text))
            .with_state(AppState { metrics, health });
        Ok(Server { listener, router })
    }

    /// The address it listens on.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`. Open connections are then closed after their response.
    pub async fn serve(self, stop: CancellationToken) -> std::io::Result<()> {
        axum::serve(self.listener, self.router)
            .with_graceful_shutdown(stop.cancelled_owned())
            .await
    }
}

async fn healthz(State(state): State<AppState>) -> Response {
    let now = Instant::now();
    let stall = state.metrics.queue().stalled(now, QUEUE_STALL);
    let wrong = stall.map(|stall| {
        format!(
            "the queue has not moved for {} s with {} objects waiting",
            stall.since.as_secs(),
            stall.waiting
        )
    });
    probe(wrong.as_slice())
}

async fn readyz(State(state): State<AppState>) -> Response {
    let missing = state.health.missing();
    let mut wrong: Vec<String> = missing
        .iter()
        .map(|name| format!("cache {name} is not filled yet"))
        .collect();
    let skew = state.health.skew();
    wrong.extend(skew.older());
    match skew.newer() {
        Some(note) if wrong.is_empty() => format!("ok\nnote: {note}\n").into_response(),
        _ => probe(&wrong),
    }
}

fn probe(wrong: &[String]) -> Response {
    if wrong.is_empty() {
        return "ok\n".into_response();
    }
    let text = format!("{}\n", wrong.join("\n"));
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn metrics_text(State(state): State<AppState>, headers: HeaderMap) -> Response {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    let open = accept.is_some_and(|accept| accept.contains("application/openmetrics-text"));
    let (kind, text) = if open {
        (OPEN_METRICS, state.metrics.open_metrics())
    } else {
        (PROMETHEUS, state.metrics.prometheus())
    };
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "cannot encode metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_that_every_expected_cache_is_filled() {
        let health = Health::new();
        assert!(
            health.missing().is_empty(),
            "a replica standing by is ready"
        );
        health.expect_cache("activations");
        health.expect_cache("secrets");
        health.cache_filled("secrets");
        assert_eq!(health.missing(), ["activations"]);
        health.cache_filled("activations");
        // Expected once more, as after a re-list, it stays filled.
        health.expect_cache("activations");
        assert!(health.missing().is_empty());
    }
}
