//! A deployment of the smallest application, whose images are shell scripts: how a test begins one,
//! changes it, and reads what runs.

use std::collections::BTreeSet;

use fly_sim::{Image, Images, Options};
use golive::api::ActivationStatus;
use golive::api::status::{PhaseState, StepState};
use serde_json::{Value, json};

use crate::support::env::Env;

pub const APP: &str = "hola-cabanas";

pub const CREATE: &str = "POST /v1/apps/{app}/machines";

pub const UPDATE: &str = "POST /v1/apps/{app}/machines/{id}";

pub const LIST: &str = "GET /v1/apps/{app}/machines";

/// Machines without a port, which run a shell script.
pub const QUIET: &str = "kill_timeout = '1s'\n[[restart]]\npolicy = 'never'\n";

pub fn shell(tag: &str, script: &str) -> Image {
    Image::new(format!("registry.fly.io/{APP}:{tag}"), "/bin/sh").args(["-c", script])
}

pub fn image(tag: &str) -> String {
    format!("registry.fly.io/{APP}:{tag}")
}

pub async fn env() -> Env {
    env_with([
        shell("1", "exec sleep 600"),
        shell("2", "exec sleep 601"),
        shell("exits", "echo 'no such table: cabins'; exit 3"),
    ])
    .await
}

/// A world with these images alone.
pub async fn env_with(images: impl IntoIterator<Item = Image>) -> Env {
    let options = Options {
        images: Images::new(images),
        ..Options::default()
    };
    let mut env = Env::without_operator(options).await;
    env.start_operator(&[]).await;
    env
}

pub async fn deploy(env: &Env, tag: &str, toml: &str, more: Value) {
    let mut spec = json!({"deploy": {
        "image": image(tag), "config": {"inline": toml}, "scale": {"app": 2},
    }});
    crate::support::env::merge(&mut spec["deploy"], more);
    if !toml.contains("service") {
        // Its machines are the only proof.
        spec["smokeTest"] = json!({"checks": []});
    }
    env.activation("hola", spec).await;
}

/// Restarts the operator, waits for two passes, and expects no change.
pub async fn another_process_changes_nothing(env: &mut Env) {
    env.stop_operator().await;
    env.sim.reset();
    env.start_operator(&[]).await;
    env.wait("hola", "looks", |_| env.sim.calls(LIST) >= 2)
        .await;
    assert_eq!(env.sim.mutations(), 0);
}

pub async fn change(env: &Env, deploy: Value) {
    env.patch("hola", json!({"spec": {"deploy": deploy}})).await;
}

pub fn step(status: &ActivationStatus, name: &str) -> (StepState, String, String) {
    status
        .phases
        .iter()
        .flat_map(|phase| &phase.steps)
        .find(|step| step.name == name)
        .map(|step| (step.state, step.reason.clone(), step.message.clone()))
        .unwrap_or((StepState::Pending, String::new(), String::new()))
}

pub fn deployed(status: &ActivationStatus) -> bool {
    status
        .phases
        .iter()
        .any(|phase| phase.name.as_str() == "Deploy" && phase.state == PhaseState::Succeeded)
}

/// Waits until this image is deployed and recorded.
pub async fn until_deployed(env: &Env, tag: &str) -> ActivationStatus {
    let image = image(tag);
    env.wait("hola", &format!("{image} deployed"), |status| {
        deployed(status) && status.release.as_ref().is_some_and(|r| r.image == image)
    })
    .await
}

pub async fn until(env: &Env, name: &str, reason: &str) -> (ActivationStatus, String) {
    let what = format!("{name} with {reason}");
    let status = env.wait("hola", &what, |status| step(status, name).1 == reason);
    let status = status.await;
    let message = step(&status, name).2;
    (status, message)
}

/// The application's machines at the simulator, without those whose destruction Fly.io has accepted.
pub fn alive(env: &Env) -> Vec<Value> {
    let mut machines = env.sim.machines(APP);
    machines.retain(|machine| {
        let state = machine["state"].as_str().unwrap_or_default();
        !["destroying", "destroyed"].contains(&state)
    });
    machines
}

/// Live machines of the application: id, image, state.
pub fn machines(env: &Env) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut machines: Vec<_> = alive(env)
        .iter()
        .filter(|machine| {
            let slot = &machine["config"]["metadata"]["golive_slot"];
            !slot.as_str().unwrap_or_default().starts_with("release/")
        })
        .map(|machine| {
            let config = &machine["config"];
            (
                text(&machine["id"]),
                text(&config["image"]),
                text(&machine["state"]),
            )
        })
        .collect();
    machines.sort();
    machines
}

pub fn ids(env: &Env) -> Vec<String> {
    machines(env).into_iter().map(|machine| machine.0).collect()
}

pub fn digests(env: &Env) -> BTreeSet<String> {
    let digest = |image: &str| image.rsplit('@').next().unwrap_or_default().to_owned();
    machines(env).iter().map(|m| digest(&m.1)).collect()
}

/// A spec whose plan the status has no room for: twenty certificates with names as long as they may be, and machines
/// with many variables.
pub fn long_spec() -> serde_json::Value {
    let label = "a".repeat(60);
    let name = |at| {
        format!(
            "h{at}.{label}.{label}.{label}.{}.example.com",
            "b".repeat(40)
        )
    };
    let hostnames: Vec<String> = (0..20).map(name).collect();
    let variable = |at| format!("{}_{at} = '1'\n", "V".repeat(56));
    let variables: String = (0..40).map(variable).collect();
    let toml = format!("app = 'a'\n[env]\n{variables}[http_service]\ninternal_port = 8080\n");
    serde_json::json!({
        "provision": {"hostnames": hostnames},
        "deploy": {"config": {"inline": toml}},
    })
}
