//! Spec of the phase SmokeTest: the proof that the application is live.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::duration::Duration;
use super::enumeration::api_enum;

/// The proof, from the public edge, that the application is live.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SmokeTest {
    /// Who is responsible for this phase: a person or a team. Shown in status, events and notifications.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub owner: Option<String>,

    /// Time within which the phase must succeed. Until then a check that fails is tried again, and the
    /// activation is in progress: an application may need time to start. Between 10s and 24h.
    /// Default: 5m.
    #[serde(default = "deadline")]
    #[x_kube(validation = super::deadline_rule())]
    pub deadline: Duration,

    /// How often a live application is proven from the edge again. When absent, at every recheck of
    /// the operator, and never while all its machines are stopped by Fly.io's proxy
    /// (`auto_stop_machines`): a proof wakes them, and each start is billed. When set, at this
    /// interval, also while they are stopped. Between 30s and 24h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('30s') && duration(self) <= duration('24h')").message("`interval` must be between 30s and 24h"))]
    pub interval: Option<Duration>,

    /// The checks; all must pass. When absent, they follow from the fly.toml. With a service on HTTPS:
    /// `homepage` (`/`) and `health` (the path of each of its own HTTP checks); a status of 2xx, 3xx,
    /// 401, 403, 404 or 405 passes, because it shows that the application answers. With gRPC there
    /// (`h2_backend`): `grpc`, a call to its health service. For each other TCP port a connection through
    /// the edge, with a request where it speaks HTTP. Where nothing can be reached from outside (no service, UDP,
    /// no public address), and with an empty list, the machines are the proof: they run steadily,
    /// with their own checks passing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub checks: Option<Vec<Check>>,
}

impl Default for SmokeTest {
    fn default() -> Self {
        Self {
            owner: None,
            deadline: deadline(),
            interval: None,
            checks: None,
        }
    }
}

fn deadline() -> Duration {
    Duration::from_mins(5)
}

/// One check: exactly one of `http`, `metrics`, `tcp`, `database`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.http), has(self.metrics), has(self.tcp), has(self.database)].filter(x, x).size() == 1").message("exactly one of `http`, `metrics`, `tcp` and `database` is required"))]
#[x_kube(validation = Rule::new("self.consecutiveSuccess <= self.count").message("`consecutiveSuccess` must not be greater than `count`"))]
#[x_kube(validation = Rule::new("self.failureLimit < self.count").message("`failureLimit` must be less than `count`"))]
pub struct Check {
    /// Name of the check, unique among the checks.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')").message("`name` must have lower-case letters, digits and `-` only, and begin and end with a letter or digit"))]
    pub name: String,

    /// A request over HTTPS to the app's public address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpCheck>,

    /// A page of metrics in Prometheus' text format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetricsCheck>,

    /// A TCP connection to the app's public address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpCheck>,

    /// A query on the database, run inside a machine of the app. Needs `provision.postgres`; without
    /// it the check is skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseCheck>,

    /// Time for one try. Between 1s and 2m. Default: 10s.
    #[serde(default = "timeout")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('2m')").message("`timeout` must be between 1s and 2m"))]
    pub timeout: Duration,

    /// Pause between two tries. Between 1s and 10m. Default: 5s.
    #[serde(default = "interval")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('10m')").message("`interval` must be between 1s and 10m"))]
    pub interval: Duration,

    /// How many tries a round has at most. Default: 5.
    #[serde(default = "count")]
    #[schemars(range(min = 1, max = 1000))]
    pub count: u32,

    /// How many tries of a round may fail before the check has failed. A live application is then no
    /// longer live. Before Go-Live, failed rounds are repeated until the `deadline` of the phase.
    /// Default: 4.
    #[serde(default = "failure_limit")]
    #[schemars(range(min = 0, max = 999))]
    pub failure_limit: u32,

    /// How many tries in a row must pass before the check has passed. Default: 1.
    #[serde(default = "consecutive_success")]
    #[schemars(range(min = 1, max = 100))]
    pub consecutive_success: u32,

    /// Other proofs of the same, in this order, when the check itself cannot run (not when it
    /// fails). The status shows which one passed. A `database` check without this field falls back
    /// to the requests of the checks `ready` (else `health`) and `metrics`, if there are such. A
    /// fallback of a `database` check counts only when its answer is about the database: it has what
    /// `bodyContains`, `header` or `contains` requires, or names a database itself, and does not come
    /// from a cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub fallbacks: Option<Vec<Fallback>>,
}

/// Another proof of the same: exactly one of `http`, `metrics`, `tcp`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.http), has(self.metrics), has(self.tcp)].filter(x, x).size() == 1").message("exactly one of `http`, `metrics` and `tcp` is required").reason(Reason::FieldValueRequired))]
pub struct Fallback {
    /// A request over HTTPS to the app's public address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpCheck>,
    /// A page of metrics in Prometheus' text format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetricsCheck>,
    /// A TCP connection to the app's public address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpCheck>,
}

