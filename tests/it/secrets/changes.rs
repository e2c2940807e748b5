//! A changed Secret is noticed by the shipped installation, whose operator may `get` Secrets but
//! neither list nor watch them.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt, api::DeleteParams};
use serde_json::json;

use super::shipped;
use crate::support::{
    env::{Env, LIMIT},
    trouble::{recovered, stopped},
};

/// Only polling of the Secrets can find a change within a test: the shortest timer of a stalled object
/// is 30 s, and every other one is an hour.
const FLAGS: [&str; 10] = [
    "--namespace",
    "",
    "--own-namespace",
    "golive-system",
    "--recheck-interval",
    "1h",
    "--backoff-max",
    "1h",
    "--secret-look-interval",
    "1s",
];

/// Time in which polling must have found a change: shorter than any timer of the object.
const SOON: Duration = Duration::from_secs(20);

async fn start(env: &mut Env) {
    let rights = env.cluster.config_as("golive-system", "golive").await;
    env.start_operator_as(rights.unwrap(), &FLAGS).await;
}

async fn until(what: &str, limit: Duration, holds: impl Fn() -> bool) {
    let end = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < end, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Requests to the API server that only read one object.
fn gets(env: &Env) -> f64 {
    let metrics = env.metrics();
    let lines = metrics.lines().filter(|line| {
        line.starts_with("rest_client_requests_total{") && line.contains("method=\"GET\"")
    });
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_secret_is_pushed_by_an_operator_that_may_not_watch_secrets() {
    let (_plane, mut env) = shipped().await;
    env.secret("settings", &[("GREETING", "hola")]).await;
    start(&mut env).await;
    let from = json!({"provision": {"secrets": {"from": [{"secretRef": {"name": "settings"}}]}}});
    env.activation("hola", from).await;
    recovered(&env, "hola").await;
    // Polling makes no write and no call to Fly.io.
    let quiet = gets(&env);
    until("the end of the go-live", LIMIT, || gets(&env) > quiet + 8.0).await;
    let (calls, first) = (env.sim.call_list().len(), gets(&env));
    let version = env.get("hola").await.unwrap().resource_version();
    until("more looks", LIMIT, || gets(&env) > first + 8.0).await;
    assert_eq!(env.get("hola").await.unwrap().resource_version(), version);
    assert_eq!(env.sim.call_list().len(), calls);
    let updates = || env.sim.calls("POST /v1/apps/{app}/machines/{id}");
    let before = updates();

    env.secret("settings", &[("GREETING", "buenas")]).await;

    until("both machines are given it", LIMIT, || {
        updates() >= before + 2
    })
    .await;
    recovered(&env, "hola").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_appears_is_noticed_by_an_operator_that_may_not_watch_secrets() {
    let (_plane, mut env) = shipped().await;
    let secrets: Api<Secret> = Api::namespaced(env.kube.clone(), &env.namespace);
    secrets
        .delete("fly", &DeleteParams::default())
        .await
        .unwrap();
    start(&mut env).await;
    env.activation("hola", json!({})).await;
    stopped(&env, "hola", "SecretNotFound").await;
    assert!(env.sim.call_list().is_empty(), "{:?}", env.sim.call_list());

    env.secret("fly", &[("token", &env.sim.token("cabanas").unwrap())])
        .await;

    until("a call to Fly.io", SOON, || !env.sim.call_list().is_empty()).await;
    recovered(&env, "hola").await;
}
