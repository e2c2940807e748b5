//! There is no capacity, the program fails, or the smoke test does.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use fly_sim::{Fault, Kind};
use serde_json::{Value, json};

use crate::support::env::{Env, is, message};
use crate::support::trouble::{
    CREATE_MACHINE, deploy, event, machine_limit, recovered, retrying, stopped, until, warnings,
    world,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_is_used_up_stops_until_it_is_raised() {
    let env = world(&[]).await;
    machine_limit(&env, Some(0));
    env.activation("hola", json!({})).await;

    let status = stopped(&env, "hola", "QuotaExceeded").await;

    let text = message(&status, "Ready");
    assert!(text.contains("machine limit"), "{text}");
    assert!(text.contains("raise the limit"), "{text}");
    machine_limit(&env, None);
    recovered(&env, "hola").await;
    assert_eq!(warnings(&env, "hola").await, ["QuotaExceeded"]);
}

async fn falls_back(kind: Kind) {
    let env = world(&[]).await;
    // A first deployment creates both machines at once: both are refused.
    let fault = Fault::new(CREATE_MACHINE, kind).occurrences(1..=2);
    env.sim.fault(fault);
    let sizes = json!({"deploy": {"fallbackSizes": ["shared-cpu-2x"]}});
    env.activation("hola", sizes).await;

    let status = recovered(&env, "hola").await;

    let used = &status.fallbacks[0];
    assert_eq!(used.what, "deploy.size");
    assert_eq!(used.to, "shared-cpu-2x");
    assert!(!used.reason.is_empty());
    let machines = env.sim.machines("hola-cabanas");
    assert_eq!(machines.len(), 2);
    for machine in &machines {
        assert_eq!(machine["config"]["guest"]["cpus"], 2, "{machine}");
    }
    assert_eq!(warnings(&env, "hola").await, ["FallbackUsed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_is_used_up_makes_use_of_the_declared_size() {
    falls_back(Kind::MachineLimit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_without_room_makes_use_of_the_declared_size() {
    falls_back(Kind::Capacity).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_without_room_is_tried_again_until_there_is_some() {
    let env = world(&[]).await;
    env.sim
        .fault(Fault::new(CREATE_MACHINE, Kind::Capacity).always());
    env.activation("hola", json!({})).await;

    let status = retrying(&env, "hola", &["CapacityUnavailable"]).await;

    let text = message(&status, "Ready");
    assert!(text.contains("could not find a candidate host"), "{text}");
    env.sim.clear_faults();
    recovered(&env, "hola").await;
    assert_eq!(warnings(&env, "hola").await, ["CapacityUnavailable"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_ends_at_its_start_is_told_with_its_code_and_its_last_lines() {
    let env = world(&[]).await;
    let image = json!({"image": "registry.fly.io/hola-cabanas:crash"});
    env.activation("hola", json!({"deploy": image})).await;

    let status = stopped(&env, "hola", "MachineExited").await;

    let text = message(&status, "Ready");
    assert!(text.contains("code 3"), "{text}");
    assert!(text.contains("fix the application"), "{text}");
    deploy(&env, "hola", "1.0.0").await;
    recovered(&env, "hola").await;
    assert_eq!(warnings(&env, "hola").await, ["MachineExited"]);
}

fn checked(path: &str, wait_timeout: &str) -> Value {
    let text = format!(
        "[deploy]\n  wait_timeout = \"{wait_timeout}\"\n\n[http_service]\n  internal_port = 8080\n\n\
        [[http_service.checks]]\n  path = \"{path}\"\n  interval = \"5s\"\n  timeout = \"2s\"\n  \
        grace_period = \"1s\"\n"
    );
    json!({"deploy": {"config": {"inline": text}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_never_becomes_healthy_is_told_with_its_check() {
    let env = world(&[]).await;
    env.activation("hola", checked("/nothing-here", "2s")).await;

    let status = stopped(&env, "hola", "NotHealthy").await;

    let text = message(&status, "Ready");
    assert!(text.contains("golive-app-"), "{text}");
    let told = "(404 Not Found): the program has no /nothing-here (404): correct `path`";
    assert!(text.contains(told), "{text}");
    env.patch("hola", json!({"spec": checked("/", "1m")})).await;
    recovered(&env, "hola").await;
    assert_eq!(warnings(&env, "hola").await, ["NotHealthy"]);
}

fn homepage(path: &str) -> Value {
    json!({"smokeTest": {"deadline": "10s", "checks": [
        {"name": "metrics", "metrics": {"path": "/metrics"}},
        {"name": "homepage", "http": {"path": path}, "interval": "1s", "count": 2, "failureLimit": 1},
    ]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_smoke_check_that_fails_is_told_by_name_with_what_was_found() {
    let env = world(&[]).await;
    env.activation("hola", homepage("/nothing-here")).await;

    let status = stopped(&env, "hola", "SmokeCheckFailed").await;

    let text = message(&status, "Ready");
    assert!(text.contains("homepage"), "{text}");
    assert!(text.contains("404"), "{text}");
    assert!(!text.contains("metrics"), "{text}");
    assert!(status.go_live.is_none());
    env.patch("hola", json!({"spec": homepage("/")})).await;
    recovered(&env, "hola").await;
    assert_eq!(warnings(&env, "hola").await, ["SmokeCheckFailed"]);
}

/// A machine of the new release that has started.
fn started(env: &Env) -> Option<String> {
    let machines = env.sim.machines("hola-cabanas").into_iter();
    let new = machines.filter(|machine| {
        let mut env = machine["config"]["env"].as_object().into_iter().flatten();
        machine["state"] == "started" && env.any(|(key, _)| key == "GREEDY")
    });
    new.map(|machine| machine["id"].as_str().unwrap().to_owned())
        .next()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_runs_out_of_memory_is_told_as_that_and_its_release_is_taken_back() {
    let text = |path: &str, more: &str| {
        format!(
            "[env]\n{more}\n[deploy]\n  wait_timeout = \"60s\"\n\n[[restart]]\n  policy = \"never\"\n\n\
            [http_service]\n  internal_port = 8080\n\n[[http_service.checks]]\n  path = \"{path}\"\n  \
            interval = \"5s\"\n  timeout = \"2s\"\n  grace_period = \"1s\"\n"
        )
    };
    let config = |text: String| json!({"deploy": {"config": {"inline": text}}});
    let env = world(&[]).await;
    env.activation("hola", config(text("/", ""))).await;
    recovered(&env, "hola").await;
    // The machine exits long before the deadline of its start.
    let greedy = config(text("/nothing-here", "  GREEDY = \"yes\""));
    env.patch("hola", json!({"spec": greedy})).await;
    until("a new machine", || started(&env).is_some()).await;
    let id = started(&env).unwrap();

    assert!(env.sim.out_of_memory("hola-cabanas", &id));

    let note = event(&env, "hola", "RolledBack").await;
    assert!(note.contains("ran out of memory"), "{note}");
    assert!(note.contains("[[vm]] memory"), "{note}");
    let status = stopped(&env, "hola", "RolledBack").await;
    assert_eq!(started(&env), None, "the release before runs again");
    assert_eq!(status.history[0].outcome.as_str(), "RolledBack");
    env.patch(
        "hola",
        json!({"spec": config(text("/", "  LEAN = \"yes\""))}),
    )
    .await;
    env.wait("hola", "the next release", |status| {
        is(status, "Live", "True") && status.history.len() == 3
    })
    .await;
}
