//! `Activation.status`: a report of what was observed, never an input to what is done, except for the
//! announced creates. Every field is bounded, and `bounds` enforces the bounds.
//!
//! Uses the rest of `api` only. Start reading at [`ActivationStatus`], then in `phase`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

mod checks;
mod external;
mod phase;
mod plan;
mod release;
mod watch;

pub use super::source::{PendingImage, SourceStatus};
pub use super::text::{MAX_MESSAGE, one_line};
pub use checks::{
    CheckResult, IntegrationCheck, IntegrationResult, IntegrationState, IntegrationStatus,
    PreflightResult, Severity, SmokeTestResult,
};
pub use external::{ExternalKind, ExternalObject, FallbackUsed, Intent, SecretStatus};
pub use phase::{GateState, GateStatus, PhaseName, PhaseState, PhaseStatus, StepState, StepStatus};
pub use plan::{
    CHANGED, ChangeVerb, CostPerMonth, FieldChange, MAX_CHANGES, MAX_FIELDS, PlanCounts,
    PlanDocument, PlanStatus, PlannedChange, SECRETS, WholePlan, destroyed,
};
pub use release::{HistoryEntry, HistoryOutcome, ReleaseStatus, RollbackState, RollbackStatus};
pub use watch::{
    BurnRateStatus, IncidentKind, IncidentStatus, ObjectiveStatus, ReleaseFigures, WatchDecision,
    WatchState, WatchStatus,
};

/// What was observed of an activation.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActivationStatus {
    /// Generation of the object that this status describes; -1 before the first observation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The object's own UID. A status with another UID was copied or restored, and is ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub uid: Option<String>,

    /// Name of the Secret with the token that carries Golive's finalizer, so that it is not deleted
    /// before the Activation. When the spec names another one, the finalizer is removed from this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub token_secret: Option<String>,

    /// State of the activation, for people. Programs read the conditions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub phase: Option<String>,

    /// The application's public address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub url: Option<String>,

    /// When the application was first proven live, and by what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub go_live: Option<GoLive>,

    /// The conditions, as `kubectl wait` reads them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// The phases with their steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub phases: Vec<PhaseStatus>,

    /// The changes that are planned or under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanStatus>,

    /// The checks of the preflight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["check".into()]))]
    pub preflight: Vec<PreflightResult>,

    /// The checks of the smoke test.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["check".into()]))]
    pub smoke_test: Vec<SmokeTestResult>,

    /// The image that is followed, when the spec has `deploy.source`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceStatus>,

    /// The release that serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseStatus>,

    /// The last releases, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub history: Vec<HistoryEntry>,

    /// The last request for a rollback, and its result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<RollbackStatus>,

    /// What is about to be created on Fly.io, recorded before the request is sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["slot".into()]))]
    pub intents: Vec<Intent>,

    /// The application's secrets: names and fingerprints, never values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub secrets: Vec<SecretStatus>,

    /// What exists on Fly.io for this activation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["kind".into(), "name".into(), "id".into()]))]
    pub external: Vec<ExternalObject>,

    /// The fallbacks that were used, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["what".into()]))]
    pub fallbacks: Vec<FallbackUsed>,

    /// The integrations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 24))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub integrations: Vec<IntegrationStatus>,

    /// The watch after Go-Live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<WatchStatus>,

    /// The objectives of the watch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub objectives: Vec<ObjectiveStatus>,

    /// What happened to the application while it was watched, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub incidents: Vec<IncidentStatus>,

    /// The phase that waits for approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub pending_gate: Option<String>,

    /// Who is responsible for the phase that is running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub current_owner: Option<String>,

    /// Deadline of the phase that is running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_deadline: Option<Time>,

    /// What a person must do now, with a command if there is one. Absent if nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub next_action: Option<String>,

    /// When something happens next by itself: the end of a gate's wait or of a suspension, the deadline
    /// of the phase that is at work, or the next try of a step that failed. Absent when nothing but
    /// the ordinary recheck is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_action_time: Option<Time>,

    /// The value of the annotation `golive.dev/reconcile-requested-at` that was handled last, or of
    /// another one that requests a reconcile or a retry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_handled_reconcile_at: Option<String>,

    /// The value of the annotation `golive.dev/retry` or `golive.dev/retry-from` that was handled last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_handled_retry: Option<String>,
}

impl ActivationStatus {
    /// True when every phase before Go-Live has succeeded.
    #[must_use]
    pub fn is_live(&self) -> bool {
        let mut required = self
            .phases
            .iter()
            .filter(|phase| phase.name.before_live())
            .peekable();
        required.peek().is_some() && required.all(|phase| phase.state == PhaseState::Succeeded)
    }

    /// True when what this status is about went live once: everything before SmokeTest has succeeded, and the newest
    /// release is the one that serves. Whether its checks pass now is another question.
    #[must_use]
    pub fn went_live(&self) -> bool {
        let serving = self.release.as_ref().and_then(|release| release.number);
        let newest = self.history.first().and_then(|entry| entry.number);
        let mut before = self
            .phases
            .iter()
            .filter(|phase| phase.name < PhaseName::SmokeTest)
            .peekable();
        serving.is_some()
            && serving == newest
            && before.peek().is_some()
            && before.all(|phase| phase.state == PhaseState::Succeeded)
    }
}

/// When the application was first proven live, and by what.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GoLive {
    /// When the last check passed.
    pub time: Time,
    /// Generation of the object that went live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// Number of the release that went live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<i64>,
    /// The image that went live, with its digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 640))]
    pub image: Option<String>,
    /// Time from the first observation of the object to Go-Live, in whole seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<i64>,
    /// The proof: one line for each check.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 256)))]
    pub evidence: Vec<String>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn status(states: &[(&str, &str)]) -> ActivationStatus {
        let phases: Vec<_> = states
            .iter()
            .map(|(name, state)| serde_json::json!({"name": name, "state": state}))
            .collect();
        serde_json::from_value(serde_json::json!({ "phases": phases })).unwrap()
    }

    #[test]
    fn an_activation_is_live_when_every_phase_before_go_live_has_succeeded() {
        let succeeded = |name| (name, "Succeeded");
        let before = ["Preflight", "Provision", "Deploy", "SmokeTest"].map(succeeded);
        assert!(status(&before).is_live());
        let later = [&before[..], &[("Observe", "Failed")]].concat();
        assert!(status(&later).is_live());
        let mut failed = before;
        failed[2].1 = "Failed";
        assert!(!status(&failed).is_live());
        assert!(!status(&[]).is_live());
        assert!(!status(&[("Observe", "Succeeded")]).is_live());
    }
}