fn timeout() -> Duration {
    Duration::from_secs(10)
}

fn interval() -> Duration {
    Duration::from_secs(5)
}

fn count() -> u32 {
    5
}

fn failure_limit() -> u32 {
    4
}

fn consecutive_success() -> u32 {
    1
}

impl Check {
    /// A check of this name with the defaults and no request yet.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.into(),
            http: None,
            metrics: None,
            tcp: None,
            database: None,
            timeout: timeout(),
            interval: interval(),
            count: count(),
            failure_limit: failure_limit(),
            consecutive_success: consecutive_success(),
            fallbacks: None,
        }
    }
}

api_enum! {
    /// The methods that a check may use: those that change nothing.
    pub enum Method, strict, default Get {
        /// Requests the page.
        Get = "GET",
        /// Requests the headers only.
        Head = "HEAD",
    }
}

/// A request over HTTPS to the app's public address.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.bodyContains) || self.method == 'GET'").message("`bodyContains` needs the method 'GET'"))]
pub struct HttpCheck {
    /// Path and query, beginning with `/`.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self.startsWith('/')").message("`path` must begin with `/`, such as `/healthz`: it is a path on the app itself, not a URL of another host"))]
    #[x_kube(validation = Rule::new("!self.contains('#')").message("`path` must have no `#`: what follows it is never sent to a server; write `%23` for the character itself"))]
    #[x_kube(validation = Rule::new("self.matches('^[!-~]*$')").message("`path` must not have spaces or non-ASCII characters: percent-encode them, such as `%20` for a space"))]
    pub path: String,

    /// Method of the request.
    #[serde(default)]
    pub method: Method,

    /// Statuses that pass. Redirects within the app are followed up to three times, unless their
    /// status is in this list. Default: 200.
    #[serde(default = "ok")]
    #[schemars(length(min = 1, max = 16), inner(range(min = 100, max = 599)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub status: Vec<u16>,

    /// Text that the body must contain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub body_contains: Option<String>,

    /// A header that the response must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<ExpectedHeader>,
}

impl HttpCheck {
    /// GET of this path, 200 expected.
    #[must_use]
    pub fn get(path: &str) -> Self {
        Self {
            path: path.into(),
            method: Method::Get,
            status: ok(),
            body_contains: None,
            header: None,
        }
    }
}

fn ok() -> Vec<u16> {
    vec![200]
}

/// A header that a response must have.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExpectedHeader {
    /// Name of the header; upper and lower case are the same.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9-]+$')").message("`name` must be the name of a header, such as `Content-Type`: letters, digits and `-`"))]
    pub name: String,
    /// Text that the header's value must contain. Without it, any value passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub contains: Option<String>,
}

/// A page of metrics in Prometheus' text format.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricsCheck {
    /// Path of the metrics. Default: `/metrics`.
    #[serde(default = "metrics_path")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self.startsWith('/')").message("`path` must begin with `/`, such as `/healthz`: it is a path on the app itself, not a URL of another host"))]
    #[x_kube(validation = Rule::new("!self.contains('#')").message("`path` must have no `#`: what follows it is never sent to a server; write `%23` for the character itself"))]
    #[x_kube(validation = Rule::new("self.matches('^[!-~]*$')").message("`path` must not have spaces or non-ASCII characters: percent-encode them, such as `%20` for a space"))]
    pub path: String,

    /// Names of metrics that the page must have. Without it, any valid page with a sample passes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256)))]
    #[x_kube(validation = Rule::new("self.all(m, m.matches('^[a-zA-Z_:][a-zA-Z0-9_:]*$'))").message("`contains` must have names of metrics, such as `http_requests_total`, without labels"))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub contains: Vec<String>,
}

impl Default for MetricsCheck {
    fn default() -> Self {
        Self {
            path: metrics_path(),
            contains: Vec::new(),
        }
    }
}

fn metrics_path() -> String {
    "/metrics".into()
}

/// A TCP connection to the app's public address.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TcpCheck {
    /// The public port. Where the fly.toml has the handler `tls`, TLS is part of the check. It passes
    /// when the connection stays open for a moment, or the application sends something.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
}

/// A query on the database, run inside a machine of the app.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseCheck {
    /// The command and its arguments; it passes when it exits with 0. It runs without a shell and
    /// sees the app's environment. Default: the first of these that the image has: `<program>
    /// db-check`, if the fly.toml's release command is a subcommand of a program that knows
    /// `db-check`; `psql "$DATABASE_URL" -c 'select 1'`; `pg_isready -d "$DATABASE_URL"`. One that
    /// runs and fails is a failure. When the image has none of them, the fallbacks decide.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 1024)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub command: Vec<String>,
}
