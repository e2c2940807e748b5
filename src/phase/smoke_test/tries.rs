//! Counting tries: `count`, `failureLimit` and `consecutiveSuccess` as in Argo Rollouts. Pure.
//!
//! Tries come in rounds, and a round decides. The decision of a round counts until the next round
//! is decided: one failed try does not fail an application that has passed, and an application that
//! has failed does not become undecided with every try.

use std::time::{Duration, Instant};

use super::check::Try;
use crate::api::smoke_test::Check;

/// The decision about a check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decision {
    /// Enough successes in a row.
    Passed,
    /// Too many failures.
    Failed,
    /// Not decided.
    #[default]
    Open,
}

/// The tries of one check since it was last decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tries {
    stamp: String,
    /// The decision of the previous round.
    previous: Decision,
    /// Tries in this round.
    pub count: u32,
    failures: u32,
    successes: u32,
    /// The last try.
    pub last: Option<Try>,
    /// The last try that passed.
    last_passed: Option<Try>,
    at: Option<Instant>,
    /// The first of the tries that have failed without one between them that passed.
    failing_since: Option<Instant>,
}

/// Longest pause between two tries of a check that has failed, unless its `interval` is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The part of the time that a check has been failing for by which its next try waits.
const PATIENCE: u32 = 8;

impl Tries {
    /// Begins a new round when the current one is decided, or was for another target.
    pub fn begin(&mut self, check: &Check, stamp: &str, now: Instant) {
        if self.stamp != stamp {
            *self = Self {
                stamp: stamp.to_owned(),
                ..Self::default()
            };
            return;
        }
        let decision = self.decision(check);
        if decision != Decision::Open && self.is_settled(now) {
            *self = Self {
                previous: decision,
                count: 0,
                failures: 0,
                successes: 0,
                ..std::mem::take(self)
            };
        }
    }

    fn is_settled(&self, now: Instant) -> bool {
        // A second observation in the same pass begins no round.
        self.at
            .is_some_and(|at| now.saturating_duration_since(at) > Duration::from_millis(50))
    }

    /// Whether the next try is due.
    pub fn is_due(&self, check: &Check, now: Instant) -> bool {
        self.decision(check) == Decision::Open
            && self.at.is_none_or(|at| {
                let slack = Duration::from_millis(20);
                now.saturating_duration_since(at) + slack >= self.pause(check)
            })
    }

    /// The pause before the next try: `interval` in the first round. A check that has failed is tried
    /// again ever more seldom, so that an application that does not come up is not asked every other
    /// second, and one that does is found within an eighth of the time that it took.
    pub fn pause(&self, check: &Check) -> Duration {
        let interval = check.interval.get();
        match (self.previous, self.failing_since, self.at) {
            (Decision::Failed, Some(since), Some(at)) => {
                let longer = at.saturating_duration_since(since) / PATIENCE;
                interval.max(longer.min(LONGEST_PAUSE))
            }
            _ => interval,
        }
    }

    /// Counts a try.
    pub fn add(&mut self, tried: Try, now: Instant) {
        self.count += 1;
        if tried.passed {
            self.successes += 1;
            self.failing_since = None;
            self.last_passed = Some(tried.clone());
        } else {
            self.successes = 0;
            self.failures += 1;
            self.failing_since.get_or_insert(now);
        }
        self.last = Some(tried);
        self.at = Some(now);
    }

    /// Whether the last try failed by an answer of Fly.io's proxy that nobody has explained.
    pub fn is_unexplained(&self) -> bool {
        self.last.as_ref().is_some_and(|last| last.unexplained)
    }

    /// Adds why Fly.io's proxy answered the last try itself.
    pub fn explain(&mut self, why: &str) {
        if let Some(last) = self.last.as_mut().filter(|last| last.unexplained) {
            last.message = format!("{}; {why}", last.message);
            last.unexplained = false;
        }
    }

    /// The decision of this round so far.
    pub fn decision(&self, check: &Check) -> Decision {
        if self.count == 0 {
            return Decision::Open;
        }
        if self.successes >= check.consecutive_success.max(1) {
            return Decision::Passed;
        }
        if self.failures > check.failure_limit || self.count >= check.count.max(1) {
            return Decision::Failed;
        }
        Decision::Open
    }

    /// The decision that counts: this round's, or the previous one's while this round is open. A
    /// success after a failed round makes the check undecided.
    pub fn outcome(&self, check: &Check) -> Decision {
        match (self.decision(check), self.previous) {
            (Decision::Open, Decision::Failed) if self.successes > 0 => Decision::Open,
            (Decision::Open, previous) => previous,
            (decided, _) => decided,
        }
    }

