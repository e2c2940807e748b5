#![allow(clippy::unwrap_used)]

use super::*;
use crate::api::{
    Duration,
    approval::{ActivationApprovalSpec, DecidedOn},
    policy::GatedPhase,
};
use crate::plan::votes::{Vote, judge, note_gate};

const PLAN: &str = "sha256:aaaaaaaa";
const OTHER: &str = "sha256:bbbbbbbb";

fn gate(approvals: u32, on_timeout: OnTimeout) -> Gate {
    Gate {
        before: GatedPhase::Deploy,
        timeout: Duration::from_mins(10),
        on_timeout,
        approvals,
    }
}

fn at(minute: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + minute * 60).unwrap()
}

fn vote(approver: &str, decision: Decision) -> Vote {
    Vote {
        uid: format!("{approver}-{decision}"),
        name: format!("{approver}-{decision}"),
        created: Some(at(1)),
        version: Some(1),
        spec: ActivationApprovalSpec {
            activation: "cabanas".into(),
            gate: DecidedOn::Deploy,
            digest: PLAN.into(),
            decision,
            approver: approver.into(),
            message: None,
            to_release: None,
            valid_for: Duration::from_hours(24),
        },
        status: None,
    }
}

/// An object with one gate, as it goes from pass to pass.
struct Object {
    gates: [Gate; 1],
    generation: i64,
    digest: &'static str,
    release: Option<i64>,
    attempt: &'static str,
    rolled_back: bool,
    planned: bool,
    votes: Vec<Vote>,
    before: Option<GateStatus>,
}

impl Object {
    fn new(gate: Gate) -> Self {
        Self {
            gates: [gate],
            generation: 1,
            digest: PLAN,
            release: None,
            attempt: "",
            rolled_back: false,
            planned: false,
            votes: Vec::new(),
            before: None,
        }
    }

    fn pass(&mut self, minute: i64) -> GateState {
        let subject = Subject {
            uid: "u",
            created: Some(at(0)),
            generation: self.generation,
            written: None,
            digest: self.digest,
            release: self.release,
            gates: &self.gates,
            planned: self.planned,
        };
        let mut ballots = judge(&self.votes, &subject, at(minute));
        let question = Question {
            subject,
            attempt: self.attempt,
            rolled_back: self.rolled_back,
        };
        let gate = &self.gates[0];
        let report = decide(gate, &question, &ballots, self.before.as_ref(), at(minute));
        let status = report.status;
        note_gate(&mut ballots, gate, status.state, &status.approved_by);
        self.votes = ballots
            .into_iter()
            .map(|ballot| Vote {
                status: Some(ballot.status),
                ..ballot.vote
            })
            .collect();
        let state = status.state;
        self.before = Some(status);
        state
    }

    fn approved(&mut self, minute: i64) {
        self.votes.push(vote("anna", Decision::Approve));
        assert_eq!(self.pass(minute), GateState::Approved);
    }
}

#[test]
fn a_gate_opens_when_enough_different_people_approved_this_plan() {
    let mut object = Object::new(gate(2, OnTimeout::Reject));
    assert_eq!(object.pass(0), GateState::Requested);
    object.votes.push(vote("anna", Decision::Approve));
    let again = Vote {
        uid: "again".into(),
        name: "again".into(),
        ..vote("anna", Decision::Approve)
    };
    object.votes.push(again);
    assert_eq!(object.pass(1), GateState::Requested);
    object.votes.push(vote("ben", Decision::Approve));
    assert_eq!(object.pass(2), GateState::Approved);
    assert_eq!(object.before.unwrap().approved_by, ["anna", "ben"]);
}

#[test]
fn an_open_gate_stays_open_for_what_it_opened() {
    let mut object = Object::new(gate(1, OnTimeout::Reject));
    object.approved(1);
    // The release that it opened serves, its secrets are rotated, its owner changes, somebody
    // changes his mind, the approvals are cleaned up.
    object.release = Some(1);
    assert_eq!(object.pass(2), GateState::Approved);
    object.release = Some(2);
    object.attempt = "rotated";
    assert_eq!(object.pass(3), GateState::Approved);
    object.generation = 2;
    object.votes.push(vote("ben", Decision::Reject));
    assert_eq!(object.pass(4), GateState::Approved);
    object.votes.clear();
    assert_eq!(object.pass(5000), GateState::Approved);
}

#[test]
fn going_back_to_a_plan_that_was_approved_asks_again() {
    let mut object = Object::new(gate(1, OnTimeout::Reject));
    object.approved(1);
    object.release = Some(1);
    (object.generation, object.digest) = (2, OTHER);
    assert_eq!(object.pass(2), GateState::Requested);
    (object.generation, object.digest) = (3, PLAN);
    assert_eq!(object.pass(3), GateState::Requested);
}

