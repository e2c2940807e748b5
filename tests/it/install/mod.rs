//! How Golive is installed and upgraded: the chart, `install.yaml`, the overlays, the rights of each, and
//! the image's program alone in an empty root.

#![allow(clippy::expect_used, reason = "a helper fails its test by a panic")]

mod alone;
mod chart;
mod overlays;
mod rights;
mod skew;
mod upgrade;

use std::path::PathBuf;

use kube::api::{DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::{Api, Client, ResourceExt, discovery};
use serde_json::{Value, json};

use crate::support::env::root;

/// The chart.
fn chart() -> PathBuf {
    root().join("charts/golive")
}

/// The objects of a YAML text.
fn objects(yaml: &str) -> Vec<Value> {
    kube_env::cluster::parse_yaml(yaml).expect("YAML")
}

/// What `kubectl kustomize` makes of a folder.
fn kustomized(folder: &str) -> Vec<Value> {
    let output = std::process::Command::new("kubectl")
        .arg("kustomize")
        .arg(root().join(folder))
        .output()
        .expect("kubectl starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{folder}: {errors}");
    objects(&String::from_utf8(output.stdout).expect("UTF-8"))
}

/// Kind and name, for messages and to find the same object again.
fn named(object: &Value) -> String {
    format!(
        "{} {}",
        object["kind"].as_str().unwrap_or_default(),
        object["metadata"]["name"].as_str().unwrap_or_default()
    )
}

/// Has the API server check an object as if it were applied, and stores nothing.
async fn checked(client: &Client, object: &Value) -> kube::Result<DynamicObject> {
    let object: DynamicObject = serde_json::from_value(object.clone()).expect("an object");
    let types = object.types.clone().expect("a kind");
    let kind = GroupVersionKind::try_from(types).expect("a kind");
    let (resource, _) = discovery::pinned_kind(client, &kind).await?;
    let api: Api<DynamicObject> = match object.namespace() {
        Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let params = PatchParams {
        dry_run: true,
        ..PatchParams::apply("test").force()
    };
    let params = params.validation_strict();
    api.patch(&object.name_any(), &params, &Patch::Apply(&object))
        .await
}

/// The pods of an object: the template of a Deployment, or a Pod itself.
fn pod(object: &Value) -> Option<Value> {
    let pod = match object["kind"].as_str()? {
        "Deployment" => json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "pod", "labels": object["spec"]["template"]["metadata"]["labels"]},
            "spec": object["spec"]["template"]["spec"],
        }),
        "Pod" => object.clone(),
        _ => return None,
    };
    Some(pod)
}

/// A namespace in which the standard *restricted* is enforced.
async fn restricted(cluster: &kube_env::Cluster, name: &str) {
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    });
    let applied = cluster.apply_objects(vec![namespace]).await;
    applied.expect("a namespace");
}
