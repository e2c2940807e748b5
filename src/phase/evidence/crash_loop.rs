//! A program that ends again and again. Fly.io starts it again each time, so that a look which finds it
//! running shows nothing: its events do (fly.io/docs/machines/guides-examples/machine-restart-policy/).

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::fly::{
    Machine,
    machines::{ExitEvent, MachineEvent},
};

/// Ends that make a crash loop.
pub const ENDS: usize = 3;

/// The time within which they count.
pub const WITHIN: SignedDuration = SignedDuration::from_mins(10);

/// The exit code of the last end, if the machine's program has failed at least [`ENDS`] times lately. What
/// an earlier version did is no failure of this one, a program that was stopped has not failed, and one that
/// has run for longer than ever between two of these ends goes on. Pure.
pub fn of(machine: &Machine, now: Timestamp) -> Option<i64> {
    let failures = failures(machine, now);
    let (last, code) = failures.last().copied()?;
    let gaps = failures.windows(2).filter_map(|pair| match pair {
        [(before, _), (after, _)] => Some(after - before),
        _ => None,
    });
    let longest = gaps.max()?;
    let started = starts(machine).max().filter(|started| *started > last);
    let goes_on = started.is_some_and(|started| now.as_millisecond() - started > longest);
    (failures.len() >= ENDS && !goes_on).then_some(code)
}

/// What is said of a machine in a crash loop whose last end had this code.
pub fn said(name: &str, code: i64) -> String {
    format!(
        "{name} exits again and again, at least {ENDS} times in {} minutes, the last time with code {code}; Fly.io starts it again each time",
        WITHIN.as_mins()
    )
}

/// How long the machine's program ran at most before it failed, in this version and lately; `None`: it has not, or ran
/// for longer than what counts. Until it has run for longer than that, it may fail again. Pure.
pub fn longest_run(machine: &Machine, now: Timestamp) -> Option<Duration> {
    let runs = failures(machine, now).into_iter().filter_map(|(end, _)| {
        let start = starts(machine).filter(|start| *start < end).max()?;
        u64::try_from(end - start).ok()
    });
    let longest = Duration::from_millis(runs.max()?);
    (longest <= WITHIN.unsigned_abs()).then_some(longest)
}

/// The times of an event, in milliseconds.
fn at(event: &MachineEvent) -> i64 {
    event.timestamp.unwrap_or(i64::MIN)
}

/// When the machine was started.
fn starts(machine: &Machine) -> impl Iterator<Item = i64> {
    let starts = machine.events.iter().filter(|event| event.kind == "start");
    starts.map(at)
}

/// When the program has failed lately in this version, and with which codes.
fn failures(machine: &Machine, now: Timestamp) -> Vec<(i64, i64)> {
    let begins = |event: &&MachineEvent| event.kind == "update" && event.status != "replaced";
    let begun = machine.events.iter().filter(begins).map(at).max();
    let recent = now.saturating_sub(WITHIN);
    let recent = recent.map_or(i64::MIN, Timestamp::as_millisecond);
    let mut failures: Vec<(i64, i64)> = Vec::new();
    for event in machine.events.iter().filter(|event| event.kind == "exit") {
        let Some(exit) = event.exit() else {
            continue;
        };
        let Some(code) = failure(exit) else {
            continue;
        };
        if at(event) >= recent && begun.is_none_or(|begun| at(event) > begun) {
            failures.push((at(event), code));
        }
    }
    failures.sort_unstable();
    failures
}

