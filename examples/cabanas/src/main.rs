//! The program `cabanas`: the service, its release command, and what an exec in the machine runs.

use std::process::ExitCode;
use std::time::Duration;

use cabanas::config::{self, Config, ConfigError, DEFAULT_SHUTDOWN_GRACE_SECONDS, DatabaseConfig};
use cabanas::database::{Database, chain};
use cabanas::server::{self, Ending};
use cabanas::visitors::{Guests, Schedule, Shape, Spell, Visitors};
use cabanas::{calendar, hello, migrate, schema, telemetry};
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

/// Exit code of a process that was killed by signal 9, as a shell reports it.
const KILLED: u8 = 137;

/// Cabin reservations.
///
/// Configuration comes from the environment; examples/cabanas/README.md lists the variables.
#[derive(Parser)]
#[command(name = "cabanas", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve HTTP until SIGINT or SIGTERM (the default).
    Serve,
    /// Bring the database schema to what this version needs: the release command.
    Migrate {
        /// Take migrations back until the schema is at this number.
        #[arg(long, value_name = "NUMBER")]
        down_to: Option<i32>,
    },
    /// Print `ok` and exit 0 if the database answers and its schema is current.
    DbCheck,
    /// Print the bearer token with which SOURCE may import its calendar.
    IcalToken {
        /// Name of the channel, as in the import request.
        source: String,
    },
    /// Serve a page, health, readiness and metrics, without database, Redis and secrets.
    Hello,
    /// Send requests like those of guests to a service with `CABANAS_REHEARSAL=true`, until SIGINT or SIGTERM.
    Traffic(Box<Traffic>),
}

