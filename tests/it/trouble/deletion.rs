//! Deletion when Fly.io refuses or does not answer.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use fly_sim::{Fault, Kind};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::DeleteParams};
use serde_json::json;

use crate::support::trouble::{event, recovered, until, warnings, world};
use crate::support::{
    crash,
    env::{Env, is, message, reason},
};

/// A rejected token counts as final soon, and no re-check finds it before the deletion does.
const IMPATIENT: [&str; 4] = ["--token-patience", "1s", "--recheck-interval", "1h"];

async fn live(flags: &[&str]) -> Env {
    let env = world(flags).await;
    env.activation("hola", json!({})).await;
    recovered(&env, "hola").await;
    env
}

async fn begin_deletion(env: &Env) {
    env.activations()
        .delete("hola", &DeleteParams::default())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_dead_token_deletion_says_so_and_ends_when_it_is_told_to_forget() {
    let env = live(&IMPATIENT).await;
    env.sim.revoke(None);
    begin_deletion(&env).await;

    let status = env
        .wait("hola", "DeletionBlocked", |status| {
            reason(status, "Deleting") == "DeletionBlocked"
        })
        .await;

    let text = message(&status, "Deleting");
    assert!(text.contains("golive.dev/forget=hola-cabanas"), "{text}");
    assert!(is(&status, "Ready", "False"), "{status:?}");
    event(&env, "hola", "DeletionBlocked").await;
    assert_eq!(warnings(&env, "hola").await, ["DeletionBlocked"]);
    let forget = json!({"metadata": {"annotations": {"golive.dev/forget": "hola-cabanas"}}});
    env.patch("hola", forget).await;
    env.delete("hola").await;
    assert_eq!(env.sim.apps(), ["hola-cabanas"], "it stays as it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_was_blocked_ends_by_itself_with_a_good_token() {
    let env = live(&IMPATIENT).await;
    env.sim.revoke(None);
    begin_deletion(&env).await;
    env.wait("hola", "DeletionBlocked", |status| {
        reason(status, "Deleting") == "DeletionBlocked"
    })
    .await;
    // The annotation must name this app; another app's name changes nothing.
    let wrong = json!({"metadata": {"annotations": {"golive.dev/forget": "other"}}});
    env.patch("hola", wrong).await;

    env.sim.unrevoke(None);

    env.delete("hola").await;
    assert!(env.sim.apps().is_empty(), "{:?}", env.sim.apps());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_waits_for_fly_to_answer_again() {
    let env = live(&IMPATIENT).await;
    env.sim.fault(Fault::new("*", Kind::status(503)).always());
    begin_deletion(&env).await;

    let status = env.wait_for("hola", "Deleting", "True").await;

    assert_eq!(reason(&status, "Deleting"), "Deleting");
    assert_eq!(reason(&status, "Ready"), "Deleting");
    assert!(message(&status, "Deleting").contains("removed"));
    assert_eq!(env.sim.apps().len(), 1);
    env.sim.clear_faults();
    env.delete("hola").await;
    assert!(env.sim.apps().is_empty(), "{:?}", env.sim.apps());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_have_been_made_a_moment_ago_is_looked_for_again_before_it_counts_as_gone() {
    let mut env = world(&["--settle", "3s"]).await;
    let create = "POST /api/v1/organizations/{slug}/postgresv2";
    let list = "GET /api/v1/organizations/{slug}/postgres";
    env.sim.fault(Fault::new(create, Kind::ResetAfter).nth(1));
    env.sim.fault(Fault::new(list, Kind::EmptyList).always());
    let spec = json!({
        "provision": {"postgres": {"managed": {}}},
        "deletionPolicy": {"app": "Delete", "database": "Delete"},
    });
    env.activation("hola", spec).await;
    env.wait("hola", "an outcome that is not known", |status| {
        crate::support::deploy::step(status, "Postgres")
            .2
            .contains("is unknown")
    })
    .await;
    // A new process knows only the status. Without a token it can do nothing, and keeps what is announced.
    env.stop_operator().await;
    begin_deletion(&env).await;
    let good = env.sim.token("cabanas").unwrap();
    let secrets: Api<Secret> = Api::namespaced(env.kube.clone(), &env.namespace);
    let gone = kube::api::Patch::Merge(json!({"data": {"token": null}}));
    let patched = secrets.patch("fly", &Default::default(), &gone).await;
    patched.unwrap();
    env.start_operator(&["--settle", "3s"]).await;
    let status = env
        .wait("hola", "DeletionBlocked", |status| {
            reason(status, "Deleting") == "DeletionBlocked"
        })
        .await;
    let mut announced = status.intents.iter();
    assert!(
        announced.any(|intent| intent.slot.starts_with("Postgres/")),
        "{:?}",
        status.intents
    );
    let looks = |env: &Env| {
        let calls = env.sim.call_list().into_iter();
        calls.filter(|call| call.endpoint == list).count()
    };
    let before = looks(&env);
    env.secret("fly", &[("token", &good)]).await;

    // The status says so unless it has just been written: what is done counts.
    until("another look", || looks(&env) > before).await;
    env.sim.clear_faults();
    env.delete("hola").await;
    crash::nothing_left(&env).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_is_not_shown_yet_is_not_taken_for_none() {
    let env = world(&["--settle", "2s"]).await;
    let hidden = Kind::NotFoundAfterCreate { for_ms: 4_000 };
    env.sim
        .fault(Fault::new("GET /v1/apps/{app}", hidden).always());
    env.activation("hola", json!({"deletionPolicy": {"app": "Delete"}}))
        .await;
    env.wait("hola", "the app", |_| !env.sim.apps().is_empty())
        .await;
    env.delete("hola").await;
    crash::nothing_left(&env).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_was_moved_to_another_organization_stays_there() {
    let env = world(&IMPATIENT).await;
    // A token that can see both apps.
    let both = ["cabanas", "acme"].map(|org| env.sim.token(org).unwrap());
    env.secret("fly", &[("token", &both.join(","))]).await;
    env.activation("hola", json!({"deletionPolicy": {"app": "Delete"}}))
        .await;
    recovered(&env, "hola").await;
    env.sim.core().write(|world| {
        let app = world.apps.get_mut("hola-cabanas").unwrap();
        app.org_slug = "acme".to_owned();
    });
    env.delete("hola").await;
    assert_eq!(env.sim.apps(), ["hola-cabanas"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_somebody_else_keeps_no_deletion_from_ending() {
    let env = world(&[]).await;
    env.secret("hola-golive", &[("theirs", "value")]).await;
    env.activation("hola", json!({"deletionPolicy": {"secrets": "Delete"}}))
        .await;
    recovered(&env, "hola").await;
    env.delete("hola").await;
    let secrets: Api<Secret> = Api::namespaced(env.kube.clone(), &env.namespace);
    assert!(secrets.get_opt("hola-golive").await.unwrap().is_some());
}

/// Deletes the object and waits until it is gone, with no call to Fly.io that changes anything.
async fn goes_at_once(env: &Env, spec: serde_json::Value) {
    env.activation("hola", spec).await;
    env.wait_for("hola", "PreflightPassed", "False").await;
    let before = env.sim.mutations();
    env.delete("hola").await;
    assert_eq!(env.sim.mutations(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_made_nothing_goes_at_once_whatever_its_token() {
    let env = world(&["--token-patience", "1s"]).await;
    let all = json!({
        "provision": {"postgres": {"managed": {}}, "redis": {"upstash": {}}},
        "deletionPolicy": {"database": "Delete", "redis": "Delete", "secrets": "Delete"},
    });
    // A token that was never valid; a token that is valid once, when another check fails.
    let good = env.sim.token("cabanas").unwrap();
    env.secret("fly", &[("token", "FlyV1 fm2_lJPEEGthdWQ2enU1OXhlNzM4")])
        .await;
    goes_at_once(&env, all.clone()).await;
    env.secret("fly", &[("token", &good)]).await;
    let mut other = all.clone();
    crate::support::env::merge(
        &mut other,
        json!({"deploy": {"image": "registry.fly.io/hola-cabanas:9.9.9"}}),
    );
    env.activation("hola", other).await;
    env.wait_for("hola", "PreflightPassed", "False").await;
    env.sim.revoke(None);
    env.delete("hola").await;
    // The token's Secret is gone altogether.
    let secrets: Api<Secret> = Api::namespaced(env.kube.clone(), &env.namespace);
    env.activation("hola", all).await;
    env.wait_for("hola", "PreflightPassed", "False").await;
    let unheld = json!({"metadata": {"finalizers": null}});
    secrets
        .patch("fly", &Default::default(), &kube::api::Patch::Merge(unheld))
        .await
        .unwrap();
    secrets.delete("fly", &Default::default()).await.unwrap();
    env.delete("hola").await;
    assert!(env.sim.apps().is_empty(), "{:?}", env.sim.apps());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_deletion_says_what_remains_and_what_to_do() {
    let env = live(&IMPATIENT).await;
    env.sim.revoke(None);
    begin_deletion(&env).await;
    let status = env
        .wait("hola", "DeletionBlocked", |status| {
            reason(status, "Deleting") == "DeletionBlocked"
        })
        .await;
    let text = message(&status, "Deleting");
    assert!(
        text.starts_with("nothing removed yet, remaining on Fly.io: "),
        "{text}"
    );
    assert!(text.contains("App hola-cabanas"), "{text}");
    assert!(
        text.contains("put a valid token into the Secret fly"),
        "{text}"
    );
    let command = format!(
        "kubectl -n {} annotate activation hola golive.dev/forget=hola-cabanas",
        env.namespace
    );
    assert!(text.contains(&command), "{text}");
    // A wrong name is told.
    let wrong = json!({"metadata": {"annotations": {"golive.dev/forget": "holla"}}});
    env.patch("hola", wrong).await;
    let note = event(&env, "hola", "ForgetRefused").await;
    assert!(
        note.contains("names holla, and the app is hola-cabanas"),
        "{note}"
    );
    env.wait("hola", "the wrong name in the condition", |status| {
        message(status, "Deleting").contains("names holla")
    })
    .await;
    let right = json!({"metadata": {"annotations": {"golive.dev/forget": "hola-cabanas"}}});
    env.patch("hola", right).await;
    env.delete("hola").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_secret_that_is_deleted_while_it_is_needed_says_why_it_stays() {
    let env = live(&["--secret-look-interval", "1s"]).await;
    let secrets: Api<Secret> = Api::namespaced(env.kube.clone(), &env.namespace);
    secrets.delete("fly", &Default::default()).await.unwrap();

    let note = event(&env, "fly", "TokenSecretInUse").await;
    assert!(
        note.contains("until the Activation hola no longer needs"),
        "{note}"
    );
    event(&env, "hola", "TokenSecretInUse").await;
    assert!(is(&env.status("hola").await, "Live", "True"));
    env.delete("hola").await;
    assert!(secrets.get_opt("fly").await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_share_a_token_and_go_together_let_its_secret_go() {
    let env = world(&[]).await;
    let names = ["hola", "dos", "tres", "cuatro"];
    for name in names {
        let app = format!("{name}-cabanas");
        env.activation(name, json!({"app": app, "mode": "Plan"}))
            .await;
    }
    for name in names {
        env.wait_for(name, "PreflightPassed", "True").await;
    }
    let secrets: Api<Secret> = Api::namespaced(env.kube.clone(), &env.namespace);
    secrets.delete("fly", &Default::default()).await.unwrap();
    let all = names.map(|name| env.delete(name));
    futures::future::join_all(all).await;
    let gone = |secret: Option<&Secret>| secret.is_none();
    let gone = kube::runtime::wait::await_condition(secrets, "fly", gone);
    tokio::time::timeout(crate::support::env::LIMIT, gone)
        .await
        .expect("nobody needs the token any more")
        .unwrap();
}

/// Deletes the object and waits until it is gone and nothing is left.
async fn goes_with_all(env: &Env) {
    env.delete("hola").await;
    crash::nothing_left(env).await.unwrap();
    assert!(env.sim.machines("hola-cabanas").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_404_orphans_nothing() {
    let env = world(&IMPATIENT).await;
    let read = "GET /v1/apps/{app}";
    env.activation("hola", json!({"deletionPolicy": {"app": "Delete"}}))
        .await;
    recovered(&env, "hola").await;
    for (kind, list) in [
        (Kind::status(404), Kind::EmptyList),
        (Kind::status(403), Kind::EmptyList),
    ] {
        env.sim.clear_faults();
        env.sim.fault(Fault::new(read, kind));
        // Even when the list of apps is wrong at the same time.
        env.sim.fault(Fault::new("GET /v1/apps", list));
        goes_with_all(&env).await;
        env.activation("hola", json!({"deletionPolicy": {"app": "Delete"}}))
            .await;
        recovered(&env, "hola").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_of_another_organization_that_finds_no_app_is_not_believed() {
    let env = world(&IMPATIENT).await;
    env.activation("hola", json!({"deletionPolicy": {"app": "Delete"}}))
        .await;
    recovered(&env, "hola").await;
    let good = env.sim.token("cabanas").unwrap();
    env.secret("fly", &[("token", &env.sim.token("acme").unwrap())])
        .await;
    let gone = Fault::new("GET /v1/apps/{app}", Kind::status(404)).always();
    env.sim.fault(gone);
    begin_deletion(&env).await;
    let status = env
        .wait("hola", "DeletionBlocked", |status| {
            reason(status, "Deleting") == "DeletionBlocked"
        })
        .await;
    let text = message(&status, "Deleting");
    assert!(
        text.contains("may not read the organization cabanas"),
        "{text}"
    );
    assert!(
        text.contains("put a valid token into the Secret fly"),
        "{text}"
    );
    assert_eq!(env.sim.apps(), ["hola-cabanas"]);
    env.secret("fly", &[("token", &good)]).await;
    env.sim.clear_faults();
    goes_with_all(&env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_is_refused_twice_says_so_at_once() {
    let env = live(&["--recheck-interval", "1h"]).await;
    // The default patience with a token is a minute.
    let refused = Fault::new("DELETE /v1/apps/{app}", Kind::status(403)).always();
    env.sim.fault(refused);
    let begun = std::time::Instant::now();
    begin_deletion(&env).await;
    let status = env
        .wait("hola", "DeletionBlocked", |status| {
            reason(status, "Deleting") == "DeletionBlocked"
        })
        .await;
    assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
    let text = message(&status, "Deleting");
    assert!(
        text.contains("put a valid token into the Secret fly"),
        "{text}"
    );
    env.sim.clear_faults();
    env.delete("hola").await;
}
