//! What the object names, or is itself, cannot be used.

use golive::fly::NewApp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::DeleteParams};
use serde_json::json;

use super::{deploy, fly, options, recovered, stopped, warnings, world};
use crate::env::{Env, message};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_named_and_the_right_one_is_taken_up_by_itself() {
    let mut env = Env::without_operator(options()).await;
    env.secret("fly", &[("token", "sim-token-nobody-knows")])
        .await;
    env.start_operator(&["--token-patience", "1s"]).await;
    env.activation("hola", json!({})).await;

    let status = stopped(&env, "hola", "TokenInvalid").await;

    let text = message(&status, "Ready");
    assert!(text.contains("token"), "{text}");
    assert!(!text.contains("nobody-knows"), "{text}");
    assert!(env.sim.apps().is_empty());
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
        name: "hola-cabanas".to_owned(),
        org_slug: "acme".to_owned(),
        ..NewApp::default()
    };
    acme.create_app(&app).await.unwrap();
    env.start_operator(&[]).await;
    env.activation("hola", json!({})).await;

    let status = stopped(&env, "hola", "NameTaken").await;

    let text = message(&status, "Ready");
    assert!(text.contains("hola-cabanas"), "{text}");
    assert!(text.contains("choose another"), "{text}");
    acme.delete_app("hola-cabanas", true).await.unwrap();
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
        crate::env::merge(&mut spec, more);
        spec
    };
    // The API server takes this time; it is later than the last one that Golive can tell.
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
    assert!(warnings(&env, "hola").await.is_empty());
    env.delete("hola").await;
    assert!(!env.sim.apps().contains(&"hola-cabanas".to_owned()));
}
