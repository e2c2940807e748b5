//! The parts: a control plane that records what it was asked, and for each run a Fly.io, a
//! namespace and an operator of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fly_sim::{Images, Latency, Options, Sim};
use futures::StreamExt;
use golive::api::{Activation, ConditionType, condition};
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use kube_env::ControlPlane;
use kube_env::control_plane;
use kube_env::process::{Process, Spec};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Result;

/// Nothing takes longer.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// The slug of the organization that the simulator has.
pub const ORGANIZATION: &str = "cabanas";

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What all runs share.
pub struct World {
    plane: ControlPlane,
    dir: TempDir,
}

impl World {
    /// Starts the control plane and installs the definitions.
    pub async fn start() -> Result<Self> {
        let dir = TempDir::with_prefix("golive-bench-")?;
        let plane = ControlPlane::start(control_plane::Options {
            dir: Some(dir.path().join("control-plane")),
            audit: true,
            ..control_plane::Options::default()
        })
        .await?;
        plane.cluster().apply_paths([root().join("crds")]).await?;
        Ok(Self { plane, dir })
    }

    /// A run: its own Fly.io, namespace and token.
    pub async fn run(&self, options: Options) -> Result<Run<'_>> {
        let sim = fly(options).await?;
        let namespace = self.plane.cluster().create_namespace("bench").await?;
        let run = Run {
            kube: self.plane.cluster().client()?,
            world: self,
            sim,
            namespace,
        };
        let token = run.sim.token(ORGANIZATION).unwrap_or_default();
        run.apply(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "fly"},
            "stringData": {"token": token},
        }))
        .await?;
        Ok(run)
    }
}

/// A Fly.io with the images of the examples, unless others are given.
pub async fn fly(options: Options) -> Result<Sim> {
    if options.images.iter().next().is_some() {
        return Ok(Sim::start(options).await?);
    }
    let images = Images::read(&root().join("examples/cabanas/images.toml"))?;
    let cabanas = PathBuf::from(env!("CARGO_BIN_EXE_golive")).with_file_name("cabanas");
    if !cabanas.is_file() {
        return Err("the example is not built: run `make bench`".into());
    }
    let options = Options { images, ..options };
    Ok(Sim::start(options).await?)
}

/// Latencies at `scale` of Fly's, with intervals of health checks to match.
pub fn scaled(scale: f64, seed: u64) -> Options {
    Options {
        latency: Latency::real().scaled(scale).seeded(seed),
        timer_scale: scale,
        rate_limits: true,
        ..Options::default()
    }
}

/// One run.
pub struct Run<'w> {
    world: &'w World,
    kube: Client,
    /// Fly.io.
    pub sim: Sim,
    /// Its namespace; its operator sees no other.
    pub namespace: String,
}

