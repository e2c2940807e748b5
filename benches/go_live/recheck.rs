//! What an unchanged, live activation costs each time it is looked at again.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use golive::redact::Redactor;

use crate::Result;
use crate::report::{Report, Target};
use crate::table;
use crate::time::Inputs;
use crate::world::{World, scaled};

/// How often it is looked at here, and for how long that is watched.
const INTERVAL: &str = "1s";
const WATCHED: Duration = Duration::from_secs(15);

/// How long redaction is measured.
const REDACTED_FOR: Duration = Duration::from_millis(300);

/// The time to redact the texts of a pass, about fifty, with the values of the example and more: 20.
fn redaction() -> Duration {
    let redactor = Redactor::default();
    for number in 0..20 {
        let value = format!("{number:04}-x7Kp2mQz-ea863b245a47f4a0deed25c7faece570");
        redactor.learn(value.as_bytes());
    }
    let text = "machine e2860001c43 in eze is started and its check servicecheck-00-http-8080 \
        passes since 12 s: HTTP GET http://172.19.0.2:8080/healthz: 200 OK Output: ok";
    let start = Instant::now();
    let mut passes = 0_u32;
    while start.elapsed() < REDACTED_FOR {
        for _ in 0..50 {
            drop(black_box(redactor.redact(black_box(text))));
        }
        passes += 1;
    }
    start.elapsed() / passes.max(1)
}

/// Reads, writes, milliseconds of the processor, and the percent of them that redaction takes.
fn tell(report: &mut Report, [reads, writes, milliseconds, percent]: [f64; 4]) {
    let most = Target::AtMost;
    report.alone(("B3", "re-check, Fly", "reads"), reads, most(3.0));
    report.alone(("B3", "re-check, Kubernetes", "writes"), writes, most(0.0));
    report.alone(("B3", "re-check, processor", "ms"), milliseconds, most(1.5));
    report.alone(("B13", "redaction, of a re-check", "%"), percent, most(3.0));
}

/// Measures and prints, with the whole example; gives the targets that were missed.
pub async fn measure(world: &World, report: &mut Report) -> Result<Vec<String>> {
    let run = world.run(scaled(0.0, 1)).await?;
    let inputs = Inputs::read()?;
    for object in &inputs.others {
        run.apply(object.clone()).await?;
    }
    let operator = run.operator(&[("recheck-interval", INTERVAL)]).await?;
    run.go_live(inputs.activation("bench-recheck")).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    run.sim.reset();
    let from = run.recorded()?;
    let before = operator
        .metric("controller_runtime_reconcile_total")
        .await?;
    let busy = operator.processor_time()?;
    tokio::time::sleep(WATCHED).await;
    let busy = operator.processor_time()?.saturating_sub(busy);
    let calls = run.sim.call_counts();
    let after = operator
        .metric("controller_runtime_reconcile_total")
        .await?;
    tokio::time::sleep(Duration::from_millis(700)).await;
    let asked = run.asked(from)?;
    let looks = (after - before).max(1.0);
    let each = |counts: &BTreeMap<String, u64>| {
        let sum: u64 = counts.values().sum();
        sum as f64 / looks
    };
    let per = |counts: &BTreeMap<String, u64>| format!("{:.2}", each(counts));
    let mut missed = Vec::new();
    let redaction = redaction().as_secs_f64() / (busy.as_secs_f64() / looks).max(f64::EPSILON);
    if run.sim.mutations() > 0 {
        missed.push("a re-check of an unchanged activation changes Fly.io".to_owned());
    }
    let milliseconds = busy.as_secs_f64() * 1e3 / looks;
    let figures = [
        each(&calls),
        each(&asked.writes),
        milliseconds,
        redaction * 100.0,
    ];
    tell(report, figures);
    table::print(
        &format!("An unchanged activation, {looks} re-checks"),
        &["what", "each", "target"],
        &[
            vec!["Fly reads".into(), per(&calls), "at most 3".into()],
            vec![
                "Fly changes".into(),
                format!("{:.2}", run.sim.mutations() as f64 / looks),
                "0".into(),
            ],
            vec!["Kubernetes writes".into(), per(&asked.writes), "0".into()],
            vec!["Kubernetes reads".into(), per(&asked.reads), String::new()],
            vec![
                "processor time".into(),
                format!("{:.2} ms", busy.as_secs_f64() * 1e3 / looks),
                String::new(),
            ],
            vec![
                "redaction of 50 texts, of that".into(),
                format!("{:.2} %", redaction * 100.0),
                "at most 3 %".into(),
            ],
        ],
    );
    table::counts("Fly calls of all these re-checks", "call", &calls);
    table::counts("Kubernetes writes of them", "write", &asked.writes);
    table::counts("Kubernetes reads of them", "read", &asked.reads);
    drop(operator);
    Ok(missed)
}
