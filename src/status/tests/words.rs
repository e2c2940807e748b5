//! What the conditions say, and of what.

use super::*;
use crate::api::condition::ConditionStatus;

/// Status, reason and message of a condition.
fn told(status: &ActivationStatus, type_: ConditionType) -> (String, String, String) {
    let found = condition::find(&status.conditions, type_).unwrap();
    (
        found.status.clone(),
        found.reason.clone(),
        found.message.clone(),
    )
}

fn is_told(
    status: &ActivationStatus,
    type_: ConditionType,
    state: ConditionStatus,
    reason: Reason,
    message: &str,
) {
    let expected = (
        state.as_str().to_owned(),
        reason.as_str().to_owned(),
        message.to_owned(),
    );
    assert_eq!(told(status, type_), expected);
}

fn after(object: &Activation, report: &Report) -> ActivationStatus {
    let target = target();
    next(None, object, &seen(&target, report), at(0))
}

#[test]
fn what_is_not_suspended_says_when_its_time_is_over() {
    let report = report(&[]);
    let said = |spec| told(&after(&activation(spec), &report), ConditionType::Suspended).2;
    let until = "2026-01-02T03:04:05Z";
    assert_eq!(said(json!({})), "not suspended");
    assert_eq!(said(json!({"suspendUntil": until})), "not suspended");
    assert_eq!(said(json!({"suspend": true})), "not suspended");
    assert_eq!(
        said(json!({"suspend": true, "suspendUntil": until})),
        "not suspended: `suspend` is true, and `suspendUntil` 2026-01-02T03:04:05Z is over; remove `suspendUntil` to suspend it"
    );
}

#[test]
fn what_is_suspended_says_why_and_until_when() {
    let suspended = PassResult {
        suspended: true,
        ..PassResult::default()
    };
    let said = |spec| {
        let status = next(None, &activation(spec), &suspended, at(0));
        told(&status, ConditionType::Suspended).2
    };
    assert_eq!(said(json!({"suspend": true})), "suspended: no reason given");
    let until = "2026-01-02T03:04:05Z";
    let spec = json!({"suspend": true, "suspendReason": "fair", "suspendUntil": until});
    assert_eq!(said(spec), "suspended: fair, until 2026-01-02T03:04:05Z");
}

#[test]
fn a_deletion_goes_on_although_the_object_is_suspended() {
    let removing = PassResult {
        suspended: true,
        removing: Some(Removing {
            progress: "the app".to_owned(),
            message: "is being deleted".to_owned(),
            blocked: false,
        }),
        ..PassResult::default()
    };
    let object = activation(json!({"suspend": true}));
    let status = next(Some(&live()), &object, &removing, at(1));
    for type_ in [
        ConditionType::Deleting,
        ConditionType::Ready,
        ConditionType::Live,
    ] {
        assert_eq!(told(&status, type_).2, "the app: is being deleted");
    }
    assert_eq!(is(&status, ConditionType::Deleting), "True");
}

#[test]
fn a_phase_that_says_nothing_is_told_by_its_state() {
    use PhaseProgress::{Pending, Running};
    let silent = |progress, state, message: &str| {
        let record = record(state, Reason::Pending, message);
        let report = report(&[(PhaseName::Deploy, progress, record)]);
        after(&activation(json!({})), &report)
    };
    let type_ = PhaseName::Deploy.condition();
    let said = |status: &ActivationStatus| told(status, type_);
    let waits = silent(Pending, State::Pending, "");
    assert_eq!(said(&waits).2, "waits for an earlier phase");
    let waits = told(&waits, ConditionType::Ready).2;
    assert_eq!(waits, "Deploy: waits for an earlier phase");
    let runs = silent(Running, State::Running, "");
    let deploy = PHASES.iter().find(|phase| phase.id == PhaseName::Deploy);
    let first = deploy.unwrap().steps[0].id().to_string();
    assert_eq!(said(&runs).2, first, "the step that runs");
    assert_eq!(said(&runs).0, "Unknown");
    let told_more = silent(Running, State::Running, "creating two machines");
    let more = format!("{first}: creating two machines");
    assert_eq!(said(&told_more).2, more);
    let ready = told(&told_more, ConditionType::Ready).2;
    assert_eq!(ready, format!("Deploy: {more}"));
}

