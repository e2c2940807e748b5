use serde_json::{Value, json};

use super::*;
use crate::notify::{Ended, Outbox, Route, Stage};

/// 2026-11-24T12:00:00Z and so many seconds.
fn at(seconds: i64) -> Timestamp {
    let noon: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
    noon.checked_add(SignedDuration::from_secs(seconds))
        .unwrap()
}

fn status(value: Value) -> ActivationStatus {
    serde_json::from_value(value).unwrap()
}

fn gates(on_timeout: &str) -> Vec<Gate> {
    let gate = json!([{"before": "Deploy", "onTimeout": on_timeout}]);
    serde_json::from_value(gate).unwrap()
}

/// What is true of a topic.
fn of(status: &ActivationStatus, gates: &[Gate], topic: &Topic, now: Timestamp) -> Fact {
    let subject = Subject {
        status,
        generation: 1,
        gates,
        test: None,
        now,
    };
    let facts = facts(subject);
    let found = facts.into_iter().find(|fact| fact.topic == *topic);
    found.unwrap_or_else(|| Fact::unknown(topic.clone()))
}

fn asked(state: &str, reminders: u32) -> ActivationStatus {
    status(json!({"phases": [{
        "name": "Deploy", "state": "AwaitingApproval", "owner": "Lead",
        "message": "to approve: kubectl create …",
        "gate": {
            "state": state, "digest": "sha256:0123456789abcdef", "reminders": reminders,
            "requestedAt": at(0), "expiresAt": at(400), "approvedBy": [],
        },
    }]}))
}

#[test]
fn a_gate_asks_warns_before_it_decides_by_itself_and_says_which_way() {
    let gate = Topic::Gate(PhaseName::Deploy);
    let requested = asked("Requested", 0);
    for (on_timeout, early, late) in [
        ("Reject", Event::ApprovalRequested, Event::ApprovalExpiring),
        (
            "Continue",
            Event::ApprovalRequested,
            Event::ApprovalExpiring,
        ),
        ("Remind", Event::ApprovalRequested, Event::ApprovalRequested),
    ] {
        let gates = gates(on_timeout);
        let first = of(&requested, &gates, &gate, at(299));
        let then = of(&requested, &gates, &gate, at(300));
        assert_eq!((first.event, then.event), (early, late), "{on_timeout}");
        assert_eq!(then.manner, Manner::Alarm);
        assert_eq!(then.owner.as_deref(), Some("Lead"));
    }
    let title = |on_timeout| of(&requested, &gates(on_timeout), &gate, at(300)).title;
    assert!(title("Reject").contains("rejected"));
    assert!(title("Continue").contains("begin without an approval"));
}

#[test]
fn each_reminder_is_news_of_the_same_alarm() {
    let gate = Topic::Gate(PhaseName::Deploy);
    let gates = gates("Remind");
    let routes = [Route {
        receiver: "ops".to_owned(),
        ..Route::default()
    }];
    let mut outbox = Outbox::default();
    let mut told = Vec::new();
    for reminders in [0, 1, 1, 2] {
        let fact = of(&asked("Requested", reminders), &gates, &gate, at(0));
        outbox.take_in(&[fact], &routes, "u", at(0));
        let due = outbox.due(&routes, at(0)).into_iter();
        for message in due.map(|due| due.message).collect::<Vec<_>>() {
            outbox.ended("ops", &message.id, Ended::Delivered, at(0));
            told.push((message.event, message.key));
        }
    }
    let events: Vec<Event> = told.iter().map(|(event, _)| *event).collect();
    assert_eq!(
        events,
        [
            Event::ApprovalRequested,
            Event::ApprovalReminder,
            Event::ApprovalReminder
        ]
    );
    assert!(told.iter().all(|(_, key)| *key == told[0].1));
}

#[test]
fn a_gate_that_asks_nobody_any_more_ends_its_alarm() {
    let gate = Topic::Gate(PhaseName::Deploy);
    for (state, manner, event) in [
        ("Pending", Manner::Quiet, Event::Withdrawn),
        ("Approved", Manner::Once, Event::ApprovalGranted),
        ("Rejected", Manner::Once, Event::ApprovalRefused),
        ("Expired", Manner::Once, Event::ApprovalRefused),
    ] {
        let fact = of(&asked(state, 0), &[], &gate, at(0));
        assert_eq!((fact.manner, fact.event), (manner, event), "{state}");
    }
    let by_itself = of(&asked("Approved", 0), &[], &gate, at(0));
    assert!(by_itself.text.contains("`onTimeout` is Continue"));
}

#[test]
fn a_deadline_is_near_then_passed_and_then_no_longer_counts() {
    let topic = Topic::Deadline(PhaseName::Provision);
    let phase = |state: &str| {
        status(json!({"phases": [{
            "name": "Provision", "state": state, "startedAt": at(0), "deadline": at(1000),
        }]}))
    };
    let running = phase("Running");
    for (seconds, event, manner) in [
        (749, Event::Withdrawn, Manner::Quiet),
        (750, Event::DeadlineNear, Manner::Alarm),
        (1000, Event::DeadlinePassed, Manner::Alarm),
    ] {
        let fact = of(&running, &[], &topic, at(seconds));
        assert_eq!((fact.event, fact.manner), (event, manner), "{seconds}");
    }
    let done = of(&phase("Succeeded"), &[], &topic, at(5000));
    assert_eq!(done.manner, Manner::Quiet);
}

