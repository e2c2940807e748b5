//! The definition of Activations, or a whole namespace, goes away while the operator runs.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube_env::{ControlPlane, control_plane};
use serde_json::json;

use crate::support::env::{Env, LIMIT, root};
use crate::support::trouble::{options, recovered};

/// Waits until an object is gone.
async fn gone<K>(api: &Api<K>, name: &str)
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let end = Instant::now() + LIMIT;
    while let Some(left) = api.get_opt(name).await.unwrap() {
        assert!(Instant::now() < end, "{name} is not gone: {left:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// F21: the definition is removed, which deletes all objects, and added again. The same process goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_definition_that_is_removed_and_added_again_leaves_nothing_behind_and_works_again() {
    let own = ControlPlane::start(control_plane::Options::default())
        .await
        .unwrap();
    let cluster = own.cluster().clone();
    cluster.apply_paths([root().join("crds")]).await.unwrap();
    let mut env = Env::on(cluster.clone(), options()).await;
    env.start_operator(&[]).await;
    env.activation("hola", json!({})).await;
    recovered(&env, "hola").await;

    let definitions: Api<CustomResourceDefinition> = Api::all(env.kube.clone());
    let name = "activations.golive.dev";
    definitions.delete(name, &Default::default()).await.unwrap();
    gone(&definitions, name).await;
    assert!(
        env.sim.apps().is_empty(),
        "its objects were deleted in good order"
    );

    cluster.apply_paths([root().join("crds")]).await.unwrap();
    env.activation("hola", json!({})).await;
    recovered(&env, "hola").await;
    assert_eq!(env.sim.machines("hola-cabanas").len(), 2);
    env.delete("hola").await;
    assert!(env.sim.apps().is_empty());
}

/// F22: a namespace is deleted, with several live objects that share a token. What belongs to the
/// operator is in its own namespace.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_deleted_goes_with_all_its_applications() {
    let mut env = Env::without_operator(options()).await;
    let own = env.cluster.create_namespace("own").await.unwrap();
    env.start_operator(&["--own-namespace", &own]).await;
    let apps = ["hola-cabanas", "otra-cabanas", "mas-cabanas"];
    for app in apps {
        env.activation(app, json!({"app": app})).await;
    }
    for app in apps {
        recovered(&env, app).await;
    }

    let namespaces: Api<Namespace> = Api::all(env.kube.clone());
    namespaces
        .delete(&env.namespace, &Default::default())
        .await
        .unwrap();

    gone(&namespaces, &env.namespace).await;
    assert!(env.sim.apps().is_empty(), "{:?}", env.sim.apps());
}
