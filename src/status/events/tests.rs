//! What is told between two statuses, and how often.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;

fn status(value: Value) -> ActivationStatus {
    serde_json::from_value(value).unwrap()
}

fn condition(type_: &str, value: &str, reason: &str, message: &str) -> Value {
    json!({
        "type": type_, "status": value, "reason": reason, "message": message,
        "lastTransitionTime": "2026-01-02T03:04:05Z",
    })
}

/// Type, reason and action of each event, in order.
fn told(old: Option<&ActivationStatus>, new: &ActivationStatus) -> Vec<(String, String, String)> {
    between(old, new)
        .into_iter()
        .map(|event| {
            let type_ = format!("{:?}", event.type_);
            assert!(event.note.unwrap().len() <= MAX_NOTE);
            (type_, event.reason, event.action)
        })
        .collect()
}

/// Reasons alone.
fn reasons(old: Option<&ActivationStatus>, new: &ActivationStatus) -> Vec<String> {
    told(old, new).into_iter().map(|event| event.1).collect()
}

fn phase(state: &str, reason: &str, steps: Value) -> ActivationStatus {
    status(json!({"phases": [{
        "name": "Deploy", "state": state, "reason": reason, "message": "what it says",
        "attempts": 1, "owner": "Ops", "steps": steps,
    }]}))
}

fn retrying(reasons: &[&str]) -> ActivationStatus {
    let steps: Vec<Value> = reasons
        .iter()
        .enumerate()
        .map(|(at, reason)| {
            json!({"name": format!("Step{at}"), "state": "Retrying", "reason": reason, "message": "no answer"})
        })
        .collect();
    phase("Running", "FlyUnavailable", json!(steps))
}

#[test]
fn the_end_of_a_rollback_does_not_repeat_why_it_began() {
    let done = phase("Failed", "RolledBack", json!([]));
    let before = phase("Running", "", json!([]));
    let notes: Vec<(String, String)> = between(Some(&before), &done)
        .into_iter()
        .map(|event| (event.reason, event.note.unwrap()))
        .collect();
    let note = |reason: &str| {
        let found = notes.iter().find(|(of, _)| of == reason);
        found.map(|(_, note)| note.as_str()).unwrap()
    };
    assert_eq!(note("RolledBack"), "what it says");
    assert!(!note("RollbackSucceeded").contains("what it says"));
}

#[test]
fn the_same_status_again_tells_nothing() {
    let full = status(json!({
        "goLive": {"time": "2026-01-02T03:04:05Z"},
        "conditions": [
            condition("Live", "True", "GoLive", "live"),
            condition("Drifted", "True", "DriftDetected", "drifted"),
            condition("Suspended", "True", "Suspended", "suspended"),
            condition("Observed", "Unknown", "ObservationUnknown", "lost"),
            condition("Stalled", "True", "InvalidSpec", "wrong"),
            condition("Deleting", "True", "DeletionBlocked", "stuck"),
        ],
        "phases": [
            {"name": "Deploy", "state": "Failed", "reason": "MachineExited", "message": "code 3",
             "gate": {"state": "Rejected", "digest": "d"},
             "steps": [{"name": "Health", "state": "Retrying", "reason": "FlyUnavailable"}]},
        ],
        "fallbacks": [{"what": "deploy.size", "from": "a", "to": "b", "reason": "no room"}],
        "rollback": {"request": "r", "state": "Refused"},
    }));
    assert!(!reasons(None, &full).is_empty());
    assert_eq!(reasons(Some(&full), &full), [""; 0]);
}

