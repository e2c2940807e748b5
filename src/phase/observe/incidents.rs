//! What happened to the application while it was watched. Pure; the facts are those that the pipeline
//! observes anyway.

use jiff::{SignedDuration, Timestamp};

use crate::{
    api::{
        condition::whole_seconds,
        status::{IncidentKind, IncidentStatus, MAX_MESSAGE, one_line},
    },
    fly::{Machine, machines::CheckResult},
};

/// Most incidents that are kept; those that are not critical go first, the oldest before the others.
pub const MOST: usize = 32;

/// A machine whose program ends this often in [`LOOP`] restarts in a loop.
const ENDS: usize = 3;

/// See [`ENDS`].
const LOOP: SignedDuration = SignedDuration::from_mins(10);

/// A check that fails for this long is an incident.
const FAILING: SignedDuration = SignedDuration::from_mins(1);

/// A check that fails for this long is a critical one.
const CRITICAL: SignedDuration = SignedDuration::from_mins(5);

/// What Fly.io says of a machine since `since`, at `now`, both by Fly.io's clock: one for each end of its
/// program, in the order of their times, for [`merge`].
pub fn of_machine(machine: &Machine, since: Timestamp, now: Timestamp) -> Vec<IncidentStatus> {
    let mut incidents = ends(machine, since, now);
    incidents.extend(checks(machine, since, now));
    incidents
}

fn incident(kind: IncidentKind, machine: &Machine, at: Timestamp) -> IncidentStatus {
    IncidentStatus {
        kind,
        subject: one_line(&machine.id, 64),
        time: Some(whole_seconds(at)),
        count: 1,
        ..IncidentStatus::default()
    }
}

/// Ends of its program that nobody has asked for.
fn ends(machine: &Machine, since: Timestamp, now: Timestamp) -> Vec<IncidentStatus> {
    let mut incidents: Vec<IncidentStatus> = Vec::new();
    let mut recent = Vec::new();
    let mut events: Vec<_> = machine.events.iter().collect();
    events.sort_by_key(|event| event.timestamp);
    for event in events {
        let at = event
            .timestamp
            .and_then(|at| Timestamp::from_millisecond(at).ok());
        let (Some(at), Some(exit)) = (at, event.exit()) else {
            continue;
        };
        if event.kind != "exit" || at < since || exit.requested_stop == Some(true) {
            continue;
        }
        if now.duration_since(at) <= LOOP {
            recent.push(at);
        }
        let code = exit.guest_exit_code.or(exit.exit_code);
        let code = code.map_or_else(String::new, |code| format!(" with code {code}"));
        let found = match exit.oom_killed {
            Some(true) => IncidentStatus {
                critical: true,
                message: format!("machine {} ran out of memory", machine.id),
                ..incident(IncidentKind::OutOfMemory, machine, at)
            },
            _ => IncidentStatus {
                message: format!("the program of machine {} ended{code}", machine.id),
                ..incident(IncidentKind::MachineCrashed, machine, at)
            },
        };
        // One for each end: whoever knows the earlier ones counts the later.
        incidents.push(found);
    }
    if let Some(last) = recent.last().filter(|_| recent.len() >= ENDS) {
        incidents.push(IncidentStatus {
            critical: true,
            message: format!(
                "the program of machine {} ended {ENDS} times or more in {} minutes",
                machine.id,
                LOOP.as_mins()
            ),
            ..incident(IncidentKind::RestartLoop, machine, *last)
        });
    }
    incidents
}

/// Checks that have failed for a while.
fn checks(machine: &Machine, since: Timestamp, now: Timestamp) -> Option<IncidentStatus> {
    let failing = machine.checks.0.iter().filter_map(|check| {
        let at = check
            .updated_at
            .filter(|_| check.status == CheckResult::Critical)?;
        let lasts = now.duration_since(at.max(since));
        (lasts >= FAILING).then_some((at.max(since), lasts, &check.name))
    });
    let (at, lasts, name) = failing.max_by_key(|(_, lasts, _)| *lasts)?;
    Some(IncidentStatus {
        critical: lasts >= CRITICAL,
        message: one_line(
            &format!("the check {name} of machine {} fails", machine.id),
            MAX_MESSAGE / 2,
        ),
        ..incident(IncidentKind::CheckFailing, machine, at)
    })
}

/// A release was rolled back.
pub fn rolled_back(from: u64, to: u64, at: Timestamp, why: &str) -> IncidentStatus {
    IncidentStatus {
        kind: IncidentKind::RolledBack,
        subject: format!("release {from}"),
        time: Some(whole_seconds(at)),
        critical: true,
        message: one_line(
            &format!("release {from} was rolled back to release {to}: {why}"),
            MAX_MESSAGE / 2,
        ),
        count: 1,
    }
}

