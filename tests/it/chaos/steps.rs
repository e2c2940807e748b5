//! Somebody changes or deletes the object at each step of its life (F49, F50). Every object of a fleet
//! meets its edit after another number of its own changes, so one world tries many steps.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper fails its test by a panic"
)]

use std::time::{Duration, Instant};

use fly_sim::{Fault, Kind};
use futures::future::join_all;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use super::full;
use crate::support::{
    crash::{never_two_in, nothing_left},
    env::{Env, LIMIT, is, merge, message, reason},
    service,
    trouble::{serving, world},
};

/// Steps that one life has at most: effects of an app at Fly.io until it is live.
const STEPS: usize = 14;

/// What somebody does to the spec: in words, and the change.
type Edit = (&'static str, fn() -> Value);

/// What somebody does to the spec.
const EDITS: [Edit; 8] = [
    (
        "another image",
        || json!({"deploy": {"image": "registry.fly.io/hola-cabanas:again"}}),
    ),
    (
        "one machine less",
        || json!({"deploy": {"scale": {"app": 1}}}),
    ),
    (
        "one machine more",
        || json!({"deploy": {"scale": {"app": 3}}}),
    ),
    (
        "another secret",
        || json!({"provision": {"secrets": {"generate": [{"name": "JWT_SECRET"}, {"name": "SALT"}]}}}),
    ),
    ("another variable", || {
        let toml = format!("{}[env]\nLEVEL = 'debug'\n", service::toml("rolling"));
        json!({"deploy": {"config": {"inline": toml}}})
    }),
    (
        "another check",
        || json!({"smokeTest": {"checks": [{"name": "other", "http": {"path": "/?x"}}]}}),
    ),
    ("a suspension", || json!({"suspend": true})),
    (
        "an image that does not exist",
        || json!({"deploy": {"image": "registry.fly.io/hola-cabanas:nowhere"}}),
    ),
];

fn name(n: usize) -> String {
    format!("paso-{n:02}")
}

async fn create(env: &Env, n: usize) {
    let mut spec = json!({
        "app": name(n),
        "deploy": {"config": {"inline": service::toml("rolling")}, "scale": {"app": 2}},
        "provision": {"secrets": {"generate": [{"name": "JWT_SECRET"}]}},
        "deletionPolicy": {"app": "Delete", "secrets": "Delete"},
    });
    merge(&mut spec, json!({"drift": "Correct"}));
    env.activation(&name(n), spec).await;
}

/// Changes at Fly.io that an app has seen.
fn steps(env: &Env, app: &str) -> usize {
    let ledger = env.sim.ledger();
    let own = ledger
        .iter()
        .filter(|effect| effect.app.as_deref() == Some(app) && effect.call.is_some());
    own.count()
}

/// Waits until an app has seen this many changes, or its object is live.
async fn at_step(env: &Env, n: usize, step: usize) {
    at_step_from(env, n, 0, step).await;
}

/// The same for an app that had a life before, in which it saw `before` of them.
async fn at_step_from(env: &Env, n: usize, before: usize, step: usize) {
    let end = Instant::now() + LIMIT;
    while steps(env, &name(n)) < before + step {
        if is(&env.status(&name(n)).await, "Live", "True") {
            return;
        }
        assert!(Instant::now() < end, "{} has no step {step}", name(n));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// An object is edited after a number of its own changes, and put right where the edit stops it.
async fn edited(env: &Env, n: usize, step: usize, (what, edit): Edit) {
    create(env, n).await;
    at_step(env, n, step).await;
    let edit = edit();
    env.patch(&name(n), json!({"spec": edit})).await;
    let machines = match what {
        "one machine less" => 1,
        "one machine more" => 3,
        _ => 2,
    };
    if what == "a suspension" {
        env.wait_for(&name(n), "Suspended", "True").await;
        env.patch(&name(n), json!({"spec": {"suspend": false}}))
            .await;
    }
    if what == "an image that does not exist" {
        let status = env
            .wait(&name(n), what, |status| is(status, "Stalled", "True"))
            .await;
        assert_eq!(reason(&status, "Stalled"), "ImageNotFound", "{status:?}");
        assert!(message(&status, "Ready").contains("nowhere"), "{status:?}");
        let image = "registry.fly.io/hola-cabanas:1.0.0";
        env.patch(&name(n), json!({"spec": {"deploy": {"image": image}}}))
            .await;
    }
    let status = env.wait_live(&name(n)).await;
    let serves = serving(env, &name(n)).len();
    assert_eq!(serves, machines, "{what} at step {step}: {status:?}");
    let ended = status.history.iter().map(|entry| entry.outcome.as_str());
    assert!(
        !ended
            .clone()
            .any(|outcome| outcome == "RolledBack" || outcome == "Failed"),
        "{what} at step {step}: {:?}",
        ended.collect::<Vec<_>>()
    );
    env.delete(&name(n)).await;
    never_two(env, n, &format!("{what} at step {step}"));
}

fn never_two(env: &Env, n: usize, what: &str) {
    let ledger = env.sim.ledger().into_iter();
    let own: Vec<_> = ledger
        .filter(|effect| effect.app.as_deref().is_none_or(|of| of == name(n)))
        .collect();
    never_two_in(&own).unwrap_or_else(|error| panic!("{what}: {error}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_at_any_step_leads_to_what_it_says() {
    let env = world(&[]).await;
    let every = |n: usize| (n, n % STEPS + 1, EDITS[n % EDITS.len()]);
    let rounds: Vec<Vec<_>> = if full() {
        let all: Vec<_> = (0..STEPS * EDITS.len())
            .map(|n| (n, n / EDITS.len() + 1, EDITS[n % EDITS.len()]))
            .collect();
        all.chunks(EDITS.len()).map(<[_]>::to_vec).collect()
    } else {
        vec![(0..EDITS.len()).map(every).collect()]
    };
    for round in rounds {
        join_all(
            round
                .into_iter()
                .map(|(n, step, edit)| edited(&env, n, step, edit)),
        )
        .await;
    }
    nothing_left(&env).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_at_any_step_leaves_nothing_also_of_several_at_once_while_fly_is_down() {
    let env = world(&[]).await;
    let objects = if full() { STEPS } else { 6 };
    let deleted = async |n: usize| {
        create(&env, n).await;
        at_step(&env, n, (n * STEPS / objects) + 1).await;
        env.delete(&name(n)).await;
    };
    join_all((0..objects).map(deleted)).await;
    nothing_left(&env).await.unwrap();

    // All at once, in the middle of their work, and nothing answers for a while.
    let before: Vec<usize> = (0..objects).map(|n| steps(&env, &name(n))).collect();
    join_all((0..objects).map(|n| create(&env, n))).await;
    join_all((0..objects).map(|n| at_step_from(&env, n, before[n], n % 4 + 1))).await;
    env.sim.fault(Fault::new("*", Kind::Down { for_ms: 3_000 }));
    join_all((0..objects).map(async |n| {
        let (activations, delete) = (env.activations(), DeleteParams::default());
        activations.delete(&name(n), &delete).await.unwrap();
    }))
    .await;
    join_all((0..objects).map(async |n| {
        let end = Instant::now() + LIMIT;
        while let Some(left) = env.get(&name(n)).await {
            assert!(Instant::now() < end, "not deleted: {:?}", left.status);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }))
    .await;
    nothing_left(&env).await.unwrap();
    for n in 0..objects {
        never_two(&env, n, "deleted in the middle");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_whose_finalizer_was_removed_by_hand_disturbs_nobody_and_its_successor_is_told() {
    let env = world(&[]).await;
    for n in [0, 1] {
        create(&env, n).await;
    }
    for n in [0, 1] {
        env.wait_live(&name(n)).await;
    }
    env.activations()
        .delete(&name(0), &DeleteParams::default())
        .await
        .unwrap();
    // It may be gone already: then there is nothing left to try.
    let unheld = json!({"metadata": {"finalizers": null}});
    let patch = kube::api::Patch::Merge(unheld);
    let _ = env
        .activations()
        .patch(&name(0), &Default::default(), &patch)
        .await;
    let end = Instant::now() + LIMIT;
    while env.get(&name(0)).await.is_some() {
        assert!(Instant::now() < end, "it has no finalizer any more");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    create(&env, 0).await;
    // Live again when the app was removed in time, or told that the app belongs to another object.
    let status = env
        .wait(&name(0), "an end", |status| {
            is(status, "Live", "True") || is(status, "Stalled", "True")
        })
        .await;
    if is(&status, "Stalled", "True") {
        assert!(message(&status, "Ready").contains(&name(0)), "{status:?}");
        assert!(status.next_action.is_some(), "{status:?}");
    }
    assert!(is(&env.status(&name(1)).await, "Live", "True"));
}
