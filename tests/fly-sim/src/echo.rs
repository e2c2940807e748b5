//! A small web server to run as a machine. It listens where the simulator tells it to.

mod other;
mod pages;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::StatusCode;
use tokio::net::{TcpListener, UdpSocket};
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
    /// Answers every request with this status.
    #[arg(long)]
    answer: Option<u16>,
    /// Has this header `Location` in those answers.
    #[arg(long)]
    location: Option<String>,
    /// Does not speak HTTP: sends back every byte.
    #[arg(long)]
    tcp: bool,
    /// Sends this at the beginning of a connection of `--tcp`.
    #[arg(long, default_value = "")]
    greeting: String,
    /// Does not speak TCP: sends back every datagram.
    #[arg(long)]
    udp: bool,
    /// Speaks gRPC, by HTTP/2 without TLS.
    #[arg(long)]
    grpc: bool,
    /// Answers this path, and every other one with 404.
    #[arg(long)]
    only: Option<String>,
    /// Leads everybody to its page for signing in.
    #[arg(long)]
    login: bool,
    /// Serves the files of this directory.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Writes each request to this file.
    #[arg(long)]
    journal: Option<PathBuf>,
    /// Counts requests in the Redis of `REDIS_URL`.
    #[arg(long)]
    redis: bool,
    /// Listens on this address instead of the machine's own.
    #[arg(long)]
    listen: Option<IpAddr>,
    /// Listens only after this many milliseconds.
    #[arg(long, default_value_t = 0)]
    listen_after_ms: u64,
    /// Redirects requests that did not come by HTTPS, as Rails does with `force_ssl`.
    #[arg(long)]
    force_ssl: bool,
    /// Refuses requests for other hosts than those with this end, as Django does with
    /// `ALLOWED_HOSTS`.
    #[arg(long)]
    allowed_host: Option<String>,
}

/// What it asks of a request before it looks at it.
#[derive(Clone)]
struct Demands {
    force_ssl: bool,
    allowed_host: Option<String>,
}

/// Refuses a request for another host, or one that did not come by HTTPS.
async fn demand(State(demands): State<Demands>, request: Request, next: Next) -> Response {
    let header = |request: &Request, name: &str| {
        let value = request.headers().get(name);
        let value = value.and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let host = header(&request, "host");
    let proto = header(&request, "x-forwarded-proto");
    let is_allowed = demands.allowed_host.as_deref().is_none_or(|end| {
        let name = host
            .rsplit_once(':')
            .map_or(host.as_str(), |(name, _)| name);
        name.ends_with(end)
    });
    if !is_allowed {
        return (StatusCode::BAD_REQUEST, "<h1>Bad Request (400)</h1>").into_response();
    }
    if demands.force_ssl && proto != "https" {
        let location = format!("https://{host}{}", request.uri().path());
        let page = "<html><body>You are being redirected.</body></html>";
        return (
            StatusCode::MOVED_PERMANENTLY,
            [("location", location)],
            page,
        )
            .into_response();
    }
    next.run(request).await
}

/// The pages of the shape that was asked for, if one was.
async fn shape(args: &Args) -> Result<Option<Router>, Box<dyn std::error::Error + Send + Sync>> {
    Ok(if let Some(status) = args.answer {
        Some(pages::always(status, args.location.clone()))
    } else if let Some(path) = &args.only {
        Some(pages::only(path))
    } else if args.login {
        Some(pages::login())
    } else if let Some(dir) = &args.dir {
        Some(pages::files(dir.clone()))
    } else if let Some(path) = &args.journal {
        let told = |error| format!("cannot open {}: {error}", path.display());
        Some(pages::journal(path).map_err(told)?)
    } else if args.redis {
        let url = std::env::var("REDIS_URL").map_err(|_| "REDIS_URL is not set")?;
        Some(pages::redis(&url).await?)
    } else {
        None
    })
}

/// The pages for tests.
fn plain(healthy: bool) -> Router {
    let healthy = Arc::new(AtomicBool::new(healthy));
    let id = std::env::var("FLY_MACHINE_ID").unwrap_or_default();
    Router::new()
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
        .with_state(healthy)
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
    tokio::time::sleep(Duration::from_millis(args.listen_after_ms)).await;
    let own = std::env::var("FLY_SIM_BIND_IP").ok();
    let own = own.and_then(|ip| ip.parse().ok());
    let ip = args.listen.or(own);
    let ip: IpAddr = ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    if args.udp {
        return Ok(other::udp(UdpSocket::bind((ip, args.port)).await?).await?);
    }
    let pages = shape(&args).await?;
    let listener = TcpListener::bind((ip, args.port)).await?;
    if args.tcp {
        return Ok(other::tcp(listener, args.greeting).await?);
    }
    if args.grpc {
        return Ok(other::grpc(listener).await?);
    }
    let demands = Demands {
        force_ssl: args.force_ssl,
        allowed_host: args.allowed_host,
    };
    let router = pages.unwrap_or_else(|| {
        let demanded = axum::middleware::from_fn_with_state(demands, demand);
        plain(!args.unhealthy).layer(demanded)
    });
    println!("echo listens on {ip}:{}", args.port);
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
