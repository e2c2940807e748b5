//! One look that is wrong, at every place where an update looks at Fly.io, with every strategy: a list
//! of machines as it was one to five changes ago, an empty list, a 404, a 401, a 403. Nothing follows
//! from it: no rollback, no machine more or less, the same end.
//!
//! `make test` takes a sample; `GOLIVE_STALE_TEST=full` (`make test-stale`) takes every look.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::collections::{BTreeMap, BTreeSet};

use fly_sim::{Fault, Images, Kind, Options};
use golive::api::ActivationStatus;
use golive::api::status::HistoryOutcome;
use serde_json::json;

use crate::support::deploy::{APP, LIST, alive, change, deploy, env_with, image, until_deployed};
use crate::support::env::Env;
use crate::support::looks::{faults, reads, sample};
use crate::support::service::{hello, toml};

/// What an update has created, changed and destroyed.
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

/// Waits until every machine runs and every end is in the ledger; `before` were live at its begin.
async fn settled(env: &Env, before: usize) {
    env.wait("hola", "every end is written", |_| {
        let (live, effects) = (env.sim.machines(APP), env.sim.ledger());
        let count = |what: &str| effects.iter().filter(|e| e.kind == what).count();
        live.iter().all(|m| m["state"] == "started")
            && live.len() + count("machine.destroyed") == before + count("machine.create")
    })
    .await;
}

fn releases(status: &ActivationStatus) -> BTreeSet<String> {
    let failed = status
        .history
        .iter()
        .filter(|r| r.outcome != HistoryOutcome::Succeeded);
    failed
        .map(|r| format!("{} {}", r.image, r.outcome.as_str()))
        .collect()
}

/// Updates repeatedly, each time with one look that is wrong.
async fn moves_nothing(strategy: &str, wanted: usize) {
    let options = Options {
        images: Images::new(
            (1..=3)
                .map(|tag| hello(&tag.to_string()))
                .collect::<Vec<_>>(),
        ),
        ..Options::default()
    };
    let mut env = Env::without_operator(options).await;
    env.start_operator(&["--settle", "300ms"]).await;
    deploy(&env, "1", &toml(strategy), json!({})).await;
    until_deployed(&env, "1").await;
    settled(&env, 0).await;

    let live = env.sim.machines(APP).len();
    env.sim.reset();
    change(&env, json!({"image": image("2")})).await;
    until_deployed(&env, "2").await;
    let looked = reads(&env.sim);
    settled(&env, live).await;
    let reference = history(&env);

    let all = faults(&looked);
    let count = all.len();
    let (mut tag, mut hit) = (2, 0);
    let mut wrong = Vec::new();
    for fault in sample(all, wanted) {
        tag = if tag == 2 { 3 } else { 2 };
        env.sim.reset();
        env.sim.fault(fault.clone());
        change(&env, json!({"image": image(&tag.to_string())})).await;
        let status = until_deployed(&env, &tag.to_string()).await;
        settled(&env, live).await;
        hit += usize::from(env.sim.core().faults.standing()[0].hit > 0);
        let now = history(&env);
        let failed = releases(&status);
        if now != reference || !failed.is_empty() || alive(&env).len() != live {
            wrong.push(format!(
                "{fault:?}: {now:?} instead of {reference:?}, {failed:?}"
            ));
        }
    }
    println!("{strategy}: {hit} of {count} looks were wrong once");
    assert!(hit > 0, "no look was wrong");
    assert!(wrong.is_empty(), "{strategy}:\n{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_wrong_look_moves_nothing_in_a_rolling_update() {
    moves_nothing("rolling", 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_wrong_look_moves_nothing_in_a_canary_update() {
    moves_nothing("canary", 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_wrong_look_moves_nothing_in_a_bluegreen_update() {
    moves_nothing("bluegreen", 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_wrong_look_moves_nothing_in_an_immediate_update() {
    moves_nothing("immediate", 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_destroyed_by_golive_is_no_evidence_against_a_release() {
    let env = env_with([hello("1"), hello("2")]).await;
    deploy(&env, "1", &toml("canary"), json!({})).await;
    until_deployed(&env, "1").await;
    env.sim.reset();
    // The canary is destroyed, and every list goes on showing it for a while.
    let slow = Kind::Delay { ms: 2_500 };
    let lease = "DELETE /v1/apps/{app}/machines/{id}/lease";
    env.sim.fault(Fault::new(lease, slow));
    let stale = Kind::StaleList { mutations: 3 };
    env.sim.fault(Fault::new(LIST, stale).occurrences(4..=40));
    change(&env, json!({"image": image("2")})).await;
    let status = until_deployed(&env, "2").await;
    assert!(releases(&status).is_empty(), "{:?}", status.history);
    let reasons: Vec<String> = env.events("hola").await.into_iter().map(|e| e.1).collect();
    assert!(!reasons.contains(&"RolledBack".to_owned()), "{reasons:?}");
}
