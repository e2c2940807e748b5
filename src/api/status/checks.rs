//! The results of checks: preflight, smoke test, integrations.

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

api_enum! {
    /// The state of an integration.
    pub enum IntegrationState, lenient, default Pending {
        /// It has not been checked for the release that serves; the check is under way or due.
        Pending = "Pending",
        /// A person must hand in something first: a Secret, for one.
        Waiting = "Waiting",
        /// It does what its sender needs. Single checks may warn, or be unproven.
        Verified = "Verified",
        /// A check has failed.
        Failed = "Failed",
        /// It could not be asked.
        Unknown = "Unknown",
    }
}

api_enum! {
    /// The result of one check of an integration.
    pub enum IntegrationResult, lenient, default Unknown {
        /// The application does what the sender needs.
        Passed = "Passed",
        /// The application was proven to do something else.
        Failed = "Failed",
        /// It works, and is risky.
        Warned = "Warned",
        /// Nothing shows whether it does.
        Unproven = "Unproven",
        /// A person must hand in something first.
        Waiting = "Waiting",
        /// The question could not be asked. Never a failure.
        Unknown = "Unknown",
    }
}

/// One integration.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IntegrationStatus {
    /// Its name: `whatsapp`, `mercado-pago`, `ical`, or `webhook/` and the name of a webhook.
    #[schemars(length(max = 80))]
    pub name: String,
    /// Its state.
    #[serde(default)]
    pub state: IntegrationState,
    /// The reason, for programs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub reason: String,
    /// What was found.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
    /// What a person must do now, with a command if there is one. Empty if nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub next_action: String,
    /// Who is responsible for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub owner: Option<String>,
    /// When it should be verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
    /// Since when it is verified without a break, for this release and these secrets. The metric
    /// `golive_integration_last_verified_timestamp_seconds` has the time of the last check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_at: Option<Time>,
    /// Number of the release that checks were made on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<i64>,
    /// What the checks belong to, as a hash: the release, the values of the Secrets, the address and
    /// the spec of the integration. With another one they are made again.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub fingerprint: String,
    /// Somebody has requested that it is checked again, and that has not ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub requested: bool,
    /// When the state changed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// The checks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 24))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["id".into()]))]
    pub checks: Vec<IntegrationCheck>,
}

/// One check of an integration.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IntegrationCheck {
    /// Which check, such as `W4`.
    #[schemars(length(max = 16))]
    pub id: String,
    /// Its name, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub name: String,
    /// The result.
    #[serde(default)]
    pub result: IntegrationResult,
    /// Time until the answer, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<i64>,
    /// What was sent and what came back, in one line; never a body or a value.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub evidence: String,
    /// What to change in the application or at the vendor. Empty if nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub change: String,
}
