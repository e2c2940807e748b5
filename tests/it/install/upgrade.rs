//! A release by Helm over its life: from the version before to this one, tested, uninstalled without a loss,
//! and installed again; in a namespace that enforces the standard *restricted*.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::path::{Path, PathBuf};

use golive::api::Activation;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use kube_env::{Cluster, ControlPlane, control_plane};
use serde_json::{Value, json};

use super::{chart, checked, objects, pod, restricted};
use crate::support::env::root;
use crate::support::installed::eventually;
use crate::support::published::{Rendered, helm};

const HOME: &str = "golive-system";

/// A field of the status that the version before did not have.
const NEW_FIELD: &str = "incidents";

/// The chart as the version before would have had it: definitions without a field, and an object that
/// this version has no more.
fn version_before(folder: &Path) -> PathBuf {
    let before = folder.join("golive");
    copy(&chart(), &before);
    let about = std::fs::read_to_string(before.join("Chart.yaml")).unwrap();
    let version = format!("version: {}", env!("CARGO_PKG_VERSION"));
    assert!(about.contains(&version));
    std::fs::write(
        before.join("Chart.yaml"),
        about.replace(&version, "version: 0.0.9"),
    )
    .unwrap();
    let mut definitions = String::new();
    for name in ["activations", "activationapprovals"] {
        let text = std::fs::read_to_string(root().join(format!("crds/{name}.yaml"))).unwrap();
        let mut definition = objects(&text).remove(0);
        definition["metadata"]["annotations"] = json!({"helm.sh/resource-policy": "keep"});
        if name == "activations" {
            let status = &mut status_of(&mut definition)["properties"];
            status
                .as_object_mut()
                .unwrap()
                .remove(NEW_FIELD)
                .expect("a field");
        }
        let text = definition.to_string();
        assert!(!text.contains("{{"), "it would be read as a template");
        definitions.push_str(&format!("---\n{text}\n"));
    }
    std::fs::write(before.join("templates/crds.yaml"), definitions).unwrap();
    std::fs::write(
        before.join("templates/former.yaml"),
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: former\n  namespace: {{ .Release.Namespace }}\n",
    )
    .unwrap();
    before
}

fn status_of(definition: &mut Value) -> &mut Value {
    &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, target).unwrap();
        }
    }
}

/// One action of Helm on the release `golive`, with the rights of the administrator.
async fn act(cluster: &Cluster, action: &'static str, chart: &Path) -> Rendered {
    act_with(cluster, action, chart, &json!({})).await
}

/// The same with values.
async fn act_with(
    cluster: &Cluster,
    action: &'static str,
    chart: &Path,
    values: &Value,
) -> Rendered {
    let (kubeconfig, chart) = (cluster.kubeconfig().to_owned(), chart.to_owned());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("values.yaml");
    std::fs::write(&file, values.to_string()).unwrap();
    let done = tokio::task::spawn_blocking(move || {
        let mut flags = vec![
            "--kubeconfig",
            kubeconfig.to_str().unwrap(),
            "--namespace",
            HOME,
        ];
        if ["install", "upgrade"].contains(&action) {
            flags.extend(["--chart", chart.to_str().unwrap()]);
            flags.extend(["--values", file.to_str().unwrap()]);
        }
        helm(action, &flags)
    });
    done.await
        .unwrap()
        .unwrap_or_else(|error| panic!("{action}: {error}"))
}

async fn knows_the_new_field(client: &Client) -> bool {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let definition = definitions.get("activations.golive.dev").await.unwrap();
    let mut definition = serde_json::to_value(definition).unwrap();
    !status_of(&mut definition)["properties"][NEW_FIELD].is_null()
}

/// Ends the pod of `helm test` as the kubelet would: there are no nodes.
async fn end_the_test_pod(client: &Client) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), HOME);
    let params = ListParams::default().labels("app.kubernetes.io/name=golive-test");
    let name = eventually("the pod of the test", async || {
        let found = pods.list(&params).await.ok()?.items.into_iter().next()?;
        found.metadata.name
    })
    .await;
    let ended = json!({"status": {"phase": "Succeeded"}});
    let ended = Patch::Merge(&ended);
    pods.patch_subresource("status", &name, &PatchParams::default(), &ended)
        .await
        .unwrap();
}

