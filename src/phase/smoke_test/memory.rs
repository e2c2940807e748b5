//! What a step remembers of its proof between passes, for one plan.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::tries::Tries;
use crate::{
    api::PhaseName,
    phase::{releases::store, roster},
    pipeline::{Care, Cx},
    plan::ServedSpec,
};

/// How far the proof of a plan has come. It decides what a failure means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Nothing has been proven yet, and the application may need time to start.
    #[default]
    Starting,
    /// Nothing has been proven within the deadline of the phase.
    Late,
    /// It has been proven before.
    Proven,
}

/// What a step remembers of its proof.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Digest of the plan.
    digest: String,
    /// When its first try was made.
    begun: Option<Instant>,
    /// Whether it has been proven.
    pub proven: bool,
    /// When it was last proven; `None` when an earlier process did that.
    pub proven_at: Option<Timestamp>,
    /// The number of requested reconciles at the last look.
    pub requests: u64,
    /// When the last look was.
    pub looked: Option<Instant>,
    /// The tries of each check, by its name.
    pub tries: BTreeMap<String, Tries>,
    /// How often the application had begun with a first machine (`roster::fleets`).
    fleets: u64,
}

impl Memory {
    /// What is remembered for the plan of this pass. After a restart the record of the release says
    /// whether it was proven, or else the status: that spares what sleeps a wake-up, and proves
    /// nothing.
    pub fn of(cx: &Cx, before: Option<Self>) -> Self {
        let fleets = roster::fleets(cx);
        let known = Self::known(cx, before);
        if known.fleets == fleets {
            return known;
        }
        Self {
            fleets,
            ..known.of_new_machines(cx.care)
        }
    }

    /// What remains when the application begins again with a first machine: what the tries showed of the former
    /// machines counts no more, and a process that has proven nothing itself has nothing to go by.
    fn of_new_machines(self, care: Care) -> Self {
        Self {
            proven: self.proven_at.is_some() || care == Care::Serving,
            looked: None,
            tries: BTreeMap::new(),
            ..self
        }
    }

    fn known(cx: &Cx, before: Option<Self>) -> Self {
        let digest = cx.target.digest();
        match before {
            Some(memory) if memory.digest == digest => memory,
            // What serves was proven when it went live, also when a Secret that it names has changed since.
            _ if cx.care == Care::Serving => Self {
                digest: digest.to_owned(),
                proven: true,
                requests: cx.requests,
                ..Self::default()
            },
            Some(_) => Self {
                digest: digest.to_owned(),
                ..Self::default()
            },
            None => {
                let served = ServedSpec::of(&cx.target);
                let proven = cx.recorded.earlier.is_of(cx.target.plan())
                    || store::is_known_proven(&cx.facts, &cx.journal, &served);
                Self {
                    digest: digest.to_owned(),
                    proven,
                    looked: looked_before(cx.recorded.earlier.decided(cx.target.plan()), cx.now()),
                    ..Self::default()
                }
            }
        }
    }

    /// The time until `interval` is over since the last look. Pure.
    pub fn left_of(&self, interval: Duration, now: Instant) -> Duration {
        let since = |looked: Instant| now.saturating_duration_since(looked);
        self.looked.map_or(Duration::ZERO, |looked| {
            interval.saturating_sub(since(looked))
        })
    }

    /// Notes that a look is made now.
    pub fn look(&mut self, cx: &Cx) {
        let now = Instant::now();
        self.looked = Some(now);
        self.requests = cx.requests;
        // What only plans has no deadline.
        if cx.may_act() {
            self.begun.get_or_insert(now);
        }
    }

    /// Notes that everything was proven now.
    pub fn prove(&mut self, now: Timestamp) {
        self.proven = true;
        self.proven_at = Some(now);
    }

    /// How far the proof has come.
    pub fn stage(&self, cx: &Cx) -> Stage {
        let deadline = cx.target.deadline(PhaseName::SmokeTest);
        self.stage_at(deadline.unwrap_or(Duration::MAX), Instant::now())
    }

    fn stage_at(&self, deadline: Duration, now: Instant) -> Stage {
        let since = self.begun.map(|begun| now.saturating_duration_since(begun));
        if self.proven {
            Stage::Proven
        } else if since.is_some_and(|since| since >= deadline) {
            Stage::Late
        } else {
            Stage::Starting
        }
    }
}

/// When the application was last looked at, by the time of a proof on record. It was made by an earlier process, and
/// `smokeTest.interval` goes on from there: otherwise an operator that is often started anew would never look. Pure.
fn looked_before(decided: Option<Timestamp>, now: Timestamp) -> Option<Instant> {
    let age = now.duration_since(decided?);
    let age = Duration::try_from(age).unwrap_or_default();
    Instant::now().checked_sub(age)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_proven_of_machines_that_are_gone_is_proven_again_of_the_new_ones() {
        let mut memory = Memory {
            tries: [("home".to_owned(), Tries::default())].into(),
            looked: Some(Instant::now()),
            proven: true,
            ..Memory::default()
        };
        let after = |memory: &Memory, care| memory.clone().of_new_machines(care);
        let on_record = after(&memory, Care::Wanted);
        assert!(on_record.tries.is_empty() && on_record.looked.is_none());
        assert!(!on_record.proven, "only an earlier process has proven it");
        assert!(after(&memory, Care::Serving).proven, "it went live");
        memory.prove(Timestamp::UNIX_EPOCH);
        let by_us = after(&memory, Care::Wanted);
        assert!(by_us.proven && by_us.tries.is_empty(), "a failure counts");
    }

    #[test]
    fn after_a_restart_the_interval_goes_on_from_the_proof_on_record() {
        let now = Timestamp::UNIX_EPOCH;
        let hour = Duration::from_secs(3600);
        let left = |decided: Option<Timestamp>| {
            let memory = Memory {
                looked: looked_before(decided, now),
                ..Memory::default()
            };
            memory.left_of(hour, Instant::now())
        };
        let before = |minutes: i64| Timestamp::from_second(-60 * minutes).ok();
        assert_eq!(left(None), Duration::ZERO, "nobody knows when");
        assert_eq!(left(before(61)), Duration::ZERO);
        let twenty = left(before(40)).as_secs();
        assert!((1190..=1200).contains(&twenty), "{twenty}");
        // A clock that went back: it was just now.
        assert!(left(before(-5)).as_secs() >= 3590);
    }

    #[test]
    fn a_failure_is_awaited_until_the_deadline_and_not_after_a_proof() {
        let begun = Instant::now();
        let deadline = Duration::from_secs(300);
        let mut memory = Memory::default();
        assert_eq!(memory.stage_at(deadline, begun), Stage::Starting);
        memory.begun = Some(begun);
        let after = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(memory.stage_at(deadline, after(299)), Stage::Starting);
        assert_eq!(memory.stage_at(deadline, after(300)), Stage::Late);
        memory.prove(Timestamp::UNIX_EPOCH);
        assert_eq!(memory.stage_at(deadline, after(1)), Stage::Proven);
    }
}
