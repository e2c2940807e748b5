//! A small web server to run as a machine. It listens where the simulator tells it to.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::middleware::Next;
use axum::response::{AppendHeaders, IntoResponse, Response};
use axum::routing::{get, post};
use http::StatusCode;
use tokio::io::AsyncWriteExt;
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

/// Sends back every byte of every connection.
async fn tcp(listener: TcpListener, greeting: String) -> std::io::Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        let greeting = greeting.clone();
        tokio::spawn(async move {
            stream.write_all(greeting.as_bytes()).await?;
            let (mut read, mut write) = stream.split();
            tokio::io::copy(&mut read, &mut write).await
        });
    }
}

/// Answers every request alike.
fn always(status: u16, location: Option<String>) -> Router {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Router::new().fallback(async move || {
        let location = location.iter().map(|to| ("location", to.clone()));
        (status, AppendHeaders(location.collect::<Vec<_>>()), "echo")
    })
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
    let listener = TcpListener::bind((ip, args.port)).await?;
    if args.tcp {
        return Ok(tcp(listener, args.greeting).await?);
    }
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
        .layer(axum::middleware::from_fn_with_state(
            Demands {
                force_ssl: args.force_ssl,
                allowed_host: args.allowed_host,
            },
            demand,
        ))
        .with_state(healthy);
    let router = match args.answer {
        Some(status) => always(status, args.location),
        None => router,
    };
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
