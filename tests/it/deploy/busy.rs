//! What somebody else holds at Fly.io: the lease of a machine that never ends (F34), and a volume when
//! its machine is created (F36).

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::time::Duration;

use fly_sim::{Fault, Kind};
use golive::api::ActivationStatus;
use serde_json::json;

use crate::support::deploy::{
    APP, CREATE, QUIET, change, deploy, env, image, machines, until_deployed,
};
use crate::support::env::{Env, is, message};
use crate::support::trouble::fly;

const LEASE: &str = "POST /v1/apps/{app}/machines/{id}/lease";

/// Whether a step says this.
fn says(status: &ActivationStatus, reason: &str) -> bool {
    let mut steps = status.phases.iter().flat_map(|phase| &phase.steps);
    steps.any(|step| step.reason == reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_of_somebody_else_that_does_not_end_is_told_and_changes_nothing_that_serves() {
    let env = env().await;
    deploy(&env, "1", QUIET, json!({})).await;
    until_deployed(&env, "1").await;
    let before = machines(&env);
    let (held, other) = (before[0].0.clone(), fly(&env, "cabanas"));
    let hours = Duration::from_secs(7200);
    let lease = other.acquire_lease(APP, &held, hours, "somebody").await;
    let lease = lease.unwrap();

    env.sim.reset();
    change(&env, json!({"image": image("2")})).await;
    let status = env
        .wait("hola", "the lease", |status| says(status, "MachineLeased"))
        .await;
    assert!(!is(&status, "Stalled", "True"), "it is awaited");
    assert!(is(&status, "Live", "True"), "{}", message(&status, "Live"));
    env.wait("hola", "further tries", |_| env.sim.calls(LEASE) >= 6)
        .await;
    assert_eq!(machines(&env), before, "what serves stays as it is");

    other.release_lease(APP, &held, &lease.nonce).await.unwrap();
    let status = until_deployed(&env, "2").await;
    assert!(!says(&status, "MachineLeased"));
    assert_eq!(machines(&env).len(), 2);
}

fn volumes(env: &Env) -> usize {
    let core = env.sim.core();
    core.read(|world| world.apps.get(APP).map_or(0, |app| app.volumes.len()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_busy_when_its_machine_is_created_is_awaited_and_no_other_one_is_made() {
    let env = env().await;
    let toml = format!("{QUIET}[[mounts]]\nsource = 'data'\ndestination = '/data'\n");
    let busy = Kind::Status {
        status: 412,
        body: Some(json!({"error": "failed to launch VM: volume is in use by another machine"})),
        applied: false,
    };
    env.sim.fault(Fault::new(CREATE, busy).always());
    deploy(&env, "1", &toml, json!({"scale": {"app": 1}})).await;
    let status = env
        .wait("hola", "the volume", |status| {
            env.sim.calls(CREATE) >= 2 && message(status, "Ready").contains("volume is in use")
        })
        .await;
    assert!(!is(&status, "Ready", "True"));
    assert_eq!((volumes(&env), machines(&env).len()), (1, 0));

    env.sim.clear_faults();
    until_deployed(&env, "1").await;
    assert_eq!((volumes(&env), machines(&env).len()), (1, 1));
}
