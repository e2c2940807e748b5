//! The chart: what it renders for many sets of values, what it refuses, and that it installs what the
//! manifests install.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::collections::{BTreeMap, BTreeSet};

use kube_env::ControlPlane;
use serde_json::{Value, json};

use super::{chart, checked, kustomized, named, objects, pod, restricted};
use crate::support::env::root;
use crate::support::published::{Rendered, helm};

/// Renders the chart as release `golive` in a namespace.
fn rendered(namespace: &str, values: &Value) -> Result<Rendered, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("values.yaml");
    std::fs::write(&file, values.to_string()).unwrap();
    let chart = chart();
    let flags = [
        "--chart",
        chart.to_str().unwrap(),
        "--namespace",
        namespace,
        "--values",
        file.to_str().unwrap(),
    ];
    helm("template", &flags)
}

/// Sets of values that people use; each is rendered, and every object checked by the API server.
fn sets(namespace: &str) -> Vec<(&'static str, Value)> {
    let digest = format!("sha256:{}", "0f".repeat(32));
    vec![
        ("defaults", json!({})),
        (
            "one namespace",
            json!({"scope": "Namespaces", "namespaces": [namespace]}),
        ),
        (
            "two namespaces",
            json!({"scope": "Namespaces", "namespaces": ["default", namespace]}),
        ),
        (
            "selected namespaces",
            json!({"scope": "SelectedNamespaces", "namespaces": [namespace]}),
        ),
        (
            "no namespace selected yet",
            json!({"scope": "SelectedNamespaces"}),
        ),
        (
            "high availability",
            json!({
                "replicas": 3, "priorityClassName": "system-cluster-critical",
                "topologySpread": "DoNotSchedule",
            }),
        ),
        ("a single process", json!({"replicas": 1})),
        (
            "an image by digest from a private registry",
            json!({"image": {
                "repository": "registry.example.com:5000/tools/golive", "digest": digest,
                "pullSecrets": [{"name": "registry"}], "pullPolicy": "Always",
            }}),
        ),
        (
            "beside another release",
            json!({
                "crds": {"install": false}, "rbac": {"userRoles": false},
                "policies": {"users": false},
                "scope": "Namespaces", "namespaces": [namespace],
            }),
        ),
        (
            "no policies, no reviewer, no network policy",
            json!({
                "policies": {"users": false, "operator": false}, "rbac": {"reviewer": false},
                "networkPolicy": {"create": false}, "podDisruptionBudget": false,
            }),
        ),
        (
            "placed on chosen nodes",
            json!({
                "nodeSelector": {"pool": "system"},
                "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}],
                "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{
                    "topologyKey": "topology.kubernetes.io/zone",
                    "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "golive"}},
                }]}},
                "podAnnotations": {"a.example/b": "c"}, "podLabels": {"team": "platform"},
            }),
        ),
        (
            "settings, and definitions that go with the release",
            json!({
                "settings": {
                    "recheckInterval": "1m30s", "maxConcurrentReconciles": 100,
                    "requireSecretOptIn": true, "appTokens": false, "raisedLimits": 5,
                    "log": "debug", "logFormat": "text",
                },
                "extraEnv": [{"name": "GOLIVE_SETTLE", "value": "20s"}],
                "crds": {"keep": false},
            }),
        ),
        (
            "more ports and another namespace for metrics",
            json!({"networkPolicy": {
                "monitoringNamespace": "observability", "egressPorts": [443, 6443, 5432],
            }}),
        ),
        (
            "a ServiceMonitor",
            json!({"serviceMonitor": {"create": true, "labels": {"release": "prometheus"}}}),
        ),
    ]
}

#[tokio::test]
async fn every_object_of_every_set_of_values_is_taken_by_the_api_server_and_every_pod_is_restricted()
 {
    let cluster = ControlPlane::shared().await.unwrap().cluster();
    let client = cluster.client().unwrap();
    let namespace = cluster.create_namespace("chart").await.unwrap();
    restricted(cluster, &namespace).await;
    for (set, values) in sets(&namespace) {
        let rendered = rendered(&namespace, &values).unwrap_or_else(|e| panic!("{set}: {e}"));
        let mut all = objects(&rendered.manifest);
        all.extend(rendered.hooks.iter().flat_map(|hook| objects(hook)));
        let deployments = all.iter().filter(|object| object["kind"] == "Deployment");
        assert_eq!(deployments.count(), 1, "{set}");
        for object in &all {
            // The definitions of the Prometheus operator are not in this cluster.
            if object["kind"] == "ServiceMonitor" {
                assert_eq!(object["metadata"]["labels"]["release"], "prometheus");
                continue;
            }
            let taken = checked(&client, object).await;
            taken.unwrap_or_else(|e| panic!("{set}: {}: {e}", named(object)));
            if let Some(mut pod) = pod(object) {
                pod["metadata"]["namespace"] = json!(namespace);
                // The account is not there, and is none of the standard.
                pod["spec"]
                    .as_object_mut()
                    .unwrap()
                    .remove("serviceAccountName");
                let taken = checked(&client, &pod).await;
                taken.unwrap_or_else(|e| panic!("{set}: pod of {}: {e}", named(object)));
            }
        }
        assert!(rendered.notes.contains("fly tokens create org"), "{set}");
    }
}

