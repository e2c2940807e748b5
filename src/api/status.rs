//! `Activation.status`: a report of what was seen, never an input to what is done (but for the
//! write-ahead intents). Everything in it is bounded, and `bounded` enforces the bounds.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

pub use super::bounds::one_line;
use super::condition::ConditionType;
pub use super::source::{PendingImage, SourceStatus};
use super::words::words;

/// Longest message, in bytes of UTF-8.
pub const MAX_MESSAGE: usize = 1024;

words! {
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
    /// The condition that says that the phase is done.
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

    /// Whether Go-Live waits for the phase.
    #[must_use]
    pub const fn before_live(self) -> bool {
        match self {
            Self::Preflight | Self::Provision | Self::Deploy | Self::SmokeTest => true,
            Self::Integrations | Self::Observe => false,
        }
    }
}

impl ActivationStatus {
    /// True when all phases that Go-Live waits for have succeeded.
    #[must_use]
    pub fn is_live(&self) -> bool {
        let mut required = self
            .phases
            .iter()
            .filter(|phase| phase.name.before_live())
            .peekable();
        required.peek().is_some() && required.all(|phase| phase.state == PhaseState::Succeeded)
    }
}

words! {
    /// Where a phase stands.
    pub enum PhaseState, lenient, default Pending {
        /// Earlier phases are not done.
        Pending = "Pending",
        /// Work is under way.
        Running = "Running",
        /// Something outside is awaited.
        Waiting = "Waiting",
        /// A person must approve.
        AwaitingApproval = "AwaitingApproval",
        /// All its steps are done.
        Succeeded = "Succeeded",
        /// It has stopped; only a change starts it again.
        Failed = "Failed",
        /// Not asked for, or not implemented yet; the reason says which.
        Skipped = "Skipped",
    }
}

words! {
    /// Where a step stands.
    pub enum StepState, lenient, default Pending {
        /// The steps that it needs are not done.
        Pending = "Pending",
        /// It is making a change.
        Running = "Running",
        /// Something outside is awaited.
        Waiting = "Waiting",
        /// What it stands for was observed to be as it should be.
        Done = "Done",
        /// Not asked for.
        Skipped = "Skipped",
        /// It failed for a moment, and is tried again.
        Retrying = "Retrying",
        /// Only a person can help.
        Blocked = "Blocked",
    }
}

words! {
    /// Where a gate stands.
    pub enum GateState, lenient, default Pending {
        /// The phase before it is not done.
        Pending = "Pending",
        /// People are asked.
        Requested = "Requested",
        /// Enough people have approved.
        Approved = "Approved",
        /// Somebody has rejected.
        Rejected = "Rejected",
        /// Nobody decided in time.
        Expired = "Expired",
    }
}

words! {
    /// Whether a failed check stops the activation.
    pub enum Severity, lenient, default Blocking {
        /// A failure stops the activation before anything is written.
        Blocking = "Blocking",
        /// A failure is reported, and the activation goes on.
        Warning = "Warning",
    }
}

words! {
    /// The outcome of a check.
    pub enum CheckResult, lenient, default Unknown {
        /// It passed.
        Passed = "Passed",
        /// It failed.
        Failed = "Failed",
        /// It failed, and only warns.
        Warning = "Warning",
        /// It was left out.
        Skipped = "Skipped",
        /// It could not be carried out, or has not been yet.
        Unknown = "Unknown",
    }
}

