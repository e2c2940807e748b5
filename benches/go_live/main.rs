//! `make bench`: what a go-live costs, measured with a real API server, a simulated Fly.io with
//! its rate limits, real PostgreSQL and Redis, and the operator as a process of its own. Prints
//! tables and writes nothing.
//!
//! Variables: `BENCH_ROUNDS` (pairs of runs that count, 5), `BENCH_REAL=1` (one pair more with
//! Fly's real latencies: minutes; or another factor), `BENCH_OBJECTS` (activations for the memory,
//! 1000), `BENCH_ONLY` (`time`, `recheck`, `memory` or `strategies`), and `BENCH_TRACE` (a file that gets the
//! operator's log with every call). `strategies` is measured only when it is named: it takes
//! minutes. `BENCH_STRATEGY` picks one of them, `BENCH_SCALE` is the share of Fly's latencies (1), and `FLYCTL` names a flyctl to compare with.

mod floor;
mod memory;
mod recheck;
mod strategies;
mod table;
mod time;
mod world;

use std::error::Error;
use std::process::ExitCode;

use crate::world::World;

/// What a bench ends with.
type Result<T> = std::result::Result<T, BenchError>;

/// Whatever goes wrong.
type BenchError = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let ended = runtime
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(run()));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let only = std::env::var("BENCH_ONLY").unwrap_or_default();
    let wanted = |name: &str| only.is_empty() || only == name;
    let world = World::start().await?;
    if wanted("time") {
        time::measure(&world).await?;
    }
    if wanted("recheck") {
        recheck::measure(&world).await?;
    }
    if wanted("memory") {
        memory::measure(&world).await?;
    }
    if only == "strategies" {
        strategies::measure(&world).await?;
    }
    Ok(())
}

/// A number from the environment.
fn number(variable: &str, default: usize) -> Result<usize> {
    match std::env::var(variable) {
        Ok(text) => Ok(text
            .parse()
            .map_err(|error| format!("{variable} must be a number: {error}"))?),
        Err(_) => Ok(default),
    }
}
