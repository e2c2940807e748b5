//! Secrets of the release that serves that somebody removes or changes at Fly.io while the spec cannot
//! be brought live: they are set again with the values that the release got, and never with others.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::collections::BTreeMap;

use fly_sim::{Images, Options, deletion};
use golive::api::ActivationStatus;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::support::{
    deploy::{APP, alive, image, shell, until},
    env::{Env, is, message, reason},
    service::hello,
    trouble::{event, fly},
};

const FLAGS: [&str; 2] = ["--recheck-interval", "1s"];
const VALUE: &str = "the-first-value-of-it";
const ANOTHER: &str = "another-value-of-it";

/// A live application with secrets from a Secret, a generated one, and the addresses in `provision`.
async fn serving(provision: Value) -> Env {
    let images = [hello("1"), hello("2"), shell("exits", "exit 3")];
    let options = Options {
        images: Images::new(images),
        ..Options::default()
    };
    let mut env = Env::without_operator(options).await;
    env.start_operator(&FLAGS).await;
    env.secret(
        "keys",
        &[("API_KEY", VALUE), ("MAIL_KEY", "mail-key-value")],
    )
    .await;
    let mut spec = json!({
        "deploy": {"image": image("1")},
        "provision": {"secrets": {
            "from": [{"secretRef": {"name": "keys"}}], "generate": [{"name": "JWT_SECRET"}],
        }},
    });
    crate::support::env::merge(&mut spec, json!({ "provision": provision }));
    env.activation("hola", spec).await;
    env.wait_live("hola").await;
    env
}

fn digests(env: &Env) -> BTreeMap<String, String> {
    let core = env.sim.core();
    core.read(|world| world.apps[APP].platform.secrets.digests())
}

/// Somebody sets (`None`: removes) secrets of the app.
async fn by_hand(env: &Env, values: &[(&str, Option<&str>)]) {
    let values = values.iter().map(|(name, value)| {
        (
            (*name).to_owned(),
            value.map(|value| value.to_owned().into()),
        )
    });
    let values: BTreeMap<_, _> = values.collect();
    let written = fly(env, "cabanas").set_secrets(APP, &values).await;
    written.unwrap();
}

/// Waits until the app has these secrets again, while the spec still waits for this reason and the site
/// is live.
async fn back(env: &Env, what: &str, wanted: &BTreeMap<String, String>, ready: &str) {
    env.wait("hola", what, |status| {
        reason(status, "Ready") == ready && is(status, "Live", "True") && digests(env) == *wanted
    })
    .await;
    env.wait("hola", &format!("{what}: in order"), |status| {
        is(status, "Drifted", "False") || reason(status, "Ready") == "AwaitingApproval"
    })
    .await;
}