#[test]
fn a_phase_of_a_status_that_said_nothing_is_told_all_the_same() {
    let mut before = live();
    for phase in &mut before.phases {
        phase.state = match phase.name {
            PhaseName::SmokeTest => PhaseState::Pending,
            _ => PhaseState::Running,
        };
        phase.message.clear();
    }
    let failed = PassResult {
        failed: Some((Reason::InternalError, "it panicked".to_owned())),
        ..PassResult::default()
    };
    let status = next(Some(&before), &activation(json!({})), &failed, at(1));
    let said = |phase: PhaseName| told(&status, phase.condition()).2;
    assert_eq!(
        said(PhaseName::SmokeTest),
        "not reached yet: it begins when the phases before it have succeeded"
    );
    assert_eq!(said(PhaseName::Deploy), "under way; nothing is known yet");
}

#[test]
fn before_the_first_look_nothing_is_known_and_no_earlier_look_is_forgotten() {
    let object = activation(json!({}));
    let first = next(None, &object, &PassResult::default(), at(0));
    is_told(
        &first,
        ConditionType::Observed,
        ConditionStatus::Unknown,
        Reason::Pending,
        "not observed yet",
    );
    is_told(
        &first,
        ConditionType::Ready,
        ConditionStatus::Unknown,
        Reason::Progressing,
        "Preflight: not observed yet",
    );
    let before = live();
    let later = next(Some(&before), &object, &PassResult::default(), at(1));
    assert_eq!(is(&later, ConditionType::Observed), "True");
}

#[test]
fn without_a_watch_nothing_is_said_of_objectives_and_with_one_it_begins_at_go_live() {
    let report = report(&[]);
    let said = |spec| {
        let status = after(&activation(spec), &report);
        [ConditionType::SloMet, ConditionType::Stabilized].map(|type_| told(&status, type_))
    };
    let [met, stabilized] = said(json!({}));
    assert_eq!(
        (met.0.as_str(), met.1.as_str()),
        ("Unknown", "NotRequested")
    );
    assert_eq!(stabilized.2, "no watch is requested");
    for (state, reason, _) in said(json!({"observe": {}})) {
        assert_eq!(state, "Unknown");
        assert_ne!(reason, "NotImplemented");
    }
    let object = activation(json!({"readyWhen": "Stabilized", "observe": {}}));
    let ready = after(&object, &report);
    let (state, _, message) = told(&ready, ConditionType::Ready);
    assert_eq!(state, "Unknown");
    assert!(message.contains("Observe"), "{message}");
    assert_eq!(is(&ready, ConditionType::Reconciling), "True");
    assert_eq!(is(&ready, ConditionType::Live), "True");
}

#[test]
fn all_is_observed_unless_a_look_failed_or_the_token_is_refused() {
    use PhaseProgress::{Failed, Running};
    let observed = |progress, state, reason| {
        let report = but(PhaseName::Deploy, progress, state, reason);
        let status = after(&activation(json!({})), &report);
        let (state, _, message) = told(&status, ConditionType::Observed);
        (state, message)
    };
    let unknown = |message: &str| ("Unknown".to_owned(), message.to_owned());
    let all = ("True".to_owned(), "all observations succeeded".to_owned());
    let lost = State::Retrying { observing: true };
    let step = PHASES.iter().find(|phase| phase.id == PhaseName::Deploy);
    let step = step.unwrap().steps[0].id();
    assert_eq!(
        observed(Running, lost, Reason::FlyUnavailable),
        unknown(&format!("{step}: what it says"))
    );
    assert_eq!(
        observed(Failed, State::Blocked, Reason::TokenInvalid),
        unknown("Fly.io refuses the token, so nothing there can be observed")
    );
    // What is blocked by something else was seen, and a change that is tried again as well.
    for (progress, state, reason) in [
        (Failed, State::Blocked, Reason::MachineExited),
        (Running, State::Waiting, Reason::TokenInvalid),
        (
            Running,
            State::Retrying { observing: false },
            Reason::FlyUnavailable,
        ),
    ] {
        assert_eq!(
            observed(progress, state.clone(), reason),
            all,
            "{state:?} {reason:?}"
        );
    }
}

#[test]
fn a_pass_that_failed_takes_nothing_from_what_was_known_of_the_site() {
    let object = activation(json!({}));
    let failed = PassResult {
        failed: Some((Reason::InternalError, "it panicked".to_owned())),
        ..PassResult::default()
    };
    let before = live();
    let after = next(Some(&before), &object, &failed, at(1));
    assert_eq!(
        told(&after, ConditionType::Live),
        told(&before, ConditionType::Live)
    );
    let first = next(None, &object, &failed, at(1));
    is_told(
        &first,
        ConditionType::Live,
        ConditionStatus::Unknown,
        Reason::InternalError,
        "it panicked",
    );
}

