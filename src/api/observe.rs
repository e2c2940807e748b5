//! Spec of the phase Observe: the watch after Go-Live.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::duration::Duration;
use super::enumeration::api_enum;
use super::metrics_source::MetricsSource;

/// The watch after Go-Live.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observe {
    /// Who is responsible for this phase: a person or a team. Shown in status, events and notifications.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub owner: Option<String>,

    /// How long the application is watched after Go-Live. Between 1h and 720h. Default: 72h.
    #[serde(default = "window")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1h') && duration(self) <= duration('720h')").message("`window` must be between 1h and 720h"))]
    pub window: Duration,

    /// The source of the metrics.
    #[serde(default)]
    pub source: MetricsSource,

    /// The objectives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub objectives: Vec<Objective>,

    /// Which windows and factors say that the budget of an objective burns.
    #[serde(default)]
    pub burn_rates: BurnRates,

    /// What happens when an objective is breached.
    #[serde(default)]
    pub on_breach: OnBreach,
}

fn window() -> Duration {
    Duration::from_hours(72)
}

/// An objective: exactly one of `latency`, `errorRate`, `gauge`, `availability`, `logs`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.latency), has(self.errorRate), has(self.gauge), has(self.availability), has(self.logs)].filter(x, x).size() == 1").message("exactly one of `latency`, `errorRate`, `gauge`, `availability` and `logs` is required"))]
pub struct Objective {
    /// Name of the objective, unique among the objectives.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
    )]
    pub name: String,
    /// What it means to the people who use the application. Shown wherever the objective is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub description: Option<String>,
    /// How urgent a breach is. Only an objective with Page can be followed by a rollback.
    #[serde(default)]
    pub severity: ObjectiveSeverity,
    /// Fewest events of a window that says anything; with fewer, the objective is Unknown. Lines of a
    /// log have no minimum. Default: 20.
    #[serde(default = "twenty")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub min_events: u32,
    /// A quantile of a histogram must stay below a length of time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// A share of requests must stay below a percentage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_rate: Option<ErrorRate>,
    /// A gauge must stay on one side of a bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gauge: Option<GaugeBound>,
    /// A share of probes from outside must get a good answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability: Option<Availability>,
    /// Lines of the application's log that match a pattern must stay rare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<LogLines>,
}

fn twenty() -> u32 {
    20
}

api_enum! {
    /// How urgent the breach of an objective is.
    pub enum ObjectiveSeverity, strict, default Page {
        /// Somebody looks at it now.
        Page = "Page",
        /// Somebody looks at it in working hours.
        Ticket = "Ticket",
    }
}

/// A quantile of a histogram must stay below a length of time.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    /// Name of the histogram, in seconds, without `_bucket`.
    #[schemars(
        length(min = 1, max = 256),
        regex(pattern = r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")
    )]
    pub metric: String,
    /// Labels that a series must have; values are regular expressions that match the whole label.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    #[x_kube(validation = Rule::new("self.all(k, k.size() <= 128 && self[k].size() <= 256)").message("`selector` must have labels of at most 128 and values of at most 256 characters"))]
    pub selector: BTreeMap<String, String>,
    /// The quantile, in percent. Default: 95.
    #[serde(default = "ninety_five")]
    #[schemars(range(min = 1, max = 99))]
    pub quantile: u32,
    /// The bound. Between 1ms and 1h.
    #[x_kube(validation = Rule::new("duration(self) >= duration('1ms') && duration(self) <= duration('1h')").message("`below` must be between 1ms and 1h"))]
    pub below: Duration,
}

fn ninety_five() -> u32 {
    95
}

