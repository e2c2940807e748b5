//! What this process remembers between passes of what the steps observed for one target.
//!
//! Nothing here is needed for correctness: after a restart it is empty, and every step observes
//! again. It saves calls: a step that was observed a moment ago is not observed again because
//! something else woke the object.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::{
    StepId, advance::Phase, background::Background, change::PlannedChange, cx::EarlierProof,
    facts::Facts, intent::Intents, record::StepRecord, typed_map::TypedMap,
};
use crate::{api::PhaseName, process::outside::Questions};

/// What the steps observed, and what they sent.
#[derive(Debug, Default)]
pub struct Observations {
    /// The last observation of each step.
    pub steps: BTreeMap<StepId, StepRecord>,
    /// What the steps observed.
    pub facts: Arc<Facts>,
    /// What this process has sent.
    pub journal: Arc<TypedMap>,
    /// Creates announced before they are sent.
    pub intents: Arc<Intents>,
    /// Questions to servers outside that are under way.
    pub questions: Arc<Questions>,
    /// Looks at the application that are under way.
    pub background: Arc<Background>,
    /// Steps whose wait has ended since the last pass.
    pub fired: Arc<Fired>,
    /// What the phases that are not carried out would change.
    pub preview: Option<Preview>,
    /// Passes so far.
    pub passes: u64,
    /// Reconciles that people and tools have requested so far.
    pub requests: u64,
    /// What the status said of the proof when this process first saw the object.
    pub earlier: Option<EarlierProof>,
    /// What steps were asked for beside their target, as a hash.
    asked: BTreeMap<StepId, String>,
}

impl Observations {
    /// Empty observations of another target of the same object. They share what was sent and
    /// announced, because both change the same app.
    pub fn beside(other: &Self) -> Self {
        Self {
            facts: Arc::new(Facts::beside(&other.facts)),
            journal: other.journal.clone(),
            intents: other.intents.clone(),
            background: other.background.clone(),
            ..Self::default()
        }
    }

    /// What remains when a pass was cut off: intents that may have been sent, and whose rate limits are
    /// spent, and what was proven. A command may have run. Everything else may be incomplete and is
    /// observed again.
    #[must_use]
    pub fn cut_off(self) -> Self {
        Self {
            facts: Arc::new(self.facts.cut_off()),
            intents: self.intents,
            passes: self.passes,
            requests: self.requests,
            earlier: self.earlier.map(EarlierProof::cut_off),
            ..Self::default()
        }
    }

    /// Has the step observe again if it is asked for something else than in the last pass. Returns whether it
    /// is.
    pub fn ask(&mut self, step: StepId, asked: String) -> bool {
        if self.asked.get(&step) == Some(&asked) {
            return false;
        }
        self.steps.remove(&step);
        self.asked.insert(step, asked);
        true
    }

    /// Forgets the last observations of the steps of this phase.
    pub fn forget(&mut self, phase: &Phase) {
        for step in phase.steps {
            self.steps.remove(&step.id());
        }
    }

    /// Forgets the last observations of the steps of `first` and of all later phases.
    pub fn forget_from(&mut self, phases: &[Phase], first: PhaseName) {
        let later = phases.iter().filter(|phase| phase.id >= first);
        for step in later.flat_map(|phase| phase.steps) {
            self.steps.remove(&step.id());
        }
    }
}

/// One change that is not carried out now, with its phase and step.
#[derive(Clone, Debug, PartialEq)]
pub struct Ahead {
    /// The phase.
    pub phase: PhaseName,
    /// The step.
    pub step: StepId,
    /// What it would do.
    pub change: PlannedChange,
}

/// What a phase, and those after it, would change if it were carried out.
#[derive(Clone, Debug)]
pub struct Preview {
    /// The target that it was made for.
    pub stamp: String,
    /// The first phase.
    pub phase: PhaseName,
    /// The requests for another try that it takes into account: a release that was taken back is deployed again
    /// by one.
    pub retry: BTreeSet<String>,
    /// The changes, in order.
    pub changes: Vec<Ahead>,
    /// Steps of which it could not be found what they would do.
    pub unknown: Vec<StepId>,
    /// Those of them that could not be observed, and can be when they are looked at again.
    pub unseen: Vec<StepId>,
    /// Looks in a row after which something was unknown that can be known by itself soon.
    pub tries: u32,
    /// Every step of the first phase was observed, and has nothing to do.
    pub changes_nothing: bool,
    /// Until when it counts.
    pub again: Instant,
}

/// Steps whose awaited fact has arrived.
#[derive(Debug, Default)]
pub struct Fired(Mutex<BTreeSet<StepId>>);

impl Fired {
    /// The wait of `step` has ended.
    pub fn fire(&self, step: StepId) {
        self.lock().insert(step);
    }

    /// Takes the steps of these phases that fired since the last call. Those of another table that runs in
    /// the same pass stay for it.
    pub fn take(&self, phases: &[Phase]) -> BTreeSet<StepId> {
        let is_theirs = |step: &StepId| phases.iter().any(|phase| phase.has(*step));
        let mut fired = self.lock();
        let taken = fired.iter().copied().filter(is_theirs).collect();
        fired.retain(|step| !is_theirs(step));
        taken
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<StepId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_pass_that_was_cut_off_one_list_without_the_machine_of_a_command_is_no_proof() {
        let observations = Observations {
            earlier: Some(EarlierProof::default()),
            ..Observations::default()
        };
        let earlier = observations.cut_off().earlier;
        assert!(earlier.is_some_and(|earlier| earlier.was_deploying()));
    }

    #[test]
    fn a_step_that_is_asked_for_something_else_is_observed_again() {
        let mut observations = Observations::default();
        let step = StepId::IntegrationChecks;
        assert!(observations.ask(step, "one".to_owned()));
        observations.steps.insert(step, StepRecord::pending("s"));
        assert!(!observations.ask(step, "one".to_owned()));
        assert!(observations.steps.contains_key(&step));
        assert!(observations.ask(step, "two".to_owned()));
        assert!(!observations.steps.contains_key(&step));
    }
}
