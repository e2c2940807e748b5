//! The status of phases, steps and gates, and the plan.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::{condition::ConditionType, enumeration::api_enum};

api_enum! {
    /// The phases of an activation, in order.
    pub enum PhaseName, lenient, default Preflight {
        /// The checks before anything is written to Fly.io.
        Preflight = "Preflight",
        /// Database, Redis, secrets, addresses.
        Provision = "Provision",
        /// Release command, machines, health.
        Deploy = "Deploy",
        /// The proof from the public edge.
        SmokeTest = "SmokeTest",
        /// Webhooks and calendars of third parties.
        Integrations = "Integrations",
        /// The watch after Go-Live.
        Observe = "Observe",
    }
}

impl PhaseName {
    /// The condition that is True when the phase has succeeded.
    #[must_use]
    pub const fn condition(self) -> ConditionType {
        match self {
            Self::Preflight => ConditionType::PreflightPassed,
            Self::Provision => ConditionType::Provisioned,
            Self::Deploy => ConditionType::Deployed,
            Self::SmokeTest => ConditionType::SmokeTested,
            Self::Integrations => ConditionType::IntegrationsHealthy,
            Self::Observe => ConditionType::SloMet,
        }
    }

    /// True for the phases that must succeed before Go-Live.
    #[must_use]
    pub const fn before_live(self) -> bool {
        match self {
            Self::Preflight | Self::Provision | Self::Deploy | Self::SmokeTest => true,
            Self::Integrations | Self::Observe => false,
        }
    }
}

api_enum! {
    /// The state of a phase.
    pub enum PhaseState, lenient, default Pending {
        /// An earlier phase has not succeeded.
        Pending = "Pending",
        /// Work is under way.
        Running = "Running",
        /// Something outside is awaited.
        Waiting = "Waiting",
        /// A person must approve.
        AwaitingApproval = "AwaitingApproval",
        /// All its steps have succeeded.
        Succeeded = "Succeeded",
        /// It has stopped; only a change restarts it.
        Failed = "Failed",
        /// Not requested, or not implemented yet; the reason says which.
        Skipped = "Skipped",
    }
}

api_enum! {
    /// The state of a step.
    pub enum StepState, lenient, default Pending {
        /// A step that it needs has not succeeded.
        Pending = "Pending",
        /// It makes a change.
        Running = "Running",
        /// Something outside is awaited.
        Waiting = "Waiting",
        /// Its result was observed to match the spec.
        Done = "Done",
        /// Not requested.
        Skipped = "Skipped",
        /// It failed and is retried.
        Retrying = "Retrying",
        /// Only a person can help.
        Blocked = "Blocked",
    }
}

api_enum! {
    /// The state of a gate.
    pub enum GateState, lenient, default Pending {
        /// It asks nobody yet: changes are planned only.
        Pending = "Pending",
        /// Approval is requested.
        Requested = "Requested",
        /// Enough people have approved.
        Approved = "Approved",
        /// A person rejected.
        Rejected = "Rejected",
        /// Nobody decided in time.
        Expired = "Expired",
    }
}

/// One phase.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PhaseStatus {
    /// Which phase.
    pub name: PhaseName,
    /// Its state.
    #[serde(default)]
    pub state: PhaseState,
    /// The reason, for programs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub reason: String,
    /// The reason, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
    /// How often it was started.
    #[serde(default)]
    pub starts: u32,
    /// Tries since it was started: 1, and one more for each try of a step that failed.
    #[serde(default)]
    pub attempts: u32,
    /// When it started last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// Its deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
    /// Who is responsible for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub owner: Option<String>,
    /// The gate before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateStatus>,
    /// Its steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 24))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub steps: Vec<StepStatus>,
}

/// One step of a phase.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepStatus {
    /// Which step.
    #[schemars(length(max = 64))]
    pub name: String,
    /// Its state.
    #[serde(default)]
    pub state: StepState,
    /// The reason, for programs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub reason: String,
    /// The reason, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
    /// When it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it was observed to have succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// Tries in a row that failed, counted since the operator started or the plan changed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// When it is tried again, unless something changes before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try_time: Option<Time>,
    /// Why the last try failed; removed when the step succeeds.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub last_error: String,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The gate before a phase.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GateStatus {
    /// Its state.
    #[serde(default)]
    pub state: GateState,
    /// Digest of the plan to decide on.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 71))]
    pub digest: String,
    /// When approval was requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_at: Option<Time>,
    /// When the gate stops waiting; with `onTimeout: Remind`, when it reminds next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// Generation of the object that the request is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// Number of the release that served when approval was requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<i64>,
    /// Fingerprint of the annotations that request a retry or a rotation. A new one asks again when
    /// the release that the gate opened was rolled back.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub attempt: String,
    /// Fingerprint of what is behind the gate and not part of the digest: the integrations. Another one asks
    /// again.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub about: String,
    /// How often `onTimeout: Remind` has reminded.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reminders: u32,
    /// Who has approved this plan.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(max = 256)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub approved_by: Vec<String>,
    /// Who has rejected it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub rejected_by: Option<String>,
}
