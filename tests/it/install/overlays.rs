//! `install.yaml` and the overlays, as `kubectl apply` takes them.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::collections::BTreeMap;

use serde_json::Value;

use super::{checked, kustomized, named, objects};
use crate::support::env::root;
use crate::support::installed::cluster;

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
