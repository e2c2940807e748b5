//! The warnings at apply, as kubectl shows them: from the shipped policy, on a real API server.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use kube::Client;
use serde_json::{Value, json};

use crate::support::{
    env::merge,
    installed::{LIMIT, cluster},
};

/// The warnings of the server about an Activation with this in its spec. Nothing is stored.
async fn warnings(client: &Client, namespace: &str, change: Value) -> Vec<String> {
    let mut object = json!({
        "apiVersion": "golive.dev/v1alpha1", "kind": "Activation",
        "metadata": {"name": "warned"},
        "spec": {
            "organization": "cabanas", "app": "warned", "region": "eze",
            "deploy": {"image": "registry.fly.io/cabanas:1.4.0"},
        },
    });
    merge(&mut object["spec"], change);
    let request = http::Request::post(format!(
        "/apis/golive.dev/v1alpha1/namespaces/{namespace}/activations?dryRun=All"
    ))
    .header("content-type", "application/json")
    .body(kube::client::Body::from(object.to_string().into_bytes()))
    .unwrap();
    let response = client.send(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    assert!(
        head.status.is_success(),
        "{}",
        String::from_utf8_lossy(&body)
    );
    let all = head.headers.get_all("warning").iter();
    all.map(|value| value.to_str().unwrap().to_owned())
        .collect()
}

/// Each warning once, and words that it must contain.
pub fn warned() -> Vec<(Value, &'static str)> {
    vec![
        (
            json!({"provision": {"addresses": {"v4": true}}}),
            "costs money every month",
        ),
        (
            json!({"suspend": true, "suspendUntil": "2020-01-01T00:00:00Z"}),
            "`suspendUntil` is over",
        ),
        (
            json!({"suspendReason": "holiday"}),
            "`suspendReason` has no effect",
        ),
        (
            json!({"suspendUntil": "2090-01-01T00:00:00Z"}),
            "`suspendUntil` has no effect",
        ),
        (
            json!({"provision": {"addresses": {"sharedV4": false, "v6": false}}}),
            "requests no address at all",
        ),
        (
            json!({"provision": {"secrets": {"rotation": {"maxAge": "720h"}}}}),
            "`provision.secrets.rotation.maxAge` has no effect",
        ),
        (
            json!({"deploy": {"image": null, "source": {
                "image": "ghcr.io/me/app", "policy": {"tag": {"name": "stable"}}, "interval": "1s",
            }}}),
            "`deploy.source.interval` below 30s",
        ),
        (json!({"deploy": {"scale": {"app": 0}}}), "to 0"),
        (json!({"observe": {}}), "`observe` sets no objective"),
        (
            json!({"integrations": {}}),
            "`integrations` has no effect: it names neither",
        ),
    ]
}

#[tokio::test]
async fn what_has_no_effect_or_costs_money_is_warned_about_at_apply() {
    let cluster = cluster().await;
    let client = cluster.client().unwrap();
    let namespace = cluster.create_namespace("warnings").await.unwrap();
    // A policy is in force a moment after it was applied.
    let costs = json!({"provision": {"addresses": {"v4": true}}});
    let end = Instant::now() + LIMIT;
    while warnings(&client, &namespace, costs.clone())
        .await
        .is_empty()
    {
        assert!(Instant::now() < end, "the policy is not in force");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for (change, expected) in warned() {
        let told = warnings(&client, &namespace, change.clone()).await;
        assert_eq!(told.len(), 1, "{change}: {told:?}");
        assert!(told[0].contains(expected), "{change}: {told:?}");
    }
    for change in [
        json!({}),
        json!({"suspend": true, "suspendReason": "holiday", "suspendUntil": "2090-01-01T00:00:00Z"}),
        json!({"provision": {"addresses": {"sharedV4": false}}}),
        json!({"provision": {"secrets": {"generate": [{"name": "A"}], "rotation": {"maxAge": "720h"}}}}),
    ] {
        let told = warnings(&client, &namespace, change.clone()).await;
        assert_eq!(told, [""; 0], "{change}");
    }
}