impl Run<'_> {
    /// Starts Golive or a peer and waits until it is ready.
    pub async fn subject(&self, subject: Subject, flags: &[(&str, &str)]) -> Result<Operator> {
        match subject {
            Subject::Golive => self.operator(flags).await,
            Subject::PeerGo => self.peer_go(flags).await,
        }
    }

    async fn peer_go(&self, flags: &[(&str, &str)]) -> Result<Operator> {
        let dir = self.world.dir.path();
        let ca = dir.join(format!("{}.pem", self.namespace));
        std::fs::write(&ca, self.sim.ca_pem())?;
        let base = self.sim.base_url();
        let log = dir.join(format!("{}-peer.log", self.namespace));
        let mut spec = Spec::new("peer-go", peer_go(), log)
            .env("KUBECONFIG", self.world.plane.cluster().kubeconfig())
            .arg(format!("--namespace={}", self.namespace))
            .arg(format!("--ca-file={}", ca.display()))
            .arg(format!("--edge={}", self.sim.edge()));
        for flag in ["machines", "registry"] {
            spec = spec.arg(format!("--fly-{flag}-url={base}"));
        }
        for (flag, value) in flags {
            spec = spec.arg(format!("--{flag}={value}"));
        }
        ready(spec.spawn()?, "peer-go").await
    }

    /// Starts an operator and waits until it is ready.
    pub async fn operator(&self, flags: &[(&str, &str)]) -> Result<Operator> {
        let dir = self.world.dir.path();
        let ca = dir.join(format!("{}.pem", self.namespace));
        std::fs::write(&ca, self.sim.ca_pem())?;
        let base = self.sim.base_url();
        let (log, level) = match std::env::var_os("BENCH_TRACE") {
            Some(file) => (file.into(), "info,golive=debug"),
            None => (dir.join(format!("{}.log", self.namespace)), "info"),
        };
        let program = std::env::var("BENCH_OPERATOR");
        let program = program.unwrap_or_else(|_| env!("CARGO_BIN_EXE_golive").to_owned());
        let mut spec = Spec::new("golive", program, log)
            .env("KUBECONFIG", self.world.plane.cluster().kubeconfig())
            .args(["run", "--listen=127.0.0.1:0", "--log-format=text"])
            .arg(format!("--log={level}"))
            .arg("--leader-elect=false")
            .arg(format!("--ca-file={}", ca.display()))
            .arg(format!("--namespace={}", self.namespace))
            .arg(format!("--own-namespace={}", self.namespace));
        for flag in ["machines", "api", "uiex", "registry"] {
            spec = spec.arg(format!("--fly-{flag}-url={base}"));
        }
        if !flags.iter().any(|(flag, _)| *flag == "resolve") {
            spec = spec.arg(format!("--resolve=*.fly.dev:443={}", self.sim.edge()));
        }
        for (flag, value) in flags {
            spec = spec.arg(format!("--{flag}={value}"));
        }
        ready(spec.spawn()?, "golive").await
    }

    /// Applies an object to the run's namespace, as a user would.
    pub async fn apply(&self, mut object: Value) -> Result<()> {
        object["metadata"]["namespace"] = json!(self.namespace);
        self.world
            .plane
            .cluster()
            .apply_objects(vec![object])
            .await?;
        Ok(())
    }

    /// Applies an Activation and waits until it is live. The time starts before it is sent.
    pub async fn go_live(&self, activation: Value) -> Result<Duration> {
        let name = activation["metadata"]["name"].as_str().unwrap_or_default();
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut changes = watcher(self.activations(), config)
            .default_backoff()
            .applied_objects()
            .boxed();
        // Whoever applies is connected already; what a connection takes is no part of a go-live.
        self.activations().get_opt(name).await?;
        let started = Instant::now();
        let body = with_namespace(&activation, &self.namespace);
        self.activations()
            .patch(
                name,
                &PatchParams::apply("bench").force(),
                &Patch::Apply(body),
            )
            .await?;
        let live = async {
            while let Some(change) = changes.next().await {
                let Ok(object) = change else { continue };
                if is_live(&object) {
                    return Ok(started.elapsed());
                }
                if let Some(why) = stalled(&object) {
                    return Err(format!("{name} has stopped: {why}").into());
                }
            }
            Err("the watch has ended".into())
        };
        match tokio::time::timeout(LIMIT, live).await {
            Ok(ended) => ended,
            Err(_) => Err(format!("{name} is not live within {LIMIT:?}").into()),
        }
    }

    /// Another namespace with a token.
    pub async fn neighbour(&self) -> Result<String> {
        let cluster = self.world.plane.cluster();
        let namespace = cluster.create_namespace("neighbour").await?;
        let token = self.sim.token(ORGANIZATION).unwrap_or_default();
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "fly"},
            "stringData": {"token": token},
        });
        self.apply_in(&namespace, secret).await?;
        Ok(namespace)
    }

    /// Applies an object to another namespace.
    pub async fn apply_in(&self, namespace: &str, mut object: Value) -> Result<()> {
        object["metadata"]["namespace"] = json!(namespace);
        let cluster = self.world.plane.cluster();
        cluster.apply_objects(vec![object]).await?;
        Ok(())
    }

    /// The activations of another namespace.
    pub fn activations_in(&self, namespace: &str) -> Api<Activation> {
        Api::namespaced(self.kube.clone(), namespace)
    }

    /// The run's activations.
    pub fn activations(&self) -> Api<Activation> {
        Api::namespaced(self.kube.clone(), &self.namespace)
    }

    /// How many of the run's activations are live.
    pub async fn live(&self) -> Result<usize> {
        let list = self.activations().list(&ListParams::default()).await?;
        Ok(list.items.iter().filter(|object| is_live(object)).count())
    }

    /// What the operator asked of the API server in this run's namespace since the first `from`
    /// records: counts by verb and resource, changes and reads apart.
    pub fn asked(&self, from: usize) -> Result<Asked> {
        self.asked_by(Subject::Golive.agent(), from)
    }

    /// The same of a program whose `User-Agent` begins so.
    pub fn asked_by(&self, program: &str, from: usize) -> Result<Asked> {
        let mut asked = Asked::default();
        for event in self.world.plane.audit()?.into_iter().skip(from) {
            let agent = event["userAgent"].as_str().unwrap_or_default();
            let about = &event["objectRef"];
            if !agent.starts_with(program) || about["namespace"] != json!(self.namespace) {
                continue;
            }
            let verb = event["verb"].as_str().unwrap_or_default();
            let resource = about["resource"].as_str().unwrap_or_default();
            let sub = about["subresource"]
                .as_str()
                .map_or(String::new(), |sub| format!("/{sub}"));
            let name = about["name"].as_str().unwrap_or_default();
            let name = if resource == "events" { "" } else { name };
            let line = format!("{verb} {resource}{sub} {name}");
            let counts = match verb {
                "get" | "list" | "watch" => &mut asked.reads,
                _ => &mut asked.writes,
            };
            *counts.entry(line.trim_end().to_owned()).or_default() += 1;
        }
        Ok(asked)
    }

    /// How many requests the API server has recorded.
    pub fn recorded(&self) -> Result<usize> {
        Ok(self.world.plane.audit()?.len())
    }
}

