#![allow(clippy::unwrap_used)]

use super::*;
use crate::api::{
    Duration,
    policy::{GatedPhase, OnTimeout},
};

const PLAN: &str = "sha256:aaaa";
const OTHER: &str = "sha256:bbbb";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn gate(before: GatedPhase) -> Gate {
    Gate {
        before,
        timeout: Duration::from_mins(10),
        on_timeout: OnTimeout::Reject,
        approvals: 1,
    }
}

fn subject<'a>(generation: i64, digest: &str, gates: &'a [Gate]) -> Subject<'a> {
    Subject {
        uid: "u1",
        created: Some(at(0)),
        generation,
        written: Some(at(0)),
        plan: Box::leak(Box::new(PlanId::new(digest, generation))),
        release: Some(1),
        destroys: &[],
        gates,
        planned: false,
    }
}

fn vote(who: &str, second: i64, decision: Decision) -> Vote {
    Vote {
        uid: format!("{who}-{second}-{decision}"),
        name: format!("{who}-{second}-{decision}"),
        created: Some(at(second)),
        version: Some(second),
        spec: ActivationApprovalSpec {
            activation: "shop".into(),
            gate: DecidedOn::Deploy,
            digest: PlanId::new(PLAN, 3).digest().to_owned(),
            generation: None,
            decision,
            approver: who.into(),
            message: None,
            to_release: None,
            valid_for: Duration::from_hours(24),
        },
        status: None,
    }
}

fn states(ballots: &[Ballot]) -> Vec<ApprovalState> {
    ballots.iter().map(|ballot| ballot.status.state).collect()
}

/// The decisions as they are read again, with what was written of them.
fn again(ballots: &[Ballot]) -> Vec<Vote> {
    let votes = ballots.iter().map(|ballot| Vote {
        status: Some(ballot.status.clone()),
        ..ballot.vote.clone()
    });
    votes.collect()
}

#[test]
fn a_decision_counts_for_the_plan_generation_and_release_that_it_was_made_for() {
    let gates = [gate(GatedPhase::Deploy)];
    let now = subject(3, PLAN, &gates);
    let first = judge(&[vote("anna", 5, Decision::Approve)], &now, at(6));
    assert_eq!(states(&first), [ApprovalState::Counts]);
    let kept = again(&first);
    assert_eq!(states(&judge(&kept, &now, at(60))), [ApprovalState::Counts]);
    let uid = Subject { uid: "u2", ..now };
    let generation = subject(4, PLAN, &gates);
    let plan = subject(3, OTHER, &gates);
    let release = Subject {
        release: Some(2),
        ..now
    };
    let message = |subject: &Subject<'_>| judge(&kept, subject, at(60))[0].status.message.clone();
    assert!(message(&generation).contains("this is generation 4"));
    assert!(message(&plan).contains("the plan has changed"));
    for other in [uid, generation, plan, release] {
        let ballots = judge(&kept, &other, at(60));
        assert_eq!(states(&ballots), [ApprovalState::Superseded], "{other:?}");
        // It stays void when everything is as it was.
        let ballots = judge(&again(&ballots), &now, at(61));
        assert_eq!(states(&ballots), [ApprovalState::Superseded]);
    }
    // What serves is not known: that is no other release.
    let unknown = Subject {
        release: None,
        ..now
    };
    assert_eq!(
        states(&judge(&kept, &unknown, at(60))),
        [ApprovalState::Counts]
    );
}

#[test]
fn a_decision_that_cannot_count_says_why_at_once_and_for_good() {
    let gates = [gate(GatedPhase::SmokeTest)];
    let now = subject(3, OTHER, &gates);
    let ballots = judge(&[vote("anna", 5, Decision::Approve)], &now, at(6));
    assert_eq!(states(&ballots), [ApprovalState::UnknownGate]);
    assert!(ballots[0].status.message.contains("before SmokeTest"));
    let gates = [gate(GatedPhase::Deploy)];
    let now = subject(3, OTHER, &gates);
    let ballots = judge(&[vote("anna", 5, Decision::Approve)], &now, at(6));
    assert_eq!(states(&ballots), [ApprovalState::WrongDigest]);
    assert!(
        ballots[0]
            .status
            .message
            .contains(PlanId::new(OTHER, 3).digest())
    );
    let ballots = judge(&again(&ballots), &subject(3, PLAN, &gates), at(7));
    assert_eq!(states(&ballots), [ApprovalState::WrongDigest]);
}

