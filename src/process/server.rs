//! `/healthz`, `/readyz` and `/metrics`, on one plain HTTP port.
//!
//! Healthy means: the process does its work, or could. A probe that fails here makes Kubernetes
//! restart the pod, so nothing that a restart cannot mend is looked at: not Fly.io, not the API
//! server. Ready means: the caches are filled. A replica that stands by is ready, since it can
//! take over; nothing is served that only the leader has.
//!
//! Nothing here needs authentication, and nothing secret is shown.

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

/// So long may the queue stand still with work waiting before the pod should be restarted.
pub const QUEUE_STALL: Duration = Duration::from_secs(60);

/// The media type of OpenMetrics, which Prometheus asks for by default.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The media type of the older text format, which everything else understands.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the probes look at. Cheap to clone.
#[derive(Clone, Default)]
pub struct Health {
    state: Arc<Mutex<Vitals>>,
}

#[derive(Default)]
struct Vitals {
    /// Name of a loop, to its last beat and how long it may stay silent.
    beats: BTreeMap<&'static str, (Instant, Duration)>,
    /// Name of a cache, to whether it has been filled.
    caches: BTreeMap<&'static str, bool>,
}

impl Health {
    /// Nothing to look at yet: healthy and ready.
    pub fn new() -> Health {
        Health::default()
    }

    /// From now on, a loop of this name must beat at least every `limit`.
    pub fn heartbeat(&self, name: &'static str, limit: Duration) -> Heartbeat {
        let beat = Heartbeat {
            health: self.clone(),
            name,
            limit,
        };
        beat.beat();
        beat
    }

    /// From now on, ready means that this cache is filled too.
    pub fn expect_cache(&self, name: &'static str) {
        self.lock().caches.entry(name).or_insert(false);
    }

    /// The cache has been filled.
    pub fn cache_filled(&self, name: &'static str) {
        self.lock().caches.insert(name, true);
    }

    /// What is wrong, by name and in words. Empty when all is well.
    fn stalled(&self, now: Instant) -> Vec<String> {
        let state = self.lock();
        let late = state.beats.iter().filter_map(|(name, (last, limit))| {
            let silent = now.saturating_duration_since(*last);
            (silent > *limit).then(|| format!("{name} has not moved for {} s", silent.as_secs()))
        });
        late.collect()
    }

    /// Names of the caches that are not filled yet.
    fn missing(&self) -> Vec<&'static str> {
        let state = self.lock();
        let missing = state.caches.iter().filter(|(_, filled)| !**filled);
        missing.map(|(name, _)| *name).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vitals> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pulse of one loop. Dropped, the loop has ended and is no longer looked at.
pub struct Heartbeat {
    health: Health,
    name: &'static str,
    limit: Duration,
}

impl Heartbeat {
    /// The loop goes round.
    pub fn beat(&self) {
        let beat = (Instant::now(), self.limit);
        self.health.lock().beats.insert(self.name, beat);
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.health.lock().beats.remove(self.name);
    }
}

#[derive(Clone)]
struct Shown {
    metrics: Metrics,
    health: Health,
}

/// A server that is bound and not yet serving.
pub struct Server {
    listener: TcpListener,
    router: Router,
}

impl Server {
    /// Binds the address. Port 0 lets the system choose.
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
            .with_state(Shown { metrics, health });
        Ok(Server { listener, router })
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`. Connections that are open then are closed after their answer.
    pub async fn serve(self, stop: CancellationToken) -> std::io::Result<()> {
        axum::serve(self.listener, self.router)
            .with_graceful_shutdown(stop.cancelled_owned())
            .await
    }
}

async fn healthz(State(shown): State<Shown>) -> Response {
    let now = Instant::now();
    let mut wrong = shown.health.stalled(now);
    if let Some(stall) = shown.metrics.queue().stalled(now, QUEUE_STALL) {
        wrong.push(format!(
            "the queue has not moved for {} s with {} objects waiting",
            stall.since.as_secs(),
            stall.waiting
        ));
    }
    probe(&wrong)
}

async fn readyz(State(shown): State<Shown>) -> Response {
    let missing = shown.health.missing();
    let wrong: Vec<String> = missing
        .iter()
        .map(|name| format!("cache {name} is not filled yet"))
        .collect();
    probe(&wrong)
}

fn probe(wrong: &[String]) -> Response {
    if wrong.is_empty() {
        return "ok\n".into_response();
    }
    let text = format!("{}\n", wrong.join("\n"));
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn metrics_text(State(shown): State<Shown>, headers: HeaderMap) -> Response {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    let open = accept.is_some_and(|accept| accept.contains("application/openmetrics-text"));
    let (kind, text) = if open {
        (OPEN_METRICS, shown.metrics.open_metrics())
    } else {
        (PROMETHEUS, shown.metrics.prometheus())
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
    fn a_silent_loop_is_named_and_an_ended_one_is_not() {
        let health = Health::new();
        let limit = Duration::from_secs(30);
        let beat = health.heartbeat("controller", limit);
        let now = Instant::now();
        assert_eq!(health.stalled(now + limit / 2), Vec::<String>::new());
        assert_eq!(
            health.stalled(now + limit * 2),
            ["controller has not moved for 60 s"]
        );
        drop(beat);
        assert_eq!(health.stalled(now + limit * 2), Vec::<String>::new());
    }

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
