//! Everything real but Fly.io: the API server, the simulator with real PostgreSQL, Redis and
//! processes, and our operator, in process or as a process of its own.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock},
    time::{Duration, Instant},
};

use clap::Parser;
use fly_sim::{Images, Latency, Options, Sim};
use golive::{
    api::{Activation, ActivationStatus, condition},
    clock,
    process::{
        metrics::Metrics,
        settings::{Cli, Command, LogFormat, Settings},
        telemetry,
    },
};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams},
};
use kube_env::{Cluster, ControlPlane};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::{guarded::Guarded, leaks, replay::Recorder};

/// Longest time that a test waits for anything.
pub const LIMIT: Duration = Duration::from_secs(90);

/// Shows the log of the operator in this process, if a filter is given: `GOLIVE_TEST_LOG=debug`.
const LOG: &str = "GOLIVE_TEST_LOG";

/// How many of the last calls to Fly.io a failed test prints.
const LAST_CALLS: usize = 30;

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The images that the simulator can run.
pub fn images() -> Images {
    let cabanas = PathBuf::from(env!("CARGO_BIN_EXE_golive")).with_file_name("cabanas");
    assert!(
        cabanas.is_file(),
        "{} is not built: run `cargo build --workspace --bins` first",
        cabanas.display()
    );
    Images::read(&root().join("examples/cabanas/images.toml")).expect("images.toml")
}

/// One test's world: a namespace, a simulator, and an operator when it is started.
pub struct Env {
    /// The cluster, as its administrator.
    pub cluster: Cluster,
    /// The administrator's client.
    pub kube: Client,
    /// The namespace of this test.
    pub namespace: String,
    /// Fly.io.
    pub sim: Sim,
    dir: tempfile::TempDir,
    operator: Option<Operator>,
    /// What is judged when this world ends, from the first operator on.
    recorder: OnceLock<Recorder>,
    /// Why this world's recording is not judged.
    unjudged: Option<&'static str>,
    /// Secret values that were put into this world, by a name for messages.
    values: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Values of Secrets that may stand in the log.
    public: Mutex<BTreeSet<String>>,
}

/// How wrong the wall clock of a process is.
pub enum Offset<'a> {
    /// By this, from beginning to end.
    Constant(&'a str),
    /// By what this file says at the time.
    In(&'a Path),
}

/// The library of Debian's package `faketime` for programs with threads.
fn faketime() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").expect("/usr/lib");
    let libraries = folders
        .filter_map(Result::ok)
        .map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    let found = libraries.into_iter().find(|path| path.is_file());
    found.expect("libfaketime is not installed: `make prereqs` installs it")
}

enum Operator {
    Inside {
        stop: CancellationToken,
        task: JoinHandle<()>,
        metrics: Metrics,
    },
    Process(Guarded),
}

impl Env {
    /// A world with the operator running in this process.
    pub async fn start() -> Self {
        let mut env = Self::without_operator(Options::default()).await;
        env.start_operator(&[]).await;
        env
    }

    /// A world in which nothing acts yet. Images, and the namespace's token Secret `fly`, are set.
    pub async fn without_operator(options: Options) -> Self {
        let control_plane = ControlPlane::shared().await.expect("a control plane");
        let cluster = control_plane.cluster().clone();
        static CRDS: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
        CRDS.get_or_init(|| async {
            cluster
                .apply_paths([root().join("crds")])
                .await
                .expect("the definitions");
        })
        .await;
        Self::on(cluster, options).await
    }

    /// The same on a cluster of the test's own, which has the definitions already.
    pub async fn on(cluster: Cluster, options: Options) -> Self {
        if let Ok(filter) = std::env::var(LOG) {
            telemetry::start(LogFormat::Text, &filter, clock::wall).expect("a filter for the log");
        }
        let namespace = cluster.create_namespace("it").await.expect("a namespace");
        let sim = Sim::start(Options {
            images: if options.images.iter().next().is_some() {
                options.images.clone()
            } else {
                images()
            },
            latency: Latency::off(),
            ..options
        })
        .await
        .expect("the simulator");
        let env = Self {
            kube: cluster.client().expect("a client"),
            cluster,
            namespace,
            sim,
            dir: tempfile::tempdir().unwrap(),
            operator: None,
            recorder: OnceLock::new(),
            unjudged: None,
            values: Mutex::default(),
            public: Mutex::default(),
        };
        env.secret("fly", &[("token", &env.sim.token("cabanas").unwrap())])
            .await;
        env
    }

