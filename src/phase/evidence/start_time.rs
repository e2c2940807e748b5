//! How long programs took to start, and the times in fly.toml that fit them. Pure.

use std::time::Duration;

use jiff::Timestamp;

use crate::fly::{Machine, machines::CheckResult};

/// Runs of a check later than this after its `grace_period` mean that the program was not ready at
/// the first ones.
const SLACK: Duration = Duration::from_secs(5);

/// The time of the latest start of a machine.
pub fn started_at(machine: &Machine) -> Option<Timestamp> {
    let starts = machine.events.iter().filter(|event| event.kind == "start");
    let times = starts.filter_map(|event| event.timestamp);
    Timestamp::from_millisecond(times.max()?).ok()
}

/// The time since the latest start of a machine.
pub fn running_for(machine: &Machine, now: Timestamp) -> Option<Duration> {
    Duration::try_from(now.duration_since(started_at(machine)?)).ok()
}

/// How long after its latest start this check of a machine began to pass, if it passes. Its time is
/// that of its last change.
pub fn measured(machine: &Machine, check: &str) -> Option<Duration> {
    let check = machine.checks.iter().find(|found| found.name == check)?;
    if check.status != CheckResult::Passing {
        return None;
    }
    let passed = check.updated_at?;
    // A check of a machine that passed before the latest start says nothing about that start.
    Duration::try_from(passed.duration_since(started_at(machine)?)).ok()
}

/// Whether a start of this length is longer than a check's `grace_period` allows for.
pub fn is_slow(start: Duration, grace_period: Duration) -> bool {
    start > grace_period + SLACK
}

/// A time that leaves half as much again for a slower start, rounded up as a person would write it.
pub fn with_reserve(start: Duration) -> Duration {
    let seconds = (start + start / 2).as_secs().max(1);
    let step = match seconds {
        0..60 => 5,
        60..300 => 15,
        _ => 60,
    };
    Duration::from_secs(seconds.div_ceil(step) * step)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn machine(status: &str, passed_after: i64) -> Machine {
        let began = 1_800_000_000_i64;
        let at = |second: i64| Timestamp::from_second(began + second).unwrap();
        serde_json::from_value(json!({
            "id": "m",
            "events": [
                {"type": "start", "timestamp": began * 1000},
                {"type": "start", "timestamp": (began - 100) * 1000},
            ],
            "checks": [{"name": "alive", "status": status,
                "updated_at": at(passed_after).to_string()}],
        }))
        .unwrap()
    }

    #[test]
    fn a_start_lasts_until_the_check_passes_and_only_the_latest_start_counts() {
        let seconds = |machine: &Machine| measured(machine, "alive").map(|start| start.as_secs());
        assert_eq!(seconds(&machine("passing", 42)), Some(42));
        assert_eq!(seconds(&machine("critical", 42)), None);
        assert_eq!(seconds(&machine("passing", -3)), None);
        assert_eq!(measured(&machine("passing", 42), "other"), None);
    }

    #[test]
    fn proposed_times_have_a_reserve_and_are_round() {
        let proposed = |seconds| with_reserve(Duration::from_secs(seconds)).as_secs();
        assert_eq!([proposed(0), proposed(7), proposed(20)], [5, 10, 30]);
        assert_eq!([proposed(42), proposed(90), proposed(300)], [75, 135, 480]);
        let seconds = Duration::from_secs;
        assert!(!is_slow(seconds(15), seconds(10)));
        assert!(is_slow(seconds(16), seconds(10)));
    }
}