/// What was seen of an activation.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActivationStatus {
    /// The generation of the object that this status is about; -1 before the first look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The object's own UID. A status with another UID was copied or restored, and is not believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub uid: Option<String>,

    /// Name of the Secret with the token that Golive's finalizer keeps from being deleted. When the
    /// spec names another one, this one is let go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub token_secret: Option<String>,

    /// Where the activation stands, in one word for people. Programs read the conditions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub phase: Option<String>,

    /// Where the application answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub url: Option<String>,

    /// The moment at which the application was first proven live, and by what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub go_live: Option<GoLive>,

    /// What is known, as `kubectl wait` reads it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// The phases with their steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub phases: Vec<PhaseStatus>,

    /// What would be, or is being, changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanStatus>,

    /// The checks of the preflight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["check".into()]))]
    pub preflight: Vec<PreflightResult>,

    /// The checks of the smoke test.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["check".into()]))]
    pub smoke_test: Vec<SmokeTestResult>,

    /// The image that is followed, when `deploy.source` asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceStatus>,

    /// The release that serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseStatus>,

    /// The last releases, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub history: Vec<HistoryEntry>,

    /// The last request for a rollback, and what became of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<RollbackStatus>,

    /// What is about to be created on Fly.io, announced before it is sent.
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
    #[x_kube(merge_strategy = ListMerge::Map(vec!["kind".into(), "name".into()]))]
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

    /// The objectives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub objectives: Vec<ObjectiveStatus>,

    /// Fields of the spec about which nothing was done, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["field".into()]))]
    pub skipped: Vec<SkippedField>,

    /// The phase that waits for approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub pending_gate: Option<String>,

    /// Who answers for the phase that is running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub current_owner: Option<String>,

    /// When the phase that is running must be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_deadline: Option<Time>,

    /// What happens next, or what a person must do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub next_action: Option<String>,

    /// When something happens next, at the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_action_time: Option<Time>,

    /// The value of the annotation `golive.dev/reconcile-requested-at` that was acted on last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_handled_reconcile_at: Option<String>,

    /// The value of the annotation `golive.dev/retry` that was acted on last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_handled_retry: Option<String>,
}

/// The moment at which the application was first proven live.
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
    /// Time from the first look at the object to Go-Live, in whole seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<i64>,
    /// What proved it: one line a check.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 256)))]
    pub evidence: Vec<String>,
}

/// One phase.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PhaseStatus {
    /// Which phase.
    pub name: PhaseName,
    /// Where it stands.
    #[serde(default)]
    pub state: PhaseState,
    /// Why, in one word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub reason: String,
    /// Why, in a sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
    /// How often it was begun.
    #[serde(default)]
    pub attempts: u32,
    /// When it was begun, last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended, last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// When it must be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
    /// Who answers for it.
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
    /// Where it stands.
    #[serde(default)]
    pub state: StepState,
    /// Why, in one word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub reason: String,
    /// Why, in a sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
    /// When it first had something to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it was observed to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
}

/// The gate before a phase.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GateStatus {
    /// Where it stands.
    #[serde(default)]
    pub state: GateState,
    /// Digest of the plan that is decided on.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 71))]
    pub digest: String,
    /// Since when people are asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_at: Option<Time>,
    /// When the gate gives up waiting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
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

/// What would be, or is being, changed.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanStatus {
    /// Digest of the plan. An approval names it.
    #[schemars(length(max = 71))]
    pub digest: String,
    /// The changes, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 48))]
    pub changes: Vec<PlannedChange>,
}

/// One change of a plan.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedChange {
    /// The phase.
    #[schemars(length(max = 64))]
    pub phase: String,
    /// The step.
    #[schemars(length(max = 64))]
    pub step: String,
    /// What is changed, in a sentence.
    #[schemars(length(max = 256))]
    pub change: String,
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
    /// Why, in one word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub reason: String,
    /// What was found.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
    /// What a person must do, when it did not pass.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub next_action: String,
    /// Why it is left out, as the spec says.
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
    /// Which way passed: the kind of the check itself, or of the fallback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub path: Option<String>,
    /// Why, in one word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub reason: String,
    /// What was found: status, length, class of error; never the text of a page.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
    /// How often it was tried.
    #[serde(default)]
    pub tries: u32,
    /// How long the last try took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<i64>,
    /// When it was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

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

