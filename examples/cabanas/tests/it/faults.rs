//! Every switch breaks the service in its one way, and leaves everything else as it was.
//!
//! The switches that end the process are in `program.rs`, the one of migrations in `migrations.rs`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http::StatusCode;

use crate::http::{get, post};
use crate::world::World;

// Not the list of reservations: it may come from Redis and so says nothing about the database.
const PATHS: [&str; 5] = [
    "/",
    "/api/v1/healthz",
    "/api/v1/readyz",
    "/metrics",
    "/api/v1/ical/export.ics",
];

/// Status of every page, and whether `/` is ours.
async fn look(to: SocketAddr) -> BTreeMap<&'static str, u16> {
    let mut seen = BTreeMap::new();
    for path in PATHS {
        seen.insert(path, get(to, path).await.status.as_u16());
    }
    let ours = get(to, "/").await.body.contains("sist-cabanas-mvp");
    seen.insert("homepage is ours", ours.into());
    // There is no cabin 9, so nothing is booked, but the database is asked.
    let body = r#"{"cabin":9,"check_in":"2031-01-10","check_out":"2031-01-12","guest_name":"Ana"}"#;
    let key = to.to_string();
    let booking = post(
        to,
        "/api/v1/reservations",
        &[("idempotency-key", &key)],
        body,
    )
    .await;
    seen.insert("booking", booking.status.as_u16());
    let unsigned = post(to, "/api/v1/webhooks/whatsapp", &[], "{}").await;
    seen.insert("unsigned webhook", unsigned.status.as_u16());
    seen
}

/// What a switch changes against a service without it.
async fn changes(switch: &str) -> BTreeMap<&'static str, u16> {
    let world = World::migrated().await;
    let well = world.serve(&[]).await;
    let broken = world.serve(&[("CABANAS_FAULT", switch)]).await;
    let before = look(well.address()).await;
    let mut after = look(broken.address()).await;
    after.retain(|what, status| before[what] != *status);
    after
}

#[tokio::test]
async fn never_healthy_changes_health_alone() {
    let wanted = BTreeMap::from([("/api/v1/healthz", 503)]);
    assert_eq!(changes("never-healthy").await, wanted);
}

#[tokio::test]
async fn wrong_homepage_changes_the_homepage_alone() {
    let wanted = BTreeMap::from([("homepage is ours", 0)]);
    assert_eq!(changes("wrong-homepage").await, wanted);
}

#[tokio::test]
async fn wrong_homepage_with_a_status_answers_that_status() {
    let wanted = BTreeMap::from([("/", 404), ("homepage is ours", 0)]);
    assert_eq!(changes("wrong-homepage=404").await, wanted);
}

#[tokio::test]
async fn no_metrics_changes_the_metrics_alone() {
    let wanted = BTreeMap::from([("/metrics", 404)]);
    assert_eq!(changes("no-metrics").await, wanted);
}

#[tokio::test]
async fn no_database_fails_everything_that_needs_it_and_health_says_so() {
    let wanted = BTreeMap::from([
        ("/api/v1/healthz", 503),
        ("/api/v1/readyz", 503),
        ("booking", 503),
        ("/api/v1/ical/export.ics", 503),
    ]);
    assert_eq!(changes("no-database").await, wanted);

    let world = World::migrated().await;
    let service = world.serve(&[("CABANAS_FAULT", "no-database")]).await;
    let health = get(service.address(), "/api/v1/healthz").await;
    assert_eq!(health.json()["database"], "unreachable");
}

#[tokio::test]
async fn accepts_unsigned_takes_deliveries_without_a_signature_and_changes_nothing_else() {
    let wanted = BTreeMap::from([("unsigned webhook", 200)]);
    assert_eq!(changes("accepts-unsigned").await, wanted);
}

#[tokio::test]
async fn slow_delays_requests_but_not_probes_and_changes_no_answer() {
    assert_eq!(changes("slow=30").await, BTreeMap::new());

    let world = World::migrated().await;
    let service = world.serve(&[("CABANAS_FAULT", "slow=3000")]).await;
    let (page, started) = (get(service.address(), "/").await, Instant::now());
    let health = get(service.address(), "/api/v1/healthz").await;
    assert_eq!(
        (page.status, health.status),
        (StatusCode::OK, StatusCode::OK)
    );
    assert!(started.elapsed() < Duration::from_secs(3));
    let sum = r#"http_request_duration_seconds_sum{kind="text",route="/"}"#;
    assert!(crate::http::metric(service.address(), sum).await >= 3.0);
}

#[tokio::test]
async fn errors_fails_exactly_that_share_of_requests_and_no_probe() {
    let world = World::migrated().await;
    let service = world.serve(&[("CABANAS_FAULT", "errors=25")]).await;
    let to = service.address();

    let mut failed = 0;
    for _ in 0..40 {
        failed += usize::from(get(to, "/").await.status == StatusCode::INTERNAL_SERVER_ERROR);
        for probe in ["/api/v1/healthz", "/api/v1/readyz", "/metrics"] {
            assert_eq!(get(to, probe).await.status, StatusCode::OK, "{probe}");
        }
    }

    assert_eq!(failed, 10);
    let series = r#"http_requests_total{status="500",route="/",kind="text"}"#;
    assert_eq!(crate::http::metric(to, series).await, 10.0);
}

#[tokio::test]
async fn ical_stale_changes_the_age_of_the_calendars_alone() {
    assert_eq!(changes("ical-stale=90").await, BTreeMap::new());
}
