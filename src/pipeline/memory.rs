//! What this process remembers of one Activation between passes.
//!
//! Nothing here is needed for correctness: after a restart it is empty, and every step observes
//! again. It saves calls: a step that was observed a moment ago is not observed again because
//! something else woke the object.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

pub use crate::clock::{backoff, backoff_without_jitter as backoff_without_spread};

use super::{
    StepId,
    facts::Facts,
    intent::Intents,
    note::Note,
    step::{Outcome, Removal, Stand, Wake},
    typed_map::TypedMap,
};
use crate::{
    api::{Owner, PhaseName, Reason},
    clock::Timing,
    error::{self, Retry},
    plan::{Target, refs::Refs},
    status::Told,
};

/// Where a step stands, for status and for the next pass.
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
    /// Not asked for.
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

/// The last look at one step.
#[derive(Clone, Debug)]
pub struct StepRecord {
    /// The target that it was looked at for.
    pub digest: String,
    /// Where it stands.
    pub state: State,
    /// One word.
    pub reason: Reason,
    /// One line.
    pub message: String,
    /// Looks in a row that failed or were blocked.
    pub attempts: u32,
    /// What it tells the status.
    pub notes: Arc<[Note]>,
    /// Changes of the plan: sent in the last look, or planned.
    pub changes: Vec<String>,
    /// When it was looked at.
    pub looked: Instant,
    /// When to look again without another cause. `None`: only when something changes.
    pub again: Option<Instant>,
    /// It counts as done for a moment only, until it is looked at again.
    pub holds: bool,
    /// The long poll that ends the wait.
    pub wake: Option<Wake>,
}

impl StepRecord {
    /// What came of a look, given the record before it.
    pub fn of(
        digest: &str,
        outcome: Outcome,
        before: Option<&StepRecord>,
        timing: &Timing,
        rechecked: bool,
        now: Instant,
    ) -> Self {
        let attempts = before
            .filter(|b| b.digest == digest)
            .map_or(0, |b| b.attempts);
        let mut record = Self {
            digest: digest.to_owned(),
            state: State::Done,
            reason: Reason::Succeeded,
            message: String::new(),
            attempts: 0,
            notes: outcome.notes.into(),
            changes: outcome.sent.into_iter().map(|sent| sent.line).collect(),
            looked: now,
            again: None,
            holds: false,
            wake: None,
        };
        // What is done may still want something of a person.
        if let Some(why) = record.notes.iter().find_map(Note::remark).cloned() {
            record.say(why.reason, why.message);
        }
        match outcome.stand {
            Stand::Done => {
                record.again = rechecked.then(|| now + timing.recheck);
            }
            Stand::Holds(again) => {
                record.again = Some(now + again.min(timing.recheck));
                record.holds = true;
            }
            Stand::Skipped(why) => {
                record.state = State::Skipped;
                record.say(why.reason, why.message);
            }
            Stand::Planned(lines) => {
                record.state = State::Planned;
                record.say(Reason::Planned, lines.join("; "));
                record.changes = lines;
                record.again = Some(now + timing.recheck);
            }
            Stand::Announce(slot) => {
                record.state = State::Running;
                record.say(
                    Reason::Announcing,
                    format!(
                        "creating {} {}, which is announced first so that it is made once",
                        slot.kind, slot.name
                    ),
                );
                record.again = Some(now);
            }
            Stand::Wait { why, wake } => {
                record.state = State::Waiting;
                record.say(why.reason, why.message);
                record.again = Some(match &wake {
                    Wake::After(time) => now + *time,
                    Wake::Poll => now + timing.poll,
                    Wake::Machine { patience, .. } => now + *patience,
                });
                record.wake = Some(wake);
            }
            Stand::Blocked(why) => {
                record.state = State::Blocked;
                record.say(why.reason, why.message);
                record.attempts = attempts + 1;
                record.again = Some(now + backoff(timing, record.attempts + 1));
            }
            Stand::Failed { observing, error } => {
                record.attempts = attempts + 1;
                let retry = error.retry();
                record.say(error.reason(), error::with_next_action(&error));
                record.state = match retry {
                    Retry::OnChange => State::Blocked,
                    _ => State::Retrying { observing },
                };
                record.again = Some(
                    now + match retry {
                        Retry::After(time) => time.max(timing.backoff_min),
                        Retry::Backoff => backoff(timing, record.attempts),
                        Retry::OnChange => backoff(timing, record.attempts + 2),
                    },
                );
            }
        }
        record
    }

