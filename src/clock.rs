//! Time: the one place that reads the wall clock, the durations that flags set, and back-off.
//!
//! Code that decides takes `now` as an argument. Code that acts takes a [`Now`], so that a test
//! sets the time. Elapsed time is measured with [`std::time::Instant`], which no administrator and
//! no time server can change.

use std::time::Duration;

use jiff::Timestamp;

/// A source of the present time.
pub type Now = fn() -> Timestamp;

/// The wall clock of this machine.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the wall clock"
)]
pub fn wall() -> Timestamp {
    Timestamp::now()
}

/// Durations that the operator's flags set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Pause between two rechecks of an object that matches its spec.
    pub recheck: Duration,
    /// Pause after the first failure.
    pub backoff_min: Duration,
    /// Longest pause after failures.
    pub backoff_max: Duration,
    /// Time between two lists without the object before a create of unknown outcome is sent again.
    pub settle: Duration,
    /// Deadline of one reconcile.
    pub deadline: Duration,
    /// Pause between two observations of something that Fly.io offers no long poll for.
    pub poll: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            recheck: Duration::from_secs(300),
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(300),
            settle: Duration::from_secs(10),
            deadline: Duration::from_secs(120),
            poll: Duration::from_secs(2),
        }
    }
}

/// Pause after `attempts` failures in a row: doubles from the minimum to the maximum.
pub fn backoff_without_jitter(timing: &Timing, attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1);
    let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
    timing
        .backoff_min
        .saturating_mul(factor)
        .min(timing.backoff_max)
}

/// Pause after `attempts` failures in a row, with up to 10 % of jitter on top, so that objects that
/// failed together are not retried together.
pub fn backoff(timing: &Timing, attempts: u32) -> Duration {
    let base = backoff_without_jitter(timing, attempts);
    let jitter = u32::try_from(base.as_millis() / 10).unwrap_or(u32::MAX);
    base + Duration::from_millis(u64::from(rand::random_range(0..=jitter)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_doubles_to_its_maximum_and_never_overflows() {
        let timing = Timing {
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(300),
            ..Timing::default()
        };
        for (attempts, least) in [
            (0, 1),
            (1, 1),
            (2, 2),
            (5, 16),
            (9, 256),
            (10, 300),
            (99, 300),
        ] {
            let pause = backoff(&timing, attempts);
            assert!(pause >= Duration::from_secs(least), "{attempts}: {pause:?}");
            assert!(
                pause <= Duration::from_secs(least) * 11 / 10,
                "{attempts}: {pause:?}"
            );
        }
    }
}