/// The code of an end that is a failure: it is not 0, a signal or the lack of memory ended the program, and nobody
/// had asked for it. -1 for none.
fn failure(exit: &ExitEvent) -> Option<i64> {
    let codes = [exit.guest_exit_code, exit.exit_code];
    let code = codes.into_iter().flatten().find(|code| *code != 0);
    let signals = [exit.guest_signal, exit.signal];
    // Fly.io says -1 for none.
    let by_signal = signals.into_iter().flatten().any(|signal| signal > 0);
    let by_memory = exit.oom_killed == Some(true);
    let is_unknown = codes == [None, None];
    let failed = code.is_some() || by_signal || by_memory || is_unknown;
    (failed && exit.requested_stop != Some(true)).then(|| code.unwrap_or(-1))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_program_that_fails_three_times_in_ten_minutes_is_in_a_crash_loop() {
        let now = Timestamp::from_second(10_000).unwrap();
        let exit = |second: i64, code: i64, requested: bool| {
            json!({"type": "exit", "status": "stopped", "timestamp": second * 1000, "request": {
                "exit_event": {"exit_code": code, "requested_stop": requested}}})
        };
        let code = |events: Value| {
            let machine = serde_json::from_value(json!({"id": "m", "events": events}));
            of(&machine.unwrap(), now)
        };
        let start = json!({"type": "start", "status": "started", "timestamp": 9_999_000});
        let (a, b, c) = (
            exit(9_500, 1, false),
            exit(9_700, 1, false),
            exit(9_900, 3, false),
        );
        assert_eq!(code(json!([start, c, b, a])), Some(3), "though it runs now");
        assert_eq!(code(json!([start, c, b])), None);
        assert_eq!(
            code(json!([c, b, exit(9_000, 1, false)])),
            None,
            "too long ago"
        );
        assert_eq!(
            code(json!([c, b, exit(9_600, 1, true)])),
            None,
            "it was stopped"
        );
        assert_eq!(
            code(json!([c, b, exit(9_600, 0, false)])),
            None,
            "it had done its work"
        );
        // It runs for longer than the 150 s that were the longest between two ends.
        let runs_since = |second: i64| {
            let start = json!({"type": "start", "status": "started", "timestamp": second * 1000});
            let (last, first) = (exit(9_650, 1, false), exit(9_450, 1, false));
            code(json!([start, last, exit(9_500, 1, false), first]))
        };
        assert_eq!(runs_since(9_799), None);
        assert_eq!(runs_since(9_900), Some(1), "not for long enough");
        assert_eq!(runs_since(9_600), Some(1), "nothing was started since");
        let update = json!({"type": "update", "status": "replacing", "timestamp": 9_800_000});
        assert_eq!(
            code(json!([c, update, b, a])),
            None,
            "of the version before"
        );
    }

    #[test]
    fn a_program_may_fail_again_until_it_has_run_for_longer_than_before_its_last_failures() {
        let now = Timestamp::from_second(10_000).unwrap();
        let exit = |second: i64, code: i64| {
            json!({"type": "exit", "status": "stopped", "timestamp": second * 1000, "request": {
                "exit_event": {"exit_code": code}}})
        };
        let start = |second: i64| json!({"type": "start", "timestamp": second * 1000});
        let longest = |events: Value| {
            let machine = serde_json::from_value(json!({"id": "m", "events": events}));
            longest_run(&machine.unwrap(), now)
        };
        let seconds = Duration::from_secs;
        assert_eq!(longest(json!([start(9_900)])), None, "it has not failed");
        let once = json!([start(9_950), exit(9_949, 1), start(9_900)]);
        assert_eq!(longest(once), Some(seconds(49)));
        let twice = json!([
            start(9_990),
            exit(9_989, 1),
            start(9_950),
            exit(9_949, 1),
            start(9_900),
        ]);
        assert_eq!(longest(twice), Some(seconds(49)));
        let well = json!([start(9_950), exit(9_949, 0), start(9_900)]);
        assert_eq!(longest(well), None);
        let days = json!([start(9_950), exit(9_949, 1), start(900)]);
        assert_eq!(longest(days), None, "it had run for long");
    }

    #[test]
    fn a_program_without_memory_or_ended_by_a_signal_has_failed_whatever_its_code_is() {
        let failure = |exit: Value| failure(&serde_json::from_value(exit).unwrap());
        let oom = json!({"exit_code": 137, "guest_exit_code": 0, "oom_killed": true});
        assert_eq!(failure(oom), Some(137));
        let alone = json!({"exit_code": 0, "guest_exit_code": 0, "oom_killed": true});
        assert_eq!(failure(alone), Some(-1));
        let signal =
            json!({"exit_code": 0, "guest_exit_code": 0, "guest_signal": 11, "signal": -1});
        assert_eq!(failure(signal), Some(-1));
        let well = json!({"exit_code": 0, "guest_exit_code": 0, "guest_signal": -1, "signal": -1});
        assert_eq!(failure(well), None);
        let stopped = json!({"exit_code": 143, "signal": 15, "requested_stop": true});
        assert_eq!(failure(stopped), None);
        assert_eq!(
            failure(json!({})),
            Some(-1),
            "nothing says that it went well"
        );
    }
}
