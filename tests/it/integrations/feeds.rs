//! The calendars of channels, by the addresses in a Secret.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use fly_sim::Options;
use golive::api::{
    ActivationStatus,
    status::{IntegrationResult, IntegrationState},
};
use serde_json::json;
use vendors::{
    Vendors,
    channels::{Channel, Health},
    state::{Bearer, Vendor},
};

use super::example::{NAME, entry, inputs, result, with_only};
use crate::support::env::{Env, reason};

/// The address of a calendar, at its channel's own name.
fn address(vendors: &Vendors, channel: Channel, listing: &str) -> String {
    let host = match channel {
        Channel::Airbnb => "www.airbnb.com",
        Channel::Booking => "ical.booking.com",
    };
    let path = vendors.state().world().channels.path(channel, listing);
    format!("https://{host}{}", path.unwrap())
}

fn health(vendors: &Vendors, health: Health) {
    let mut world = vendors.state().world();
    let feeds = world.channels.feeds.values_mut();
    for feed in feeds.filter(|feed| feed.token.starts_with("0f9e")) {
        feed.health = health;
    }
}

fn evidence(status: &ActivationStatus) -> String {
    let mut checks = entry(status, "ical").checks.iter();
    let found = checks.find(|check| check.id == "I3");
    found
        .map(|check| check.evidence.clone())
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_calendars_of_channels_are_read_by_their_secret_addresses_and_never_shown() {
    let mut env = Env::without_operator(Options::default()).await;
    let vendors = Vendors::start(vendors::Options::default()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, env.sim.ca_pem().to_owned() + vendors.ca_pem()).unwrap();
    let channels = vendors.channels_address();
    let resolve = format!(
        "*.fly.dev:443={},*.fly.dev:*={}:*,www.airbnb.com:443={channels},ical.booking.com:443={channels}",
        env.sim.edge(),
        env.sim.edge_ip()
    );
    let ca = ca.display().to_string();
    env.start_operator_process(&["--resolve", &resolve, "--ca-file", &ca]);
    inputs(&env).await;
    let mut spec = with_only("1.4.0", &["ical"]);
    spec["integrations"]["ical"]["feedsSecretRef"] = json!({"name": "channels", "key": "feeds"});
    env.activation(NAME, spec).await;
    env.wait_live(NAME).await;

    // The Secret may come later.
    let status = env
        .wait(NAME, "what is missing", |status| {
            reason(status, "IntegrationsHealthy") == "SecretMissing"
        })
        .await;
    let ical = entry(&status, "ical");
    assert_eq!(ical.state, IntegrationState::Waiting);
    assert!(
        ical.message
            .contains("spec.integrations.ical.feedsSecretRef")
    );

    let (airbnb, booking) = (
        address(&vendors, Channel::Airbnb, "1001"),
        address(&vendors, Channel::Booking, "2002"),
    );
    let list = format!("airbnb={airbnb}\n{booking}\n");
    env.secret("channels", &[("feeds", &list)]).await;
    let status = env.wait_for(NAME, "IntegrationsHealthy", "True").await;
    let found = result(&status, "ical", "I3");
    assert_eq!(found, Some(IntegrationResult::Passed));
    assert_eq!(evidence(&status), "airbnb has 3 events; and 1 more");

    // One of them expires.
    health(&vendors, Health::Gone);
    let retry = json!({"golive.dev/retry-from": "Integrations"});
    env.patch(NAME, json!({"metadata": {"annotations": retry}}))
        .await;
    let status = env.wait_for(NAME, "IntegrationsHealthy", "False").await;
    let found = result(&status, "ical", "I3");
    assert_eq!(found, Some(IntegrationResult::Failed));
    assert_eq!(evidence(&status), "2 answered 404: its address has expired");
    let action = &entry(&status, "ical").next_action;
    assert!(action.contains("into the Secret"), "{action}");
    let events = env.wait_event(NAME, "IntegrationFailed").await;

    // It is there again.
    health(&vendors, Health::Well);
    env.wait_for(NAME, "IntegrationsHealthy", "True").await;

    let calls = vendors.state().world().calls.clone();
    let calls: Vec<_> = calls
        .iter()
        .filter(|call| call.vendor == Vendor::Channels)
        .collect();
    assert!(calls.len() >= 4, "{calls:?}");
    assert!(
        calls.iter().all(|call| call.bearer == Bearer::None),
        "{calls:?}"
    );
    let log = std::fs::read_to_string(env.log()).unwrap();
    let shown = format!("{status:?} {events:?} {log}");
    for secret in [
        "a1b2c3d4e5f6",
        "0f9e8d7c6b5a",
        "www.airbnb.com/",
        "ical.booking.com/",
        "/v1/export",
    ] {
        assert!(!shown.contains(secret), "{secret}");
    }
}