/// Adds an incident: the same thing again, at a later time, counts one more.
pub fn merge(incidents: &mut Vec<IncidentStatus>, new: IncidentStatus) {
    let time = |incident: &IncidentStatus| incident.time.as_ref().map(|time| time.0);
    let mut known = incidents.iter_mut();
    let same = known.find(|known| known.kind == new.kind && known.subject == new.subject);
    if let Some(same) = same {
        if time(&new) > time(same) {
            same.count = same.count.saturating_add(new.count);
            same.time = new.time;
            same.message = new.message;
        }
        same.critical |= new.critical;
    } else {
        incidents.push(new);
    }
    incidents.sort_by_key(|incident| std::cmp::Reverse(time(incident)));
    while incidents.len() > MOST {
        let least = incidents.iter().rposition(|incident| !incident.critical);
        incidents.remove(least.unwrap_or(incidents.len() - 1));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn exit(second: i64, details: serde_json::Value) -> serde_json::Value {
        json!({
            "id": format!("e{second}"), "type": "exit", "status": "stopped",
            "timestamp": at(second).as_millisecond(), "request": {"exit_event": details},
        })
    }

    fn machine(events: &[serde_json::Value], checks: serde_json::Value) -> Machine {
        serde_json::from_value(json!({
            "id": "m1", "name": "m1", "state": "started", "region": "eze", "instance_id": "i",
            "events": events, "checks": checks,
        }))
        .unwrap()
    }

    fn kinds(machine: &Machine, now: i64) -> Vec<(IncidentKind, bool, i64)> {
        let mut list = Vec::new();
        for found in of_machine(machine, at(0), at(now)) {
            merge(&mut list, found);
        }
        let mut found: Vec<_> = list
            .into_iter()
            .map(|incident| (incident.kind, incident.critical, incident.count))
            .collect();
        found.sort();
        found
    }

    #[test]
    fn a_crash_is_an_incident_and_a_stop_that_was_asked_for_is_none() {
        let crash = json!({"guest_exit_code": 1, "requested_stop": false});
        let stop = json!({"guest_exit_code": 0, "requested_stop": true});
        let events = [
            exit(-10, crash.clone()),
            exit(20, stop),
            exit(30, crash.clone()),
        ];
        let found = kinds(&machine(&events, json!([])), 40);
        assert_eq!(found, [(IncidentKind::MachineCrashed, false, 1)]);
        let again = [30, 60, 90].map(|second| exit(second, crash.clone()));
        let found = kinds(&machine(&again, json!([])), 100);
        assert_eq!(
            found,
            [
                (IncidentKind::MachineCrashed, false, 3),
                (IncidentKind::RestartLoop, true, 1)
            ]
        );
    }

    #[test]
    fn what_ended_between_two_looks_counts_once_each() {
        let crash = |second| exit(second, json!({"guest_exit_code": 1}));
        let mut list = Vec::new();
        let mut look = |seconds: &[i64], now: i64| {
            let events: Vec<_> = seconds.iter().map(|second| crash(*second)).collect();
            for found in of_machine(&machine(&events, json!([])), at(0), at(now)) {
                merge(&mut list, found);
            }
            let crashed = list
                .iter()
                .find(|one: &&IncidentStatus| one.kind == IncidentKind::MachineCrashed);
            crashed.map(|one| one.count)
        };
        assert_eq!(look(&[30], 40), Some(1));
        assert_eq!(look(&[30, 700, 1400], 1410), Some(3), "two more");
        assert_eq!(look(&[30, 700, 1400], 1420), Some(3), "the same look");
        assert_eq!(
            look(&[700, 1400, 2100], 2110),
            Some(4),
            "Fly.io keeps the last"
        );
    }

    #[test]
    fn a_machine_without_memory_is_a_critical_incident() {
        let events = [exit(30, json!({"exit_code": 137, "oom_killed": true}))];
        let found = kinds(&machine(&events, json!([])), 40);
        assert_eq!(found, [(IncidentKind::OutOfMemory, true, 1)]);
    }

    #[test]
    fn a_check_is_an_incident_when_it_fails_for_a_while_and_critical_when_it_goes_on() {
        let failing = |second: i64, now: i64| {
            let checks = json!([{"name": "http", "status": "critical", "updated_at": at(second).to_string()}]);
            kinds(&machine(&[], checks), now)
        };
        assert_eq!(failing(30, 50), []);
        assert_eq!(failing(30, 100), [(IncidentKind::CheckFailing, false, 1)]);
        assert_eq!(failing(30, 400), [(IncidentKind::CheckFailing, true, 1)]);
    }

    #[test]
    fn the_same_again_counts_and_the_list_stays_bounded_with_what_is_critical() {
        let mut list = Vec::new();
        let crash = |subject: usize, second: i64| IncidentStatus {
            subject: format!("m{subject}"),
            time: Some(whole_seconds(at(second))),
            count: 1,
            ..IncidentStatus::default()
        };
        merge(&mut list, rolled_back(2, 1, at(0), "errors"));
        for _ in 0..3 {
            merge(&mut list, crash(0, 10));
        }
        merge(&mut list, crash(0, 20));
        assert_eq!(list[0].count, 2, "the same look again is no other crash");
        for number in 1..100 {
            merge(&mut list, crash(number, 100));
        }
        assert_eq!(list.len(), MOST);
        assert!(list.iter().any(|incident| incident.critical));
    }
}
