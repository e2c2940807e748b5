//! The simulator as a program: prints one line when it is ready and runs until it is told to end.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use fly_sim::platform::PlatformOptions;
use fly_sim::{Images, Latency, Options, OrgSeed, Sim};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

mod echo;

/// Fly.io on loopback.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Directory for files; a temporary one if absent.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Where all of Fly's HTTP surfaces listen.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where control and ledger listen.
    #[arg(long, default_value = "127.0.0.1:0")]
    control_listen: SocketAddr,
    /// Where the edge listens, TLS and plain HTTP on one port.
    #[arg(long, default_value = "127.0.0.1:0")]
    edge_listen: SocketAddr,
    /// An organization and its token, as ORG=TOKEN; repeatable, the first one is the default.
    #[arg(long)]
    token: Vec<String>,
    /// Which local program each image stands for (see images.rs for an example).
    #[arg(long)]
    images: Option<PathBuf>,
    /// How long things take: off, real, or a factor such as 0.01.
    #[arg(long, default_value = "off")]
    latency: String,
    /// Factor on health check intervals and restart back-off; by default that of --latency, at
    /// least 0.02.
    #[arg(long)]
    timer_scale: Option<f64>,
    /// Whether Fly's rate limits are enforced.
    #[arg(long, value_enum, default_value_t = Switch::Off)]
    rate_limits: Switch,
    /// Whether the edge stops idle machines that have autostop.
    #[arg(long, value_enum, default_value_t = Switch::Off)]
    autostop: Switch,
    /// Seed of all repeatable random draws.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Connection string of a superuser of a running PostgreSQL server; without it one is started
    /// when the first database is wanted.
    #[arg(long, env = "FLY_SIM_POSTGRES_URL", hide_env_values = true)]
    postgres_url: Option<String>,
    /// Whether DNS of every hostname points here from the start, so that certificates are issued
    /// without a control call.
    #[arg(long, value_enum, default_value_t = Switch::On)]
    certificates_auto: Switch,
    /// Write the addresses and the token as shell exports to this file.
    #[arg(long)]
    env_file: Option<PathBuf>,
    /// Keep running when standard input ends. Without it, the end of a pipe on standard input
    /// ends the simulator, so that it cannot outlive whoever started it.
    #[arg(long)]
    ignore_stdin: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A small web server to run as a machine: for trying the simulator and for its tests.
    Echo(echo::Args),
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn")),
        )
        .init();
    match args.command {
        Some(Command::Echo(echo)) => echo::run(echo).await,
        None => simulate(args).await,
    }
}

fn scale(text: &str) -> Result<f64, AnyError> {
    match text {
        "off" => Ok(0.0),
        "real" => Ok(1.0),
        factor => match factor.parse::<f64>() {
            Ok(factor) if factor.is_finite() && factor >= 0.0 => Ok(factor),
            _ => Err(format!("--latency is off, real or a factor, not '{factor}'").into()),
        },
    }
}

fn options(args: &Args) -> Result<Options, AnyError> {
    let scale = scale(&args.latency)?;
    let mut options = Options {
        listen: args.listen,
        control_listen: args.control_listen,
        edge_listen: args.edge_listen,
        latency: Latency::real().scaled(scale).seeded(args.seed),
        timer_scale: args.timer_scale.unwrap_or(scale.max(0.02)),
        rate_limits: args.rate_limits == Switch::On,
        autostop: args.autostop == Switch::On,
        edge_patience: Duration::from_secs(3),
        dir: args.dir.clone(),
        agent: true,
        seed: args.seed,
        platform: PlatformOptions {
            postgres_url: args.postgres_url.clone(),
            certificates_auto: args.certificates_auto == Switch::On,
        },
        ..Options::default()
    };
    if let Some(path) = &args.images {
        options.images = Images::read(path)?;
    }
    if !args.token.is_empty() {
        options.orgs.clear();
        for pair in &args.token {
            let (org, token) = pair
                .split_once('=')
                .ok_or_else(|| format!("--token is ORG=TOKEN, not '{pair}'"))?;
            options.orgs.push(OrgSeed::new(org, token));
        }
    }
    Ok(options)
}

/// The trust store of programs in this world: the system's, if there is one, and ours.
fn ca_bundle(sim: &Sim) -> Result<PathBuf, AnyError> {
    const SYSTEM: &[&str] = &[
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
    ];
    let mut bundle = SYSTEM
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok())
        .unwrap_or_default();
    bundle.push_str(&sim.ca_pem());
    let path = std::path::absolute(sim.dir())?.join("ca-bundle.pem");
    std::fs::write(&path, bundle)?;
    Ok(path)
}

fn write_env(path: &Path, sim: &Sim, bundle: &Path) -> Result<(), AnyError> {
    let config_dir = std::path::absolute(sim.core().flyctl_dir())?;
    let token = sim.org_token().unwrap_or_default();
    let url = sim.base_url();
    let mut text = String::new();
    for (key, value) in [
        ("FLY_API_BASE_URL", url.as_str()),
        ("FLY_FLAPS_BASE_URL", &url),
        ("FLY_UIEX_BASE_URL", &url),
        ("FLY_REGISTRY_HOST", url.trim_start_matches("http://")),
        ("FLY_ACCESS_TOKEN", token.as_str()),
        // Where flyctl finds the agent of this world, and where it may write.
        ("FLY_CONFIG_DIR", &config_dir.display().to_string()),
        ("FLY_SEND_METRICS", "0"),
        ("FLY_NO_UPDATE_CHECK", "1"),
        ("FLY_NO_INCIDENTS_CHECK", "1"),
        ("FLY_SIM_CONTROL_URL", &sim.control_url()),
        ("FLY_SIM_EDGE", &sim.edge().to_string()),
        ("FLY_SIM_EDGE_IP", &sim.edge_ip().to_string()),
        ("SSL_CERT_FILE", &bundle.display().to_string()),
        // curl reads this one before the other, and many shells have it set.
        ("CURL_CA_BUNDLE", &bundle.display().to_string()),
    ] {
        writeln!(text, "export {key}='{value}'")?;
    }
    // Whole or not at all, for whoever waits for the file.
    let partial = path.with_extension("partial");
    std::fs::write(&partial, text)?;
    std::fs::rename(partial, path)?;
    Ok(())
}

async fn simulate(args: Args) -> Result<(), AnyError> {
    let sim = Sim::start(options(&args)?).await?;
    let bundle = ca_bundle(&sim)?;
    if let Some(path) = &args.env_file {
        write_env(path, &sim, &bundle)?;
    }
    println!(
        "fly-sim is ready: api={} control={} edge={} ca={}",
        sim.base_url(),
        sim.control_url(),
        sim.edge(),
        bundle.display()
    );
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = stdin_ends(), if !args.ignore_stdin => {}
    }
    sim.stop().await;
    Ok(())
}

/// Ends when standard input is a pipe that its other side has closed.
async fn stdin_ends() {
    use std::os::unix::fs::FileTypeExt;
    let is_pipe = std::fs::metadata("/proc/self/fd/0")
        .is_ok_and(|meta| meta.file_type().is_fifo() || meta.file_type().is_socket());
    if !is_pipe {
        std::future::pending::<()>().await;
    }
    let mut stdin = tokio::io::stdin();
    let mut buffer = [0; 256];
    while matches!(stdin.read(&mut buffer).await, Ok(1..)) {}
}