    /// The operator's flags for this world.
    pub fn flags(&self, more: &[&str]) -> Vec<String> {
        let base = self.sim.base_url();
        let ca = self.dir.path().join("ca.pem");
        std::fs::write(&ca, self.sim.ca_pem()).unwrap();
        let mut flags: Vec<String> = [
            ("--fly-machines-url", base.clone()),
            ("--fly-api-url", base.clone()),
            ("--fly-uiex-url", base.clone()),
            ("--fly-registry-url", base),
            (
                "--resolve",
                format!(
                    "*.fly.dev:443={},*.fly.dev:*={}:*",
                    self.sim.edge(),
                    self.sim.edge_ip()
                ),
            ),
            ("--ca-file", ca.display().to_string()),
            ("--namespace", self.namespace.clone()),
            ("--own-namespace", self.namespace.clone()),
            ("--listen", "127.0.0.1:0".to_owned()),
            ("--recheck-interval", "2s".to_owned()),
            ("--backoff-min", "100ms".to_owned()),
            ("--backoff-max", "1s".to_owned()),
            ("--settle", "500ms".to_owned()),
            ("--poll-interval", "100ms".to_owned()),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect();
        flags.push("--leader-elect=false".to_owned());
        // A flag may be given once: a test's flag replaces the default, and an empty value removes it.
        for pair in more.chunks(2) {
            let ours = flags.iter().position(|flag| flag == pair[0]);
            let nothing = pair.get(1).is_some_and(|value| value.is_empty());
            if let (Some(at), true) = (ours, nothing) {
                flags.drain(at..=at + 1);
            } else if let Some(at) = ours {
                flags[at + 1] = pair[1].to_owned();
            } else {
                flags.extend(pair.iter().map(|flag| (*flag).to_owned()));
            }
        }
        flags
    }

    /// The operator's settings with these flags.
    pub fn settings(&self, more: &[&str]) -> Settings {
        let args = ["golive".to_owned(), "run".to_owned()].into_iter();
        let cli = Cli::try_parse_from(args.chain(self.flags(more))).expect("the flags");
        let Command::Run(settings) = cli.command else {
            unreachable!("not `run`")
        };
        *settings
    }

    /// Starts the operator in this process, with the administrator's rights.
    pub async fn start_operator(&mut self, more: &[&str]) {
        self.start_operator_as(self.cluster.config(), more).await;
    }

    /// Starts the operator in this process, with the rights of this configuration.
    pub async fn start_operator_as(&mut self, rights: kube::Config, more: &[&str]) {
        self.record();
        let settings = self.settings(more);
        let metrics = Metrics::new();
        let clock = clock::ServerClock::of_kubernetes();
        let connection = golive::process::kube_client::Connection::new(rights, &metrics, &clock);
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        let kept = metrics.clone();
        let task = tokio::spawn(async move {
            let ended = golive::controller::operator::run(
                settings,
                connection,
                metrics,
                clock,
                stopping,
                golive::controller::work::work,
            )
            .await;
            if let Err(error) = ended {
                panic!("the operator ended: {error}");
            }
        });
        self.operator = Some(Operator::Inside {
            stop,
            task,
            metrics: kept,
        });
    }

    /// Starts the operator as a process, with the administrator's rights; output goes to a file.
    pub fn start_operator_process(&mut self, more: &[&str]) {
        let child = Guarded::spawn(&mut self.operator_command(more));
        self.operator = Some(Operator::Process(child));
    }

    /// Starts the operator as a process whose wall clock is wrong: by so much (`+400s`, `-1d`), or by what
    /// this file says at the time (`clock`). Its monotonic clock is right. The API server's certificate is
    /// valid from an hour before its start: a process whose clock is further behind cannot connect.
    pub fn start_operator_with_clock(&mut self, offset: Offset<'_>, more: &[&str]) {
        let mut command = self.operator_command(more);
        command
            .env("LD_PRELOAD", faketime())
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("FAKETIME_DISABLE_SHM", "1")
            .env("NO_FAKE_STAT", "1");
        match offset {
            Offset::Constant(offset) => command.env("FAKETIME", offset),
            Offset::In(file) => command
                .env("FAKETIME_TIMESTAMP_FILE", file)
                .env("FAKETIME_NO_CACHE", "1"),
        };
        self.operator = Some(Operator::Process(Guarded::spawn(&mut command)));
    }

    /// The operator's process, not started yet.
    pub fn operator_command(&self, more: &[&str]) -> std::process::Command {
        self.command(self.flags(more))
    }

    /// The operator's process with these flags and no others, not started yet.
    pub fn command(&self, flags: Vec<String>) -> std::process::Command {
        self.record();
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())
            .unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_golive"));
        command
            .arg("run")
            .args(flags)
            .env("KUBECONFIG", self.cluster.kubeconfig())
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        command
    }