words! {
    /// How a release ended.
    pub enum HistoryOutcome, lenient, default Unknown {
        /// A newer version of Golive wrote an outcome that this one does not know.
        Unknown = "Unknown",
        /// Every machine ran it and was healthy.
        Succeeded = "Succeeded",
        /// It was rolled back: an earlier release serves in its place.
        RolledBack = "RolledBack",
        /// It failed and was left as it is.
        Failed = "Failed",
        /// Its release command was begun, and another release followed before it ended.
        Superseded = "Superseded",
        /// Its release command was begun, and it has not ended.
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
    /// Who asked for it: the field manager that last wrote the spec, and who approved the gate
    /// before Deploy.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub by: String,
    /// Why: the annotation `kubernetes.io/change-cause` of its time, or why it was rolled back.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub why: String,
    /// What is different from the release before it: names, never values.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub changes: String,
    /// Number of the release that was restored in its place, when it was rolled back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restores: Option<i64>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

words! {
    /// What became of a request for a rollback.
    pub enum RollbackState, lenient, default Waiting {
        /// It is not decided on yet.
        Waiting = "Waiting",
        /// The release to go back to is restored, or is being restored; the phase Deploy tells.
        Accepted = "Accepted",
        /// It was refused; nothing was changed.
        Refused = "Refused",
    }
}

/// A request for a rollback, and what became of it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RollbackStatus {
    /// Name of the ActivationApproval that asks for it.
    #[schemars(length(max = 253))]
    pub request: String,
    /// Who asked, as the API server proved.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub by: String,
    /// Number of the release to go back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<i64>,
    /// What became of it.
    #[serde(default)]
    pub state: RollbackState,
    /// Why it was refused, or what it waits for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
    /// When it was decided on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

/// Something that is about to be created on Fly.io.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Intent {
    /// The place that it fills: step, kind and name, such as `Volumes/Volume/data-gru-0`.
    #[schemars(length(max = 253))]
    pub slot: String,
    /// What it is, such as `Machine`.
    #[schemars(length(max = 64))]
    pub kind: String,
    /// Its name.
    #[schemars(length(max = 128))]
    pub name: String,
    /// A mark that tells this announcement from an earlier one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub nonce: String,
    /// When it was announced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

/// One of the application's secrets.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretStatus {
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Digest that Fly.io gives for it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub digest: String,
    /// Keyed fingerprint of the value that was set: it tells whether the value has changed, and
    /// nothing else.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub fingerprint: String,
}

/// Something that exists on Fly.io.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExternalObject {
    /// What it is, such as `App`, `Machine`, `ManagedPostgres`.
    #[schemars(length(max = 64))]
    pub kind: String,
    /// Fly.io's ID of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub id: String,
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// When it was last seen to change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_observed_time: Option<Time>,
}

/// A fallback that was used.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FallbackUsed {
    /// What for, such as `deploy.size`.
    #[schemars(length(max = 128))]
    pub what: String,
    /// What was wanted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub from: String,
    /// What was taken.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub to: String,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub reason: String,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

impl FallbackUsed {
    /// The phase whose part of the spec declares the fallback: the first name of the field path.
    #[must_use]
    pub fn phase(&self) -> Option<PhaseName> {
        match self.what.split('.').next()? {
            "provision" => Some(PhaseName::Provision),
            "deploy" => Some(PhaseName::Deploy),
            _ => None,
        }
    }
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
    /// Why, in one word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub reason: String,
    /// What was found.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
    /// When the outcome was last another one.
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
    /// Why, in one word.
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
    /// When the outcome was last another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

/// A field of the spec about which nothing was done.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SkippedField {
    /// Path of the field, such as `spec.integrations`.
    #[schemars(length(max = 128))]
    pub field: String,
    /// Why, in one word, such as `NotImplemented`.
    #[schemars(length(max = 128))]
    pub reason: String,
    /// Why, in a sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub message: String,
}
