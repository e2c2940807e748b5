//! `make bench`: what a go-live costs, measured with a real API server, a simulated Fly.io with
//! its rate limits, real PostgreSQL and Redis, and the operator as a process of its own. Prints
//! tables and writes nothing.
//!
//! The last table has all figures that have a target, beside the peers that were measured in turns.
//! A small size for two cores: `BENCH_ROUNDS=3 BENCH_REAL=0 BENCH_FLEET=40 BENCH_WATCHED=60
//! BENCH_WATCH_SECONDS=60 BENCH_TIME_SCALE=10 BENCH_OBJECTS=100`.
//!
//! Ends with exit code 1, and with a line for each, when a target was missed.
//!
//! Variables: `BENCH_ROUNDS` (pairs of runs that count, 5; one for real latencies),
//! `BENCH_REAL=0` (not also with Fly's real latencies, which takes five minutes; or another
//! factor), `BENCH_OBJECTS` (activations for the memory, 1000), `BENCH_TARPITS` and `BENCH_BROKEN`
//! (objects of a neighbour that makes trouble, 64 and 300), `BENCH_FLEET` (objects of a fleet beside
//! `peer-go`, 100), `BENCH_WATCHED` (activations that are watched, 1000; with `BENCH_WATCH_SECONDS` and
//! `BENCH_TIME_SCALE`, 660 and 1), `BENCH_ONLY` (`time`, `recheck`, `seed`, `fleet`, `watched`, `memory`,
//! `isolation` or `strategies`), `BENCH_OPERATOR` (the program of another version, to
//! compare with), and `BENCH_TRACE` (a file that gets the operator's log with every call).
//! `strategies` is measured only when it is named: it takes many minutes. `BENCH_STRATEGY` picks one
//! of them, `BENCH_SCALE` is the share of Fly's latencies (1), and `FLYCTL` names a flyctl to
//! compare with.

mod fleet;
mod floor;
mod isolation;
mod memory;
mod recheck;
mod report;
mod seed;
#[path = "../stats.rs"]
mod stats;
mod strategies;
mod table;
mod time;
mod watched;
mod world;

use std::error::Error;
use std::process::ExitCode;

use crate::report::Report;
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
    let (mut missed, mut report, before) = (Vec::new(), Report::default(), report::load());
    if wanted("time") {
        missed.extend(time::measure(&world, &mut report).await?);
    }
    if wanted("recheck") {
        missed.extend(recheck::measure(&world, &mut report).await?);
    }
    if wanted("seed") {
        seed::measure(&world, &mut report).await?;
    }
    if wanted("fleet") {
        fleet::measure(&world, &mut report).await?;
    }
    if wanted("watched") {
        watched::measure(&world, &mut report).await?;
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
    missed.extend(report.print((before, report::load())));
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
