//! From apply to Live, against the critical path, in turns; and what one activation costs in calls
//! to Fly.io and writes to Kubernetes.

use std::time::Duration;

use fly_sim::Options;
use kube_env::cluster::parse_yaml;
use serde_json::{Value, json};

use crate::Result;
use crate::report::{Report, Target};
use crate::table::{self, median, seconds};
use crate::world::{Asked, Run, World, fly, root, scaled};

/// The longest that a go-live may take, by the critical path.
const MOST: f64 = 1.1;

/// The most writes to Kubernetes that it may cost, events aside.
const WRITES: u64 = 13;

/// Runs before those that count: the first starts PostgreSQL and Redis.
const WARM_UPS: usize = 1;

/// One run of the operator.
pub struct Measured {
    /// From apply to Live.
    pub took: Duration,
    /// Calls to Fly.io.
    pub calls: std::collections::BTreeMap<String, u64>,
    asked: Asked,
}

/// Measures and prints; gives the targets that were missed.
pub async fn measure(world: &World, report: &mut Report) -> Result<Vec<String>> {
    let rounds = crate::number("BENCH_ROUNDS", 5)?;
    let mut missed = Vec::new();
    let mut last = pairs(world, 0.01, WARM_UPS, rounds, &mut missed, report).await?;
    let scale = std::env::var("BENCH_REAL").unwrap_or_else(|_| "1".to_owned());
    let scale: f64 = scale
        .parse()
        .map_err(|error| format!("BENCH_REAL must be a number: {error}"))?;
    if scale > 0.0 {
        last = pairs(world, scale, 0, 1, &mut missed, report).await?;
    }
    let total: u64 = last.calls.values().sum();
    let title = format!("Fly calls of one activation: {total}");
    table::counts(&title, "call", &last.calls);
    let (events, others): (Vec<_>, Vec<_>) = last
        .asked
        .writes
        .iter()
        .partition(|(what, _)| what.contains(" events"));
    let sum = |list: &[(&String, &u64)]| list.iter().map(|(_, count)| **count).sum::<u64>();
    let writes = sum(&others);
    let title = format!(
        "Kubernetes writes of one activation: {writes} and {} events (target: at most {WRITES})",
        sum(&events)
    );
    report.alone(
        ("B2", "Fly calls of the example", "calls"),
        total as f64,
        Target::None,
    );
    report.alone(
        ("B2", "writes of the example", "writes"),
        writes as f64,
        Target::AtMost(10.0),
    );
    if writes > WRITES {
        missed.push(format!("{writes} writes to Kubernetes, not {WRITES}"));
    }
    table::counts(&title, "write", &last.asked.writes);
    let reads: u64 = last.asked.reads.values().sum();
    let title = format!("Kubernetes reads of one activation: {reads}");
    table::counts(&title, "read", &last.asked.reads);
    Ok(missed)
}

/// Runs of both, in turns, at this scale; prints the times and gives the last run.
async fn pairs(
    world: &World,
    scale: f64,
    warm_ups: usize,
    rounds: usize,
    missed: &mut Vec<String>,
    report: &mut Report,
) -> Result<Measured> {
    let inputs = Inputs::read()?;
    let (mut floors, mut lives) = (Vec::new(), Vec::new());
    let mut last = None;
    let mut rows = Vec::new();
    for round in 0..warm_ups + rounds {
        let seed = u64::try_from(round)? + 1;
        let options = || scaled(scale, seed);
        let floor = critical_path(options(), &inputs, round).await?;
        let measured = activation(world, options(), scale, &inputs, round).await?;
        if round < warm_ups {
            continue;
        }
        rows.push(vec![
            (round + 1 - warm_ups).to_string(),
            seconds(floor),
            seconds(measured.took),
            format!("{:.2}", ratio(measured.took, floor)),
        ]);
        floors.push(floor);
        lives.push(measured.took);
        last = Some(measured);
    }
    let (floor, live) = (median(&floors), median(&lives));
    rows.push(vec![
        "median".to_owned(),
        seconds(floor),
        seconds(live),
        format!("{:.2}", ratio(live, floor)),
    ]);
    table::print(
        &format!(
            "From apply to Live at {scale} of Fly's latencies (target: at most {MOST} x the critical path)"
        ),
        &["round", "critical path", "apply to Live", "ratio"],
        &rows,
    );
    let list = |times: &[Duration]| {
        times
            .iter()
            .map(Duration::as_secs_f64)
            .collect::<Vec<f64>>()
    };
    let wanted = if scale < 1.0 { 1.05 } else { 1.02 };
    report.beside(
        (
            "B1",
            &format!("apply to Live at {scale} of Fly's latencies"),
            "s",
        ),
        &list(&lives),
        ("floor", &list(&floors)),
        Target::Ratio(wanted),
    );
    let times = ratio(live, floor);
    if times > MOST {
        missed.push(format!(
            "{times:.2} x the critical path at {scale} of Fly's latencies, not {MOST}"
        ));
    }
    last.ok_or_else(|| "no round was run".into())
}

fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64().max(f64::EPSILON)
}

async fn critical_path(options: Options, inputs: &Inputs, round: usize) -> Result<Duration> {
    let sim = fly(options).await?;
    let app = format!("floor-{round}");
    let took = crate::floor::walk(&sim, &app, &inputs.image, &inputs.fly_toml).await?;
    sim.stop().await;
    Ok(took)
}

/// One run of Golive with the example.
pub async fn activation(
    world: &World,
    options: Options,
    scale: f64,
    inputs: &Inputs,
    round: usize,
) -> Result<Measured> {
    let run = world.run(options).await?;
    for object in &inputs.others {
        run.apply(object.clone()).await?;
    }
    // What Fly.io has no long poll for is looked at as often, measured by its latencies.
    let poll = format!("{}ms", (2_000.0 * scale).max(20.0).round());
    let operator = run.operator(&[("poll-interval", &poll)]).await?;
    run.sim.reset();
    let from = run.recorded()?;
    let took = run
        .go_live(inputs.activation(&format!("bench-{round}")))
        .await?;
    let calls = run.sim.call_counts();
    settled(&run).await;
    let asked = run.asked(from)?;
    drop(operator);
    Ok(Measured { took, calls, asked })
}

/// The audit log and the last events come a moment after the answer.
async fn settled(run: &Run<'_>) {
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let now = run.recorded().unwrap_or_default();
        if now.saturating_sub(before) < 3 {
            return;
        }
        before = now;
    }
}

/// `examples/sist-cabanas.yaml` without what needs a person or another party: the gate, the
/// hostname, and the phases after Go-Live.
pub struct Inputs {
    spec: Value,
    /// The image that is deployed.
    pub image: String,
    /// Its fly.toml.
    pub fly_toml: String,
    /// What it refers to.
    pub others: Vec<Value>,
}

impl Inputs {
    /// Reads the example.
    pub fn read() -> Result<Self> {
        let text = std::fs::read_to_string(root().join("examples/sist-cabanas.yaml"))?;
        let object = parse_yaml(&text)?.into_iter().next().ok_or("no object")?;
        let mut spec = object["spec"].clone();
        if let Some(fields) = spec.as_object_mut() {
            for later in ["gates", "integrations", "observe", "notifications"] {
                fields.remove(later);
            }
        }
        if let Some(fields) = spec["provision"].as_object_mut() {
            fields.remove("hostnames");
        }
        let text = std::fs::read_to_string(root().join("examples/sist-cabanas-inputs.yaml"))?;
        let others: Vec<Value> = parse_yaml(&text)?
            .into_iter()
            .filter(|object| object["kind"] != "Namespace")
            .collect();
        let fly_toml = others
            .iter()
            .find_map(|object| object["data"]["fly.toml"].as_str())
            .ok_or("no fly.toml")?
            .to_owned();
        let image = spec["deploy"]["image"].as_str().ok_or("no image")?;
        Ok(Self {
            image: image.to_owned(),
            spec,
            fly_toml,
            others,
        })
    }

    /// The Activation of this app.
    pub fn activation(&self, app: &str) -> Value {
        let mut spec = self.spec.clone();
        spec["app"] = json!(app);
        json!({
            "apiVersion": "golive.dev/v1alpha1", "kind": "Activation",
            "metadata": {"name": app}, "spec": spec,
        })
    }
}