/// As the pages say: the former image, with the definitions of today.
async fn goes_back_by_the_image(cluster: &Cluster, client: &Client) {
    let former = json!({"image": {"tag": "0.0.9"}});
    act_with(cluster, "upgrade", &chart(), &former).await;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), HOME);
    let deployment = serde_json::to_value(deployments.get("golive").await.unwrap()).unwrap();
    let image = &deployment["spec"]["template"]["spec"]["containers"][0]["image"];
    assert!(image.as_str().unwrap().ends_with(":0.0.9"), "{image}");
    assert!(
        knows_the_new_field(client).await,
        "the definition is not taken back"
    );
}

/// As the pages say of `crds.keep: false`: an Activation that is left keeps the definition in deletion.
async fn without_keep_the_definition_waits_for_the_last_activation(
    cluster: &Cluster,
    client: &Client,
) {
    let activations: Api<Activation> = Api::namespaced(client.clone(), "default");
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let finalizers = async |list: Value| {
        let patch = json!({"metadata": {"finalizers": list}});
        let patch = Patch::Merge(&patch);
        let params = PatchParams::default();
        activations.patch("hola", &params, &patch).await.unwrap()
    };
    finalizers(json!(["golive.dev/activation"])).await;
    let goes = json!({"crds": {"keep": false}});
    act_with(cluster, "upgrade", &chart(), &goes).await;
    act(cluster, "uninstall", &chart()).await;
    eventually("the Activation to be in deletion", async || {
        let hola = activations.get("hola").await.ok()?;
        hola.metadata.deletion_timestamp
    })
    .await;
    let definition = definitions.get("activations.golive.dev").await.unwrap();
    assert!(definition.metadata.deletion_timestamp.is_some());
    finalizers(Value::Null).await;
    eventually("the definition to go", async || {
        let found = definitions.get_opt("activations.golive.dev").await.ok()?;
        found.is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_upgraded_with_its_definitions_and_uninstalled_without_losing_an_object() {
    let plane = ControlPlane::start(control_plane::Options::default())
        .await
        .unwrap();
    let cluster = plane.cluster();
    let client = cluster.client().unwrap();
    restricted(cluster, HOME).await;
    let folder = tempfile::tempdir().unwrap();
    let before = version_before(folder.path());

    act(cluster, "install", &before).await;
    assert!(!knows_the_new_field(&client).await);
    let activations: Api<Activation> = Api::namespaced(client.clone(), "default");
    let hola = json!({
        "apiVersion": "golive.dev/v1alpha1", "kind": "Activation",
        "metadata": {"name": "hola", "namespace": "default"},
        "spec": {"organization": "o", "app": "hola", "region": "eze", "deploy": {"image": "x:1"}},
    });
    eventually("the definition to be served", async || {
        cluster.apply_objects(vec![hola.clone()]).await.ok()
    })
    .await;
    let uid = activations.get("hola").await.unwrap().metadata.uid;
    assert!(uid.is_some());

    let upgraded = act(cluster, "upgrade", &chart()).await;
    assert_eq!(upgraded.revision, 2);
    assert!(
        knows_the_new_field(&client).await,
        "the definition is upgraded"
    );
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), HOME);
    assert!(
        maps.get_opt("former").await.unwrap().is_none(),
        "what is no more in it is removed"
    );
    assert_eq!(activations.get("hola").await.unwrap().metadata.uid, uid);
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), HOME);
    let deployment = serde_json::to_value(deployments.get("golive").await.unwrap()).unwrap();
    let mut pod = pod(&json!({"kind": "Deployment", "spec": deployment["spec"]})).unwrap();
    pod["metadata"]["namespace"] = json!(HOME);
    checked(&client, &pod).await.unwrap();

    let (tested, ()) = tokio::join!(act(cluster, "test", &before), end_the_test_pod(&client));
    assert_eq!(tested.messages, ["golive-test Succeeded"]);

    let left = act(cluster, "uninstall", &before).await;
    assert!(
        left.info.contains("activations.golive.dev"),
        "{}",
        left.info
    );
    assert!(deployments.get_opt("golive").await.unwrap().is_none());
    assert_eq!(activations.get("hola").await.unwrap().metadata.uid, uid);

    act(cluster, "install", &chart()).await;
    assert_eq!(activations.get("hola").await.unwrap().metadata.uid, uid);
    assert!(deployments.get_opt("golive").await.unwrap().is_some());
    goes_back_by_the_image(cluster, &client).await;
    without_keep_the_definition_waits_for_the_last_activation(cluster, &client).await;
}
