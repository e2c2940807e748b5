//! What follows from the state of a command's machine.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::{super::run_state::EXIT_DELAY, *};

/// When the machine was created; times below are in seconds from here.
const BEGAN: i64 = 1_800_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(BEGAN + second).unwrap()
}

/// A command of at most a minute, whose last machine is like this.
fn runs(last: Option<Value>) -> Runs {
    Runs {
        one_off: OneOff {
            program: Program::Release,
            name: "golive-release-k".to_owned(),
            announced: "golive-release-1".to_owned(),
            region: "eze".to_owned(),
            config: MachineConfig::default(),
            timeout: Duration::from_secs(60),
            attempt: "k-1".to_owned(),
        },
        count: 1,
        last: last.map(|machine| serde_json::from_value(machine).unwrap()),
        published: false,
        again: Again::Freely,
        tail: None,
        timing: Timing::default(),
    }
}

fn machine(state: &str, changed: i64, events: Value) -> Value {
    json!({
        "id": "m1", "name": "golive-release-k-0", "state": state, "events": events,
        "created_at": at(0).to_string(), "updated_at": at(changed).to_string(),
    })
}

/// A machine whose program has ended like this, three and a half seconds after its start.
fn ended(exit: Value) -> Value {
    let mut event = json!({
        "exit_code": 0, "guest_exit_code": 0, "exited_at": at(4).to_string(),
        "oom_killed": false, "requested_stop": false,
    });
    for (key, value) in exit.as_object().unwrap() {
        event[key] = value.clone();
    }
    let events = json!([
        {"type": "start", "status": "started", "timestamp": BEGAN * 1000 + 500},
        {"type": "exit", "status": "stopped", "timestamp": BEGAN * 1000 + 4000,
         "request": {"exit_event": event}},
    ]);
    machine("destroyed", 4, events)
}

fn decide(runs: &Runs, second: i64) -> Verdict<Action> {
    runs.decide("shop", at(second))
}

fn blocked(runs: &Runs, second: i64) -> (Reason, String) {
    match decide(runs, second) {
        Verdict::Blocked(why) => (why.reason, why.message),
        other => unreachable!("{other:?}"),
    }
}

fn is_run(verdict: &Verdict<Action>) -> bool {
    matches!(verdict, Verdict::Change(Action::Run { name, .. }) if name.starts_with("golive-release-k-"))
}

fn is_end(verdict: &Verdict<Action>) -> bool {
    matches!(verdict, Verdict::Change(Action::End { id, .. }) if id == "m1")
}

#[test]
fn a_command_that_never_ran_is_run_and_one_that_succeeded_is_done() {
    assert!(is_run(&decide(&runs(None), 0)));
    assert_eq!(decide(&runs(Some(ended(json!({})))), 5), Verdict::Done);
}

#[test]
fn a_command_that_runs_is_waited_for_by_a_long_poll_until_its_machine_is_gone() {
    for state in ["created", "starting", "started"] {
        let running = runs(Some(machine(state, 0, json!([]))));
        let Verdict::Wait { why, wake } = decide(&running, 30) else {
            unreachable!("{state}");
        };
        assert_eq!(why.reason, Reason::ReleaseCommandRunning);
        assert!(
            matches!(&wake, Wake::Machine { id, state: MachineState::Destroyed, .. } if id == "m1"),
            "{wake:?}"
        );
    }
}

#[test]
fn how_a_command_ended_is_decided_only_by_its_exit() {
    // Stopped, and the exit event is missing: nothing is concluded.
    let ending = runs(Some(machine("stopping", 4, json!([]))));
    assert!(matches!(decide(&ending, 5), Verdict::Wait { .. }));
    let gone = runs(Some(machine("destroyed", 4, json!([]))));
    assert!(matches!(decide(&gone, 4), Verdict::Wait { .. }));
    // It never arrives: then somebody ended the machine.
    let late = 4 + 1 + i64::try_from(EXIT_DELAY.as_secs()).unwrap();
    assert_eq!(blocked(&gone, late).0, Reason::ReleaseCommandFailed);
}

#[test]
fn a_command_that_cannot_start_or_takes_too_long_is_ended() {
    for state in ["failed", "launch_failed"] {
        assert!(is_end(&decide(
            &runs(Some(machine(state, 0, json!([])))),
            1
        )));
    }
    let running = runs(Some(machine("started", 0, json!([]))));
    assert!(!is_end(&decide(&running, 60)));
    assert!(is_end(&decide(&running, 61)));
}

#[test]
fn a_command_that_failed_says_how_and_what_to_do() {
    let cases = [
        (
            json!({"guest_exit_code": 3}),
            Reason::ReleaseCommandFailed,
            "exited with code 3 after 3.5 s",
        ),
        (
            json!({"exit_code": 137, "guest_exit_code": 0, "oom_killed": true}),
            Reason::OutOfMemory,
            "[deploy.release_command_vm] memory",
        ),
        (
            json!({"requested_stop": true}),
            Reason::ReleaseCommandFailed,
            "release_command_timeout",
        ),
    ];
    for (exit, reason, text) in cases {
        let mut failed = runs(Some(ended(exit)));
        failed.tail = Some("no such table".to_owned());
        let (got, message) = blocked(&failed, 5);
        assert_eq!(got, reason);
        assert!(message.contains(text), "{message}");
        assert!(message.contains("no machine of the application was changed"));
        assert!(
            message.ends_with("its last lines: no such table"),
            "{message}"
        );
    }
}

#[test]
fn a_failed_command_is_run_again_after_it_was_published_and_after_growing_pauses() {
    let mut failed = runs(Some(ended(json!({"guest_exit_code": 3}))));
    assert_eq!(blocked(&failed, 10_000).0, Reason::ReleaseCommandFailed);
    failed.published = true;
    // Two seconds after the first failure; ended at second 4.
    assert!(!is_run(&decide(&failed, 5)));
    assert!(is_run(&decide(&failed, 6)));
    failed.count = 6;
    assert!(!is_run(&decide(&failed, 67)));
    assert!(is_run(&decide(&failed, 68)));
}

#[test]
fn a_failed_run_of_another_attempt_is_no_run_of_this_one() {
    let with_mark = |state: Value, mark: &str| {
        let mut machine = state;
        machine["config"] = json!({"image": "r/a:1", "metadata": {"golive_attempt": mark}});
        let mut runs = runs(Some(machine));
        runs.forget_other_attempt(at(5));
        runs.last.is_some()
    };
    let failed = || ended(json!({"guest_exit_code": 3}));
    assert!(with_mark(failed(), "k-1"));
    assert!(!with_mark(failed(), "other-1"));
    assert!(with_mark(ended(json!({})), "other-1"), "it succeeded");
    assert!(
        with_mark(machine("started", 0, json!([])), "other-1"),
        "it runs"
    );
}

#[test]
fn only_what_creates_a_machine_is_announced() {
    let Verdict::Change(run) = decide(&runs(None), 0) else {
        unreachable!()
    };
    assert_eq!(run.intent().unwrap().name, "golive-release-1-1");
    let end = Action::End {
        name: "golive-release-k-0".to_owned(),
        id: "m1".to_owned(),
    };
    assert_eq!(end.intent(), None);
}
