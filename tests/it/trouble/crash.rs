//! The operator is killed with SIGKILL around every single external write of a go-live and of the
//! deletion after it, is started again, and must come to the same end with the same creations.
//!
//! What is checked, with the ids of the project's oracles: O1 never a second machine, database,
//! address or value of a secret; O2 nothing is left after deletion; O3 the same end state as
//! without a crash; O4 the same creations and deletions.
//!
//! `make test` takes a sample; `GOLIVE_CRASH_TEST=full` (`make test-crash`) takes every point.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fly_sim::{Fault, Point, Sim, platform::PlatformOptions};
use futures::{StreamExt, TryStreamExt};
use golive::api::{Activation, ActivationStatus};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, Resource, ResourceExt,
    api::{ListParams, WatchEvent, WatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{OnceCell, Semaphore};

use crate::support::crash::{
    APP, UID, Victim, activation, full, history, never_two, nothing_left, objects,
};
use crate::support::env::{Env, is, root};
use crate::support::looks::{Reads, reads, since};

/// Most worlds at a time, over all tests of this file: every world runs a database, a Redis, two
/// machines and an operator.
static WORLDS: Semaphore = Semaphore::const_new(2);

/// Longest time until live, and from there until gone, with a crash and on a busy computer.
const PATIENCE: Duration = Duration::from_secs(240);

/// The run without a crash, made once.
static REFERENCE: OnceCell<Run> = OnceCell::const_new();

/// What goes wrong in a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Trouble {
    /// The operator is killed around the k-th call that changes something at Fly.io.
    Fly(u64, Point),
    /// It is killed as soon as the n-th change of a Kubernetes object by the operator is there.
    Kubernetes(u64),
    /// A look at Fly.io is wrong once, in the go-live.
    Look(Fault),
    /// The same, in the deletion.
    LookWhenDeleted(Fault),
}

/// The parts of a run that are compared.
#[derive(Debug, PartialEq)]
pub struct Run {
    /// The world when it went live, without what differs from run to run.
    end: Value,
    /// Creations and deletions by kind and name, over the whole life.
    history: BTreeMap<String, u64>,
    /// Calls that change something at Fly.io until it was live, and until it was gone.
    calls: (u64, u64),
    /// Changes of Kubernetes objects, likewise.
    changes: (u64, u64),
    crashes: u32,
    /// Looks at Fly.io until it was live, and from there until it was gone.
    pub reads: (Reads, Reads),
}

/// Takes the activation from nothing to live and to nothing again, with at most one trouble on the
/// way.
async fn run(trouble: Option<Trouble>) -> Result<Run, String> {
    let _permit = WORLDS.acquire().await.expect("never closed");
    let env = Env::without_operator(fly_sim::Options {
        platform: PlatformOptions {
            certificates_auto: true,
            ..PlatformOptions::default()
        },
        ..fly_sim::Options::default()
    })
    .await;
    let inputs = root().join("examples/sist-cabanas-inputs.yaml");
    env.apply(&std::fs::read_to_string(inputs).unwrap()).await;
    env.apply(&activation().to_string()).await;
    let uid = env.get(APP).await.unwrap().uid().unwrap();

    let changes = Changes::begin(&env).await;
    let victim = Victim::start(&env);
    let mut later = None;
    match trouble.clone() {
        Some(Trouble::Fly(k, point)) => victim.crash_at(&env.sim, k, point),
        Some(Trouble::Kubernetes(n)) => changes.crash_at(n, &victim),
        Some(Trouble::Look(fault)) => env.sim.fault(fault),
        Some(Trouble::LookWhenDeleted(fault)) => later = Some(fault),
        None => {}
    }

    let outcome = life(&env, &uid, (&victim, later), &changes).await;
    victim.end();
    outcome.map_err(|error| {
        let calls: Vec<String> = env
            .sim
            .call_list()
            .iter()
            .filter_map(|call| Some(format!("{} {}", call.mutation?, call.endpoint)))
            .collect();
        let log = std::fs::read_to_string(env.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(30)..].join("\n");
        format!(
            "{trouble:?}: {error}\ncalls: {}\nlog: {tail}",
            calls.join(", ")
        )
    })
}

