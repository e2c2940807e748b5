//! The vendors as a program: prints one line when it is ready and runs until it is told to end.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use vendors::channels::Channel;
use vendors::{Options, Vendors};

/// Meta, Mercado Pago, Airbnb and Booking.com on loopback.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Args {
    /// Where the vendors listen; with a port of 0, each on one of its own.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where control listens.
    #[arg(long, default_value = "127.0.0.1:0")]
    control_listen: SocketAddr,
    /// The address that the names of applications stand for.
    #[arg(long)]
    edge: Option<SocketAddr>,
    /// Authorities that sign the certificates of applications. Our own is added to this file, so that
    /// whoever trusts it trusts the vendors too.
    #[arg(long)]
    ca_file: Option<PathBuf>,
    /// Factor on the pauses between tries of a delivery: 1 is as in reality.
    #[arg(long, default_value_t = 0.001)]
    scale: f64,
    /// Write the addresses as shell exports to this file.
    #[arg(long)]
    env_file: Option<PathBuf>,
    /// Keep running when standard input ends.
    #[arg(long)]
    ignore_stdin: bool,
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
    let authorities = match &args.ca_file {
        Some(path) => std::fs::read_to_string(path)?,
        None => String::new(),
    };
    let vendors = Vendors::start(Options {
        listen: args.listen,
        control_listen: args.control_listen,
        authorities: authorities.clone(),
        edge: args.edge,
        scale: args.scale,
    })
    .await?;
    if let Some(path) = &args.ca_file {
        std::fs::write(path, authorities + vendors.ca_pem())?;
    }
    if let Some(path) = &args.env_file {
        let mut text = String::new();
        for (key, value) in variables(&vendors) {
            writeln!(text, "export {key}='{value}'")?;
        }
        // Whole or not at all, for whoever waits for the file.
        let partial = path.with_extension("partial");
        std::fs::write(&partial, text)?;
        std::fs::rename(partial, path)?;
    }
    println!(
        "vendors are ready: graph={} mercado-pago={} channels={} control={}",
        vendors.graph_url(),
        vendors.mercado_pago_url(),
        vendors.channels_url(),
        vendors.control_url()
    );
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = stdin_ends(), if !args.ignore_stdin => {}
    }
    Ok(())
}

/// Addresses, and what an owner has from the vendors: tokens, ids, and the addresses of calendars.
fn variables(vendors: &Vendors) -> Vec<(&'static str, String)> {
    let world = vendors.state().world();
    let calendar = |channel, listing: &str| {
        let path = world.channels.path(channel, listing).unwrap_or_default();
        format!("{}{path}", vendors.channels_url())
    };
    let (meta, seller) = (&world.meta, &world.mercado_pago);
    let first = |tokens: &[String]| tokens.first().cloned().unwrap_or_default();
    let meta_tokens: Vec<String> = meta.tokens.iter().map(|t| t.value.clone()).collect();
    vec![
        ("META_GRAPH_URL", vendors.graph_url()),
        ("META_TOKEN", first(&meta_tokens)),
        ("META_WABA_ID", meta.waba_id.clone()),
        ("META_PHONE_NUMBER_ID", meta.phone_number_id.clone()),
        ("MERCADO_PAGO_API_URL", vendors.mercado_pago_url()),
        ("MERCADO_PAGO_TOKEN", first(&seller.tokens)),
        ("AIRBNB_CALENDAR_URL", calendar(Channel::Airbnb, "1001")),
        ("BOOKING_CALENDAR_URL", calendar(Channel::Booking, "2002")),
        ("CHANNELS_ADDRESS", vendors.channels_address().to_string()),
        ("VENDORS_CONTROL_URL", vendors.control_url()),
    ]
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
