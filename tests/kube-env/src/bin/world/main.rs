//! The local world: a control plane, a simulated Fly.io with real PostgreSQL and Redis, and the
//! operator under its own rights, in the background. `make up`, `make down` and `make demo` are
//! this program.

mod demo;
mod down;
mod edge;
mod fault;
mod install;
mod integrations;
mod out;
mod parts;
mod place;
mod progress;
mod state;
mod supervise;
mod up;
mod watch;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::fault::Fault;
use crate::place::Place;

/// Starts and ends local worlds, on loopback only.
#[derive(Parser)]
#[command(name = "world")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a world in the background and wait until it is ready. In one that runs, start an operator
    /// that has ended.
    Up(Which),
    /// End a world and remove everything of it.
    Down(Name),
    /// Say what runs.
    Status(Name),
    /// Start a world if there is none, take examples/sist-cabanas.yaml live in it, and watch it for 72 hours
    /// of its time.
    Demo(Which),
    /// Be the process that holds the others. Started by `up`.
    #[command(hide = true)]
    Supervise(Which),
}

/// Which world.
#[derive(Args, Clone)]
struct Name {
    /// Name of the world; several can run side by side.
    #[arg(long, env = "WORLD", default_value = "default")]
    name: String,
}

/// Which world, and on which cluster.
#[derive(Args, Clone)]
struct Which {
    #[command(flatten)]
    name: Name,
    /// Use the cluster of this file instead of a control plane of our own. Golive's definitions
    /// and roles are installed there; the operator and Fly.io stay local.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// How long things take at the simulated Fly.io: off, real, or a factor. A real go-live takes
    /// minutes, most of it for PostgreSQL.
    #[arg(long, default_value = "0.1", value_name = "FACTOR")]
    latency: String,
    /// How many times faster the time of a watch runs from Go-Live on: with 2160, 72 hours take two
    /// minutes.
    #[arg(long, default_value_t = 1, value_name = "TIMES")]
    time_scale: u32,
}

fn main() -> ExitCode {
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(fault) => {
            let _ = writeln!(std::io::stderr(), "world: {}", fault.report());
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Fault> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| Fault::because("cannot start the runtime", source))?;
    let place = |name: &Name| Place::of(&name.name);
    runtime.block_on(async {
        match command {
            Command::Up(which) => up::up(&place(&which.name)?, &which)
                .await
                .map(|_| ExitCode::SUCCESS),
            Command::Down(name) => down::down(&place(&name)?).await.map(|()| ExitCode::SUCCESS),
            Command::Status(name) => up::status(&place(&name)?),
            Command::Demo(which) => demo::demo(&place(&which.name)?, &which).await,
            Command::Supervise(which) => supervise::supervise(&place(&which.name)?, &which)
                .await
                .map(|()| ExitCode::SUCCESS),
        }
    })
}
