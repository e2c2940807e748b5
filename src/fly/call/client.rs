//! What all calls of the process share: connections, rate limits, base URLs, refusals of tokens.
//!
//! Rules that hold for every call:
//! - A token is sent only to the configured base URLs; redirects are not followed.
//! - Each attempt has a time limit and each call a deadline, which includes waiting for the limiter.
//! - Reads that fail transiently are sent up to three times; changes are sent once.
//! - Bodies are read up to a limit. Bodies, headers and tokens are never logged.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use jiff::Timestamp;
use tokio::time::Instant;
use url::Url;

use super::claimed::ClaimedApp;
use super::limit::Limiter;
use super::memo::Memo;
use super::narrow::AppToken;
use crate::clock::ServerClock;
use crate::fly::token::{Surface, Token};
use crate::net::public_address::PublicResolver;
use crate::net::tls;

/// Base URLs of Fly.io. Set by the operator's flags, never by a field of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Machines API, `https://api.machines.dev`.
    pub machines: String,
    /// GraphQL, logs and Prometheus, `https://api.fly.io`.
    pub api: String,
    /// Releases, organizations and managed Postgres, `https://api.fly.io`.
    pub uiex: String,
    /// Image registry, `https://registry.fly.io`.
    pub registry: String,
}

impl Default for Endpoints {
    fn default() -> Self {
        Self {
            machines: "https://api.machines.dev".to_owned(),
            api: "https://api.fly.io".to_owned(),
            uiex: "https://api.fly.io".to_owned(),
            registry: "https://registry.fly.io".to_owned(),
        }
    }
}

/// Called after every attempt, for metrics. Must not block.
pub type Observer = Arc<dyn Fn(&Observation) + Send + Sync>;

/// Called before every change: whether this process may still make changes (it leads, and is not
/// stopping). `Err` is the reason why not. Must not block.
pub type Gate = Arc<dyn Fn() -> std::result::Result<(), String> + Send + Sync>;

/// How calls are made.
#[derive(Clone)]
pub struct HttpOptions {
    /// PEM file of certificates that are trusted in addition to the system's. `SSL_CERT_FILE`
    /// applies as well.
    pub ca_file: Option<PathBuf>,
    /// Time limits of calls.
    pub limits: TimeLimits,
    /// How long refusals of a token count as soft.
    pub auth_soft_for: Duration,
    /// Number of refusals before they can be hard.
    pub auth_soft_count: u32,
    /// Base URLs of registry mirrors, by the domain that they replace. Mirrors may have any
    /// address; all other registries must be on the public Internet.
    pub registries: BTreeMap<String, String>,
    /// How many times Fly.io's published rate limits calls may be sent: more than once only for
    /// organizations to which Fly.io grants that.
    pub raised_limits: NonZeroU32,
    /// Called after every attempt.
    pub observer: Option<Observer>,
    /// Called before every change.
    pub gate: Option<Gate>,
    /// The time by which certificates are valid, and by which times of Fly.io are judged before its first
    /// response.
    pub clock: ServerClock,
}

/// Time limits of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeLimits {
    /// Time to open a connection.
    pub connect: Duration,
    /// Time limit of one attempt of a read.
    pub read: Duration,
    /// Time limit of a whole read, with its retries and its wait for the limiter.
    pub read_deadline: Duration,
    /// Time limit of a change, from sending to the last byte of the response.
    pub change: Duration,
    /// Longest wait of a change for the limiter.
    pub change_queue: Duration,
}

impl Default for TimeLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            read: Duration::from_secs(10),
            read_deadline: Duration::from_secs(30),
            change: Duration::from_secs(60),
            change_queue: Duration::from_secs(30),
        }
    }
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            ca_file: None,
            limits: TimeLimits::default(),
            auth_soft_for: Duration::from_secs(60),
            auth_soft_count: 3,
            registries: BTreeMap::new(),
            raised_limits: NonZeroU32::MIN,
            observer: None,
            gate: None,
            clock: ServerClock::of_kubernetes(),
        }
    }
}

impl fmt::Debug for HttpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpOptions")
            .field("ca_file", &self.ca_file)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// One attempt of one call, for metrics.
#[derive(Clone, Debug)]
pub struct Observation {
    /// Method and path template, such as `GET /v1/apps/{app}`. Their number is bounded.
    pub endpoint: &'static str,
    /// HTTP status; `None` without a response.
    pub status: Option<u16>,
    /// Class of the error (`Class::as_str`); `None` when it succeeded.
    pub class: Option<&'static str>,
    /// From sending to the last byte of the response.
    pub duration: Duration,
    /// Time spent waiting for the limiter.
    pub limited: Duration,
}

