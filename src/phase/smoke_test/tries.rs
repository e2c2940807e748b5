//! Counting tries: `count`, `failureLimit`, `consecutiveSuccess` with the meaning that they have
//! in Argo Rollouts. Pure.

use std::time::{Duration, Instant};

use super::check::Try;
use crate::api::smoke_test::Check;

/// What the tries of a check come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Enough successes in a row.
    Passed,
    /// Too many failures.
    Failed,
    /// Not decided.
    Open,
}

/// The tries of one check since it was last decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tries {
    stamp: String,
    /// The round before this one passed.
    pub held: bool,
    /// Tries in this round.
    pub count: u32,
    failures: u32,
    successes: u32,
    /// The last try.
    pub last: Option<Try>,
    at: Option<Instant>,
}

impl Tries {
    /// Begins a new round when the last one is decided, or was for another target.
    pub fn begin(&mut self, check: &Check, stamp: &str, now: Instant) {
        let decided = self.decision(check) != Decision::Open && self.settled_before(now);
        if self.stamp != stamp || decided {
            *self = Self {
                held: self.stamp == stamp && self.decision(check) == Decision::Passed,
                stamp: stamp.to_owned(),
                last: self.last.take(),
                ..Self::default()
            };
        }
    }

    fn settled_before(&self, now: Instant) -> bool {
        // A second look within one pass is the same look.
        self.at
            .is_some_and(|at| now.saturating_duration_since(at) > Duration::from_millis(50))
    }

    /// Whether the next try is due.
    pub fn due(&self, check: &Check, now: Instant) -> bool {
        self.decision(check) == Decision::Open
            && self.at.is_none_or(|at| {
                let slack = Duration::from_millis(20);
                now.saturating_duration_since(at) + slack >= check.interval.get()
            })
    }

    /// Takes a try into account.
    pub fn took(&mut self, tried: Try, now: Instant) {
        self.count += 1;
        if tried.passed {
            self.successes += 1;
        } else {
            self.successes = 0;
            self.failures += 1;
        }
        self.last = Some(tried);
        self.at = Some(now);
    }

    /// What the tries come to so far.
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Reason;

    fn tried(passed: bool) -> Try {
        Try {
            path: "http /".to_owned(),
            passed,
            reason: Reason::Succeeded,
            message: String::new(),
            took: Duration::ZERO,
        }
    }

    fn after(check: &Check, results: &[bool]) -> Decision {
        let mut tries = Tries::default();
        for passed in results {
            tries.took(tried(*passed), Instant::now());
        }
        tries.decision(check)
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
}
