//! The operator is killed with SIGKILL around the external writes of an update, is started again,
//! and must come to the same end with the same creations, while the application serves.
//!
//! `make test` takes a sample; `GOLIVE_CRASH_TEST=full` (`make test-crash`) takes every point.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::collections::{BTreeMap, BTreeSet};

use fly_sim::{Images, Options, Point};
use serde_json::{Value, json};

use crate::support::crash::{Victim, full};
use crate::support::deploy::{APP, change, deploy, image, until_deployed};
use crate::support::env::Env;
use crate::support::service::{Load, cordoned, hello, most_at_once, toml};

/// What an update has created and removed, without names that depend on the configuration.
fn history(env: &Env) -> BTreeMap<String, u64> {
    let mut history = BTreeMap::new();
    for effect in env.sim.ledger() {
        let what = effect.kind.as_str();
        if ["machine.create", "machine.update", "machine.destroyed"].contains(&what) {
            *history.entry(what.to_owned()).or_default() += 1;
        }
    }
    history
}

/// Waits until every machine runs or has ended, and every end is in the ledger: Fly.io agrees to an
/// end before its host carries it out. `before` machines were live when the ledger began.
async fn settled(env: &Env, before: usize) {
    env.wait("hola", "every end is written", |_| {
        let (live, effects) = (env.sim.machines(APP), env.sim.ledger());
        let count = |what: &str| effects.iter().filter(|e| e.kind == what).count();
        live.iter().all(|m: &Value| m["state"] == "started")
            && live.len() + count("machine.destroyed") == before + count("machine.create")
    })
    .await;
}

/// No two live machines with one name at any instant.
fn never_two(env: &Env) {
    let mut live = BTreeSet::new();
    for effect in env.sim.ledger() {
        match effect.kind.as_str() {
            "machine.create" => assert!(live.insert(effect.name.clone()), "two {}", effect.name),
            "machine.destroyed" => {
                live.remove(&effect.name);
            }
            _ => {}
        }
    }
}

/// Updates repeatedly, each time with a crash at another call: at every `every`-th one.
async fn ends_the_same(strategy: &str, toml: &str, more: Value, every: u64) {
    let images = (1..=3).map(|tag| hello(&tag.to_string()));
    let options = Options {
        images: Images::new(images.collect::<Vec<_>>()),
        ..Options::default()
    };
    let env = Env::without_operator(options).await;
    let victim = Victim::start(&env);
    deploy(&env, "1", toml, more).await;
    until_deployed(&env, "1").await;
    settled(&env, 0).await;

    // Without a crash: the number of calls.
    let live = env.sim.machines(APP).len();
    env.sim.reset();
    change(&env, json!({"image": image("2")})).await;
    until_deployed(&env, "2").await;
    settled(&env, live).await;
    let (reference, calls) = (history(&env), env.sim.mutations());
    let most = most_at_once(&env);
    println!("{strategy}: {calls} calls that change something, {reference:?}");

    let points = [Point::BeforeApply, Point::AfterApply, Point::AfterReply];
    let kills = (1..=calls)
        .flat_map(|k| points.map(|point| (k, point)))
        .filter(|(k, point)| {
            // The points alternate.
            let nth = usize::try_from(k / every % 3).unwrap();
            full() || k % every == 2 && points[nth] == *point
        });
    let load = Load::start(&env);
    let mut tag = 2;
    let mut count = 0;
    for (k, point) in kills {
        tag = if tag == 2 { 3 } else { 2 };
        let live = env.sim.machines(APP).len();
        env.sim.reset();
        let before = victim.crashes();
        victim.crash_at(&env.sim, k, point);
        change(&env, json!({"image": image(&tag.to_string())})).await;
        until_deployed(&env, &tag.to_string()).await;
        // The number of calls varies, since a slower update refreshes its leases more often. A call
        // that was made has had its crash.
        let what = format!("the crash at {k} {point:?}");
        env.wait("hola", &what, |_| {
            victim.crashes() > before || env.sim.mutations() < k
        })
        .await;
        count += victim.crashes() - before;
        settled(&env, live).await;
        assert_eq!(
            history(&env),
            reference,
            "{strategy}: crash at {k} {point:?}"
        );
        assert!(
            most_at_once(&env) <= most,
            "{strategy}: crash at {k} {point:?}"
        );
        assert!(
            cordoned(&env).is_empty(),
            "{strategy}: crash at {k} {point:?}"
        );
        never_two(&env);
    }
    let (sent, failed) = load.end().await;
    println!("{strategy}: {count} crashes, {sent} requests, {failed} failed");
    assert_eq!(failed, 0, "of {sent} requests");
    assert!(count > 0, "no update was long enough for a crash");
    victim.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_around_every_write_of_a_bluegreen_update_ends_the_same() {
    ends_the_same("bluegreen", &toml("bluegreen"), json!({}), 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_around_every_write_of_a_canary_update_ends_the_same() {
    ends_the_same("canary", &toml("canary"), json!({}), 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_around_every_write_of_a_tested_update_ends_the_same() {
    let check = "[[machine_checks]]\ncommand = ['/bin/true']\n";
    let toml = format!("{}{check}", toml("rolling"));
    ends_the_same("rolling", &toml, json!({}), 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_around_every_write_of_a_tried_update_ends_the_same() {
    let more = json!({"scale": {"app": 1}, "tryImage": {"steadyFor": "1s"}});
    ends_the_same("rolling", &toml("rolling"), more, 3).await;
}