async fn life(
    env: &Env,
    uid: &str,
    (victim, when_deleted): (&Victim, Option<Fault>),
    changes: &Changes,
) -> Result<Run, String> {
    let status = wait(env, "live", |status| {
        status.is_some_and(|status| is(status, "Live", "True") && status.intents.is_empty())
    })
    .await?;
    let end = mask(
        json!({"fly": at_fly(&env.sim), "kubernetes": in_kubernetes(env, &status).await}),
        uid,
    );
    let live = (env.sim.mutations(), changes.count());
    let looks = reads(&env.sim);
    values_agree(env).await?;
    if let Some(fault) = when_deleted {
        env.sim.fault(fault);
    }

    env.activations()
        .delete(APP, &Default::default())
        .await
        .map_err(|error| format!("it cannot be deleted: {error}"))?;
    wait(env, "gone", |status| status.is_none()).await?;
    let gone = (env.sim.mutations(), changes.count());
    let looks = (looks.clone(), since(&looks, &reads(&env.sim)));
    nothing_left(env).await?;
    never_two(&env.sim)?;
    all_machines_ended(&env.sim, uid).await;

    Ok(Run {
        end,
        history: history(&env.sim, uid),
        calls: (live.0, gone.0),
        changes: (live.1, gone.1),
        crashes: victim.crashes(),
        reads: looks,
    })
}

