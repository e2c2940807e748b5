//! What the checks of the release that serves say, made beside a pass that did not come to its own.

use super::*;
use crate::{
    api::status::{CheckResult, HistoryEntry, ReleaseStatus, SmokeTestResult},
    pipeline::ProbeKind,
};

/// Went live as release 1, which is the newest.
fn went_live() -> ActivationStatus {
    ActivationStatus {
        release: Some(ReleaseStatus {
            number: Some(1),
            ..ReleaseStatus::default()
        }),
        history: vec![HistoryEntry {
            number: Some(1),
            ..HistoryEntry::default()
        }],
        ..live()
    }
}

/// The pass stops in Deploy, whose first step is so.
fn stopped(progress: PhaseProgress, step: State) -> Report {
    let mut report = but(PhaseName::Deploy, progress, step, Reason::FlyUnavailable);
    let later = report.phases.iter_mut();
    for phase in later.filter(|phase| phase.id > PhaseName::Deploy) {
        if phase.progress == PhaseProgress::Succeeded {
            phase.progress = PhaseProgress::Pending;
        }
        for (_, record) in &mut phase.steps {
            *record = StepRecord::pending("digest");
        }
    }
    report
}

/// The checks of release 1, which end so; `None`: they could not be made.
fn site(passed: Option<bool>) -> Site {
    let (progress, state, result) = match passed {
        Some(true) => (PhaseProgress::Succeeded, State::Done, CheckResult::Passed),
        Some(false) => (PhaseProgress::Failed, State::Blocked, CheckResult::Failed),
        None => {
            let state = State::Retrying { observing: true };
            (PhaseProgress::Running, state, CheckResult::Unknown)
        }
    };
    let check = SmokeTestResult {
        check: "homepage".to_owned(),
        result,
        ..SmokeTestResult::default()
    };
    let record = StepRecord {
        notes: [Note::SmokeTest(check, ProbeKind::Http)].into(),
        action: "look at its log".to_owned(),
        ..record(state, Reason::SmokeCheckFailed, "homepage: answered 503")
    };
    Site {
        release: ServingRelease {
            number: Some(1),
            version: None,
            image: "shop:1".to_owned(),
            digest: "sha256:1".to_owned(),
            config_hash: String::new(),
            since: None,
        },
        report: Report {
            sent: Vec::new(),
            phases: vec![PhaseReport {
                id: PhaseName::SmokeTest,
                progress,
                gate: None,
                steps: vec![(StepId::EdgeChecks, record)],
            }],
            ahead: Vec::new(),
            unknown: Vec::new(),
        },
        reporting_drift: true,
        machines: Runs::Serving,
        proves_wanted: true,
    }
}

/// The status after a pass that stops with this report, beside these checks.
fn after(before: &ActivationStatus, report: &Report, passed: Option<bool>) -> ActivationStatus {
    let target = target();
    let planned = report
        .phases
        .iter()
        .any(|phase| phase.progress == PhaseProgress::Planned);
    let result = PassResult {
        site: Some(site(passed)),
        reporting_drift: planned,
        ..seen(&target, report)
    };
    next(Some(before), &activation(json!({})), &result, at(60))
}

fn words(status: &ActivationStatus) -> (&str, &str) {
    (
        is(status, ConditionType::Ready),
        is(status, ConditionType::Live),
    )
}

#[test]
fn a_site_that_is_down_is_told_with_drift_report_and_while_fly_io_cannot_be_read() {
    let reported = stopped(PhaseProgress::Planned, State::Planned);
    let unreadable = stopped(PhaseProgress::Running, State::Retrying { observing: true });
    for report in [reported, unreadable] {
        let before = went_live();
        let up = after(&before, &report, Some(true));
        assert_eq!(words(&up), ("True", "True"), "{up:?}");

        let down = after(&up, &report, Some(false));
        assert_eq!(words(&down), ("False", "False"), "{down:?}");
        let smoke_test = down.phases.iter();
        let mut smoke_test = smoke_test.filter(|phase| phase.name == PhaseName::SmokeTest);
        assert_eq!(smoke_test.next().unwrap().state, PhaseState::Failed);
        assert_eq!(down.next_action.as_deref(), Some("look at its log"));
        let told = events::between(Some(&up), &down);
        let told = told
            .iter()
            .filter(|event| event.reason == "SmokeCheckFailed");
        assert_eq!(told.count(), 1);
        assert!(down.went_live(), "so `drift: Report` still holds");

        // The next pass finds the same, and says nothing new.
        let still = after(&down, &report, Some(false));
        assert_eq!(words(&still), ("False", "False"));
        assert!(events::between(Some(&down), &still).is_empty());
        // Then the checks cannot be made, which ends no outage.
        let unseen = after(&still, &report, None);
        assert_eq!(words(&unseen).1, "False");
        let again = after(&unseen, &report, Some(true));
        assert_eq!(words(&again), ("True", "True"), "{again:?}");
    }
}

