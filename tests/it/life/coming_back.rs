//! What comes back: a retained app under the same or another name, in another cluster, and an app
//! that somebody has deleted at Fly.io.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use serde_json::{Value, json};

use crate::support::{
    deploy::{APP, QUIET, alive, deployed, env, image, step},
    env::{Env, merge, reason},
    trouble::{event, recovered, until, world},
};

/// Id and version of each machine: another version is a restart.
fn versions(env: &Env) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut all: Vec<_> = alive(env)
        .iter()
        .map(|machine| (text(&machine["id"]), text(&machine["instance_id"])))
        .collect();
    all.sort();
    all
}

fn spec(more: Value) -> Value {
    let mut spec = json!({
        "deletionPolicy": {"app": "Retain"},
        "provision": {"secrets": {"generate": [{"name": "JWT_SECRET"}]}},
        "deploy": {"image": image("1"), "config": {"inline": QUIET}, "scale": {"app": 2}},
        // Its machines are the only proof.
        "smokeTest": {"checks": []},
    });
    merge(&mut spec, more);
    spec
}

async fn until_deployed(env: &Env, name: &str) {
    env.wait(name, "the release", |status| {
        deployed(status) && status.release.is_some()
    })
    .await;
}

async fn generated(env: &Env, name: &str) -> Vec<u8> {
    let secrets: Api<Secret> = Api::namespaced(env.kube.clone(), &env.namespace);
    let secret = secrets.get(&format!("{name}-golive")).await.unwrap();
    secret.data.unwrap()["JWT_SECRET"].0.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retained_app_passes_to_its_successor_and_to_another_name_without_a_restart() {
    let env = env().await;
    env.activation("hola", spec(json!({}))).await;
    until_deployed(&env, "hola").await;
    let (before, value) = (versions(&env), generated(&env, "hola").await);
    assert_eq!(before.len(), 2);
    env.delete("hola").await;
    assert_eq!(versions(&env), before);

    for name in ["hola", "renamed"] {
        env.activation(name, spec(json!({"adoption": "IfOwned"})))
            .await;
        until_deployed(&env, name).await;
        assert_eq!(versions(&env), before, "{name}");
        assert_eq!(generated(&env, name).await, value);
        let status = env.status(name).await;
        let number = status.release.and_then(|release| release.number);
        assert_eq!(number, Some(1), "it is the release that runs");
        env.delete(name).await;
    }

    // What differs is updated in place.
    let other = json!({"adoption": "IfOwned", "deploy": {"image": image("2")}});
    env.activation("renamed", spec(other)).await;
    until_deployed(&env, "renamed").await;
    let now = versions(&env);
    let ids = |of: &[(String, String)]| of.iter().map(|m| m.0.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&now), ids(&before));
    assert!(now.iter().zip(&before).all(|(now, then)| now.1 != then.1));
}

