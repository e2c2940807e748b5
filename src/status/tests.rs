//! The next status, from the old one and what was seen: the table of states that kstatus, Flux and
//! Argo CD read, row by row, and what follows from one status to the next.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, time::Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::{
    api::{
        Activation, ActivationStatus, PhaseName, Reason,
        condition::{self, ConditionType},
        status::{GateState, GateStatus, Intent, PhaseState},
    },
    phase::PHASES,
    pipeline::{
        ChangeKind, ChangeVerb, Note, PlannedChange, Sent, Slot, State, StepId, StepRecord,
        intent::Announcement,
        report::{PhaseProgress, PhaseReport, Report},
    },
    plan::{Invalid, ServingRelease, Target, gate::GateReport, testing as targets},
};

mod beside;
mod integration;
mod words;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn activation(more: Value) -> Activation {
    let mut object = json!({
        "metadata": {
            "name": "shop", "namespace": "n", "uid": "u", "generation": 3,
            "creationTimestamp": at(-60).to_string(),
        },
        "spec": {
            "organization": "cabanas", "app": "shop", "region": "eze",
            "deploy": {"image": "registry.fly.io/shop:1"},
        },
    });
    for (key, value) in more.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    serde_json::from_value(object).unwrap()
}

fn target() -> Target {
    targets::target("provision: {deadline: 12m}")
}

fn record(state: State, reason: Reason, message: &str) -> StepRecord {
    StepRecord {
        state,
        reason,
        message: message.to_owned(),
        observed_at: Instant::now(),
        ..StepRecord::pending("digest")
    }
}

fn done() -> StepRecord {
    record(State::Done, Reason::Succeeded, "")
}

/// A report in which everything before Go-Live is done, but the first step of these phases.
fn report(others: &[(PhaseName, PhaseProgress, StepRecord)]) -> Report {
    let others: BTreeMap<PhaseName, (PhaseProgress, StepRecord)> = others
        .iter()
        .map(|(phase, state, record)| (*phase, (*state, record.clone())))
        .collect();
    let phases = PHASES
        .iter()
        .map(|phase| {
            let mut steps: Vec<(StepId, StepRecord)> =
                phase.steps.iter().map(|step| (step.id(), done())).collect();
            let state = match (others.get(&phase.id), phase.steps.is_empty()) {
                (Some((state, record)), _) => {
                    steps[0].1 = record.clone();
                    *state
                }
                (None, true) => PhaseProgress::NotImplemented,
                (None, false) => PhaseProgress::Succeeded,
            };
            PhaseReport {
                id: phase.id,
                progress: state,
                gate: None,
                steps,
            }
        })
        .collect();
    Report {
        sent: Vec::new(),
        phases,
        ahead: Vec::new(),
        unknown: Vec::new(),
    }
}

/// One step of one phase is in this state, and all else is done.
fn but(phase: PhaseName, state: PhaseProgress, step: State, reason: Reason) -> Report {
    report(&[(phase, state, record(step, reason, "what it says"))])
}

fn seen<'a>(target: &'a Target, report: &'a Report) -> PassResult<'a> {
    PassResult {
        serving: serving(report, None),
        wanted: Some(target),
        report: Some(report),
        ..PassResult::default()
    }
}

/// `Ready / Reconciling / Stalled`, with status and reason.
fn row(status: &ActivationStatus) -> String {
    let words = [
        ConditionType::Ready,
        ConditionType::Reconciling,
        ConditionType::Stalled,
    ]
    .map(|type_| {
        condition::find(&status.conditions, type_)
            .map_or("-".to_owned(), |c| format!("{} {}", c.status, c.reason))
    });
    words.join(" / ")
}

fn is(status: &ActivationStatus, type_: ConditionType) -> &str {
    condition::find(&status.conditions, type_).map_or("-", |c| c.status.as_str())
}

fn live() -> ActivationStatus {
    let (target, report) = (target(), report(&[]));
    next(None, &activation(json!({})), &seen(&target, &report), at(0))
}

