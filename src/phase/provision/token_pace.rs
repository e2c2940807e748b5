//! How often a token for the app is made: when one is replaced, and how long the next making rests.
//! Pure.
//!
//! Fly.io decides how long a token lasts, and an organization may allow less than what is asked for.
//! So a token is renewed by its own lifetime, and whatever makes tokens unusable leads to few of
//! them: the user's token is used meanwhile.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// How long before its end a token is replaced, at most.
const RENEW_BEFORE: SignedDuration = SignedDuration::from_hours(10 * 24);

/// A token is replaced when less than this part of its lifetime is left.
const RENEW_PART: i32 = 3;

/// Longest rest between two makings.
const LONGEST_REST: Duration = Duration::from_secs(24 * 3600);

/// A token that lasted this much longer than twice the rest was a good one.
const GOOD_FOR: Duration = Duration::from_secs(3600);

/// The making of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Making {
    /// When, by Fly.io's clock.
    pub at: Timestamp,
    /// How many were made in a row, each soon after the one before.
    pub row: u32,
}

impl Making {
    /// The making of another token now; `min` is the shortest rest.
    pub fn next(before: Option<Self>, now: Timestamp, min: Duration) -> Self {
        let row = match before {
            Some(before) if now < before.good_at(min) => before.row.saturating_add(1),
            _ => 1,
        };
        Self { at: now, row }
    }

    /// The rest after it: doubles with each making in a row.
    fn rest(self, min: Duration) -> Duration {
        let factor = 1u32.checked_shl(self.row).unwrap_or(u32::MAX);
        min.saturating_mul(factor).min(LONGEST_REST)
    }

    fn after(self, time: Duration) -> Timestamp {
        let time = SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
        self.at.saturating_add(time).unwrap_or(Timestamp::MAX)
    }

    fn good_at(self, min: Duration) -> Timestamp {
        self.after(self.rest(min) * 2 + GOOD_FOR)
    }

    /// The earliest time of the next making. A making in the future was written by a clock that was
    /// wrong, and counts as one of now.
    pub fn next_at(self, now: Timestamp, min: Duration) -> Timestamp {
        let known = Self {
            at: self.at.min(now),
            ..self
        };
        known.after(self.rest(min))
    }

    /// When the token that ends at this time should be replaced.
    pub fn renew_at(made: Option<Self>, end: Timestamp) -> Timestamp {
        let lifetime = made.map(|made| end.duration_since(made.at));
        let part = lifetime.map(|lifetime| lifetime.max(SignedDuration::ZERO) / RENEW_PART);
        let before = part.map_or(RENEW_BEFORE, |part| part.min(RENEW_BEFORE));
        end.saturating_sub(before).unwrap_or(Timestamp::MIN)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const MIN: Duration = Duration::from_secs(1);
    const DAY: i64 = 24 * 3600;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    /// How many tokens are made within this time when each is unusable from the beginning.
    fn made_within(seconds: i64) -> u32 {
        let mut making = Making::next(None, at(0), MIN);
        let mut count = 0;
        while making.at < at(seconds) {
            count += 1;
            let next = making.next_at(making.at, MIN);
            making = Making::next(Some(making), next, MIN);
        }
        count
    }

    #[test]
    fn tokens_that_are_unusable_at_once_are_made_seldom() {
        assert_eq!(made_within(60), 5);
        assert_eq!(made_within(3_600), 11);
        assert_eq!(made_within(DAY), 16);
        assert!(made_within(30 * DAY) <= 16 + 30);
    }

    #[test]
    fn a_token_that_lasted_begins_a_new_row() {
        let making = Making { at: at(0), row: 9 };
        assert_eq!(Making::next(Some(making), at(600), MIN).row, 10);
        assert_eq!(Making::next(Some(making), at(2 * 3_600), MIN).row, 1);
        let most = Making { at: at(0), row: 40 };
        assert_eq!(Making::next(Some(most), at(DAY), MIN).row, 41);
        assert_eq!(Making::next(Some(most), at(3 * DAY), MIN).row, 1);
    }

    #[test]
    fn a_token_is_renewed_by_its_own_lifetime() {
        let made = Some(Making { at: at(0), row: 1 });
        for (lasts, renewed) in [(30, 20), (60, 50), (9, 6), (3, 2)] {
            assert_eq!(Making::renew_at(made, at(lasts * DAY)), at(renewed * DAY));
        }
        assert_eq!(Making::renew_at(None, at(30 * DAY)), at(20 * DAY));
        // It had ended before it was made: another clock is wrong, and the rest decides.
        assert_eq!(Making::renew_at(made, at(-DAY)), at(-DAY));
    }

    #[test]
    fn a_making_in_the_future_delays_the_next_by_its_rest_alone() {
        let future = Making {
            at: at(365 * DAY),
            row: 1,
        };
        assert_eq!(future.next_at(at(0), MIN), at(2));
    }
}
