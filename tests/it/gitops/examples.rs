//! The examples of whole repositories: what the API server knows is applied to it in the order of the
//! layers; the objects of Flux, Argo CD and External Secrets are checked as far as they refer to each
//! other and to files.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::path::{Path, PathBuf};

use kube::Api;
use kube_env::Cluster;
use serde_json::{Value, json};

use crate::support::env::root;
use crate::support::installed::cluster;

/// Groups whose kinds this API server has.
const SERVED: &[&str] = &["v1", "golive.dev/v1alpha1"];

fn read(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    kube_env::cluster::parse_yaml(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// All objects below a folder, without kustomizations.
fn below(folder: &Path) -> Vec<Value> {
    let mut found = Vec::new();
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            found.extend(below(&path));
        } else if path.extension().is_some_and(|e| e == "yaml") {
            let objects = read(&path).into_iter();
            found.extend(
                objects.filter(|object| object["kind"] != "Kustomization" || is_flux(object)),
            );
        }
    }
    found
}

fn is_flux(object: &Value) -> bool {
    let version = object["apiVersion"].as_str().unwrap_or_default();
    version.starts_with("kustomize.toolkit.fluxcd.io/")
}

/// Applies what the server knows, into a namespace of the test's own, and returns how many Activations
/// there were. What External Secrets and SOPS make is a Secret `fly` with a token.
async fn applied(cluster: &Cluster, objects: &[Value]) -> usize {
    let namespace = cluster.create_namespace("gitops").await.unwrap();
    let mut activations = 0;
    for object in objects {
        let mut object = object.clone();
        if object["kind"] == "ExternalSecret" {
            object = json!({
                "apiVersion": "v1", "kind": "Secret",
                "metadata": {"name": object["spec"]["target"]["name"]},
                "stringData": {object["spec"]["data"][0]["secretKey"].as_str().unwrap(): "FlyV1 x"},
            });
        }
        if !SERVED.contains(&object["apiVersion"].as_str().unwrap())
            || object["kind"] == "Namespace"
        {
            continue;
        }
        object["metadata"]["namespace"] = json!(namespace);
        activations += usize::from(object["kind"] == "Activation");
        let taken = cluster.apply_objects(vec![object.clone()]).await;
        taken.unwrap_or_else(|error| panic!("{object:#}: {error:?}"));
    }
    if activations > 0 {
        // Golive reads the token from here.
        let secrets: Api<k8s_openapi::api::core::v1::Secret> =
            Api::namespaced(cluster.client().unwrap(), &namespace);
        let fly = secrets.get("fly").await.unwrap();
        assert!(fly.data.unwrap().contains_key("token"));
    }
    activations
}

#[tokio::test]
async fn the_repository_for_flux_is_applied_in_its_order_and_says_what_is_shipped() {
    let cluster = cluster().await;
    let repository = root().join("examples/gitops/flux");
    let layers: Vec<Value> = below(&repository.join("clusters/production"));
    assert_eq!(layers.len(), 4);
    let mut before: Vec<String> = Vec::new();
    let mut activations = 0;
    for layer in &layers_in_order(&layers) {
        let name = layer["metadata"]["name"].as_str().unwrap();
        for needed in layer["spec"]["dependsOn"].as_array().into_iter().flatten() {
            let needed = needed["name"].as_str().unwrap().to_owned();
            assert!(before.contains(&needed), "{name} needs {needed}");
        }
        let path = layer["spec"]["path"]
            .as_str()
            .unwrap()
            .trim_start_matches("./");
        let folder = repository.join(path);
        assert!(folder.join("kustomization.yaml").is_file(), "{path}");
        let found = applied(cluster, &below(&folder)).await;
        if found > 0 {
            assert!(
                before.contains(&"golive".to_owned()),
                "{name} comes before the operator"
            );
            // Nothing is deleted because a file has moved, and the health is the shipped one.
            assert_eq!(layer["spec"]["prune"], false, "{name}");
            let shipped = ["activations", "gates"].map(|file| {
                let path = format!("manifests/gitops/flux/{file}.yaml");
                read(&root().join(path))[0]["spec"]["healthCheckExprs"].clone()
            });
            assert!(
                shipped.contains(&layer["spec"]["healthCheckExprs"]),
                "{name}"
            );
        }
        activations += found;
        before.push(name.to_owned());
    }
    assert_eq!(activations, 2);
}

