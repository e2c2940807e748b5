//! The app token: created once for an app, used wherever it suffices, and revoked with the app.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use fly_sim::{Fault, Kind};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::json;

use crate::support::env::Env;

const CREATE: &str = "POST /graphql#createLimitedAccessToken";
const LOOKS: [&str; 2] = [
    "GET /v1/apps/{app}/machines",
    "GET /v1/apps/{app}/machines/{id}",
];

/// Tokens for the app at Fly.io that are not revoked: their values.
fn at_fly(env: &Env) -> Vec<String> {
    env.sim.core().read(|world| {
        let tokens = world.tokens.iter();
        tokens
            .filter(|(_, token)| token.name.starts_with("golive-") && !token.revoked)
            .map(|(text, _)| text.clone())
            .collect()
    })
}

/// The Secrets in which tokens are kept: their values.
async fn kept(env: &Env) -> Vec<String> {
    let api: Api<Secret> = Api::namespaced(env.kube.clone(), &env.namespace);
    let params = ListParams::default().labels("app.kubernetes.io/component=app-token");
    let secrets = api.list(&params).await.unwrap().items;
    secrets
        .into_iter()
        .map(|secret| {
            assert_eq!(secret.labels()["app.kubernetes.io/managed-by"], "golive");
            let data = secret.data.unwrap_or_default();
            let text = String::from_utf8(data["token"].0.clone()).unwrap();
            text.trim_start_matches("FlyV1 ").to_owned()
        })
        .collect()
}

/// Revokes every token that this holds for.
fn revoke(env: &Env, which: impl Fn(&str) -> bool) {
    env.sim.core().write(|world| {
        for token in world.tokens.values_mut() {
            token.revoked |= which(&token.name);
        }
    });
}

/// Statuses of the reads of machines since the last reset.
fn looks(env: &Env) -> Vec<u16> {
    let calls = env.sim.call_list();
    let looks = calls
        .iter()
        .filter(|call| LOOKS.contains(&call.endpoint.as_str()));
    looks.filter_map(|call| call.status).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_app_gets_a_token_of_its_own_that_is_used_for_its_machines_and_goes_with_it() {
    let env = Env::start().await;
    env.activation("hola", json!({})).await;
    env.wait_live("hola").await;
    assert_eq!(env.sim.calls(CREATE), 1);
    assert_eq!(at_fly(&env).len(), 1);
    assert_eq!(kept(&env).await, at_fly(&env));

    // The user's token may no longer change anything; the machines are updated nevertheless.
    let user = env.sim.token("cabanas").unwrap();
    let set = |scope| {
        env.sim.core().write(|world| {
            world.tokens.get_mut(&user).unwrap().scope = scope;
        });
    };
    set(fly_sim::state::Scope::ReadOnly);
    let config = "[http_service]\ninternal_port = 8080\n[env]\nMODE = 'quick'\n";
    env.patch(
        "hola",
        json!({"spec": {"deploy": {"config": {"inline": config}}}}),
    )
    .await;
    env.wait("hola", "release 2", |status| {
        status.release.as_ref().and_then(|r| r.number) == Some(2)
    })
    .await;
    set(fly_sim::state::Scope::Org);

    env.delete("hola").await;
    assert!(at_fly(&env).is_empty());
    assert!(kept(&env).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_whose_reply_was_lost_is_revoked_and_another_is_made() {
    let mut env = Env::without_operator(fly_sim::Options::default()).await;
    env.sim.fault(Fault::new(CREATE, Kind::ResetAfter).nth(1));
    env.start_operator(&[]).await;
    env.activation("hola", json!({})).await;
    env.wait_live("hola").await;
    assert_eq!(env.sim.calls(CREATE), 2);
    assert_eq!(at_fly(&env).len(), 1, "nobody knows the first");
    assert_eq!(kept(&env).await, at_fly(&env));

    // Another process uses the same.
    env.stop_operator().await;
    let before = at_fly(&env);
    env.sim.reset();
    env.start_operator(&[]).await;
    env.wait("hola", "looks", |_| looks(&env).len() >= 2).await;
    assert_eq!(env.sim.calls(CREATE), 0);
    assert_eq!(at_fly(&env), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_is_made_though_the_list_of_tokens_lags() {
    let mut env = Env::without_operator(fly_sim::Options::default()).await;
    let nodes = |pointer: &str| Kind::Patch {
        pointer: pointer.to_owned(),
        value: json!([]),
    };
    let list = Fault::new(
        "POST /graphql#app",
        nodes("/data/app/limitedAccessTokens/nodes"),
    );
    env.sim.fault(list.always());
    env.start_operator(&["--settle", "60s"]).await;
    env.activation("hola", json!({})).await;
    env.wait("hola", "some looks", |_| {
        env.sim.calls("POST /graphql#app") >= 4
    })
    .await;
    assert_eq!(env.sim.calls(CREATE), 1);
    assert_eq!(kept(&env).await, at_fly(&env));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_replaced_and_the_users_own_stands_in_for_it() {
    let env = Env::start().await;
    env.activation("hola", json!({})).await;
    env.wait_live("hola").await;
    let first = at_fly(&env);

    revoke(&env, |name| name.starts_with("golive-"));
    env.wait("hola", "another token", |_| at_fly(&env).len() == 1)
        .await;
    assert_ne!(at_fly(&env), first);
    env.wait_live("hola").await;
    let events = env.events("hola").await;
    assert!(
        events.iter().all(|(kind, _, _)| kind != "Warning"),
        "{events:?}"
    );
    env.sim.reset();
    env.wait("hola", "looks", |_| looks(&env).len() >= 2).await;
    assert!(looks(&env).iter().all(|status| *status == 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_app_tokens_are_wanted_none_is_made_and_old_ones_are_revoked() {
    let mut env = Env::without_operator(fly_sim::Options::default()).await;
    env.start_operator(&["--app-tokens=false"]).await;
    env.activation("hola", json!({})).await;
    env.wait_live("hola").await;
    assert_eq!(env.sim.calls(CREATE), 0);
    assert!(kept(&env).await.is_empty());

    env.stop_operator().await;
    env.start_operator(&[]).await;
    env.wait("hola", "a token", |_| at_fly(&env).len() == 1)
        .await;
    env.stop_operator().await;
    env.start_operator(&["--app-tokens=false"]).await;
    env.wait("hola", "no token", |_| at_fly(&env).is_empty())
        .await;
}
