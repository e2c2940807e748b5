//! The release that serves, the history of releases, and the last request for a rollback.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::enumeration::api_enum;

/// A release.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseStatus {
    /// Number of the release within this Activation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<i64>,
    /// Fly.io's number of the release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// The image as the spec names it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub image: String,
    /// Digest of the image.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub digest: String,
    /// The first twelve digits of the digest.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 16))]
    pub digest_short: String,
    /// Hash of the machines' configuration.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 71))]
    pub config_hash: String,
    /// When it was rolled out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

api_enum! {
    /// How a release ended.
    pub enum HistoryOutcome, lenient, default Unknown {
        /// The outcome is not known to this version of Golive.
        Unknown = "Unknown",
        /// Every machine ran it and was healthy.
        Succeeded = "Succeeded",
        /// It was rolled back: an earlier release serves instead.
        RolledBack = "RolledBack",
        /// It failed and was left as it is.
        Failed = "Failed",
        /// Its release command was started, and another release followed before the command ended.
        Superseded = "Superseded",
        /// Its release command was started and has not ended.
        Begun = "Begun",
    }
}

/// One release of the past, and how it ended.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// Number of the release within this Activation: what `kubectl golive rollback --to` takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<i64>,
    /// Fly.io's number of the release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// The image as the spec named it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub image: String,
    /// The first twelve digits of the digest.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 16))]
    pub digest_short: String,
    /// Hash of the machines' configuration.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 71))]
    pub config_hash: String,
    /// How it ended.
    #[serde(default)]
    pub outcome: HistoryOutcome,
    /// Who requested it: the field manager that last wrote the spec, and who approved the gate
    /// before Deploy.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub by: String,
    /// Why: the annotation `kubernetes.io/change-cause` at that time, or why it was rolled back.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub why: String,
    /// Differences from the release before it: names, never values.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub changes: String,
    /// Number of the release that was restored instead, when it was rolled back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restores: Option<i64>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

api_enum! {
    /// The result of a request for a rollback.
    pub enum RollbackState, lenient, default Waiting {
        /// It has not been decided yet.
        Waiting = "Waiting",
        /// The earlier release is restored, or is being restored; the phase Deploy shows it.
        Accepted = "Accepted",
        /// It was refused; nothing was changed.
        Refused = "Refused",
    }
}

/// A request for a rollback, and its result.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RollbackStatus {
    /// Name of the ActivationApproval that requests it.
    #[schemars(length(max = 253))]
    pub request: String,
    /// Who requested it, as the API server authenticated.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub by: String,
    /// Number of the release to restore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<i64>,
    /// The result.
    #[serde(default)]
    pub state: RollbackState,
    /// Why it was refused, or what it waits for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
    /// When it was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}