#[test]
fn a_phase_tells_its_start_its_success_and_each_cause_of_failure_once() {
    let pending = phase("Pending", "Pending", json!([]));
    let running = phase("Running", "Progressing", json!([]));
    let waiting = phase("Waiting", "MachineStarting", json!([]));
    let failed = phase("Failed", "MachineExited", json!([]));
    let other = phase("Failed", "OutOfMemory", json!([]));
    let done = phase("Succeeded", "Succeeded", json!([]));
    let event = |type_: &str, reason: &str| {
        vec![(type_.to_owned(), reason.to_owned(), "Deploy".to_owned())]
    };

    assert_eq!(told(None, &pending), []);
    assert_eq!(
        told(Some(&pending), &running),
        event("Normal", "PhaseStarted")
    );
    assert_eq!(told(Some(&running), &waiting), []);
    assert_eq!(
        told(Some(&waiting), &failed),
        event("Warning", "MachineExited")
    );
    assert_eq!(told(Some(&failed), &other), event("Warning", "OutOfMemory"));
    assert_eq!(told(Some(&other), &done), event("Normal", "PhaseSucceeded"));
    let note = between(Some(&pending), &running)[0].note.clone();
    assert_eq!(note.as_deref(), Some("Deploy started (Ops)"));
}

#[test]
fn steps_that_fail_alike_are_one_piece_of_news_and_a_token_refused_now_and_then_is_none() {
    let running = phase("Running", "Progressing", json!([]));
    let down = retrying(&["FlyUnavailable", "FlyUnavailable", "RateLimited"]);
    assert_eq!(
        reasons(Some(&running), &down),
        ["FlyUnavailable", "RateLimited"]
    );
    let fewer = retrying(&["RateLimited"]);
    assert_eq!(reasons(Some(&down), &fewer), [""; 0]);
    let refused = retrying(&["TokenInvalid"]);
    assert_eq!(reasons(Some(&running), &refused), [""; 0]);
}

#[test]
fn a_gate_that_reminds_tells_it_anew_each_time_and_another_generation_is_asked_anew() {
    let gate = |generation: i64, reminders: u32| {
        status(json!({"phases": [{
            "name": "Deploy", "state": "AwaitingApproval",
            "gate": {"state": "Requested", "digest": "d", "generation": generation, "reminders": reminders},
        }]}))
    };
    let first = gate(1, 0);
    assert_eq!(reasons(Some(&first), &first), [""; 0]);
    assert_eq!(reasons(Some(&first), &gate(2, 0)), ["ApprovalRequested"]);
    let notes = |old: &ActivationStatus, new: &ActivationStatus| -> Vec<String> {
        let events = between(Some(old), new).into_iter();
        events.filter_map(|event| event.note).collect()
    };
    let (one, two) = (gate(1, 1), gate(1, 2));
    assert_eq!(reasons(Some(&first), &one), ["ApprovalReminder"]);
    assert_eq!(reasons(Some(&one), &one), [""; 0]);
    assert_ne!(notes(&first, &one), notes(&one, &two));
}

#[test]
fn a_gate_tells_who_is_asked_and_what_was_decided_for_each_plan() {
    let gate = |state: &str, digest: &str| {
        status(json!({"phases": [{
            "name": "Deploy", "state": "AwaitingApproval",
            "gate": {"state": state, "digest": digest, "approvedBy": ["eva"], "rejectedBy": "max"},
        }]}))
    };
    let (asked, anew) = (gate("Requested", "one"), gate("Requested", "two"));
    assert_eq!(reasons(None, &gate("Pending", "one")), [""; 0]);
    assert_eq!(reasons(None, &asked), ["ApprovalRequested"]);
    assert_eq!(reasons(Some(&asked), &anew), ["ApprovalRequested"]);
    for (state, reason) in [
        ("Approved", "ApprovalGranted"),
        ("Rejected", "ApprovalRejected"),
        ("Expired", "ApprovalExpired"),
    ] {
        assert_eq!(reasons(Some(&asked), &gate(state, "one")), [reason]);
    }
}