#[test]
fn every_state_is_its_row_of_the_table() {
    use PhaseName::{Deploy, Provision};
    use PhaseProgress::{AwaitingApproval, Failed, Planned, Running};
    let rows = [
        (report(&[]), "True GoLive / - / -"),
        (
            but(Provision, Running, State::Running, Reason::Announcing),
            "Unknown Progressing / True Progressing / -",
        ),
        (
            but(Provision, Running, State::Waiting, Reason::MachineStarting),
            "Unknown Progressing / True Progressing / -",
        ),
        (
            but(
                Deploy,
                Running,
                State::Retrying { observing: false },
                Reason::FlyUnavailable,
            ),
            "Unknown ProgressingWithRetry / True ProgressingWithRetry / -",
        ),
        (
            but(
                Deploy,
                Running,
                State::Retrying { observing: true },
                Reason::FlyUnavailable,
            ),
            "Unknown ProgressingWithRetry / True ProgressingWithRetry / -",
        ),
        (
            but(Deploy, AwaitingApproval, State::Pending, Reason::Pending),
            "Unknown AwaitingApproval / True AwaitingApproval / -",
        ),
        (
            but(Deploy, Planned, State::Planned, Reason::Planned),
            "Unknown Planned / - / -",
        ),
        (
            but(Deploy, Failed, State::Blocked, Reason::MachineExited),
            "False MachineExited / - / True MachineExited",
        ),
    ];
    let target = target();
    for (report, wanted) in rows {
        let status = next(None, &activation(json!({})), &seen(&target, &report), at(0));
        assert_eq!(row(&status), wanted);
        assert_eq!(status.observed_generation, Some(3));
    }
}

#[test]
fn at_a_gate_the_next_action_is_the_command_that_opens_it_and_a_plan_asks_nobody() {
    let gated = |progress, state| {
        let mut report = but(PhaseName::Deploy, progress, State::Pending, Reason::Pending);
        let mut phases = report.phases.iter_mut();
        let deploy = phases.find(|phase| phase.id == PhaseName::Deploy).unwrap();
        deploy.gate = Some(GateReport {
            status: GateStatus {
                state,
                digest: "sha256:abc".to_owned(),
                rejected_by: Some("max".to_owned()),
                ..GateStatus::default()
            },
            message: "what the gate says".to_owned(),
            opens: None,
        });
        let target = target();
        next(None, &activation(json!({})), &seen(&target, &report), at(0))
    };
    let command = r#"`echo '{"apiVersion":"golive.dev/v1alpha1","kind":"ActivationApproval","metadata":{"generateName":"shop-"},"spec":{"activation":"shop","gate":"Deploy","digest":"sha256:abc","decision":"Approve","approver":"'"$(kubectl auth whoami -o jsonpath='{.status.userInfo.username}')"'"}}' | kubectl -n n create -f -`"#;
    for (progress, state, first) in [
        (
            PhaseProgress::AwaitingApproval,
            GateState::Requested,
            "to approve the plan of Deploy",
        ),
        (
            PhaseProgress::Rejected,
            GateState::Expired,
            "change the spec, or approve Deploy",
        ),
        (
            PhaseProgress::Rejected,
            GateState::Rejected,
            "change the spec, or let max approve Deploy",
        ),
    ] {
        let action = gated(progress, state).next_action;
        assert_eq!(action, Some(format!("{first}: {command}")));
    }
    let planned = gated(PhaseProgress::Planned, GateState::Pending);
    assert_eq!(row(&planned), "Unknown Planned / - / -");
    assert_eq!(planned.next_action, None);
    assert_eq!(planned.pending_gate, None);
    let ready = condition::find(&planned.conditions, ConditionType::Ready).unwrap();
    assert_eq!(ready.message, "Deploy: what the gate says");
}

