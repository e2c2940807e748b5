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

    /// What happens when an objective is breached.
    #[serde(default)]
    pub on_breach: OnBreach,
}

fn window() -> Duration {
    Duration::from_hours(72)
}

/// An objective: exactly one of `latency`, `errorRate`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.latency) != has(self.errorRate)").message("exactly one of `latency` and `errorRate` is required"))]
pub struct Objective {
    /// Name of the objective, unique among the objectives.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
    )]
    pub name: String,
    /// A quantile of a histogram must stay below a length of time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// A share of requests must stay below a percentage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_rate: Option<ErrorRate>,
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

api_enum! {
    /// What happens when an objective is breached.
    pub enum OnBreach, strict, default Notify {
        /// An event, a condition and a notification.
        Notify = "Notify",
        /// The same, and the last good release is restored, once.
        RollBack = "RollBack",
    }
}
