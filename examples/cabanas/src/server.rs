//! The service itself: starts listening, runs until told to stop, and lets running requests finish.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use axum::{Router, middleware};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::cache::Cache;
use crate::calendar;
use crate::config::Config;
use crate::database::{Database, DatabaseError};
use crate::effects;
use crate::feed::{FeedError, Fetcher};
use crate::health;
use crate::metrics::Metrics;
use crate::pages;
use crate::problem::Problem;
use crate::rehearsal;
use crate::reservations;
use crate::traffic::{self, Traffic};
use crate::webhooks::{self, mercadopago, whatsapp};

/// What every request can reach.
pub struct App {
    /// The environment.
    pub config: Config,
    /// PostgreSQL.
    pub database: Database,
    /// Redis.
    pub cache: Cache,
    /// What `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// Set when the service has begun to stop.
    pub draining: AtomicBool,
}

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// `DATABASE_URL` is wrong.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// `REDIS_URL` is wrong.
    #[error(
        "REDIS_URL is not a Redis address; it must look like redis://default:password@host:6379"
    )]
    Redis(#[source] redis::RedisError),
    /// `ICAL_FEEDS` is wrong, or TLS cannot start.
    #[error(transparent)]
    Feeds(#[from] FeedError),
    /// The port is taken, or the address is not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// The listener broke later.
    #[error("the server stopped")]
    Serve(#[source] io::Error),
}

/// How [`Running::stop`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Every request was answered.
    Drained,
    /// Some were still running when the time was over.
    CutOff,
}

/// A service that listens.
pub struct Running {
    address: SocketAddr,
    app: Option<Arc<App>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<io::Result<()>>,
    sync: Option<JoinHandle<()>>,
}

impl Running {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no new connection, lets running requests finish for at most `grace`, and ends.
    pub async fn stop(self, grace: Duration) -> Stopped {
        if let Some(app) = &self.app {
            app.draining.store(true, Ordering::Relaxed);
        }
        if let Some(sync) = &self.sync {
            sync.abort();
        }
        // Refused only when the task has ended by itself; then there is nothing left to stop.
        let _ = self.stop.send(());
        let task = self.task;
        let abort = task.abort_handle();
        match tokio::time::timeout(grace, task).await {
            Ok(_) => Stopped::Drained,
            Err(_) => {
                abort.abort();
                Stopped::CutOff
            }
        }
    }
}

/// Starts the service. It listens at once: whether the database answers is for the health endpoint
/// to say, which is where the platform and people look.
pub async fn start(config: Config) -> Result<Running, StartError> {
    let feeds = calendar::feeds(config.ical_feeds.as_ref())?;
    // Loading the trust anchors takes longer than everything else here: only when needed.
    let fetcher = if feeds.is_empty() {
        None
    } else {
        Some(Fetcher::new()?)
    };
    let faults = &config.faults;
    let metrics = Arc::new(Metrics::new(true, faults));
    let app = Arc::new(App {
        database: Database::new(&config.database_url, faults.no_database)?,
        cache: Cache::new(&config.redis_url).map_err(StartError::Redis)?,
        metrics,
        draining: AtomicBool::new(false),
        config,
    });
    let listener = listen(app.config.bind, app.config.port).await?;
    let mut running = serve(listener, router(Arc::clone(&app)))?;
    let sync = calendar::keep_in_sync(Arc::clone(&app), feeds, fetcher);
    running.sync = Some(tokio::spawn(sync));
    running.app = Some(app);
    Ok(running)
}

/// Serves any routes; see [`crate::hello`].
pub fn serve(listener: TcpListener, router: Router) -> Result<Running, StartError> {
    let address = listener.local_addr().map_err(StartError::Serve)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let told = async move {
        // A dropped sender means that nobody can stop us any more: go on until the process ends.
        if stopped.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let serving = axum::serve(listener, router).with_graceful_shutdown(told);
    let task = tokio::spawn(async move { serving.await });
    tracing::info!(%address, "listening");
    Ok(Running {
        address,
        app: None,
        stop,
        task,
        sync: None,
    })
}

/// Listens on one address, or on all of the machine: IPv6 and IPv4 with one socket where the
/// system can, IPv4 alone where it has no IPv6.
pub async fn listen(bind: Option<IpAddr>, port: u16) -> Result<TcpListener, StartError> {
    let open = |ip: IpAddr| async move {
        let address = SocketAddr::new(ip, port);
        let opened = TcpListener::bind(address).await;
        opened.map_err(|source| StartError::Listen { address, source })
    };
    match bind {
        Some(ip) => open(ip).await,
        None => match open(Ipv6Addr::UNSPECIFIED.into()).await {
            Ok(listener) => Ok(listener),
            Err(StartError::Listen { source, .. }) if source.kind() != io::ErrorKind::AddrInUse => {
                open(Ipv4Addr::UNSPECIFIED.into()).await
            }
            Err(error) => Err(error),
        },
    }
}

fn router(app: Arc<App>) -> Router {
    let traffic = Arc::new(Traffic::new(Arc::clone(&app.metrics), &app.config.faults));
    let large = Router::new()
        .route(
            whatsapp::ROUTE,
            get(whatsapp::verify).post(whatsapp::receive),
        )
        .route(mercadopago::ROUTE, post(mercadopago::receive))
        .layer(DefaultBodyLimit::max(webhooks::MAX_BODY));
    let calendars = Router::new()
        .route(calendar::IMPORT, post(calendar::import))
        .layer(DefaultBodyLimit::max(calendar::MAX_CALENDAR));
    Router::new()
        .route("/", get(pages::homepage))
        .route(health::HEALTHZ, get(health::healthz))
        .route(health::READYZ, get(health::readyz))
        .route(pages::METRICS, get(pages::metrics))
        .route(
            reservations::ROUTE,
            get(reservations::list).post(reservations::create),
        )
        .route(calendar::EXPORT, get(calendar::export))
        .route(calendar::STATUS, get(calendar::status))
        .route(effects::ROUTE, get(effects::show))
        .layer(DefaultBodyLimit::max(64 * 1024))
        .merge(large)
        .merge(calendars)
        .merge(rehearsal::routes(app.config.rehearsal))
        .fallback(|| async { Problem::new(http::StatusCode::NOT_FOUND, "there is nothing here") })
        .layer(middleware::from_fn_with_state(traffic, traffic::pass))
        .with_state(app)
}

/// Why [`run`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Told to, and every request was answered.
    Drained,
    /// Told to, but some requests took longer than the grace.
    CutOff,
    /// The switch `exits-after`.
    ExitsAfter,
    /// The switch `oom`.
    OutOfMemory,
}

/// Runs until `told` resolves or a switch ends it.
pub async fn run(
    running: Running,
    grace: Duration,
    exits_after: Option<Duration>,
    out_of_memory: Option<Duration>,
    told: impl Future<Output = ()>,
) -> Ending {
    tokio::select! {
        () = told => match running.stop(grace).await {
            Stopped::Drained => Ending::Drained,
            Stopped::CutOff => Ending::CutOff,
        },
        () = after(exits_after) => Ending::ExitsAfter,
        () = after(out_of_memory) => Ending::OutOfMemory,
    }
}

async fn after(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}
