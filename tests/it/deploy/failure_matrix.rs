//! A failure at each machine of each strategy: the serving release goes on serving, and the message
//! names the machine, its exit, its last log lines and the next action. The first machines of a
//! rolling update, a green machine and the canary itself are in `strategies.rs`.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::time::Instant;

use golive::api::ActivationStatus;
use serde_json::json;

use crate::support::deploy::{
    APP, CREATE, UPDATE, change, deploy, digests, ids, image, machines, shell, until_deployed,
};
use crate::support::env::{Env, LIMIT, message};
use crate::support::service::{
    Load, World, cordoned, get, hello, nothing_failed, recovers, told, toml, works_in, world_of,
};

/// Images: `1` to `3` work, `first` works in one machine only, `second` in two, and `hangs` answers
/// nothing until it is killed.
async fn world(flags: &[&str]) -> World {
    let dir = tempfile::tempdir().unwrap();
    let hangs = format!(
        "echo 'loading all bookings'; touch {}/hangs; exec sleep 600",
        dir.path().display()
    );
    let images = vec![
        hello("1"),
        hello("2"),
        hello("3"),
        works_in(1, "first", dir.path()),
        works_in(2, "second", dir.path()),
        shell("hangs", &hangs),
    ];
    world_of(images, dir, flags).await
}

/// Deploys release 1 on `scale` machines, then this image under load.
async fn begin(strategy: &str, tag: &str, on_failure: &str, scale: usize) -> (World, Load) {
    let mut world = world(&["--settle", "1s"]).await;
    let more = json!({"scale": {"app": scale}, "onFailure": on_failure});
    deploy(&world.env, "1", &toml(strategy), more).await;
    let first = until_deployed(&world.env, "1").await.release.unwrap();
    world.first = first.digest;
    let load = Load::start(&world.env);
    change(&world.env, json!({"image": image(tag)})).await;
    (world, load)
}

/// The final failure as it is reported in the step and the conditions, with a next action.
async fn failure(env: &Env, words: &[&str]) -> ActivationStatus {
    let status = env.wait("hola", "the failure", |status| told(status).is_some());
    let status = status.await;
    let texts = [
        told(&status).unwrap(),
        message(&status, "Deployed").to_owned(),
        message(&status, "Ready").to_owned(),
    ];
    for text in &texts {
        for word in words {
            assert!(text.contains(word), "{word}: {texts:#?}");
        }
    }
    assert_ne!(status.next_action, None, "what a person must do");
    status
}

const EXITED: [&str; 3] = [
    "exited with code 3",
    "no such table: cabins",
    "fix the application",
];

/// Machines that run the first release.
fn of_first(world: &World) -> usize {
    let all = machines(&world.env).into_iter();
    all.filter(|machine| machine.1.ends_with(&world.first))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_machine_of_a_rolling_update_takes_all_back_when_it_fails() {
    let (world, load) = begin("rolling", "second", "RollBack", 3).await;
    let env = &world.env;
    failure(env, &[&EXITED[..], &["golive-app-2", "release 1"]].concat()).await;
    assert_eq!(of_first(&world), 3);
    // Three machines updated, three rolled back, none of them twice.
    assert_eq!(env.sim.calls(UPDATE), 6);
    nothing_failed(load).await;
    recovers(env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_fails_after_a_good_canary_is_put_back_and_the_canary_goes() {
    let (world, load) = begin("canary", "first", "RollBack", 2).await;
    let env = &world.env;
    failure(env, &[&EXITED[..], &["golive-app-0", "release 1"]].concat()).await;
    env.wait("hola", "the canary gone", |_| machines(env).len() == 2)
        .await;
    assert_eq!(of_first(&world), 2);
    assert_eq!(env.sim.calls(CREATE), 3, "the canary was made once");
    assert_eq!(env.sim.calls(UPDATE), 2, "the other one was never touched");
    nothing_failed(load).await;
    recovers(env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_immediate_update_that_fails_goes_back_or_stays_as_asked_and_what_works_serves() {
    let ends = |on_failure: &'static str| async move {
        let (world, load) = begin("immediate", "first", on_failure, 3).await;
        let env = &world.env;
        let next = match on_failure {
            "RollBack" => "release 1",
            _ => "onFailure: Leave",
        };
        let status = failure(env, &[&EXITED[..], &["golive-app-", next]].concat()).await;
        let outcome = status.history[0].outcome.as_str();
        match on_failure {
            "RollBack" => {
                assert_eq!((outcome, of_first(&world)), ("RolledBack", 3));
                assert_eq!(env.sim.calls(UPDATE), 6);
            }
            _ => {
                assert_eq!((outcome, of_first(&world)), ("Failed", 0), "all stays");
                assert_eq!(env.sim.calls(UPDATE), 3);
            }
        }
        // The rolled-back machine has started, but its program may not listen yet.
        let end = Instant::now() + LIMIT;
        while get(env.sim.edge()).await != Some(200) {
            assert!(Instant::now() < end, "what works does not serve");
        }
        let (sent, _) = load.end().await;
        assert!(sent > 20);
        recovers(env).await;
    };
    tokio::join!(ends("RollBack"), ends("Leave"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_green_machine_that_fails_while_both_sets_serve_leaves_blue_serving() {
    // Both serve until the proxies have learned of the change.
    let world = world(&["--settle", "4s"]).await;
    let env = &world.env;
    deploy(env, "1", &toml("bluegreen"), json!({})).await;
    until_deployed(env, "1").await;
    let blue = ids(env);
    change(env, json!({"image": image("3")})).await;
    let status = env.wait("hola", "both sets serve", |_| {
        machines(env).len() == 4 && cordoned(env).is_empty()
    });
    status.await;
    let load = Load::start(env);
    let green: Vec<String> = ids(env)
        .into_iter()
        .filter(|id| !blue.contains(id))
        .collect();
    assert!(env.sim.out_of_memory(APP, &green[0]));
    failure(
        env,
        &["golive-app-", "ran out of memory", "memory", "release 1"],
    )
    .await;
    env.wait("hola", "green is gone", |_| machines(env).len() == 2)
        .await;
    assert_eq!(ids(env), blue, "blue was there all along");
    assert_eq!(env.sim.calls(UPDATE), 0);
    let (sent, failed) = load.end().await;
    // Only the requests that the killed program was serving are lost.
    assert!(sent > 20 && failed <= 2, "{failed} of {sent} requests");
    recovers(env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_runs_out_of_memory_in_an_update_says_so_and_what_to_change() {
    let ends = |on_failure: &'static str| async move {
        let (world, load) = begin("rolling", "hangs", on_failure, 2).await;
        let env = &world.env;
        let hangs = || -> Option<String> {
            let all = machines(env).into_iter();
            all.filter(|machine| !machine.1.ends_with(&world.first))
                .find(|machine| machine.2 == "started" && world.dir.path().join("hangs").exists())
                .map(|machine| machine.0)
        };
        env.wait("hola", "the first machine updated", |_| hangs().is_some())
            .await;
        assert!(env.sim.out_of_memory(APP, &hangs().unwrap()));
        let words = [
            "golive-app-0",
            "ran out of memory",
            "[[vm]] memory",
            "loading all bookings",
        ];
        failure(env, &words).await;
        let kept = if on_failure == "RollBack" { 2 } else { 1 };
        assert_eq!(of_first(&world), kept);
        nothing_failed(load).await;
        recovers(env).await;
        assert_eq!(digests(env).len(), 1);
    };
    tokio::join!(ends("RollBack"), ends("Pause"));
}