/// Waits until `holds` of the object's status; `None` once the object is gone.
async fn wait(
    env: &Env,
    what: &str,
    holds: impl Fn(Option<&ActivationStatus>) -> bool,
) -> Result<ActivationStatus, String> {
    let end = Instant::now() + PATIENCE;
    loop {
        let object = env.get(APP).await;
        let status = object.map(|object| object.status.unwrap_or_default());
        if holds(status.as_ref()) {
            return Ok(status.unwrap_or_default());
        }
        if Instant::now() > end {
            let phases: Vec<String> = status
                .iter()
                .flat_map(|status| &status.phases)
                .flat_map(|phase| &phase.steps)
                .map(|step| format!("{}: {:?} {}", step.name, step.state, step.message))
                .collect();
            let conditions: Vec<String> = status
                .iter()
                .flat_map(|status| &status.conditions)
                .map(|c| format!("{}={} {} {}", c.type_, c.status, c.reason, c.message))
                .collect();
            return Err(format!(
                "not {what} within {PATIENCE:?}: {conditions:#?} {phases:#?}"
            ));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Counts what the operator changes in Kubernetes, in the order in which it can be seen.
struct Changes {
    count: Arc<AtomicU64>,
    crash: Arc<Mutex<Option<(u64, Victim)>>>,
    tasks: tokio::task::JoinSet<()>,
}

impl Changes {
    async fn begin(env: &Env) -> Self {
        let mut changes = Self {
            count: Arc::default(),
            crash: Arc::default(),
            tasks: tokio::task::JoinSet::new(),
        };
        changes.follow::<Activation>(env).await;
        changes.follow::<ConfigMap>(env).await;
        changes.follow::<Secret>(env).await;
        changes
    }

    async fn follow<K>(&mut self, env: &Env)
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + fmt::Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        let api: Api<K> = Api::namespaced(env.kube.clone(), &env.namespace);
        let list = api.list(&ListParams::default()).await.expect("a list");
        let version = list.metadata.resource_version.expect("a version");
        let (count, crash) = (self.count.clone(), self.crash.clone());
        self.tasks.spawn(async move {
            let params = WatchParams::default().timeout(290);
            let stream = api.watch(&params, &version).await.expect("a watch");
            let mut stream = std::pin::pin!(stream);
            while let Ok(Some(event)) = stream.try_next().await {
                if matches!(event, WatchEvent::Bookmark(_) | WatchEvent::Error(_)) {
                    continue;
                }
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                let due = crash.lock().unwrap().take_if(|(at, _)| *at <= number);
                if let Some((_, victim)) = due {
                    victim.crash();
                }
            }
        });
    }

    fn crash_at(&self, n: u64, victim: &Victim) {
        *self.crash.lock().unwrap() = Some((n, victim.clone()));
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }
}

/// What is there at Fly.io.
fn at_fly(sim: &Sim) -> Value {
    let machines: BTreeMap<String, Vec<Value>> = sim
        .apps()
        .into_iter()
        .map(|app| {
            let mut machines: Vec<Value> = sim
                .machines(&app)
                .into_iter()
                .map(|machine| {
                    json!({
                        "name": machine["name"], "state": machine["state"],
                        "region": machine["region"], "config": machine["config"],
                    })
                })
                .collect();
            machines.sort_by_key(|machine| machine["name"].to_string());
            (app, machines)
        })
        .collect();
    sim.core().read(|world| {
        let apps: Vec<Value> = world
            .apps
            .values()
            .map(|app| {
                let of = &app.platform;
                let releases: Vec<Value> = of
                    .releases
                    .iter()
                    .map(|r| json!({"version": r.version, "status": r.status, "image": r.image_ref}))
                    .collect();
                // Both are requested at the same time, so their order varies.
                let mut addresses: Vec<String> =
                    of.addresses.iter().map(|a| json!(a.kind).to_string()).collect();
                addresses.sort_unstable();
                json!({
                    "name": app.name,
                    "organization": app.org_slug,
                    "machines": machines[&app.name],
                    "volumes": app.volumes.len(),
                    "secrets": of.secrets.digests().keys().collect::<Vec<_>>(),
                    "addresses": addresses,
                    "certificates": of.certificates.keys().collect::<Vec<_>>(),
                    "releases": releases,
                })
            })
            .collect();
        let clusters: Vec<Value> = world
            .platform
            .clusters
            .values()
            .map(|cluster| {
                json!({
                    "name": cluster.name, "region": cluster.region, "plan": cluster.plan.name,
                    "status": format!("{:?}", cluster.status), "databases": cluster.databases,
                    "users": cluster.users.keys().collect::<Vec<_>>(),
                    "attached": cluster.attachments.keys().collect::<Vec<_>>(),
                })
            })
            .collect();
        let add_ons: Vec<Value> = world
            .platform
            .add_ons
            .values()
            .map(|a| json!({"name": a.name, "region": a.region, "plan": a.plan, "options": a.options}))
            .collect();
        json!({"apps": apps, "clusters": clusters, "add_ons": add_ons})
    })
}

/// What is there in Kubernetes: the status without times and identifiers, and the objects with
/// their keys.
async fn in_kubernetes(env: &Env, status: &ActivationStatus) -> Value {
    let steps: BTreeMap<&str, Value> = status
        .phases
        .iter()
        .flat_map(|phase| &phase.steps)
        .map(|step| (step.name.as_str(), json!(step.state)))
        .collect();
    let conditions: BTreeMap<&str, (&str, &str)> = status
        .conditions
        .iter()
        .map(|c| (c.type_.as_str(), (c.status.as_str(), c.reason.as_str())))
        .collect();
    let mut externals: Vec<String> = status
        .external
        .iter()
        .map(|object| match object.kind.as_str() {
            "Address" => "Address".to_owned(),
            kind => format!("{kind} {}", object.name),
        })
        .collect();
    externals.sort();
    let mut secrets: Vec<&str> = status.secrets.iter().map(|s| s.name.as_str()).collect();
    secrets.sort_unstable();
    json!({
        "url": status.url, "steps": steps, "conditions": conditions, "external": externals,
        "secrets": secrets, "objects": objects(env).await,
    })
}

/// Hides the object's identifier, and what is derived from values that are drawn at random.
fn mask(value: Value, uid: &str) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace(uid, UID)),
        Value::Array(items) => items.into_iter().map(|item| mask(item, uid)).collect(),
        Value::Object(map) => map
            .into_iter()
            // Hashes over secrets, which are new in every run.
            .filter(|(key, _)| !matches!(key.as_str(), "golive_config" | "golive_release"))
            .map(|(key, item)| (key.replace(uid, UID), mask(item, uid)))
            .collect(),
        other => other,
    }
}

