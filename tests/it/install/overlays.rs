//! `install.yaml` and the overlays, as `kubectl apply` takes them.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube_env::{Cluster, ControlPlane, control_plane};
use serde_json::{Value, json};

use super::{checked, kustomized, named, objects};
use crate::support::env::root;
use crate::support::installed::{cluster, eventually};

/// The commands of docs/install.md below a heading, of the block that begins with `first`.
fn commands(heading: &str, first: &str) -> String {
    let page = std::fs::read_to_string(root().join("docs/install.md")).unwrap();
    let (_, section) = page.split_once(&format!("\n## {heading}\n")).unwrap();
    let mut blocks = section.split("```sh\n").skip(1);
    let block = blocks.find(|block| block.starts_with(first)).unwrap();
    block.split("```").next().unwrap().to_owned()
}

/// The commands that remove an installation without Helm.
fn removal() -> String {
    commands("Uninstall", "kubectl delete deployment")
}

/// Runs commands in the root of the repository with the rights of the administrator.
async fn run(cluster: &Cluster, commands: &str) -> String {
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-ec", commands])
        .current_dir(root())
        .env("KUBECONFIG", cluster.kubeconfig());
    let done = tokio::task::spawn_blocking(move || shell.output());
    let output = done.await.unwrap().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{commands}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_removes_an_installation_takes_all_of_every_overlay_and_nothing_that_is_a_record() {
    let commands = removal();
    let lists = commands.split("kubectl delete ").skip(1);
    let kinds: Vec<&str> = lists
        .filter_map(|list| list.split_whitespace().next())
        .flat_map(|list| list.split(','))
        .collect();
    for kept in [
        "namespace",
        "configmap",
        "secret",
        "activation",
        "customresourcedefinition",
    ] {
        assert!(!kinds.contains(&kept), "{kept}");
    }
    let overlays = [
        "base",
        "overlays/high-availability",
        "overlays/namespaced",
        "overlays/prometheus",
        "overlays/selected-namespaces",
    ];
    for overlay in overlays {
        for object in kustomized(&format!("manifests/{overlay}")) {
            let kind = object["kind"].as_str().unwrap().to_lowercase();
            let labels = &object["metadata"]["labels"];
            assert!(
                kind == "namespace" || kinds.contains(&kind.as_str()),
                "{overlay}: {kind}"
            );
            assert_eq!(
                labels["app.kubernetes.io/part-of"],
                "golive",
                "{overlay}: {}",
                named(&object)
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_one_file_is_upgraded_and_removed_as_the_page_says_and_no_record_is_lost() {
    let plane = ControlPlane::start(control_plane::Options::default())
        .await
        .unwrap();
    let cluster = plane.cluster();
    let client = cluster.client().unwrap();
    let install = commands("One file", "sed ");
    // The second waits for pods; there are no nodes.
    let install = install.lines().next().unwrap();
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "golive-system");
    // Again with another image is an upgrade: nobody else has the field.
    for registry in ["one.example.com", "two.example.com"] {
        run(cluster, &install.replace("REGISTRY", registry)).await;
        let found = serde_json::to_value(deployments.get("golive").await.unwrap()).unwrap();
        let image = &found["spec"]["template"]["spec"]["containers"][0]["image"];
        assert_eq!(*image, format!("{registry}/golive:0.1.0"));
    }
    let hola = json!({
        "apiVersion": "golive.dev/v1alpha1", "kind": "Activation",
        "metadata": {"name": "hola", "namespace": "default"},
        "spec": {"organization": "o", "app": "hola", "region": "eze", "deploy": {"image": "x:1"}},
    });
    let record = |kind: &str, name: &str| {
        json!({
            "apiVersion": "v1", "kind": kind,
            "metadata": {
                "name": name, "namespace": "golive-system",
                "labels": {"app.kubernetes.io/part-of": "golive"},
            },
        })
    };
    let records = vec![
        record("ConfigMap", "golive-app-hola"),
        record("Secret", "golive-fingerprint-key"),
        hola,
    ];
    eventually("the definition to be served", async || {
        cluster.apply_objects(records.clone()).await.ok()
    })
    .await;

    run(cluster, &removal()).await;
    let mut kinds: Vec<String> = kustomized("manifests/base")
        .iter()
        .map(|object| object["kind"].as_str().unwrap().to_lowercase())
        .filter(|kind| kind != "namespace")
        .collect();
    kinds.sort();
    kinds.dedup();
    let left = format!(
        "kubectl get {} --all-namespaces --selector app.kubernetes.io/part-of=golive -o name",
        kinds.join(",")
    );
    assert_eq!(run(cluster, &left).await, "");
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "golive-system");
    assert!(maps.get_opt("golive-app-hola").await.unwrap().is_some());
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "golive-system");
    let key = secrets.get_opt("golive-fingerprint-key").await.unwrap();
    assert!(key.is_some());
    let activations = run(cluster, "kubectl get activations --all-namespaces -o name").await;
    assert_eq!(activations, "activation.golive.dev/hola\n");
}

#[test]
fn the_one_file_has_the_definitions_and_what_the_base_has() {
    let text = std::fs::read_to_string(root().join("install.yaml")).unwrap();
    let by_name = |objects: Vec<Value>| -> BTreeMap<String, Value> {
        objects
            .into_iter()
            .map(|object| (named(&object), object))
            .collect()
    };
    let one = by_name(objects(&text));
    let mut parts = kustomized("manifests/base");
    for file in ["crds/activations.yaml", "crds/activationapprovals.yaml"] {
        parts.extend(objects(
            &std::fs::read_to_string(root().join(file)).unwrap(),
        ));
    }
    assert_eq!(one, by_name(parts));
    // In the order in which one `kubectl apply` works: each after what it needs.
    let kinds: Vec<String> = objects(&text)
        .iter()
        .map(|object| object["kind"].as_str().unwrap().to_owned())
        .collect();
    let at = |kind: &str| kinds.iter().position(|found| found == kind).unwrap();
    assert_eq!(at("CustomResourceDefinition"), 0);
    assert!(at("Namespace") < at("ServiceAccount") && at("ServiceAccount") < at("Deployment"));
}

#[tokio::test]
async fn every_object_of_every_overlay_is_taken_by_the_api_server() {
    let cluster = cluster().await;
    let client = cluster.client().unwrap();
    for entry in std::fs::read_dir(root().join("manifests/overlays")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let all = kustomized(&format!("manifests/overlays/{name}"));
        assert!(all.len() > 20, "{name}");
        for object in all {
            let taken = checked(&client, &object).await;
            taken.unwrap_or_else(|e| panic!("{name}: {}: {e}", named(&object)));
        }
    }
}

#[test]
fn high_availability_survives_a_node_and_a_drain() {
    let all = kustomized("manifests/overlays/high-availability");
    let one = |kind: &str| all.iter().find(|object| object["kind"] == kind).unwrap();
    let spec = &one("Deployment")["spec"];
    assert_eq!(spec["replicas"], 3);
    let pod = &spec["template"]["spec"];
    assert_eq!(pod["priorityClassName"], "system-cluster-critical");
    let spread = pod["topologySpreadConstraints"].as_array().unwrap();
    let keys: Vec<(&str, &str)> = spread
        .iter()
        .map(|rule| {
            (
                rule["topologyKey"].as_str().unwrap(),
                rule["whenUnsatisfiable"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        keys,
        [
            ("kubernetes.io/hostname", "DoNotSchedule"),
            ("topology.kubernetes.io/zone", "ScheduleAnyway"),
        ]
    );
    assert_eq!(one("PodDisruptionBudget")["spec"]["minAvailable"], 2);
}
