//! What this process remembers of an object between passes.
//!
//! Nothing here is needed for correctness: after a restart it is empty.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    api::{PhaseName, StepId, approval::ActivationApprovalStatus},
    phase::PHASES,
    pipeline::{Owner, Removal, observations::Observations},
    plan::{
        ServingRelease, Target,
        cost::Estimate,
        refs::{Decisions, Versions},
        source,
    },
    status::Published,
};

/// The shortest pause that is a rest. A pass after a shorter one is part of the same work.
const AT_REST: Duration = Duration::from_secs(10);

/// What this process remembers of one Activation.
#[derive(Debug)]
pub struct Memory {
    /// `metadata.uid`. A new object of the same name starts with nothing remembered.
    pub uid: String,
    /// The status that was written last, which the cache may not hold yet.
    pub published: Published,
    /// The release that served at the end of the last pass.
    pub serving: Option<ServingRelease>,
    /// What was observed for the wanted target.
    pub wanted: Observations,
    /// What was observed of the release that serves, while it is kept beside the wanted target.
    pub kept: Option<Observations>,
    /// What the release that serves costs a month.
    pub cost: Option<Estimate>,
    /// At the last pass no machine ran the release that serves.
    pub moved: bool,
    /// When the proof of what serves was last decided, either way.
    pub proven_at: Instant,
    /// What the object names, as it was read last.
    pub reading: Option<Reading>,
    /// Secrets that the spec does not name and that the release that serves needs now.
    pub also_needed: BTreeSet<String>,
    /// The observations of the registry for `deploy.source`.
    pub source: source::Watch,
    /// Requests that were handled.
    pub handled: Handled,
    /// What was written of decisions of people, by the UID of the ActivationApproval.
    pub votes: BTreeMap<String, ActivationApprovalStatus>,
    /// The result of each removal, on deletion.
    pub removals: BTreeMap<StepId, Removal>,
    /// Secrets with a token that this process has protected for the object.
    pub protected: BTreeSet<String>,
    /// Tries of a removal that failed in a row, on deletion.
    pub failed_removals: u32,
    /// Reconciles that failed as a whole in a row.
    pub failures: u32,
}

/// Requests of people and tools that were handled, so that each is handled once.
#[derive(Clone, Debug, Default)]
pub struct Handled {
    /// Tokens of the annotations that request a reconcile, as they were at the last one.
    pub tokens: Option<Vec<String>>,
    /// UIDs of the requests for a rollback.
    pub rollbacks: Vec<String>,
    /// The value of the annotation `golive.dev/abort`.
    pub abort: Option<String>,
    /// A value of the annotation `golive.dev/forget` that names another app.
    pub forget: Option<String>,
    /// UID of the token's Secret, once it was reported that somebody has deleted it.
    pub token_deletion: Option<String>,
}

/// What an object names, as it was read.
#[derive(Debug)]
pub struct Reading {
    /// When.
    pub at: Instant,
    /// The generation that named it.
    pub generation: Option<i64>,
    /// The annotations of that time, as a hash: they may be as large as the object.
    pub annotations: u64,
    /// The versions of the Secrets and ConfigMaps. Their values are read again by each pass: nothing
    /// of them stays in memory between passes.
    pub versions: Versions,
    /// The decisions of people.
    pub decisions: Arc<Decisions>,
    /// The target that was parsed with them.
    pub target: Option<Arc<Target>>,
}

impl Memory {
    /// Nothing is known yet.
    pub fn new(uid: String) -> Self {
        Self {
            uid,
            published: Published::default(),
            serving: None,
            wanted: Observations::default(),
            kept: None,
            cost: None,
            moved: false,
            proven_at: Instant::now(),
            reading: None,
            also_needed: BTreeSet::new(),
            source: source::Watch::default(),
            handled: Handled::default(),
            votes: BTreeMap::new(),
            removals: BTreeMap::new(),
            protected: BTreeSet::new(),
            failed_removals: 0,
            failures: 0,
        }
    }

    /// What remains when a pass was cut off: the published status, intents that may have been sent,
    /// handled tokens, and the number of failures. Everything else may be incomplete and is observed
    /// again, as after a restart.
    #[must_use]
    pub fn cut_off(self) -> Self {
        Self {
            published: self.published,
            wanted: self.wanted.cut_off(),
            handled: Handled {
                tokens: self.handled.tokens,
                ..Handled::default()
            },
            failures: self.failures.saturating_add(1),
            proven_at: self.proven_at,
            ..Self::new(self.uid)
        }
    }

