//! Drift of a machine's configuration: a manual change is found in every section, and an unchanged
//! application is left alone, also by a new operator process.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::collections::BTreeSet;

use fly_sim::Image;
use golive::fly::{
    MachineConfig, MachineUpdate, NewMachine,
    machine_config::{Autostop, MachineRestart, RestartPolicy},
};
use serde_json::json;

use crate::support::deploy::{APP, LIST, alive, another_process_changes_nothing, env_with, image};
use crate::support::env::{Env, is, message};
use crate::support::service::{cabanas, leased};
use crate::support::trouble::{event, fly};

/// A file that uses every section.
const EVERYTHING: &str = include_str!("../../../src/flytoml/testdata/everything.toml");

/// Changes a machine by hand.
async fn change(env: &Env, id: &str, change: fn(&mut MachineConfig)) {
    let fly = fly(env, "cabanas");
    let machine = fly.machine(APP, id).await.unwrap().unwrap();
    let mut config = machine.config.unwrap();
    change(&mut config);
    let update = MachineUpdate {
        config,
        current_version: Some(machine.instance_id),
        ..MachineUpdate::default()
    };
    fly.update_machine(APP, id, &update, None).await.unwrap();
}

/// The machine with services.
fn serving(env: &Env) -> serde_json::Value {
    let machines = env.sim.machines(APP).into_iter();
    let mut serving = machines.filter(|machine| {
        let name = machine["name"].as_str().unwrap_or_default();
        machine["config"]["services"].is_array() && name.starts_with("golive-")
    });
    serving.next().expect("a machine that serves")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_changes_by_hand_is_put_right_and_an_untouched_app_is_left_alone() {
    let program = Image::new(image("1"), cabanas()).args(["hello"]);
    let mut env = env_with([program]).await;
    let spec = json!({"deploy": {
        "image": image("1"), "config": {"inline": EVERYTHING}, "scale": {"app": 1},
    }});
    env.activation("hola", spec).await;
    env.wait_live("hola").await;
    assert_eq!(
        env.sim.machines(APP).len(),
        3,
        "one serves, one works, one stands by"
    );

    another_process_changes_nothing(&mut env).await;

    let before = serving(&env)["config"].clone();
    let id = serving(&env)["id"].as_str().unwrap().to_owned();
    let by_hand: [fn(&mut MachineConfig); 3] = [
        |config| config.services[0].autostop = Some(Autostop::Off),
        |config| config.services[0].checks[0].path = Some("/other".to_owned()),
        |config| config.stop_config = None,
    ];
    for by_hand in &by_hand[..2] {
        env.wait_for("hola", "Drifted", "False").await;
        change(&env, &id, *by_hand).await;
        // The operator keeps its lease for a moment, also when it is stopped; until then Fly.io would
        // refuse the next manual change.
        env.wait("hola", "as it was, and let go", |_| {
            serving(&env)["config"] == before && leased(&env).is_empty()
        })
        .await;
        env.wait_live("hola").await;
    }
    event(&env, "hola", "DriftDetected").await;
    env.wait_for("hola", "Drifted", "False").await;

    // A value that the platform may have normalized does not restart a machine.
    env.stop_operator().await;
    change(&env, &id, by_hand[2]).await;
    env.sim.reset();
    env.start_operator(&[]).await;
    env.wait("hola", "looks", |_| env.sim.calls(LIST) >= 2)
        .await;
    assert_eq!(env.sim.mutations(), 0);
}

/// The message of the condition `Drifted`, once it is True and has all of `parts`.
async fn drifted(env: &Env, parts: &[&str]) -> String {
    let what = format!("{parts:?}");
    let status = env.wait("hola", &what, |status| {
        let told = message(status, "Drifted");
        is(status, "Drifted", "True") && parts.iter().all(|part| told.contains(part))
    });
    message(&status.await, "Drifted").to_owned()
}

/// Creates a machine by hand, as `fly machine run` and `fly scale count` do.
async fn by_hand(env: &Env, change: impl FnOnce(&mut MachineConfig)) -> String {
    let fly = fly(env, "cabanas");
    let id = serving(env)["id"].as_str().unwrap().to_owned();
    let found = fly.machine(APP, &id).await.unwrap().unwrap();
    let mut config = found.config.unwrap();
    change(&mut config);
    let machine = NewMachine {
        name: "silent-moon-1".to_owned(),
        config,
        ..NewMachine::default()
    };
    fly.create_machine(APP, &machine).await.unwrap().id
}

/// Ids of the machines that are there.
fn there(env: &Env) -> BTreeSet<String> {
    let alive = alive(env).into_iter();
    alive
        .map(|machine| machine["id"].as_str().unwrap().to_owned())
        .collect()
}

/// One machine that serves, without a size, a restart policy or an environment of its own.
async fn small(drift: &str) -> Env {
    let env = env_with(["1", "old"].map(|tag| Image::new(image(tag), cabanas()).args(["hello"])));
    let env = env.await;
    let toml = "[http_service]\ninternal_port = 8080\n";
    let spec = json!({"drift": drift, "deploy": {
        "image": image("1"), "config": {"inline": toml}, "scale": {"app": 1},
    }});
    env.activation("hola", spec).await;
    env.wait_for("hola", "Drifted", "False").await;
    env
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_declared_and_somebody_changed_is_told_by_field_and_put_right() {
    let env = small("Report").await;
    let before = serving(&env)["config"].clone();
    let id = serving(&env)["id"].as_str().unwrap().to_owned();
    let fields = [
        "env EXTRA removed",
        "guest.memory_mb 512 → 256",
        "restart.policy always → on-failure",
    ];

    change(&env, &id, |config| {
        let value = "canary-value".to_owned();
        config.env.insert("EXTRA".to_owned(), value);
        config.guest.as_mut().unwrap().memory_mb = Some(512);
        config.restart = Some(MachineRestart {
            policy: Some(RestartPolicy::Always),
            ..MachineRestart::default()
        });
    })
    .await;
    env.sim.reset();
    let told = drifted(&env, &fields).await;
    assert!(told.contains("nothing was changed"), "{told}");
    assert!(!told.contains("canary-value"), "{told}");
    let note = event(&env, "hola", "DriftDetected").await;
    assert!(note.contains(fields[1]), "{note}");
    assert_eq!(env.sim.mutations(), 0);
    assert!(is(&env.status("hola").await, "Ready", "True"));

    let correct = json!({"spec": {"drift": "Correct"}});
    env.patch("hola", correct).await;
    env.wait("hola", "as it was, and let go", |_| {
        serving(&env)["config"] == before && leased(&env).is_empty()
    })
    .await;
    env.wait_for("hola", "Drifted", "False").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_somebody_else_made_is_told_and_left_and_ours_are_kept() {
    let env = small("Correct").await;
    let ours = there(&env);

    // Another version serves beside ours.
    let stranger = by_hand(&env, |config| {
        config.metadata.clear();
        config.image = image("old");
    })
    .await;
    let destroy = format!("fly machine destroy {stranger} --force -a {APP}");
    drifted(&env, &[&destroy, &image("old")]).await;
    let note = event(&env, "hola", "DriftDetected").await;
    assert!(note.contains(&stranger), "{note}");
    let fly = fly(&env, "cabanas");
    let destroyed = fly.delete_machine(APP, &stranger, true, None).await;
    destroyed.unwrap();
    env.wait_for("hola", "Drifted", "False").await;

    // A copy has the marks of the machine that it copies, as `fly scale count` makes it.
    let copy = by_hand(&env, |_| {}).await;
    drifted(&env, &[&copy, "is a copy of the machine in the slot app-0"]).await;
    let both: BTreeSet<String> = ours.iter().cloned().chain([copy]).collect();
    assert_eq!(there(&env), both, "neither ours nor the copy was touched");
    assert!(is(&env.status("hola").await, "Ready", "True"));
}