#[test]
fn a_phase_that_is_done_without_an_answer_asks_no_longer_and_keeps_what_opened_it() {
    let gates = json!({"gates": [{"before": "Deploy", "timeout": "2h"}]});
    let target = target();
    let kept = |state, report: &Report| {
        let mut before = live();
        let mut phases = before.phases.iter_mut();
        let deploy = phases
            .find(|phase| phase.name == PhaseName::Deploy)
            .unwrap();
        deploy.gate = Some(GateStatus {
            state,
            ..GateStatus::default()
        });
        let object = activation(gates.clone());
        let status = next(Some(&before), &object, &seen(&target, report), at(1));
        let mut phases = status.phases.into_iter();
        let deploy = phases.find(|phase| phase.name == PhaseName::Deploy);
        deploy.unwrap().gate.map(|gate| gate.state)
    };
    let done = report(&[]);
    assert_eq!(kept(GateState::Requested, &done), None);
    assert_eq!(kept(GateState::Approved, &done), Some(GateState::Approved));
    let early = but(
        PhaseName::Deploy,
        PhaseProgress::Pending,
        State::Pending,
        Reason::Pending,
    );
    let asked = Some(GateState::Requested);
    assert_eq!(kept(GateState::Requested, &early), asked);
}

#[test]
fn during_a_deletion_every_condition_is_of_its_generation() {
    let mut object = activation(json!({}));
    object.metadata.generation = Some(4);
    let seen = PassResult {
        removing: Some(Removing {
            progress: "nothing removed yet".to_owned(),
            message: "waiting for the machines".to_owned(),
            blocked: false,
        }),
        ..PassResult::default()
    };
    let status = next(Some(&live()), &object, &seen, at(1));
    for condition in &status.conditions {
        let type_ = &condition.type_;
        assert_eq!(condition.observed_generation, Some(4), "{type_}");
    }
}

#[test]
fn states_without_a_report_are_rows_of_the_table_as_well() {
    let object = activation(json!({}));
    let before = live();
    let invalid = [Invalid {
        field: "spec.deploy.image",
        reason: Reason::InvalidSpec,
        message: "is no image".to_owned(),
        action: String::new(),
    }];
    let removing = |blocked| Removing {
        progress: "nothing removed yet".to_owned(),
        message: "waiting for the machines".to_owned(),
        blocked,
    };
    let rows = [
        (
            PassResult {
                invalid: &invalid,
                ..PassResult::default()
            },
            "False InvalidSpec / - / True InvalidSpec",
        ),
        (
            PassResult {
                failed: Some((Reason::InternalError, "it panicked".to_owned())),
                ..PassResult::default()
            },
            "Unknown InternalError / True ProgressingWithRetry / -",
        ),
        (
            PassResult {
                removing: Some(removing(false)),
                ..PassResult::default()
            },
            "False Deleting / True Deleting / -",
        ),
        (
            PassResult {
                removing: Some(removing(true)),
                ..PassResult::default()
            },
            "False Deleting / True DeletionBlocked / -",
        ),
    ];
    for (seen, wanted) in rows {
        let status = next(Some(&before), &object, &seen, at(1));
        assert_eq!(row(&status), wanted);
        let checked = seen.removing.is_none();
        assert_eq!(is(&status, ConditionType::Live) == "True", checked);
        assert_ne!(
            is(&status, ConditionType::Live),
            "False",
            "it may still answer"
        );
    }
    let unproven = PassResult {
        failed: Some((Reason::InternalError, "it panicked".to_owned())),
        unproven: true,
        ..PassResult::default()
    };
    let status = next(Some(&before), &object, &unproven, at(1));
    for condition in [
        ConditionType::Live,
        ConditionType::Observed,
        ConditionType::Drifted,
    ] {
        let found = condition::find(&status.conditions, condition).unwrap();
        let found = (found.status.as_str(), found.reason.as_str());
        assert_eq!(found, ("Unknown", "ObservationUnknown"), "{condition:?}");
    }
    let again = next(Some(&status), &object, &unproven, at(2));
    assert_eq!(again, status, "the same failure again changes nothing");
    let suspended = PassResult {
        suspended: true,
        ..PassResult::default()
    };
    let status = next(None, &object, &suspended, at(1));
    assert_eq!(row(&status), "Unknown Suspended / - / -");
    let status = next(Some(&before), &object, &suspended, at(1));
    assert_eq!(row(&status), row(&before), "what was known is frozen");
    assert_eq!(is(&status, ConditionType::Suspended), "True");
}

