//! What somebody changes by hand beside the machines: secrets, addresses, certificates and the record
//! of the database. Each is found by the next re-check, which spends three reads.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::collections::BTreeMap;

use fly_sim::platform::addresses::Type;
use golive::api::ActivationStatus;
use serde_json::json;

use crate::support::env::{Env, is, message};
use crate::support::trouble::{fly, recovered, until, world};

const APP: &str = "hola-cabanas";
const HOST: &str = "reservas.cabanas.example";

/// Waits for drift that is told with all of `parts`.
async fn told(env: &Env, parts: &[&str]) -> ActivationStatus {
    env.wait("hola", &format!("drift: {parts:?}"), |status| {
        let message = message(status, "Drifted");
        is(status, "Drifted", "True") && parts.iter().all(|part| message.contains(part))
    })
    .await
}

/// Sets (`None`: removes) a secret of the app by hand.
async fn set(env: &Env, name: &str, value: Option<&str>) {
    let value = value.map(|value| value.to_owned().into());
    let values = BTreeMap::from([(name.to_owned(), value)]);
    let written = fly(env, "cabanas").set_secrets(APP, &values).await;
    written.unwrap();
}

fn digests(env: &Env) -> BTreeMap<String, String> {
    let core = env.sim.core();
    core.read(|world| world.apps[APP].platform.secrets.digests())
}

fn kinds(env: &Env) -> Vec<Type> {
    let core = env.sim.core();
    core.read(|world| {
        let addresses = &world.apps[APP].platform.addresses;
        addresses.iter().map(|address| address.kind).collect()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_addresses_and_certificates_that_somebody_changed_are_found_and_put_right() {
    let env = world(&["--recheck-interval", "1s"]).await;
    env.secret(
        "extra",
        &[
            ("MAIL_KEY", "a-long-value-1"),
            ("MAP_KEY", "a-long-value-2"),
        ],
    )
    .await;
    let provision = json!({"provision": {
        "postgres": {"managed": {}},
        "hostnames": [HOST],
        "secrets": {"from": [{"secretRef": {"name": "extra"}}]},
    }});
    env.activation("hola", provision).await;
    recovered(&env, "hola").await;
    env.wait_for("hola", "Drifted", "False").await;
    let before = digests(&env);

    set(&env, "MAIL_KEY", Some("another")).await;
    told(&env, &["set the secrets MAIL_KEY"]).await;
    until("the value that was pushed", || digests(&env) == before).await;
    env.wait_for("hola", "Drifted", "False").await;

    set(&env, "MAP_KEY", None).await;
    told(&env, &["set the secrets MAP_KEY"]).await;
    until("the value that was removed", || digests(&env) == before).await;
    env.wait_for("hola", "Drifted", "False").await;

    fly(&env, "cabanas")
        .delete_certificate(APP, HOST)
        .await
        .unwrap();
    told(&env, &[&format!("request a certificate for {HOST}")]).await;
    env.wait_for("hola", "Drifted", "False").await;

    env.sim.core().write(|world| {
        let app = world.apps.get_mut(APP).unwrap();
        app.platform
            .addresses
            .retain(|found| found.kind != Type::V6);
    });
    told(&env, &["Fly.io does not list 2a09:"]).await;
    until("another address", || kinds(&env).contains(&Type::V6)).await;
    env.wait_for("hola", "Drifted", "False").await;

    env.sim.core().write(|world| {
        let clusters = world.platform.clusters.values_mut();
        clusters.for_each(|cluster| cluster.attachments.clear());
    });
    told(&env, &["attach the database cluster"]).await;
    env.wait_for("hola", "Drifted", "False").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_and_addresses_that_somebody_added_are_told_and_left() {
    let mut env = world(&["--recheck-interval", "1s"]).await;
    env.activation("hola", json!({})).await;
    recovered(&env, "hola").await;
    env.wait_for("hola", "Drifted", "False").await;

    set(&env, "BY_HAND", Some("canary-value")).await;
    let new = golive::fly::NewAddress::anycast(golive::fly::AddressKind::V4);
    let assigned = fly(&env, "cabanas").assign_address(APP, &new).await;
    let release = format!("fly ips release {} -a {APP}", assigned.unwrap().ip);
    let unset = format!("fly secrets unset BY_HAND -a {APP}");
    let status = told(&env, &[&unset, &release]).await;
    assert!(!message(&status, "Drifted").contains("canary-value"));
    assert!(is(&status, "Ready", "True"), "{status:?}");

    // Another process says the same from its first pass on.
    env.stop_operator().await;
    env.sim.reset();
    env.start_operator(&["--recheck-interval", "1s"]).await;
    env.wait("hola", "looks", |_| env.sim.calls("POST /graphql#app") >= 2)
        .await;
    told(&env, &[&unset, &release]).await;
    assert_eq!(env.sim.mutations(), 0, "they are left");

    set(&env, "BY_HAND", None).await;
    env.sim.core().write(|world| {
        let app = world.apps.get_mut(APP).unwrap();
        app.platform
            .addresses
            .retain(|found| found.kind != Type::V4);
    });
    env.wait_for("hola", "Drifted", "False").await;
}
