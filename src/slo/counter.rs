//! Counters: what was added between two readings, and whose counter it is.
//!
//! Source: prometheus/docs, `concepts/metric_types.md` and `practices/instrumentation.md`: a counter only
//! increases, and begins at zero when its process starts.

use super::histogram::is_count;

/// How far in the future a process may say it started: its clock is not ours.
///
/// Unit: seconds.
const SKEW: f64 = 60.0;

/// What two readings say about their processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// The same process, or nothing says otherwise: only a decrease is a reset.
    Same,
    /// Another process: its counters began at zero.
    Restarted,
}

/// What was added to a counter between two readings of one series. A decrease is a reset: the counter began
/// at zero again, and all that it shows is new. None for a value that cannot be a counter's.
#[must_use]
pub fn increase(before: f64, after: f64, process: Process) -> Option<f64> {
    if !is_count(before) || !is_count(after) {
        return None;
    }
    Some(match process {
        Process::Same if after >= before => after - before,
        Process::Same | Process::Restarted => after,
    })
}

/// Whether a reading is of the process of the one before it, by `process_start_time_seconds` (in seconds
/// since 1970). Clients print it with few or many digits, so a tenth of a second is no difference.
#[must_use]
pub fn process(before: Option<f64>, after: Option<f64>) -> Process {
    match (before, after) {
        (Some(before), Some(after)) if (before - after).abs() > 0.1 => Process::Restarted,
        _ => Process::Same,
    }
}

/// Whether a process that is met for the first time started inside the watch, after the last complete
/// observation: then all that its counters show happened since. The time of the last observation and of this
/// one are in milliseconds since 1970.
///
/// A start in the future is not believed.
#[must_use]
pub fn is_new(start: Option<f64>, last: i64, now: i64) -> bool {
    let seconds = |millis: i64| millis as f64 / 1000.0;
    start.is_some_and(|start| start >= seconds(last) && start <= seconds(now) + SKEW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decrease_is_a_reset_and_a_new_process_begins_at_zero() {
        for (before, after, process, expected) in [
            (10.0, 15.0, Process::Same, Some(5.0)),
            (10.0, 10.0, Process::Same, Some(0.0)),
            (10.0, 4.0, Process::Same, Some(4.0)),
            (10.0, 15.0, Process::Restarted, Some(15.0)),
            (f64::NAN, 4.0, Process::Same, None),
            (4.0, f64::NAN, Process::Same, None),
            (4.0, f64::INFINITY, Process::Same, None),
            (4.0, -1.0, Process::Same, None),
        ] {
            assert_eq!(
                increase(before, after, process),
                expected,
                "{before} {after}"
            );
        }
    }

    #[test]
    fn a_process_is_told_by_its_start() {
        assert_eq!(process(Some(1e9), Some(1e9 + 0.05)), Process::Same);
        assert_eq!(process(Some(1e9), Some(1e9 + 1.0)), Process::Restarted);
        assert_eq!(process(Some(1e9), Some(1e9 - 500.0)), Process::Restarted);
        assert_eq!(process(None, Some(1e9)), Process::Same);
        assert_eq!(process(Some(1e9), None), Process::Same);
    }

    #[test]
    fn a_machine_is_new_only_if_it_started_since_the_last_observation() {
        let (last, now) = (1_000_000, 1_030_000);
        assert!(is_new(Some(1_010.0), last, now));
        assert!(!is_new(Some(900.0), last, now), "it was only not seen");
        assert!(!is_new(None, last, now));
        assert!(!is_new(Some(9_999.0), last, now), "a clock that is wrong");
        assert!(is_new(Some(1_050.0), last, now), "a clock a bit ahead");
    }
}
