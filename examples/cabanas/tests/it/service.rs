//! A service that is well: health, readiness, metrics, homepage, shutdown.

use std::time::Duration;

use cabanas::server::Stopped;
use http::StatusCode;

use crate::http::{get, metric};
use crate::world::World;

#[tokio::test]
async fn a_well_service_passes_all_five_smoke_checks() {
    let world = World::migrated().await;
    let service = world.serve(&[]).await;

    let health = get(service.address(), "/api/v1/healthz").await;
    let ready = get(service.address(), "/api/v1/readyz").await;
    let metrics = get(service.address(), "/metrics").await;
    let homepage = get(service.address(), "/").await;

    assert_eq!(health.status, StatusCode::OK);
    assert_eq!(health.json()["database"], "ok");
    assert_eq!(ready.status, StatusCode::OK, "{}", ready.body);
    assert_eq!(ready.json()["migrations"], "ok");
    assert_eq!(ready.json()["redis"], "ok");
    assert_eq!(metrics.status, StatusCode::OK);
    assert_eq!(
        metrics.header("content-type"),
        "text/plain; version=0.0.4; charset=utf-8"
    );
    assert_eq!(homepage.status, StatusCode::OK);
    assert!(homepage.body.contains("sist-cabanas-mvp"));
    assert!(homepage.body.contains("1.5.0"));
}

#[tokio::test]
async fn health_looks_at_redis_only_when_the_switch_says_so() {
    let mut world = World::migrated().await;
    let without = world.serve(&[]).await;
    let with = world.serve(&[("HEALTHZ_CHECKS_REDIS", "true")]).await;
    assert_eq!(
        get(with.address(), "/api/v1/healthz").await.json()["redis"],
        "ok"
    );

    world.stop_redis();

    let health = get(without.address(), "/api/v1/healthz").await;
    assert_eq!(health.status, StatusCode::OK, "{}", health.body);
    let health = get(with.address(), "/api/v1/healthz").await;
    assert_eq!(health.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(health.json()["redis"], "unreachable");
    let ready = get(without.address(), "/api/v1/readyz").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_service_without_its_schema_is_healthy_but_not_ready() {
    let world = World::start().await;
    let service = world.serve(&[]).await;

    let health = get(service.address(), "/api/v1/healthz").await;
    let ready = get(service.address(), "/api/v1/readyz").await;

    assert_eq!(health.status, StatusCode::OK);
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ready.json()["migrations"], "pending");
}

#[tokio::test]
async fn requests_are_measured_by_route_and_probes_apart() {
    let world = World::migrated().await;
    let service = world.serve(&[]).await;
    let to = service.address();

    for path in ["/", "/", "/api/v1/healthz", "/no/such/page?token=canary"] {
        get(to, path).await;
    }

    let count = r#"http_requests_total{status="200",route="/",kind="text"}"#;
    let bucket = r#"http_request_duration_seconds_bucket{kind="text",route="/",le="3"}"#;
    let unmatched = r#"http_requests_total{status="404",route="unmatched",kind="text"}"#;
    let probe = r#"http_probes_total{status="200",route="/api/v1/healthz"}"#;
    assert_eq!(metric(to, count).await, 2.0);
    assert_eq!(metric(to, bucket).await, 2.0);
    assert_eq!(metric(to, unmatched).await, 1.0);
    assert_eq!(metric(to, probe).await, 1.0);
    assert!(metric(to, "process_start_time_seconds").await > 1.7e9);
    let text = get(to, "/metrics").await.body;
    assert!(!text.contains("route=\"/api/v1/healthz\",kind"), "{text}");
    assert!(!text.contains("canary"), "{text}");
}

#[tokio::test]
async fn a_stopping_service_finishes_the_request_that_is_running() {
    let world = World::migrated().await;
    let service = world.serve(&[("CABANAS_FAULT", "slow=400")]).await;
    let to = service.address();
    let running = tokio::spawn(async move { get(to, "/").await });
    // Probes are not slow: once one of them sees the connection of the other request, it runs.
    tokio::time::timeout(crate::world::LIMIT, async {
        while metric(to, "http_requests_in_flight").await < 1.0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();

    let stopped = service.0.stop(Duration::from_secs(20)).await;

    assert_eq!(stopped, Stopped::Drained);
    assert_eq!(running.await.unwrap().status, StatusCode::OK);
    assert!(std::net::TcpStream::connect(to).is_err());
}

#[tokio::test]
async fn a_stopping_service_does_not_wait_longer_than_its_grace() {
    let world = World::migrated().await;
    let service = world.serve(&[("CABANAS_FAULT", "slow=60000")]).await;
    let to = service.address();
    let running = tokio::spawn(async move { get(to, "/").await });
    tokio::time::timeout(crate::world::LIMIT, async {
        while metric(to, "http_requests_in_flight").await < 1.0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();

    let stopped = service.0.stop(Duration::from_millis(100)).await;

    assert_eq!(stopped, Stopped::CutOff);
    running.abort();
}

#[tokio::test]
async fn hello_answers_the_same_probes_without_any_database() {
    let router = cabanas::hello::router(
        "hola".to_owned(),
        "1.0".to_owned(),
        &cabanas::fault::Faults::default(),
        false,
    );
    let listener = cabanas::server::listen(Some([127, 0, 0, 1].into()), 0).await;
    let running = cabanas::server::serve(listener.unwrap(), router).unwrap();
    let to = running.address();

    for path in ["/", "/api/v1/healthz", "/api/v1/readyz", "/metrics"] {
        assert_eq!(get(to, path).await.status, StatusCode::OK, "{path}");
    }
    assert!(get(to, "/").await.body.contains("<h1>hola</h1>"));
    assert!(!get(to, "/metrics").await.body.contains("ical_"));
}
