//! `ActivationApproval`: one person's decision at a gate.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::enumeration::api_enum;

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

/// One person's decision at a gate, or to roll back. It is immutable: to decide otherwise, create another.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "golive.dev",
    version = "v1alpha1",
    kind = "ActivationApproval",
    namespaced,
    derive = "PartialEq",
    doc = "ActivationApproval is one person's decision at a gate of an Activation, or to roll it back. The API server proves who made it.",
    category = "fly",
    selectable = ".spec.activation",
    printcolumn(name = "Activation", type_ = "string", json_path = ".spec.activation", description = "The Activation"),
    printcolumn(name = "Gate", type_ = "string", json_path = ".spec.gate", description = "The phase that waits"),
    printcolumn(name = "Decision", type_ = "string", json_path = ".spec.decision", description = "What was decided"),
    printcolumn(name = "Approver", type_ = "string", json_path = ".spec.approver", description = "Who decided"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since the decision"),
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
    #[schemars(
        length(min = 8, max = 71),
        regex(pattern = r"^(sha256:)?[0-9a-f]{8,64}$")
    )]
    pub digest: String,

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
}
