//! The cost of an Activation: writes to Kubernetes until it is live, by the API server's audit log,
//! and calls to Fly.io per re-check of an unchanged one.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use fly_sim::{Fault, Kind, Options, platform::PlatformOptions};
use kube_env::{Cluster, ControlPlane, control_plane};
use serde_json::json;

use crate::support::{
    crash,
    env::{Env, LIMIT, root},
};

/// Writes of a whole go-live besides events.
const WRITES: u64 = 13;
/// Calls of one re-check of a live and unchanged object.
const READS: u64 = 3;
const FULL: &str = "sist-cabanas-mvp";
const EXEC: &str = "POST /v1/apps/{app}/machines/{id}/exec";

/// A control plane of its own, which records every request.
struct Record {
    plane: ControlPlane,
    _dir: tempfile::TempDir,
}

impl Record {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let plane = ControlPlane::start(control_plane::Options {
            dir: Some(dir.path().join("control-plane")),
            audit: true,
            ..control_plane::Options::default()
        })
        .await
        .unwrap();
        let crds = [root().join("crds")];
        plane.cluster().apply_paths(crds).await.unwrap();
        Self { plane, _dir: dir }
    }

    fn cluster(&self) -> Cluster {
        self.plane.cluster().clone()
    }

    /// What our operator has changed in a namespace so far, besides events, by kind.
    fn writes(&self, namespace: &str) -> BTreeMap<String, u64> {
        let mut writes = BTreeMap::new();
        for event in self.plane.audit().unwrap() {
            let about = &event["objectRef"];
            let ours = event["userAgent"]
                .as_str()
                .is_some_and(|agent| agent.starts_with("golive/"));
            let verb = event["verb"].as_str().unwrap_or_default();
            let resource = about["resource"].as_str().unwrap_or_default();
            let reads = ["get", "list", "watch"].contains(&verb);
            // Created once per installation.
            let key = about["name"] == "golive-fingerprint-key";
            let about_us = ours && about["namespace"] == json!(namespace);
            if !about_us || reads || key || resource == "events" {
                continue;
            }
            let line = format!(
                "{verb} {resource}/{} {}",
                about["subresource"].as_str().unwrap_or_default(),
                about["name"].as_str().unwrap_or_default(),
            );
            *writes.entry(line).or_default() += 1;
        }
        writes
    }

    /// How often our operator has read this Secret.
    fn reads_of(&self, namespace: &str, secret: &str) -> u64 {
        let audit = self.plane.audit().unwrap();
        let reads = audit.iter().filter(|event| {
            let about = &event["objectRef"];
            let agent = event["userAgent"].as_str().unwrap_or_default();
            agent.starts_with("golive/")
                && event["verb"] == "get"
                && about["namespace"] == json!(namespace)
                && about["resource"] == "secrets"
                && about["name"] == json!(secret)
        });
        u64::try_from(reads.count()).unwrap()
    }

    /// The number of writes, once there was none for a while: the audit log lags behind the replies.
    async fn settled(&self, namespace: &str) -> BTreeMap<String, u64> {
        let mut before = BTreeMap::new();
        loop {
            let now = self.writes(namespace);
            if now == before {
                return now;
            }
            before = now;
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
    }
}

/// How often objects were reconciled.
fn looks(env: &Env) -> u64 {
    let text = env.metrics();
    let lines = text.lines();
    lines
        .filter(|line| line.starts_with("controller_runtime_reconcile_total{"))
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
        .sum()
}

async fn world(record: &Record) -> Env {
    let options = Options {
        platform: PlatformOptions {
            certificates_auto: true,
            ..PlatformOptions::default()
        },
        ..Options::default()
    };
    let mut env = Env::on(record.cluster(), options).await;
    // The shortest re-check interval, so that a test has many; all other settings are the defaults.
    let flags = ["--recheck-interval", "1s", "--poll-interval", "2s"];
    env.start_operator(&flags).await;
    env
}

