//! Which Secrets an Activation may use, and that the operator does all of its work with the shipped
//! rights and policies.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::collections::BTreeSet;

use golive::api::Activation;
use k8s_openapi::api::{
    core::v1::{ConfigMap, Secret},
    rbac::v1::{ClusterRoleBinding, RoleBinding},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use kube_env::{ControlPlane, control_plane};
use serde_json::{Value, json};

use super::shipped;
use crate::support::{
    env::{Env, LIMIT, is, message, reason, root},
    trouble::{options, recovered, stopped},
};

const OPT_IN: &str = "--require-secret-opt-in";

async fn label(env: &Env, secret: &str, value: Value) {
    let api: Api<Secret> = Api::namespaced(env.kube.clone(), &env.namespace);
    let body = Patch::Merge(json!({"metadata": {"labels": {"golive.dev/allow": value}}}));
    api.patch(secret, &PatchParams::default(), &body)
        .await
        .unwrap();
}

/// Names of the secrets that the application's machines get at Fly.io.
fn at_fly(env: &Env) -> BTreeSet<String> {
    env.sim.core().read(|world| {
        let apps = world.apps.values();
        apps.flat_map(|app| app.platform.boot_secrets())
            .map(|(name, _)| name)
            .collect()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn where_secrets_must_allow_it_one_without_the_label_is_never_used() {
    let mut env = Env::without_operator(options()).await;
    env.secret("settings", &[("GREETING", "hola")]).await;
    env.start_operator(&[OPT_IN]).await;
    let spec = json!({"provision": {"secrets": {
        "generate": [{"name": "JWT_SECRET"}], "from": [{"secretRef": {"name": "settings"}}],
    }}});
    env.activation("hola", spec).await;

    // The token first: nothing is asked of Fly.io with one that may not be used.
    let status = stopped(&env, "hola", "SecretNotAllowed").await;
    assert!(env.sim.call_list().is_empty(), "{:?}", env.sim.call_list());
    let command = |secret: &str| {
        format!(
            "`kubectl -n {} label secret {secret} golive.dev/allow=true`",
            env.namespace
        )
    };
    let next = status.next_action.unwrap();
    assert!(next.contains(&command("fly")), "{next}");
    let token: Api<Secret> = Api::namespaced(env.kube.clone(), &env.namespace);
    assert!(token.get("fly").await.unwrap().finalizers().is_empty());
    label(&env, "fly", json!("true")).await;

    // Then what the application gets; another value of the label does not allow it, and a skipped
    // check does not either.
    label(&env, "settings", json!("yes")).await;
    for skip in [
        json!([]),
        json!([{"check": "SecretsResolvable", "justification": "it is fine, I said so"}]),
    ] {
        env.patch("hola", json!({"spec": {"preflight": {"skip": skip}}}))
            .await;
        let generation = env.get("hola").await.unwrap().metadata.generation;
        let status = env
            .wait("hola", "the refusal of settings", |status| {
                status.observed_generation == generation
                    && reason(status, "Ready") == "SecretNotAllowed"
                    && message(status, "Ready").contains("Secret settings")
            })
            .await;
        let next = status.next_action.unwrap();
        assert!(next.contains(&command("settings")), "{next}");
        assert!(!at_fly(&env).contains("GREETING"));
    }
    env.patch("hola", json!({"spec": {"preflight": {"skip": []}}}))
        .await;
    label(&env, "settings", json!("true")).await;
    recovered(&env, "hola").await;
    // The generated one needs no label.
    assert!(at_fly(&env).is_superset(&["GREETING".to_owned(), "JWT_SECRET".to_owned()].into()));

    // Taken back: what serves goes on serving with what it has, and nothing new is used.
    label(&env, "settings", json!(null)).await;
    let status = env
        .wait("hola", "the refusal of a live object", |status| {
            reason(status, "Ready") == "SecretNotAllowed"
        })
        .await;
    assert!(is(&status, "Live", "True"), "{status:?}");
    assert!(at_fly(&env).contains("GREETING"));
    env.delete("hola").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_makes_changes_and_removes_an_application_with_the_shipped_rights() {
    let (_plane, mut env) = shipped().await;
    let rights = env.cluster.config_as("golive-system", "golive").await;
    let flags = ["--namespace", "", "--own-namespace", "golive-system"];
    env.start_operator_as(rights.unwrap(), &flags).await;
    let spec = json!({
        "provision": {"secrets": {
            "generate": [{"name": "JWT_SECRET"}], "rotation": {"overlap": "1s"},
        }},
        "deletionPolicy": {"secrets": "Delete"},
    });
    env.activation("hola", spec).await;
    recovered(&env, "hola").await;
    let secrets: Api<Secret> = Api::namespaced(env.kube.clone(), &env.namespace);
    let first = secrets.get("hola-golive").await.unwrap();
    assert_eq!(first.type_.as_deref(), Some("Opaque"));
    // Replaced, with what others have put on it in between.
    let others = json!({"metadata": {"labels": {"team": "x"}, "annotations": {"note": "y"}, "finalizers": ["example.org/x"]}});
    secrets
        .patch(
            "hola-golive",
            &PatchParams::default(),
            &Patch::Merge(&others),
        )
        .await
        .unwrap();
    let rotate = json!({"metadata": {"annotations": {"golive.dev/rotate-secrets": "now"}}});
    env.patch("hola", rotate).await;
    let update = json!({"spec": {"deploy": {"image": "registry.fly.io/hola-cabanas:again"}}});
    env.patch("hola", update).await;
    env.wait("hola", "the second release", |status| {
        is(status, "Live", "True")
            && status
                .release
                .as_ref()
                .is_some_and(|release| release.number >= Some(2))
    })
    .await;
    recovered(&env, "hola").await;
    let second = secrets.get("hola-golive").await.unwrap();
    assert_ne!(
        first.data.unwrap()["JWT_SECRET"],
        second.data.as_ref().unwrap()["JWT_SECRET"]
    );
    assert_eq!(second.labels()["team"], "x");
    assert_eq!(second.finalizers(), ["example.org/x"]);
    let own: Api<Secret> = Api::namespaced(env.kube.clone(), "golive-system");
    let kept = own.list(&ListParams::default()).await.unwrap();
    assert!(
        kept.items
            .iter()
            .any(|secret| secret.name_any().starts_with("golive-app-token-")),
        "a token for the app is kept"
    );
    let free = json!({"metadata": {"finalizers": null}});
    secrets
        .patch("hola-golive", &PatchParams::default(), &Patch::Merge(&free))
        .await
        .unwrap();
    env.delete("hola").await;
    assert!(secrets.get_opt("hola-golive").await.unwrap().is_none());
    let token = secrets.get("fly").await.unwrap();
    assert!(token.finalizers().is_empty(), "the token is free");
    let maps: Api<ConfigMap> = Api::namespaced(env.kube.clone(), "golive-system");
    let left = maps.list(&ListParams::default()).await.unwrap();
    let left: Vec<String> = left.items.iter().map(ResourceExt::name_any).collect();
    assert!(
        left.iter().all(|name| !name.starts_with("golive-")),
        "{left:?}"
    );
}

/// Gives the operator its rights in one namespace, as the overlay `selected-namespaces` says.
async fn bind(env: &Env, namespace: &str) {
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": {"name": "golive-operator"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "golive-operator",
        },
        "subjects": [{"kind": "ServiceAccount", "name": "golive", "namespace": "golive-system"}],
    }))
    .unwrap();
    let api: Api<RoleBinding> = Api::namespaced(env.kube.clone(), namespace);
    api.create(&PostParams::default(), &binding).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_rights_to_selected_namespaces_the_operator_works_there_and_nowhere_else() {
    let plane = ControlPlane::start(control_plane::Options::default())
        .await
        .unwrap();
    let cluster = plane.cluster().clone();
    let watcher = root().join("manifests/overlays/selected-namespaces/watcher.yaml");
    cluster
        .apply_paths([root().join("crds"), root().join("manifests/base"), watcher])
        .await
        .unwrap();
    let mut env = Env::on(cluster.clone(), options()).await;
    let bindings: Api<ClusterRoleBinding> = Api::all(env.kube.clone());
    bindings
        .delete("golive-operator", &DeleteParams::default())
        .await
        .unwrap();
    let other = cluster.create_namespace("other").await.unwrap();
    let object = json!({
        "apiVersion": "golive.dev/v1alpha1", "kind": "Activation",
        "metadata": {"name": "other", "namespace": other},
        "spec": {
            "organization": "cabanas", "app": "other-app", "region": "eze",
            "deploy": {"image": "registry.fly.io/hola-cabanas:1.0.0"},
        },
    });
    cluster.apply_objects(vec![object]).await.unwrap();
    bind(&env, &env.namespace).await;
    env.activation("hola", json!({})).await;
    let rights = env.cluster.config_as("golive-system", "golive").await;
    let flags = ["--namespace", "", "--own-namespace", "golive-system"];
    env.start_operator_as(rights.unwrap(), &flags).await;
    recovered(&env, "hola").await;
    let others: Api<Activation> = Api::namespaced(env.kube.clone(), &other);
    let seen = async || {
        let found = others.get("other").await.unwrap();
        let generation = found.status.and_then(|status| status.observed_generation);
        // The default of the definition is -1.
        generation.filter(|generation| *generation >= 0)
    };
    assert_eq!(
        seen().await,
        None,
        "nothing is written where nothing is bound"
    );

    bind(&env, &other).await;
    let end = std::time::Instant::now() + LIMIT;
    while seen().await.is_none() {
        assert!(
            std::time::Instant::now() < end,
            "the binding is not noticed"
        );
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    env.delete("hola").await;
}