#[test]
fn a_decision_from_before_this_object_or_this_generation_does_not_count() {
    let gates = [gate(GatedPhase::Deploy)];
    let old = vote("anna", 5, Decision::Approve);
    let newer = Subject {
        created: Some(at(10)),
        ..subject(1, PLAN, &gates)
    };
    let rewritten = Subject {
        written: Some(at(10)),
        ..subject(3, PLAN, &gates)
    };
    for now in [newer, rewritten] {
        let ballots = judge(std::slice::from_ref(&old), &now, at(11));
        assert_eq!(states(&ballots), [ApprovalState::Superseded]);
    }
    // The clock of the API server counts whole seconds.
    let same_second = Subject {
        written: Some(at(5)),
        ..subject(3, PLAN, &gates)
    };
    let ballots = judge(&[old], &same_second, at(11));
    assert_eq!(states(&ballots), [ApprovalState::Counts]);
}

#[test]
fn the_latest_decision_of_a_person_counts_also_within_one_second() {
    let gates = [gate(GatedPhase::Deploy)];
    let now = subject(3, PLAN, &gates);
    let mut no = vote("anna", 5, Decision::Reject);
    let mut yes = vote("anna", 5, Decision::Approve);
    (no.version, yes.version) = (Some(100), Some(101));
    let other = vote("ben", 4, Decision::Reject);
    let ballots = judge(&[yes.clone(), no.clone(), other.clone()], &now, at(6));
    let found: Vec<(&str, ApprovalState)> = ballots
        .iter()
        .map(|ballot| (ballot.vote.name.as_str(), ballot.status.state))
        .collect();
    assert_eq!(
        found,
        [
            (other.name.as_str(), ApprovalState::Counts),
            (no.name.as_str(), ApprovalState::Superseded),
            (yes.name.as_str(), ApprovalState::Counts),
        ]
    );
    assert!(ballots[1].status.message.contains(&yes.name));
    // Writing a status raises the version; the order stays.
    let mut kept = again(&ballots);
    kept[1].version = Some(200);
    assert_eq!(states(&judge(&kept, &now, at(7))), states(&ballots));
}

#[test]
fn a_decision_expires_counted_from_its_first_observation() {
    let gates = [gate(GatedPhase::Deploy)];
    let now = subject(3, PLAN, &gates);
    let day = 24 * 3600;
    let ballots = judge(&[vote("anna", 5, Decision::Approve)], &now, at(1_000));
    let kept = again(&ballots);
    assert_eq!(
        states(&judge(&kept, &now, at(1_000 + day - 1))),
        [ApprovalState::Counts]
    );
    assert_eq!(
        states(&judge(&kept, &now, at(1_000 + day))),
        [ApprovalState::Expired]
    );
    let ballots = judge(&[vote("ben", 5, Decision::Reject)], &now, at(1_000));
    let later = judge(&again(&ballots), &now, at(1_000 + 100 * day));
    assert_eq!(states(&later), [ApprovalState::Counts], "a rejection stays");
}

#[test]
fn a_gate_that_opens_uses_up_what_opened_it() {
    let gates = [gate(GatedPhase::Deploy)];
    let now = subject(3, PLAN, &gates);
    let votes = [
        vote("anna", 5, Decision::Approve),
        vote("ben", 6, Decision::Reject),
    ];
    let mut ballots = judge(&votes, &now, at(7));
    note_gate(&mut ballots, &gates[0], GateState::Requested, &[]);
    assert_eq!(states(&ballots), [ApprovalState::Counts; 2]);
    let by = ["anna".to_owned()];
    note_gate(&mut ballots, &gates[0], GateState::Approved, &by);
    assert_eq!(
        states(&ballots),
        [ApprovalState::Used, ApprovalState::NotNeeded]
    );
    assert!(ballots[0].opened(&gates[0], &now));
    let other = gate(GatedPhase::SmokeTest);
    assert!(!ballots[0].opened(&other, &now), "another gate");
    let uid = Subject { uid: "u2", ..now };
    let (generation, plan) = (subject(4, PLAN, &gates), subject(3, OTHER, &gates));
    for other in [uid, generation, plan] {
        assert!(!ballots[0].opened(&gates[0], &other), "{other:?}");
    }
}

