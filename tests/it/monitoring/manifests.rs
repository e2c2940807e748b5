//! `manifests/monitoring`: its alerts fire when they must and not otherwise, and each path that it names exists.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::promtool::content;
use crate::support::env::root;

/// A file of `manifests/monitoring` that has one document.
pub fn document(name: &str) -> Value {
    let path = root().join("manifests/monitoring").join(name);
    serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Name and expression of every alert for Golive itself.
pub fn alerts() -> Vec<(String, String)> {
    let rules = document("rules.yaml");
    let groups = rules["spec"]["groups"].as_array().unwrap().clone();
    let rules = groups
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap().clone());
    let text = |rule: &Value, field: &str| rule[field].as_str().unwrap().to_owned();
    rules
        .map(|rule| (text(&rule, "alert"), text(&rule, "expr")))
        .collect()
}

#[test]
fn every_alert_fires_when_it_must_and_does_not_when_it_must_not() {
    let folder = tempfile::tempdir().unwrap();
    let spec = serde_saphyr::to_string(&document("rules.yaml")["spec"]).unwrap();
    fs::write(folder.path().join("rules.yaml"), spec).unwrap();
    let cases = fs::read_to_string(root().join("tests/checks/rules.test.yaml")).unwrap();
    fs::write(folder.path().join("rules.test.yaml"), &cases).unwrap();

    content(folder.path(), &["check", "rules", "rules.yaml"]);
    content(folder.path(), &["test", "rules", "rules.test.yaml"]);

    let cases: Value = serde_saphyr::from_str(&cases).unwrap();
    let cases = cases["tests"].as_array().unwrap().iter();
    let cases = cases.flat_map(|test| test["alert_rule_test"].as_array().unwrap());
    let (mut fires, mut rests) = (BTreeSet::new(), BTreeSet::new());
    for case in cases {
        let name = case["alertname"].as_str().unwrap().to_owned();
        let expected = case["exp_alerts"]
            .as_array()
            .is_some_and(|all| !all.is_empty());
        if expected {
            fires.insert(name)
        } else {
            rests.insert(name)
        };
    }
    let all: BTreeSet<String> = alerts().into_iter().map(|(name, _)| name).collect();
    assert_eq!(fires, all, "each needs a case in which it fires");
    assert_eq!(rests, all, "each needs a case in which it does not");
    let wanted = [
        "ActivationStalled",
        "BudgetBurn",
        "ControllerErrors",
        "DeadlineNear",
        "FlyRateLimited",
        "GatePending",
        "LeaderLost",
        "RolledBack",
        "SuspendedTooLong",
    ];
    assert_eq!(all.iter().collect::<Vec<_>>(), wanted);
}

#[test]
fn every_alert_says_what_it_is_and_names_a_page_that_exists() {
    let rules = document("rules.yaml");
    let groups = rules["spec"]["groups"].as_array().unwrap();
    for rule in groups
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap())
    {
        let notes = &rule["annotations"];
        for field in ["summary", "description"] {
            assert!(notes[field].as_str().unwrap().len() > 20, "{rule}");
        }
        let page = notes["runbook_url"].as_str().unwrap();
        let page = page.split_once("/blob/main/").unwrap().1;
        let (page, part) = page.split_once('#').unwrap_or((page, ""));
        let text = fs::read_to_string(root().join(page)).unwrap();
        let is_part = |line: &str| {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            let heading = heading.replace(' ', "-").replace(['.', '`'], "");
            line.starts_with('#') && heading == part
        };
        assert!(
            part.is_empty() || text.lines().any(is_part),
            "{page}#{part}"
        );
    }
}

#[test]
fn kube_state_metrics_reads_only_what_an_activation_has() {
    let crds = golive::api::crds();
    let activation = crds
        .iter()
        .find(|crd| crd.spec.names.kind == "Activation")
        .unwrap();
    let schema = serde_json::to_value(golive::api::schema(activation).unwrap()).unwrap();
    let config = document("kube-state-metrics.yaml");
    let resource = &config["spec"]["resources"][0];
    let kind = &resource["groupVersionKind"];
    assert_eq!(
        (&kind["group"], &kind["kind"]),
        (&"golive.dev".into(), &"Activation".into())
    );
    let step = |schema: &Value, name: &Value| {
        let inside = if schema["items"].is_object() {
            &schema["items"]
        } else {
            schema
        };
        inside["properties"][name.as_str().unwrap()].clone()
    };
    let walk = |from: &Value, path: &Value| {
        let path = path.as_array().unwrap();
        let found = path
            .iter()
            .fold(from.clone(), |schema, name| step(&schema, name));
        assert!(found.is_object(), "an Activation has no {path:?}");
        found
    };
    for metric in resource["metrics"].as_array().unwrap() {
        let each = &metric["each"];
        let kind = each["type"].as_str().unwrap();
        assert!(["Gauge", "Info"].contains(&kind), "{metric}");
        let each = &each[kind.to_lowercase()];
        let at = walk(&schema, &each["path"]);
        for path in each["labelsFromPath"]
            .as_object()
            .into_iter()
            .flat_map(|labels| labels.values())
        {
            walk(&at, path);
        }
        if each["valueFrom"].is_array() {
            walk(&at, &each["valueFrom"]);
        }
    }
}

#[test]
fn kustomize_builds_what_grafana_and_the_prometheus_operator_read() {
    let output = std::process::Command::new("kubectl")
        .arg("kustomize")
        .arg(root().join("manifests/monitoring"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let built = kube_env::cluster::parse_yaml(&String::from_utf8(output.stdout).unwrap()).unwrap();
    let kinds: Vec<(&str, &str)> = built
        .iter()
        .map(|one| {
            (
                one["kind"].as_str().unwrap(),
                one["metadata"]["name"].as_str().unwrap(),
            )
        })
        .collect();
    for wanted in [
        ("ServiceMonitor", "golive"),
        ("PrometheusRule", "golive"),
        ("ConfigMap", "golive-dashboards"),
        ("ConfigMap", "golive-kube-state-metrics"),
    ] {
        assert!(kinds.contains(&wanted), "{kinds:?}");
    }
    let maps = built
        .iter()
        .find(|one| one["metadata"]["name"] == "golive-dashboards")
        .unwrap();
    assert_eq!(maps["metadata"]["labels"]["grafana_dashboard"], "1");
    assert_eq!(maps["data"].as_object().unwrap().len(), 2);
    // The port and the labels are those of the Service.
    let service = fs::read_to_string(root().join("manifests/base/service.yaml")).unwrap();
    let service: Value = serde_saphyr::from_str(&service).unwrap();
    let monitor = built
        .iter()
        .find(|one| one["kind"] == "ServiceMonitor")
        .unwrap();
    assert_eq!(
        monitor["spec"]["endpoints"][0]["port"],
        service["spec"]["ports"][0]["name"]
    );
    let labels = monitor["spec"]["selector"]["matchLabels"]
        .as_object()
        .unwrap();
    for (name, value) in labels {
        assert_eq!(&service["metadata"]["labels"][name], value);
    }
}
