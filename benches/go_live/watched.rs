//! What it costs to watch many live activations: each is looked at every 30 s (`--time-scale` makes that more
//! often), its metrics are read from its machine, and what was seen is kept. The operator, the API server and
//! the applications are real processes.

use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::{Value, json};

use crate::Result;
use crate::report::{Report, Target};
use crate::table;
use crate::world::{Run, World, scaled, smallest};

/// How long all of them may take to be live.
const LIMIT: Duration = Duration::from_secs(40 * 60);

/// Activations that are applied at once.
const AT_ONCE: usize = 16;

/// Measures, prints, and adds to the report.
pub async fn measure(world: &World, report: &mut Report) -> Result<()> {
    let objects = crate::number("BENCH_WATCHED", 1000)?;
    let seconds = crate::number("BENCH_WATCH_SECONDS", 660)?;
    let scale = crate::number("BENCH_TIME_SCALE", 1)?;
    let mut options = scaled(0.0, 1);
    options.timer_scale = 1.0;
    options.rate_limits = false;
    let run = world.run(options).await?;
    let flags = [
        ("time-scale", scale.to_string()),
        ("recheck-interval", "24h".to_owned()),
    ];
    let flags: Vec<(&str, &str)> = flags
        .iter()
        .map(|(flag, value)| (*flag, value.as_str()))
        .collect();
    let operator = run.operator(&flags).await?;
    let empty = operator.memory()?;
    all_live(&run, objects).await?;
    // The first looks and writes of the watch belong to the go-live.
    tokio::time::sleep(Duration::from_secs(60 / u64::try_from(scale.clamp(1, 12))?)).await;

    run.sim.reset();
    let (from, busy, began) = (run.recorded()?, operator.processor_time()?, Instant::now());
    tokio::time::sleep(Duration::from_secs(u64::try_from(seconds)?)).await;
    let busy = operator
        .processor_time()?
        .saturating_sub(busy)
        .as_secs_f64();
    let took = began.elapsed().as_secs_f64();
    let memory = operator.memory()?;
    let asked = run.asked(from)?;
    let written: u64 = asked.writes.values().sum();
    // An hour of the watch, which `--time-scale` makes shorter.
    let hours = took * scale as f64 / 3600.0;
    let many = objects as f64;
    let looks = hours * 120.0 * many;
    let kib = memory.saturating_sub(empty) as f64 / many;
    let core = busy / took / scale as f64 * 100.0;
    report.alone(
        (
            "13-7.5",
            &format!("{objects} watched at 30 s"),
            "% of a core",
        ),
        core,
        Target::None,
    );
    report.alone(
        ("13-7.5", "one look", "ms"),
        busy * 1e3 / looks,
        Target::None,
    );
    report.alone(("13-7.5", "one watched object", "KiB"), kib, Target::None);
    let each = written as f64 / hours / many;
    report.alone(
        ("13-7.5", "Kubernetes, each object", "writes/h"),
        each,
        Target::None,
    );
    table::counts(
        &format!("Kubernetes writes of {objects} watched objects in {hours:.2} h of their watch"),
        "write",
        &by_kind(&asked.writes),
    );
    table::counts("Fly calls meanwhile", "call", &run.sim.call_counts());
    drop(operator);
    Ok(())
}

/// Applies them, and waits until all are live.
async fn all_live(run: &Run<'_>, objects: usize) -> Result<()> {
    let started = Instant::now();
    stream::iter(0..objects)
        .map(Ok::<_, crate::BenchError>)
        .try_for_each_concurrent(AT_ONCE, |number| run.apply(activation(number)))
        .await?;
    while run.live().await? < objects {
        if started.elapsed() > LIMIT {
            return Err(format!(
                "{} of {objects} are live after {LIMIT:?}",
                run.live().await?
            )
            .into());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// Without the names.
fn by_kind(
    counts: &std::collections::BTreeMap<String, u64>,
) -> std::collections::BTreeMap<String, u64> {
    let mut kinds = std::collections::BTreeMap::new();
    for (what, count) in counts {
        let words: Vec<&str> = what.split(' ').take(2).collect();
        *kinds.entry(words.join(" ")).or_default() += count;
    }
    kinds
}

/// The smallest one with the three objectives of the example.
fn activation(number: usize) -> Value {
    let name = format!("watched-{number:05}");
    let latency = |kind: &str, below: &str| {
        json!({
            "name": format!("{kind}-p95"),
            "latency": {
                "metric": "http_request_duration_seconds", "selector": {"kind": kind},
                "quantile": 95, "below": below,
            },
        })
    };
    let errors = json!({
        "name": "errors",
        "errorRate": {
            "metric": "http_requests_total", "errorSelector": {"status": "5.."}, "below": "1%",
        },
    });
    let mut object = smallest(&name);
    object["spec"]["observe"] = json!({
        "window": "72h", "source": {"metricsPath": "/metrics"},
        "objectives": [latency("text", "3s"), latency("audio", "15s"), errors],
    });
    object
}
