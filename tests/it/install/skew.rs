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
use crate::support::installed::eventually;
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
    cluster.apply_objects(definitions.clone()).await.unwrap();
    published(&cluster.client().unwrap(), &definitions[0]).await;
    (plane, cluster)
}

/// Waits until the API server publishes the schema of a definition: it does so a moment after it serves
/// the kind.
async fn published(client: &kube::Client, definition: &Value) {
    let get = async |path: &str| -> Option<Value> {
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        client.request(request).await.ok()
    };
    let fields = |schema: &Value| -> Vec<String> {
        let parts = ["spec", "status"].iter();
        let fields = parts.filter_map(|part| schema["properties"][part]["properties"].as_object());
        fields.flat_map(|fields| fields.keys().cloned()).collect()
    };
    let wanted = fields(&definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]);
    eventually("the schema to be published", async || {
        let index = get("/openapi/v3").await?;
        let path = &index["paths"]["apis/golive.dev/v1alpha1"]["serverRelativeURL"];
        let document = get(path.as_str()?).await?;
        let schemas = document["components"]["schemas"].as_object()?;
        let mut all = schemas.values().map(fields);
        all.any(|found| found == wanted).then_some(())
    })
    .await;
}

/// Where the operator serves its probes.
fn address(env: &Env) -> Option<String> {
    let log = std::fs::read_to_string(env.log()).ok()?;
    let line = log.lines().find(|line| line.contains("serving /healthz"))?;
    let line: Value = serde_json::from_str(line).ok()?;
    let address = line["address"]
        .as_str()
        .or(line["fields"]["address"].as_str())?;
    Some(address.to_owned())
}

/// What `golive ready` says, which the chart's test runs.
async fn ready(env: &Env, timeout: &str) -> (bool, String) {
    let url = format!("http://{}/readyz", address(env).unwrap());
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_golive"));
    command.args(["ready", "--timeout", timeout, &url]);
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.unwrap().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

/// What the readiness probe answers now.
async fn readyz(env: &Env) -> Option<(u16, String)> {
    let address = address(env)?;
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
    // It looks, and changes nothing: what it does could not be recorded.
    let end = Instant::now() + LIMIT;
    while env.sim.call_list().is_empty() {
        assert!(Instant::now() < end, "nothing was looked at");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let told = async || {
        let status = serde_json::to_string(&env.status("hola").await).unwrap();
        // Either the change is refused, or what must be recorded before it cannot be.
        status.contains("older than this operator")
            || logged(&env, "may not make changes now")
            || logged(&env, "field not declared in schema")
    };
    while !told().await {
        assert!(Instant::now() < end, "nothing was tried");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (ready, text) = ready(&env, "1s").await;
    assert!(!ready && text.contains("they lack Activation"), "{text}");
    assert_eq!(env.sim.mutations(), 0);
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
    let (ready, text) = ready(&env, "30s").await;
    assert!(ready && text.starts_with("ok\nnote: "), "{text}");
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