#[test]
fn a_suspended_pass_leaves_in_the_status_what_another_process_has_announced() {
    let object = activation(json!({}));
    let intent = |name: &str, nonce: &str| Intent {
        slot: format!("Postgres/ManagedPostgres/{name}"),
        kind: "ManagedPostgres".to_owned(),
        name: name.to_owned(),
        nonce: nonce.to_owned(),
        ..Intent::default()
    };
    let own = ActivationStatus {
        intents: vec![intent("shop-db", "a")],
        ..ActivationStatus::default()
    };
    let suspended = PassResult {
        suspended: true,
        ..PassResult::default()
    };
    let status = next(Some(&own), &object, &suspended, at(1));
    let theirs = [intent("other-db", "b")];
    let (ours, status) = with_others(status, &theirs, &suspended.intents);
    assert_eq!(ours, []);
    assert_eq!(
        status.intents,
        [intent("other-db", "b"), intent("shop-db", "a")]
    );
}

#[test]
fn no_condition_is_without_words() {
    let (activation, target) = (activation(json!({})), target());
    let mut report = report(&[]);
    for (n, phase) in report.phases.iter_mut().enumerate() {
        phase.progress = match n {
            0 => PhaseProgress::Running,
            _ => PhaseProgress::Pending,
        };
        for (_, step) in &mut phase.steps {
            *step = StepRecord::pending("digest");
        }
    }
    let status = next(None, &activation, &seen(&target, &report), at(0));
    for condition in &status.conditions {
        assert!(!condition.message.is_empty(), "{condition:?}");
    }
}

#[test]
fn a_refused_token_is_no_observation_and_a_requested_rollback_is_no_drift() {
    use PhaseName::{Deploy, Preflight};
    let (object, before, target) = (activation(json!({})), live(), target());
    let refused = but(
        Preflight,
        PhaseProgress::Failed,
        State::Blocked,
        Reason::TokenInvalid,
    );
    let status = next(Some(&before), &object, &seen(&target, &refused), at(1));
    assert_eq!(is(&status, ConditionType::Observed), "Unknown");
    assert_eq!(is(&status, ConditionType::Drifted), "Unknown");

    let drifted = |step| {
        let mut report = but(
            Deploy,
            PhaseProgress::Running,
            State::Running,
            Reason::Progressing,
        );
        report.sent.push(Sent {
            step,
            line: "x".to_owned(),
            kind: ChangeKind::default(),
        });
        let status = next(Some(&before), &object, &seen(&target, &report), at(1));
        is(&status, ConditionType::Drifted).to_owned()
    };
    assert_eq!(drifted(StepId::Machines), "True");
    assert_eq!(drifted(StepId::Rollback), "Unknown");
}

#[test]
fn a_plan_says_how_many_changes_it_has_beyond_those_that_are_listed() {
    let target = target();
    let plan = |count: usize| {
        let record = StepRecord {
            changes: (0..count)
                .map(|n| PlannedChange::new(ChangeVerb::Update, "it", format!("{n}")))
                .collect(),
            ..record(State::Planned, Reason::Planned, "")
        };
        let report = report(&[(PhaseName::Deploy, PhaseProgress::Planned, record)]);
        let status = next(None, &activation(json!({})), &seen(&target, &report), at(1));
        let plan = status.plan.unwrap();
        (plan.changes.len(), plan.total)
    };
    assert_eq!(plan(0), (0, 0));
    assert_eq!(plan(48), (48, 48));
    assert_eq!(plan(60), (48, 60));
}

#[test]
fn an_unchanged_look_changes_nothing_to_the_byte() {
    let (target, report) = (target(), report(&[]));
    let first = live();
    let second = next(
        Some(&first),
        &activation(json!({})),
        &seen(&target, &report),
        at(3_600),
    );
    assert_eq!(
        serde_json::to_string(&first).unwrap(),
        serde_json::to_string(&second).unwrap()
    );
}

