//! The watch after Go-Live: how far it is, its objectives, and what happened meanwhile.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::CheckResult;
use crate::api::enumeration::api_enum;

api_enum! {
    /// How far a watch is, and how it ended.
    pub enum WatchState, lenient, default Running {
        /// The application is being watched.
        Running = "Running",
        /// It ended: every objective held over the whole window, and nothing critical happened.
        Stabilized = "Stabilized",
        /// It ended: an objective did not hold, or something critical happened.
        NotStabilized = "NotStabilized",
        /// It ended, and too little was observed to say either.
        Inconclusive = "Inconclusive",
    }
}

api_enum! {
    /// What follows from the breach of an objective.
    pub enum WatchDecision, lenient, default WouldRollBack {
        /// The release that serves is rolled back.
        RollBack = "RollBack",
        /// It would be, if `onBreach` were RollBack.
        WouldRollBack = "WouldRollBack",
        /// There is nothing to roll back to.
        NothingToRestore = "NothingToRestore",
        /// The rollback was refused.
        Refused = "Refused",
    }
}

api_enum! {
    /// What happened to an application while it was watched.
    pub enum IncidentKind, lenient, default MachineCrashed {
        /// The program of a machine ended by itself.
        MachineCrashed = "MachineCrashed",
        /// A machine ran out of memory.
        OutOfMemory = "OutOfMemory",
        /// The program of a machine ends again and again.
        RestartLoop = "RestartLoop",
        /// A check of a machine fails.
        CheckFailing = "CheckFailing",
        /// A release was rolled back.
        RolledBack = "RolledBack",
        /// A certificate expires soon, or has expired.
        CertificateExpiring = "CertificateExpiring",
        /// A database is gone at Fly.io with its data.
        DatabaseLost = "DatabaseLost",
    }
}

/// The watch after Go-Live.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WatchStatus {
    /// How far it is, and how it ended.
    #[serde(default)]
    pub state: WatchState,
    /// When it began: at Go-Live, or when what is watched changed so that it began anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// Which watch of the Activation it is, counted from 1.
    #[serde(default)]
    pub number: i64,
    /// Why it began anew. Empty for the first.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub cause: String,
    /// What follows from a breach. Absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<WatchDecision>,
    /// The same in words, with the command to roll back by hand.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub follows: String,
    /// What was found at its end, with the numbers.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub verdict: String,
}

/// One objective.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectiveStatus {
    /// Its name.
    #[schemars(length(max = 64))]
    pub name: String,
    /// What it means to people, from the spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub description: Option<String>,
    /// How urgent a breach is: Page or Ticket.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 16))]
    pub severity: String,
    /// Whether it is met now: over the watch so far; a gauge by its last value, lines of a log over the last
    /// five minutes.
    #[serde(default)]
    pub result: CheckResult,
    /// The reason, for programs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub reason: String,
    /// What was found.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
    /// What was measured over the watch so far, with its unit.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub value: String,
    /// What it is compared with.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub bound: String,
    /// Whether the comparison is by a count. Otherwise the value is an estimate between two bounds of a
    /// histogram.
    #[serde(default)]
    pub exact: bool,
    /// How many events, values or lines were counted.
    #[serde(default)]
    pub events: i64,
    /// How much of the watch so far was observed, in percent.
    #[serde(default)]
    pub observed_percent: i64,
    /// What is left of the budget of bad events; less than 0 % is a breach. Empty for a gauge, and where
    /// nothing is known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub budget_left: String,
    /// How urgently its budget burns: Page or Ticket; empty if it does not, or nothing is known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 16))]
    pub burning: String,
    /// How fast its budget burns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["window".into()]))]
    pub burn_rates: Vec<BurnRateStatus>,
    /// The same figures for the release that serves alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseFigures>,
    /// When the result or the reason changed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// When the figures were taken. They move all the time: they are written when the standing changes, and
    /// at most every five minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_at: Option<Time>,
}

/// A pair of windows in which a budget may burn.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BurnRateStatus {
    /// Length of the long window, such as `1h`.
    #[schemars(length(max = 16))]
    pub window: String,
    /// Length of the short window, such as `5m`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 16))]
    pub short_window: String,
    /// The budget burns when both windows reach this factor.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 16))]
    pub factor: String,
    /// How fast it burns in the long window; empty when that is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 32))]
    pub burn: String,
    /// How fast it burns in the short window; empty when that is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 32))]
    pub short_burn: String,
    /// Whether it burns in both.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub burning: bool,
    /// The long window is cut at the begin of the watch.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

/// Figures of one release.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseFigures {
    /// Its number.
    pub number: i64,
    /// Whether the objective is met in it.
    #[serde(default)]
    pub result: CheckResult,
    /// What was measured.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub value: String,
    /// How many events were counted.
    #[serde(default)]
    pub events: i64,
}

/// Something that happened to the application while it was watched.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IncidentStatus {
    /// What happened.
    #[serde(default)]
    pub kind: IncidentKind,
    /// What it happened to: the id of a machine, a hostname, a release.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub subject: String,
    /// When, by the clock of who reported it, or when it was first seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// Whether the application cannot count as stabilized after it.
    #[serde(default)]
    pub critical: bool,
    /// The evidence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub message: String,
    /// How often it was seen.
    #[serde(default)]
    pub count: i64,
}
