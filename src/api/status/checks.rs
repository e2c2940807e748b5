//! The results of checks: preflight, smoke test, integrations, objectives.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::enumeration::api_enum;

api_enum! {
    /// Whether a failed check stops the activation.
    pub enum Severity, lenient, default Blocking {
        /// A failure stops the activation before anything is written.
        Blocking = "Blocking",
        /// A failure is reported, and the activation goes on.
        Warning = "Warning",
    }
}

api_enum! {
    /// The outcome of a check.
    pub enum CheckResult, lenient, default Unknown {
        /// It passed.
        Passed = "Passed",
        /// It failed.
        Failed = "Failed",
        /// It failed, and only warns.
        Warning = "Warning",
        /// It was skipped.
        Skipped = "Skipped",
        /// It could not run, or has not run yet.
        Unknown = "Unknown",
    }
}

/// One check of the preflight.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PreflightResult {
    /// Which check.
    #[schemars(length(max = 64))]
    pub check: String,
    /// Whether a failure stops the activation.
    #[serde(default)]
    pub severity: Severity,
    /// The outcome.
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
    /// What a person must do when it did not pass.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub next_action: String,
    /// Why it is skipped, from the spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub justification: Option<String>,
}

/// One check of the smoke test.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SmokeTestResult {
    /// Which check.
    #[schemars(length(max = 64))]
    pub check: String,
    /// The outcome.
    #[serde(default)]
    pub result: CheckResult,
    /// What passed: the kind of the check itself, or of the fallback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub path: Option<String>,
    /// The reason, for programs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub reason: String,
    /// What was found: status, length, class of error; never the text of a page.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
    /// Number of tries.
    #[serde(default)]
    pub tries: u32,
    /// Duration of the last try, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<i64>,
    /// When it was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

/// One integration.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IntegrationStatus {
    /// Its name, such as `whatsapp`.
    #[schemars(length(max = 64))]
    pub name: String,
    /// The outcome of its checks.
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
    /// When the outcome changed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

/// One objective.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectiveStatus {
    /// Its name.
    #[schemars(length(max = 64))]
    pub name: String,
    /// Whether it is met.
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
    /// What was measured, with its unit.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub value: String,
    /// When the outcome changed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}
