//! Values and names that others hold: the application gets its values as they are, and what cannot be
//! used is told with its cause, its host and the next action.

#![allow(clippy::panic, reason = "a helper fails its test by a panic")]

use std::time::{Duration, Instant};

use fly_sim::{Fault, Kind};
use golive::api::{ActivationStatus, status::PreflightResult};
use serde_json::json;

use crate::support::env::{Env, LIMIT, message, reason};

const ACME: &str = "POST /v1/apps/{app}/certificates/acme";

fn check<'s>(status: &'s ActivationStatus, name: &str) -> &'s PreflightResult {
    let mut checks = status.preflight.iter();
    checks
        .find(|check| check.check == name)
        .unwrap_or_else(|| panic!("{name} is not reported"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_gets_its_values_byte_for_byte() {
    let env = Env::start().await;
    let values = [
        (
            "PEM",
            "-----BEGIN CERTIFICATE-----\nMIIFaz\n-----END CERTIFICATE-----\n",
        ),
        ("CRLF", "a\r\nb\r\n"),
        ("TRAILING", "x\n"),
        ("EMPTY", ""),
    ];
    env.secret("app", &values).await;
    env.activation(
        "hola",
        json!({"provision": {"secrets": {"from": [{"secretRef": {"name": "app"}}]}}}),
    )
    .await;

    let status = env.wait_live("hola").await;

    let secrets = env.sim.core().read(|world| {
        let app = world.apps.get("hola-cabanas");
        app.map(|app| app.platform.boot_secrets())
    });
    let secrets = secrets.unwrap_or_default();
    for (name, value) in values {
        assert_eq!(secrets.get(name).map(String::as_str), Some(value), "{name}");
    }
    let strong = check(&status, "SecretsStrong");
    assert_eq!(strong.reason, "SecretDoubtful", "{strong:?}");
    for part in ["TRAILING of the Secret app ends with a line break", "EMPTY"] {
        assert!(strong.message.contains(part), "{strong:?}");
    }
    assert!(!strong.message.contains("PEM"), "{strong:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_cannot_be_used_are_told_before_anything_is_written_and_never_shown() {
    let env = Env::start().await;
    env.secret(
        "db",
        &[(
            "url",
            "psql 'postgresql://u:hunter22-canary@db.example/neondb'",
        )],
    )
    .await;
    env.secret(
        "app",
        &[("api-key", "x1"), ("FLY_REGION", "eze"), ("NUL", "a")],
    )
    .await;
    env.activation(
        "hola",
        json!({"provision": {
            "postgres": {"external": {"urlSecretRef": {"name": "db", "key": "url"}}},
            "secrets": {"from": [{"secretRef": {"name": "app"}}]},
        }}),
    )
    .await;

    let status = env.wait_for("hola", "PreflightPassed", "False").await;

    let found = check(&status, "SecretsResolvable");
    assert_eq!(found.reason, "SecretInvalid", "{found:?}");
    for part in [
        "the address in key url of the Secret db is a command",
        "the key api-key of the Secret app is not a valid name",
        "FLY_REGION",
    ] {
        assert!(found.message.contains(part), "{part}: {found:?}");
    }
    for part in ["store the address alone", "rename the key to API_KEY"] {
        assert!(found.next_action.contains(part), "{part}: {found:?}");
    }
    // The object's next action is the check's.
    assert_eq!(
        status.next_action.as_deref(),
        Some(found.next_action.as_str())
    );
    assert!(env.sim.apps().is_empty());
    let text = serde_json::to_string(&status).unwrap_or_default();
    assert!(!text.contains("canary"), "{text}");

    // What is repaired is taken up, and a Secret with the token is refused like the others.
    env.secret(
        "db",
        &[("url", "postgresql://u:hunter22-canary@db.example/neondb\n")],
    )
    .await;
    env.secret(
        "app",
        &[("X", &env.sim.token("cabanas").unwrap_or_default())],
    )
    .await;
    let status = env
        .wait("hola", "the token in the application's Secret", |status| {
            let found = check(status, "SecretsResolvable");
            found.message.contains("the Fly token of this Activation")
        })
        .await;
    let strong = check(&status, "SecretsStrong");
    assert!(
        strong
            .message
            .contains("url of the Secret db ends with a line break"),
        "{strong:?}"
    );
    assert!(env.sim.apps().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostname_of_another_app_is_told_with_its_holder_and_taken_when_it_is_free() {
    let env = Env::start().await;
    let hostnames = json!({"provision": {"hostnames": ["shop.cabanas.example"]}});
    env.activation("hola", hostnames.clone()).await;
    env.wait_live("hola").await;
    let mut second = hostnames;
    second["app"] = json!("zweite-cabanas");
    env.activation("zweite", second).await;

    let status = env.wait_for("zweite", "Stalled", "True").await;

    assert_eq!(reason(&status, "Ready"), "HostnameTaken");
    let text = message(&status, "Ready");
    for part in [
        "the Fly app hola-cabanas holds the hostname shop.cabanas.example",
        "Hostname already exists on app",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let next = status.next_action.unwrap_or_default();
    assert!(
        next.contains("fly certs remove shop.cabanas.example -a hola-cabanas"),
        "{next}"
    );
    // It is requested again at most once in each longest pause, which is a second here.
    let (asked, began) = (env.sim.calls(ACME), Instant::now());
    tokio_until(began + Duration::from_secs(3)).await;
    let more = env.sim.calls(ACME) - asked;
    assert!(more <= 4, "{more} requests in {:?}", began.elapsed());

    env.patch("hola", json!({"spec": {"provision": {"hostnames": null}}}))
        .await;
    env.wait_live("zweite").await;
}

/// Waits for a time. What is counted here is what does not happen meanwhile.
async fn tokio_until(end: Instant) {
    tokio::time::sleep_until(end.into()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_failure_of_a_registry_names_its_host_and_not_fly_io() {
    let env = Env::start().await;
    // RFC 6761: no name in `invalid` is ever resolved.
    let image = "registry.invalid/team/shop:1.0.0";
    env.activation("hola", json!({"deploy": {"image": image}}))
        .await;

    let end = Instant::now() + LIMIT;
    let status = env
        .wait("hola", "the registry's failure", |status| {
            assert!(Instant::now() < end, "{status:?}");
            let mut checks = status.preflight.iter();
            checks.any(|check| check.reason == "RegistryUnavailable")
        })
        .await;

    let found = check(&status, "ImageResolvable");
    for part in ["registry.invalid", "/v2/team/shop/manifests/1.0.0"] {
        assert!(found.message.contains(part), "{found:?}");
    }
    for part in ["Fly.io", "{repository}"] {
        assert!(!found.message.contains(part), "{found:?}");
    }
    assert!(found.next_action.contains("registry"), "{found:?}");
    assert!(message(&status, "Ready").contains("registry.invalid"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_somebody_else_has_is_told_in_the_words_of_fly_io() {
    let env = Env::start().await;
    let taken = Kind::Status {
        status: 422,
        body: Some(json!({"error": "Validation failed: Name has already been taken"})),
        applied: false,
    };
    let create = "POST /graphql#createAddOn";
    env.sim.fault(Fault::new(create, taken).always());
    env.activation("hola", json!({"provision": {"redis": {"upstash": {}}}}))
        .await;

    let status = env
        .wait("hola", "the refusal", |status| {
            message(status, "Ready").contains("Name has already been taken")
        })
        .await;

    let text = message(&status, "Ready");
    assert!(text.contains("create the Redis database"), "{text}");
    assert!(env.sim.calls(create) <= 6, "it is asked for with back-off");
    env.sim.clear_faults();
    env.wait_live("hola").await;
}
