//! The memory of the operator's process with no, one and many live activations.

use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt, TryStreamExt};

use crate::Result;
use crate::table;
use crate::world::{Operator, Run, World, scaled, smallest};

/// How long all of them may take to be live.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// Activations that are applied at once.
const AT_ONCE: usize = 16;

/// Measures and prints. Every activation is the smallest one with one machine, and every machine
/// is a real process, `cabanas hello`.
pub async fn measure(world: &World) -> Result<()> {
    let many = crate::number("BENCH_OBJECTS", 1000)?;
    let mut options = scaled(0.0, 1);
    // No latencies, and health checks as seldom as on Fly.io: this is about memory.
    options.timer_scale = 1.0;
    options.rate_limits = false;
    let run = world.run(options).await?;
    let operator = run.operator(&[]).await?;
    let mut rows = Vec::new();
    for objects in [0, 1, many] {
        let started = Instant::now();
        stream::iter(0..objects)
            .map(Ok::<_, Box<dyn std::error::Error + Send + Sync>>)
            .try_for_each_concurrent(AT_ONCE, |number| {
                run.apply(smallest(&format!("bench-{number:04}")))
            })
            .await?;
        all_live(&run, objects, started).await?;
        let took = started.elapsed();
        let kib = at_rest(&operator).await?;
        rows.push(vec![
            objects.to_string(),
            format!("{:.1} MiB", kib as f64 / 1024.0),
            table::seconds(took),
        ]);
    }
    table::print(
        "Memory of the operator (PSS)",
        &["live activations", "memory", "until all were live"],
        &rows,
    );
    drop(operator);
    Ok(())
}

async fn all_live(run: &Run<'_>, wanted: usize, started: Instant) -> Result<()> {
    loop {
        let live = run.live().await?;
        if live >= wanted {
            return Ok(());
        }
        if started.elapsed() > LIMIT {
            return Err(format!("{live} of {wanted} are live after {LIMIT:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// The memory once it has stood still for a while, in KiB.
async fn at_rest(operator: &Operator) -> Result<u64> {
    let mut before = operator.memory()?;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let now = operator.memory()?;
        if now.abs_diff(before) * 200 < before {
            return Ok(now);
        }
        before = now;
    }
    Ok(before)
}
