//! Gates: a phase that people must approve before it begins. Pure: approvals and time are arguments.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::api::{
    approval::{ActivationApprovalSpec, Decision},
    condition::whole_seconds,
    policy::{Gate, OnTimeout},
    status::{GateState, GateStatus},
};

/// Most approvers that a status lists.
const LISTED_APPROVERS: usize = 10;

/// The state of a gate.
#[derive(Clone, Debug, PartialEq)]
pub struct GateReport {
    /// As it is written to the status; `expires_at` follows from the time of the request.
    pub status: GateStatus,
    /// The sentence for a person.
    pub message: String,
}

/// Whether a phase may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// The gate is open: the phase may begin.
    Open,
    /// The phase waits for people.
    Waiting,
    /// The phase may not begin until the plan changes.
    Closed,
}

impl GateReport {
    /// Whether the phase behind the gate may begin.
    pub fn passage(&self) -> Passage {
        match self.status.state {
            GateState::Approved => Passage::Open,
            GateState::Rejected | GateState::Expired => Passage::Closed,
            GateState::Pending | GateState::Requested => Passage::Waiting,
        }
    }
}

/// The votes on one plan at one gate.
struct Votes<'a> {
    approved: BTreeSet<&'a str>,
    rejected: Option<&'a str>,
}

impl<'a> Votes<'a> {
    /// A vote counts only for the plan that it names: yesterday's approval does not approve a
    /// changed plan. Several approvals of one person count once.
    fn count(gate: &Gate, digest: &str, votes: &'a [ActivationApprovalSpec]) -> Self {
        let ours = || {
            votes
                .iter()
                .filter(|vote| vote.gate.as_str() == gate.before.as_str() && vote.digest == digest)
        };
        let of = |decision| ours().filter(move |vote| vote.decision == decision);
        Self {
            approved: of(Decision::Approve)
                .map(|vote| vote.approver.as_str())
                .collect(),
            rejected: of(Decision::Reject)
                .map(|vote| vote.approver.as_str())
                .next(),
        }
    }

    /// Approvals that are still needed.
    fn remaining(&self, gate: &Gate) -> u32 {
        let approved = u32::try_from(self.approved.len()).unwrap_or(u32::MAX);
        gate.approvals.max(1).saturating_sub(approved)
    }
}

/// Decides a gate. One rejection is enough to close it.
pub fn decide(
    gate: &Gate,
    digest: &str,
    votes: &[ActivationApprovalSpec],
    before: Option<&GateStatus>,
    now: Timestamp,
) -> GateReport {
    let before = before.filter(|status| status.digest == digest);
    let requested = before
        .and_then(|status| status.requested_at.as_ref())
        .map_or(now, |time| time.0);
    let timeout = SignedDuration::try_from(gate.timeout.get()).unwrap_or(SignedDuration::MAX);
    let expires = requested.saturating_add(timeout).unwrap_or(Timestamp::MAX);
    let votes = Votes::count(gate, digest, votes);
    let (state, message) = state(gate, digest, &votes, now >= expires);
    let approvers = votes.approved.iter().take(LISTED_APPROVERS);
    GateReport {
        status: GateStatus {
            state,
            digest: digest.to_owned(),
            requested_at: Some(whole_seconds(requested)),
            expires_at: Some(whole_seconds(expires)),
            approved_by: approvers.map(|name| (*name).to_owned()).collect(),
            rejected_by: votes.rejected.map(str::to_owned),
        },
        message,
    }
}