#[test]
fn the_chart_has_no_complaint_of_lint() {
    let chart = chart();
    let messages = helm("lint", &["--chart", chart.to_str().unwrap()])
        .unwrap()
        .messages;
    let serious = messages
        .iter()
        .filter(|message| !message.starts_with("[INFO]"));
    assert_eq!(serious.collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn a_name_that_yaml_reads_as_something_else_stays_a_name() {
    let values = json!({
        "scope": "Namespaces", "namespaces": ["123", "on"], "priorityClassName": "123",
        "networkPolicy": {"monitoringNamespace": "123"},
    });
    let made = rendered("456", &values).unwrap();
    let mut namespaces = BTreeSet::new();
    for object in objects(&made.manifest) {
        let namespace = &object["metadata"]["namespace"];
        if !namespace.is_null() {
            namespaces.insert(namespace.as_str().unwrap().to_owned());
        }
        let class = &object["spec"]["template"]["spec"]["priorityClassName"];
        assert!(object["kind"] != "Deployment" || class == "123", "{class}");
        let from = &object["spec"]["ingress"][0]["from"][0]["namespaceSelector"]["matchLabels"];
        let from = &from["kubernetes.io/metadata.name"];
        assert!(object["kind"] != "NetworkPolicy" || from == "123", "{from}");
    }
    let expected = ["123", "456", "on"].map(str::to_owned);
    assert_eq!(namespaces, BTreeSet::from(expected));
}

/// Values with these further variables.
fn extra(names: &[&str]) -> Value {
    let variable = |name: &&str| json!({"name": name, "value": "x"});
    let variables: Vec<Value> = names.iter().map(variable).collect();
    json!({"extraEnv": variables})
}

/// A variable that the chart sets and `extraEnv` may set again would be there twice.
#[test]
fn every_variable_that_the_chart_sets_is_refused_as_a_further_one() {
    let values = json!({"scope": "Namespaces", "namespaces": ["default"]});
    let made = rendered("golive-system", &values).unwrap();
    let all = objects(&made.manifest);
    let deployment = all.iter().find(|object| object["kind"] == "Deployment");
    let container = &deployment.unwrap()["spec"]["template"]["spec"]["containers"][0];
    let variables = container["env"].as_array().unwrap();
    assert!(variables.len() > 5, "{variables:?}");
    for variable in variables {
        let name = variable["name"].as_str().unwrap();
        let refused = rendered("golive-system", &extra(&[name])).unwrap_err();
        assert!(refused.contains(name), "{refused}");
    }
}

#[test]
fn a_value_that_is_unknown_or_wrong_is_refused_and_named() {
    for (values, named) in [
        (json!({"replica": 3}), "replica"),
        (json!({"image": {"tags": "1"}}), "tags"),
        (
            json!({"settings": {"recheckInterval": "5 minutes"}}),
            "recheckInterval",
        ),
        (json!({"replicas": 0}), "replicas"),
        (json!({"replicas": "2"}), "replicas"),
        (json!({"scope": "Everything"}), "scope"),
        (json!({"image": {"digest": "sha256:abc"}}), "digest"),
        (json!({"namespaces": ["Shop"]}), "namespaces"),
        (
            json!({"extraEnv": [{"name": "PATH", "value": "x"}]}),
            "extraEnv",
        ),
        (
            json!({"networkPolicy": {"egressPorts": [70000]}}),
            "egressPorts",
        ),
        (
            // A rule without ports allows all of them.
            json!({"networkPolicy": {"egressPorts": []}}),
            "egressPorts",
        ),
        (extra(&["GOLIVE_LOG"]), "settings.log"),
        (extra(&["GOLIVE_NAMESPACE"]), "`scope` and `namespaces`"),
        (extra(&["GOLIVE_OWN_NAMESPACE"]), "GOLIVE_OWN_NAMESPACE"),
        (extra(&["GOLIVE_LEASE_NAME"]), "GOLIVE_LEASE_NAME"),
        (extra(&["GOLIVE_LISTEN"]), "GOLIVE_LISTEN"),
        (extra(&["GOLIVE_SETTLE", "GOLIVE_SETTLE"]), "set twice"),
        (
            json!({"podLabels": {"app.kubernetes.io/name": "x"}}),
            "app.kubernetes.io/name is set by the chart",
        ),
        (
            json!({"scope": "Namespaces"}),
            "needs at least one namespace",
        ),
        (
            json!({"namespaces": ["shop"]}),
            "no effect with scope: Cluster",
        ),
    ] {
        let refused = rendered("golive-system", &values).unwrap_err();
        assert!(refused.contains(named), "{values}: {refused}");
    }
}

/// Without what the chart adds to every object, and what it can have in addition.
fn comparable(mut object: Value) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(map) => {
                for added in [
                    "app.kubernetes.io/instance",
                    "app.kubernetes.io/managed-by",
                    "app.kubernetes.io/version",
                    "helm.sh/chart",
                ] {
                    map.remove(added);
                }
                map.values_mut().for_each(strip);
            }
            Value::Array(list) => list.iter_mut().for_each(strip),
            _ => {}
        }
    }
    // The policies name labels of the operator's own objects: they are texts, and stay.
    strip(&mut object);
    match object["kind"].as_str() {
        Some("Deployment") => {
            let container = &mut object["spec"]["template"]["spec"]["containers"][0];
            let env = container["env"].as_array_mut().unwrap();
            // The chart writes defaults out.
            env.retain(|variable| {
                ["GOLIVE_OWN_NAMESPACE", "GOLIVE_NAMESPACE"]
                    .contains(&variable["name"].as_str().unwrap())
            });
            env.sort_by_key(|variable| variable["name"].to_string());
        }
        Some("NetworkPolicy") => {
            // The pod of `helm test`.
            let from = object["spec"]["ingress"][0]["from"].as_array_mut().unwrap();
            from.retain(|peer| peer["podSelector"].is_null());
        }
        _ => {}
    }
    object
}

