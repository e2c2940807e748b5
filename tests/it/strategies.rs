//! Strategies: what serves goes on serving, whatever becomes of an update.
//!
//! One update of each kind under load; `GOLIVE_UPDATES=10` makes it ten, and the numbers of sent
//! and failed requests are printed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use fly_sim::{Image, Images, Options};
use golive::api::ActivationStatus;
use golive::api::status::StepState;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::deploy::{
    APP, CREATE, UPDATE, alive, change, deploy, ids, image, machines, shell, step, until,
    until_deployed,
};
use crate::env::Env;

/// An HTTP service whose health is checked every 100 ms of simulated time.
pub fn toml(strategy: &str) -> String {
    format!(
        "[deploy]\nstrategy = '{strategy}'\n[http_service]\ninternal_port = 8080\n\
         [[http_service.checks]]\npath = '/'\ninterval = '5s'\ntimeout = '2s'\ngrace_period = '1s'\n\
         [[restart]]\npolicy = 'never'\n"
    )
}

/// The example's program.
pub fn cabanas() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_golive")).with_file_name("cabanas")
}

/// The smallest service, with its tag as version.
pub fn hello(tag: &str) -> Image {
    Image::new(image(tag), cabanas())
        .args(["hello"])
        .env("CABANAS_VERSION", tag)
}

/// Works in the first `good` machines that start, and ends with code 3 in all others.
pub fn works_in(good: usize, tag: &str, dir: &std::path::Path) -> Image {
    let places: Vec<String> = (0..good)
        .map(|n| format!("mkdir {}/{tag}-{n} 2>/dev/null", dir.display()))
        .collect();
    let script = format!(
        "if {}; then exec {} hello; fi; echo 'no such table: cabins'; exit 3",
        places.join(" || "),
        cabanas().display()
    );
    shell(tag, &script)
}

/// A world, and what its images share.
pub struct World {
    /// The world.
    pub env: Env,
    /// Digest of release 1, once it is deployed.
    pub first: String,
    /// A directory that is there as long as the world.
    pub dir: tempfile::TempDir,
}

/// Images: `1` to `11` work, `first` works in one machine only, `never` in none.
async fn world(flags: &[&str]) -> World {
    let dir = tempfile::tempdir().unwrap();
    let images = (1..=11)
        .map(|tag| hello(&tag.to_string()))
        .chain([
            works_in(1, "first", dir.path()),
            shell("never", "echo 'no such table: cabins'; exit 3"),
        ])
        .collect::<Vec<_>>();
    world_of(images, dir, flags).await
}

/// A world with these images, in which the operator runs.
pub async fn world_of(images: Vec<Image>, dir: tempfile::TempDir, flags: &[&str]) -> World {
    let options = Options {
        images: Images::new(images),
        ..Options::default()
    };
    let mut env = Env::without_operator(options).await;
    env.start_operator(flags).await;
    World {
        env,
        first: String::new(),
        dir,
    }
}

/// Steady requests through the edge.
pub struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Begins.
    pub fn start(env: &Env) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            sent: Arc::default(),
            failed: Arc::default(),
            clients: Vec::new(),
        };
        for _ in 0..2 {
            let (stop, sent, failed) = (load.stop.clone(), load.sent.clone(), load.failed.clone());
            let edge = env.sim.edge();
            load.clients.push(tokio::spawn(async move {
                let mut pace = tokio::time::interval(Duration::from_millis(10));
                while !stop.load(Ordering::Relaxed) {
                    if get(edge).await != Some(200) {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                    sent.fetch_add(1, Ordering::Relaxed);
                    pace.tick().await;
                }
            }));
        }
        load
    }

    /// How many were sent, and how many of them were not answered with 200.
    pub async fn end(self) -> (usize, usize) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.unwrap();
        }
        (
            self.sent.load(Ordering::Relaxed),
            self.failed.load(Ordering::Relaxed),
        )
    }
}