#[test]
fn what_becomes_of_an_object_as_a_whole_is_told_when_it_becomes_so() {
    let with = |list: Value| status(json!({"conditions": list}));
    let live = condition("Live", "True", "GoLive", "live");
    let cases = [
        (
            with(json!([condition("Drifted", "False", "NoDrift", "")])),
            with(json!([condition(
                "Drifted",
                "True",
                "DriftDetected",
                "two machines"
            )])),
            "DriftDetected",
        ),
        (
            with(json!([condition("Drifted", "True", "DriftDetected", "")])),
            with(json!([condition("Drifted", "False", "NoDrift", "")])),
            "DriftCorrected",
        ),
        (
            with(json!([])),
            with(json!([condition("Suspended", "True", "Suspended", "")])),
            "Suspended",
        ),
        (
            with(json!([condition("Suspended", "True", "Suspended", "")])),
            with(json!([condition("Suspended", "False", "NotSuspended", "")])),
            "Resumed",
        ),
        (
            with(json!([live, condition("Observed", "True", "Observed", "")])),
            with(json!([
                live,
                condition("Observed", "Unknown", "ObservationUnknown", "")
            ])),
            "ObservationLost",
        ),
        (
            with(json!([])),
            with(json!([condition(
                "Stalled",
                "True",
                "InvalidSpec",
                "wrong"
            )])),
            "InvalidSpec",
        ),
        (
            with(json!([condition("Deleting", "True", "Deleting", "")])),
            with(json!([condition(
                "Deleting",
                "True",
                "DeletionBlocked",
                ""
            )])),
            "DeletionBlocked",
        ),
    ];
    for (old, new, reason) in cases {
        assert_eq!(reasons(Some(&old), &new), [reason]);
    }
    // Before Go-Live nothing is lost when Fly.io cannot be observed.
    let unseen = with(json!([condition(
        "Observed",
        "Unknown",
        "ObservationUnknown",
        ""
    )]));
    assert_eq!(reasons(Some(&with(json!([]))), &unseen), [""; 0]);
}

#[test]
fn go_live_is_published_once_in_a_life_and_each_outage_of_the_site_with_its_end() {
    let live = status(json!({
        "goLive": {"time": "2026-01-02T03:04:05Z"},
        "conditions": [condition("Live", "True", "GoLive", "live at https://shop.fly.dev")],
    }));
    assert_eq!(reasons(None, &live), ["GoLive"]);
    let mut down = live.clone();
    down.conditions[0].status = "False".to_owned();
    down.conditions[0].reason = "SmokeCheckFailed".to_owned();
    assert_eq!(reasons(Some(&live), &down), ["SmokeCheckFailed"]);
    assert_eq!(reasons(Some(&down), &live), ["LiveAgain"]);
}

#[test]
fn each_later_release_that_goes_live_is_told_with_its_image_and_url() {
    let serving = |number: i64, smoke_test: &str| {
        let phases: Vec<Value> = ["Preflight", "Provision", "Deploy", "SmokeTest"]
            .iter()
            .map(|name| {
                let state = if *name == "SmokeTest" {
                    smoke_test
                } else {
                    "Succeeded"
                };
                json!({"name": name, "state": state})
            })
            .collect();
        status(json!({
            "goLive": {"time": "2026-01-02T03:04:05Z"},
            "url": "https://shop.fly.dev",
            "release": {"number": number, "image": format!("registry.fly.io/shop:{number}")},
            "phases": phases,
            "conditions": [condition("Live", "True", "GoLive", "live")],
        }))
    };
    let (first, second) = (serving(1, "Succeeded"), serving(2, "Succeeded"));
    let events = between(Some(&first), &second);
    let told: Vec<_> = events
        .iter()
        .map(|e| (e.reason.as_str(), e.note.as_deref()))
        .collect();
    let note = "release 2 (registry.fly.io/shop:2) is live at https://shop.fly.dev";
    assert_eq!(told, [("ReleaseLive", Some(note))]);
    assert_eq!(reasons(Some(&second), &second), [""; 0]);
    // The first has the event GoLive; a restored one those of its rollback.
    assert_eq!(reasons(Some(&second), &serving(1, "Pending")), [""; 0]);
    let mut unborn = first.clone();
    unborn.go_live = None;
    unborn.release = None;
    assert_eq!(reasons(Some(&unborn), &first), ["GoLive"]);
}

