//! The checks against a real server on loopback, through the requests that the operator makes.

#![allow(clippy::unwrap_used)]

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use axum::{
    Router,
    http::{StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use hyper::Method;

use super::{
    tests::{HEALTHY, STAYS, bad, calendar, calendar_with, now, plan},
    *,
};
use crate::{
    clock::ServerClock,
    net::{
        probe::{Ask, Door, Probe},
        resolve::Resolve,
    },
    phase::integrations::outcome::Ended,
};

/// The port in the rule that leads the application's name to the server.
const DOOR: Door = Door {
    port: 8080,
    tls: false,
};

/// What the application answers for its export, the number of the request before it.
type Export = fn(u32) -> Response;

fn text(body: impl Into<Vec<u8>>) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/calendar; charset=utf-8")];
    (headers, body.into()).into_response()
}

/// Starts an application, and a probe that reaches it by its public name.
async fn served(export: Export) -> Probe {
    let count = Arc::new(AtomicU32::new(0));
    let metrics = async || "ical_last_sync_age_minutes{source=\"airbnb\"} 3.25\nical_imported_events{source=\"airbnb\"} 4\n";
    let app = Router::new()
        .route(
            "/export.ics",
            get(move || {
                let turn = count.fetch_add(1, Ordering::Relaxed);
                async move { export(turn) }
            }),
        )
        .route("/metrics", get(metrics));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rule = format!("*.fly.dev:{}={}", DOOR.port, listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let rules = [Resolve::parse(&rule).unwrap()];
    Probe::new(&rules, None, &ServerClock::of_kubernetes()).unwrap()
}

/// One run of all checks.
async fn run(probe: &Probe, before: &Memory) -> Checked {
    let fetch = |request: Request| async move {
        let ask = Ask {
            door: DOOR,
            method: Method::GET,
            path: &request.path,
            limit: request.limit,
            wanted: &[],
            any_answer: false,
        };
        let limit = Duration::from_secs(20);
        probe.request("shop.fly.dev", &ask, limit).await
    };
    check(&plan(), before, now(), fetch).await
}

#[tokio::test]
async fn a_healthy_application_passes_over_the_network_every_time() {
    let probe = served(|_| text(calendar())).await;
    let mut memory = Memory::default();
    for round in 0..20 {
        let checked = run(&probe, &memory).await;
        assert_eq!(bad(&checked), HEALTHY, "round {round}");
        memory = checked.memory;
    }
}

#[tokio::test]
async fn each_mistake_is_caught_over_the_network() {
    let mistakes: [(&str, Export, &str); 9] = [
        ("LF", |_| text(calendar().replace("\r\n", "\n")), "C2"),
        ("BOM", |_| text(format!("\u{feff}{}", calendar())), "C1"),
        ("type", |_| calendar().into_response(), "C1"),
        (
            "fold",
            |_| {
                let mut bytes = calendar().into_bytes();
                let at = bytes.windows(2).position(|pair| pair == "á".as_bytes());
                bytes.splice(at.unwrap() + 1..at.unwrap() + 1, *b"\r\n ");
                text(bytes)
            },
            "C2",
        ),
        (
            "guests",
            |_| {
                text(calendar_with(
                    &STAYS,
                    "DESCRIPTION:Ana Núñez\\nTel. +54 9 294 400-1234\r\n",
                ))
            },
            "C6",
        ),
        (
            "inclusive",
            |_| text(calendar_with(&[("a", "20261224", "20261224")], "")),
            "C4",
        ),
        (
            "duplicate",
            |_| {
                text(calendar_with(
                    &[("a", "20261224", "20261225"), ("a", "20261226", "20261227")],
                    "",
                ))
            },
            "C4",
        ),
        (
            "changing",
            |turn| {
                let uid = format!("u{turn}");
                text(calendar_with(&[(uid.as_str(), "20261224", "20261225")], ""))
            },
            "C5",
        ),
        (
            "500",
            |_| StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            "C1",
        ),
    ];
    for (mistake, export, id) in mistakes {
        let probe = served(export).await;
        let checked = run(&probe, &Memory::default()).await;
        let failed: Vec<&str> = bad(&checked)
            .into_iter()
            .filter(|(_, ended)| *ended == Ended::Failed)
            .map(|(id, _)| id)
            .collect();
        assert_eq!(failed, [id], "{mistake}");
    }
}

#[tokio::test]
async fn a_login_fails_and_a_gateway_or_no_answer_is_unknown() {
    let ended = async |export: Export| {
        let probe = served(export).await;
        run(&probe, &Memory::default()).await.outcomes[0].ended
    };
    let login = |_: u32| Redirect::to("https://login.example/").into_response();
    assert_eq!(ended(login).await, Ended::Failed);
    let gateway = |_: u32| StatusCode::BAD_GATEWAY.into_response();
    assert_eq!(ended(gateway).await, Ended::Unknown);
    let huge = |_: u32| text(vec![b'x'; ical::MAX_BYTES + 1]);
    assert_eq!(ended(huge).await, Ended::Failed);
    let rules = [Resolve::parse("*.fly.dev:8080=127.0.0.1:1").unwrap()];
    let nobody = Probe::new(&rules, None, &ServerClock::of_kubernetes()).unwrap();
    let checked = run(&nobody, &Memory::default()).await;
    assert!(
        bad(&checked)
            .iter()
            .all(|(_, ended)| matches!(ended, Ended::Unknown | Ended::Unproven))
    );
}