    /// Not looked at yet: a need is not met.
    pub fn pending(digest: &str) -> Self {
        Self {
            digest: digest.to_owned(),
            state: State::Pending,
            reason: Reason::Waiting,
            message: String::new(),
            attempts: 0,
            notes: Arc::new([]),
            changes: Vec::new(),
            looked: Instant::now(),
            again: None,
            holds: false,
            wake: None,
        }
    }

    fn say(&mut self, reason: Reason, message: String) {
        self.reason = reason;
        self.message = message;
    }
}

/// What this process remembers of one Activation.
#[derive(Debug)]
pub struct Memory {
    /// `metadata.uid`. A new object of the same name starts with nothing remembered.
    pub uid: String,
    /// What was told of it, which the cache may not hold yet.
    pub told: Told,
    /// The last look at each step.
    pub steps: BTreeMap<StepId, StepRecord>,
    /// What the steps observed.
    pub facts: Arc<Facts>,
    /// What this process has sent.
    pub journal: Arc<TypedMap>,
    /// Passes so far.
    pub pass: u64,
    /// Creates announced before they are sent.
    pub intents: Arc<Intents>,
    /// Steps whose wait a long poll has ended since the last pass.
    pub fired: Arc<Fired>,
    /// UIDs of the requests for a rollback that the steps of Deploy have seen.
    pub rollbacks: Vec<String>,
    /// Tokens that asked for a look, as they were at the last one.
    pub requested: Option<Vec<String>>,
    /// What the phase behind a closed gate would change.
    pub preview: Option<Preview>,
    /// What it names, as it was read last.
    pub refs: Option<Read>,
    /// The looks at `deploy.source`.
    pub source: crate::plan::source::Watch,
    /// What became of each removal, on deletion.
    pub removals: BTreeMap<StepId, Removal>,
    /// The value of the annotation `golive.dev/abort` as it was looked at last.
    pub abort: Option<String>,
    /// Secrets with a token that this process has protected for the object.
    pub protected: BTreeSet<String>,
    /// Reconciles that failed as a whole in a row.
    pub failures: u32,
}

impl Memory {
    /// Nothing is known yet.
    pub fn new(uid: String) -> Self {
        Self {
            uid,
            told: Told::default(),
            steps: BTreeMap::new(),
            facts: Arc::default(),
            journal: Arc::default(),
            pass: 0,
            intents: Arc::default(),
            fired: Arc::default(),
            rollbacks: Vec::new(),
            requested: None,
            preview: None,
            refs: None,
            source: crate::plan::source::Watch::default(),
            removals: BTreeMap::new(),
            abort: None,
            protected: BTreeSet::new(),
            failures: 0,
        }
    }

    /// What is left of it when a pass was cut off in the middle: what was written, what was
    /// announced and may have been sent, and how often it failed. All else may be half of
    /// something, and is observed again, as after a restart.
    #[must_use]
    pub fn cut_off(self) -> Self {
        Self {
            told: self.told,
            intents: self.intents,
            requested: self.requested,
            facts: Arc::new(self.facts.cut_off()),
            failures: self.failures.saturating_add(1),
            ..Self::new(self.uid)
        }
    }

    /// Forgets every look, so that the next pass observes everything.
    pub fn forget_looks(&mut self) {
        self.steps.clear();
        self.source.forget();
    }