    /// The object is at rest until then: what the next pass makes from Kubernetes in any case is dropped, and
    /// the rest takes less memory. What was observed at Fly.io stays: no step is observed again for that.
    pub fn rest(&mut self, until: Duration) {
        if until >= AT_REST {
            self.published.rest();
            if let Some(reading) = &mut self.reading {
                reading.target = None;
            }
        }
    }

    /// Forgets every observation, so that the next pass observes everything.
    pub fn forget_observations(&mut self) {
        self.forget_wanted();
        if let Some(kept) = &mut self.kept {
            kept.steps.clear();
        }
    }

    /// Forgets what was observed for the spec; what serves is not observed again for that.
    pub fn forget_wanted(&mut self) {
        self.wanted.steps.clear();
        self.source.forget();
    }

    /// Ends the looks at the application that are under way, and has them begin anew when that is time.
    pub fn end_looks(&mut self) {
        self.wanted.background.end();
        for observations in [Some(&mut self.wanted), self.kept.as_mut()]
            .into_iter()
            .flatten()
        {
            observations.steps.remove(&StepId::IntegrationChecks);
        }
    }

    /// Takes note of the requests for a rollback; a new one has the steps of Deploy observe again.
    pub fn notice_rollbacks(&mut self, uids: Vec<String>) {
        if uids.iter().any(|uid| !self.handled.rollbacks.contains(uid)) {
            self.wanted.forget_from(PHASES, PhaseName::Deploy);
        }
        self.handled.rollbacks = uids;
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

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, String), Memory>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The memory of an object during a pass. It is put back however the pass ends: one that panics or
/// is cut off may have sent what it announced.
pub struct MemoryGuard<'a> {
    /// What is remembered.
    pub memory: Memory,
    memories: &'a Memories,
    owner: &'a Owner,
    ended: bool,
}

impl<'a> MemoryGuard<'a> {
    /// Takes the memory of an object.
    pub fn take(memories: &'a Memories, owner: &'a Owner) -> Self {
        Self {
            memory: memories.recall(owner),
            memories,
            owner,
            ended: false,
        }
    }

    /// The pass has ended by itself.
    pub fn end(mut self, succeeded: bool) {
        if succeeded {
            self.memory.failures = 0;
        } else {
            self.memory.failures += 1;
            // What must follow a fresh read, such as the finalizer on the token, may be missing.
            self.memory.reading = None;
        }
        self.ended = true;
    }

    /// The pass has ended, and another one before it is what failed: nothing is counted.
    pub fn release(mut self) {
        self.ended = true;
    }
}

impl Drop for MemoryGuard<'_> {
    fn drop(&mut self) {
        let empty = Memory::new(self.owner.uid.clone());
        let mut memory = std::mem::replace(&mut self.memory, empty);
        if !self.ended {
            memory = memory.cut_off();
        }
        self.memories.remember(self.owner, memory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::{Slot, record::StepRecord};

    #[derive(Debug)]
    struct Observed;

    #[test]
    fn a_pass_that_is_cut_off_forgets_what_it_saw_and_keeps_what_it_announced() {
        let mut memory = Memory::new("u".to_owned());
        let slot = Slot {
            kind: "ManagedPostgres".to_owned(),
            name: "shop-db".to_owned(),
        };
        let wanted = &mut memory.wanted;
        wanted.intents.recall(StepId::Postgres, slot.clone());
        wanted
            .steps
            .insert(StepId::Postgres, StepRecord::pending("digest"));
        wanted.facts.set(Observed);
        memory.handled.tokens = Some(vec!["now".to_owned()]);
        memory.failures = 3;

        let memory = memory.cut_off();

        assert_eq!(memory.uid, "u");
        assert_eq!(memory.wanted.intents.open()[0].slot, slot);
        assert_eq!(memory.handled.tokens, Some(vec!["now".to_owned()]));
        assert_eq!(memory.failures, 4);
        assert!(memory.wanted.steps.is_empty());
        assert!(memory.wanted.facts.get::<Observed>().is_none());
    }
}
