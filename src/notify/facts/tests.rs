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

fn watched(objective: Value, watch: Value, incidents: Value) -> ActivationStatus {
    status(json!({
        "goLive": {"time": at(-9000)},
        "release": {"number": 2, "image": "x"},
        "phases": [{"name": "Observe", "state": "Running", "owner": "SRE"}],
        "objectives": [objective], "watch": watch, "incidents": incidents,
    }))
}

fn text_objective(result: &str, reason: &str, severity: &str, burning: &str) -> ActivationStatus {
    let objective = json!({
        "name": "text", "description": "guests get answers", "result": result, "reason": reason,
        "message": "4.1 s", "severity": severity, "burning": burning,
        "burnRates": [{"window": "1h"}], "release": {"number": 2},
    });
    watched(
        objective,
        json!({"state": "Running", "number": 1}),
        json!([]),
    )
}

#[test]
fn an_objective_is_told_by_its_urgency_and_without_data_it_is_neither_breached_nor_met() {
    let topic = Topic::Objective("text".to_owned());
    let breached = (Manner::Alarm, Event::ObjectiveBreached);
    let burning = (Manner::Alarm, Event::BudgetBurning);
    let well = (Manner::Quiet, Event::ObjectiveRecovered);
    let unknown = (Manner::Unknown, Event::Test);
    for (result, reason, severity, burns, how, matters) in [
        (
            "Failed",
            "ObjectiveBreached",
            "Page",
            "",
            breached,
            Severity::Critical,
        ),
        (
            "Failed",
            "ObjectiveBreached",
            "Ticket",
            "",
            breached,
            Severity::Warning,
        ),
        (
            "Failed",
            "BudgetBurning",
            "Page",
            "Page",
            burning,
            Severity::Critical,
        ),
        (
            "Failed",
            "BudgetBurning",
            "Page",
            "Ticket",
            burning,
            Severity::Warning,
        ),
        ("Passed", "ObjectivesMet", "Page", "", well, Severity::Info),
        ("Unknown", "NoData", "Page", "", unknown, Severity::Info),
        (
            "Unknown",
            "InsufficientTraffic",
            "Page",
            "",
            unknown,
            Severity::Info,
        ),
    ] {
        let fact = of(
            &text_objective(result, reason, severity, burns),
            &[],
            &topic,
            at(0),
        );
        assert_eq!((fact.manner, fact.event), how, "{reason}");
        assert_eq!(fact.severity, matters, "{reason} {severity} {burns}");
    }
    let breached = text_objective("Failed", "ObjectiveBreached", "Page", "");
    let breached = of(&breached, &[], &topic, at(0));
    assert_eq!(breached.owner.as_deref(), Some("SRE"));
    assert_eq!(breached.text, "guests get answers: 4.1 s");
    let ticket = text_objective("Failed", "BudgetBurning", "Page", "Ticket");
    let page = text_objective("Failed", "BudgetBurning", "Page", "Page");
    let state = |status: &ActivationStatus| of(status, &[], &topic, at(0)).state;
    assert_ne!(
        state(&ticket),
        state(&page),
        "a ticket that becomes a page is news"
    );
}

#[test]
fn a_watch_is_told_when_it_has_ended_and_not_before() {
    let ended = |state: &str, number: i64| {
        let watch = json!({
            "state": state, "number": number, "verdict": "errors: 0.4 %", "follows": "look",
        });
        let status = watched(json!({"name": "text"}), watch, json!([]));
        of(&status, &[], &Topic::Watch, at(1))
    };
    for (state, event, severity) in [
        ("Running", Event::Test, Severity::Info),
        ("Stabilized", Event::Stabilized, Severity::Info),
        ("NotStabilized", Event::NotStabilized, Severity::Warning),
        ("Inconclusive", Event::NotStabilized, Severity::Warning),
    ] {
        let fact = ended(state, 1);
        assert_eq!((fact.event, fact.severity), (event, severity), "{state}");
    }
    let fact = ended("NotStabilized", 1);
    assert_eq!(
        (fact.text.as_str(), fact.next_action.as_str()),
        ("errors: 0.4 %", "look")
    );
    assert_ne!(fact.state, ended("NotStabilized", 2).state, "another watch");
    assert_ne!(fact.state, ended("Inconclusive", 1).state);
}

