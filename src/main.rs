//! The program `golive`: runs the operator, or prints and writes what is generated from its types.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use golive::controller::operator::{self, Failure};
use golive::process::kube_client::Connection;
use golive::process::metrics::Metrics;
use golive::process::settings::{Cli, Command, Settings};
use golive::{causes, clock, process::telemetry};
use nix::sys::resource::{Resource, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code after a second signal to stop.
const STOPPED_TWICE: i32 = 130;

fn main() -> ExitCode {
    // rustls panics at the first connection if two providers are linked and none is installed. An
    // error means that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match Cli::parse().command {
        Command::Run(settings) => operate(*settings),
        Command::Ready { timeout, url } => ready(&url, timeout),
        Command::Crd => print_crds(),
        Command::Generate { root } => generate(&root),
    }
}

/// Runs the operator until it is stopped.
fn operate(settings: Settings) -> ExitCode {
    keep_memory_private();
    if let Err(error) = telemetry::start(settings.log.format, &settings.log.filter, clock::wall) {
        return complain(&Failure::from(error));
    }
    telemetry::log_panics();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start the runtime");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(run(settings));
    // Does not wait: work that still runs was cut off on purpose, and after a lost lease the
    // process must end at once.
    runtime.shutdown_background();
    match ended {
        Ok(()) => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            let error = causes::chain(&failure);
            tracing::error!(error, exit_code = failure.exit_code(), "stopped");
            ExitCode::from(failure.exit_code())
        }
    }
}

async fn run(settings: Settings) -> Result<(), Failure> {
    settings.validate()?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        fly_machines_url = %settings.fly.machines_url,
        fly_api_url = %settings.fly.api_url,
        namespaces = ?settings.namespaces.watched,
        own_namespace = settings.namespaces.own,
        recheck_seconds = settings.work.recheck_interval.as_secs(),
        leader_elect = settings.lease.elect,
        "starting"
    );
    let shutdown = CancellationToken::new();
    watch_signals(shutdown.clone());
    let metrics = Metrics::new();
    let clock = clock::ServerClock::of_kubernetes();
    let connection = Connection::infer(&metrics, &clock).await?;
    operator::run(
        settings,
        connection,
        metrics,
        clock,
        shutdown,
        golive::controller::work::work,
    )
    .await
}

/// SIGTERM or SIGINT begins a graceful shutdown; a second one ends the process at once.
fn watch_signals(shutdown: CancellationToken) {
    let signals = signal(SignalKind::terminate()).and_then(|terminate| {
        let interrupt = signal(SignalKind::interrupt())?;
        Ok((terminate, interrupt))
    });
    let (mut terminate, mut interrupt) = match signals {
        Ok(signals) => signals,
        Err(error) => {
            tracing::warn!(%error, "cannot watch for signals; the process can only be killed");
            return;
        }
    };
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        next().await;
        tracing::info!("received a signal to stop");
        shutdown.cancel();
        next().await;
        tracing::warn!("received a second signal; stopping at once");
        std::process::exit(STOPPED_TWICE);
    });
}

/// Disables core dumps, and access by other processes of the same user, because memory holds
/// secrets.
fn keep_memory_private() {
    let no_core = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    #[cfg(target_os = "linux")]
    let no_core = no_core.and(nix::sys::prctl::set_dumpable(false));
    if let Err(error) = no_core {
        let _ = writeln!(
            std::io::stderr(),
            "golive: cannot switch core dumps off: {error}"
        );
    }
}

/// Waits until an operator is ready, and prints what it says.
fn ready(url: &http::Uri, within: Duration) -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(
                std::io::stderr(),
                "golive: cannot start the runtime: {error}"
            );
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(golive::process::ready::wait(url, within)) {
        Ok(text) => {
            let _ = write!(std::io::stdout(), "{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "golive: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print_crds() -> ExitCode {
    let mut out = std::io::stdout().lock();
    for crd in golive::api::crds() {
        let printed = serde_saphyr::to_string(&crd)
            .map_err(std::io::Error::other)
            .and_then(|yaml| write!(out, "---\n{yaml}"));
        if let Err(error) = printed {
            // The reader, such as `head`, has closed the pipe: no failure.
            if error.kind() == std::io::ErrorKind::BrokenPipe {
                break;
            }
            let _ = writeln!(
                std::io::stderr(),
                "golive: cannot print the definitions: {error}"
            );
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn generate(root: &std::path::Path) -> ExitCode {
    match golive::process::generate::write(root) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            let text = causes::chain(&error);
            let _ = writeln!(std::io::stderr(), "golive: {text}");
            ExitCode::FAILURE
        }
    }
}

/// Reports a failure before logging has started.
fn complain(failure: &Failure) -> ExitCode {
    let text = causes::chain(failure);
    let _ = writeln!(std::io::stderr(), "golive: {text}");
    ExitCode::from(failure.exit_code())
}
