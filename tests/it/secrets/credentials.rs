//! The finalizer on the Secret with the token: it is set exactly while an object may need the token.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::time::{Duration, Instant};

use golive::{
    api::{ActivationApproval, FINALIZER},
    reconcile,
    store::finalizers,
};
use k8s_openapi::api::{core::v1::Secret, rbac::v1::ClusterRole};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use kube_env::{ControlPlane, control_plane};
use serde_json::json;

use crate::support::{
    env::{Env, LIMIT, message, root},
    trouble::{options, recovered, world},
};

async fn is_held(env: &Env, name: &str) -> bool {
    let secrets: Api<Secret> = Api::namespaced(env.kube.clone(), &env.namespace);
    let secret = secrets.get_metadata(name).await.unwrap();
    secret.finalizers().iter().any(|f| f == FINALIZER)
}

async fn held(env: &Env, name: &str, wanted: bool) {
    let end = Instant::now() + LIMIT;
    while is_held(env, name).await != wanted {
        assert!(Instant::now() < end, "{name} is held: {}", !wanted);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn another_token(env: &Env, name: &str) {
    let token = env.sim.token("cabanas").unwrap();
    env.secret(name, &[("token", &token)]).await;
}

async fn names(env: &Env, activation: &str, secret: &str) {
    let spec = json!({"spec": {"tokenSecretRef": {"name": secret}}});
    env.patch(activation, spec).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_secret_that_is_named_no_more_is_let_go_unless_another_object_names_it() {
    let env = world(&[]).await;
    env.activation("hola", json!({})).await;
    recovered(&env, "hola").await;
    let other = json!({"app": "other-app", "deploy": {"image": "nowhere.example/other:1"}});
    env.activation("other", other).await;
    env.wait("other", "a look", |status| status.token_secret.is_some())
        .await;
    assert!(is_held(&env, "fly").await);

    another_token(&env, "fly-2").await;
    names(&env, "hola", "fly-2").await;

    held(&env, "fly-2", true).await;
    env.wait("hola", "the new name", |status| {
        status.token_secret.as_deref() == Some("fly-2")
    })
    .await;
    assert!(is_held(&env, "fly").await, "the other one needs it");
    names(&env, "other", "fly-2").await;
    held(&env, "fly", false).await;
    env.delete("other").await;
    assert!(is_held(&env, "fly-2").await);
    env.delete("hola").await;
    assert!(!is_held(&env, "fly-2").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_secret_that_was_changed_while_no_operator_ran_is_let_go_too() {
    let mut env = Env::without_operator(options()).await;
    env.start_operator(&[]).await;
    env.activation("hola", json!({})).await;
    recovered(&env, "hola").await;
    env.stop_operator().await;
    another_token(&env, "fly-2").await;
    names(&env, "hola", "fly-2").await;

    env.start_operator(&[]).await;

    held(&env, "fly-2", true).await;
    held(&env, "fly", false).await;
    // An object that is deleted before the change was observed releases both.
    env.stop_operator().await;
    another_token(&env, "fly-3").await;
    names(&env, "hola", "fly-3").await;
    env.start_operator(&[]).await;
    env.delete("hola").await;
    assert!(!is_held(&env, "fly-2").await && !is_held(&env, "fly-3").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_made_before_the_token_is_held_also_when_the_first_try_to_hold_it_failed() {
    let plane = ControlPlane::start(control_plane::Options::default())
        .await
        .unwrap();
    let cluster = plane.cluster().clone();
    let shipped = [root().join("crds"), root().join("manifests/base")];
    cluster.apply_paths(&shipped).await.unwrap();
    let mut env = Env::on(cluster.clone(), options()).await;
    // The shipped rights, without the one to put a finalizer on the Secret.
    let roles: Api<ClusterRole> = Api::all(env.kube.clone());
    let mut role = roles.get("golive-operator").await.unwrap();
    for rule in role.rules.iter_mut().flatten() {
        if rule.resources.as_deref() == Some(&["secrets".to_owned()]) {
            rule.verbs.retain(|verb| verb != "patch");
        }
    }
    let rules = Patch::Merge(json!({"rules": role.rules}));
    let params = PatchParams::default();
    roles
        .patch("golive-operator", &params, &rules)
        .await
        .unwrap();
    let rights = cluster.config_as("golive-system", "golive").await.unwrap();
    let flags = ["--namespace", "", "--own-namespace", "golive-system"];
    env.activation("hola", json!({})).await;
    // A definition that was just applied answers 429 for a moment, which is another failure.
    let approvals: Api<ActivationApproval> = Api::namespaced(env.kube.clone(), &env.namespace);
    let end = Instant::now() + LIMIT;
    while approvals.list(&ListParams::default()).await.is_err() {
        assert!(Instant::now() < end, "approvals are not served");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    env.start_operator_as(rights, &flags).await;
    env.wait("hola", "what is missing", |status| {
        message(status, "Ready").contains("forbidden")
    })
    .await;
    assert_eq!(env.sim.mutations(), 0);

    cluster.apply_paths(&shipped).await.unwrap();
    env.wait("hola", "the first change at Fly.io", |_| {
        env.sim.mutations() > 0
    })
    .await;
    assert!(is_held(&env, "fly").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_before_the_finalizer_was_put_on_is_not_worked_on() {
    let env = Env::without_operator(options()).await;
    env.activation("hola", json!({})).await;
    let former = env.get("hola").await.unwrap();
    let owner = reconcile::begin::owner(&former).unwrap();
    env.delete("hola").await;
    let put_on = finalizers::add_finalizer(&former, &env.kube, &owner).await;
    assert!(put_on.is_err(), "it is gone");

    env.activation("hola", json!({})).await;
    let put_on = finalizers::add_finalizer(&former, &env.kube, &owner).await;
    assert!(put_on.is_err(), "this is another one");
    let other = env.get("hola").await.unwrap();
    assert!(other.finalizers().is_empty());
}
