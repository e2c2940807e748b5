//! An application that serves HTTP, steady requests to it, and what the simulator saw of its
//! machines.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

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

use crate::support::deploy::{APP, alive, change, image, shell, step, until_deployed};
use crate::support::env::Env;

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

/// Most machines of the application that were alive at the same time, by the simulator's ledger. A
/// machine counts until Fly.io accepts its destruction, which its host may carry out later.
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

/// Ids of the machines whose lease somebody holds.
#[expect(clippy::disallowed_methods, reason = "a test reads the clock")]
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

/// Whatever was left by a failure, the next release that works is deployed.
pub async fn recovers(env: &Env) {
    change(env, json!({"image": image("2")})).await;
    until_deployed(env, "2").await;
    assert!(cordoned(env).is_empty());
}

/// A free port of the real loopback address, which everything on this computer shares. Below the
/// ports that the kernel gives out by itself, so that no other test is given it meanwhile.
pub fn loopback_port() -> u16 {
    static NEXT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(18_080);
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(port < 30_000, "no port of the loopback address is free");
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The secrets that the example has generated, as in `examples/sist-cabanas.yaml`.
pub fn generated() -> Value {
    json!([
        {"name": "JWT_SECRET", "bytes": 48},
        {"name": "REDIS_PASSWORD", "bytes": 24},
        {"name": "ICS_SALT", "bytes": 16, "encoding": "hex"},
        {"name": "ADMIN_CSRF_SECRET", "bytes": 32},
        {"name": "GRAFANA_ADMIN_PASSWORD", "bytes": 18, "encoding": "alphanumeric"},
    ])
}
