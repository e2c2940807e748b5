//! Receivers that must not be connected to, or do not take what they are sent.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::TcpListener;
use vendors::messages::Kind;

use super::world::{NAME, Told};
use crate::support::env::LIMIT;

fn webhook(name: &str) -> Value {
    json!({"name": name, "webhook": {"urlSecretRef": {"name": name, "key": "url"}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_address_is_not_connected_to_and_a_refusal_is_told_by_one_event() {
    let mut told = Told::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let env = &told.env;
    for (name, address) in [
        ("clear", format!("http://127.0.0.1:{port}/canary-path-5f01")),
        (
            "inside",
            format!("https://127.0.0.1:{port}/canary-path-5f02"),
        ),
        (
            "cluster",
            "https://alertmanager.monitoring.svc/canary-path-5f03".to_owned(),
        ),
    ] {
        env.secret(name, &[("url", address.as_str())]).await;
    }
    let gone = told.messages.url(Kind::Slack) + "-revoked";
    env.secret("gone", &[("url", gone.as_str())]).await;
    told.start(&[]);
    let receivers = ["clear", "inside", "cluster", "gone"].map(webhook);
    told.activate(json!(receivers)).await;
    told.asked().await;
    let wanted = [
        ("clear", "its address must begin with https://"),
        ("inside", "its address is not on the public Internet"),
        ("cluster", "its address is not on the public Internet"),
        ("gone", "it answered 404"),
    ];
    let end = Instant::now() + LIMIT;
    let notes = loop {
        let events = told.env.events(NAME).await.into_iter();
        let notes: Vec<String> = events
            .filter(|(_, reason, _)| reason == "NotificationFailed")
            .map(|(_, _, note)| note)
            .collect();
        let all = wanted.iter().all(|(name, why)| {
            let begins = format!("the receiver {name} refuses messages: {why}");
            notes
                .iter()
                .filter(|note| note.starts_with(&begins))
                .count()
                == 1
        });
        if all {
            break notes;
        }
        assert!(Instant::now() < end, "{notes:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    // Each once, however many messages were given up since.
    assert_eq!(notes.len(), 4, "{notes:#?}");
    let all = notes.join("\n");
    for secret in ["canary-path", "hooks.slack.com", "revoked", "127.0.0.1"] {
        assert!(!all.contains(secret), "{all}");
    }
    assert!(all.contains("golive.dev/test-notification"), "{all}");
    let connected = tokio::time::timeout(Duration::ZERO, listener.accept()).await;
    assert!(connected.is_err(), "somebody was connected to");
}