    /// Writes down every version of every Activation from now on.
    pub fn record(&self) -> &Recorder {
        let start = || Recorder::start(self.activations());
        self.recorder.get_or_init(start)
    }

    /// Leaves the recording of this world unjudged, for a reason: a test writes a status itself.
    pub fn unjudged(&mut self, why: &'static str) {
        self.unjudged = Some(why);
    }

    /// Process id of the operator, when it runs as a process.
    pub fn operator_pid(&self) -> Option<u32> {
        match &self.operator {
            Some(Operator::Process(child)) => Some(child.id()),
            _ => None,
        }
    }

    /// The metrics of the operator inside, as Prometheus reads them.
    pub fn metrics(&self) -> String {
        match &self.operator {
            Some(Operator::Inside { metrics, .. }) => metrics.prometheus().expect("metrics"),
            _ => panic!("no operator runs in this process"),
        }
    }

    /// Where the operator's process writes.
    pub fn log(&self) -> PathBuf {
        self.dir.path().join("operator.log")
    }

    /// Kills the operator: SIGKILL for a process, an abort in the middle of its work inside.
    pub fn kill_operator(&mut self) {
        match self.operator.take() {
            Some(Operator::Inside { task, .. }) => task.abort(),
            Some(Operator::Process(mut child)) => {
                child.kill();
            }
            None => {}
        }
    }

    /// Stops the operator in good order.
    pub async fn stop_operator(&mut self) {
        if let Some(Operator::Inside { stop, task, .. }) = self.operator.take() {
            stop.cancel();
            task.await.expect("the operator ends without a panic");
        }
    }

    /// Activations of this namespace.
    pub fn activations(&self) -> Api<Activation> {
        Api::namespaced(self.kube.clone(), &self.namespace)
    }

