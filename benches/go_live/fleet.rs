//! A fleet of the smallest Activations: Golive and `peer-go`, in turns, each round with a Fly.io, a namespace
//! and an operator of its own. What it costs to start, to take them live, to hold them, to react, to start
//! again, and to delete them (B2, B4, B5, B6, B7, B10, B11).
//!
//! Fly.io answers at once and enforces its limits; both keep them on their side.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt, TryStreamExt};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::Result;
use crate::report::{Report, Target};
use crate::stats::median;
use crate::world::{Operator, Run, Subject, World, scaled, smallest};

/// No step takes longer.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// Activations that are applied at once.
const AT_ONCE: usize = 16;

/// How long both are watched at rest.
const IDLE: Duration = Duration::from_secs(15);

/// Objects that are changed one after the other, for the time of reaction.
const CHANGES: usize = 10;

/// Long enough that nothing is looked at again while something else is measured.
const SELDOM: (&str, &str) = ("recheck-interval", "24h");

/// What one round of one subject gave.
#[derive(Debug, Default)]
struct Figures {
    start: f64,
    empty: f64,
    rate: f64,
    writes: f64,
    calls: f64,
    full: f64,
    idle: f64,
    idle_writes: f64,
    reactions: Vec<f64>,
    again: f64,
    examined: f64,
    again_writes: f64,
    peak: f64,
    deleted: f64,
    refused: f64,
    orphans: f64,
}

/// A subject's rounds.
type Rounds = Vec<Figures>;

/// Measures, and adds to the report.
pub async fn measure(world: &World, report: &mut Report) -> Result<()> {
    let objects = crate::number("BENCH_FLEET", 100)?;
    let rounds = crate::number("BENCH_ROUNDS", 5)?.min(5);
    let peer = Subject::PeerGo.exists();
    if !peer {
        println!("peer-go is not built, so Golive is measured alone: `make bench` builds it");
    }
    let (mut ours, mut theirs) = (Rounds::new(), Rounds::new());
    for round in 0..rounds {
        ours.push(once(world, Subject::Golive, objects).await?);
        if peer {
            theirs.push(once(world, Subject::PeerGo, objects).await?);
        }
        println!("fleet: round {} of {rounds}", round + 1);
        // A run that is ended early has shown something.
        println!("  golive  {:?}", ours.last());
        println!("  peer-go {:?}", theirs.last());
    }
    tell(report, objects, &ours, &theirs);
    Ok(())
}

/// Adds lines for both to the report.
struct Lines<'a> {
    report: &'a mut Report,
    ours: &'a Rounds,
    theirs: &'a Rounds,
}

impl Lines<'_> {
    fn add(&mut self, metric: (&str, &str, &str), target: Target, of: impl Fn(&Figures) -> f64) {
        let own: Vec<f64> = self.ours.iter().map(&of).collect();
        let peer: Vec<f64> = self.theirs.iter().map(&of).collect();
        if peer.is_empty() {
            self.report.alone(metric, median(&own), alone(target));
        } else {
            self.report.beside(metric, &own, ("peer-go", &peer), target);
        }
    }
}

fn tell(report: &mut Report, objects: usize, ours: &Rounds, theirs: &Rounds) {
    let mut lines = Lines {
        report,
        ours,
        theirs,
    };
    tell_cost(&mut lines, objects);
    tell_time(&mut lines, objects);
}

fn tell_cost(lines: &mut Lines<'_>, objects: usize) {
    use Target::{AtMost, None, Ratio};
    let one = move |f: &Figures| (f.full - f.empty) * 1024.0 / objects as f64;
    let full = format!("{objects} live, PSS");
    let writes = ("B2", "writes of the smallest, no events", "writes");
    lines.add(("B2", "Fly calls of the smallest", "calls"), None, |f| {
        f.calls
    });
    lines.add(writes, AtMost(10.0), |f| f.writes);
    lines.add(("B4", "idle, of one core", "%"), Ratio(0.5), |f| f.idle);
    lines.add(("B4", "idle", "writes"), AtMost(0.0), |f| f.idle_writes);
    lines.add(("B5", "empty, PSS", "MiB"), AtMost(12.0), |f| f.empty);
    lines.add(("B5", &full, "MiB"), Ratio(0.35), |f| f.full);
    lines.add(("B5", "one live object", "KiB"), AtMost(5.0), one);
    lines.add(
        ("B5", "peak of a start, of steady", "x"),
        AtMost(1.5),
        |f| f.peak,
    );
}