fn by_name(objects: Vec<Value>) -> BTreeMap<String, Value> {
    let kept = objects.into_iter().filter(|object| {
        !["Namespace", "CustomResourceDefinition"].contains(&object["kind"].as_str().unwrap())
    });
    kept.map(|object| (named(&object), comparable(object)))
        .collect()
}

#[test]
fn the_chart_and_the_manifests_install_the_same_objects() {
    for (values, folder) in [
        (json!({}), "manifests/base"),
        (
            json!({"scope": "Namespaces", "namespaces": ["default"]}),
            "manifests/overlays/namespaced",
        ),
        (
            json!({"scope": "SelectedNamespaces"}),
            "manifests/overlays/selected-namespaces",
        ),
        (
            json!({
                "replicas": 3, "topologySpread": "DoNotSchedule",
                "priorityClassName": "system-cluster-critical",
            }),
            "manifests/overlays/high-availability",
        ),
    ] {
        let made = rendered("golive-system", &values).unwrap();
        let (chart, manifests) = (
            by_name(objects(&made.manifest)),
            by_name(kustomized(folder)),
        );
        let names = |objects: &BTreeMap<String, Value>| objects.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&chart), names(&manifests), "{folder}");
        for (name, object) in &manifests {
            assert_eq!(&chart[name], object, "{folder}: {name}");
        }
    }
}

#[test]
fn the_chart_has_the_version_of_the_program_and_the_definitions_of_the_repository() {
    let text = std::fs::read_to_string(chart().join("Chart.yaml")).unwrap();
    let about = objects(&text).remove(0);
    for field in ["version", "appVersion"] {
        assert_eq!(about[field], env!("CARGO_PKG_VERSION"), "{field}");
    }
    let images = about["annotations"]["artifacthub.io/images"]
        .as_str()
        .unwrap();
    assert!(
        images.contains(&format!("golive:{}\n", env!("CARGO_PKG_VERSION"))),
        "{images}"
    );

    let made = rendered("golive-system", &json!({})).unwrap();
    let mut found = 0;
    for object in objects(&made.manifest) {
        if object["kind"] == "CustomResourceDefinition" {
            let file = format!(
                "crds/{}.yaml",
                object["spec"]["names"]["plural"].as_str().unwrap()
            );
            let ours = objects(&std::fs::read_to_string(root().join(file)).unwrap()).remove(0);
            assert_eq!(object["spec"], ours["spec"]);
            // By each of these another tool is kept from pruning it, and every Activation with it.
            let annotations = &object["metadata"]["annotations"];
            assert_eq!(annotations["helm.sh/resource-policy"], "keep");
            for annotations in [annotations, &ours["metadata"]["annotations"]] {
                let argo = &annotations["argocd.argoproj.io/sync-options"];
                assert_eq!(*argo, "Prune=false,Delete=false");
                assert_eq!(annotations["kustomize.toolkit.fluxcd.io/prune"], "disabled");
            }
            found += 1;
        }
    }
    assert_eq!(found, 2);
}
