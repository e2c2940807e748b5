//! Whole worlds, as `make up` and `make down` start and end them.
//!
//! Needs the programs of the other crates: `make binaries control-plane` builds them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use kube_env::process::Identity;
use nix::sys::signal::Signal;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

/// A world that ends with the test, whatever happens.
struct World {
    name: String,
}

impl World {
    fn new(suffix: &str) -> Self {
        let name = format!("test-{}-{suffix}", std::process::id());
        Self { name }
    }

    fn run(&self, command: &str) -> Output {
        self.run_with(command, &[])
    }

    fn run_with(&self, command: &str, more: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_world"))
            .args([command, "--name", &self.name])
            .args(more)
            .env_remove("KUBECONFIG")
            .output()
            .unwrap()
    }

    /// Runs a program as a shell would that has sourced the world's variables.
    fn shell(&self, program: &str, args: &[&str]) -> Output {
        let env = self.state()["env"].clone();
        let env: std::collections::BTreeMap<String, String> = serde_json::from_value(env).unwrap();
        Command::new(program).args(args).envs(env).output().unwrap()
    }

    fn dir(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../.golive")
            .join(&self.name)
    }

    fn state(&self) -> Value {
        let text = std::fs::read_to_string(self.dir().join("state.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// The supervisor and the guard of every part.
    fn processes(&self) -> Vec<Identity> {
        let state = self.state();
        let parts = state["parts"].as_array().unwrap().iter();
        let parts = parts.map(|part| part["identity"].clone());
        parts
            .chain([state["supervisor"].clone()])
            .map(|identity| serde_json::from_value(identity).unwrap())
            .collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.run("down");
    }
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn worlds_run_side_by_side_and_each_goes_without_a_trace() {
    let (first, second) = (World::new("a"), World::new("b"));

    let started = first.run("up");
    assert!(started.status.success(), "{}", text(&started));
    let again = first.run("up");
    assert!(again.status.success(), "{}", text(&again));
    assert!(text(&again).contains("already running"), "{}", text(&again));
    let started = second.run("up");
    assert!(started.status.success(), "{}", text(&started));

    // Each has its own of everything.
    let (a, b) = (first.state(), second.state());
    for variable in [
        "KUBECONFIG",
        "FLY_API_BASE_URL",
        "FLY_FLAPS_BASE_URL",
        "FLY_UIEX_BASE_URL",
        "FLY_REGISTRY_HOST",
        "FLY_SIM_CONTROL_URL",
        "FLY_SIM_EDGE",
        "SSL_CERT_FILE",
        "GOLIVE_METRICS_URL",
        "WORLD",
    ] {
        assert!(a["env"][variable].is_string(), "{variable} is missing");
        assert_ne!(a["env"][variable], b["env"][variable], "{variable}");
    }
    assert!(a["env"]["FLY_ACCESS_TOKEN"].is_string());
    for world in [&first, &second] {
        let status = world.run("status");
        assert!(status.status.success(), "{}", text(&status));
    }

    // Ended as asked.
    let processes = first.processes();
    assert!(processes.len() >= 4 && processes.iter().all(Identity::is_alive));
    let ended = first.run("down");
    assert!(ended.status.success(), "{}", text(&ended));
    assert!(!processes.iter().any(Identity::is_alive));
    assert!(!first.dir().exists());

    // The other one goes on, and ends by itself when the process that holds it is killed.
    let status = second.run("status");
    assert!(status.status.success(), "{}", text(&status));
    let processes = second.processes();
    processes.last().unwrap().signal(Signal::SIGKILL);
    eventually("every part has gone", || {
        !processes.iter().any(Identity::is_alive)
    });
    let status = second.run("status");
    assert!(!status.status.success(), "{}", text(&status));
    let ended = second.run("down");
    assert!(ended.status.success(), "{}", text(&ended));
    assert!(!second.dir().exists());
}

#[test]
fn an_operator_that_has_ended_is_told_first_and_started_again_with_the_rest_as_it_is() {
    let world = World::new("again");
    let started = world.run("up");
    assert!(started.status.success(), "{}", text(&started));
    let before = world.state();
    let part = |state: &Value, name: &str| -> Identity {
        let parts = state["parts"].as_array().unwrap();
        let part = parts.iter().find(|part| part["name"] == name).unwrap();
        serde_json::from_value(part["identity"].clone()).unwrap()
    };
    let operator = part(&before, "operator");

    operator.signal(Signal::SIGKILL);
    eventually("the operator has ended", || !operator.is_alive());

    let status = world.run("status");
    let told = text(&status);
    assert!(!status.status.success(), "{told}");
    let first = told.lines().next().unwrap();
    assert!(
        first.contains("the operator has ended") && first.contains("make up"),
        "{told}"
    );
    // Nobody reads what it prints.
    let closed = Command::new("sh")
        .args(["-c", "exec \"$0\" status --name \"$1\" | true"])
        .args([env!("CARGO_BIN_EXE_world"), &world.name])
        .output()
        .unwrap();
    assert!(!text(&closed).contains("panicked"), "{}", text(&closed));

    let again = world.run("up");
    assert!(again.status.success(), "{}", text(&again));
    assert!(
        text(&again).contains("starting it again"),
        "{}",
        text(&again)
    );
    let after = world.state();
    assert!(part(&after, "operator").is_alive());
    assert_eq!(part(&after, "fly-sim"), part(&before, "fly-sim"));
    assert_eq!(after["env"]["KUBECONFIG"], before["env"]["KUBECONFIG"]);
    let status = world.run("status");
    assert!(status.status.success(), "{}", text(&status));
    assert!(text(&status).contains(": ready"), "{}", text(&status));
    let metrics = after["env"]["GOLIVE_METRICS_URL"].as_str().unwrap();
    let metrics = world.shell("curl", &["-sf", metrics]);
    assert!(metrics.status.success(), "{}", text(&metrics));

    // What another part held is lost with it.
    let fly = part(&after, "fly-sim");
    fly.signal(Signal::SIGKILL);
    eventually("the simulated Fly.io has ended", || !fly.is_alive());
    let again = world.run("up");
    assert!(!again.status.success(), "{}", text(&again));
    assert!(text(&again).contains("fly-sim"), "{}", text(&again));
    let ended = world.run("down");
    assert!(ended.status.success(), "{}", text(&ended));
}

/// The whole main job, as `make demo` does it: cluster-wide, and with the operator's own rights.
#[test]
fn the_demo_ends_at_a_live_url_with_verified_integrations_and_the_operators_own_rights() {
    let world = World::new("demo");

    let demo = world.run_with("demo", &["--latency", "off"]);

    let told = text(&demo);
    assert!(demo.status.success(), "{told}");
    let lines: Vec<&str> = told.lines().collect();
    for part in [
        "kubectl apply -f examples/sist-cabanas.yaml",
        "ana@cabanas.example approves it",
        "LIVE",
        "INTEGRATIONS VERIFIED",
        "GET / answers 200",
    ] {
        assert!(told.contains(part), "{part} is missing: {told}");
    }
    assert!(
        lines.contains(&"https://sist-cabanas-mvp.fly.dev"),
        "{told}"
    );
    for phase in ["Preflight", "Provision", "Deploy", "SmokeTest"] {
        let succeeded = |line: &&str| line.contains(phase) && line.contains("Succeeded in");
        assert!(lines.iter().any(succeeded), "{phase}: {told}");
    }
    for check in ["W1", "W8", "W11", "M4", "M7", "M11", "C6", "I1", "I2"] {
        let passed = |line: &&str| line.contains(&format!("  {check} ")) && line.contains("Passed");
        assert!(lines.iter().any(passed), "{check}: {told}");
    }
    // Not a terminal: plain lines, nothing that moves a cursor or colours.
    assert!(!told.contains('\u{1b}') && !told.contains('\r'), "{told:?}");

    // What a platform team reads.
    let kubectl = |args: &[&str]| {
        let output = world.shell("kubectl", args);
        assert!(output.status.success(), "{args:?}: {}", text(&output));
        text(&output)
    };
    let table = kubectl(&["get", "activations", "-A"]);
    for part in [
        "PHASE",
        "READY",
        "REASON",
        "URL",
        "AGE",
        "sist-cabanas-mvp",
        "Live",
        "True",
        "https://sist-cabanas-mvp.fly.dev",
    ] {
        assert!(table.contains(part), "{part} is missing: {table}");
    }
    kubectl(&[
        "-n",
        "cabanas",
        "wait",
        "activation/sist-cabanas-mvp",
        "--for=condition=Live",
        "--timeout=30s",
    ]);
    // The last events come a moment after the status.
    let describe = [
        "-n",
        "cabanas",
        "describe",
        "activation",
        "sist-cabanas-mvp",
    ];
    eventually("the story is told in events", || {
        let story = kubectl(&describe);
        ["Events:", "GoLive", "https://sist-cabanas-mvp.fly.dev"]
            .iter()
            .all(|part| story.contains(part))
    });

    // It takes back what it made, with the same rights.
    let control = world.state()["env"]["FLY_SIM_CONTROL_URL"].clone();
    let state = format!("{}/state", control.as_str().unwrap());
    let app_is_there = || {
        let left = world.shell("curl", &["-sf", &state]);
        let left: Value = serde_json::from_slice(&left.stdout).unwrap();
        left["apps"].to_string().contains("\"sist-cabanas-mvp\"")
    };
    assert!(app_is_there());
    kubectl(&[
        "-n",
        "cabanas",
        "delete",
        "activation",
        "sist-cabanas-mvp",
        "--timeout=60s",
    ]);
    assert!(!app_is_there());
    let ended = world.run("down");
    assert!(ended.status.success(), "{}", text(&ended));
}
