//! A change that a step sends: a line of the plan for people, and a kind for everything that
//! decides.

use std::{convert::Infallible, fmt};

use super::StepId;

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

/// One change of a step. Its `Display` is one line of the plan, without secrets.
pub trait StepChange: fmt::Display + Send + Sync {
    /// What it means beyond its line.
    fn kind(&self) -> ChangeKind {
        ChangeKind::Ordinary
    }
}

impl StepChange for Infallible {}

/// A change that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The step that sent it.
    pub step: StepId,
    /// Its line of the plan.
    pub line: String,
    /// What it means.
    pub kind: ChangeKind,
}