#[test]
fn what_cannot_be_observed_stays_live_and_is_not_failed() {
    let target = target();
    let lost = State::Retrying { observing: true };
    let report = but(
        PhaseName::Provision,
        PhaseProgress::Running,
        lost,
        Reason::FlyUnavailable,
    );
    let status = next(
        Some(&live()),
        &activation(json!({})),
        &seen(&target, &report),
        at(9),
    );
    assert_eq!(row(&status), "True GoLive / - / -");
    assert_eq!(is(&status, ConditionType::Observed), "Unknown");
    assert_eq!(is(&status, ConditionType::Provisioned), "True");
    assert_eq!(status.go_live, live().go_live);
}

#[test]
fn what_waits_for_an_earlier_phase_that_cannot_be_observed_says_so() {
    let (target, object) = (target(), activation(json!({})));
    let works = but(
        PhaseName::Deploy,
        PhaseProgress::Running,
        State::Waiting,
        Reason::MachineStarting,
    );
    let before = next(None, &object, &seen(&target, &works), at(0));
    let mut lost = but(
        PhaseName::Provision,
        PhaseProgress::Running,
        State::Retrying { observing: true },
        Reason::FlyUnavailable,
    );
    for phase in &mut lost.phases {
        if phase.id > PhaseName::Provision && phase.progress == PhaseProgress::Succeeded {
            phase.progress = PhaseProgress::Pending;
        }
    }
    let status = next(Some(&before), &object, &seen(&target, &lost), at(9));
    let phase = |name| status.phases.iter().find(|p| p.name == name).unwrap();
    assert_eq!(phase(PhaseName::Provision).state, PhaseState::Succeeded);
    let deploy = phase(PhaseName::Deploy);
    assert_eq!(deploy.reason, "ObservationUnknown");
    assert!(deploy.message.contains("cannot be observed"));
    assert_eq!(
        row(&status),
        "Unknown ProgressingWithRetry / True ProgressingWithRetry / -"
    );
}

#[test]
fn no_phase_keeps_its_success_beside_an_earlier_one_that_is_at_work_again() {
    let (target, object) = (target(), activation(json!({})));
    let mut both = but(
        PhaseName::Preflight,
        PhaseProgress::Running,
        State::Retrying { observing: true },
        Reason::FlyUnavailable,
    );
    for phase in &mut both.phases {
        if phase.id == PhaseName::Provision {
            phase.progress = PhaseProgress::Running;
            phase.steps = vec![(
                StepId::App,
                record(State::Waiting, Reason::Waiting, "the app comes back"),
            )];
        } else if phase.id > PhaseName::Provision && phase.progress == PhaseProgress::Succeeded {
            phase.progress = PhaseProgress::Pending;
        }
    }
    let status = next(Some(&live()), &object, &seen(&target, &both), at(9));
    let state = |name| status.phases.iter().find(|p| p.name == name).unwrap().state;
    assert_eq!(state(PhaseName::Preflight), PhaseState::Succeeded);
    assert_eq!(state(PhaseName::Provision), PhaseState::Waiting);
    assert_ne!(state(PhaseName::Deploy), PhaseState::Succeeded);
}

#[test]
fn go_live_keeps_its_time_and_its_generation_for_ever() {
    let (target, report) = (target(), report(&[]));
    let first = live();
    assert_eq!(first.go_live.as_ref().unwrap().duration_seconds, Some(60));
    assert_eq!(first.url.as_deref(), Some("https://shop.fly.dev"));
    let mut changed = activation(json!({}));
    changed.metadata.generation = Some(4);
    let later = next(Some(&first), &changed, &seen(&target, &report), at(500));
    assert_eq!(later.go_live, first.go_live);
    assert_eq!(later.observed_generation, Some(4));
}