#[test]
fn checks_of_an_earlier_release_say_nothing_of_a_spec_that_has_not_gone_live() {
    let mut before = went_live();
    before.history[0].number = Some(2);
    let unreadable = stopped(PhaseProgress::Running, State::Retrying { observing: true });
    assert!(!before.went_live());
    let status = after(&before, &unreadable, Some(false));
    let mut phases = status.phases.iter();
    let smoke_test = phases.find(|phase| phase.name == PhaseName::SmokeTest);
    assert_ne!(smoke_test.unwrap().state, PhaseState::Failed);

    // Nor where something before SmokeTest is not done.
    let waits = stopped(PhaseProgress::AwaitingApproval, State::Pending);
    let status = after(&went_live(), &waits, Some(false));
    assert_eq!(words(&status), ("Unknown", "False"));
}

/// Went live, and is said to have drifted for this reason.
fn drifted(reason: Reason) -> ActivationStatus {
    let mut status = went_live();
    let mut conditions = status.conditions.iter_mut();
    let drifted = conditions.find(|known| known.type_ == "Drifted").unwrap();
    drifted.status = "True".to_owned();
    drifted.reason = reason.to_string();
    drifted.message = "as it was".to_owned();
    status
}

/// Status, reason and message of `Drifted`.
fn drift(status: &ActivationStatus) -> (&str, &str, &str) {
    let known = condition::find(&status.conditions, ConditionType::Drifted).unwrap();
    (
        known.status.as_str(),
        known.reason.as_str(),
        known.message.as_str(),
    )
}

#[test]
fn a_value_that_was_lost_is_no_correction_of_the_rollout_that_sets_it_again() {
    let rolled_out = but(
        PhaseName::Provision,
        PhaseProgress::Running,
        State::Running,
        Reason::Progressing,
    );
    let target = target();
    let after = |reason, report: &Report| {
        let mut before = drifted(reason);
        // The Secret has changed, and with it the plan.
        before.plan.as_mut().unwrap().digest = "another".to_owned();
        let seen = seen(&target, report);
        next(Some(&before), &activation(json!({})), &seen, at(60))
    };
    let lost = after(Reason::ServingSecretLost, &rolled_out);
    assert_eq!((drift(&lost).0, drift(&lost).1), ("Unknown", "Progressing"));
    let corrected = after(Reason::DriftDetected, &rolled_out);
    assert_eq!(drift(&corrected), ("True", "DriftDetected", "as it was"));
    // What cannot be observed is not mended by that.
    let unreadable = stopped(PhaseProgress::Running, State::Retrying { observing: true });
    let unseen = after(Reason::ServingSecretLost, &unreadable);
    assert_eq!(drift(&unseen), ("True", "ServingSecretLost", "as it was"));
}

#[test]
fn with_a_refused_token_the_machines_that_were_corrected_are_no_drift_any_more() {
    let refused = but(
        PhaseName::Preflight,
        PhaseProgress::Failed,
        State::Blocked,
        Reason::TokenInvalid,
    );
    let target = target();
    let after = |machines| {
        let mut site = site(Some(true));
        let phase = |id, progress, step: (StepId, StepRecord)| PhaseReport {
            id,
            progress,
            gate: None,
            steps: vec![step],
        };
        let lost = State::Retrying { observing: true };
        let lost = record(lost, Reason::FlyRefused, "401");
        site.report.phases.extend([
            phase(PhaseName::Deploy, machines, (StepId::Verify, done())),
            phase(
                PhaseName::Provision,
                PhaseProgress::Running,
                (StepId::App, lost),
            ),
        ]);
        let result = PassResult {
            site: Some(site),
            ..seen(&target, &refused)
        };
        let before = drifted(Reason::DriftDetected);
        next(Some(&before), &activation(json!({})), &result, at(60))
    };
    let corrected = after(PhaseProgress::Succeeded);
    let (status, reason, message) = drift(&corrected);
    assert_eq!((status, reason), ("Unknown", "ObservationUnknown"));
    assert!(
        message.starts_with("the machines run the release"),
        "{message}"
    );
    let observed = condition::find(&corrected.conditions, ConditionType::Observed).unwrap();
    assert!(
        observed.message.contains("for the app alone"),
        "{}",
        observed.message
    );

    let moving = after(PhaseProgress::Running);
    assert_eq!(drift(&moving), ("True", "DriftDetected", "as it was"));
}

#[test]
fn the_checks_of_before_say_nothing_of_a_spec_with_other_checks_while_fly_io_cannot_be_read() {
    let target = target();
    let unreadable = stopped(PhaseProgress::Running, State::Retrying { observing: true });
    let mut before = went_live();
    let mut phases = before.phases.iter_mut();
    let smoke_test = phases.find(|phase| phase.name == PhaseName::SmokeTest);
    // Its own checks are under way.
    smoke_test.unwrap().state = PhaseState::Running;
    for passed in [true, false] {
        let beside = Site {
            proves_wanted: false,
            ..site(Some(passed))
        };
        let result = PassResult {
            site: Some(beside),
            ..seen(&target, &unreadable)
        };
        let status = next(Some(&before), &activation(json!({})), &result, at(60));
        let mut phases = status.phases.iter();
        let smoke_test = phases.find(|phase| phase.name == PhaseName::SmokeTest);
        let state = smoke_test.unwrap().state;
        let decided = matches!(state, PhaseState::Succeeded | PhaseState::Failed);
        assert!(!decided, "{state} by the checks of before");
        assert!(!status.is_live());
    }
}
