//! The operator with definitions of an older and of a newer version in the cluster.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use kube::api::{DynamicObject, GroupVersionKind};
use kube::{Api, discovery};
use kube_env::{Cluster, ControlPlane, control_plane};
use serde_json::{Value, json};

use super::objects;
use crate::support::env::{Env, LIMIT, root};
use crate::support::trouble::{options, recovered};

/// A cluster with the definition of Activations after a change.
async fn cluster_with(change: impl Fn(&mut Value)) -> (ControlPlane, Cluster) {
    let plane = ControlPlane::start(control_plane::Options::default())
        .await
        .unwrap();
    let cluster = plane.cluster().clone();
    let mut definitions = Vec::new();
    for name in ["activations", "activationapprovals"] {
        let text = std::fs::read_to_string(root().join(format!("crds/{name}.yaml"))).unwrap();
        let mut definition = objects(&text).remove(0);
        if name == "activations" {
            let version = &mut definition["spec"]["versions"][0];
            change(&mut version["schema"]["openAPIV3Schema"]["properties"]);
        }
        definitions.push(definition);
    }
    cluster.apply_objects(definitions).await.unwrap();
    (plane, cluster)
}

/// What the readiness probe answers now.
async fn readyz(env: &Env) -> Option<(u16, String)> {
    let log = std::fs::read_to_string(env.log()).ok()?;
    let line = log.lines().find(|line| line.contains("serving /healthz"))?;
    let line: Value = serde_json::from_str(line).ok()?;
    let address = line["address"]
        .as_str()
        .or(line["fields"]["address"].as_str())?;
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let answer = client
        .get(format!("http://{address}/readyz").parse().unwrap())
        .await
        .ok()?;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.ok()?.to_bytes();
    Some((status, String::from_utf8_lossy(&body).into_owned()))
}

/// Waits until the readiness probe answers with this status and text.
async fn answers(env: &Env, status: u16, text: &str) {
    let end = Instant::now() + LIMIT;
    loop {
        let found = readyz(env).await;
        let is_it = |found: &(u16, String)| found.0 == status && found.1.contains(text);
        if found.as_ref().is_some_and(is_it) {
            return;
        }
        assert!(Instant::now() < end, "{status} {text}: {found:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn logged(env: &Env, text: &str) -> bool {
    std::fs::read_to_string(env.log()).unwrap().contains(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn with_older_definitions_it_is_not_ready_and_makes_nothing_until_they_are_updated() {
    let (_plane, cluster) = cluster_with(|properties| {
        let status = properties["status"]["properties"].as_object_mut().unwrap();
        status.remove("intents").expect("a field");
    })
    .await;
    let mut env = Env::on(cluster.clone(), options()).await;
    env.activation("hola", json!({})).await;
    env.start_operator_process(&[]);

    answers(&env, 503, "they lack Activation status.intents").await;
    assert!(logged(
        &env,
        "the definitions in the cluster are older than this operator"
    ));
    // Creates are announced in the status first, and the status cannot say it.
    let end = Instant::now() + LIMIT;
    while !logged(&env, "field not declared in schema") {
        assert!(Instant::now() < end, "nothing was tried");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(env.sim.apps().is_empty(), "{:?}", env.sim.apps());

    cluster.apply_paths([root().join("crds")]).await.unwrap();
    answers(&env, 200, "ok").await;
    recovered(&env, "hola").await;
    assert_eq!(env.sim.machines("hola-cabanas").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_newer_definitions_it_works_says_so_and_keeps_what_it_does_not_know() {
    let later = json!({"type": "string"});
    let (_plane, cluster) = cluster_with(|properties| {
        properties["spec"]["properties"]["later"] = later.clone();
        properties["status"]["properties"]["later"] = later.clone();
    })
    .await;
    let mut env = Env::on(cluster, options()).await;
    env.activation("hola", json!({"later": "on"})).await;
    env.start_operator_process(&[]);

    recovered(&env, "hola").await;
    answers(&env, 200, "note: the definitions in the cluster are newer").await;
    assert!(logged(
        &env,
        "it ignores Activation spec.later, Activation status.later"
    ));
    let kind = GroupVersionKind::gvk("golive.dev", "v1alpha1", "Activation");
    let (resource, _) = discovery::pinned_kind(&env.kube, &kind).await.unwrap();
    let raw: Api<DynamicObject> = Api::namespaced_with(env.kube.clone(), &env.namespace, &resource);
    let object = raw.get("hola").await.unwrap();
    assert_eq!(object.data["spec"]["later"], "on");
    env.delete("hola").await;
    assert!(env.sim.apps().is_empty());
}
