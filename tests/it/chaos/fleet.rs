//! One run of the campaign: a fleet goes live, is changed and is deleted while calls go wrong and
//! replicas are killed, and what must hold all the same, by the ids of the project's oracles.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use fly_sim::{Point, ledger::Effect, mixture::Mixture};
use futures::{StreamExt, future::join_all};
use golive::api::{Activation, ActivationStatus};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};

use crate::support::{
    crash::{Victim, never_two_in, nothing_left},
    env::{Env, is, merge},
    service, trouble,
};

/// Longest time until the whole fleet is where it should be, for each round.
const PATIENCE: Duration = Duration::from_secs(400);

/// Longest time from the end of all faults until the fleet is where it should be (O11).
const RECOVERY: Duration = Duration::from_secs(120);

/// Changes that one object may send beyond what it needs, for each fault that it met (O8).
const PER_FAULT: u64 = 3;

/// Changes that a kill may repeat, over the whole fleet.
const PER_KILL: u64 = 12;

/// How late the test may see a lease that changed hands.
const LATE: Duration = Duration::from_secs(2);

/// What a run is made of.
pub struct Plan {
    /// How many Activations.
    pub objects: usize,
    /// Same seed, same faults and kills.
    pub seed: u64,
    /// How many of a hundred calls go wrong.
    pub percent: u64,
    /// How often a replica is killed.
    pub kills: u32,
    /// How long nothing may be written at the end.
    pub quiet: Duration,
}

/// What came of it.
pub struct Outcome {
    /// Calls that were hit, by kind.
    pub faults: BTreeMap<String, u64>,
    /// Replicas that were killed.
    pub kills: u32,
    /// Calls to Fly.io.
    pub calls: usize,
    /// Versions of Activations.
    pub writes: usize,
    /// How long it took.
    pub took: Duration,
    /// What must not be.
    pub violations: Vec<String>,
}

/// Numbers that follow from a seed (SplitMix64).
pub struct Dice(u64);

impl Dice {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number below a bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Two replicas of which one leads. Each calls Fly.io under a name of its own. One that ends by itself
/// is started again.
pub struct Replicas(
    pub [Victim; 2],
    #[expect(dead_code, reason = "it works until it is dropped")] Keeper,
);

/// Starts again what has ended by itself, until it is dropped.
struct Keeper(tokio::task::JoinHandle<()>);

impl Keeper {
    fn of(victims: &[Victim; 2]) -> Self {
        let victims = victims.clone();
        Self(tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(200)).await;
                victims.iter().for_each(Victim::revive);
            }
        }))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The names under which they call.
const NAMES: [&str; 2] = ["127.0.0.1", "localhost"];

impl Replicas {
    /// Starts both.
    pub fn start(env: &Env) -> Self {
        let victims = NAMES.map(|name| {
            // A machine that is busy for seconds must not make the replicas lose the lease in turn.
            let more = [
                "--settle",
                "300ms",
                "--lease-duration",
                "8s",
                "--lease-renew-deadline",
                "6s",
                "--lease-retry-period",
                "200ms",
            ];
            let flags = env.flags(&more).into_iter();
            let flags = flags
                .map(|flag| flag.replace("--leader-elect=false", "--leader-elect=true"))
                .map(|flag| match flag.strip_prefix("http://127.0.0.1:") {
                    Some(port) => format!("http://{name}:{port}"),
                    None => flag,
                });
            Victim::of(env.command(flags.collect()))
        });
        let keeper = Keeper::of(&victims);
        Self(victims, keeper)
    }

    /// Kills one at the k-th change, for each k.
    fn kill_at(&self, env: &Env, dice: &mut Dice, kills: u32) {
        let mut k = 0;
        for _ in 0..kills {
            k += 10 + dice.below(60);
            let victim = self.0[usize::from(dice.below(2) == 1)].clone();
            let point = [Point::BeforeApply, Point::AfterApply, Point::AfterReply]
                [usize::try_from(dice.below(3)).unwrap()];
            let kill = Arc::new(move |_| {
                let victim = victim.clone();
                Box::pin(async move { victim.crash() }) as futures::future::BoxFuture<'static, ()>
            });
            env.sim.on_mutation(k, point, kill);
        }
    }