async fn waits(env: &Env, spec: Value, ready: &str) {
    env.patch("hola", json!({ "spec": spec })).await;
    env.wait("hola", ready, |status| {
        reason(status, "Ready") == ready && is(status, "Live", "True")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_that_somebody_removes_or_changes_are_set_again_while_the_spec_cannot_go_live() {
    let env = serving(json!({"postgres": {"managed": {}}})).await;
    let wanted = digests(&env);
    assert!(wanted.contains_key("DATABASE_URL"), "{wanted:?}");

    let typo = json!({"deploy": {"image": image("typo")}});
    waits(&env, typo, "ImageNotFound").await;
    by_hand(&env, &[("API_KEY", None), ("JWT_SECRET", Some("by hand"))]).await;
    back(&env, "a typo", &wanted, "ImageNotFound").await;
    let note = event(&env, "hola", "DriftDetected").await;
    assert!(note.contains("set the secrets"), "{note}");
    by_hand(&env, &[("DATABASE_URL", None)]).await;
    back(
        &env,
        "the address of the database",
        &wanted,
        "ImageNotFound",
    )
    .await;

    // The app with everything in it.
    assert!(deletion::delete(env.sim.core(), APP, "app").await);
    // Fly.io's digests of another app are others.
    env.wait("hola", "the app comes back", |status| {
        let core = env.sim.core();
        let there = core.read(|world| world.apps.contains_key(APP));
        there && digests(&env).keys().eq(wanted.keys()) && is(status, "Drifted", "False")
    })
    .await;
    let wanted = digests(&env);
    back(&env, "the app", &wanted, "ImageNotFound").await;

    // The spec does not name the Secret any more; the release does.
    let other = json!({
        "mode": "Plan", "deploy": {"image": image("2")},
        "provision": {"secrets": {"from": null, "generate": null}},
    });
    waits(&env, other, "Planned").await;
    by_hand(&env, &[("API_KEY", None), ("JWT_SECRET", None)]).await;
    back(&env, "a plan", &wanted, "Planned").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_is_no_longer_known_is_told_and_that_of_the_spec_is_never_set_early() {
    let env = serving(json!({})).await;
    let wanted = digests(&env);
    let typo = json!({"deploy": {"image": image("typo")}});
    waits(&env, typo, "ImageNotFound").await;
    env.secret("keys", &[("API_KEY", ANOTHER)]).await;
    by_hand(&env, &[("API_KEY", None)]).await;
    let told = |status: &ActivationStatus| reason(status, "Drifted") == "ServingSecretLost";
    let status = env.wait("hola", "it is told", told).await;
    let text = message(&status, "Drifted");
    assert!(
        text.contains("Fly.io no longer has API_KEY")
            && text.contains("the Secrets keys, hola-golive"),
        "{text}"
    );
    let command = format!("`fly secrets set API_KEY=VALUE --stage -a {APP}`");
    assert!(text.contains(&command), "{text}");
    assert!(is(&status, "Live", "True") && !digests(&env).contains_key("API_KEY"));
    assert_eq!(reason(&status, "Ready"), "ImageNotFound");

    // The others are kept all the same.
    by_hand(&env, &[("JWT_SECRET", None)]).await;
    env.wait("hola", "the other is back", |_| {
        digests(&env).contains_key("JWT_SECRET")
    })
    .await;
    assert!(!digests(&env).contains_key("API_KEY"));

    // The whole Secret is gone, which is another reason for the spec to wait.
    let secrets: Api<Secret> = Api::namespaced(env.kube.clone(), &env.namespace);
    secrets
        .delete("keys", &DeleteParams::default())
        .await
        .unwrap();
    waits(
        &env,
        json!({"deploy": {"image": image("1")}}),
        "SecretNotFound",
    )
    .await;
    assert!(!digests(&env).contains_key("API_KEY"));

    // The former value is there again: the spec goes live with it.
    env.secret(
        "keys",
        &[("API_KEY", VALUE), ("MAIL_KEY", "mail-key-value")],
    )
    .await;
    env.wait("hola", "it is back", |status| {
        is(status, "Ready", "True") && digests(&env) == wanted
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_come_back_while_a_gate_waits_and_after_a_rollback_and_are_only_told_with_report() {
    let env = serving(json!({})).await;
    let wanted = digests(&env);
    let gated = json!({
        "deploy": {"image": image("exits")}, "gates": [{"before": "Deploy", "timeout": "2h"}],
    });
    waits(&env, gated, "AwaitingApproval").await;
    by_hand(&env, &[("API_KEY", None)]).await;
    back(&env, "a gate", &wanted, "AwaitingApproval").await;

    waits(&env, json!({"gates": null}), "RolledBack").await;
    by_hand(&env, &[("API_KEY", Some("by hand"))]).await;
    back(&env, "a rollback", &wanted, "RolledBack").await;

    let report = json!({"drift": "Report", "deploy": {"image": image("typo")}});
    waits(&env, report, "ImageNotFound").await;
    by_hand(&env, &[("API_KEY", None)]).await;
    env.wait("hola", "it is told", |status| {
        let text = message(status, "Drifted");
        text.contains("set the secrets API_KEY again") && text.contains("Report")
    })
    .await;
    assert!(!digests(&env).contains_key("API_KEY"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_leaves_its_secret_leaves_the_application_with_one_release() {
    let env = serving(json!({})).await;
    let secrets: Api<Secret> = Api::namespaced(env.kube.clone(), &env.namespace);
    let without = Patch::Merge(json!({"data": {"MAIL_KEY": null}}));
    let params = PatchParams::default();
    secrets.patch("keys", &params, &without).await.unwrap();

    // It is live again only when the release without it serves and Fly.io has it no longer.
    let number = |status: &ActivationStatus| status.release.as_ref()?.number;
    env.wait("hola", "another release without it", |status| {
        number(status) == Some(2) && is(status, "Ready", "True")
    })
    .await;
    assert!(!digests(&env).contains_key("MAIL_KEY"));

    // Then nothing follows: it is of no other release, and no drift. Nor is it missed while the spec waits.
    let typo = json!({"deploy": {"image": image("typo")}});
    waits(&env, typo, "ImageNotFound").await;
    by_hand(&env, &[("API_KEY", None)]).await;
    env.wait("hola", "the other comes back", |status| {
        digests(&env).contains_key("API_KEY") && is(status, "Drifted", "False")
    })
    .await;
    assert!(!digests(&env).contains_key("MAIL_KEY"));
    let status = env.status("hola").await;
    assert_eq!((number(&status), status.history.len()), (Some(2), 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_that_the_spec_drops_stay_until_the_release_without_them_serves() {
    let env = serving(json!({})).await;
    let wanted = digests(&env);

    // Its command fails: what serves has its secrets, and one that is removed by hand comes back.
    let port = "[http_service]\ninternal_port = 8080\n";
    let fails = format!("{port}[deploy]\nrelease_command = \"-c 'exit 4'\"\n");
    let spec = json!({
        "deploy": {
            "image": image("exits"), "config": {"inline": fails}, "migrations": {"reversible": true},
        },
        "provision": {"secrets": {"from": null}},
    });
    env.patch("hola", json!({ "spec": spec })).await;
    until(&env, "ReleaseCommand", "ReleaseCommandFailed").await;
    assert_eq!(digests(&env), wanted, "after the command");
    by_hand(&env, &[("API_KEY", None)]).await;
    env.wait("hola", "it comes back", |_| digests(&env) == wanted)
        .await;

    // Its machines fail: those of what serves are restored with their secrets.
    waits(&env, json!({"deploy": {"config": null}}), "RolledBack").await;
    assert_eq!(digests(&env), wanted, "after the rollback");

    env.patch("hola", json!({"spec": {"deploy": {"image": image("2")}}}))
        .await;
    env.wait("hola", "live without them", |status| {
        let release = status.release.as_ref();
        release.is_some_and(|release| release.image == image("2")) && is(status, "Ready", "True")
    })
    .await;
    let names: Vec<String> = digests(&env).into_keys().collect();
    assert_eq!(names, ["JWT_SECRET"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_of_the_spec_wait_for_the_gate_and_machines_start_with_those_of_the_release() {
    let mut env = serving(json!({"secrets": {"rotation": {"overlap": "0s"}}})).await;
    let wanted = digests(&env);
    let others = async |env: &Env, value: &str| {
        let secrets: Api<Secret> = Api::namespaced(env.kube.clone(), &env.namespace);
        secrets
            .delete("keys", &DeleteParams::default())
            .await
            .unwrap();
        env.secret(
            "keys",
            &[("API_KEY", value), ("NEW_KEY", "a-new-key-value")],
        )
        .await;
    };

    // Only planned: nothing is set, and one that is removed by hand comes back.
    let planned = json!({"mode": "Plan", "deploy": {"image": image("2")}});
    waits(&env, planned, "Planned").await;
    others(&env, ANOTHER).await;
    let push = "set the secrets API_KEY, NEW_KEY; remove MAIL_KEY";
    let plans = |status: &ActivationStatus| {
        let plan = status.plan.as_ref();
        plan.is_some_and(|plan| {
            plan.changes
                .iter()
                .any(|planned| planned.change.contains(push))
        })
    };
    env.wait("hola", "the secrets are planned", plans).await;
    by_hand(&env, &[("JWT_SECRET", None)]).await;
    back(&env, "a plan", &wanted, "Planned").await;

    // A gate: the plan that is approved says what is set.
    let gated = json!({
        "mode": "Apply",
        "gates": [{"before": "Deploy", "timeout": "2h"}],
    });
    waits(&env, gated, "AwaitingApproval").await;
    env.wait("hola", "the secrets are behind the gate", plans)
        .await;
    by_hand(&env, &[("JWT_SECRET", None)]).await;
    back(&env, "a gate", &wanted, "AwaitingApproval").await;

    // Another operator, which knows of the release from its record alone; and a lost machine.
    env.stop_operator().await;
    env.start_operator(&FLAGS).await;
    let before = alive(&env);
    let lost = before[0]["id"].as_str().unwrap().to_owned();
    let client = fly(&env, "cabanas");
    let deleted = client.delete_machine(APP, &lost, true, None).await;
    deleted.unwrap();
    env.wait("hola", "the machine is back", |status| {
        let alive = alive(&env);
        let is_new = alive.iter().any(|machine| machine["id"] != lost.as_str());
        is_new && alive.len() == before.len() && is(status, "Live", "True")
    })
    .await;
    let waiting = env.wait("hola", "it still waits", plans).await;
    assert_eq!(digests(&env), wanted, "set before the gate was opened");
    assert_eq!(reason(&waiting, "Ready"), "AwaitingApproval");

    let digest = waiting.plan.unwrap().digest;
    env.approve("hola", "Deploy", &digest).await;
    env.wait("hola", "live with the secrets of the spec", |status| {
        let release = status.release.as_ref();
        release.is_some_and(|release| release.image == image("2")) && is(status, "Ready", "True")
    })
    .await;
    let names: Vec<String> = digests(&env).into_keys().collect();
    assert_eq!(names, ["API_KEY", "JWT_SECRET", "NEW_KEY"]);
    assert_ne!(digests(&env)["API_KEY"], wanted["API_KEY"]);
    let status = env.wait_for("hola", "Drifted", "False").await;
    let told: Vec<&str> = status.secrets.iter().map(|s| &*s.name).collect();
    assert_eq!(told, ["API_KEY", "JWT_SECRET", "NEW_KEY"]);
    let releases = status.history.len();
    assert_eq!(releases, 2, "the secrets and the image are one release");
}
