//! Processes that are killed, stand still, or work at the same time: kills at reads and at lines of
//! the log (F02), a leader that stands still in the middle of a rollout (F04), two replicas without an
//! election under load (F06).

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fly_sim::{Point, platform::PlatformOptions};
use golive::api::{ActivationStatus, FIELD_MANAGER, status::Intent};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::{fleet::Replicas, full};
use crate::support::{
    crash::{self, Victim, never_two, nothing_left},
    env::{Env, is, root},
    service::{self, Load},
    trouble::{deploy, options, serving, until},
};

const APP: &str = "hola-cabanas";

/// A service that is deployed by a strategy and leaves nothing behind.
async fn service(env: &Env, strategy: &str) {
    let spec = json!({
        "deploy": {"config": {"inline": service::toml(strategy)}, "scale": {"app": 2}},
        "provision": {"secrets": {"generate": [{"name": "JWT_SECRET"}]}},
        "deletionPolicy": {"app": "Delete", "secrets": "Delete"},
    });
    env.activation("hola", spec).await;
}

/// Waits until this tag is live on two machines.
async fn live(env: &Env, tag: &str) {
    let wanted = format!(":{tag}");
    env.wait("hola", tag, |status| {
        is(status, "Ready", "True")
            && is(status, "Live", "True")
            && status
                .release
                .as_ref()
                .is_some_and(|r| r.image.ends_with(&wanted))
            && serving(env, APP).len() == 2
    })
    .await;
}

async fn ends_well(env: &Env) {
    ends(env).await;
    never_two(&env.sim).unwrap();
}

/// The updates were good ones, and a deletion leaves nothing.
async fn ends(env: &Env) {
    let status = env.status("hola").await;
    let outcomes: BTreeSet<&str> = status.history.iter().map(|h| h.outcome.as_str()).collect();
    assert_eq!(outcomes, BTreeSet::from(["Succeeded"]), "{status:?}");
    env.delete("hola").await;
    nothing_left(env).await.unwrap();
}

