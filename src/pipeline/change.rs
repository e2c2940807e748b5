//! A change that a step sends: a line of the plan for people, and a kind for everything that
//! decides.

use std::{convert::Infallible, fmt};

use super::StepId;
pub use crate::api::status::{ChangeVerb, FieldChange, PlannedChange};

/// What a change means to drift detection and to events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChangeKind {
    /// Brings the application closer to its target.
    #[default]
    Ordinary,
    /// Replaces generated secret values, as the spec or an annotation asks.
    Rotation,
    /// Deletes the previous generated values at the end of their overlap.
    RotationEnd,
    /// Begins to restore the last good release, because the wanted one has failed.
    RollbackStart,
    /// Changes what Golive keeps for itself; the application is not affected.
    Housekeeping,
}

impl ChangeKind {
    /// True for changes that the rotation of secrets asks for. They are no drift, and neither is
    /// the update of the machines that follows.
    pub fn is_rotation(self) -> bool {
        matches!(self, Self::Rotation | Self::RotationEnd)
    }
}

/// One change of a step. Its `Display` is a sentence for logs and events, without secrets.
pub trait StepChange: fmt::Display + Send + Sync {
    /// The same as data, for the plan. Phase and step are added by the engine. No value that may be
    /// secret.
    fn planned(&self) -> Vec<PlannedChange>;

    /// What it means beyond its line.
    fn kind(&self) -> ChangeKind {
        ChangeKind::Ordinary
    }

    /// Whether it is what a release that serves leaves to do, and no answer to drift: it is also made where drift
    /// is only reported.
    fn ends_release(&self) -> bool {
        false
    }
}

impl StepChange for Infallible {
    fn planned(&self) -> Vec<PlannedChange> {
        match *self {}
    }
}

/// A change that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The step that sent it.
    pub step: StepId,
    /// The sentence about it.
    pub line: String,
    /// What it means.
    pub kind: ChangeKind,
}
