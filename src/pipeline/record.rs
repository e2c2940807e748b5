//! The last observation of one step, for the status and for the next pass.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    change::PlannedChange,
    note::Note,
    step::{Outcome, Progress},
    verdict::{Wake, Why},
};
use crate::{
    api::Reason,
    clock::{Timing, backoff},
    error::{self, Error, Retry},
};

/// The state of a step, for the status and for the next pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// A need is not met yet.
    Pending,
    /// Working: an intent is being announced.
    Running,
    /// Waits for a fact.
    Waiting,
    /// Observed to match the target.
    Done,
    /// Not requested.
    Skipped,
    /// Plan mode: what would be done.
    Planned,
    /// A call failed and will be tried again.
    Retrying {
        /// The world could not be observed: nothing is known of it.
        observing: bool,
    },
    /// Stopped until a person, or something elsewhere, changes something.
    Blocked,
}

impl State {
    /// Later steps and phases may go on.
    pub fn satisfied(&self) -> bool {
        matches!(self, Self::Done | Self::Skipped)
    }
}

/// The last observation of one step.
#[derive(Clone, Debug)]
pub struct StepRecord {
    /// The stamp of the target that it was observed for.
    pub stamp: String,
    /// The state that followed.
    pub state: State,
    /// The reason token.
    pub reason: Reason,
    /// One line.
    pub message: String,
    /// The next action of a person, which the message has as well; empty if none is needed.
    pub action: String,
    /// Observations in a row that failed or were blocked.
    pub attempts: u32,
    /// What it adds to the status.
    pub notes: Arc<[Note]>,
    /// The changes that are planned.
    pub changes: Vec<PlannedChange>,
    /// When it was observed.
    pub observed_at: Instant,
    /// When to observe again without another cause. `None`: only when something changes.
    pub again: Option<Instant>,
    /// It counts as done for a moment only, until it is observed again.
    pub holds: bool,
    /// The long poll that ends the wait.
    pub wake: Option<Wake>,
}

impl StepRecord {
    /// The record of an outcome, given the record before it. `action` is what a person does about an
    /// error, when more is known of it than the error itself knows.
    pub fn of(
        stamp: &str,
        outcome: Outcome,
        before: Option<&StepRecord>,
        timing: &Timing,
        rechecked: bool,
        (now, action): (Instant, Option<String>),
    ) -> Self {
        let mut record = Self {
            state: State::Done,
            reason: Reason::Succeeded,
            notes: outcome.notes.into(),
            observed_at: now,
            ..Self::pending(stamp)
        };
        // A step that is done may still need something from a person.
        if let Some(why) = record.notes.iter().find_map(Note::remark).cloned() {
            record.explain(why);
        }
        let attempts = before
            .filter(|before| before.stamp == stamp)
            .map_or(0, |before| before.attempts);
        if let Progress::Failed { observing, error } = outcome.progress {
            record.attempts = attempts + 1;
            record.fail(observing, (&error, action), timing, now);
        } else {
            record.follow(outcome.progress, attempts, timing, rechecked, now);
        }
        record
    }

    /// Takes over the state that follows from `progress`, and the time of the next observation.
    fn follow(
        &mut self,
        progress: Progress,
        attempts: u32,
        timing: &Timing,
        rechecked: bool,
        now: Instant,
    ) {
        match progress {
            Progress::Done => self.again = rechecked.then(|| now + timing.recheck),
            Progress::Holds(again) => {
                self.again = Some(now + again.min(timing.recheck));
                self.holds = true;
            }
            Progress::Skipped(why) => {
                self.state = State::Skipped;
                self.explain(why);
            }
            Progress::Planned(changes) => {
                self.state = State::Planned;
                let lines: Vec<String> = changes.iter().map(ToString::to_string).collect();
                self.explain(Why::new(Reason::Planned, lines.join("; ")));
                self.changes = changes;
                self.again = Some(now + timing.recheck);
            }
            Progress::Announce(slot) => {
                self.state = State::Running;
                let message = format!(
                    "creating {} {}, which is announced first so that it is made once",
                    slot.kind, slot.name
                );
                self.explain(Why::new(Reason::Announcing, message));
                self.again = Some(now);
            }
            Progress::Wait { why, wake } => {
                self.state = State::Waiting;
                self.explain(why);
                self.again = Some(now + longest(&wake, timing));
                self.wake = Some(wake);
            }
            // The time is for an answer that a bug has lost.
            Progress::Awaited(why) => {
                self.state = State::Waiting;
                self.explain(why);
                self.attempts = attempts;
                self.again = Some(now + timing.deadline);
            }
            Progress::Blocked(why) => {
                self.state = State::Blocked;
                self.explain(why);
                self.attempts = attempts + 1;
                self.again = Some(now + backoff(timing, self.attempts + 1));
            }
            Progress::Failed { .. } => {}
        }
    }

    fn fail(
        &mut self,
        observing: bool,
        (error, action): (&Error, Option<String>),
        timing: &Timing,
        now: Instant,
    ) {
        let why = Why::new(error.reason(), crate::causes::chain(error));
        match (action, error) {
            (Some(action), _) => self.explain(why.next(action)),
            (None, Error::Blocked { action, .. }) => self.explain(why.said(action.clone())),
            (None, _) => {
                self.explain(why.next(error::next_action(error).unwrap_or_default()));
                if !error::says_what_to_do(error) {
                    self.action.clear();
                }
            }
        }
        let (state, pause) = match error.retry() {
            Retry::After(time) => (State::Retrying { observing }, time.max(timing.backoff_min)),
            Retry::Backoff => (
                State::Retrying { observing },
                backoff(timing, self.attempts),
            ),
            Retry::OnChange => (State::Blocked, backoff(timing, self.attempts + 2)),
        };
        self.state = state;
        self.again = Some(now + pause);
    }

    /// A need is not met: not observed yet.
    pub fn pending(stamp: &str) -> Self {
        Self {
            stamp: stamp.to_owned(),
            state: State::Pending,
            reason: Reason::Waiting,
            message: String::new(),
            action: String::new(),
            attempts: 0,
            notes: Arc::new([]),
            changes: Vec::new(),
            observed_at: Instant::now(),
            again: None,
            holds: false,
            wake: None,
        }
    }

    fn explain(&mut self, why: Why) {
        self.reason = why.reason;
        self.message = why.sentence();
        self.action = why.action;
    }
}

/// The time after which a step observes again although its wait has not ended.
fn longest(wake: &Wake, timing: &Timing) -> Duration {
    match wake {
        Wake::After(time) => *time,
        Wake::Poll => timing.poll,
        Wake::Earlier { pause, .. } => *pause,
        Wake::Machine { patience, .. } => *patience,
    }
}