    /// Forgets the looks at the steps of this phase and of all later ones.
    pub fn forget_from(&mut self, first: PhaseName) {
        for phase in crate::phase::PHASES
            .iter()
            .filter(|phase| phase.id >= first)
        {
            for step in phase.steps {
                self.steps.remove(&step.id());
            }
        }
    }

    /// Takes note of the requests for a rollback; a new one has the steps of Deploy look again.
    pub fn notice_rollbacks(&mut self, uids: Vec<String>) {
        if uids.iter().any(|uid| !self.rollbacks.contains(uid)) {
            self.forget_from(PhaseName::Deploy);
        }
        self.rollbacks = uids;
    }
}

/// What this process remembers of every object.
#[derive(Debug, Default)]
pub struct Memories(Mutex<BTreeMap<(String, String), Memory>>);

impl Memories {
    /// Takes what is remembered of an object. A new object of the same name starts with nothing.
    /// Nobody else has it until it is put back: one object is never reconciled twice at once.
    pub fn recall(&self, owner: &Owner) -> Memory {
        self.lock()
            .remove(&(owner.namespace.clone(), owner.name.clone()))
            .filter(|memory| memory.uid == owner.uid)
            .unwrap_or_else(|| Memory::new(owner.uid.clone()))
    }

    /// Puts back what is remembered.
    pub fn remember(&self, owner: &Owner, memory: Memory) {
        self.lock()
            .insert((owner.namespace.clone(), owner.name.clone()), memory);
    }

    /// Removes what is remembered of an object that is gone.
    pub fn forget(&self, namespace: &str, name: &str) -> Option<Memory> {
        self.lock().remove(&(namespace.to_owned(), name.to_owned()))
    }

    /// Reconciles of this object that failed as a whole in a row, at least one.
    pub fn failures(&self, namespace: &str, name: &str) -> u32 {
        self.lock()
            .get(&(namespace.to_owned(), name.to_owned()))
            .map_or(1, |memory| memory.failures.max(1))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, String), Memory>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an object names, as it was read.
#[derive(Debug)]
pub struct Read {
    /// When.
    pub at: Instant,
    /// The generation that named it.
    pub generation: Option<i64>,
    /// The annotations of then.
    pub annotations: BTreeMap<String, String>,
    /// What was there.
    pub refs: Arc<Refs>,
    /// What it asks for, with that.
    pub target: Option<Arc<Target>>,
}

/// What a phase would change if its gate were open.
#[derive(Clone, Debug)]
pub struct Preview {
    /// The target that it was looked at for.
    pub stamp: String,
    /// The phase.
    pub phase: PhaseName,
    /// Lines of the plan by step.
    pub changes: Vec<(StepId, String)>,
}

/// Steps whose awaited fact has come.
#[derive(Debug, Default)]
pub struct Fired(Mutex<BTreeSet<StepId>>);

impl Fired {
    /// The wait of `step` has ended.
    pub fn fire(&self, step: StepId) {
        self.lock().insert(step);
    }

    /// Takes all that fired since the last call.
    pub fn take(&self) -> BTreeSet<StepId> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<StepId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_that_is_cut_off_forgets_what_it_saw_and_keeps_what_it_announced() {
        struct Observed;
        let mut memory = Memory::new("u".to_owned());
        let slot = super::super::Slot {
            kind: "ManagedPostgres".to_owned(),
            name: "shop-db".to_owned(),
        };
        memory.intents.recall(StepId::Postgres, slot.clone());
        memory
            .steps
            .insert(StepId::Postgres, StepRecord::pending("digest"));
        memory.facts.set(Observed);
        memory.requested = Some(vec!["now".to_owned()]);
        memory.failures = 3;

        let memory = memory.cut_off();

        assert_eq!(memory.uid, "u");
        assert_eq!(memory.intents.open(), [(StepId::Postgres, slot)]);
        assert_eq!(memory.requested, Some(vec!["now".to_owned()]));
        assert_eq!(memory.failures, 4);
        assert!(memory.steps.is_empty());
        assert!(memory.facts.get::<Observed>().is_none());
    }
}
