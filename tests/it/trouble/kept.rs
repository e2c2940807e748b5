//! Crashes and outages while the spec cannot be brought live: what serves is kept all the same, and
//! with the same calls as without a crash.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::collections::BTreeMap;

use fly_sim::{Fault, Images, Kind, Options, Point};
use golive::api::ActivationStatus;
use serde_json::{Value, json};

use crate::support::{
    crash::{Victim, full},
    deploy::{APP, QUIET, alive, change, deploy, image, shell, until_deployed},
    env::{Env, is, message, reason},
    service::{hello, toml},
};

/// What keeps the spec from going live.
struct Situation {
    name: &'static str,
    spec: Value,
    reason: &'static str,
}

fn situations() -> [Situation; 3] {
    [
        Situation {
            name: "a gate waits",
            spec: json!({
                "deploy": {"image": image("2")},
                "gates": [{"before": "Deploy", "timeout": "2h"}],
            }),
            reason: "AwaitingApproval",
        },
        Situation {
            name: "the spec is invalid",
            spec: json!({"deploy": {"image": image("2"), "scale": {"nowhere": 1}}}),
            reason: "InvalidSpec",
        },
        Situation {
            name: "after a rollback",
            spec: json!({"deploy": {"image": image("exits")}}),
            reason: "RolledBack",
        },
    ]
}

fn creates(env: &Env) -> BTreeMap<String, u64> {
    let mut history = BTreeMap::new();
    for effect in env.sim.ledger() {
        if effect.kind == "machine.create" || effect.kind == "machine.update" {
            *history.entry(effect.kind.clone()).or_default() += 1;
        }
    }
    history
}

/// Somebody destroys a machine, and asks for a look.
async fn lose_a_machine(env: &Env, token: u64) {
    let id = alive(env)[0]["id"].as_str().unwrap().to_owned();
    let target = format!("machine:{id}");
    assert!(fly_sim::deletion::delete(env.sim.core(), APP, &target).await);
    let annotations = json!({"golive.dev/reconcile-requested-at": token.to_string()});
    env.patch("hola", json!({"metadata": {"annotations": annotations}}))
        .await;
}

async fn both_run(env: &Env, situation: &Situation) {
    let what = format!(
        "{}: both machines run, and the spec is as it was",
        situation.name
    );
    env.wait("hola", &what, |status| {
        let machines = alive(env);
        machines.len() == 2
            && machines.iter().all(|machine| machine["state"] == "started")
            && reason(status, "Ready") == situation.reason
            && is(status, "Live", "True")
    })
    .await;
}

async fn ends_the_same(situation: &Situation) {
    let images = [
        shell("1", "exec sleep 600"),
        shell("2", "exec sleep 601"),
        shell("exits", "echo 'no such table: cabins'; exit 3"),
    ];
    let options = Options {
        images: Images::new(images),
        ..Options::default()
    };
    let env = Env::without_operator(options).await;
    let victim = Victim::start(&env);
    deploy(&env, "1", QUIET, json!({})).await;
    until_deployed(&env, "1").await;
    env.wait_live("hola").await;
    env.patch("hola", json!({"spec": situation.spec})).await;
    both_run(&env, situation).await;

    env.sim.reset();
    lose_a_machine(&env, 0).await;
    both_run(&env, situation).await;
    let (reference, calls) = (creates(&env), env.sim.mutations());
    assert_eq!(reference.get("machine.create"), Some(&1), "{reference:?}");

    let points = [Point::BeforeApply, Point::AfterApply, Point::AfterReply];
    let kills = (1..=calls).flat_map(|k| points.map(|point| (k, point)));
    for (index, (k, point)) in (1_u64..).zip(kills) {
        if !full() && index % 2 == 0 {
            continue;
        }
        let before = victim.crashes();
        env.sim.reset();
        victim.crash_at(&env.sim, k, point);
        lose_a_machine(&env, index).await;
        both_run(&env, situation).await;
        let what = format!("{}: the crash at {k} {point:?}", situation.name);
        env.wait("hola", &what, |_| {
            victim.crashes() > before || env.sim.mutations() < k
        })
        .await;
        both_run(&env, situation).await;
        assert_eq!(creates(&env), reference, "{what}");
    }
    victim.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_what_serves_is_kept_ends_the_same_while_a_gate_waits() {
    ends_the_same(&situations()[0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_what_serves_is_kept_ends_the_same_beside_an_invalid_spec() {
    ends_the_same(&situations()[1]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_what_serves_is_kept_ends_the_same_after_a_rollback() {
    ends_the_same(&situations()[2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_fly_is_down_the_site_is_still_proven_whatever_keeps_the_spec_from_going_live() {
    let images = [
        hello("1"),
        hello("2"),
        shell("exits", "echo 'no such table: cabins'; exit 3"),
    ];
    let options = Options {
        images: Images::new(images),
        ..Options::default()
    };
    let mut env = Env::without_operator(options).await;
    env.start_operator(&["--recheck-interval", "1s"]).await;
    deploy(&env, "1", &toml("rolling"), json!({})).await;
    env.wait_live("hola").await;
    for situation in situations() {
        env.patch("hola", json!({"spec": situation.spec})).await;
        both_run(&env, &situation).await;
        env.sim.fault(Fault::new("*", Kind::status(503)).always());
        let lost = |status: &ActivationStatus| is(status, "Observed", "Unknown");
        let status = env.wait("hola", "Fly.io cannot be observed", lost).await;
        assert!(is(&status, "Live", "True"), "{}", message(&status, "Live"));
        env.sim.clear_faults();
        env.wait_for("hola", "Observed", "True").await;
        both_run(&env, &situation).await;
        env.patch("hola", json!({"spec": {"gates": null}})).await;
        change(
            &env,
            json!({"image": image("1"), "scale": {"app": 2, "nowhere": null}}),
        )
        .await;
        env.wait_live("hola").await;
    }
}