#[derive(Args)]
struct Traffic {
    /// Address of the service, such as `https://sist-cabanas-mvp.fly.dev`.
    url: http::Uri,
    /// Connect to this address instead of resolving the name.
    #[arg(long, value_name = "ADDR:PORT")]
    connect: Option<std::net::SocketAddr>,
    /// Requests a second.
    #[arg(long, default_value_t = 5.0, value_name = "COUNT")]
    per_second: f64,
    /// Share of voice messages, in percent.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(..=100), value_name = "PERCENT")]
    audio: u64,
    /// Share of requests that fail, in hundredths of a percent: 50 is 0.5 %.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=10_000), value_name = "COUNT")]
    errors_per_10_000: u64,
    /// Median and 95th percentile of text, in milliseconds.
    #[arg(long, default_value = "80,400", value_name = "MEDIAN,P95")]
    text_time: Shape,
    /// Median and 95th percentile of voice messages, in milliseconds.
    #[arg(long, default_value = "400,2000", value_name = "MEDIAN,P95")]
    audio_time: Shape,
    /// More guests, again and again: seconds, and how many times as many.
    #[arg(long, value_parser = Spell::burst, value_name = "EVERY,LENGTH,TIMES")]
    burst: Option<Spell>,
    /// No guests, again and again: seconds.
    #[arg(long, value_parser = Spell::silence, value_name = "EVERY,LENGTH")]
    silence: Option<Spell>,
    /// End after this many seconds.
    #[arg(long = "for", value_name = "SECONDS")]
    time: Option<f64>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    telemetry::start();
    let result = match Arguments::parse().command.unwrap_or(Command::Serve) {
        Command::Serve => serve().await,
        Command::Migrate { down_to } => run_migrations(down_to).await,
        Command::DbCheck => db_check().await,
        Command::IcalToken { source } => ical_token(&source),
        Command::Hello => serve_hello().await,
        Command::Traffic(traffic) => send(*traffic).await,
    };
    result.unwrap_or_else(|error| {
        tracing::error!(error = %chain(error.as_ref()), "cannot go on");
        ExitCode::FAILURE
    })
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

async fn serve() -> Result<ExitCode, Failure> {
    let config = Config::from_env(env)?;
    let faults = config.faults.clone();
    if faults.does_not_start {
        tracing::error!("cannot start: the switch does-not-start is on");
        return Ok(ExitCode::FAILURE);
    }
    tracing::info!(app = config.app, version = config.version, "starting");
    let grace = config.shutdown_grace;
    let told = signals()?;
    let running = server::start(config).await?;
    let ending = server::run(
        running,
        grace,
        faults.exits_after,
        faults.out_of_memory,
        told,
    )
    .await;
    Ok(end(ending))
}

async fn serve_hello() -> Result<ExitCode, Failure> {
    let faults = env("CABANAS_FAULT").unwrap_or_default().parse()?;
    let router = hello::router(
        config::app(&env),
        config::version(&env),
        &faults,
        config::rehearsal(&env)?,
    );
    let told = signals()?;
    let listener = server::listen(config::bind(&env)?, config::port(&env)?).await?;
    let running = server::serve(listener, router)?;
    let grace = Duration::from_secs(DEFAULT_SHUTDOWN_GRACE_SECONDS);
    let ending = server::run(
        running,
        grace,
        faults.exits_after,
        faults.out_of_memory,
        told,
    )
    .await;
    Ok(end(ending))
}

fn end(ending: Ending) -> ExitCode {
    match ending {
        Ending::Drained => {
            tracing::info!("stopped, every request was answered");
            ExitCode::SUCCESS
        }
        Ending::CutOff => {
            tracing::warn!("stopped, some requests were cut off; a longer kill_timeout helps");
            ExitCode::SUCCESS
        }
        Ending::ExitsAfter => {
            tracing::error!("exiting: the switch exits-after is on");
            ExitCode::FAILURE
        }
        Ending::OutOfMemory => {
            // Plain text, like the kernel's: a killed process writes no JSON.
            println!("Out of memory");
            ExitCode::from(KILLED)
        }
    }
}

async fn run_migrations(down_to: Option<i32>) -> Result<ExitCode, Failure> {
    let config = DatabaseConfig::from_env(env)?;
    let migrated = match down_to {
        None => migrate::up(&config).await?,
        Some(number) => migrate::down(&config, number).await?,
    };
    let number = |schema: Option<i32>| schema.unwrap_or(0);
    let (from, to) = (number(migrated.from), number(migrated.to));
    tracing::info!(from, to, "migrations done");
    Ok(ExitCode::SUCCESS)
}

/// What an exec in the machine runs: short, and clear about what is wrong.
async fn db_check() -> Result<ExitCode, Failure> {
    let config = DatabaseConfig::from_env(env)?;
    let database = Database::new(&config.database_url, config.faults.no_database)?;
    database.ping().await?;
    let applied = database.applied_schema().await?;
    let wanted = schema::wanted(&config.version);
    if !schema::current(applied, wanted) {
        let applied = applied.unwrap_or(0);
        let text = format!(
            "the schema is at {applied}, this version needs {wanted}; run: cabanas migrate"
        );
        return Err(text.into());
    }
    println!("ok");
    Ok(ExitCode::SUCCESS)
}

/// Sends guests, and prints what became of them.
async fn send(traffic: Traffic) -> Result<ExitCode, Failure> {
    let visitors = Visitors::new(traffic.url, traffic.connect)?;
    let guests = Guests {
        text: traffic.text_time,
        audio: traffic.audio_time,
        audio_percent: traffic.audio,
        errors_per_10_000: traffic.errors_per_10_000,
    };
    let schedule = Schedule {
        per_second: traffic.per_second,
        burst: traffic.burst,
        silence: traffic.silence,
    };
    let told = signals()?;
    let time = traffic.time.filter(|time| (0.0..1e9).contains(time));
    let stop = async {
        match time {
            Some(time) => tokio::select! {
                () = told => {}
                () = tokio::time::sleep(Duration::from_secs_f64(time)) => {}
            },
            None => told.await,
        }
    };
    let count = visitors.run(&guests, &schedule, stop).await;
    println!("{}", serde_json::to_string(&*count)?);
    Ok(ExitCode::SUCCESS)
}

fn ical_token(source: &str) -> Result<ExitCode, Failure> {
    let salt = env("ICS_SALT").ok_or(ConfigError::Missing(vec!["ICS_SALT"]))?;
    println!("{}", calendar::import_token(&salt.into(), source));
    Ok(ExitCode::SUCCESS)
}

/// Resolves on SIGINT, which Fly sends first, or SIGTERM. Listening begins with the call, so that a
/// signal during the start is not lost.
fn signals() -> std::io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        let name = tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        };
        tracing::info!(signal = name, "stopping");
    })
}
