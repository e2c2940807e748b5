//! A small web server to run as a machine. It listens where the simulator tells it to.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use http::StatusCode;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// How it behaves.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Port.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Ends by itself after this many milliseconds.
    #[arg(long)]
    exit_after_ms: Option<u64>,
    /// Exit code then.
    #[arg(long, default_value_t = 0)]
    code: i32,
    /// `/healthz` answers 503.
    #[arg(long)]
    unhealthy: bool,
    /// Does not end on SIGINT and SIGTERM.
    #[arg(long)]
    stubborn: bool,
}

/// Runs it.
pub async fn run(args: Args) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    println!("echo starts");
    if let Some(after) = args.exit_after_ms {
        let code = args.code;
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(after)).await;
            std::process::exit(code);
        });
    }
    let ip: IpAddr = std::env::var("FLY_SIM_BIND_IP")
        .ok()
        .and_then(|ip| ip.parse().ok())
        .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let listener = TcpListener::bind((ip, args.port)).await?;
    let healthy = Arc::new(AtomicBool::new(!args.unhealthy));
    let id = std::env::var("FLY_MACHINE_ID").unwrap_or_default();
    let router = Router::new()
        .route("/", get(async move || id))
        .route(
            "/healthz",
            get(async |State(healthy): State<Arc<AtomicBool>>| {
                if healthy.load(Ordering::Relaxed) {
                    (StatusCode::OK, "ok")
                } else {
                    (StatusCode::SERVICE_UNAVAILABLE, "not ok")
                }
            }),
        )
        .route(
            "/healthz/{state}",
            post(
                async |State(healthy): State<Arc<AtomicBool>>, Path(state): Path<bool>| {
                    healthy.store(state, Ordering::Relaxed);
                },
            ),
        )
        .route(
            "/env/{key}",
            get(async |Path(key): Path<String>| {
                std::env::var(key).map_err(|_| StatusCode::NOT_FOUND)
            }),
        )
        .route("/echo", post(async |body: String| body))
        .with_state(healthy);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    axum::serve(listener, router)
        .with_graceful_shutdown(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                println!("echo was asked to end");
                if !args.stubborn {
                    return;
                }
            }
        })
        .await?;
    Ok(())
}