#[test]
fn a_retry_after_a_rollback_asks_again_and_a_retry_before_does_not() {
    let mut object = Object::new(gate(1, OnTimeout::Reject));
    object.release = Some(1);
    object.approved(1);
    object.attempt = "retry-1";
    assert_eq!(object.pass(2), GateState::Approved);
    object.release = Some(2);
    assert_eq!(object.pass(3), GateState::Approved);
    (object.release, object.rolled_back) = (Some(1), true);
    assert_eq!(object.pass(4), GateState::Approved, "it is held");
    object.attempt = "retry-2";
    assert_eq!(object.pass(5), GateState::Requested);
    assert_eq!(object.pass(6), GateState::Requested);
    object.votes.push(Vote {
        uid: "new".into(),
        name: "new".into(),
        created: Some(at(6)),
        ..vote("anna", Decision::Approve)
    });
    assert_eq!(object.pass(7), GateState::Approved);
    assert_eq!(object.pass(8), GateState::Approved);
}

#[test]
fn a_gate_whose_status_was_lost_is_open_for_what_was_used_up_on_this_generation() {
    let mut object = Object::new(gate(1, OnTimeout::Reject));
    object.approved(1);
    object.before = None;
    assert_eq!(object.pass(2), GateState::Approved);
    object.before = None;
    object.generation = 2;
    assert_eq!(object.pass(3), GateState::Requested);
}

#[test]
fn another_generation_or_release_asks_anew_and_its_time_begins_anew() {
    let mut object = Object::new(gate(2, OnTimeout::Reject));
    object.release = Some(1);
    object.votes.push(vote("anna", Decision::Approve));
    object.pass(0);
    object.generation = 2;
    assert_eq!(object.pass(9), GateState::Requested);
    let status = object.before.clone().unwrap();
    assert_eq!(status.requested_at, Some(whole_seconds(at(9))));
    assert!(status.approved_by.is_empty(), "{status:?}");
    object.release = Some(2);
    assert_eq!(object.pass(12), GateState::Requested);
    let status = object.before.unwrap();
    assert_eq!(status.requested_at, Some(whole_seconds(at(12))));
}

#[test]
fn one_rejection_is_enough_and_the_same_person_may_approve_later() {
    let mut object = Object::new(gate(1, OnTimeout::Continue));
    object.votes.push(vote("anna", Decision::Approve));
    object.votes.push(vote("ben", Decision::Reject));
    assert_eq!(object.pass(1), GateState::Rejected);
    assert_eq!(
        object.before.as_ref().unwrap().rejected_by.as_deref(),
        Some("ben")
    );
    object.votes.push(Vote {
        created: Some(at(2)),
        ..vote("ben", Decision::Approve)
    });
    assert_eq!(object.pass(3), GateState::Approved);
}

#[test]
fn a_gate_that_nobody_decides_ends_as_the_spec_says() {
    for (on_timeout, minute, state) in [
        (OnTimeout::Reject, 9, GateState::Requested),
        (OnTimeout::Reject, 10, GateState::Expired),
        (OnTimeout::Continue, 10, GateState::Approved),
        (OnTimeout::Remind, 99, GateState::Requested),
    ] {
        let mut object = Object::new(gate(1, on_timeout));
        object.pass(0);
        assert_eq!(object.pass(minute), state, "{on_timeout} {minute}");
    }
}

#[test]
fn a_reminder_is_counted_at_each_timeout() {
    let mut object = Object::new(gate(1, OnTimeout::Remind));
    let mut seen = Vec::new();
    for minute in [0, 9, 10, 19, 35] {
        object.pass(minute);
        let status = object.before.clone().unwrap();
        seen.push((status.reminders, status.expires_at.unwrap().0));
    }
    assert_eq!(
        seen,
        [
            (0, at(10)),
            (0, at(10)),
            (1, at(20)),
            (1, at(20)),
            (3, at(40))
        ]
    );
}

#[test]
fn a_plan_opens_no_gate_and_its_approval_does_not_count_when_it_is_carried_out() {
    let mut object = Object::new(gate(1, OnTimeout::Reject));
    object.planned = true;
    object.votes.push(vote("anna", Decision::Approve));
    assert_eq!(object.pass(1), GateState::Requested);
    assert_eq!(object.pass(500), GateState::Requested, "it has no deadline");
    (object.planned, object.generation) = (false, 2);
    assert_eq!(object.pass(501), GateState::Requested);
}
