//! What a step is: it observes, decides without I/O, and acts without deciding.
//!
//! A step never waits in a worker. It returns [`Verdict::Wait`] and says what ends the wait;
//! `crate::triggers` runs the long poll in the background.

use std::{future::Future, time::Duration};

use jiff::Timestamp;

use super::{
    StepId,
    change::{PlannedChange, Sent, StepChange},
    cx::Cx,
    note::Note,
    verdict::{Removal, Slot, Verdict, Wake, Why},
};
use crate::{
    error::Error,
    plan::{Target, cost::Billed},
};

pub use super::verdict::Result;

/// One fact that must hold in the world. See `src/phase/provision/` for examples.
pub trait Step: Send + Sync + 'static {
    /// What `observe` saw. It holds everything that `diff` needs, also facts of earlier steps.
    type Observed: Send + Sync;
    /// What `act` will do.
    type Change: StepChange;

    /// Name in status, events, logs and metrics.
    fn id(&self) -> StepId;

    /// Steps of the same phase that must be done before this one is observed.
    fn needs(&self) -> &'static [StepId] {
        &[]
    }

    /// Steps whose last observation is stale once this one has sent a change: earlier ones of the same
    /// phase observe again in the next pass, and those of a later phase when it is reached.
    fn invalidates(&self) -> &'static [StepId] {
        &[]
    }

    /// Fly.io reads that an `observe` of an unchanged world costs, beside the overview of the app. A
    /// re-check of a live object spends at most three.
    fn reads(&self) -> u32 {
        1
    }

    /// Whether a re-check of it reads the overview of the app: one query that all such steps share,
    /// so that every re-check includes them all.
    fn reads_overview(&self) -> bool {
        false
    }

    /// Whether every re-check includes it. The others take turns.
    fn always_rechecked(&self) -> bool {
        false
    }

    /// Whether a done step is observed again at re-checks. Preflight checks are not: they hold for one
    /// target.
    fn rechecked(&self) -> bool {
        true
    }

    /// Reads. Must not change anything, anywhere.
    fn observe(&self, cx: &Cx) -> impl Future<Output = Result<Self::Observed>> + Send;

    /// Decides. Pure: no I/O, no clock, no randomness. `now` is Fly.io's time ([`Cx::fly_now`]).
    fn diff(
        &self,
        target: &Target,
        observed: &Self::Observed,
        now: Timestamp,
    ) -> Verdict<Self::Change>;

    /// All that follows from this observation, as data, of which `change` is what is sent first: what a
    /// plan lists. Pure.
    fn plan(
        &self,
        _target: &Target,
        _observed: &Self::Observed,
        change: &Self::Change,
    ) -> Vec<PlannedChange> {
        change.planned()
    }

    /// All that the step will do where it cannot be observed yet, because nothing is there of what it
    /// needs: what a plan lists then. Pure.
    fn expected(&self, _cx: &Cx) -> Vec<PlannedChange> {
        Vec::new()
    }

    /// What Fly.io bills of what the step keeps for the target. Pure.
    fn billed(&self, _cx: &Cx) -> Vec<Billed> {
        Vec::new()
    }

    /// Whether everything else is inside of what the step makes, so that nothing can be observed before
    /// it is made.
    fn is_foundation(&self) -> bool {
        false
    }

    /// What the observation adds to the status beside the step's state. Pure.
    fn notes(&self, _target: &Target, _observed: &Self::Observed) -> Vec<Note> {
        Vec::new()
    }

    /// What is added to the status when the world could not be observed. Pure.
    fn notes_of_failure(&self, _error: &Error) -> Vec<Note> {
        Vec::new()
    }

    /// The slot that must be announced before this change is sent, if Fly does not make it
    /// idempotent.
    fn intent(&self, _target: &Target, _change: &Self::Change) -> Option<Slot> {
        None
    }

    /// The slots that this step will need announced, as far as that is known before it observes.
    /// They are announced while earlier steps work, so that nothing waits for the write. One that is
    /// not needed in the end does no harm. Pure.
    fn expected_creates(&self, _cx: &Cx) -> Vec<Slot> {
        Vec::new()
    }

    /// Acts. Must tolerate having run before with the reply lost. Its result is not believed: the
    /// engine observes again.
    fn act(&self, cx: &Cx, change: Self::Change) -> impl Future<Output = Result<()>> + Send;

    /// Removes what this step created, if the deletion policy requests it. Must tolerate that it is
    /// gone already, and never removes what is not provably ours.
    fn remove(&self, _cx: &Cx) -> impl Future<Output = Result<Removal>> + Send {
        async { Ok(Removal::Gone) }
    }
}

/// The state of a step at the end of a pass.
#[derive(Debug)]
pub enum Progress {
    /// Observed to match the target.
    Done,
    /// Done as far as is proven; observe again after this time.
    Holds(Duration),
    /// Not requested.
    Skipped(Why),
    /// Plan mode, or `drift: Report`: what would be changed.
    Planned(Vec<PlannedChange>),
    /// The change needs this slot announced first.
    Announce(Slot),
    /// Waiting for a fact.
    Wait {
        /// What is awaited.
        why: Why,
        /// What ends the wait.
        wake: Wake,
    },
    /// A server outside has not answered yet. The answer wakes the step.
    Awaited(Why),
    /// Stopped until something changes.
    Blocked(Why),
    /// A call failed.
    Failed {
        /// True when the world could not be observed: nothing is known, nothing is rolled back.
        observing: bool,
        /// What failed.
        error: Error,
    },
}

/// What one pass over one step found and did.
#[derive(Debug)]
pub struct Outcome {
    /// Where the step is now.
    pub progress: Progress,
    /// What the last observation adds to the status.
    pub notes: Vec<Note>,
    /// The changes that were sent in this pass.
    pub sent: Vec<Sent>,
}

impl Outcome {
    /// One line in the log for a try that failed or that stopped the step. The span names the object,
    /// the phase and the step.
    pub fn log(&self) {
        match &self.progress {
            Progress::Failed { error, .. } => warn_of(error),
            Progress::Blocked(why) => {
                tracing::warn!(reason = %why.reason, error = %why.message, "the step is stopped");
            }
            _ => {}
        }
    }
}

/// One line in the log about an error of a step, with Fly.io's id of the request where there is one.
pub fn warn_of(error: &Error) {
    tracing::warn!(
        reason = %error.reason(),
        fly_request_id = error.fly_request_id(),
        error = %crate::causes::chain(error),
        "the step failed"
    );
}
