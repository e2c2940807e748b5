//! The vendors as a program: prints one line when it is ready and runs until it is told to end.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
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
        for (key, value) in [
            ("META_GRAPH_URL", vendors.graph_url()),
            ("MERCADO_PAGO_API_URL", vendors.mercado_pago_url()),
            ("CHANNELS_URL", vendors.channels_url()),
            ("VENDORS_CONTROL_URL", vendors.control_url()),
        ] {
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
