//! The wall clock of the operator's machine is wrong, jumps, or differs between replicas: no decision
//! changes. The operator is a process under libfaketime; its monotonic clock is right, as it is on every
//! machine.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use fly_sim::{Images, Options, Point};
use golive::api::ActivationStatus;
use golive::clock::wall;
use jiff::Timestamp;
use serde_json::json;

use crate::support::deploy::{change, deploy, image, until_deployed};
use crate::support::env::{Env, Offset};
use crate::support::service::{hello, toml};
use crate::support::trouble::{CREATE_MACHINE, pause_at, until};

const CREATE_TOKEN: &str = "POST /graphql#createLimitedAccessToken";

/// A world with four images that work, in which no operator runs yet.
async fn world() -> Env {
    let options = Options {
        images: Images::new(["1", "2", "3", "4"].map(hello)),
        ..Options::default()
    };
    Env::without_operator(options).await
}

/// Deploys an image with this strategy to what serves already.
async fn update(env: &Env, strategy: &str, tag: &str) -> ActivationStatus {
    let to = json!({"image": image(tag), "config": {"inline": toml(strategy)}});
    change(env, to).await;
    until_deployed(env, tag).await
}

/// Nothing was rolled back, and all times of the status are those of the real clock.
fn holds(status: &ActivationStatus, began: Timestamp) {
    let outcomes: Vec<&str> = status.history.iter().map(|e| e.outcome.as_str()).collect();
    assert!(
        outcomes
            .iter()
            .all(|outcome| ["Succeeded", "Begun"].contains(outcome)),
        "{outcomes:?}"
    );
    let conditions = status.conditions.iter();
    let times = conditions
        .map(|condition| condition.last_transition_time.0)
        .chain(
            status
                .history
                .iter()
                .filter_map(|entry| Some(entry.time.as_ref()?.0)),
        );
    // Whole seconds, and a server's clock is known to a second.
    let (from, to) = (began.as_second() - 3, wall().as_second() + 3);
    for time in times {
        assert!(
            (from..=to).contains(&time.as_second()),
            "{time} from {began}"
        );
    }
}

/// With this clock an application goes live, and every strategy updates it.
async fn every_strategy_works(offset: &str) {
    let began = wall();
    let mut env = world().await;
    env.start_operator_with_clock(Offset::Constant(offset), &[]);
    deploy(&env, "1", &toml("rolling"), json!({})).await;
    until_deployed(&env, "1").await;
    for (strategy, tag) in [("rolling", "2"), ("canary", "3"), ("bluegreen", "4")] {
        let status = update(&env, strategy, tag).await;
        holds(&status, began);
    }
    let status = env.wait_live("hola").await;
    holds(&status, began);
    assert_eq!(env.sim.calls(CREATE_TOKEN), 1, "one token for the app");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_minutes_ahead_rolls_nothing_back() {
    every_strategy_works("+400s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_minutes_behind_holds_nothing_up() {
    every_strategy_works("-400s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_a_year_ahead_makes_no_more_tokens_and_expires_nothing() {
    every_strategy_works("+365d").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_by_days_expires_no_gate_and_ends_no_deadline() {
    let began = wall();
    let mut env = world().await;
    let dir = tempfile::tempdir().unwrap();
    let clock = dir.path().join("clock");
    let jump = |to: &str| std::fs::write(&clock, to).unwrap();
    jump("+0");
    env.start_operator_with_clock(Offset::In(&clock), &[]);
    deploy(&env, "1", &toml("canary"), json!({})).await;
    until_deployed(&env, "1").await;

    // At a gate of an hour.
    let gates = json!([{"before": "Deploy", "timeout": "1h", "onTimeout": "Reject"}]);
    let patch = json!({"spec": {"gates": gates, "deploy": {"image": image("2")}}});
    env.patch("hola", patch).await;
    let asks = |status: &ActivationStatus| status.pending_gate.is_some();
    env.wait("hola", "the gate asks", asks).await;
    for to in ["+2d", "-2d"] {
        jump(to);
        // A recheck that is requested now is handled after the jump.
        let token = json!({"metadata": {"annotations": {"golive.dev/reconcile": to}}});
        env.patch("hola", token).await;
        let before = env.sim.call_list().len();
        until("a pass after the jump", || {
            env.sim.call_list().len() > before + 4
        })
        .await;
        let status = env.status("hola").await;
        assert!(asks(&status), "{to}: {:?}", status.phases);
    }
    let plan = env.status("hola").await.plan.unwrap();

    // In the middle of the rollout.
    let mut canary = pause_at(&env, CREATE_MACHINE, Point::AfterApply);
    env.approve("hola", "Deploy", &plan.digest).await;
    canary.reached().await;
    jump("+2d");
    canary.resume();
    let status = until_deployed(&env, "2").await;
    holds(&status, began);
    holds(&env.wait_live("hola").await, began);
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_with_different_clocks_decide_alike() {
    let began = wall();
    let mut env = world().await;
    env.start_operator_with_clock(Offset::Constant("+1d"), &[]);
    deploy(&env, "1", &toml("rolling"), json!({})).await;
    until_deployed(&env, "1").await;

    let mut first = pause_at(&env, CREATE_MACHINE, Point::AfterApply);
    let to = json!({"image": image("2"), "config": {"inline": toml("bluegreen")}});
    change(&env, to).await;
    first.reached().await;
    env.kill_operator();
    first.resume();
    env.start_operator_with_clock(Offset::Constant("-400s"), &[]);
    holds(&until_deployed(&env, "2").await, began);
    env.kill_operator();
    env.start_operator_with_clock(Offset::Constant("+30d"), &[]);
    let status = update(&env, "canary", "3").await;
    holds(&status, began);
}
