//! What Golive keeps in Kubernetes is lost: the claim on an app, the records of releases, the generated
//! values, all of the operator's namespace. What the marks at Fly.io say is found again; nothing is
//! made anew in silence; and nobody takes or deletes the app of another.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use golive::api::ActivationStatus;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::support::{
    deploy::{APP, alive},
    env::{Env, LIMIT, is, message, reason},
    trouble::world,
};

const FLAGS: [&str; 2] = ["--recheck-interval", "1s"];

fn maps(env: &Env) -> Api<ConfigMap> {
    Api::namespaced(env.kube.clone(), &env.namespace)
}

fn secrets(env: &Env) -> Api<Secret> {
    Api::namespaced(env.kube.clone(), &env.namespace)
}

fn claim() -> String {
    format!("golive-app-{APP}")
}

async fn claimed_by(env: &Env) -> Option<String> {
    let found = maps(env).get_opt(&claim()).await.unwrap()?;
    Some(found.data?.get("uid")?.clone())
}

/// Waits until the object with this UID has the claim.
async fn claimed(env: &Env, owner: &str) {
    let end = Instant::now() + LIMIT;
    while claimed_by(env).await.as_deref() != Some(owner) {
        assert!(Instant::now() < end, "the claim did not come back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until there is a record of a release.
async fn recorded(env: &Env) {
    let end = Instant::now() + LIMIT;
    loop {
        let all = maps(env).list(&ListParams::default()).await.unwrap();
        let mut names = all.iter().filter_map(|map| map.metadata.name.as_deref());
        if names.any(|name| name.starts_with("golive-release-")) {
            return;
        }
        assert!(Instant::now() < end, "no release is on record again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn uid(env: &Env, name: &str) -> String {
    env.get(name).await.unwrap().metadata.uid.unwrap()
}

/// Id and version of each machine: another version is a restart.
fn versions(env: &Env) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let machines = alive(env).into_iter();
    let mut all: Vec<_> = machines
        .map(|machine| (text(&machine["id"]), text(&machine["instance_id"])))
        .collect();
    all.sort();
    all
}

fn digests(env: &Env) -> BTreeMap<String, String> {
    let core = env.sim.core();
    core.read(|world| world.apps[APP].platform.secrets.digests())
}

fn generated() -> Value {
    json!({"provision": {"secrets": {"generate": [{"name": "JWT_SECRET"}]}}})
}

/// The mark in the question.
fn mark(status: &ActivationStatus) -> String {
    let action = status.next_action.clone().unwrap_or_default();
    let (_, mark) = action.split_once("golive.dev/replace-lost=").unwrap();
    mark.trim_end_matches('`').to_owned()
}

async fn decide(env: &Env, mark: &str) {
    let annotations = json!({"golive.dev/replace-lost": mark});
    env.patch("hola", json!({"metadata": {"annotations": annotations}}))
        .await;
}

async fn secret_lost(env: &Env) -> ActivationStatus {
    secrets(env)
        .delete("hola-golive", &DeleteParams::default())
        .await
        .unwrap();
    env.wait("hola", "the question", |status| {
        reason(status, "Ready") == "GeneratedSecretLost" && is(status, "Stalled", "True")
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_generated_secret_is_restored_or_made_anew_once_when_a_person_says_so() {
    let mut env = world(&FLAGS).await;
    env.activation("hola", generated()).await;
    env.wait_live("hola").await;
    let (before, digest) = (versions(&env), digests(&env));
    let backup = secrets(&env).get("hola-golive").await.unwrap();

    let status = secret_lost(&env).await;
    assert!(is(&status, "Live", "True"), "{}", message(&status, "Live"));
    assert!(message(&status, "Ready").contains("JWT_SECRET"));
    assert_eq!(
        (versions(&env), digests(&env)),
        (before.clone(), digest.clone())
    );
    let first = mark(&status);
    // Another process, which knows only the status, asks the same.
    env.stop_operator().await;
    env.start_operator(&FLAGS).await;
    let status = env
        .wait("hola", "the same question", |status| {
            reason(status, "Ready") == "GeneratedSecretLost"
        })
        .await;
    assert_eq!(mark(&status), first);

    // From a backup: as if nothing had happened.
    let mut restored = backup;
    restored.metadata.resource_version = None;
    restored.metadata.uid = None;
    restored.metadata.managed_fields = None;
    secrets(&env)
        .create(&Default::default(), &restored)
        .await
        .unwrap();
    env.wait_live("hola").await;
    assert_eq!((versions(&env), digests(&env)), (before, digest.clone()));

    // Anew, and once.
    let status = secret_lost(&env).await;
    decide(&env, &mark(&status)).await;
    let renewed = |_: &ActivationStatus| digests(&env) != digest;
    env.wait("hola", "a new value", renewed).await;
    env.wait_live("hola").await;
    let status = secret_lost(&env).await;
    assert_ne!(mark(&status), first, "the decision counts once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_claim_is_made_again_for_the_owner_and_nobody_else_takes_or_deletes_the_app() {
    let mut env = world(&FLAGS).await;
    env.activation("hola", json!({})).await;
    env.wait_live("hola").await;
    let (before, owner) = (versions(&env), uid(&env, "hola").await);

    // Somebody else is there first when the claim is lost.
    env.patch("hola", json!({"spec": {"suspend": true}})).await;
    env.wait_for("hola", "Suspended", "True").await;
    maps(&env)
        .delete(&claim(), &DeleteParams::default())
        .await
        .unwrap();
    env.activation("thief", json!({"adoption": "Always"})).await;
    let refused = |status: &ActivationStatus| reason(status, "Ready") == "AppClaimed";
    env.wait("thief", "AppClaimed", refused).await;
    assert_eq!(claimed_by(&env).await, None);
    env.patch("hola", json!({"spec": {"suspend": false}})).await;
    claimed(&env, &owner).await;
    env.wait_live("hola").await;
    assert_eq!(versions(&env), before);
    env.delete("thief").await;

    // The thief has the claim, however it came by it.
    env.stop_operator().await;
    env.activation("thief", json!({"adoption": "Always"})).await;
    let (thief, finalizer) = (uid(&env, "thief").await, json!(["golive.dev/activation"]));
    let stolen = json!({"data": {"uid": thief, "name": "thief", "everything": "true"}});
    let params = PatchParams::default();
    maps(&env)
        .patch(&claim(), &params, &Patch::Merge(stolen))
        .await
        .unwrap();
    env.patch("thief", json!({"metadata": {"finalizers": finalizer}}))
        .await;
    env.start_operator(&FLAGS).await;
    env.wait("thief", "AppClaimed", refused).await;
    assert_eq!(versions(&env), before);
    env.delete("thief").await;
    assert_eq!(versions(&env), before, "the app is not the thief's");
    env.wait_live("hola").await;
    claimed(&env, &owner).await;
    assert_eq!(versions(&env), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_whose_claim_is_lost_is_deleted_with_its_object_and_not_forgotten() {
    let env = world(&FLAGS).await;
    env.activation("hola", json!({})).await;
    env.wait_live("hola").await;
    // Nothing makes the claim again before the deletion.
    env.patch("hola", json!({"spec": {"suspend": true}})).await;
    env.wait_for("hola", "Suspended", "True").await;
    maps(&env)
        .delete(&claim(), &DeleteParams::default())
        .await
        .unwrap();

    env.delete("hola").await;

    assert!(env.sim.apps().is_empty(), "{:?}", env.sim.apps());
    assert_eq!(claimed_by(&env).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_loss_of_the_operators_namespace_the_application_serves_and_all_is_found_again() {
    let mut env = world(&FLAGS).await;
    env.activation("hola", generated()).await;
    env.wait_live("hola").await;
    let before: Vec<String> = versions(&env).into_iter().map(|(id, _)| id).collect();
    let (owner, digest) = (uid(&env, "hola").await, digests(&env));
    env.stop_operator().await;
    let (all, delete) = (ListParams::default(), DeleteParams::default());
    for map in maps(&env).list(&all).await.unwrap() {
        let name = map.metadata.name.unwrap();
        if name.starts_with("golive-") {
            maps(&env).delete(&name, &delete).await.unwrap();
        }
    }
    for secret in secrets(&env).list(&all).await.unwrap() {
        let name = secret.metadata.name.unwrap();
        if name.starts_with("golive-") {
            secrets(&env).delete(&name, &delete).await.unwrap();
        }
    }
    env.start_operator(&FLAGS).await;

    let kept = |status: &ActivationStatus| {
        is(status, "Ready", "True") && is(status, "Live", "True") && status.release.is_some()
    };
    claimed(&env, &owner).await;
    recorded(&env).await;
    env.wait("hola", "live as before", kept).await;
    let now: Vec<String> = versions(&env).into_iter().map(|(id, _)| id).collect();
    assert_eq!(now, before, "the same machines");
    assert_eq!(digests(&env), digest, "the same values");
    env.delete("hola").await;
    assert!(env.sim.apps().is_empty());
}
