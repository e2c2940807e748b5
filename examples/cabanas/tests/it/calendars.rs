//! Calendars: what we export, what we import, and how old it is.

use cabanas::calendar::import_token;
use http::{Method, StatusCode};

use crate::http::{get, metric, post, send};
use crate::world::{LIMIT, World};

const EXPORT: &str = "/api/v1/ical/export.ics";
const IMPORT: &str = "/api/v1/ical/import?source=airbnb-1&cabin=1";
const AIRBNB: &str = "BEGIN:VCALENDAR\r\nPRODID:-//Airbnb Inc//Hosting Calendar 1.0//EN\r\nVERSION:2.0\r\nBEGIN:VEVENT\r\nDTEND;VALUE=DATE:20310112\r\nDTSTART;VALUE=DATE:20310110\r\nUID:a@airbnb.com\r\nSUMMARY:Reserved\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n";

fn bearer(source: &str) -> String {
    format!("Bearer {}", import_token(&"ics-canary".into(), source))
}

fn stay(cabin: u32) -> String {
    format!(
        r#"{{"cabin":{cabin},"check_in":"2031-01-10","check_out":"2031-01-12","guest_name":"Ana Núñez"}}"#
    )
}

#[tokio::test]
async fn the_export_is_a_calendar_with_the_booked_nights_and_no_guest() {
    let world = World::migrated().await;
    let service = world.serve(&[]).await;
    let to = service.address();
    post(
        to,
        "/api/v1/reservations",
        &[("idempotency-key", "a")],
        stay(1),
    )
    .await;

    let export = get(to, EXPORT).await;

    assert_eq!(
        export.header("content-type"),
        "text/calendar; charset=utf-8"
    );
    assert!(
        export
            .body
            .contains("DTSTART;VALUE=DATE:20310110\r\nDTEND;VALUE=DATE:20310112\r\n")
    );
    assert!(!export.body.contains("Ana"));
    assert_eq!(get(to, EXPORT).await.body, export.body);
    let known = [("if-none-match", export.header("etag"))];
    let again = send(to, Method::GET, EXPORT, &known, "").await;
    assert_eq!(again.status, StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn imported_nights_cannot_be_booked_until_their_channel_frees_them() {
    let world = World::migrated().await;
    let service = world.serve(&[]).await;
    let to = service.address();
    let authorization = bearer("airbnb-1");
    let headers = [("authorization", authorization.as_str())];

    let imported = post(to, IMPORT, &headers, AIRBNB).await;
    assert_eq!(imported.status, StatusCode::OK, "{}", imported.body);
    let taken = post(
        to,
        "/api/v1/reservations",
        &[("idempotency-key", "a")],
        stay(1),
    )
    .await;
    assert_eq!(taken.status, StatusCode::CONFLICT);

    let empty = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nEND:VCALENDAR\r\n";
    post(to, IMPORT, &headers, empty).await;
    let free = post(
        to,
        "/api/v1/reservations",
        &[("idempotency-key", "b")],
        stay(1),
    )
    .await;
    assert_eq!(free.status, StatusCode::CREATED, "{}", free.body);
}

#[tokio::test]
async fn an_import_needs_the_token_of_its_own_source_and_a_real_calendar() {
    let world = World::migrated().await;
    let service = world.serve(&[]).await;
    let to = service.address();
    let (other, own) = (bearer("booking-1"), bearer("airbnb-1"));

    assert_eq!(
        post(to, IMPORT, &[], AIRBNB).await.status,
        StatusCode::UNAUTHORIZED
    );
    let refused = post(to, IMPORT, &[("authorization", &other)], AIRBNB).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    let html = post(to, IMPORT, &[("authorization", &own)], "<html>").await;
    assert_eq!(html.status, StatusCode::UNPROCESSABLE_ENTITY);
    let count = world
        .scalar("select count(*)::text from calendar_sync")
        .await;
    assert_eq!(count.as_deref(), Some("0"));
}

#[tokio::test]
async fn the_gauge_grows_with_the_age_of_the_oldest_import() {
    let world = World::migrated().await;
    world
        .scalar(
            "insert into calendar_sync values ('airbnb-1', 1, now() - interval '90 minutes') \
             returning source",
        )
        .await;
    let service = world.serve(&[]).await;
    let to = service.address();
    let gauge = "ical_last_sync_age_minutes";
    tokio::time::timeout(LIMIT, async {
        while metric(to, gauge).await < 89.0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();

    let authorization = bearer("airbnb-1");
    post(to, IMPORT, &[("authorization", &authorization)], AIRBNB).await;

    assert!(metric(to, gauge).await < 1.0);
}

#[tokio::test]
async fn feeds_are_imported_by_themselves() {
    let world = World::migrated().await;
    let channel = world.serve(&[]).await;
    post(
        channel.address(),
        "/api/v1/reservations",
        &[("idempotency-key", "a")],
        stay(2),
    )
    .await;
    let feed = format!("booking-3/3=http://{}{EXPORT}", channel.address());

    let service = world.serve(&[("ICAL_FEEDS", &feed)]).await;

    let sql =
        "select count(*)::text from calendar_block where source = 'booking-3' and cabin_id = 3";
    tokio::time::timeout(LIMIT, async {
        while world.scalar(sql).await.as_deref() != Some("1") {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    drop(service);
}

#[tokio::test]
async fn ical_stale_says_at_least_that_age() {
    let world = World::migrated().await;
    let service = world.serve(&[("CABANAS_FAULT", "ical-stale=90")]).await;
    let gauge = "ical_last_sync_age_minutes";
    tokio::time::timeout(LIMIT, async {
        while metric(service.address(), gauge).await < 90.0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn nights_that_two_channels_have_sold_are_counted_and_our_own_ones_are_not() {
    let world = World::migrated().await;
    let service = world.serve(&[]).await;
    let to = service.address();
    let key = [("idempotency-key", "a")];
    post(to, "/api/v1/reservations", &key, stay(1)).await;
    let authorization = bearer("airbnb-1");
    let headers = [("authorization", authorization.as_str())];
    let nights = "ical_double_booked_nights";
    post(to, IMPORT, &headers, AIRBNB).await;
    assert_eq!(metric(to, nights).await, 0.0);

    let longer = AIRBNB.replace("DTSTART;VALUE=DATE:20310110", "DTSTART;VALUE=DATE:20310109");
    post(to, IMPORT, &headers, longer).await;

    assert_eq!(metric(to, nights).await, 2.0);
    let status = get(to, "/api/v1/ical/status").await.json();
    assert_eq!(status["double_booked_nights"], 2);
    assert_eq!(status["events"], 1);
    assert!(status["last_success"].as_str().unwrap().ends_with('Z'));
}