#[test]
fn the_time_alone_brings_news_and_the_instant_is_known_before() {
    let next = |status: &ActivationStatus, now| {
        next_change(Subject {
            status,
            generation: 1,
            gates: &[],
            test: None,
            now,
        })
    };
    let running = status(json!({"phases": [{
        "name": "Provision", "state": "Running", "startedAt": at(0), "deadline": at(1000),
    }]}));
    assert_eq!(next(&running, at(0)), Some(at(750)));
    assert_eq!(next(&running, at(750)), Some(at(1000)));
    assert_eq!(next(&running, at(1000)), None);
    assert_eq!(next(&asked("Requested", 0), at(0)), Some(at(300)));
    let suspended = status(json!({"conditions": [{
        "type": "Suspended", "status": "True", "reason": "Suspended", "message": "by the lead",
        "lastTransitionTime": at(0),
    }]}));
    let day = 24 * 3600;
    assert_eq!(next(&suspended, at(5)), Some(at(day)));
    let before = of(&suspended, &[], &Topic::Suspension, at(day - 1));
    assert_eq!(before.manner, Manner::Unknown);
    let after = of(&suspended, &[], &Topic::Suspension, at(day));
    assert_eq!(after.event, Event::SuspendedTooLong);
}

#[test]
fn a_site_is_down_only_when_that_is_known_and_only_after_go_live() {
    let live = |value: &str, went_live: bool| {
        let mut status = json!({"conditions": [{
            "type": "Live", "status": value, "reason": "SmokeTestFailed", "message": "answered 503",
            "lastTransitionTime": at(0),
        }]});
        if went_live {
            status["goLive"] = json!({"time": at(0)});
        }
        self::status(status)
    };
    for (value, went_live, manner) in [
        ("False", true, Manner::Alarm),
        ("True", true, Manner::Quiet),
        ("Unknown", true, Manner::Unknown),
        ("False", false, Manner::Unknown),
    ] {
        let fact = of(&live(value, went_live), &[], &Topic::Site, at(1));
        assert_eq!(fact.manner, manner, "{value} {went_live}");
    }
}

#[test]
fn what_happened_before_the_first_receiver_is_no_news() {
    let facts = |status: &ActivationStatus| {
        facts(Subject {
            status,
            generation: 1,
            gates: &[],
            test: None,
            now: at(0),
        })
    };
    let long_ago = status(json!({
        "goLive": {"time": at(-9000)},
        "phases": [{"name": "Deploy", "state": "Succeeded", "starts": 3}],
        "history": [{"number": 4, "outcome": "RolledBack", "time": at(-5000), "why": "x"}],
        "conditions": [{
            "type": "Live", "status": "False", "reason": "SmokeTestFailed", "message": "503",
            "lastTransitionTime": at(-60),
        }],
    }));
    let routes = [Route {
        receiver: "ops".to_owned(),
        ..Route::default()
    }];
    let facts = facts(&long_ago);
    let mut outbox = Outbox::of_a_live_one(&facts);
    outbox.take_in(&facts, &routes, "u", at(0));
    assert_eq!(outbox.waiting(), 1);
    let due = outbox.due(&routes, at(0));
    assert_eq!(
        (due[0].message.event, due[0].message.stage),
        (Event::SiteDown, Stage::Open)
    );
}

#[test]
fn the_essence_of_a_status_has_the_same_facts() {
    let whole = asked("Requested", 1);
    let gates = gates("Remind");
    let all = |status: &ActivationStatus| {
        facts(Subject {
            status,
            generation: 1,
            gates: &gates,
            test: Some("now"),
            now: at(350),
        })
    };
    assert_eq!(all(&essence(&whole)), all(&whole));
}

#[test]
fn an_objective_without_data_is_neither_breached_nor_met() {
    let objective = |result: &str, reason: &str| {
        let entry = json!({"name": "text", "result": result, "reason": reason, "message": "4.1 s"});
        let phase = json!({"name": "Observe", "state": "Running", "owner": "SRE"});
        status(json!({"objectives": [entry], "phases": [phase]}))
    };
    let topic = Topic::Objective("text".to_owned());
    for (result, reason, manner, event) in [
        (
            "Failed",
            "ObjectiveBreached",
            Manner::Alarm,
            Event::ObjectiveBreached,
        ),
        (
            "Warning",
            "BudgetBurning",
            Manner::Alarm,
            Event::BudgetBurning,
        ),
        (
            "Passed",
            "ObjectivesMet",
            Manner::Quiet,
            Event::ObjectiveRecovered,
        ),
        ("Unknown", "NoData", Manner::Unknown, Event::Test),
    ] {
        let fact = of(&objective(result, reason), &[], &topic, at(0));
        assert_eq!((fact.manner, fact.event), (manner, event), "{reason}");
    }
    let breached = of(&objective("Failed", "x"), &[], &topic, at(0));
    assert_eq!(breached.owner.as_deref(), Some("SRE"));
}

#[test]
fn a_watch_is_told_when_it_has_ended_and_not_before() {
    let ended = |value: &str, reason: &str| {
        status(json!({"goLive": {"time": at(-9000)}, "conditions": [{
            "type": "Stabilized", "status": value, "reason": reason, "message": "0.4 %",
            "lastTransitionTime": at(0),
        }]}))
    };
    for (value, reason, event) in [
        ("True", "Stabilized", Event::Stabilized),
        ("False", "NotStabilized", Event::NotStabilized),
        ("Unknown", "Watching", Event::Test),
        ("False", "Waiting", Event::Test),
    ] {
        let fact = of(&ended(value, reason), &[], &Topic::Watch, at(1));
        assert_eq!(fact.event, event, "{value} {reason}");
    }
}