#[test]
fn a_breach_that_is_not_rolled_back_is_told_once_for_each_release_with_the_command() {
    let follows = "kubectl golive rollback shop -n web --to 1";
    let decided = |decision: Value| {
        let watch = json!({
            "state": "Running", "number": 1, "decision": decision, "follows": follows,
        });
        let status = watched(json!({"name": "text"}), watch, json!([]));
        of(&status, &[], &Topic::Breach, at(1))
    };
    for decision in ["WouldRollBack", "NothingToRestore", "Refused"] {
        let fact = decided(decision.into());
        assert_eq!(
            (fact.manner, fact.event),
            (Manner::Once, Event::WouldRollBack)
        );
        assert_eq!(
            (fact.severity, fact.next_action.as_str()),
            (Severity::Critical, follows)
        );
        assert!(fact.title.contains("release 2"), "{}", fact.title);
        assert!(fact.state.ends_with("1 2"), "{}", fact.state);
    }
    // The rollback itself is told by its end.
    for decision in [json!("RollBack"), Value::Null] {
        assert_eq!(decided(decision).manner, Manner::Unknown);
    }
}

#[test]
fn an_incident_is_told_once_an_hour_and_when_it_becomes_critical() {
    let incident = |kind: &str, seconds: i64, critical: bool| {
        json!({
            "kind": kind, "subject": "m1", "time": at(seconds), "critical": critical,
            "message": "the program of machine m1 ended with code 1", "count": 3,
        })
    };
    let told = |incident: Value| {
        let kind = incident["kind"].as_str().unwrap().to_owned();
        let watch = json!({"state": "Running", "number": 1});
        let status = watched(json!({"name": "text"}), watch, json!([incident]));
        of(&status, &[], &Topic::Incident(format!("{kind}/m1")), at(1))
    };
    let first = told(incident("MachineCrashed", 0, false));
    assert_eq!(
        (first.manner, first.event, first.severity),
        (Manner::Once, Event::IncidentSeen, Severity::Warning)
    );
    assert_eq!(first.owner.as_deref(), Some("SRE"));
    let state = |value| told(value).state;
    assert_eq!(first.state, state(incident("MachineCrashed", 60, false)));
    assert_ne!(first.state, state(incident("MachineCrashed", 7200, false)));
    let critical = told(incident("CheckFailing", 0, true));
    assert_eq!(critical.severity, Severity::Critical);
    assert_ne!(critical.state, state(incident("CheckFailing", 0, false)));
    // A rollback has a topic of its own.
    let rolled_back = told(incident("RolledBack", 0, true));
    assert_eq!(rolled_back.manner, Manner::Unknown);
}

#[test]
fn the_essence_of_a_watch_has_the_same_facts() {
    let mut whole = text_objective("Failed", "BudgetBurning", "Page", "Page");
    whole.watch = serde_json::from_value(json!({
        "state": "Running", "number": 1, "decision": "WouldRollBack", "follows": "look",
    }))
    .unwrap();
    whole.incidents = serde_json::from_value(json!([
        {"kind": "OutOfMemory", "subject": "m1", "critical": true, "time": at(0)},
    ]))
    .unwrap();
    let all = |status: &ActivationStatus| {
        facts(Subject {
            status,
            generation: 1,
            gates: &[],
            test: None,
            now: at(350),
        })
    };
    assert_eq!(all(&essence(&whole)), all(&whole));
    assert!(essence(&whole).objectives[0].burn_rates.is_empty());
}
