//! The object, or something that it references, cannot be used.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::time::{Duration, Instant};

use golive::{api::Activation, fly::NewApp};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
    core::{ApiResource, DynamicObject},
};
use serde_json::json;

use crate::support::env::{Env, LIMIT, message};
use crate::support::trouble::{deploy, event, fly, options, recovered, stopped, warnings, world};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_named_and_the_right_one_is_taken_up_by_itself() {
    let mut env = Env::without_operator(options()).await;
    env.secret("fly", &[("token", "sim-token-nobody-knows")])
        .await;
    env.start_operator(&["--token-patience", "1s"]).await;
    env.activation("hola", json!({})).await;

    let status = stopped(&env, "hola", "TokenInvalid").await;

    let text = message(&status, "Ready");
    assert!(
        text.starts_with("Preflight: TokenValid: Fly.io refuses the token"),
        "{text}"
    );
    let next = status.next_action.clone().unwrap_or_default();
    assert!(next.contains("fly tokens create org"), "{next}");
    // One cause, told once: what needs the token was not looked at, and has no advice of its own.
    for name in [
        "TokenScope",
        "OrganizationUsable",
        "AppNameAvailable",
        "RegionUsable",
    ] {
        let check = status.preflight.iter().find(|check| check.check == name);
        let check = check.unwrap();
        assert_eq!(check.result.as_str(), "Unknown", "{check:?}");
        assert!(
            check
                .message
                .contains("not looked at, because Fly.io refuses the token"),
            "{check:?}"
        );
        assert!(check.next_action.is_empty(), "{check:?}");
    }
    assert!(!text.contains("nobody-knows"), "{text}");
    assert!(env.sim.apps().is_empty());
    event(&env, "hola", "TokenInvalid").await;
    assert_eq!(warnings(&env, "hola").await, ["TokenInvalid"]);
    env.secret("fly", &[("token", &env.sim.token("cabanas").unwrap())])
        .await;
    recovered(&env, "hola").await;
    assert_eq!(warnings(&env, "hola").await, ["TokenInvalid"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_token_secret_is_named_and_found_as_soon_as_it_is_there() {
    let mut env = Env::without_operator(options()).await;
    let secrets: Api<Secret> = Api::namespaced(env.kube.clone(), &env.namespace);
    secrets
        .delete("fly", &DeleteParams::default())
        .await
        .unwrap();
    env.start_operator(&[]).await;
    env.activation("hola", json!({})).await;

    let status = stopped(&env, "hola", "SecretNotFound").await;

    let text = message(&status, "Ready");
    assert!(text.contains("Secret fly does not exist"), "{text}");
    assert!(text.contains("create it"), "{text}");
    env.secret("fly", &[("token", &env.sim.token("cabanas").unwrap())])
        .await;
    recovered(&env, "hola").await;
    assert_eq!(warnings(&env, "hola").await, ["SecretNotFound"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_name_of_somebody_else_is_never_touched_and_taken_when_it_is_free() {
    let mut env = Env::without_operator(options()).await;
    let acme = fly(&env, "acme");
    let app = NewApp {
        name: "taken-cabanas".to_owned(),
        org_slug: "acme".to_owned(),
        ..NewApp::default()
    };
    acme.create_app(&app).await.unwrap();
    env.start_operator(&[]).await;
    // The image's app does not exist: only the name is a problem.
    env.activation("hola", json!({"app": "taken-cabanas"}))
        .await;

    let status = stopped(&env, "hola", "NameTaken").await;

    let text = message(&status, "Ready");
    assert!(text.contains("taken-cabanas"), "{text}");
    assert!(text.contains("another `app`"), "{text}");
    acme.delete_app("taken-cabanas", true).await.unwrap();
    recovered(&env, "hola").await;
    assert_eq!(warnings(&env, "hola").await, ["NameTaken"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_does_not_exist_is_named() {
    let env = world(&[]).await;
    let image = json!({"image": "registry.fly.io/hola-cabanas:9.9.9"});
    env.activation("hola", json!({"deploy": image})).await;

    let status = stopped(&env, "hola", "ImageNotFound").await;

    let text = message(&status, "Ready");
    assert!(
        text.contains("registry.fly.io/hola-cabanas:9.9.9"),
        "{text}"
    );
    deploy(&env, "hola", "1.0.0").await;
    recovered(&env, "hola").await;
    assert_eq!(warnings(&env, "hola").await, ["ImageNotFound"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_fly_toml_is_told_with_line_and_column() {
    let env = world(&[]).await;
    let wrong = "[http_service]\n  internal_port = 8080\n\n[env]\n  A = [1]\n";
    env.activation("hola", json!({"deploy": {"config": {"inline": wrong}}}))
        .await;

    let status = stopped(&env, "hola", "FlyConfigInvalid").await;

    let text = message(&status, "Ready");
    assert!(text.contains("5:"), "{text}");
    let right = "[http_service]\n  internal_port = 8080\n";
    let config = json!({"spec": {"deploy": {"config": {"inline": right}}}});
    env.patch("hola", config).await;
    recovered(&env, "hola").await;
    assert_eq!(warnings(&env, "hola").await, ["FlyConfigInvalid"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_activations_with_one_app_the_second_stops_until_the_first_is_gone() {
    let env = world(&[]).await;
    env.activation("first", json!({})).await;
    env.wait_live("first").await;
    env.activation("second", json!({})).await;

    let status = stopped(&env, "second", "AppClaimed").await;

    let text = message(&status, "Ready");
    assert!(text.contains(&format!("{}/first", env.namespace)), "{text}");
    assert_eq!(env.sim.machines("hola-cabanas").len(), 2);
    env.delete("first").await;
    recovered(&env, "second").await;
    assert_eq!(warnings(&env, "second").await, ["AppClaimed"]);
    assert!(warnings(&env, "first").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_cannot_be_read_or_used_disturb_no_other() {
    let env = world(&[]).await;
    let spec = |app: &str, more: serde_json::Value| {
        let mut spec = json!({
            "organization": "cabanas", "app": app, "region": "eze",
            "deploy": {"image": format!("registry.fly.io/{app}:1.0.0")},
        });
        crate::support::env::merge(&mut spec, more);
        spec
    };
    // The API server accepts this time; it is later than the latest that Golive can represent.
    let unreadable = spec(
        "unreadable",
        json!({"suspendUntil": "9999-12-31T23:59:59Z"}),
    );
    let unusable = spec("unusable", json!({"deploy": {"image": "a@b"}}));
    for (name, spec) in [("unreadable", unreadable), ("unusable", unusable)] {
        let object = json!({
            "apiVersion": "golive.dev/v1alpha1", "kind": "Activation",
            "metadata": {"name": name}, "spec": spec,
        });
        env.apply(&object.to_string()).await;
    }
    env.activation("hola", json!({})).await;

    recovered(&env, "hola").await;

    env.wait_for("unusable", "Stalled", "True").await;
    let note = event(&env, "unreadable", "InvalidSpec").await;
    assert!(note.contains("cannot be decoded"), "{note}");
    assert!(warnings(&env, "hola").await.is_empty());
    env.delete("hola").await;
    assert!(!env.sim.apps().contains(&"hola-cabanas".to_owned()));
}

/// The stored object, also when it cannot be decoded.
fn raw(env: &Env) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<Activation>(&());
    Api::namespaced_with(env.kube.clone(), &env.namespace, &resource)
}

async fn raw_patch(env: &Env, patch: serde_json::Value) {
    let params = PatchParams::default();
    let patched = raw(env).patch("hola", &params, &Patch::Merge(patch)).await;
    patched.unwrap();
}

/// A live object that the API server accepts and Golive cannot decode, because of a time that is
/// later than the latest that it can represent.
async fn undecodable() -> Env {
    let env = world(&[]).await;
    env.activation("hola", json!({})).await;
    recovered(&env, "hola").await;
    let never = json!({"spec": {"suspendUntil": "9999-12-31T23:59:59Z"}});
    raw_patch(&env, never).await;
    let note = event(&env, "hola", "InvalidSpec").await;
    assert!(note.contains("cannot be decoded"), "{note}");
    let told = |object: &DynamicObject| {
        let conditions = object.data.pointer("/status/conditions");
        let conditions = conditions.and_then(serde_json::Value::as_array).unwrap();
        ["Ready", "Live"].map(|wanted| {
            let mut conditions = conditions.iter();
            let condition = conditions.find(|c| c["type"] == wanted).unwrap();
            format!("{} {}", condition["status"], condition["reason"])
        })
    };
    let unknown = "\"Unknown\" \"InvalidSpec\"";
    let end = Instant::now() + LIMIT;
    let object = loop {
        let object = raw(&env).get("hola").await.unwrap();
        if told(&object) == [unknown, unknown] {
            break object;
        }
        assert!(Instant::now() < end, "{:?}", told(&object));
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let release = object.data.pointer("/status/release/number");
    assert_eq!(release, Some(&json!(1)), "all else of its status stays");
    env
}

/// The same object while it is being deleted.
async fn undeletable() -> Env {
    let env = undecodable().await;
    raw(&env)
        .delete("hola", &DeleteParams::default())
        .await
        .unwrap();
    let note = event(&env, "hola", "DeletionBlocked").await;
    assert!(note.contains("golive.dev/forget=hola-cabanas"), "{note}");
    env
}

async fn gone(env: &Env) {
    let end = Instant::now() + LIMIT;
    while raw(env).get_opt("hola").await.unwrap().is_some() {
        assert!(Instant::now() < end, "the object is still there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let secrets: Api<Secret> = Api::namespaced(env.kube.clone(), &env.namespace);
    let token = secrets.get_metadata("fly").await.unwrap();
    assert!(token.metadata.finalizers.is_none(), "its token is let go");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_cannot_be_decoded_says_so_and_goes_when_it_is_told_to_be_forgotten() {
    let env = undeletable().await;
    let other = json!({"metadata": {"annotations": {"golive.dev/forget": "other"}}});
    raw_patch(&env, other).await;
    assert!(raw(&env).get_opt("hola").await.unwrap().is_some());

    let forget = json!({"metadata": {"annotations": {"golive.dev/forget": "hola-cabanas"}}});
    raw_patch(&env, forget).await;

    gone(&env).await;
    assert_eq!(env.sim.apps(), ["hola-cabanas"], "it stays as it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_cannot_be_decoded_is_deleted_in_order_once_it_is_mended() {
    let env = undeletable().await;

    raw_patch(&env, json!({"spec": {"suspendUntil": null}})).await;

    gone(&env).await;
    assert!(env.sim.apps().is_empty(), "{:?}", env.sim.apps());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_can_be_decoded_again_is_told_as_it_is() {
    let env = undecodable().await;
    raw_patch(&env, json!({"spec": {"suspendUntil": null}})).await;
    let status = recovered(&env, "hola").await;
    assert_eq!(status.release.unwrap().number, Some(1));
    // From then on there is one writer of the status again, and a change of the spec takes effect.
    deploy(&env, "hola", "again").await;
    env.wait("hola", "the next release", |status| {
        let release = status.release.as_ref();
        release.is_some_and(|release| release.number == Some(2))
            && crate::support::env::is(status, "Ready", "True")
    })
    .await;
}
