//! A program that ends again and again. Fly.io starts it again each time, so that a look which finds it
//! running shows nothing: its events do (fly.io/docs/machines/guides-examples/machine-restart-policy/).

use jiff::{SignedDuration, Timestamp};

use crate::fly::{Machine, machines::MachineEvent};

/// Ends that make a crash loop.
pub const ENDS: usize = 3;

/// The time within which they count.
pub const WITHIN: SignedDuration = SignedDuration::from_mins(10);

/// The exit code of the last end, if the machine's program has failed at least [`ENDS`] times lately. What
/// an earlier version did is no failure of this one, and a program that was stopped has not failed. Pure.
pub fn of(machine: &Machine, now: Timestamp) -> Option<i64> {
    let at = |event: &MachineEvent| event.timestamp.unwrap_or(i64::MIN);
    let begins = |event: &&MachineEvent| event.kind == "update" && event.status != "replaced";
    let begun = machine.events.iter().filter(begins).map(at).max();
    let recent = now.saturating_sub(WITHIN).ok()?.as_millisecond();
    let mut failures: Vec<(i64, i64)> = Vec::new();
    for event in machine.events.iter().filter(|event| event.kind == "exit") {
        let Some(exit) = event.exit() else {
            continue;
        };
        let code = exit.guest_exit_code.or(exit.exit_code).unwrap_or(-1);
        let failed = exit.requested_stop != Some(true) && code != 0;
        if failed && at(event) >= recent && begun.is_none_or(|begun| at(event) > begun) {
            failures.push((at(event), code));
        }
    }
    let (_, code) = failures.iter().max().copied()?;
    (failures.len() >= ENDS).then_some(code)
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
        let update = json!({"type": "update", "status": "replacing", "timestamp": 9_800_000});
        assert_eq!(
            code(json!([c, update, b, a])),
            None,
            "of the version before"
        );
    }
}
