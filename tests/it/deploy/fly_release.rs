//! Fly.io's own record of a release, from its beginning to its end.

use serde_json::json;

use crate::support::{
    deploy::{self, APP, QUIET},
    env::Env,
};

/// The status of each release at Fly.io, oldest first.
pub fn at_fly(env: &Env) -> Vec<String> {
    env.sim.core().read(|world| {
        let releases = world.apps[APP].platform.releases.iter();
        releases.map(|release| release.status.clone()).collect()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_on_record_from_its_beginning_once_and_interrupted_by_the_next() {
    const RELEASES: &str = "GET /api/v1/apps/{app}/releases";
    let mut env = deploy::env().await;
    let dir = tempfile::tempdir().unwrap();
    let ends = dir.path().join("ends");
    let script = format!("while ! test -e {}; do sleep 0.05; done", ends.display());
    let slow = format!("{QUIET}[deploy]\nrelease_command = \"-c '{script}'\"\n");
    deploy::deploy(&env, "1", &slow, json!({})).await;
    deploy::until(&env, "ReleaseCommand", "ReleaseCommandRunning").await;
    env.wait("hola", "a release at Fly.io", |_| !at_fly(&env).is_empty())
        .await;
    assert_eq!(at_fly(&env), ["pending"]);

    // Another process takes it up.
    env.stop_operator().await;
    env.sim.reset();
    env.start_operator(&[]).await;
    env.wait("hola", "a look at it", |_| env.sim.calls(RELEASES) > 0)
        .await;
    assert_eq!(at_fly(&env), ["pending"]);

    deploy::change(&env, json!({"config": {"inline": QUIET}})).await;
    std::fs::write(&ends, "").unwrap();
    deploy::until_deployed(&env, "1").await;
    assert_eq!(at_fly(&env), ["interrupted", "complete"]);
    assert_eq!(env.status("hola").await.release.unwrap().number, Some(1));
}
