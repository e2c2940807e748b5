//! `make bench`: what a go-live costs, measured with a real API server, a simulated Fly.io with
//! its rate limits, real PostgreSQL and Redis, and the operator as a process of its own. Prints
//! tables and writes nothing.
//!
//! Ends with exit code 1, and with a line for each, when a target was missed.
//!
//! Variables: `BENCH_ROUNDS` (pairs of runs that count, 5; one for real latencies),
//! `BENCH_REAL=0` (not also with Fly's real latencies, which takes five minutes; or another
//! factor), `BENCH_OBJECTS` (activations for the memory, 1000), `BENCH_TARPITS` and `BENCH_BROKEN`
//! (objects of a neighbour that makes trouble, 64 and 300), `BENCH_ONLY` (`time`, `recheck`,
//! `memory`, `isolation` or `strategies`), `BENCH_OPERATOR` (the program of another version, to
//! compare with), and `BENCH_TRACE` (a file that gets the operator's log with every call).
//! `strategies` is measured only when it is named: it takes many minutes. `BENCH_STRATEGY` picks one
//! of them, `BENCH_SCALE` is the share of Fly's latencies (1), and `FLYCTL` names a flyctl to
//! compare with.

mod floor;
mod isolation;
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
        Ok(missed) if missed.is_empty() => ExitCode::SUCCESS,
        Ok(missed) => {
            for target in missed {
                eprintln!("missed: {target}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures what is wanted, and says which targets were missed.
async fn run() -> Result<Vec<String>> {
    let only = std::env::var("BENCH_ONLY").unwrap_or_default();
    let wanted = |name: &str| only.is_empty() || only == name;
    let world = World::start().await?;
    let mut missed = Vec::new();
    if wanted("time") {
        missed.extend(time::measure(&world).await?);
    }
    if wanted("recheck") {
        missed.extend(recheck::measure(&world).await?);
    }
    if wanted("memory") {
        memory::measure(&world).await?;
    }
    if wanted("isolation") {
        missed.extend(isolation::measure(&world).await?);
    }
    if only == "strategies" {
        missed.extend(strategies::measure(&world).await?);
    }
    Ok(missed)
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