fn tell_time(lines: &mut Lines<'_>, objects: usize) {
    use Target::{AtMost, None, Ratio};
    let many = objects as f64;
    // One app a second and organization, after a burst of three.
    let create = (many - 3.0).max(1.0);
    // 95 a minute after a burst of 20 is what both allow themselves.
    let delete = ((many - 20.0).max(0.0) * 60.0 / 95.0).max(1.0);
    let live = format!("{objects} live, of the limits' bound");
    let ready = format!("start to ready, {objects}");
    let all = format!("start to all {objects} looked at");
    let deleted = format!("{objects} deleted, of the bound");
    let first = |part: f64| move |f: &Figures| share(&f.reactions, part);
    lines.add(("B6", "live, with Fly's limits", "1/s"), None, |f| f.rate);
    lines.add(("B6", &live, "x"), AtMost(1.05), move |f| {
        many / f.rate / create
    });
    lines.add(("B6", "answers 429", "calls"), AtMost(0.0), |f| f.refused);
    lines.add(
        ("B7", "change to first call, p50", "ms"),
        Ratio(0.7),
        first(0.5),
    );
    lines.add(
        ("B7", "change to first call, p99", "ms"),
        AtMost(10.0),
        first(0.99),
    );
    lines.add(("B10", "start to ready, empty", "ms"), AtMost(60.0), |f| {
        f.start * 1e3
    });
    lines.add(("B10", &ready, "ms"), Ratio(0.5), |f| f.again * 1e3);
    lines.add(("B10", &all, "s"), AtMost(5.0), |f| f.examined);
    lines.add(("B10", "writes of a start", "writes"), AtMost(0.0), |f| {
        f.again_writes
    });
    lines.add(("B11", &deleted, "x"), AtMost(1.05), move |f| {
        f.deleted / delete
    });
    lines.add(("B11", "apps that are left", "apps"), AtMost(0.0), |f| {
        f.orphans
    });
}

/// A ratio needs a peer.
fn alone(target: Target) -> Target {
    match target {
        Target::Ratio(_) => Target::None,
        other => other,
    }
}

/// The value below which this share lies.
fn share(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = (sorted.len() as f64 * share).ceil() as usize;
    sorted
        .get(at.saturating_sub(1))
        .copied()
        .unwrap_or(f64::NAN)
}

async fn once(world: &World, subject: Subject, objects: usize) -> Result<Figures> {
    let mut options = scaled(0.0, 1);
    options.timer_scale = 1.0;
    let run = world.run(options).await?;
    let mut figures = Figures::default();

    let started = Instant::now();
    let operator = run.subject(subject, &[SELDOM]).await?;
    figures.start = started.elapsed().as_secs_f64();
    figures.empty = at_rest(&operator).await?;

    let from = run.recorded()?;
    let started = Instant::now();
    stream::iter(0..objects)
        .map(Ok::<_, crate::BenchError>)
        .try_for_each_concurrent(AT_ONCE, |number| run.apply(activation(number)))
        .await?;
    until(|| live(&run, objects)).await?;
    figures.rate = objects as f64 / started.elapsed().as_secs_f64();
    figures.full = at_rest(&operator).await?;
    figures.writes = writes(&run, subject, from)? / objects as f64;
    figures.calls = total(&run) as f64 / objects as f64;

    let (from, busy) = (run.recorded()?, operator.processor_time()?);
    tokio::time::sleep(IDLE).await;
    let busy = operator.processor_time()?.saturating_sub(busy);
    figures.idle = busy.as_secs_f64() / IDLE.as_secs_f64() * 100.0;
    figures.idle_writes = writes(&run, subject, from)?;

    figures.reactions = reactions(&run, objects).await?;
    drop(operator);
    let operator = again(&run, subject, objects, &mut figures).await?;

    let started = Instant::now();
    let api = run.activations();
    api.delete_collection(&DeleteParams::default(), &ListParams::default())
        .await?;
    until(|| gone(&api)).await?;
    figures.deleted = started.elapsed().as_secs_f64();
    figures.orphans = run.sim.apps().len() as f64;
    let refused = run.sim.call_list();
    figures.refused = refused
        .iter()
        .filter(|call| call.status == Some(429))
        .count() as f64;
    drop(operator);
    Ok(figures)
}