/// Waits until the ledger has the end of every machine: an app is deleted at once, its machines'
/// processes end later. A machine that never ends is found by the comparison.
async fn all_machines_ended(sim: &Sim, uid: &str) {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let history = history(sim, uid);
        let mut made = history
            .iter()
            .filter_map(|(key, count)| Some((key.strip_prefix("machine.create ")?, count)));
        let ended = |(name, count): (&str, &u64)| {
            history.get(&format!("machine.destroyed {name}")) == Some(count)
        };
        if made.all(ended) || Instant::now() > end {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The machines have the values that Kubernetes stores.
async fn values_agree(env: &Env) -> Result<(), String> {
    let secrets: Api<Secret> = Api::namespaced(env.kube.clone(), &env.namespace);
    let name = golive::store::generated::name(APP);
    let kept = secrets
        .get(&name)
        .await
        .map_err(|error| error.to_string())?;
    let at_fly = env
        .sim
        .core()
        .read(|world| world.apps.get(APP).map(|app| app.platform.boot_secrets()))
        .ok_or("the app is not there")?;
    for (name, value) in kept.data.unwrap_or_default() {
        let there = at_fly.get(&name).map(String::as_bytes);
        if there != Some(value.0.as_slice()) {
            return Err(format!("O1: {name} at Fly.io is not what Kubernetes keeps"));
        }
    }
    Ok(())
}

/// Compares a run with the one that had no crash; says what differs.
fn compare(reference: &Run, run: &Run) -> Result<(), String> {
    if run.end != reference.end {
        let differences = differences("", &reference.end, &run.end).join("\n");
        return Err(format!("O3: another end:\n{differences}"));
    }
    if run.history != reference.history {
        let keys: BTreeSet<&String> = run.history.keys().chain(reference.history.keys()).collect();
        let differ: Vec<String> = keys
            .into_iter()
            .map(|key| (key, reference.history.get(key), run.history.get(key)))
            .filter(|(_, wanted, found)| wanted != found)
            .map(|(key, wanted, found)| format!("{key}: {found:?} instead of {wanted:?}"))
            .collect();
        return Err(format!("O4: another history: {}", differ.join("; ")));
    }
    Ok(())
}

fn differences(path: &str, wanted: &Value, found: &Value) -> Vec<String> {
    match (wanted, found) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            keys.into_iter()
                .flat_map(|key| {
                    let null = Value::Null;
                    let (a, b) = (a.get(key).unwrap_or(&null), b.get(key).unwrap_or(&null));
                    differences(&format!("{path}/{key}"), a, b)
                })
                .collect()
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => a
            .iter()
            .zip(b)
            .enumerate()
            .flat_map(|(at, (a, b))| differences(&format!("{path}/{at}"), a, b))
            .collect(),
        (a, b) if a == b => Vec::new(),
        (a, b) => vec![format!("{path}: {b} instead of {a}")],
    }
}

/// The run without any trouble.
pub async fn reference() -> &'static Run {
    REFERENCE
        .get_or_init(|| async { run(None).await.expect("it goes live without a crash") })
        .await
}

/// Runs with each of these troubles, some at a time, and compares each with the run that had none.
pub async fn all(reference: &Run, troubles: Vec<Trouble>) {
    let begun = Instant::now();
    let count = troubles.len();
    let outcomes: Vec<Result<(), String>> = futures::stream::iter(troubles)
        .map(|trouble| async move {
            let run = run(Some(trouble.clone())).await?;
            // A run may have fewer writes to Kubernetes or refreshes of leases than the run without a
            // crash, so the point may not be reached. A call that was made has had its crash.
            if run.crashes == 0 && matches!(trouble, Trouble::Fly(k, _) if k <= run.calls.1) {
                return Err(format!("{trouble:?}: the point was never reached"));
            }
            compare(reference, &run).map_err(|error| format!("{trouble:?}: {error}"))?;
            Ok(())
        })
        .buffer_unordered(usize::MAX)
        .collect()
        .await;
    let failed: Vec<String> = outcomes.into_iter().filter_map(Result::err).collect();
    println!("{count} runs in {:?}", begun.elapsed());
    assert!(
        failed.is_empty(),
        "{} of {count} runs did not end the same:\n\n{}",
        failed.len(),
        failed.join("\n\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_before_during_and_after_every_write_to_fly_ends_the_same() {
    let reference = reference().await;
    println!(
        "{} calls until live, {} until gone",
        reference.calls.0, reference.calls.1
    );
    let points = [Point::BeforeApply, Point::AfterApply, Point::AfterReply];
    let kills = (1..=reference.calls.1)
        .flat_map(|k| points.map(|point| (k, point)))
        .filter(|(k, point)| {
            // Every third call; the points alternate.
            full() || k % 3 == 1 && points[usize::try_from(k / 3 % 3).unwrap()] == *point
        })
        .map(|(k, point)| Trouble::Fly(k, point))
        .collect();
    all(reference, kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_after_every_write_to_kubernetes_ends_the_same() {
    let reference = reference().await;
    println!(
        "{} changes until live, {} until gone",
        reference.changes.0, reference.changes.1
    );
    let kills = (1..=reference.changes.1)
        .filter(|n| full() || n % 4 == 2)
        .map(Trouble::Kubernetes)
        .collect();
    all(reference, kills).await;
}