    fn kills(&self) -> u32 {
        self.0.iter().map(Victim::crashes).sum()
    }

    fn end(&self) {
        self.0.iter().for_each(Victim::end);
    }
}

/// Who held the lease, and since when it could be seen.
struct Terms {
    seen: Arc<Mutex<Vec<(Instant, String)>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Terms {
    fn record(env: &Env) -> Self {
        let leases: Api<Lease> = Api::namespaced(env.kube.clone(), &env.namespace);
        let seen: Arc<Mutex<Vec<(Instant, String)>>> = Arc::default();
        let to = seen.clone();
        let stream = watcher(leases, watcher::Config::default()).default_backoff();
        let task = tokio::spawn(async move {
            let mut stream = std::pin::pin!(stream);
            while let Some(event) = stream.next().await {
                let Ok(watcher::Event::Apply(lease) | watcher::Event::InitApply(lease)) = event
                else {
                    continue;
                };
                let holder = lease.spec.and_then(|spec| spec.holder_identity);
                let holder = holder.unwrap_or_default();
                let mut seen = to.lock().unwrap();
                if seen.last().map(|(_, last)| last) != Some(&holder) {
                    seen.push((Instant::now(), holder));
                }
            }
        });
        Self { seen, task }
    }

    /// O9: no change of one replica lies between two of the other within one term.
    fn violations(&self, env: &Env, began: Instant) -> Vec<String> {
        let terms = self.seen.lock().unwrap().clone();
        let term_of = |at_ms: u64| {
            let at = began + Duration::from_millis(at_ms);
            terms.iter().filter(|(since, _)| *since <= at).count()
        };
        let near = |at_ms: u64| {
            let at = began + Duration::from_millis(at_ms);
            let close =
                |since: Instant| at.max(since).saturating_duration_since(at.min(since)) < LATE;
            terms.iter().any(|(since, _)| close(*since))
        };
        let mut holders: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
        for call in env.sim.call_list() {
            if call.mutation.is_some() && !near(call.at_ms) {
                let host = call.host.split(':').next().unwrap_or_default().to_owned();
                holders.entry(term_of(call.at_ms)).or_default().insert(host);
            }
        }
        holders
            .into_iter()
            .filter(|(_, hosts)| hosts.len() > 1)
            .map(|(term, hosts)| format!("O9: {hosts:?} both changed something in term {term}"))
            .collect()
    }
}

impl Drop for Terms {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn name(n: usize) -> String {
    format!("flota-{n:02}")
}

/// The n-th object: every strategy, one or two machines, some with a Redis.
fn spec(n: usize) -> Value {
    let strategy = ["rolling", "canary", "bluegreen", "immediate"][n % 4];
    let mut spec = json!({
        "app": name(n),
        "deploy": {
            "config": {"inline": service::toml(strategy)},
            "scale": {"app": 1 + (n / 4) % 2},
        },
        "provision": {"secrets": {"generate": [{"name": "JWT_SECRET"}]}},
        "deletionPolicy": {
            "app": "Delete", "database": "Delete", "redis": "Delete", "secrets": "Delete",
        },
    });
    if n % 7 == 3 {
        merge(&mut spec, json!({"provision": {"redis": {"upstash": {}}}}));
    }
    spec
}

/// How many machines the n-th object has in the end, and under which tag.
fn wanted(n: usize, changed: bool) -> (usize, &'static str) {
    let machines = 1 + (n / 4) % 2;
    match (changed, n % 3) {
        (true, 0) => (machines, "again"),
        (true, 2) => (machines + 1, "1.0.0"),
        _ => (machines, "1.0.0"),
    }
}

/// The change of the n-th object: another image, another variable, another machine.
fn change(n: usize) -> Value {
    let (machines, tag) = wanted(n, true);
    let image = format!("registry.fly.io/hola-cabanas:{tag}");
    let toml = service::toml(["rolling", "canary", "bluegreen", "immediate"][n % 4]);
    let toml = match n % 3 {
        1 => format!("{toml}[env]\nLEVEL = 'debug'\n"),
        _ => toml,
    };
    let deploy = json!({
        "image": image, "scale": {"app": machines}, "config": {"inline": toml},
    });
    json!({"spec": {"deploy": deploy}})
}

/// Where an object should be, and is not.
fn amiss(env: &Env, object: &Activation, n: usize, changed: bool) -> Option<String> {
    let status = object.status.clone().unwrap_or_default();
    let (machines, tag) = wanted(n, changed);
    let said = status.observed_generation == object.metadata.generation
        && is(&status, "Ready", "True")
        && is(&status, "Live", "True")
        && status.intents.is_empty()
        && status
            .release
            .as_ref()
            .is_some_and(|release| release.image.ends_with(&format!(":{tag}")));
    let live = trouble::serving(env, &name(n));
    if said && live.len() == machines {
        return None;
    }
    Some(format!(
        "{} has {} of {machines} machines: {}",
        name(n),
        live.len(),
        told(&status)
    ))
}

/// Its conditions and open steps, in one line.
fn told(status: &ActivationStatus) -> String {
    let ready = status.conditions.iter().filter(|condition| {
        ["Ready", "Live", "Stalled", "Deleting"].contains(&condition.type_.as_str())
    });
    let ready = ready.map(|c| format!("{}={} {}: {}", c.type_, c.status, c.reason, c.message));
    ready.collect::<Vec<_>>().join("; ")
}

/// Waits until the whole fleet is where it should be; says what is not.
async fn settled(env: &Env, plan: &Plan, changed: bool, limit: Duration) -> Vec<String> {
    let end = Instant::now() + limit;
    loop {
        let list = env.activations().list(&ListParams::default()).await;
        let objects: BTreeMap<String, Activation> = list
            .unwrap()
            .items
            .into_iter()
            .map(|object| (object.name_any(), object))
            .collect();
        let left: Vec<String> = (0..plan.objects)
            .filter_map(|n| amiss(env, objects.get(&name(n))?, n, changed))
            .collect();
        if left.is_empty() || Instant::now() > end {
            return left;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Takes a fleet through its life under faults, and judges it.
pub async fn run(plan: &Plan) -> Outcome {
    let begun = Instant::now();
    let mut env = Env::without_operator(trouble::options()).await;
    // Judged here, with everything else that is found.
    env.unjudged("the run is judged as a whole");
    let clock = Instant::now() - Duration::from_millis(env.sim.now_ms());
    let mut dice = Dice::new(plan.seed);
    let terms = Terms::record(&env);
    let replicas = Replicas::start(&env);
    replicas.kill_at(&env, &mut dice, plan.kills);
    env.sim
        .mix(Some(Mixture::of_everything(plan.seed, plan.percent)));
    let violations = life(&env, plan, &replicas, &terms, clock).await;
    replicas.end();
    Outcome {
        faults: env.sim.mixed(),
        kills: replicas.kills(),
        calls: env.sim.call_list().len(),
        writes: env.record().histories().values().map(Vec::len).sum(),
        took: begun.elapsed(),
        violations,
    }
}

async fn life(
    env: &Env,
    plan: &Plan,
    replicas: &Replicas,
    terms: &Terms,
    clock: Instant,
) -> Vec<String> {
    let mut found = Vec::new();
    let names: Vec<String> = (0..plan.objects).map(name).collect();
    join_all((0..plan.objects).map(async |n| env.activation(&name(n), spec(n)).await)).await;
    for left in settled(env, plan, false, PATIENCE).await {
        found.push(format!("O3: not live under faults: {left}"));
    }
    join_all((0..plan.objects).map(async |n| env.patch(&name(n), change(n)).await)).await;
    for left in settled(env, plan, true, PATIENCE).await {
        found.push(format!("O3: not changed under faults: {left}"));
    }
    env.sim.mix(None);
    for left in settled(env, plan, true, RECOVERY).await {
        found.push(format!("O11: not as it should be without faults: {left}"));
    }
    found.extend(quiet(env, plan).await);
    found.extend(ends(env, plan).await);
    found.extend(bounded(env, plan, replicas.kills()));

    let mixture = Mixture::of_everything(plan.seed, plan.percent);
    env.sim.mix(Some(mixture));
    join_all(names.iter().map(async |name| {
        env.confirm_data_deletion(name).await;
        let activations = env.activations();
        let delete = DeleteParams::default();
        activations.delete(name, &delete).await.unwrap();
    }))
    .await;
    if !gone(env, PATIENCE).await.is_empty() {
        env.sim.mix(None);
        for left in gone(env, RECOVERY).await {
            found.push(format!("O10: not deleted: {left}"));
        }
    }
    env.sim.mix(None);
    found.extend(nothing_left(env).await.err());
    for name in &names {
        let ledger = of_app(env, name);
        found.extend(never_two_in(&ledger).err().map(|e| format!("{name}: {e}")));
    }
    found.extend(env.record().violations(&env.sim.journal()));
    found.extend(terms.violations(env, clock));
    found
}

/// What happened to one app, and what names none, such as the revocation of a token.
fn of_app(env: &Env, app: &str) -> Vec<Effect> {
    let ledger = env.sim.ledger().into_iter();
    ledger
        .filter(|effect| effect.app.as_deref().is_none_or(|of| of == app))
        .collect()
}

/// O11 and O8: where nothing happens, nothing is written.
async fn quiet(env: &Env, plan: &Plan) -> Vec<String> {
    let count = || -> usize { env.record().histories().values().map(Vec::len).sum() };
    // Messages that may wait are written first.
    let mut last = (count(), Instant::now());
    let end = Instant::now() + RECOVERY;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = count();
        if now != last.0 {
            last = (now, Instant::now());
        }
        if last.1.elapsed() >= plan.quiet {
            return Vec::new();
        }
        if Instant::now() > end {
            return vec![format!(
                "O11: the statuses of a fleet that is as it should be are still written: {now}"
            )];
        }
    }
}

/// O3 and O4: nothing of what works was given up on the way.
async fn ends(env: &Env, plan: &Plan) -> Vec<String> {
    let mut found = Vec::new();
    for n in 0..plan.objects {
        let status = env.status(&name(n)).await;
        let outcomes: Vec<&str> = status.history.iter().map(|h| h.outcome.as_str()).collect();
        if outcomes.iter().any(|outcome| *outcome != "Succeeded") {
            found.push(format!("O4: {}: releases ended {outcomes:?}", name(n)));
        }
        let ledger = of_app(env, &name(n));
        let count = |kind: &str| ledger.iter().filter(|effect| effect.kind == kind).count();
        for once in ["app.create", "address.allocate"] {
            let most = if once == "address.allocate" { 2 } else { 1 };
            if count(once) > most {
                found.push(format!("O4: {}: {} x {once}", name(n), count(once)));
            }
        }
    }
    found
}

/// O8: changes that an object sent are what it needs, and a few for each fault that it met.
fn bounded(env: &Env, plan: &Plan, kills: u32) -> Vec<String> {
    /// More than one object needs to go live and to be changed once, by the longest strategy.
    const NEEDED: u64 = 60;
    let calls = env.sim.call_list();
    let mut found = Vec::new();
    for n in 0..plan.objects {
        let place = format!("/{}", name(n));
        let of = || calls.iter().filter(|call| call.path.contains(&place));
        let changes = of().filter(|call| call.mutation.is_some()).count();
        let faults = of().filter(|call| call.fault.is_some()).count();
        let allowed = NEEDED + PER_FAULT * faults as u64 + PER_KILL * u64::from(kills);
        if changes as u64 > allowed {
            found.push(format!(
                "O8: {}: {changes} changes sent, with {faults} faults {allowed} are enough",
                name(n)
            ));
        }
    }
    found
}

/// Waits until all objects are gone; says which are not.
async fn gone(env: &Env, limit: Duration) -> Vec<String> {
    let end = Instant::now() + limit;
    loop {
        let left = env.activations().list(&ListParams::default()).await;
        let left = left.unwrap().items;
        if left.is_empty() || Instant::now() > end {
            return left
                .iter()
                .map(|object| {
                    let status = object.status.clone().unwrap_or_default();
                    format!("{}: {}", object.name_any(), told(&status))
                })
                .collect();
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