#[test]
fn a_fallback_and_a_rollback_are_told_once_each() {
    let size = |to: &str| {
        status(
            json!({"fallbacks": [{"what": "deploy.size", "from": "a", "to": to, "reason": "r"}]}),
        )
    };
    assert_eq!(reasons(None, &size("b")), ["FallbackUsed"]);
    assert_eq!(reasons(Some(&size("b")), &size("b")), [""; 0]);
    assert_eq!(reasons(Some(&size("b")), &size("c")), ["FallbackUsed"]);

    let rollback = |state: &str| {
        status(json!({"rollback": {"request": "r", "by": "eva", "to": 1, "state": state}}))
    };
    let waiting = rollback("Waiting");
    assert_eq!(reasons(None, &waiting), [""; 0]);
    assert_eq!(
        reasons(Some(&waiting), &rollback("Accepted")),
        ["RollbackStarted"]
    );
    assert_eq!(
        reasons(Some(&waiting), &rollback("Refused")),
        ["RollbackRefused"]
    );
}

#[test]
fn a_failed_phase_tells_its_cause_and_the_stalled_object_does_not_tell_it_again() {
    let mut failed = phase("Failed", "MachineExited", json!([]));
    failed.conditions = status(json!({
        "conditions": [condition("Stalled", "True", "MachineExited", "code 3")],
    }))
    .conditions;
    assert_eq!(reasons(None, &failed), ["MachineExited"]);
}

#[test]
fn what_begins_to_be_left_behind_is_told_once() {
    let with = |retained: Value| {
        status(json!({"external": [
            {"kind": "Volume", "id": "vol_1", "name": "data", "region": "eze", "retained": retained},
            {"kind": "Volume", "id": "vol_2", "name": "data", "region": "eze"},
        ]}))
    };
    let (used, left) = (with(Value::Null), with(json!("no machine uses it")));
    assert_eq!(reasons(None, &used), [""; 0]);
    let event = ("Normal".into(), "LeftBehind".into(), "Volume".into());
    assert_eq!(told(Some(&used), &left), [event]);
    assert_eq!(reasons(Some(&left), &left), [""; 0]);
}

#[test]
fn what_is_only_planned_is_not_said_to_have_started_and_begins_when_it_is_applied() {
    let planned = phase("Waiting", "Planned", json!([]));
    let done = phase("Succeeded", "Succeeded", json!([]));
    for before in [None, Some(&done)] {
        assert_eq!(reasons(before, &planned), [""; 0]);
    }
    let runs = phase("Running", "Progressing", json!([]));
    assert_eq!(reasons(Some(&planned), &runs), ["PhaseStarted"]);
    assert_eq!(
        reasons(Some(&runs), &phase("Waiting", "MachineStarting", json!([]))),
        [""; 0]
    );
}

#[test]
fn a_requested_rotation_that_waits_is_told_once_by_a_warning() {
    let waiting = |message: &str| {
        let step = json!({
            "name": "Secrets", "state": "Done", "reason": "RotationWaits", "message": message,
        });
        phase("Succeeded", "Succeeded", json!([step]))
    };
    let told = told(None, &waiting("it waits for Deploy"));
    let warnings: Vec<(&str, &str)> = told
        .iter()
        .filter(|(kind, _, _)| &**kind == "Warning")
        .map(|(_, reason, action)| (&**reason, &**action))
        .collect();
    assert_eq!(warnings, [("RotationWaits", "Secrets")]);
    assert_eq!(
        reasons(Some(&waiting("one")), &waiting("another line")),
        [""; 0]
    );
}

#[test]
fn a_program_that_exits_again_and_again_is_told_once_until_it_has_run_for_a_while() {
    let crashing = |message: &str| {
        let step = json!({
            "name": "Verify", "state": "Done", "reason": "CrashLooping", "message": message,
        });
        phase("Succeeded", "Succeeded", json!([step]))
    };
    let steady = phase(
        "Succeeded",
        "Succeeded",
        json!([{"name": "Verify", "state": "Done"}]),
    );
    let told = told(
        Some(&steady),
        &crashing("golive-app-0 exits again and again"),
    );
    let expected = ("Warning", "CrashLooping", "Verify");
    let told: Vec<(&str, &str, &str)> = told.iter().map(|(t, r, a)| (&**t, &**r, &**a)).collect();
    assert_eq!(told, [expected]);
    assert_eq!(
        reasons(Some(&crashing("one")), &crashing("another line")),
        [""; 0]
    );
}
