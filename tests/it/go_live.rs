//! The main job: from `kubectl apply` to a live URL.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::json;

use crate::env::Env;

#[tokio::test(flavor = "multi_thread")]
async fn the_smallest_activation_goes_live_and_leaves_nothing_behind() {
    let env = Env::start().await;
    env.activation("hola", json!({})).await;

    let status = env.wait_live("hola").await;

    assert_eq!(status.url.as_deref(), Some("https://hola-cabanas.fly.dev"));
    assert!(status.go_live.is_some());
    let reasons: Vec<String> = env.events("hola").await.into_iter().map(|e| e.1).collect();
    assert_eq!(
        reasons.iter().filter(|r| *r == "GoLive").count(),
        1,
        "{reasons:?}"
    );

    env.delete("hola").await;
    assert!(env.sim.apps().is_empty(), "{:?}", env.sim.apps());
}