/// Starts it again where everything is live already.
async fn again(
    run: &Run<'_>,
    subject: Subject,
    objects: usize,
    figures: &mut Figures,
) -> Result<Operator> {
    run.sim.reset();
    let from = run.recorded()?;
    let started = Instant::now();
    let operator = run.subject(subject, &[SELDOM]).await?;
    figures.again = started.elapsed().as_secs_f64();
    until(|| async { Ok(looked_at(run) >= objects) }).await?;
    figures.examined = started.elapsed().as_secs_f64();
    let steady = at_rest(&operator).await?;
    figures.peak = operator.peak()? as f64 / 1024.0 / steady;
    figures.again_writes = writes(run, subject, from)?;
    Ok(operator)
}

/// Apps that somebody has asked about.
fn looked_at(run: &Run<'_>) -> usize {
    let calls = run.sim.call_list();
    let apps: BTreeSet<&str> = calls
        .iter()
        .filter_map(|call| {
            call.path
                .split('/')
                .nth(3)
                .filter(|app| app.starts_with("bench-"))
        })
        .collect();
    apps.len()
}

fn total(run: &Run<'_>) -> u64 {
    run.sim.call_counts().values().sum()
}

/// Writes to Kubernetes, events aside.
fn writes(run: &Run<'_>, subject: Subject, from: usize) -> Result<f64> {
    let asked = run.asked_by(subject.agent(), from)?;
    let writes = asked
        .writes
        .iter()
        .filter(|(what, _)| !what.contains(" events"));
    Ok(writes.map(|(_, count)| *count).sum::<u64>() as f64)
}

/// Changes objects at rest, one after the other: from the answer to the change until Fly.io is first called,
/// in milliseconds. One machine more is wanted each time.
async fn reactions(run: &Run<'_>, objects: usize) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    for number in 0..CHANGES.min(objects) {
        quiet(run).await;
        let before = total(run);
        let patch = json!({"spec": {"deploy": {"scale": {"app": 2}}}});
        run.activations()
            .patch(&name(number), &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        let answered = Instant::now();
        while total(run) == before {
            if answered.elapsed() > Duration::from_secs(30) {
                return Err(format!("no reaction to the change of {}", name(number)).into());
            }
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        times.push(answered.elapsed().as_secs_f64() * 1e3);
    }
    quiet(run).await;
    until(|| live(run, objects)).await?;
    Ok(times)
}

/// Waits until nobody calls any more.
async fn quiet(run: &Run<'_>) {
    let mut before = u64::MAX;
    loop {
        let now = total(run);
        if now == before {
            return;
        }
        before = now;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn name(number: usize) -> String {
    format!("bench-{number:05}")
}

fn activation(number: usize) -> Value {
    let mut object = smallest(&name(number));
    object["spec"]["deletionPolicy"] = json!({"app": "Delete"});
    object
}

async fn live(run: &Run<'_>, wanted: usize) -> Result<bool> {
    Ok(run.live().await? >= wanted)
}

async fn gone(api: &Api<golive::api::Activation>) -> Result<bool> {
    Ok(api
        .list_metadata(&ListParams::default())
        .await?
        .items
        .is_empty())
}

async fn until<F: Future<Output = Result<bool>>>(holds: impl Fn() -> F) -> Result<()> {
    let started = Instant::now();
    while !holds().await? {
        if started.elapsed() > LIMIT {
            return Err(format!("not done within {LIMIT:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// The memory once it has stood still for a while, in MiB.
async fn at_rest(operator: &Operator) -> Result<f64> {
    let mut before = operator.memory()?;
    for _ in 0..15 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let now = operator.memory()?;
        if now.abs_diff(before) * 200 < before {
            break;
        }
        before = now;
    }
    Ok(operator.memory()? as f64 / 1024.0)
}