/// The status of a request by plain HTTP through the edge.
pub async fn get(edge: SocketAddr) -> Option<u16> {
    let mut stream = TcpStream::connect(edge).await.ok()?;
    let request = format!("GET / HTTP/1.1\r\nhost: {APP}.fly.dev\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    let answer = String::from_utf8_lossy(&answer);
    answer.split(' ').nth(1)?.parse().ok()
}

/// Updates that one test makes: each to the next image.
fn updates() -> usize {
    std::env::var("GOLIVE_UPDATES").map_or(1, |text| text.parse().expect("a number"))
}

async fn loses_no_request(strategy: &str) -> Env {
    let World { env, dir: _dir, .. } = world(&[]).await;
    deploy(&env, "1", &toml(strategy), json!({})).await;
    until_deployed(&env, "1").await;
    let load = Load::start(&env);
    for update in 0..updates() {
        let tag = (update % 10 + 2).to_string();
        change(&env, json!({"image": image(&tag)})).await;
        until_deployed(&env, &tag).await;
    }
    let (sent, failed) = load.end().await;
    println!(
        "{strategy}: {} updates, {sent} requests, {failed} failed",
        updates()
    );
    assert!(sent > 20);
    assert_eq!(failed, 0, "of {sent} requests during {strategy} updates");
    assert_eq!(machines(&env).len(), 2);
    env
}

/// Most machines of the application that were alive at the same time, by the simulator's ledger.
/// One stops being alive when Fly.io agrees to its end, which its host may carry out later.
pub fn most_at_once(env: &Env) -> usize {
    let (mut now, mut most) = (BTreeSet::new(), 0);
    for effect in env.sim.ledger() {
        match effect.kind.as_str() {
            "machine.create" => {
                now.insert(effect.id);
            }
            "machine.destroy" | "machine.destroyed" => {
                now.remove(&effect.id);
            }
            _ => {}
        }
        most = most.max(now.len());
    }
    most
}

/// Machines that are out of the proxy's pool.
pub fn cordoned(env: &Env) -> Vec<String> {
    let live = alive(env);
    let live = live.iter();
    live.filter(|machine| machine["cordoned"] == true)
        .map(|machine| machine["id"].as_str().unwrap_or_default().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_lost_while_a_rolling_update_goes_on() {
    let env = loses_no_request("rolling").await;
    assert_eq!(env.sim.calls(CREATE), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_lost_while_bluegreen_moves_the_traffic() {
    let env = loses_no_request("bluegreen").await;
    assert_eq!(
        env.sim.calls(UPDATE),
        0,
        "machines are replaced, not updated"
    );
    assert_eq!(env.sim.calls(CREATE), 2 + 2 * updates() as u64);
    assert_eq!(most_at_once(&env), 4);
    assert!(cordoned(&env).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_lost_while_a_canary_goes_first() {
    let env = loses_no_request("canary").await;
    assert_eq!(env.sim.calls(CREATE), 2 + updates() as u64);
    assert_eq!(env.sim.calls(UPDATE), 2 * updates() as u64);
    assert_eq!(most_at_once(&env), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn immediate_updates_all_machines_at_once_and_says_so_when_they_fail() {
    let World { env, dir: _dir, .. } = world(&[]).await;
    let scale = json!({"scale": {"app": 3}});
    deploy(&env, "1", &toml("immediate"), scale).await;
    until_deployed(&env, "1").await;
    let before = ids(&env);
    change(&env, json!({"image": image("2")})).await;
    until_deployed(&env, "2").await;
    assert_eq!(ids(&env), before);
    assert_eq!(env.sim.calls(UPDATE), 3);

    change(&env, json!({"image": image("never"), "onFailure": "Pause"})).await;
    let (_, message) = until(&env, "Health", "MachineExited").await;
    assert!(message.contains("exited with code 3"), "{message}");
    assert_eq!(env.sim.calls(UPDATE), 6);
}

/// Ids of the machines whose lease somebody holds.
pub fn leased(env: &Env) -> BTreeSet<String> {
    env.sim.core().read(|world| {
        let machines = world.apps[APP].machines.values();
        let now = jiff::Timestamp::now();
        let lasts = |machine: &fly_sim::machine::Machine| {
            let lease = machine.lease.as_ref();
            lease.is_some_and(|lease| lease.expires_at > now)
        };
        let held = machines.filter(|machine| machine.is_live() && lasts(machine));
        held.map(|machine| machine.id.clone()).collect()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_holds_all_its_machines_refreshes_that_and_lets_them_go() {
    const LEASE: &str = "POST /v1/apps/{app}/machines/{id}/lease";
    let dir = tempfile::tempdir().unwrap();
    let serves = dir.path().join("serves");
    let script = format!(
        "while ! test -e {}; do sleep 0.05; done; exec {} hello",
        serves.display(),
        cabanas().display()
    );
    let images = vec![hello("1"), shell("waits", &script)];
    let World { env, dir: _dir, .. } = world_of(images, dir, &[]).await;
    deploy(&env, "1", &toml("rolling"), json!({"scale": {"app": 3}})).await;
    until_deployed(&env, "1").await;
    let all: BTreeSet<String> = ids(&env).into_iter().collect();
    assert!(leased(&env).is_empty(), "none is held while nothing moves");

    env.sim.reset();
    change(&env, json!({"image": image("waits")})).await;
    env.wait("hola", "the first update", |_| env.sim.calls(UPDATE) == 1)
        .await;
    assert_eq!(leased(&env), all);
    env.wait("hola", "the leases are refreshed", |_| {
        env.sim.calls(LEASE) > 3
    })
    .await;
    assert_eq!(leased(&env), all);
    assert_eq!(env.sim.calls(UPDATE), 1, "the others wait for the first");
    // One that is suspended keeps nobody from the machines for longer than a lease lasts.
    env.patch("hola", json!({"spec": {"suspend": true}})).await;
    env.wait("hola", "the leases end", |_| leased(&env).is_empty())
        .await;
    env.patch("hola", json!({"spec": {"suspend": false}})).await;
    std::fs::write(&serves, "").unwrap();
    until_deployed(&env, "waits").await;
    assert!(leased(&env).is_empty());
    assert_eq!(env.sim.calls(&LEASE.replace("POST", "DELETE")), 3);
}

/// Deploys release 1, then `tag` under load; returns once the failure is told.
async fn fails(strategy: &str, tag: &str, on_failure: &str, scale: usize) -> (World, String, Load) {
    let mut world = world(&[]).await;
    let env = &world.env;
    let more = json!({"scale": {"app": scale}, "onFailure": on_failure});
    deploy(env, "1", &toml(strategy), more).await;
    let first = until_deployed(env, "1").await.release.unwrap().digest;
    let load = Load::start(env);
    change(env, json!({"image": image(tag)})).await;
    let status = env.wait("hola", "the failure", |status| told(status).is_some());
    let message = told(&status.await).unwrap();
    assert!(message.contains("exited with code 3"), "{message}");
    assert!(message.contains("no such table: cabins"), "{message}");
    world.first = first;
    (world, message, load)
}

/// The message of the failure, once it is final.
pub fn told(status: &ActivationStatus) -> Option<String> {
    let (_, reason, message) = step(status, "Release");
    if reason == "RolledBack" {
        return Some(message);
    }
    ["Machines", "Health", "Verify"]
        .map(|name| step(status, name))
        .into_iter()
        .find(|(state, _, _)| *state == StepState::Blocked)
        .map(|(_, _, message)| message)
}

/// No request was lost.
pub async fn nothing_failed(load: Load) {
    let (sent, failed) = load.end().await;
    assert!(sent > 20);
    assert_eq!(failed, 0, "of {sent} requests");
}

/// Ids of the machines with their versions: neither was touched when both are the same.
fn versions(env: &Env) -> BTreeSet<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let live = alive(env);
    live.iter()
        .map(|machine| (text(&machine["id"]), text(&machine["instance_id"])))
        .collect()
}

/// Whatever was left by a failure, the next release that works is deployed.
pub async fn recovers(env: &Env) {
    change(env, json!({"image": image("2")})).await;
    until_deployed(env, "2").await;
    assert!(cordoned(env).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_green_machine_that_fails_leaves_blue_serving_and_goes() {
    let (world, message, load) = fails("bluegreen", "first", "RollBack", 2).await;
    let env = &world.env;
    assert!(message.contains("golive-app-"), "{message}");
    env.wait("hola", "green is gone", |_| machines(env).len() == 2)
        .await;
    nothing_failed(load).await;
    assert!(cordoned(env).is_empty());
    assert_eq!(env.sim.calls(UPDATE), 0, "blue was not touched");
    assert_eq!(env.sim.calls(CREATE), 4, "and green was made once");
    recovers(env).await;
    assert_eq!(machines(env).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_green_machine_that_fails_is_kept_for_a_look_when_that_is_asked_for() {
    let kept = |on_failure| async move {
        let (world, message, load) = fails("bluegreen", "first", on_failure, 2).await;
        let env = &world.env;
        assert!(message.contains(on_failure), "{message}");
        assert_eq!(machines(env).len(), 4);
        assert_eq!(cordoned(env).len(), 2);
        nothing_failed(load).await;
        recovers(env).await;
        assert_eq!(machines(env).len(), 2);
        assert_eq!(most_at_once(env), 4, "there was never a third set");
    };
    tokio::join!(kept("Pause"), kept("Leave"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_fails_leaves_all_others_untouched() {
    let untouched = |on_failure| async move {
        let (world, message, load) = fails("canary", "never", on_failure, 2).await;
        let env = &world.env;
        assert!(message.contains("golive-canary-app-"), "{message}");
        let left = if on_failure == "RollBack" { 2 } else { 3 };
        env.wait("hola", "the canary", |_| machines(env).len() == left)
            .await;
        assert_eq!(env.sim.calls(UPDATE), 0);
        nothing_failed(load).await;
        recovers(env).await;
        assert_eq!(machines(env).len(), 2);
        assert_eq!(most_at_once(env), 3);
    };
    tokio::join!(
        untouched("RollBack"),
        untouched("Pause"),
        untouched("Leave")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_in_the_middle_of_rolling_goes_back_stays_or_goes_on_as_asked() {
    let ends = |on_failure| async move {
        let (world, message, load) = fails("rolling", "first", on_failure, 3).await;
        let env = &world.env;
        assert!(message.contains("golive-app-1"), "which machine: {message}");
        let kept = || {
            let all = machines(env).into_iter();
            all.filter(|machine| machine.1.ends_with(&world.first))
                .count()
        };
        match on_failure {
            "RollBack" => assert_eq!(kept(), 3),
            "Pause" => {
                assert_eq!(kept(), 1);
                let before = versions(env);
                env.sim.reset();
                env.wait("hola", "more looks", |_| env.sim.call_list().len() >= 4)
                    .await;
                assert_eq!(versions(env), before, "everything stays as it is");
            }
            _ => {
                env.wait("hola", "the rest", |_| kept() == 0).await;
            }
        }
        nothing_failed(load).await;
        recovers(env).await;
    };
    tokio::join!(ends("RollBack"), ends("Pause"), ends("Leave"));
}
