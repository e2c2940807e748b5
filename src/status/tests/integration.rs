//! What the status says of the integrations.

use super::*;

/// The pass of a live object whose integration has this entry; the step waits with its reason, or holds.
fn integrations(state: &str, reason: Reason) -> Report {
    use crate::api::status::IntegrationStatus;
    let entry: IntegrationStatus = serde_json::from_value(json!({
        "name": "ical", "state": state, "reason": reason, "message": "what it says",
        "nextAction": "mend it", "owner": "Ops",
    }))
    .unwrap();
    let (progress, state) = match state {
        "Verified" => (PhaseProgress::Succeeded, State::Done),
        _ => (PhaseProgress::Running, State::Waiting),
    };
    let notes = [Note::Integration(Box::new(entry), None)];
    let step = StepRecord {
        notes: notes.into(),
        ..record(state, reason, "what it says")
    };
    report(&[(PhaseName::Integrations, progress, step)])
}

#[test]
fn integrations_take_nothing_back_unless_ready_is_about_them() {
    let checked = json!({"ical": {"exportPath": "/x"}});
    let status = |ready_when: &str, report: &Report| {
        let spec = json!({"integrations": checked, "readyWhen": ready_when});
        let target = target();
        next(None, &activation(spec), &seen(&target, report), at(0))
    };
    let cases = [
        (
            "Verified",
            Reason::Verified,
            "True",
            "True Verified / - / -",
        ),
        (
            "Pending",
            Reason::IntegrationChecking,
            "Unknown",
            "Unknown IntegrationChecking / True IntegrationChecking / -",
        ),
        (
            "Waiting",
            Reason::SecretMissing,
            "Unknown",
            "Unknown SecretMissing / True SecretMissing / -",
        ),
        (
            "Failed",
            Reason::ForgeryAccepted,
            "False",
            "False ForgeryAccepted / - / True ForgeryAccepted",
        ),
        (
            "Unknown",
            Reason::ObservationUnknown,
            "Unknown",
            "Unknown ObservationUnknown / True ObservationUnknown / -",
        ),
    ];
    for (state, reason, healthy, wanted) in cases {
        let report = integrations(state, reason);
        let usual = status("GoLive", &report);
        assert_eq!(row(&usual), "True GoLive / - / -", "{state}");
        assert_eq!(is(&usual, ConditionType::Live), "True", "{state}");
        assert_eq!(
            is(&usual, ConditionType::IntegrationsHealthy),
            healthy,
            "{state}"
        );
        let strict = status("IntegrationsVerified", &report);
        assert_eq!(row(&strict), wanted, "{state}");
        assert_eq!(is(&strict, ConditionType::Live), "True", "{state}");
        let wants_a_person = matches!(state, "Failed" | "Waiting");
        let action = wants_a_person.then(|| "ical (Ops): mend it".to_owned());
        assert_eq!(usual.next_action, action, "{state}");
    }
}

#[test]
fn a_gate_before_the_integrations_is_told_before_what_they_lack() {
    let object = activation(json!({"integrations": {"ical": {"exportPath": "/x"}}}));
    let target = target();
    let lacking = integrations("Waiting", Reason::SecretMissing);
    let first = next(None, &object, &seen(&target, &lacking), at(0));
    let pending = record(State::Pending, Reason::Pending, "");
    let progress = PhaseProgress::AwaitingApproval;
    let mut waits = report(&[(PhaseName::Integrations, progress, pending)]);
    let mut phases = waits.phases.iter_mut();
    let gated = phases
        .find(|phase| phase.id == PhaseName::Integrations)
        .unwrap();
    gated.gate = Some(GateReport {
        status: GateStatus {
            state: GateState::Requested,
            digest: "sha256:abc".to_owned(),
            ..GateStatus::default()
        },
        message: "what the gate says".to_owned(),
        opens: None,
    });
    let told = next(Some(&first), &object, &seen(&target, &waits), at(60));
    let action = told.next_action.unwrap();
    assert!(
        action.starts_with("to approve the plan of Integrations: `"),
        "{action}"
    );
    assert!(action.ends_with("`; ical (Ops): mend it"), "{action}");
}

/// What was found of the release that serves, with its integration in this state.
fn site(state: &str, reason: Reason) -> Site {
    let mut report = integrations(state, reason);
    report
        .phases
        .retain(|phase| matches!(phase.id, PhaseName::SmokeTest | PhaseName::Integrations));
    let release =
        serde_json::from_value(json!({"number": 1, "image": "x:1", "digest": "sha256:1"}));
    Site {
        release: ServingRelease::of_release(&release.unwrap()).unwrap(),
        report,
        reporting_drift: false,
        machines: Runs::Serving,
        proves_wanted: true,
    }
}