/// Why no client can be created.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A base URL cannot be used.
    #[error("base URL {url} cannot be used: {reason}; give scheme, host and port only")]
    BaseUrl {
        /// The URL.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] tls::SetupError),
}

/// Connections to Fly.io and rate limits. One per process; clones share everything.
#[derive(Clone)]
pub struct Fly {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) http: Http,
    /// For hosts that a user names: connects to public addresses only.
    pub(crate) guarded: GuardedHttp,
    pub(crate) registries: BTreeMap<String, Url>,
    pub(crate) limiter: Limiter,
    pub(crate) memo: Memo,
    pub(crate) options: HttpOptions,
    pub(crate) bases: Bases,
    /// The clock of Fly.io.
    pub(crate) clock: ServerClock,
    tokens: Mutex<HashMap<String, Arc<Refusals>>>,
}

pub(crate) type Http =
    hyper_util::client::legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

pub(crate) type GuardedHttp =
    hyper_util::client::legacy::Client<HttpsConnector<HttpConnector<PublicResolver>>, Full<Bytes>>;

pub(crate) struct Bases {
    machines: Url,
    api: Url,
    uiex: Url,
    registry: Url,
}

/// The client of Fly.io with one token. Cheap to create and to clone.
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
    pub(crate) token: Token,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) deadline: Option<Instant>,
    /// Used in place of `token` where it suffices.
    pub(crate) app_token: Option<Arc<AppToken>>,
    /// The app whose rate limits it spends; those of its token otherwise.
    pub(crate) claimed: Option<Arc<ClaimedApp>>,
}

impl Fly {
    /// Sets up connections; opens none yet.
    pub fn new(
        endpoints: Endpoints,
        options: HttpOptions,
    ) -> std::result::Result<Self, SetupError> {
        let bases = Bases {
            machines: base(&endpoints.machines)?,
            api: base(&endpoints.api)?,
            uiex: base(&endpoints.uiex)?,
            registry: base(&endpoints.registry)?,
        };
        let tls = tls::config(options.ca_file.as_deref(), &options.clock)?;
        let registries = options
            .registries
            .iter()
            .map(|(domain, url)| Ok((domain.clone(), base(url)?)))
            .collect::<std::result::Result<_, SetupError>>()?;
        let mut connector = HttpConnector::new();
        prepare(&mut connector, &options);
        // HTTP/1.1 only: a thousand long polls over one HTTP/2 connection would exceed its
        // limit of concurrent streams.
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls.clone())
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let mut guarded = HttpConnector::new_with_resolver(PublicResolver);
        prepare(&mut guarded, &options);
        let guarded = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .enable_http1()
            .wrap_connector(guarded);
        Ok(Self {
            shared: Arc::new(Shared {
                http: pool().build(connector),
                guarded: pool().build(guarded),
                registries,
                limiter: Limiter::raised(options.raised_limits),
                memo: Memo::default(),
                options,
                bases,
                clock: ServerClock::new("Fly.io"),
                tokens: Mutex::default(),
            }),
        })
    }

    /// Fly.io's time, for everything that is compared with times of Fly.io.
    pub fn now(&self) -> Timestamp {
        self.shared.now()
    }

    /// A client with this token. All clients of one token share its count of refusals.
    pub fn client(&self, token: Token) -> Client {
        let mut tokens = self
            .shared
            .tokens
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if tokens.len() > 4096 {
            tokens.retain(|_, refusals| Arc::strong_count(refusals) > 1);
        }
        let refusals = tokens
            .entry(token.fingerprint().to_owned())
            .or_default()
            .clone();
        Client {
            shared: self.shared.clone(),
            token,
            refusals,
            deadline: None,
            app_token: None,
            claimed: None,
        }
    }
}

impl Shared {
    fn now(&self) -> Timestamp {
        let known = self.clock.known();
        known.unwrap_or_else(|| self.options.clock.now())
    }
}

impl fmt::Debug for Fly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fly").finish_non_exhaustive()
    }
}

impl Client {
    /// The same client with a deadline for all calls (that of a reconcile). A change that would
    /// probably not end in time is not sent.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// The same client, using this app-scoped token wherever it suffices.
    #[must_use]
    pub fn with_app_token(mut self, token: Arc<AppToken>) -> Self {
        self.app_token = Some(token);
        self
    }

    /// Fly.io's time: see [`Fly::now`].
    pub fn now(&self) -> Timestamp {
        self.shared.now()
    }

    /// The same client, spending the rate limits of this app.
    #[must_use]
    pub fn with_claimed_app(mut self, claimed: Arc<ClaimedApp>) -> Self {
        self.claimed = Some(claimed);
        self
    }