#[test]
fn a_failure_is_told_as_a_rollback_when_it_was_one() {
    let said = |notes: Vec<Note>| {
        let record = StepRecord {
            notes: notes.into(),
            ..record(State::Blocked, Reason::MachineExited, "it exited")
        };
        let report = report(&[(PhaseName::Deploy, PhaseProgress::Failed, record)]);
        row(&after(&activation(json!({})), &report))
    };
    assert_eq!(
        said(Vec::new()),
        "False MachineExited / - / True MachineExited"
    );
    assert_eq!(
        said(vec![Note::RolledBack]),
        "False RolledBack / - / True RolledBack"
    );
}

#[test]
fn what_keeps_the_first_look_from_success_is_the_first_word_of_ready() {
    let target = target();
    let live = report(&[]);
    let old = next(None, &activation(json!({})), &seen(&target, &live), at(0));
    let refused = record(
        State::Retrying { observing: true },
        Reason::TokenInvalid,
        "Fly.io refuses the token (401)",
    );
    let pending = StepRecord::pending("digest");
    let lost = report(&[
        (PhaseName::Provision, PhaseProgress::Running, refused),
        (PhaseName::Deploy, PhaseProgress::Pending, pending.clone()),
        (PhaseName::SmokeTest, PhaseProgress::Pending, pending),
    ]);
    // Another spec: what was live is not, and nothing of it has been observed.
    let mut changed = activation(json!({}));
    changed.metadata.generation = Some(4);
    let status = next(Some(&old), &changed, &seen(&target, &lost), at(10));
    let ready = told(&status, ConditionType::Ready).2;
    assert!(
        ready.starts_with("Provision: App: Fly.io refuses the token (401)"),
        "{ready}"
    );
    // Deploy does not speak of an earlier phase without saying what is wrong there.
    let deploy = status
        .phases
        .iter()
        .find(|phase| phase.name == PhaseName::Deploy);
    let said = &deploy.unwrap().message;
    assert!(
        said.starts_with("App: Fly.io refuses the token (401); Provision cannot be observed"),
        "{said}"
    );
}

#[test]
fn the_next_action_is_an_action_and_never_the_whole_message() {
    let target = target();
    let stopped = record(
        State::Blocked,
        Reason::FlyRefused,
        "Fly.io answered 422: no",
    );
    let blocked = report(&[(PhaseName::Provision, PhaseProgress::Failed, stopped.clone())]);
    let status = next(
        None,
        &activation(json!({})),
        &seen(&target, &blocked),
        at(0),
    );
    let action = status.next_action.unwrap();
    assert!(
        action.contains("`kubectl -n n describe activation shop`"),
        "{action}"
    );
    assert!(!action.contains("422"), "{action}");

    let with_action = StepRecord {
        action: "set `port`".to_owned(),
        ..stopped
    };
    let blocked = report(&[(PhaseName::Provision, PhaseProgress::Failed, with_action)]);
    let status = next(
        None,
        &activation(json!({})),
        &seen(&target, &blocked),
        at(0),
    );
    assert_eq!(status.next_action.as_deref(), Some("set `port`"));
}

#[test]
fn a_crash_loop_of_what_is_live_is_in_its_conditions_with_what_to_do() {
    let target = target();
    let mut live = report(&[]);
    let old = next(None, &activation(json!({})), &seen(&target, &live), at(0));
    assert_eq!(old.next_action, None);
    let deploy = live
        .phases
        .iter_mut()
        .find(|phase| phase.id == PhaseName::Deploy);
    let mut steps = deploy.into_iter().flat_map(|phase| &mut phase.steps);
    let (_, verify) = steps.find(|(id, _)| *id == StepId::Verify).unwrap();
    verify.reason = Reason::CrashLooping;
    verify.message = "the machine golive-app-0 exits again and again".to_owned();
    verify.action = "fix it".to_owned();
    let status = next(
        Some(&old),
        &activation(json!({})),
        &seen(&target, &live),
        at(10),
    );
    for type_ in [ConditionType::Live, ConditionType::Deployed] {
        let found = condition::find(&status.conditions, type_).unwrap();
        assert_eq!(found.status, "True");
        assert!(
            found.message.contains("golive-app-0 exits again and again"),
            "{found:?}"
        );
    }
    assert_eq!(status.next_action.as_deref(), Some("fix it"));
}
