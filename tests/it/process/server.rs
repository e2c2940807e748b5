//! Probes and metrics, over HTTP.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::net::SocketAddr;
use std::time::Instant;

use golive::process::metrics::Metrics;
use golive::process::server::{Health, QUEUE_STALL, Server};
use golive::process::workqueue::{Kind, Limits, Object};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio_util::sync::{CancellationToken, DropGuard};

struct Served {
    address: SocketAddr,
    health: Health,
    metrics: Metrics,
    _stop: DropGuard,
}

async fn serve() -> Served {
    let (metrics, health) = (Metrics::new(), Health::new());
    let any = "127.0.0.1:0".parse().unwrap();
    let server = Server::bind(any, metrics.clone(), health.clone())
        .await
        .unwrap();
    let address = server.address().unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(server.serve(stop.clone()));
    Served {
        address,
        health,
        metrics,
        _stop: stop.drop_guard(),
    }
}

async fn get(served: &Served, path: &str, accept: &str) -> (StatusCode, String, String) {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let request = Request::get(format!("http://{}{path}", served.address))
        .header(header::ACCEPT, accept)
        .body(Empty::new())
        .unwrap();
    let answer = client.request(request).await.unwrap();
    let kind = answer.headers().get(header::CONTENT_TYPE);
    let kind = kind
        .map(|kind| kind.to_str().unwrap().to_owned())
        .unwrap_or_default();
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, kind, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn health_turns_red_when_the_queue_stops_with_work_due_and_green_when_it_moves() {
    let served = serve().await;
    for path in ["/healthz", "/livez"] {
        assert_eq!(get(&served, path, "*/*").await.0, StatusCode::OK);
    }
    let queue = served.metrics.queue();
    let past = Instant::now().checked_sub(QUEUE_STALL * 2).unwrap();
    let (due, other) = (
        Object::new("cabanas", "mvp"),
        Object::new("cabanas", "other"),
    );
    queue.limit(Limits {
        workers: 2,
        single: false,
    });
    queue.open(None);
    queue.add(&other, Kind::Change, past, past);
    assert!(queue.next(past).is_some());
    queue.finished(&other, past);
    queue.add(&due, Kind::Change, past, past);
    let (status, _, said) = get(&served, "/healthz", "*/*").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        said,
        "the queue has not moved for 120 s with 1 objects waiting\n"
    );
    assert!(queue.next(Instant::now()).is_some());
    assert_eq!(get(&served, "/healthz", "*/*").await.0, StatusCode::OK);
}

#[tokio::test]
async fn ready_waits_for_caches_and_does_not_disturb_health() {
    let served = serve().await;
    assert_eq!(get(&served, "/readyz", "*/*").await.0, StatusCode::OK);
    served.health.expect_cache("activations");
    let (status, _, said) = get(&served, "/readyz", "*/*").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(said, "cache activations is not filled yet\n");
    assert_eq!(get(&served, "/healthz", "*/*").await.0, StatusCode::OK);
    served.health.cache_filled("activations");
    assert_eq!(get(&served, "/readyz", "*/*").await.0, StatusCode::OK);
}

#[tokio::test]
async fn metrics_come_in_the_format_that_was_asked_for() {
    let served = serve().await;
    served.metrics.set_leader("golive", true);
    let line = "leader_election_master_status{name=\"golive\"} 1";

    let (status, kind, text) = get(&served, "/metrics", "*/*").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    assert!(text.contains(line), "{text}");
    assert!(text.contains("process_resident_memory_bytes"));

    let prometheus = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
    let (_, kind, text) = get(&served, "/metrics", prometheus).await;
    assert_eq!(
        kind,
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    assert!(text.contains(line) && text.ends_with("# EOF\n"), "{text}");
}

#[tokio::test]
async fn nothing_else_is_served() {
    let served = serve().await;
    assert_eq!(get(&served, "/", "*/*").await.0, StatusCode::NOT_FOUND);
    assert_eq!(
        get(&served, "/debug/pprof", "*/*").await.0,
        StatusCode::NOT_FOUND
    );
}
