//! The files for Argo CD by the tests in their own layout (argoproj/argo-cd, `resource_customizations`:
//! `health_test.yaml` and `actions/action_test.yaml`), with objects from a real API server.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::path::Path;

use serde_json::{Value, json};

use super::argo;
use crate::support::env::root;
use crate::support::published::{judge, script};

fn yaml(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn the_health_of_every_test_object_is_as_its_test_says() {
    let tests = yaml(&argo().join("health_test.yaml"));
    let tests = tests["tests"].as_array().unwrap();
    let objects: Vec<Value> = tests
        .iter()
        .map(|test| yaml(&argo().join(test["inputPath"].as_str().unwrap())))
        .collect();
    let verdicts = judge(&objects, "manifests/gitops/flux/activations.yaml");
    for (test, verdict) in tests.iter().zip(&verdicts) {
        let expected = &test["healthStatus"];
        assert_eq!(verdict.argo, expected["status"].as_str().unwrap(), "{test}");
        assert_eq!(
            verdict.message,
            expected["message"].as_str().unwrap(),
            "{test}"
        );
    }
    // Every object is tested.
    let files = std::fs::read_dir(argo().join("testdata")).unwrap().count();
    assert_eq!(tests.len(), files);
    assert!(files >= 12);
}

/// Both sides without the time of the click.
fn without_time(mut object: Value) -> Value {
    for key in ["golive.dev/reconcile-requested-at", "golive.dev/retry"] {
        if let Some(token) = object["metadata"]["annotations"].get_mut(key) {
            assert!(!token.as_str().unwrap().is_empty());
            *token = json!("a time");
        }
    }
    // Lua does not tell an empty list from an empty map; Argo CD takes what it was before.
    object.as_object_mut().unwrap().remove("status");
    if object["metadata"]["annotations"] == json!([])
        || object["metadata"]["annotations"] == json!({})
    {
        object["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("annotations");
    }
    object
}

#[test]
fn the_actions_are_offered_and_change_the_object_as_their_tests_say() {
    let actions = argo().join("actions");
    let tests = yaml(&actions.join("action_test.yaml"));
    for test in tests["discoveryTests"].as_array().unwrap() {
        let object = yaml(&actions.join(test["inputPath"].as_str().unwrap()));
        let found = script(&actions.join("discovery.lua"), &object);
        for offered in test["result"].as_array().unwrap() {
            let name = offered["name"].as_str().unwrap();
            assert_eq!(
                found[name]["disabled"], offered["disabled"],
                "{name}: {test}"
            );
        }
        assert_eq!(
            found.as_object().unwrap().len(),
            test["result"].as_array().unwrap().len()
        );
    }
    let mut tested = 0;
    for test in tests["actionTests"].as_array().unwrap() {
        let action = test["action"].as_str().unwrap();
        let before = yaml(&actions.join(test["inputPath"].as_str().unwrap()));
        let after = script(&actions.join(action).join("action.lua"), &before);
        let expected = yaml(&actions.join(test["expectedOutputPath"].as_str().unwrap()));
        assert_eq!(without_time(after), without_time(expected), "{action}");
        tested += 1;
    }
    assert!(tested >= 5, "each action is tested");
}

#[test]
fn the_patch_for_the_config_map_has_the_scripts_as_they_are() {
    let patch = yaml(&root().join("manifests/gitops/argocd/argocd-cm-patch.yaml"));
    let read = |name: &str| std::fs::read_to_string(argo().join(name)).unwrap();
    let data = &patch["data"];
    assert_eq!(
        data["resource.customizations.health.golive.dev_Activation"],
        read("health.lua")
    );
    let actions = data["resource.customizations.actions.golive.dev_Activation"]
        .as_str()
        .unwrap();
    let actions: Value = serde_saphyr::from_str(actions).unwrap();
    assert_eq!(actions["discovery.lua"], read("actions/discovery.lua"));
    let definitions = actions["definitions"].as_array().unwrap();
    let names: Vec<&str> = definitions
        .iter()
        .map(|d| d["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["reconcile", "retry", "abort", "suspend", "resume"]);
    for definition in definitions {
        let name = definition["name"].as_str().unwrap();
        assert_eq!(
            definition["action.lua"],
            read(&format!("actions/{name}/action.lua")),
            "{name}"
        );
    }
}
