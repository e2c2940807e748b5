//! Drift of a machine's configuration: a manual change is found in every section, and an unchanged
//! application is left alone, also by a new operator process.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use fly_sim::Image;
use golive::fly::{
    Client, Endpoints, Fly, HttpOptions, MachineConfig, MachineUpdate, Token,
    machine_config::Autostop,
};
use serde_json::json;

use crate::support::deploy::{APP, LIST, another_process_changes_nothing, env_with, image};
use crate::support::env::Env;
use crate::support::service::{cabanas, leased};
use crate::support::trouble::event;

/// A file that uses every section.
const EVERYTHING: &str = include_str!("../../../src/flytoml/testdata/everything.toml");

/// A Fly client of another user of the same organization.
fn somebody(env: &Env) -> Client {
    let base = env.sim.base_url();
    let endpoints = Endpoints {
        machines: base.clone(),
        api: base.clone(),
        uiex: base.clone(),
        registry: base,
    };
    let fly = Fly::new(endpoints, HttpOptions::default()).unwrap();
    fly.client(Token::parse(&env.sim.token("cabanas").unwrap()).unwrap())
}

/// Changes a machine by hand.
async fn change(env: &Env, id: &str, change: fn(&mut MachineConfig)) {
    let fly = somebody(env);
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
    let mut serving = machines.filter(|machine| machine["config"]["services"].is_array());
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