    /// Creates or replaces a Secret.
    pub async fn secret(&self, name: &str, values: &[(&str, &str)]) {
        let data: serde_json::Map<String, Value> = values
            .iter()
            .map(|(key, value)| ((*key).to_owned(), json!(value)))
            .collect();
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": name}, "stringData": data,
        });
        self.keep_in_mind(std::slice::from_ref(&secret));
        let api: Api<Secret> = Api::namespaced(self.kube.clone(), &self.namespace);
        api.patch(
            name,
            &PatchParams::apply("test").force(),
            &Patch::Apply(secret),
        )
        .await
        .expect("the Secret");
    }

    /// No process of this world may show these.
    fn keep_in_mind(&self, objects: &[Value]) {
        let mut values = self.values.lock().unwrap();
        for (name, value) in leaks::values(objects) {
            // The previous value stays a secret.
            let number = values.len();
            values.insert(format!("{name} ({number})"), value);
        }
    }

    /// Where the operator's process has shown a secret value of this world: one of the Secrets that
    /// the test wrote, or one that the application's machines see.
    fn leaked(&self) -> Vec<String> {
        let Ok(log) = std::fs::read_to_string(self.log()) else {
            return Vec::new();
        };
        let mut values = self.values.lock().unwrap().clone();
        let at_fly: Vec<(String, String)> = self.sim.core().read(|world| {
            let apps = world.apps.values();
            apps.flat_map(|app| app.platform.boot_secrets()).collect()
        });
        let public = self.public.lock().unwrap();
        for (name, value) in at_fly.into_iter().filter(|(_, v)| !public.contains(v)) {
            values.insert(format!("{name} at Fly.io"), value.into_bytes());
        }
        let passwords: Vec<(String, Vec<u8>)> = values
            .iter()
            .filter_map(|(name, value)| {
                let password = leaks::password(std::str::from_utf8(value).ok()?)?;
                Some((format!("the password in {name}"), password.into_bytes()))
            })
            .collect();
        values.extend(passwords);
        leaks::in_log(&values, log)
    }

    /// A value of a Secret that is no secret, and may stand in the log.
    pub fn is_public(&self, value: &str) {
        self.public.lock().unwrap().insert(value.to_owned());
    }

    /// Applies a manifest, as a user would with `kubectl apply`; its objects go to this test's
    /// namespace.
    pub async fn apply(&self, yaml: &str) {
        let objects: Vec<Value> = kube_env::cluster::parse_yaml(yaml)
            .expect("YAML")
            .into_iter()
            .filter(|object| object["kind"] != "Namespace")
            .map(|mut object| {
                object["metadata"]["namespace"] = json!(self.namespace);
                object
            })
            .collect();
        self.keep_in_mind(&objects);
        self.cluster
            .apply_objects(objects)
            .await
            .expect("the objects are accepted");
    }

    /// The smallest Activation, with `more` merged into its spec.
    pub async fn activation(&self, name: &str, more: Value) {
        let mut spec = json!({
            "organization": "cabanas",
            "app": "hola-cabanas",
            "region": "eze",
            "deploy": {"image": "registry.fly.io/hola-cabanas:1.0.0"},
            "smokeTest": {"checks": [{"name": "homepage", "http": {"path": "/"}}]},
        });
        merge(&mut spec, more);
        self.apply(
            &json!({
                "apiVersion": "golive.dev/v1alpha1", "kind": "Activation",
                "metadata": {"name": name}, "spec": spec,
            })
            .to_string(),
        )
        .await;
    }

    /// Approves a gate, as an approver would.
    pub async fn approve(&self, activation: &str, gate: &str, digest: &str) {
        let name = format!("{activation}-{}", gate.to_lowercase());
        let about = json!({"activation": activation, "gate": gate, "digest": digest});
        self.decide(&name, about).await;
    }

    /// Creates a decision: an approval of the gate before Deploy of `hola`, unless `more` says otherwise.
    pub async fn decide(&self, name: &str, more: Value) {
        let mut spec = json!({
            "activation": "hola", "gate": "Deploy", "decision": "Approve", "approver": "admin",
        });
        merge(&mut spec, more);
        self.apply(
            &json!({
                "apiVersion": "golive.dev/v1alpha1", "kind": "ActivationApproval",
                "metadata": {"name": name}, "spec": spec,
            })
            .to_string(),
        )
        .await;
    }

    /// Changes an Activation by a merge patch.
    pub async fn patch(&self, name: &str, patch: Value) {
        self.activations()
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .expect("the patch is accepted");
    }

    /// The object now.
    pub async fn get(&self, name: &str) -> Option<Activation> {
        self.activations().get_opt(name).await.expect("readable")
    }

    /// The status now.
    pub async fn status(&self, name: &str) -> ActivationStatus {
        self.get(name)
            .await
            .and_then(|activation| activation.status)
            .unwrap_or_default()
    }

    /// Waits until `holds` is true of the status; fails with the last status otherwise.
    pub async fn wait(
        &self,
        name: &str,
        what: &str,
        holds: impl Fn(&ActivationStatus) -> bool,
    ) -> ActivationStatus {
        let end = Instant::now() + LIMIT;
        loop {
            let status = self.status(name).await;
            if holds(&status) {
                return status;
            }
            if Instant::now() > end {
                let text = serde_json::to_string_pretty(&status).unwrap();
                panic!("{what} did not come within {LIMIT:?}; the status is {text}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits for a condition to have this status.
    pub async fn wait_for(&self, name: &str, type_: &str, wanted: &str) -> ActivationStatus {
        self.wait(name, &format!("{type_}={wanted}"), |status| {
            is(status, type_, wanted)
        })
        .await
    }

    /// Waits until the object's generation is live.
    pub async fn wait_live(&self, name: &str) -> ActivationStatus {
        let generation = self.get(name).await.and_then(|a| a.metadata.generation);
        self.wait(name, "Live", |status| {
            status.observed_generation == generation
                && is(status, "Ready", "True")
                && is(status, "Live", "True")
        })
        .await
    }

    /// Confirms that the deletion of this object may delete data.
    pub async fn confirm_data_deletion(&self, name: &str) {
        let Some(activation) = self.get(name).await else {
            return;
        };
        let confirm = json!({"golive.dev/delete-data": activation.spec.app});
        self.patch(name, json!({"metadata": {"annotations": confirm}}))
            .await;
    }

    /// Deletes the object, also its data if its policy says so, and waits until it is gone.
    pub async fn delete(&self, name: &str) {
        use golive::api::policy::Deletion::Delete;
        let found = self.get(name).await;
        let policy = found.map(|found| found.spec.deletion_policy);
        let policy = policy.unwrap_or_default();
        if [policy.database, policy.redis, policy.volumes].contains(&Delete) {
            self.confirm_data_deletion(name).await;
        }
        self.activations()
            .delete(name, &DeleteParams::default())
            .await
            .expect("deletable");
        let end = Instant::now() + LIMIT;
        while let Some(left) = self.get(name).await {
            assert!(
                Instant::now() < end,
                "not deleted within {LIMIT:?}: {}",
                serde_json::to_string_pretty(&left.status).unwrap()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Reasons of the events about an object, oldest first.
    pub async fn events(&self, name: &str) -> Vec<(String, String, String)> {
        use k8s_openapi::api::events::v1::Event;
        let api: Api<Event> = Api::namespaced(self.kube.clone(), &self.namespace);
        let list = api.list(&Default::default()).await.expect("events");
        let mut events: Vec<Event> = list
            .items
            .into_iter()
            .filter(|event| {
                event
                    .regarding
                    .as_ref()
                    .is_some_and(|about| about.name.as_deref() == Some(name))
            })
            .collect();
        events.sort_by_key(|event| event.metadata.creation_timestamp.clone());
        events
            .into_iter()
            .map(|event| {
                (
                    event.type_.unwrap_or_default(),
                    event.reason.unwrap_or_default(),
                    event.note.unwrap_or_default(),
                )
            })
            .collect()
    }

    /// Waits until an event with this reason was published about the object.
    pub async fn wait_event(&self, name: &str, wanted: &str) -> Vec<(String, String, String)> {
        let end = Instant::now() + LIMIT;
        loop {
            let events = self.events(name).await;
            if events.iter().any(|(_, reason, _)| reason == wanted) {
                return events;
            }
            assert!(Instant::now() < end, "no event {wanted}: {events:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Prints the last calls to Fly.io, to find the cause of a failure.
    fn print_last_calls(&self) {
        let calls = self.sim.call_list();
        let last = calls.len().saturating_sub(LAST_CALLS);
        println!("{} calls to Fly.io, the last of them:", calls.len());
        for call in &calls[last..] {
            let status = call
                .status
                .map_or("-".to_owned(), |status| status.to_string());
            let fault = call.fault.as_deref().unwrap_or_default();
            println!("{:>7} ms {status} {} {fault}", call.at_ms, call.endpoint);
        }
    }
}

impl Drop for Env {
    fn drop(&mut self) {
        self.kill_operator();
        if std::thread::panicking() {
            self.print_last_calls();
        } else {
            let leaked = self.leaked();
            assert!(leaked.is_empty(), "the log shows secrets: {leaked:#?}");
            if let (Some(recorder), None) = (self.recorder.get(), self.unjudged) {
                let violations = recorder.violations(&self.sim.journal());
                assert!(violations.is_empty(), "the statuses show: {violations:#?}");
            }
        }
    }
}

/// Whether a condition has this status.
pub fn is(status: &ActivationStatus, type_: &str, wanted: &str) -> bool {
    status
        .conditions
        .iter()
        .any(|condition| condition.type_ == type_ && condition.status == wanted)
}

/// The reason of a condition.
pub fn reason<'a>(status: &'a ActivationStatus, type_: &str) -> &'a str {
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_)
        .map_or("", |condition| condition.reason.as_str())
}

/// The message of a condition.
pub fn message<'a>(status: &'a ActivationStatus, type_: &str) -> &'a str {
    let _ = condition::ConditionType::Ready;
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_)
        .map_or("", |condition| condition.message.as_str())
}

/// JSON merge patch (RFC 7396) on a value.
pub fn merge(into: &mut Value, patch: Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    into.remove(&key);
                } else {
                    merge(into.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (into, patch) => *into = patch,
    }
}
