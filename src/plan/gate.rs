//! Gates: a phase that a person must approve. Pure: the approvals and the time are arguments.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::api::{
    approval::{ActivationApprovalSpec, Decision},
    policy::{Gate, OnTimeout},
    status::{GateState, GateStatus},
};

/// Where a gate stands.
#[derive(Clone, Debug, PartialEq)]
pub struct GateReport {
    /// As it is written to the status; `expires_at` follows from the request.
    pub status: GateStatus,
    /// The sentence for a person.
    pub message: String,
}

/// Decides a gate. A vote counts only for the plan that it names: a changed plan is not approved
/// by yesterday's approval. One rejection is enough to stop.
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
    let ours: Vec<&ActivationApprovalSpec> = votes
        .iter()
        .filter(|vote| vote.gate.as_str() == gate.before.as_str() && vote.digest == digest)
        .collect();
    let approved: BTreeSet<&str> = ours
        .iter()
        .filter(|vote| vote.decision == Decision::Approve)
        .map(|vote| vote.approver.as_str())
        .collect();
    let rejected = ours
        .iter()
        .find(|vote| vote.decision == Decision::Reject)
        .map(|vote| vote.approver.clone());
    let wanted = gate.approvals.max(1);
    let enough = u32::try_from(approved.len()).unwrap_or(u32::MAX) >= wanted;
    let phase = gate.before;
    let (state, message) = if let Some(who) = &rejected {
        (
            GateState::Rejected,
            format!("{who} rejected {phase}; change the spec to ask again"),
        )
    } else if enough {
        let who: Vec<&str> = approved.iter().copied().collect();
        (
            GateState::Approved,
            format!("approved by {}", who.join(", ")),
        )
    } else if now >= expires && gate.on_timeout == OnTimeout::Reject {
        (
            GateState::Expired,
            format!(
                "nobody decided on {phase} within {}; change the spec to ask again",
                gate.timeout
            ),
        )
    } else if now >= expires && gate.on_timeout == OnTimeout::Continue {
        (
            GateState::Approved,
            format!(
                "nobody decided within {}; `onTimeout` is Continue",
                gate.timeout
            ),
        )
    } else {
        (
            GateState::Requested,
            format!(
                "{phase} waits for {} of {wanted} approvals: create an ActivationApproval with `gate: {phase}` and `digest: {digest}`",
                wanted - u32::try_from(approved.len()).unwrap_or(0).min(wanted)
            ),
        )
    };
    GateReport {
        status: GateStatus {
            state,
            digest: digest.to_owned(),
            requested_at: Some(crate::api::condition::whole_seconds(requested)),
            expires_at: Some(crate::api::condition::whole_seconds(expires)),
            approved_by: approved.into_iter().map(str::to_owned).take(10).collect(),
            rejected_by: rejected,
        },
        message,
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
    }
}