/// Whom the figures are about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// This repository's operator.
    Golive,
    /// `benches/peer-go`.
    PeerGo,
}

impl Subject {
    /// The beginning of its `User-Agent` at the API server.
    pub fn agent(self) -> &'static str {
        match self {
            Subject::Golive => "golive/",
            Subject::PeerGo => "peer-go/",
        }
    }

    /// Whether it is built.
    pub fn exists(self) -> bool {
        self == Subject::Golive || peer_go().is_file()
    }
}

fn peer_go() -> PathBuf {
    root().join("benches/peer-go/bin/peer-go")
}

/// Waits until a started operator says where it listens, and is ready.
async fn ready(mut process: Process, program: &'static str) -> Result<Operator> {
    let line = process
        .wait_for_line("serving /healthz", Duration::from_secs(60))
        .await?;
    let address = line
        .rsplit_once("address=")
        .ok_or("the operator does not say where it listens")?
        .1
        .trim()
        .to_owned();
    let operator = Operator {
        process,
        address,
        program,
    };
    let started = Instant::now();
    while !operator.get("/readyz").await?.starts_with("HTTP/1.0 200") {
        if started.elapsed() > Duration::from_secs(60) {
            return Err("the operator does not become ready".into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(operator)
}

/// What the API server was asked.
#[derive(Debug, Default)]
pub struct Asked {
    /// Requests that change something.
    pub writes: BTreeMap<String, u64>,
    /// Requests that do not.
    pub reads: BTreeMap<String, u64>,
}

/// Our operator.
pub struct Operator {
    process: Process,
    address: String,
    program: &'static str,
}

impl Operator {
    /// One request to its port; the whole answer.
    pub async fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(&self.address).await?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: golive\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// The sum of a metric over all its series.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let text = self.get("/metrics").await?;
        let values = text
            .lines()
            .filter(|line| line.starts_with(name))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        Ok(values.sum())
    }

    /// Its memory: the share of every page that is its own, in KiB (`Pss` of smaps_rollup).
    pub fn memory(&self) -> Result<u64> {
        let child = self.child()?;
        let rollup = std::fs::read_to_string(format!("/proc/{child}/smaps_rollup"))?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kib = line.and_then(|line| line.trim().strip_suffix("kB"));
        let kib = kib.ok_or("smaps_rollup without Pss")?;
        Ok(kib.trim().parse()?)
    }

    /// The most memory that was resident at any time, in KiB (`VmHWM`).
    pub fn peak(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        Ok(kib.ok_or("no VmHWM")?.trim().parse()?)
    }

    /// The processor time of all its threads that still run (`schedstat` of proc(5)).
    pub fn processor_time(&self) -> Result<Duration> {
        let mut nanoseconds = 0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.child()?))? {
            // One that has ended meanwhile counts no more.
            let stat = std::fs::read_to_string(thread?.path().join("schedstat"));
            let stat = stat.unwrap_or_default();
            let first = stat.split(' ').next().unwrap_or_default();
            nanoseconds += first.parse::<u64>().unwrap_or_default();
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// The process id of the program behind its guard.
    fn child(&self) -> Result<String> {
        let guard = self.process.id();
        let children = std::fs::read_to_string(format!("/proc/{guard}/task/{guard}/children"))?;
        for child in children.split_whitespace() {
            let program = std::fs::read_to_string(format!("/proc/{child}/comm"))?;
            if program.trim() == self.program {
                return Ok(child.to_owned());
            }
        }
        Err("the operator's process is not found".into())
    }
}

fn with_namespace(object: &Value, namespace: &str) -> Value {
    let mut object = object.clone();
    object["metadata"]["namespace"] = json!(namespace);
    object
}

/// The smallest activation of one machine, whose app is called as it is.
pub fn smallest(name: &str) -> Value {
    json!({
        "apiVersion": "golive.dev/v1alpha1", "kind": "Activation",
        "metadata": {"name": name},
        "spec": {
            "organization": ORGANIZATION, "app": name, "region": "eze",
            "deploy": {"image": "registry.fly.io/hola-cabanas:1.0.0", "scale": {"app": 1}},
        },
    })
}

/// Whether the object's own generation is live.
pub fn is_live(object: &Activation) -> bool {
    object.status.as_ref().is_some_and(|status| {
        status.observed_generation == object.metadata.generation
            && condition::is_true(&status.conditions, ConditionType::Live)
    })
}

fn stalled(object: &Activation) -> Option<String> {
    let status = object.status.as_ref()?;
    let found = condition::find(&status.conditions, ConditionType::Stalled)?;
    let current = status.observed_generation == object.metadata.generation;
    current.then(|| format!("{}: {}", found.reason, found.message))
}
