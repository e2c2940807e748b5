//! What a step finds: the verdict over an observation, and what it requires of the engine.

use std::time::Duration;

use super::StepId;
use crate::{api::Reason, error::Error, fly};

/// Result of I/O in a step. The error is classified once, in `fly::error` or `crate::error`.
pub type Result<T> = std::result::Result<T, Error>;

/// A machine-readable reason and a sentence for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// Stable: part of the API.
    pub reason: Reason,
    /// One line: what was found and the evidence. Also the next action, where `action` is empty.
    pub message: String,
    /// The next action of a person, with a command if there is one; empty if none is needed.
    pub action: String,
    /// The message says it already, before its evidence.
    pub is_said: bool,
}

impl Why {
    /// A reason with its sentence.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            action: String::new(),
            is_said: false,
        }
    }

    /// The same with the next action of a person.
    #[must_use]
    pub fn next(mut self, action: impl Into<String>) -> Self {
        self.action = action.into();
        self
    }

    /// The same with the next action of a person, which the message says already.
    #[must_use]
    pub fn said(self, action: impl Into<String>) -> Self {
        Self {
            is_said: true,
            ..self.next(action)
        }
    }

    /// Evidence and action as one sentence.
    pub fn sentence(&self) -> String {
        if self.action.is_empty() || self.is_said {
            return self.message.clone();
        }
        format!("{}: {}", self.message, self.action)
    }
}

/// What a step found.
#[derive(Debug, PartialEq)]
pub enum Verdict<C> {
    /// The world matches the target.
    Done,
    /// The world matched the target before, and one observation that differs is no proof: the step
    /// still counts as done, and observes again after this time.
    Holds(Duration),
    /// The spec does not request it.
    Skipped(Why),
    /// Apply this change now, then observe again.
    Change(C),
    /// Nothing to do now; observe again when `wake` fires.
    Wait {
        /// What is awaited.
        why: Why,
        /// What ends the wait.
        wake: Wake,
    },
    /// Only a person or a change elsewhere can help. Observed again, ever more seldom.
    Blocked(Why),
}

/// What ends a wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Observe again after this time.
    After(Duration),
    /// Observe again after the operator's poll interval: Fly.io offers no long poll for this.
    Poll,
    /// An earlier step that is done and is not re-checked observes again, at once, and this one after
    /// it: what that step made is not as it left it.
    Earlier {
        /// The step.
        step: StepId,
        /// Observe again after this time, whatever the earlier step found.
        pause: Duration,
    },
    /// The Machines API's long poll answers that the machine reached one of these states.
    Machine {
        /// Fly app.
        app: String,
        /// Machine id.
        id: String,
        /// Only this version (`instance_id`) counts, when given.
        version: Option<String>,
        /// The state that is awaited.
        state: fly::MachineState,
        /// Observe without the poll's answer after this time: a machine that exits never reaches
        /// the state.
        patience: Duration,
    },
}

/// A create that Fly.io does not make idempotent. It is announced in `status.intents[]` before it is
/// sent, so that after a crash Golive looks it up before it sends it again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot {
    /// Kind of the external object, such as `ManagedPostgres`.
    pub kind: String,
    /// Its deterministic name.
    pub name: String,
}

/// The result of a removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It was observed to be gone.
    Gone,
    /// It stays, as the deletion policy requires. Says what stays, for the report.
    Retained(String),
    /// It goes on only when a person does something.
    Blocked(Why),
    /// The removal is under way; observe again after the given time.
    Pending {
        /// What is awaited.
        why: Why,
        /// When to observe again.
        again: Duration,
    },
}
