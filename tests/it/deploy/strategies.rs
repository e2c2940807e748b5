//! Strategies: the serving release goes on serving while an update succeeds or fails.
//!
//! Each strategy makes one update under load; `GOLIVE_UPDATES=10` makes ten. The numbers of sent and
//! failed requests are printed.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::deploy::{
    CREATE, UPDATE, alive, change, deploy, ids, image, machines, shell, until, until_deployed,
};
use crate::support::env::Env;
use crate::support::service::{
    Load, World, cabanas, cordoned, hello, leased, most_at_once, nothing_failed, recovers, told,
    toml, works_in, world_of,
};

/// Images: `1` to `11` work, `first` works in one machine only, `never` in none.
async fn world(flags: &[&str]) -> World {
    let dir = tempfile::tempdir().unwrap();
    let images = (1..=11)
        .map(|tag| hello(&tag.to_string()))
        .chain([
            works_in(1, "first", dir.path()),
            shell("never", "echo 'no such table: cabins'; exit 3"),
        ])
        .collect::<Vec<_>>();
    world_of(images, dir, flags).await
}

/// Updates that one test makes: each to the next image.
fn updates() -> usize {
    std::env::var("GOLIVE_UPDATES").map_or(1, |text| text.parse().expect("a number"))
}

async fn loses_no_request(strategy: &str) -> Env {
    let World { env, dir: _dir, .. } = world(&[]).await;
    deploy(&env, "1", &toml(strategy), json!({})).await;
    until_deployed(&env, "1").await;
    let load = Load::start(&env);
    for update in 0..updates() {
        let tag = (update % 10 + 2).to_string();
        change(&env, json!({"image": image(&tag)})).await;
        until_deployed(&env, &tag).await;
    }
    let (sent, failed) = load.end().await;
    println!(
        "{strategy}: {} updates, {sent} requests, {failed} failed",
        updates()
    );
    assert!(sent > 20);
    assert_eq!(failed, 0, "of {sent} requests during {strategy} updates");
    assert_eq!(machines(&env).len(), 2);
    env
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_lost_while_a_rolling_update_goes_on() {
    let env = loses_no_request("rolling").await;
    assert_eq!(env.sim.calls(CREATE), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_lost_while_bluegreen_moves_the_traffic() {
    let env = loses_no_request("bluegreen").await;
    assert_eq!(
        env.sim.calls(UPDATE),
        0,
        "machines are replaced, not updated"
    );
    assert_eq!(env.sim.calls(CREATE), 2 + 2 * updates() as u64);
    assert_eq!(most_at_once(&env), 4);
    assert!(cordoned(&env).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_lost_while_a_canary_goes_first() {
    let env = loses_no_request("canary").await;
    assert_eq!(env.sim.calls(CREATE), 2 + updates() as u64);
    assert_eq!(env.sim.calls(UPDATE), 2 * updates() as u64);
    assert_eq!(most_at_once(&env), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn immediate_updates_all_machines_at_once_and_says_so_when_they_fail() {
    let World { env, dir: _dir, .. } = world(&[]).await;
    let scale = json!({"scale": {"app": 3}});
    deploy(&env, "1", &toml("immediate"), scale).await;
    until_deployed(&env, "1").await;
    let before = ids(&env);
    change(&env, json!({"image": image("2")})).await;
    until_deployed(&env, "2").await;
    assert_eq!(ids(&env), before);
    assert_eq!(env.sim.calls(UPDATE), 3);

    change(&env, json!({"image": image("never"), "onFailure": "Pause"})).await;
    let (_, message) = until(&env, "Health", "MachineExited").await;
    assert!(message.contains("exited with code 3"), "{message}");
    assert_eq!(env.sim.calls(UPDATE), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_holds_all_its_machines_refreshes_that_and_lets_them_go() {
    const LEASE: &str = "POST /v1/apps/{app}/machines/{id}/lease";
    let dir = tempfile::tempdir().unwrap();
    let serves = dir.path().join("serves");
    let script = format!(
        "while ! test -e {}; do sleep 0.05; done; exec {} hello",
        serves.display(),
        cabanas().display()
    );
    let images = vec![hello("1"), shell("waits", &script)];
    let World { env, dir: _dir, .. } = world_of(images, dir, &[]).await;
    deploy(&env, "1", &toml("rolling"), json!({"scale": {"app": 3}})).await;
    until_deployed(&env, "1").await;
    let all: BTreeSet<String> = ids(&env).into_iter().collect();
    assert!(leased(&env).is_empty(), "none is held while nothing moves");

    env.sim.reset();
    change(&env, json!({"image": image("waits")})).await;
    env.wait("hola", "the first update", |_| env.sim.calls(UPDATE) == 1)
        .await;
    assert_eq!(leased(&env), all);
    env.wait("hola", "the leases are refreshed", |_| {
        env.sim.calls(LEASE) > 3
    })
    .await;
    assert_eq!(leased(&env), all);
    assert_eq!(env.sim.calls(UPDATE), 1, "the others wait for the first");
    // A suspended operator blocks the machines no longer than its leases last.
    env.patch("hola", json!({"spec": {"suspend": true}})).await;
    env.wait("hola", "the leases end", |_| leased(&env).is_empty())
        .await;
    env.patch("hola", json!({"spec": {"suspend": false}})).await;
    std::fs::write(&serves, "").unwrap();
    until_deployed(&env, "waits").await;
    assert!(leased(&env).is_empty());
    assert_eq!(env.sim.calls(&LEASE.replace("POST", "DELETE")), 3);
}

/// Deploys release 1, then `tag` under load; returns once the failure is reported.
async fn fails(strategy: &str, tag: &str, on_failure: &str, scale: usize) -> (World, String, Load) {
    let mut world = world(&[]).await;
    let env = &world.env;
    let more = json!({"scale": {"app": scale}, "onFailure": on_failure});
    deploy(env, "1", &toml(strategy), more).await;
    let first = until_deployed(env, "1").await.release.unwrap().digest;
    let load = Load::start(env);
    change(env, json!({"image": image(tag)})).await;
    let status = env.wait("hola", "the failure", |status| told(status).is_some());
    let message = told(&status.await).unwrap();
    assert!(message.contains("exited with code 3"), "{message}");
    assert!(message.contains("no such table: cabins"), "{message}");
    world.first = first;
    (world, message, load)
}

/// Ids of the machines with their versions. An unchanged pair is an unchanged machine.
fn versions(env: &Env) -> BTreeSet<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let live = alive(env);
    live.iter()
        .map(|machine| (text(&machine["id"]), text(&machine["instance_id"])))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_green_machine_that_fails_leaves_blue_serving_and_goes() {
    let (world, message, load) = fails("bluegreen", "first", "RollBack", 2).await;
    let env = &world.env;
    assert!(message.contains("golive-app-"), "{message}");
    env.wait("hola", "green is gone", |_| machines(env).len() == 2)
        .await;
    nothing_failed(load).await;
    assert!(cordoned(env).is_empty());
    assert_eq!(env.sim.calls(UPDATE), 0, "blue was not touched");
    assert_eq!(env.sim.calls(CREATE), 4, "and green was made once");
    recovers(env).await;
    assert_eq!(machines(env).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_green_machine_that_fails_is_kept_for_a_look_when_that_is_asked_for() {
    let kept = |on_failure| async move {
        let (world, message, load) = fails("bluegreen", "first", on_failure, 2).await;
        let env = &world.env;
        assert!(message.contains(on_failure), "{message}");
        assert_eq!(machines(env).len(), 4);
        assert_eq!(cordoned(env).len(), 2);
        nothing_failed(load).await;
        recovers(env).await;
        assert_eq!(machines(env).len(), 2);
        assert_eq!(most_at_once(env), 4, "there was never a third set");
    };
    tokio::join!(kept("Pause"), kept("Leave"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_fails_leaves_all_others_untouched() {
    let untouched = |on_failure| async move {
        let (world, message, load) = fails("canary", "never", on_failure, 2).await;
        let env = &world.env;
        assert!(message.contains("golive-canary-app-"), "{message}");
        let left = if on_failure == "RollBack" { 2 } else { 3 };
        env.wait("hola", "the canary", |_| machines(env).len() == left)
            .await;
        assert_eq!(env.sim.calls(UPDATE), 0);
        nothing_failed(load).await;
        recovers(env).await;
        assert_eq!(machines(env).len(), 2);
        assert_eq!(most_at_once(env), 3);
    };
    tokio::join!(
        untouched("RollBack"),
        untouched("Pause"),
        untouched("Leave")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_in_the_middle_of_rolling_goes_back_stays_or_goes_on_as_asked() {
    let ends = |on_failure| async move {
        let (world, message, load) = fails("rolling", "first", on_failure, 3).await;
        let env = &world.env;
        assert!(message.contains("golive-app-1"), "which machine: {message}");
        let kept = || {
            let all = machines(env).into_iter();
            all.filter(|machine| machine.1.ends_with(&world.first))
                .count()
        };
        match on_failure {
            "RollBack" => assert_eq!(kept(), 3),
            "Pause" => {
                assert_eq!(kept(), 1);
                let before = versions(env);
                env.sim.reset();
                env.wait("hola", "more looks", |_| env.sim.call_list().len() >= 4)
                    .await;
                assert_eq!(versions(env), before, "everything stays as it is");
            }
            _ => {
                env.wait("hola", "the rest", |_| kept() == 0).await;
            }
        }
        nothing_failed(load).await;
        recovers(env).await;
    };
    tokio::join!(ends("RollBack"), ends("Pause"), ends("Leave"));
}