/// Kills the operator each time when this many more have come, until the flag is set.
fn kill_at_each(
    count: impl Fn() -> u64 + Send + 'static,
    step: u64,
    victim: &Victim,
    stop: &Arc<AtomicBool>,
) -> tokio::task::JoinHandle<()> {
    let (victim, stop) = (victim.clone(), stop.clone());
    tokio::spawn(async move {
        let mut next = step;
        while !stop.load(Ordering::SeqCst) {
            let now = count();
            if now >= next {
                victim.crash();
                // A process that begins reads what is there: it must come further than the last one.
                next = count() + step + next / 4;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
}

/// Takes an object through its life while the operator is killed again and again.
async fn lives_through_kills(count: impl Fn(&Env) -> Box<dyn Fn() -> u64 + Send>, step: u64) {
    let env = Env::without_operator(options()).await;
    let victim = Victim::start(&env);
    let stop: Arc<AtomicBool> = Arc::default();
    let killer = kill_at_each(count(&env), step, &victim, &stop);
    service(&env, "rolling").await;
    live(&env, "1.0.0").await;
    deploy(&env, "hola", "again").await;
    live(&env, "again").await;
    stop.store(true, Ordering::SeqCst);
    killer.await.unwrap();
    assert!(victim.crashes() > 1, "{}", victim.crashes());
    ends_well(&env).await;
    victim.end();
}

fn calls(env: &Env) -> Box<dyn Fn() -> u64 + Send> {
    let core = env.sim.core().clone();
    Box::new(move || core.ledger.counts().values().sum())
}

fn lines(env: &Env) -> Box<dyn Fn() -> u64 + Send> {
    let log = env.log();
    Box::new(move || {
        let text = std::fs::read(&log).unwrap_or_default();
        text.iter().filter(|byte| **byte == b'\n').count() as u64
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_at_reads_and_at_lines_of_the_log_change_nothing() {
    lives_through_kills(calls, 23).await;
    if !full() {
        return;
    }
    lives_through_kills(lines, 9).await;
    for step in [11, 13, 17, 19, 29, 31, 37] {
        lives_through_kills(calls, step).await;
        lives_through_kills(lines, step).await;
    }
}

fn signal(pid: u32, name: &str) {
    let sent = std::process::Command::new("kill")
        .args([name, &pid.to_string()])
        .status();
    assert!(sent.unwrap().success());
}

/// The leader stands still after the k-th change of a rollout; another replica finishes it. When the
/// first wakes, it changes nothing.
async fn stands_still(k: u64, strategy: &str) {
    let env = Env::without_operator(options()).await;
    let replicas = Replicas::start(&env);
    service(&env, strategy).await;
    live(&env, "1.0.0").await;
    let load = Load::start(&env);
    let leader = last_host(&env);
    let sleeper = replicas.0[usize::from(leader == "localhost")].clone();
    let (pid, stopped) = (sleeper.pid().unwrap(), Arc::new(AtomicBool::new(false)));
    let said = stopped.clone();
    env.sim.on_mutation(
        env.sim.mutations() + k,
        Point::AfterApply,
        Arc::new(move |_| {
            signal(pid, "-STOP");
            said.store(true, Ordering::SeqCst);
            Box::pin(std::future::ready(()))
        }),
    );
    deploy(&env, "hola", "again").await;
    until("a leader that stands still", || {
        stopped.load(Ordering::SeqCst)
    })
    .await;
    live(&env, "again").await;

    let changes = env.sim.mutations();
    assert_ne!(last_host(&env), leader, "another one went on");
    signal(pid, "-CONT");
    let calls = calls(&env);
    let before = calls();
    until("rechecks", || calls() > before + 6).await;

    let of_the_first = env.sim.call_list().into_iter().filter(|call| {
        call.mutation.is_some_and(|number| number > changes) && call.host.starts_with(&leader)
    });
    assert_eq!(of_the_first.count(), 0, "it does not lead any more");
    let (sent, failed) = load.end().await;
    assert!(sent > 20);
    assert_eq!(failed, 0, "of {sent} requests");
    ends_well(&env).await;
}

/// The name under which the last change was sent.
fn last_host(env: &Env) -> String {
    let calls = env.sim.call_list();
    let last = calls.iter().rfind(|call| call.mutation.is_some());
    let host = last.map(|call| call.host.clone()).unwrap_or_default();
    host.split(':').next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stands_still_in_a_rollout_is_followed_and_changes_nothing_when_it_wakes() {
    stands_still(2, "rolling").await;
    if full() {
        for k in 1..=8 {
            for strategy in ["rolling", "bluegreen", "canary"] {
                stands_still(k, strategy).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_without_an_election_make_nothing_twice() {
    let mut env = Env::without_operator(options()).await;
    // Each writes what it saw itself, as if it were alone.
    env.unjudged("two writers of one status");
    let both = without_election(&env);
    service(&env, "rolling").await;
    live(&env, "1.0.0").await;
    let load = Load::start(&env);
    deploy(&env, "hola", "again").await;
    live(&env, "again").await;
    let (sent, failed) = load.end().await;
    assert!(sent > 20);
    assert_eq!(failed, 0, "of {sent} requests");
    ends_well(&env).await;
    both.iter().for_each(Victim::end);
}

/// Two replicas, each of which works as if it were alone.
fn without_election(env: &Env) -> [Victim; 2] {
    // What the other has announced is looked for over windows that a busy machine does not exceed.
    [0, 1].map(|_| Victim::of(env.operator_command(&["--settle", "2s"])))
}

/// A late announcement of another replica is taken over and looked into at once, and what was found
/// delays no deletion. The other may send it for 60 settling windows: longer than this waits.
#[tokio::test(flavor = "multi_thread")]
async fn an_announcement_of_another_replica_that_comes_late_ends_by_one_look() {
    let mut env = Env::without_operator(options()).await;
    env.unjudged("the test writes a status as another replica would");
    let operator = Victim::of(env.operator_command(&["--settle", "2s"]));
    service(&env, "rolling").await;
    live(&env, "1.0.0").await;
    announce_token(&env).await;
    let taken_over = |status: &ActivationStatus| status.intents.is_empty();
    env.wait("hola", "no intent", taken_over).await;
    announce_token(&env).await;
    ends_well(&env).await;
    operator.end();
}

/// Writes into the status, as another replica would, that it is about to make the token of the app.
#[expect(
    clippy::disallowed_methods,
    reason = "the test writes a status as the operator would"
)]
async fn announce_token(env: &Env) {
    let object = env.get("hola").await.unwrap();
    let name = format!("golive-{}", object.metadata.uid.unwrap());
    let mut status = object.status.unwrap();
    status.intents.push(Intent {
        slot: format!("AppToken/AppToken/{name}"),
        kind: "AppToken".to_owned(),
        name,
        nonce: format!("{:x}", env.sim.now_ms()),
        time: None,
    });
    // Server-side apply by the same manager: what the next status leaves out goes.
    let body = json!({
        "apiVersion": "golive.dev/v1alpha1", "kind": "Activation",
        "metadata": {"name": "hola"}, "status": status,
    });
    let (params, patch) = (
        PatchParams::apply(FIELD_MANAGER).force(),
        Patch::Apply(body),
    );
    let activations = env.activations();
    activations
        .patch_status("hola", &params, &patch)
        .await
        .unwrap();
}

/// With a database, a Redis, volumes and addresses: Fly.io gives most of them to everyone who asks.
#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_without_an_election_request_no_database_volume_or_address_twice() {
    let options = fly_sim::Options {
        platform: PlatformOptions {
            certificates_auto: true,
            ..PlatformOptions::default()
        },
        ..fly_sim::Options::default()
    };
    let mut env = Env::without_operator(options).await;
    env.unjudged("two writers of one status");
    let inputs = root().join("examples/sist-cabanas-inputs.yaml");
    env.apply(&std::fs::read_to_string(inputs).unwrap()).await;
    let both = without_election(&env);
    env.apply(&crash::activation().to_string()).await;
    env.wait_live(crash::APP).await;
    never_two(&env.sim).unwrap();
    env.delete(crash::APP).await;
    never_two(&env.sim).unwrap();
    nothing_left(&env).await.unwrap();
    both.iter().for_each(Victim::end);
}