#[test]
fn what_golive_did_not_make_is_told_as_drift_and_left_and_each_news_is_an_event() {
    let target = target();
    let with = |lines: &[&str]| {
        let mut all = report(&[]);
        let notes = lines.iter().map(|line| Note::Drift((*line).to_owned()));
        let steps = &mut all.phases[2].steps;
        steps[0].1.notes = notes.collect();
        all
    };
    let told = |before: &ActivationStatus, lines: &[&str]| {
        let report = with(lines);
        let seen = seen(&target, &report);
        assert_eq!(left_alone(&seen).count(), lines.len());
        let status = next(Some(before), &activation(json!({})), &seen, at(60));
        let events = events::between(Some(before), &status).len();
        (status, events)
    };
    let (first, news) = told(&live(), &["a machine"]);
    assert_eq!((is(&first, ConditionType::Drifted), news), ("True", 1));
    assert_eq!(is(&first, ConditionType::Ready), "True");
    let (same, news) = told(&first, &["a machine"]);
    assert_eq!(news, 0, "nothing new");
    let (more, news) = told(&same, &["a machine", "a secret"]);
    assert_eq!(news, 1);
    let drifted = condition::find(&more.conditions, ConditionType::Drifted).unwrap();
    assert_eq!(drifted.message, "a machine; a secret");
    let (gone, _) = told(&more, &[]);
    assert_eq!(is(&gone, ConditionType::Drifted), "False");
}

#[test]
fn a_phase_that_is_late_fails_with_its_deadline_and_recovers_by_itself() {
    let target = target();
    let object = activation(json!({}));
    let waits = but(
        PhaseName::Provision,
        PhaseProgress::Running,
        State::Waiting,
        Reason::MachineStarting,
    );
    let provision = |status: &ActivationStatus| {
        let mut phases = status.phases.iter();
        phases
            .find(|phase| phase.name == PhaseName::Provision)
            .cloned()
            .unwrap()
    };
    let began = next(None, &object, &seen(&target, &waits), at(0));
    assert_eq!(provision(&began).state, PhaseState::Waiting);
    assert_eq!(provision(&began).deadline.unwrap().0, at(12 * 60));

    let late = next(Some(&began), &object, &seen(&target, &waits), at(12 * 60));
    assert_eq!(
        row(&late),
        "False DeadlineExceeded / - / True DeadlineExceeded"
    );
    let phase = provision(&late);
    assert_eq!(phase.reason, "DeadlineExceeded");
    assert!(
        phase.message.contains("MachineStarting"),
        "{}",
        phase.message
    );

    let everything = report(&[]);
    let done = next(
        Some(&late),
        &object,
        &seen(&target, &everything),
        at(13 * 60),
    );
    assert_eq!(row(&done), "True GoLive / - / -");
}

#[test]
fn the_transition_time_of_a_condition_moves_with_its_status_alone() {
    let target = target();
    let object = activation(json!({}));
    let waits = |reason| {
        but(
            PhaseName::Deploy,
            PhaseProgress::Running,
            State::Waiting,
            reason,
        )
    };
    let since = |status: &ActivationStatus| {
        let ready = condition::find(&status.conditions, ConditionType::Ready);
        ready.unwrap().last_transition_time.0
    };
    let (one, two) = (waits(Reason::MachineStarting), waits(Reason::NotHealthy));
    let first = next(None, &object, &seen(&target, &one), at(0));
    let second = next(Some(&first), &object, &seen(&target, &two), at(5));
    assert_eq!(since(&second), at(0));
    let everything = report(&[]);
    let third = next(Some(&second), &object, &seen(&target, &everything), at(9));
    assert_eq!(since(&third), at(9));
}

#[test]
fn an_announced_create_keeps_its_mark_until_it_is_settled_also_when_a_pass_fails() {
    let object = activation(json!({}));
    let slot = Slot {
        kind: "ManagedPostgres".to_owned(),
        name: "shop-db".to_owned(),
    };
    let with = |anew, failed| PassResult {
        intents: vec![Announcement {
            step: StepId::Postgres,
            slot: slot.clone(),
            anew,
            of_others: false,
            at: std::time::Instant::now(),
        }],
        failed,
        ..PassResult::default()
    };
    let first = next(None, &object, &with(true, None), at(0));
    assert_eq!(first.intents[0].slot, "Postgres/ManagedPostgres/shop-db");
    let failed = Some((Reason::DeadlineExceeded, "too long".to_owned()));
    let second = next(Some(&first), &object, &with(false, failed), at(9));
    assert_eq!(second.intents, first.intents);
    let third = next(Some(&second), &object, &PassResult::default(), at(10));
    assert_eq!(third.intents, []);
}