/// Checks the budget of a go-live and of the re-checks after it.
async fn within_budget(record: &Record, env: &Env, name: &str, kinds: &[&str]) {
    env.wait_live(name).await;
    let writes = record.settled(&env.namespace).await;
    let count: u64 = writes.values().sum();
    println!("{name}: {count} writes: {writes:#?}");
    println!("{name}: {:?}", env.sim.call_counts());
    assert!(count <= WRITES, "{name}: {count} writes: {writes:#?}");

    let (from, since) = (looks(env), Instant::now());
    let read = record.reads_of(&env.namespace, "fly");
    env.sim.reset();
    let seen = |kind: &str| {
        let counts = env.sim.call_counts();
        counts.keys().any(|endpoint| endpoint.contains(kind))
    };
    while looks(env) < from + 5 || !kinds.iter().all(|kind| seen(kind)) {
        assert!(
            since.elapsed() < LIMIT,
            "{kinds:?}: {:?}",
            env.sim.call_counts()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let counts = env.sim.call_counts();
    let (calls, looks) = (counts.values().sum::<u64>(), looks(env) - from);
    println!(
        "{name}: {calls} calls in {looks} looks, {:?}: {counts:#?}",
        since.elapsed()
    );
    // One re-check may have been in flight at either end.
    assert!(
        calls <= READS * (looks + 1),
        "{name}: {calls} calls in {looks} looks: {counts:#?}"
    );
    // At most one per interval of a second, whatever triggered it.
    let intervals = since.elapsed().as_secs() + 2;
    assert!(
        calls <= READS * intervals,
        "{name}: {calls} calls in {:?}: {counts:#?}",
        since.elapsed()
    );
    // Values are read by each look and gone with it. Polls for a change come on top, which the audit
    // log does not tell apart.
    let read = record.reads_of(&env.namespace, "fly") - read;
    let most = looks + 1 + since.elapsed().as_secs() / 15 + 1;
    println!("{name}: {read} reads of the token in {looks} looks");
    assert!(
        read <= most,
        "{name}: {read} reads of the token in {looks} looks, {:?}",
        since.elapsed()
    );
    // A command in a machine that checks the database counts as a read.
    let changes = env.sim.mutations() - env.sim.calls(EXEC);
    assert_eq!(changes, 0, "{counts:#?}");
    let after = record.settled(&env.namespace).await;
    assert_eq!(after, writes, "{name}: looks have written something");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_live_and_in_trouble_is_looked_at_only_to_ask_for_something() {
    let env = Env::start().await;
    env.activation("hola", json!({})).await;
    env.wait_live("hola").await;
    env.sim.fault(Fault::new("*", Kind::status(503)).always());
    env.sim.reset();
    // Until what is behind the trouble is due as well: what is live is looked at every two seconds.
    let at = || env.sim.call_list().last().map_or(0, |call| call.at_ms);
    env.wait("hola", "the trouble", |_| at() > 0).await;
    let began = at();
    env.wait("hola", "more of it", |_| at() > began + 5_000)
        .await;

    let (before, calls) = (looks(&env), env.sim.call_list().len());
    env.wait("hola", "tries", |_| env.sim.call_list().len() >= calls + 12)
        .await;
    let looks = looks(&env) - before;
    let calls = env.sim.call_list().len() - calls;
    assert!(looks <= calls as u64 + 2, "{looks} looks for {calls} calls");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_go_live_costs_thirteen_writes_at_most_and_an_unchanged_look_none_and_three_calls() {
    let record = Record::start().await;
    let (small, full) = (world(&record).await, world(&record).await);
    small.activation("hola", json!({})).await;
    let inputs = root().join("examples/sist-cabanas-inputs.yaml");
    full.apply(&std::fs::read_to_string(inputs).unwrap()).await;
    full.apply(&crash::activation().to_string()).await;

    tokio::join!(
        within_budget(&record, &small, "hola", &["machines"]),
        within_budget(
            &record,
            &full,
            FULL,
            &["postgresv2", "graphql#app", "/exec",],
        ),
    );
}