    /// The try that explains the decision that counts.
    pub fn decisive_try(&self, check: &Check) -> Option<&Try> {
        match self.outcome(check) {
            Decision::Passed => self.last_passed.as_ref(),
            Decision::Failed | Decision::Open => self.last.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Reason;

    fn tried(passed: bool) -> Try {
        if passed {
            Try::passed("http /".to_owned(), String::new(), Duration::ZERO)
        } else {
            Try::failed("http /".to_owned(), Reason::SmokeCheckFailed, String::new())
        }
    }

    fn after(check: &Check, results: &[bool]) -> Decision {
        let mut tries = Tries::default();
        for passed in results {
            tries.add(tried(*passed), Instant::now());
        }
        tries.decision(check)
    }

    /// The outcome after each of these tries, with a new round whenever one is due.
    fn outcomes(check: &Check, results: &[bool]) -> Vec<Decision> {
        let mut tries = Tries::default();
        let mut now = Instant::now();
        let mut list = Vec::new();
        for passed in results {
            now += Duration::from_secs(60);
            tries.begin(check, "stamp", now);
            assert!(tries.is_due(check, now));
            tries.add(tried(*passed), now);
            list.push(tries.outcome(check));
        }
        list
    }

    #[test]
    fn failures_up_to_the_limit_do_not_fail_and_one_more_does() {
        let check = Check {
            count: 10,
            failure_limit: 2,
            ..Check::named("health")
        };
        assert_eq!(after(&check, &[false, false]), Decision::Open);
        assert_eq!(after(&check, &[false, false, true]), Decision::Passed);
        assert_eq!(after(&check, &[false, false, false]), Decision::Failed);
    }

    #[test]
    fn successes_must_be_consecutive() {
        let check = Check {
            count: 10,
            failure_limit: 5,
            consecutive_success: 2,
            ..Check::named("health")
        };
        assert_eq!(after(&check, &[true, false, true]), Decision::Open);
        assert_eq!(after(&check, &[true, false, true, true]), Decision::Passed);
    }

    #[test]
    fn tries_end_at_count() {
        let check = Check {
            count: 3,
            failure_limit: 9,
            consecutive_success: 2,
            ..Check::named("health")
        };
        assert_eq!(after(&check, &[true, false, true]), Decision::Failed);
    }

    #[test]
    fn what_passed_stands_until_a_whole_round_says_otherwise() {
        use Decision::{Failed, Passed};
        let check = Check {
            count: 5,
            failure_limit: 2,
            ..Check::named("health")
        };
        assert_eq!(
            outcomes(&check, &[true, false, false, true, false, false, false]),
            [Passed, Passed, Passed, Passed, Passed, Passed, Failed]
        );
    }

    #[test]
    fn what_failed_stands_until_a_try_passes() {
        use Decision::{Failed, Open, Passed};
        let check = Check {
            count: 5,
            failure_limit: 1,
            consecutive_success: 2,
            ..Check::named("health")
        };
        assert_eq!(
            outcomes(&check, &[false, false, false, true, true]),
            [Open, Failed, Failed, Open, Passed]
        );
    }

    #[test]
    fn a_check_that_has_failed_is_tried_ever_more_seldom_and_one_that_passes_as_declared() {
        let check = Check {
            count: 2,
            failure_limit: 1,
            ..Check::named("health")
        };
        let interval = check.interval.get();
        let start = Instant::now();
        let (mut tries, mut now) = (Tries::default(), start);
        let mut tried_at = Vec::new();
        while now < start + Duration::from_secs(300) {
            tries.begin(&check, "stamp", now);
            tries.add(tried(false), now);
            tried_at.push(now);
            now += tries.pause(&check);
        }
        assert_eq!(tried_at[1] - tried_at[0], interval, "as declared at first");
        let last = start + Duration::from_secs(240);
        let in_a_minute = tried_at.iter().filter(|at| **at >= last).count();
        assert!(in_a_minute <= 6, "{in_a_minute} tries in the last minute");
        tries.begin(&check, "stamp", now);
        tries.add(tried(true), now);
        assert_eq!(tries.pause(&check), interval);
    }

    #[test]
    fn another_target_begins_anew() {
        let check = Check::named("health");
        let mut tries = Tries::default();
        let now = Instant::now();
        tries.begin(&check, "one", now);
        tries.add(tried(true), now);
        tries.begin(&check, "two", now + Duration::from_secs(60));
        assert_eq!(tries.outcome(&check), Decision::Open);
        assert!(
            tries.is_due(&check, now),
            "without waiting for the interval"
        );
    }
}
