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

    /// Time within which the phase must succeed. Between 10s and 24h. Default: 5m.
    #[serde(default = "deadline")]
    #[x_kube(validation = super::deadline_rule())]
    pub deadline: Duration,

    /// The checks; all must pass. When absent and there is a fly.toml: `health` (the path of the
    /// fly.toml's first HTTP check, else `/api/v1/healthz`), `ready` (`/api/v1/readyz`), `metrics`
    /// (`/metrics`), `homepage` (`/`), and `database` when the activation has one. Without a
    /// fly.toml: `homepage`, and `database` when the activation has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub checks: Option<Vec<Check>>,
}

impl Default for SmokeTest {
    fn default() -> Self {
        Self {
            owner: None,
            deadline: deadline(),
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
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
    )]
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

    /// A query on the database, run inside a machine of the app.
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

    /// How many tries there are at most. Default: 5.
    #[serde(default = "count")]
    #[schemars(range(min = 1, max = 1000))]
    pub count: u32,

    /// How many tries may fail before the check has failed. Default: 4.
    #[serde(default = "failure_limit")]
    #[schemars(range(min = 0, max = 999))]
    pub failure_limit: u32,

    /// How many tries in a row must pass before the check has passed. Default: 1.
    #[serde(default = "consecutive_success")]
    #[schemars(range(min = 1, max = 100))]
    pub consecutive_success: u32,

    /// Other proofs of the same, in this order, when the check itself cannot run (not when it
    /// fails). The status shows which one passed. A `database` check without this field falls back
    /// to the requests of the checks `ready` (else `health`) and `metrics`.
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
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^/[!-~]*$"))]
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
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9-]+$"))]
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
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^/[!-~]*$"))]
    pub path: String,

    /// Names of metrics that the page must have. Without it, any valid page with a sample passes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(
            length(min = 1, max = 256),
            regex(pattern = r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")
        )
    )]
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
    /// The public port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
}

/// A query on the database, run inside a machine of the app.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseCheck {
    /// The command and its arguments; it passes when it exits with 0. It runs without a shell and
    /// sees the app's environment. Default: the first of these that exits with 0: `<program>
    /// db-check`, if the fly.toml's release command is a subcommand of a program; `psql
    /// "$DATABASE_URL" -c 'select 1'`; `pg_isready -d "$DATABASE_URL"`. When none does, the
    /// fallbacks decide, because an image need not have any of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 1024)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub command: Vec<String>,
}
