//! Booking a cabin once, and listing what is taken.

use http::StatusCode;

use crate::http::{Answer, get, post};
use crate::world::{Service, World};

const ROUTE: &str = "/api/v1/reservations";

fn stay(cabin: u32, from: &str, to: &str) -> String {
    format!(
        r#"{{"cabin":{cabin},"check_in":"{from}","check_out":"{to}","guest_name":"Ana Núñez","guest_phone":"+54 9 294 400"}}"#
    )
}

async fn book(service: &Service, key: &str, body: &str) -> Answer {
    let headers = [("idempotency-key", key)];
    post(service.address(), ROUTE, &headers, body.to_owned()).await
}

#[tokio::test]
async fn the_same_key_books_once_and_gets_the_same_answer() {
    let world = World::migrated().await;
    let service = world.serve(&[]).await;
    let body = stay(1, "2031-01-10", "2031-01-12");

    let first = book(&service, "key-1", &body).await;
    let second = book(&service, "key-1", &body).await;

    assert_eq!(first.status, StatusCode::CREATED, "{}", first.body);
    assert_eq!(second.status, StatusCode::CREATED);
    assert_eq!(first.body, second.body);
    assert_eq!(second.header("idempotency-replayed"), "true");
    let count = world.scalar("select count(*)::text from reservation").await;
    assert_eq!(count.as_deref(), Some("1"));
}

#[tokio::test]
async fn the_same_key_books_once_even_when_redis_is_gone() {
    let mut world = World::migrated().await;
    let service = world.serve(&[]).await;
    let body = stay(1, "2031-01-10", "2031-01-12");
    let first = book(&service, "key-1", &body).await;

    world.stop_redis();
    let second = book(&service, "key-1", &body).await;
    let other = book(&service, "key-1", &stay(2, "2031-01-10", "2031-01-12")).await;

    assert_eq!(first.body, second.body);
    assert_eq!(second.status, StatusCode::CREATED);
    assert_eq!(other.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn twenty_requests_at_once_with_one_key_book_once() {
    let world = World::migrated().await;
    let service = world.serve(&[]).await;
    let body = stay(1, "2031-01-10", "2031-01-12");

    let all = futures::future::join_all((0..20).map(|_| book(&service, "key-1", &body))).await;

    assert!(all.iter().any(|a| a.status == StatusCode::CREATED));
    assert!(
        all.iter()
            .all(|a| [StatusCode::CREATED, StatusCode::CONFLICT].contains(&a.status))
    );
    let count = world.scalar("select count(*)::text from reservation").await;
    assert_eq!(count.as_deref(), Some("1"));
}

#[tokio::test]
async fn a_key_cannot_be_used_for_another_request() {
    let world = World::migrated().await;
    let service = world.serve(&[]).await;
    book(&service, "key-1", &stay(1, "2031-01-10", "2031-01-12")).await;

    let other = book(&service, "key-1", &stay(2, "2031-01-10", "2031-01-12")).await;

    assert_eq!(other.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn two_guests_never_share_a_cabin_but_may_change_on_the_same_day() {
    let world = World::migrated().await;
    let service = world.serve(&[]).await;
    book(&service, "a", &stay(1, "2031-01-10", "2031-01-12")).await;

    let overlapping = book(&service, "b", &stay(1, "2031-01-11", "2031-01-13")).await;
    let next = book(&service, "c", &stay(1, "2031-01-12", "2031-01-13")).await;
    let elsewhere = book(&service, "d", &stay(2, "2031-01-11", "2031-01-13")).await;

    assert_eq!(overlapping.status, StatusCode::CONFLICT);
    assert_eq!(next.status, StatusCode::CREATED, "{}", next.body);
    assert_eq!(elsewhere.status, StatusCode::CREATED);
}

#[tokio::test]
async fn wrong_requests_are_refused_and_say_why() {
    let world = World::migrated().await;
    let service = world.serve(&[]).await;

    let no_key = post(
        service.address(),
        ROUTE,
        &[],
        stay(1, "2031-01-10", "2031-01-12"),
    )
    .await;
    assert_eq!(no_key.status, StatusCode::BAD_REQUEST);
    assert!(no_key.body.contains("Idempotency-Key"), "{}", no_key.body);
    let cases = [
        ("{".to_owned(), StatusCode::BAD_REQUEST, "not a reservation"),
        (
            stay(1, "2031-02-30", "2031-03-02"),
            StatusCode::BAD_REQUEST,
            "not a reservation",
        ),
        (
            stay(1, "2031-01-12", "2031-01-12"),
            StatusCode::UNPROCESSABLE_ENTITY,
            "check_out",
        ),
        (
            stay(9, "2031-01-10", "2031-01-12"),
            StatusCode::UNPROCESSABLE_ENTITY,
            "no such cabin",
        ),
    ];
    for (number, (body, status, word)) in cases.into_iter().enumerate() {
        let answer = book(&service, &number.to_string(), &body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
        assert!(answer.body.contains(word), "{}", answer.body);
    }
}

#[tokio::test]
async fn the_list_shows_a_new_booking_at_once_and_no_guest() {
    let world = World::migrated().await;
    let service = world.serve(&[]).await;
    let to = service.address();
    assert_eq!(
        get(to, ROUTE).await.json()["reservations"]
            .as_array()
            .unwrap()
            .len(),
        0
    );
    assert_eq!(
        get(to, ROUTE).await.json()["reservations"]
            .as_array()
            .unwrap()
            .len(),
        0
    );

    book(&service, "a", &stay(1, "2031-01-10", "2031-01-12")).await;

    let list = get(to, ROUTE).await;
    assert_eq!(list.json()["reservations"][0]["check_in"], "2031-01-10");
    assert!(
        !list.body.contains("Ana") && !list.body.contains("+54"),
        "{}",
        list.body
    );
}
