//! What a step adds to the status beside its own state.

use jiff::Timestamp;

use super::{StepId, verdict::Why};
use crate::api::{
    Reason,
    status::{
        ExternalObject, FallbackUsed, HistoryEntry, IncidentStatus, IntegrationStatus,
        ObjectiveStatus, PreflightResult, ReleaseStatus, RollbackStatus, SecretStatus,
        SmokeTestResult, WatchStatus,
    },
};

/// A problem that a step met and corrected: published once, by an event, and not part of the status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// The reason token of the event.
    pub reason: Reason,
    /// The step that met it.
    pub step: StepId,
    /// For a person.
    pub note: String,
}

/// What a smoke check requested, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProbeKind {
    /// An HTTP request.
    Http,
    /// A page of metrics.
    Metrics,
    /// A command that asks the database.
    Database,
    /// Anything else.
    #[default]
    Other,
}

impl ProbeKind {
    /// The value of the label `kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Metrics => "metrics",
            Self::Database => "database",
            Self::Other => "other",
        }
    }
}

/// What proved that the application is live, and when: for `Live`, not for the status itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmokeProof {
    /// What kind of proof it is.
    pub by: ProvedBy,
    /// When it was last found; `None` when an earlier process found it.
    pub at: Option<Timestamp>,
    /// What was found, in a few words for people.
    pub summary: String,
}

/// Kinds of proof that an application is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProvedBy {
    /// Answers through Fly.io's edge.
    Edge,
    /// A query on the database.
    Database,
    /// The machines, where nothing can be reached from outside.
    Machines,
    /// An earlier proof: Fly.io's proxy has stopped the machines since, as it should.
    EarlierProof,
}

/// The figures of an objective as numbers, for metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObjectiveFigures {
    /// Whether it is met, if that is known.
    pub met: Option<bool>,
    /// What is left of its budget: 1 is all of it.
    pub budget_left: Option<f64>,
    /// How fast its budget burns, by the length of the window.
    pub burn: Vec<(String, f64)>,
}

/// One entry for the status. Times are left out: `status::next` sets them, and keeps the old ones
/// while nothing changes.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// The outcome of a preflight check.
    Preflight(PreflightResult),
    /// The outcome of a smoke check, and what the decisive try requested.
    SmokeTest(SmokeTestResult, ProbeKind),
    /// What proved that the application is live.
    Proof(SmokeProof),
    /// What is known of an integration, and when all its checks passed last, if this process has
    /// seen that.
    Integration(Box<IntegrationStatus>, Option<Timestamp>),
    /// How far the watch is, and what happened in it.
    Watch(Box<WatchStatus>, Vec<IncidentStatus>),
    /// What is known of an objective, and its figures as numbers while it is watched.
    Objective(Box<ObjectiveStatus>, Option<ObjectiveFigures>),
    /// Something that exists on Fly.io for this object.
    External(ExternalObject),
    /// A secret of the app: name, digest, fingerprint.
    Secret(SecretStatus),
    /// A declared fallback that is in use.
    Fallback(FallbackUsed),
    /// The release that the machines run.
    Release(ReleaseStatus),
    /// Earlier releases, newest first.
    History(Vec<HistoryEntry>),
    /// A release that failed and was left as it is, or was superseded, once that is on record.
    Ended(HistoryEntry),
    /// The last request for a rollback.
    Rollback(RollbackStatus),
    /// The last good release serves, and not the wanted one.
    RolledBack,
    /// Something at Fly.io that the spec does not request and that Golive does not change, because it
    /// did not make it: what it is, and what a person can do about it.
    Drift(String),
    /// What a step that is done still needs from a person.
    Remark(Why),
}

impl Note {
    /// What differs from the spec and is left alone, if this is it.
    pub fn drift(&self) -> Option<&str> {
        match self {
            Self::Drift(line) => Some(line),
            _ => None,
        }
    }

    /// What a step that is done still needs from a person, if this is it.
    pub fn remark(&self) -> Option<&Why> {
        match self {
            Self::Remark(why) => Some(why),
            _ => None,
        }
    }
}