    /// The token.
    pub fn token(&self) -> &Token {
        &self.token
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

impl Bases {
    pub(crate) fn of(&self, surface: Surface) -> &Url {
        match surface {
            Surface::Machines => &self.machines,
            Surface::Graphql | Surface::Logs => &self.api,
            Surface::Uiex => &self.uiex,
            Surface::Registry => &self.registry,
        }
    }
}

/// Refusals of a token, by API (401) or path (403): how many, and since when.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    counts: Mutex<HashMap<String, (u32, Instant)>>,
}

impl Refusals {
    /// Counts a refusal; returns whether it is hard.
    pub(crate) fn refused(&self, key: &str, now: Instant, options: &HttpOptions) -> bool {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() > 1024 {
            counts.clear();
        }
        let (count, since) = counts.entry(key.to_owned()).or_insert((0, now));
        *count = count.saturating_add(1);
        *count >= options.auth_soft_count && now.duration_since(*since) >= options.auth_soft_for
    }

    /// The token was accepted: forgets its refusals.
    pub(crate) fn accepted(&self, keys: [&str; 2]) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if !counts.is_empty() {
            for key in keys {
                counts.remove(key);
            }
        }
    }
}

fn prepare<R>(connector: &mut HttpConnector<R>, options: &HttpOptions) {
    connector.set_connect_timeout(Some(options.limits.connect));
    connector.set_nodelay(true);
    connector.set_keepalive(Some(Duration::from_secs(30)));
    connector.enforce_http(false);
}

fn pool() -> hyper_util::client::legacy::Builder {
    let mut builder = hyper_util::client::legacy::Client::builder(TokioExecutor::new());
    builder
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(30))
        .pool_max_idle_per_host(64)
        .http1_max_headers(100);
    builder
}

/// Parses a base URL, which must be an origin: no path, no query, no credentials.
fn base(url: &str) -> std::result::Result<Url, SetupError> {
    let refuse = |reason: &str| SetupError::BaseUrl {
        url: url.to_owned(),
        reason: reason.to_owned(),
    };
    let parsed = Url::parse(url).map_err(|source| refuse(&source.to_string()))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(refuse("its scheme is neither https nor http"));
    }
    if !parsed.has_host() {
        return Err(refuse("it has no host"));
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(SetupError::BaseUrl {
            url: parsed.host_str().unwrap_or_default().to_owned(),
            reason: "it has credentials".to_owned(),
        });
    }
    if !matches!(parsed.path(), "" | "/") || parsed.query().is_some() {
        return Err(refuse("it has a path or a query"));
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_base_url_is_an_origin_and_nothing_more() {
        assert!(base("https://api.machines.dev").is_ok());
        assert!(base("http://127.0.0.1:8080/").is_ok());
        for wrong in [
            "",
            "api.fly.io",
            "ftp://x",
            "https://u:p@x",
            "https://x/y",
            "https://x?y=1",
        ] {
            assert!(base(wrong).is_err(), "{wrong}");
        }
        let message = base("https://u:secret@x").unwrap_err().to_string();
        assert!(!message.contains("secret"), "{message}");
    }

    #[test]
    fn a_refusal_is_hard_only_after_enough_of_them_over_enough_time() {
        let options = HttpOptions::default();
        let refusals = Refusals::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!refusals.refused("a", at(0), &options));
        assert!(!refusals.refused("a", at(1), &options));
        assert!(
            !refusals.refused("a", at(59), &options),
            "three, but too soon"
        );
        assert!(
            !refusals.refused("b", at(60), &options),
            "another surface counts by itself"
        );
        assert!(refusals.refused("a", at(60), &options));
        refusals.accepted(["a", "c"]);
        assert!(
            !refusals.refused("a", at(61), &options),
            "one success forgives"
        );
    }

    #[tokio::test]
    async fn clients_of_one_token_share_its_refusals() {
        let fly = Fly::new(Endpoints::default(), HttpOptions::default()).unwrap();
        let a = fly.client(Token::parse("t").unwrap());
        let b = fly.client(Token::parse("Bearer t").unwrap());
        let other = fly.client(Token::parse("u").unwrap());
        assert!(Arc::ptr_eq(&a.refusals, &b.refusals));
        assert!(!Arc::ptr_eq(&a.refusals, &other.refusals));
    }

    #[test]
    fn an_unusable_ca_file_is_named() {
        let options = HttpOptions {
            ca_file: Some("/nonexistent/ca.pem".into()),
            ..HttpOptions::default()
        };
        let error = Fly::new(Endpoints::default(), options)
            .unwrap_err()
            .to_string();
        assert!(error.contains("/nonexistent/ca.pem"), "{error}");
    }
}