#[test]
fn only_an_approval_of_somebody_who_is_listed_opened_the_gate() {
    let gates = [gate(GatedPhase::Deploy)];
    let now = subject(3, PLAN, &gates);
    let votes = [
        vote("anna", 5, Decision::Reject),
        vote("ben", 6, Decision::Approve),
    ];
    let mut ballots = judge(&votes, &now, at(7));
    // As in a status that was written before these decisions.
    note_gate(
        &mut ballots,
        &gates[0],
        GateState::Approved,
        &["anna".to_owned()],
    );
    assert_eq!(states(&ballots), [ApprovalState::NotNeeded; 2]);
}

#[test]
fn a_generation_was_written_when_its_fields_were_last_written() {
    let mut object = crate::plan::named::tests::activation(
        "{organization: o, app: x, region: eze, deploy: {image: 'x:1'}}",
    );
    assert_eq!(written(&object), None);
    let fields = [7, 9, 8].map(|second| {
        let time = at(second).to_string();
        serde_json::json!({"manager": "m", "operation": "Apply", "time": time})
    });
    object.metadata.managed_fields = serde_json::from_value(fields.into()).unwrap();
    assert_eq!(written(&object), Some(at(9)));
}

#[test]
fn a_request_for_a_rollback_says_what_became_of_it() {
    let mut request = vote("anna", 5, Decision::Approve);
    request.spec.gate = DecidedOn::Rollback;
    let now = subject(3, PLAN, &[]);
    let mut ballots = judge(&[request.clone()], &now, at(6));
    assert_eq!(states(&ballots), [ApprovalState::Counts]);
    let decided = RollbackStatus {
        request: request.name.clone(),
        by: "anna".into(),
        to: Some(1),
        state: RollbackState::Refused,
        message: "release 1 failed".into(),
        time: None,
    };
    let elsewhere = RollbackStatus {
        request: "another".into(),
        ..decided.clone()
    };
    let waiting = RollbackStatus {
        state: RollbackState::Waiting,
        ..decided.clone()
    };
    for other in [elsewhere, waiting] {
        note_rollback(&mut ballots, Some(&other));
        assert_eq!(states(&ballots), [ApprovalState::Counts], "{other:?}");
    }
    note_rollback(&mut ballots, Some(&decided));
    assert_eq!(states(&ballots), [ApprovalState::Refused]);
    assert_eq!(ballots[0].status.message, "release 1 failed");
    // What was decided is not decided again.
    let accepted = RollbackStatus {
        state: RollbackState::Accepted,
        ..decided.clone()
    };
    note_rollback(&mut ballots, Some(&accepted));
    assert_eq!(states(&ballots), [ApprovalState::Refused]);
    let mut fresh = judge(&[request.clone()], &now, at(6));
    note_rollback(&mut fresh, Some(&accepted));
    assert_eq!(states(&fresh), [ApprovalState::Used]);
    // Only an owner has changed since: the same work is taken back.
    let later = judge(&[request.clone()], &subject(4, PLAN, &[]), at(6));
    assert_eq!(states(&later), [ApprovalState::Counts]);
    let other = judge(&[request], &subject(3, OTHER, &[]), at(6));
    assert_eq!(states(&other), [ApprovalState::WrongDigest]);
}

#[test]
fn a_decision_about_no_activation_is_reported_once() {
    let lost = vote("anna", 5, Decision::Approve);
    let status = of_no_activation(&lost, at(6)).unwrap();
    assert_eq!(status.state, ApprovalState::ActivationNotFound);
    let known = Vote {
        status: Some(status),
        ..lost
    };
    assert_eq!(of_no_activation(&known, at(7)), None);
    // An Activation that is created later is another question.
    let gates = [gate(GatedPhase::Deploy)];
    let ballots = judge(&[known], &subject(1, PLAN, &gates), at(8));
    assert_eq!(states(&ballots), [ApprovalState::ActivationNotFound]);
}

#[test]
fn a_decision_that_names_an_earlier_generation_does_not_count() {
    let gates = [gate(GatedPhase::Deploy)];
    let now = subject(3, PLAN, &gates);
    let about = |generation: i64| {
        let mut cast = vote("anna", 5, Decision::Approve);
        cast.spec.generation = Some(generation);
        states(&judge(&[cast], &now, at(6)))
    };
    assert_eq!(about(3), [ApprovalState::Counts]);
    assert_eq!(about(2), [ApprovalState::Superseded]);
}