fn state(gate: &Gate, digest: &str, votes: &Votes<'_>, expired: bool) -> (GateState, String) {
    let phase = gate.before;
    let remaining = votes.remaining(gate);
    if let Some(who) = votes.rejected {
        return (
            GateState::Rejected,
            format!("{who} rejected {phase}; change the spec to request approval again"),
        );
    }
    if remaining == 0 {
        let who: Vec<&str> = votes.approved.iter().copied().collect();
        return (
            GateState::Approved,
            format!("approved by {}", who.join(", ")),
        );
    }
    match gate.on_timeout {
        OnTimeout::Reject if expired => (
            GateState::Expired,
            format!(
                "nobody decided on {phase} within {}; change the spec to request approval again",
                gate.timeout
            ),
        ),
        OnTimeout::Continue if expired => (
            GateState::Approved,
            format!(
                "nobody decided within {}; `onTimeout` is Continue",
                gate.timeout
            ),
        ),
        _ => (
            GateState::Requested,
            format!(
                "{phase} waits for {remaining} of {} approvals: create an ActivationApproval with `gate: {phase}` and `digest: {digest}`",
                gate.approvals.max(1)
            ),
        ),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::api::{Duration, approval::DecidedOn, policy::GatedPhase};

    const PLAN: &str = "sha256:aaaaaaaa";

    fn gate(approvals: u32, on_timeout: OnTimeout) -> Gate {
        Gate {
            before: GatedPhase::Deploy,
            timeout: Duration::from_mins(10),
            on_timeout,
            approvals,
        }
    }

    fn vote(approver: &str, digest: &str, decision: Decision) -> ActivationApprovalSpec {
        ActivationApprovalSpec {
            activation: "cabanas".into(),
            gate: DecidedOn::Deploy,
            digest: digest.into(),
            decision,
            approver: approver.into(),
            message: None,
            to_release: None,
        }
    }

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + minute * 60).unwrap()
    }

    fn state(gate: &Gate, votes: &[ActivationApprovalSpec], minute: i64) -> GateState {
        let asked = decide(gate, PLAN, &[], None, at(0)).status;
        decide(gate, PLAN, votes, Some(&asked), at(minute))
            .status
            .state
    }

    #[test]
    fn a_gate_opens_when_enough_different_people_approved_this_plan() {
        let gate = gate(2, OnTimeout::Reject);
        let anna = vote("anna", PLAN, Decision::Approve);
        let again = vote("anna", PLAN, Decision::Approve);
        let ben = vote("ben", PLAN, Decision::Approve);
        assert_eq!(
            state(&gate, &[anna.clone(), again], 1),
            GateState::Requested
        );
        assert_eq!(state(&gate, &[anna, ben], 1), GateState::Approved);
    }

    #[test]
    fn an_approval_of_another_plan_does_not_count() {
        let gate = gate(1, OnTimeout::Reject);
        let old = vote("anna", "sha256:bbbbbbbb", Decision::Approve);
        assert_eq!(state(&gate, &[old], 1), GateState::Requested);
    }

    #[test]
    fn one_rejection_is_enough() {
        let gate = gate(1, OnTimeout::Continue);
        let yes = vote("anna", PLAN, Decision::Approve);
        let no = vote("ben", PLAN, Decision::Reject);
        assert_eq!(state(&gate, &[yes, no], 1), GateState::Rejected);
    }

    #[test]
    fn a_gate_that_nobody_decides_ends_as_the_spec_says() {
        assert_eq!(
            state(&gate(1, OnTimeout::Reject), &[], 9),
            GateState::Requested
        );
        assert_eq!(
            state(&gate(1, OnTimeout::Reject), &[], 10),
            GateState::Expired
        );
        assert_eq!(
            state(&gate(1, OnTimeout::Continue), &[], 10),
            GateState::Approved
        );
        assert_eq!(
            state(&gate(1, OnTimeout::Remind), &[], 99),
            GateState::Requested
        );
    }

    #[test]
    fn a_changed_plan_asks_anew_and_its_time_begins_anew() {
        let gate = gate(1, OnTimeout::Reject);
        let asked = decide(&gate, "sha256:bbbbbbbb", &[], None, at(0)).status;
        let report = decide(&gate, PLAN, &[], Some(&asked), at(60));
        assert_eq!(report.status.state, GateState::Requested);
        assert_eq!(report.passage(), Passage::Waiting);
    }
}
