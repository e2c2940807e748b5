//! The finalizer on the Secret with the token: it is there while the token may be needed, and not a
//! moment longer than somebody needs it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use golive::api::FINALIZER;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::{
    env::{Env, LIMIT},
    failures::{options, recovered, world},
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
    // An object that is deleted before anybody saw the change lets both go.
    env.stop_operator().await;
    another_token(&env, "fly-3").await;
    names(&env, "hola", "fly-3").await;
    env.start_operator(&[]).await;
    env.delete("hola").await;
    assert!(!is_held(&env, "fly-2").await && !is_held(&env, "fly-3").await);
}
