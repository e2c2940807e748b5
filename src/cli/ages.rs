//! Times and durations as people read them. Pure.

use jiff::{SignedDuration, Timestamp};

/// The two largest units of a duration: `12s`, `3m5s`, `1h57m`, `2d3h`. Without its sign.
pub(super) fn duration(length: SignedDuration) -> String {
    let seconds = length.as_secs().unsigned_abs();
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    let two = |first: u64, unit: &str, second: u64, smaller: &str| {
        if second == 0 {
            format!("{first}{unit}")
        } else {
            format!("{first}{unit}{second}{smaller}")
        }
    };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest}s"),
        (0, 0, _) => two(minutes, "m", rest, "s"),
        (0, _, _) => two(hours, "h", minutes, "m"),
        _ => two(days, "d", hours, "h"),
    }
}

/// The time from then to now.
pub(super) fn since(then: Timestamp, now: Timestamp) -> String {
    duration(now.duration_since(then))
}

/// `in 3m`, or `3m ago`.
pub(super) fn relative(then: Timestamp, now: Timestamp) -> String {
    let length = since(then, now);
    if then > now {
        format!("in {length}")
    } else {
        format!("{length} ago")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_its_two_largest_units() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (185, "3m5s"),
            (3_600, "1h"),
            (7_020, "1h57m"),
            (90_000, "1d1h"),
            (-185, "3m5s"),
        ] {
            assert_eq!(duration(SignedDuration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_time_is_before_or_after_now() {
        let at = |second| Timestamp::from_second(second).unwrap_or_default();
        assert_eq!(relative(at(100), at(40)), "in 1m");
        assert_eq!(relative(at(40), at(100)), "1m ago");
    }
}