#[test]
fn while_the_spec_cannot_go_live_the_integrations_of_what_serves_are_told() {
    let object = activation(json!({"integrations": {"ical": {"exportPath": "/x"}}}));
    let target = target();
    let good = integrations("Verified", Reason::Verified);
    let first = next(None, &object, &seen(&target, &good), at(0));
    let pending = record(State::Pending, Reason::Pending, "");
    let waits = report(&[
        (
            PhaseName::Deploy,
            PhaseProgress::AwaitingApproval,
            pending.clone(),
        ),
        (
            PhaseName::SmokeTest,
            PhaseProgress::Pending,
            pending.clone(),
        ),
        (PhaseName::Integrations, PhaseProgress::Pending, pending),
    ]);
    let invalid = [Invalid {
        field: "spec.deploy.image",
        reason: Reason::InvalidSpec,
        message: "is no image".to_owned(),
        action: String::new(),
    }];
    let beside = |site: Option<Site>, is_invalid: bool| {
        let pass = match is_invalid {
            true => PassResult {
                invalid: &invalid,
                ..PassResult::default()
            },
            false => seen(&target, &waits),
        };
        next(Some(&first), &object, &PassResult { site, ..pass }, at(60))
    };
    let healthy =
        |status: &ActivationStatus| is(status, ConditionType::IntegrationsHealthy).to_owned();
    for is_invalid in [false, true] {
        let told = beside(Some(site("Verified", Reason::Verified)), is_invalid);
        assert_eq!(healthy(&told), "True", "{is_invalid}");
        assert_eq!(told.integrations, first.integrations, "since then");
        let told = beside(Some(site("Failed", Reason::ForgeryAccepted)), is_invalid);
        assert_eq!(healthy(&told), "False", "{is_invalid}");
        assert_eq!(integrations::news(Some(&first), &told).len(), 1);
        let told = beside(
            Some(site("Pending", Reason::IntegrationChecking)),
            is_invalid,
        );
        assert_eq!(healthy(&told), "Unknown", "{is_invalid}");
        assert_eq!(
            healthy(&beside(None, is_invalid)),
            "Unknown",
            "{is_invalid}"
        );
    }
    // A pass that failed as a whole has looked at nothing.
    let held = beside(Some(site("Verified", Reason::Verified)), false);
    let failed = PassResult {
        failed: Some((Reason::ObservationUnknown, "no answer".to_owned())),
        ..PassResult::default()
    };
    let told = next(Some(&held), &object, &failed, at(90));
    assert_eq!(healthy(&told), "True");
}

#[test]
fn a_failure_of_an_integration_stands_while_changes_are_only_planned_and_goes_with_it() {
    let spec = |integrations| activation(json!({ "integrations": integrations }));
    let asked = spec(json!({"ical": {"exportPath": "/x"}}));
    let (target, forged) = (target(), integrations("Failed", Reason::ForgeryAccepted));
    let before = next(None, &asked, &seen(&target, &forged), at(0));
    let unasked = |state, reason| {
        let step = record(state, reason, "nothing is sent");
        report(&[(PhaseName::Integrations, PhaseProgress::Running, step)])
    };
    let planned = unasked(State::Waiting, Reason::Planned);
    let planned = next(Some(&before), &asked, &seen(&target, &planned), at(1));
    assert_eq!(planned.integrations, before.integrations);
    assert_eq!(is(&planned, ConditionType::IntegrationsHealthy), "False");
    let gone = unasked(State::Skipped, Reason::NotRequested);
    let gone = next(
        Some(&before),
        &spec(json!({})),
        &seen(&target, &gone),
        at(1),
    );
    assert_eq!(gone.integrations, []);
}

#[test]
fn without_integrations_their_phase_is_skipped_and_ready_does_not_wait_for_it() {
    let (target, report) = (target(), report(&[]));
    let spec = json!({"integrations": {}, "readyWhen": "IntegrationsVerified"});
    let status = next(None, &activation(spec), &seen(&target, &report), at(0));
    assert_eq!(row(&status), "True GoLive / - / -");
    let mut phases = status.phases.iter();
    let phase = phases.find(|phase| phase.name == PhaseName::Integrations);
    assert_eq!(phase.unwrap().state, PhaseState::Skipped);
}

#[test]
fn the_same_result_of_integrations_writes_nothing_and_a_late_one_is_not_false() {
    let spec = json!({"integrations": {"ical": {"exportPath": "/x"}, "deadline": "10m"}});
    let target = targets::target("integrations: {ical: {exportPath: /x}, deadline: 10m}");
    let object = activation(spec);
    let good = integrations("Verified", Reason::Verified);
    let first = next(None, &object, &seen(&target, &good), at(0));
    let again = next(Some(&first), &object, &seen(&target, &good), at(9_000));
    assert_eq!(first, again);
    let waits = integrations("Waiting", Reason::SecretMissing);
    let first = next(None, &object, &seen(&target, &waits), at(0));
    let late = next(Some(&first), &object, &seen(&target, &waits), at(700));
    let healthy = condition::find(&late.conditions, ConditionType::IntegrationsHealthy).unwrap();
    assert_eq!(
        (healthy.status.as_str(), healthy.reason.as_str()),
        ("Unknown", "DeadlineExceeded")
    );
    assert!(late.integrations[0].deadline.is_some());
}