/// As Flux does: whatever needs another comes after it.
fn layers_in_order(layers: &[Value]) -> Vec<Value> {
    let mut sorted: Vec<Value> = Vec::new();
    while sorted.len() < layers.len() {
        let is_in =
            |name: &Value, sorted: &[Value]| sorted.iter().any(|l| l["metadata"]["name"] == *name);
        let next = layers.iter().find(|layer| {
            let needs = layer["spec"]["dependsOn"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            !is_in(&layer["metadata"]["name"], &sorted)
                && needs.iter().all(|needed| is_in(&needed["name"], &sorted))
        });
        sorted.push(
            next.expect("no circle, and no layer that is not there")
                .clone(),
        );
    }
    sorted
}

#[tokio::test]
async fn the_repository_for_argo_cd_is_applied_in_its_waves() {
    let cluster = cluster().await;
    let repository = root().join("examples/gitops/argocd");
    let application = read(&repository.join("root.yaml")).remove(0);
    let bootstrap = repository.join(application["spec"]["source"]["path"].as_str().unwrap());
    let mut applications = below(&bootstrap);
    let wave = |object: &Value| -> i64 {
        let wave = &object["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"];
        wave.as_str().unwrap_or("0").parse().unwrap()
    };
    applications.sort_by_key(wave);
    assert_eq!(applications[0]["metadata"]["name"], "golive");
    let mut activations = 0;
    for application in &applications {
        let name = application["metadata"]["name"].as_str().unwrap();
        let spec = &application["spec"];
        let sources = spec["sources"].as_array().cloned().unwrap_or_default();
        for source in sources.iter().chain([&spec["source"]]) {
            let Some(path) = source["path"].as_str() else {
                continue;
            };
            let mut objects = below(&repository.join(path));
            objects.sort_by_key(wave);
            let found = applied(cluster, &objects).await;
            if found > 0 {
                assert!(wave(application) > wave(&applications[0]), "{name}");
                assert_eq!(spec["syncPolicy"]["automated"]["prune"], false, "{name}");
                let options = spec["syncPolicy"]["syncOptions"].to_string();
                assert!(
                    options.contains("SkipDryRunOnMissingResource=true"),
                    "{name}"
                );
            }
            for object in objects
                .iter()
                .filter(|object| object["kind"] == "Activation")
            {
                let annotations = &object["metadata"]["annotations"];
                assert_eq!(
                    annotations["argocd.argoproj.io/sync-options"],
                    "Prune=false,Delete=false"
                );
            }
            activations += found;
        }
    }
    assert_eq!(activations, 2);
}

/// The operator's namespace has its records, and an application goes with the namespace of its Activation.
#[test]
fn no_namespace_of_an_example_is_pruned() {
    let mut namespaces = 0;
    let folders = ["flux/infrastructure", "flux/apps", "argocd/golive"];
    let folders = folders.map(|folder| root().join("examples/gitops").join(folder));
    for object in folders.iter().flat_map(|folder| below(folder)) {
        if object["kind"] != "Namespace" {
            continue;
        }
        let annotations = &object["metadata"]["annotations"];
        let flux = annotations["kustomize.toolkit.fluxcd.io/prune"] == "disabled";
        let argo = annotations["argocd.argoproj.io/sync-options"] == "Prune=false,Delete=false";
        assert!(flux, "{object}");
        assert!(
            argo || object["metadata"]["name"] != "golive-system",
            "{object}"
        );
        namespaces += 1;
    }
    assert_eq!(namespaces, 4);
}

/// The values in both examples are values of the chart.
#[test]
fn the_values_of_the_examples_are_values_of_the_chart() {
    let release = read(&root().join("examples/gitops/flux/infrastructure/golive/release.yaml"));
    let application = read(&root().join("examples/gitops/argocd/bootstrap/golive.yaml"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("values.yaml");
    let chart = root().join("charts/golive");
    for values in [
        &release[1]["spec"]["values"],
        &application[0]["spec"]["sources"][0]["helm"]["valuesObject"],
    ] {
        assert!(values["scope"].is_string(), "{values}");
        std::fs::write(&file, values.to_string()).unwrap();
        let flags = [
            "--chart",
            chart.to_str().unwrap(),
            "--values",
            file.to_str().unwrap(),
        ];
        crate::support::published::helm("template", &flags).unwrap();
    }
}

/// A rollback by Helm takes the definitions back, and fields of every status with them.
#[test]
fn flux_takes_only_a_signed_chart_and_tries_again_without_a_rollback() {
    let release = read(&root().join("examples/gitops/flux/infrastructure/golive/release.yaml"));
    for action in ["install", "upgrade"] {
        let action = &release[1]["spec"][action];
        assert_eq!(action["strategy"]["name"], "RetryOnFailure");
        assert!(action["remediation"].is_null(), "{action}");
    }
    let verify = &release[0]["spec"]["verify"];
    assert_eq!(verify["provider"], "cosign");
    let identity = &verify["matchOIDCIdentity"][0];
    let page = std::fs::read_to_string(root().join("docs/install.md")).unwrap();
    let page = page.replace("\\.", ".");
    for field in ["issuer", "subject"] {
        let text = identity[field].as_str().unwrap().replace("\\.", ".");
        let text = text.trim_start_matches('^').trim_end_matches('$');
        assert!(page.contains(text), "{text}");
    }
}

/// Both patches are taken for the ConfigMap that Argo CD reads.
#[tokio::test]
async fn the_patches_for_argo_cd_are_taken_by_its_config_map() {
    let cluster = cluster().await;
    let namespace = cluster.create_namespace("argocd").await.unwrap();
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "argocd-cm", "namespace": namespace}, "data": {"url": "https://cd.example"},
    });
    cluster.apply_objects(vec![map]).await.unwrap();
    for patch in [
        "manifests/gitops/argocd/argocd-cm-patch.yaml",
        "examples/gitops/argocd/argocd-cm-applications.yaml",
    ] {
        let output = std::process::Command::new("kubectl")
            .args([
                "--namespace",
                &namespace,
                "patch",
                "configmap",
                "argocd-cm",
                "--patch-file",
            ])
            .arg(root().join(patch))
            .env("KUBECONFIG", cluster.kubeconfig())
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{patch}: {errors}");
    }
    let maps: Api<k8s_openapi::api::core::v1::ConfigMap> =
        Api::namespaced(cluster.client().unwrap(), &namespace);
    let data = maps.get("argocd-cm").await.unwrap().data.unwrap();
    assert_eq!(data.len(), 4, "{:?}", data.keys());
    assert!(
        data["resource.customizations.health.golive.dev_Activation"].starts_with("-- Health of a")
    );
}