/// A share of requests must stay below a percentage.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorRate {
    /// Name of the counter of all requests.
    #[schemars(
        length(min = 1, max = 256),
        regex(pattern = r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")
    )]
    pub metric: String,
    /// Labels that a series must have to count at all; values are regular expressions that match
    /// the whole label.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    #[x_kube(validation = Rule::new("self.all(k, k.size() <= 128 && self[k].size() <= 256)").message("`selector` must have labels of at most 128 and values of at most 256 characters"))]
    pub selector: BTreeMap<String, String>,
    /// Labels that mark an error, such as `{status: "5.."}`.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 8))]
    #[x_kube(validation = Rule::new("self.all(k, k.size() <= 128 && self[k].size() <= 256)").message("`errorSelector` must have labels of at most 128 and values of at most 256 characters"))]
    pub error_selector: BTreeMap<String, String>,
    /// The bound, in percent, such as `1%` or `0.1%`.
    #[schemars(
        length(min = 2, max = 8),
        regex(pattern = r"^[0-9]{1,2}(\.[0-9]{1,4})?%$")
    )]
    pub below: String,
}

/// A gauge must stay on one side of a bound: exactly one of `below`, `above`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.below) != has(self.above)").message("exactly one of `below` and `above` is required"))]
pub struct GaugeBound {
    /// Name of the gauge.
    #[schemars(
        length(min = 1, max = 256),
        regex(pattern = r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")
    )]
    pub metric: String,
    /// Labels that a series must have; values are regular expressions that match the whole label.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    #[x_kube(validation = Rule::new("self.all(k, k.size() <= 128 && self[k].size() <= 256)").message("`selector` must have labels of at most 128 and values of at most 256 characters"))]
    pub selector: BTreeMap<String, String>,
    /// Every value must be less than this, in the unit of the gauge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
    /// Every value must be greater than this, in the unit of the gauge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
}

/// A share of probes from outside, through Fly.io's edge, must get a good answer.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Availability {
    /// Path that is requested, beginning with `/`. Default: `/`.
    #[serde(default = "root")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r#"^/[!-"$-~]*$"#))]
    pub path: String,
    /// Statuses of a good answer. Default: 200.
    #[serde(default = "ok")]
    #[schemars(length(min = 1, max = 16), inner(range(min = 100, max = 599)))]
    pub good: Vec<u16>,
    /// Longest time of a good answer. Between 100ms and 60s. Default: 10s.
    #[serde(default = "ten_seconds")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('100ms') && duration(self) <= duration('60s')").message("`within` must be between 100ms and 60s"))]
    pub within: Duration,
    /// Time between two probes. Between 30s and 1h. Default: 1m.
    #[serde(default = "one_minute")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('30s') && duration(self) <= duration('1h')").message("`interval` must be between 30s and 1h"))]
    pub interval: Duration,
    /// The share of good answers must be more than this, in percent, such as `99%` or `99.5%`.
    #[schemars(
        length(min = 2, max = 8),
        regex(pattern = r"^[0-9]{1,2}(\.[0-9]{1,4})?%$")
    )]
    pub above: String,
}

fn root() -> String {
    "/".to_owned()
}

fn ok() -> Vec<u16> {
    vec![200]
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

fn one_minute() -> Duration {
    Duration::from_mins(1)
}

/// Lines of the application's log at Fly.io that match a pattern must stay rare.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogLines {
    /// The pattern: a regular expression of RE2, looked for anywhere in a line.
    #[schemars(length(min = 1, max = 512))]
    pub pattern: String,
    /// Most lines a minute.
    #[schemars(range(min = 0, max = 100_000))]
    pub per_minute: u32,
}

api_enum! {
    /// Which windows and factors say that the budget of an objective burns.
    pub enum BurnRates, strict, default Standard {
        /// Those of a period of 30 days: 14.4 in 1 h, 6 in 6 h, 3 in a day, 1 in 3 days.
        Standard = "Standard",
        /// Scaled to the window: 14 in 1/672 of it, 7 in 1/112, 2 in 1/28, 1 in 1/7.
        Scaled = "Scaled",
    }
}

api_enum! {
    /// What happens when an objective is breached.
    pub enum OnBreach, strict, default Notify {
        /// An event, a condition and a notification.
        Notify = "Notify",
        /// The same, and the last good release is restored, once.
        RollBack = "RollBack",
    }
}
