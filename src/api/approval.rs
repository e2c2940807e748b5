//! `ActivationApproval`: one person's decision at a gate.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{duration::Duration, enumeration::api_enum};

api_enum! {
    /// The decision.
    pub enum Decision, strict {
        /// The phase may begin.
        Approve = "Approve",
        /// The activation stops before the phase.
        Reject = "Reject",
    }
}

api_enum! {
    /// The subject of a decision.
    pub enum DecidedOn, strict {
        /// The gate before anything is created on Fly.io.
        Provision = "Provision",
        /// The gate before machines are created or changed.
        Deploy = "Deploy",
        /// The gate before the proof that ends in Go-Live.
        SmokeTest = "SmokeTest",
        /// The gate before signed requests are sent to the application.
        Integrations = "Integrations",
        /// The gate before the watch begins.
        Observe = "Observe",
        /// No gate: a request to restore the release `toRelease`.
        Rollback = "Rollback",
    }
}

api_enum! {
    /// Whether a decision counts, and if not, why. Every state but `Counts` is final.
    pub enum ApprovalState, lenient, default Superseded {
        /// It counts for the present request of its gate.
        Counts = "Counts",
        /// It was used: it opened the gate, or its rollback was carried out.
        Used = "Used",
        /// It was not needed: the gate was open already.
        NotNeeded = "NotNeeded",
        /// It names another digest than the one that waits for a decision.
        WrongDigest = "WrongDigest",
        /// The Activation has no gate before this phase.
        UnknownGate = "UnknownGate",
        /// There is no Activation of this name.
        ActivationNotFound = "ActivationNotFound",
        /// It was not used within `validFor`.
        Expired = "Expired",
        /// The same person has decided otherwise since, or it was about an earlier request: another
        /// object, generation, plan or release.
        Superseded = "Superseded",
        /// The rollback that it requests was refused.
        Refused = "Refused",
    }
}

/// One person's decision at a gate, or to roll back. It is immutable: to decide otherwise, create another.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "golive.dev",
    version = "v1alpha1",
    kind = "ActivationApproval",
    namespaced,
    status = "ActivationApprovalStatus",
    derive = "PartialEq",
    doc = "ActivationApproval is one person's decision at a gate of an Activation, or to roll it back. The API server proves who made it.",
    category = "fly",
    selectable = ".spec.activation",
    printcolumn(name = "Activation", type_ = "string", json_path = ".spec.activation", description = "The Activation"),
    printcolumn(name = "Gate", type_ = "string", json_path = ".spec.gate", description = "The phase that waits"),
    printcolumn(name = "Decision", type_ = "string", json_path = ".spec.decision", description = "What was decided"),
    printcolumn(name = "Approver", type_ = "string", json_path = ".spec.approver", description = "Who decided"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state", description = "Whether the decision counts, and if not, why"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since the decision"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", description = "What the state means", priority = 1),
    validation = Rule::new("self.spec.gate == 'Rollback' ? has(self.spec.toRelease) && self.spec.decision == 'Approve' : !has(self.spec.toRelease)").message("`toRelease` is required with gate 'Rollback', which can only be approved, and must not be set with any other"),
    validation = Rule::new("self.spec == oldSelf.spec").message("`spec` is immutable: to decide otherwise, create another ActivationApproval")
)]
#[serde(rename_all = "camelCase")]
pub struct ActivationApprovalSpec {
    /// Name of the Activation, in the same namespace.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$")
    )]
    pub activation: String,

    /// The phase that waits, or `Rollback` to request an earlier release.
    pub gate: DecidedOn,

    /// Digest of the plan to decide on: the value of the Activation's
    /// `status.phases[].gate.digest`, or in `status.plan.digest` for a rollback. A changed plan
    /// needs another decision.
    #[schemars(length(min = 1, max = 71))]
    #[x_kube(validation = Rule::new("self.matches('^sha256:[0-9a-f]{64}$')").message("`digest` must be the whole digest, `sha256:` and 64 hexadecimal digits: copy it from the Activation's `status.phases[].gate.digest`, or from `status.plan.digest` for a rollback"))]
    pub digest: String,

    /// Generation of the Activation to decide on: the value of `status.plan.generation`. A decision about
    /// an earlier one does not count. Absent: the one that is observed first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub generation: Option<i64>,

    /// The decision.
    pub decision: Decision,

    /// Number of the release to restore: a value of `status.history[].number`. Only with
    /// gate `Rollback`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub to_release: Option<i64>,

    /// The user who decides; must be the user who creates this object.
    #[schemars(length(min = 1, max = 256))]
    pub approver: String,

    /// Why, for people who read it later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,

    /// How long an approval counts if it is not used, from its first observation. A rejection does not
    /// expire. Between 1m and 720h. Default: 24h.
    #[serde(default = "one_day")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('720h')").message("`validFor` must be between 1m and 720h"))]
    pub valid_for: Duration,
}

/// The default of `validFor`.
#[must_use]
pub fn one_day() -> Duration {
    Duration::from_hours(24)
}

/// Whether a decision counts, and if not, why.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActivationApprovalStatus {
    /// Whether it counts, and if not, why.
    #[serde(default)]
    pub state: ApprovalState,
    /// What the state means, and what to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
    /// UID of the Activation that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub activation_uid: Option<String>,
    /// Generation of the Activation that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// Number of the release that served when it was first observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<i64>,
    /// What the plan removed for good when it was first observed. A plan that removes more needs another
    /// decision.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 192)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub destroys: Vec<String>,
    /// `metadata.resourceVersion` at the first observation: it orders decisions of the same second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_observed_version: Option<i64>,
    /// When it was first observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_observed_time: Option<Time>,
    /// When an approval that is not used stops counting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
}