/// Deletes what a cluster knows of an Activation, as if the cluster was lost.
async fn lose_the_cluster(env: &Env) {
    env.patch("hola", json!({"metadata": {"finalizers": null}}))
        .await;
    let delete = DeleteParams::default();
    env.activations().delete("hola", &delete).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(env.kube.clone(), &env.namespace);
    let all = ListParams::default();
    for map in maps.list(&all).await.unwrap() {
        let name = map.metadata.name.unwrap();
        if name.starts_with("golive-") {
            maps.delete(&name, &delete).await.unwrap();
        }
    }
    let secrets: Api<Secret> = Api::namespaced(env.kube.clone(), &env.namespace);
    let key = "golive-fingerprint-key";
    secrets.delete(key, &delete).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_of_a_lost_cluster_is_taken_over_on_request_without_a_restart() {
    let mut env = env().await;
    env.activation("hola", spec(json!({}))).await;
    until_deployed(&env, "hola").await;
    let before = versions(&env);
    env.stop_operator().await;
    lose_the_cluster(&env).await;
    env.start_operator(&[]).await;

    // Nothing proves that it is ours.
    env.activation("hola", spec(json!({"adoption": "IfOwned"})))
        .await;
    env.wait("hola", "AdoptionRefused", |status| {
        reason(status, "PreflightPassed") == "AdoptionRefused"
    })
    .await;
    env.patch(
        "hola",
        json!({"spec": {"adoption": "Always", "mode": "Plan"}}),
    )
    .await;
    let status = env
        .wait("hola", "a plan", |status| {
            let mut plans = status.plan.iter().flat_map(|plan| &plan.changes);
            plans.any(|change| change.step == "App")
        })
        .await;
    let plan = &status.plan.unwrap().changes[0].change;
    assert!(plan.contains(&before[0].0), "{plan}");
    assert!(plan.contains("which stay"), "{plan}");

    env.patch("hola", json!({"spec": {"mode": "Apply"}})).await;
    until_deployed(&env, "hola").await;
    assert_eq!(versions(&env), before);
    let status = env.status("hola").await;
    assert_eq!(step(&status, "TakeOver").0, golive::api::StepState::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_was_deleted_at_fly_comes_back_after_its_secrets_have_changed() {
    let env = world(&["--recheck-interval", "1s"]).await;
    env.secret("keys", &[("API_KEY", "a-first-value-of-it")])
        .await;
    let from = json!([{"secretRef": {"name": "keys"}}]);
    env.activation("hola", json!({"provision": {"secrets": {"from": from}}}))
        .await;
    let first = recovered(&env, "hola").await;
    for value in ["a-second-value-of-it", "a-third-value-of-it"] {
        let digest = |status: &golive::api::ActivationStatus| {
            let mut secrets = status.secrets.iter();
            secrets.next().map(|secret| secret.digest.clone())
        };
        let before = digest(&env.status("hola").await);
        env.secret("keys", &[("API_KEY", value)]).await;
        env.wait("hola", "the new value", |status| {
            digest(status) != before && crate::support::env::is(status, "Ready", "True")
        })
        .await;
    }

    assert!(fly_sim::deletion::delete(env.sim.core(), APP, "app").await);

    until("the machines of the new app", || {
        env.sim.apps() == [APP] && alive(&env).len() == 2
    })
    .await;
    let status = env
        .wait("hola", "live again", |status| {
            crate::support::env::is(status, "Ready", "True")
                && crate::support::env::is(status, "Live", "True")
        })
        .await;
    assert_eq!(status.go_live, first.go_live);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_left_the_spec_is_told_until_it_is_destroyed() {
    let env = world(&["--recheck-interval", "1s"]).await;
    let provision = json!({"postgres": {"managed": {}}, "redis": {"upstash": {}}});
    let gates = json!([{"before": "Deploy", "timeout": "1h"}]);
    env.activation("hola", json!({"provision": provision, "gates": gates}))
        .await;
    env.wait_for("hola", "Provisioned", "True").await;

    env.patch(
        "hola",
        json!({"spec": {"provision": {"postgres": null, "redis": null}}}),
    )
    .await;

    let kept = |status: &golive::api::ActivationStatus, kind: &str| {
        let mut external = status.external.iter();
        external.any(|object| object.kind == kind && object.retained.is_some())
    };
    env.wait("hola", "both as left behind", |status| {
        kept(status, "ManagedPostgres") && kept(status, "UpstashRedis")
    })
    .await;
    let note = event(&env, "hola", "LeftBehind").await;
    assert!(note.contains("costs money"), "{note}");
    let id = env
        .sim
        .core()
        .read(|world| world.platform.clusters.keys().next().cloned())
        .unwrap();
    let gone = fly_sim::deletion::delete(env.sim.core(), "", &format!("cluster:{id}")).await;
    assert!(gone);
    env.wait("hola", "no database", |status| {
        !kept(status, "ManagedPostgres") && kept(status, "UpstashRedis")
    })
    .await;
}
