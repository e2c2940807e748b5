//! `deploy.tryImage`: each release is tried in a machine without services before a machine that serves
//! is touched.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use fly_sim::{Fault, Image, Images, Kind, Options};
use golive::api::status::StepState;
use serde_json::{Value, json};

use crate::support::deploy::{
    APP, CREATE, UPDATE, alive, another_process_changes_nothing, change, deploy, digests, image,
    machines, shell, step, until, until_deployed,
};
use crate::support::env::Env;
use crate::support::service::{Load, hello, toml};

/// A world whose releases `1` and `2` work; `exits` ends, and `404` has no homepage.
async fn world() -> Env {
    let echo = std::path::PathBuf::from(env!("CARGO_BIN_EXE_golive")).with_file_name("fly-sim");
    let other = Image::new(image("refuses"), echo).args(["echo", "--allowed-host", "nobody"]);
    let exits = "echo \"ModuleNotFoundError: No module named 'cabins'\"; exit 3";
    let images = [hello("1"), hello("2"), shell("exits", exits), other];
    let options = Options {
        images: Images::new(images),
        ..Options::default()
    };
    let mut env = Env::without_operator(options).await;
    env.start_operator(&[]).await;
    env
}

fn tried(more: Value) -> Value {
    let mut spec = json!({"scale": {"app": 1}, "tryImage": {"steadyFor": "1s"}});
    crate::support::env::merge(&mut spec, more);
    spec
}

/// The machines of trials, gone ones included: state and configuration.
fn trials(env: &Env) -> Vec<(String, Value)> {
    let all = env.sim.core().read(|world| {
        let machines = world.apps[APP].machines.values();
        machines.map(|machine| machine.json()).collect::<Vec<_>>()
    });
    all.into_iter()
        .filter(|machine| machine["config"]["metadata"]["golive_trial"].is_string())
        .map(|machine| {
            let state = machine["state"].as_str().unwrap().to_owned();
            (state, machine["config"].clone())
        })
        .collect()
}

/// Whether no trial runs.
fn none_runs(env: &Env) -> bool {
    trials(env).iter().all(|(state, _)| state == "destroyed")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_tried_without_services_before_any_machine_is_touched() {
    let mut env = world().await;
    deploy(&env, "1", &toml("rolling"), tried(json!({}))).await;
    until_deployed(&env, "1").await;
    let first = trials(&env);
    assert_eq!(first.len(), 1);
    let (state, config) = &first[0];
    assert_eq!(state, "destroyed");
    assert_eq!(config["metadata"]["golive_trial"], "passed");
    assert!(
        config["services"].as_array().is_none_or(Vec::is_empty),
        "{config}"
    );
    assert_eq!(config["checks"]["service-0"]["port"], 8080);
    another_process_changes_nothing(&mut env).await;

    env.sim.reset();
    change(&env, json!({"image": image("2")})).await;
    until_deployed(&env, "2").await;
    assert_eq!((env.sim.calls(CREATE), env.sim.calls(UPDATE)), (1, 1));
    let ledger = env.sim.ledger();
    let at = |kind: &str| {
        ledger
            .iter()
            .position(|effect| effect.kind == kind)
            .unwrap()
    };
    assert!(
        at("machine.destroyed") < at("machine.update"),
        "it was tried first"
    );
    assert_eq!(trials(&env).len(), 2);
    assert_eq!(alive(&env).len(), 1);
    let intents = |status: &golive::api::ActivationStatus| status.intents.is_empty();
    env.wait("hola", "no intent", intents).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_fails_its_trial_leaves_what_serves_alone() {
    let env = world().await;
    deploy(&env, "1", &toml("rolling"), tried(json!({}))).await;
    let good = until_deployed(&env, "1").await.release.unwrap().digest;
    env.sim.reset();
    let load = Load::start(&env);

    change(&env, json!({"image": image("exits")})).await;
    let (_, message) = until(&env, "TryImage", "ImageTrialFailed").await;
    for part in [
        "the trial of the image exited with code 3",
        "no machine of the application was changed",
        "ModuleNotFoundError: No module named 'cabins'",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(none_runs(&env));

    let slow = toml("rolling").replace("[deploy]\n", "[deploy]\nwait_timeout = '2s'\n");
    change(
        &env,
        json!({"image": image("refuses"), "config": {"inline": slow}}),
    )
    .await;
    env.wait("hola", "the check is told", |status| {
        step(status, "TryImage")
            .2
            .contains("was not steady within 2 s (400 Bad Request)")
    })
    .await;
    env.wait("hola", "it is gone", |_| none_runs(&env)).await;
    assert_eq!(env.sim.calls(UPDATE), 0);
    assert_eq!(digests(&env), [good].into());
    let (_, failed) = load.end().await;
    assert_eq!(failed, 0);

    change(
        &env,
        json!({"image": image("2"), "config": {"inline": toml("rolling")}}),
    )
    .await;
    until_deployed(&env, "2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_whose_create_lost_its_reply_runs_once() {
    for kind in [Kind::ResetAfter, Kind::ResetBefore] {
        let env = world().await;
        env.sim.fault(Fault::new(CREATE, kind).nth(1));
        deploy(&env, "1", &toml("rolling"), tried(json!({}))).await;
        until_deployed(&env, "1").await;
        assert_eq!(trials(&env).len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_that_is_no_longer_wanted_is_ended() {
    let env = world().await;
    let long = json!({"tryImage": {"steadyFor": "10m"}});
    deploy(&env, "1", &toml("rolling"), tried(long)).await;
    let runs = env.wait("hola", "a trial", |status| {
        step(status, "TryImage").1 == "ImageTrialRunning" && !none_runs(&env)
    });
    runs.await;
    assert!(
        machines(&env).is_empty(),
        "nothing serves before it was tried"
    );
    change(&env, json!({"tryImage": null})).await;
    let status = until_deployed(&env, "1").await;
    assert_eq!(step(&status, "TryImage").0, StepState::Skipped);
    env.wait("hola", "it is gone", |_| none_runs(&env)).await;
}
