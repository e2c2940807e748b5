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
        Command::new(env!("CARGO_BIN_EXE_world"))
            .args([command, "--name", &self.name])
            .env_remove("KUBECONFIG")
            .output()
            .unwrap()
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
