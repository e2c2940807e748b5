//! Gates: a phase that people must approve before it begins. Pure: decisions and time are arguments.
//!
//! A gate asks about one plan of one generation, while one release serves. Once it is open it stays
//! open for that plan, until a retry is requested of a release that was rolled back: decisions are used
//! up by what they opened.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::votes::{Ballot, Subject};
use crate::api::{
    approval::Decision,
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

/// What a gate is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The object, its plan and what serves.
    pub subject: Subject<'a>,
    /// Fingerprint of the tokens that request a retry or a rotation.
    pub attempt: &'a str,
    /// Whether the latest release was rolled back.
    pub rolled_back: bool,
}

/// The decisions that count on one request at one gate.
struct Votes<'a> {
    approved: BTreeSet<&'a str>,
    rejected: Option<&'a str>,
}

impl<'a> Votes<'a> {
    /// The latest decision of each person that counts.
    fn count(gate: &Gate, ballots: &'a [Ballot]) -> Self {
        let counting = ballots.iter().filter(|ballot| ballot.counts_for(gate));
        let latest: BTreeMap<&str, Decision> = counting
            .map(|ballot| {
                (
                    ballot.vote.spec.approver.as_str(),
                    ballot.vote.spec.decision,
                )
            })
            .collect();
        let of = |wanted| {
            let decided = latest
                .iter()
                .filter(move |(_, decision)| **decision == wanted);
            decided.map(|(who, _)| *who)
        };
        Self {
            approved: of(Decision::Approve).collect(),
            rejected: of(Decision::Reject).next(),
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
    question: &Question<'_>,
    ballots: &[Ballot],
    before: Option<&GateStatus>,
    now: Timestamp,
) -> GateReport {
    let subject = &question.subject;
    if let Some(open) = before.and_then(|before| still_open(before, question)) {
        let message = granted(gate, &open.approved_by);
        return GateReport {
            status: open,
            message,
        };
    }
    if subject.planned {
        return planned(gate, question, before, now);
    }
    let request = before.filter(|before| is_same_request(before, subject));
    let requested = request
        .and_then(|status| status.requested_at.as_ref())
        .map_or(now, |time| time.0);
    let timeout = SignedDuration::try_from(gate.timeout.get()).unwrap_or(SignedDuration::MAX);
    let waited = now.duration_since(requested);
    let expired = waited >= timeout;
    let remind = gate.on_timeout == OnTimeout::Remind;
    let reminders = if remind { periods(waited, timeout) } else { 0 };
    let expires = timeout
        .checked_mul(
            i32::try_from(reminders)
                .unwrap_or(i32::MAX)
                .saturating_add(1),
        )
        .and_then(|after| requested.checked_add(after).ok())
        .unwrap_or(Timestamp::MAX);
    // The decisions of a gate that was open may be all that is left after its status was lost.
    let used: BTreeSet<&str> = match before {
        None => ballots
            .iter()
            .filter(|ballot| ballot.opened(gate, subject))
            .map(|ballot| ballot.vote.spec.approver.as_str())
            .collect(),
        Some(_) => BTreeSet::new(),
    };
    let mut votes = Votes::count(gate, ballots);
    if votes.rejected.is_none() {
        votes.approved.extend(used);
    }
    let (state, message) = state(gate, subject.digest, &votes, expired);
    let approvers = votes.approved.iter().take(LISTED_APPROVERS);
    GateReport {
        status: GateStatus {
            state,
            digest: subject.digest.to_owned(),
            requested_at: Some(whole_seconds(requested)),
            expires_at: Some(whole_seconds(expires)),
            generation: Some(subject.generation),
            release: request.map_or(subject.release, |request| {
                request.release.or(subject.release)
            }),
            attempt: question.attempt.to_owned(),
            reminders,
            approved_by: approvers.map(|name| (*name).to_owned()).collect(),
            rejected_by: votes.rejected.map(str::to_owned),
        },
        message,
    }
}

/// A gate of an object whose changes are planned only. It waits without an end, and opens for nobody:
/// to carry the plan out is another generation, and another question.
fn planned(
    gate: &Gate,
    question: &Question<'_>,
    before: Option<&GateStatus>,
    now: Timestamp,
) -> GateReport {
    let subject = &question.subject;
    let request = before.filter(|before| is_same_request(before, subject));
    let requested = request.and_then(|request| request.requested_at.clone());
    GateReport {
        status: GateStatus {
            state: GateState::Requested,
            digest: subject.digest.to_owned(),
            requested_at: requested.or_else(|| Some(whole_seconds(now))),
            generation: Some(subject.generation),
            release: subject.release,
            attempt: question.attempt.to_owned(),
            ..GateStatus::default()
        },
        message: format!(
            "{} is planned only; its gate asks for approval when `mode` is Apply",
            gate.before
        ),
    }
}

/// How often the timeout has passed.
fn periods(waited: SignedDuration, timeout: SignedDuration) -> u32 {
    let timeout = timeout.as_secs().max(1);
    u32::try_from(waited.as_secs() / timeout).unwrap_or_default()
}

/// The gate as it stays open for the plan that it opened; `None` when it asks.
fn still_open(before: &GateStatus, question: &Question<'_>) -> Option<GateStatus> {
    if before.state != GateState::Approved || before.digest != question.subject.digest {
        return None;
    }
    let mut open = before.clone();
    if question.rolled_back {
        // What it opened was taken back: trying again needs another decision. A status of an earlier
        // version has no fingerprint.
        let same = before.attempt.is_empty() || before.attempt == question.attempt;
        return same.then_some(open);
    }
    question.attempt.clone_into(&mut open.attempt);
    Some(open)
}

/// Whether the gate asks about the same as before.
fn is_same_request(before: &GateStatus, subject: &Subject<'_>) -> bool {
    let same_release = match (before.release, subject.release) {
        (Some(then), Some(now)) => then == now,
        _ => true,
    };
    before.state != GateState::Approved
        && before.digest == subject.digest
        && before
            .generation
            .is_none_or(|then| then == subject.generation)
        && same_release
}

fn granted(gate: &Gate, approved_by: &[String]) -> String {
    if approved_by.is_empty() {
        return format!(
            "nobody decided within {}; `onTimeout` is Continue",
            gate.timeout
        );
    }
    format!("approved by {}", approved_by.join(", "))
}

fn state(gate: &Gate, digest: &str, votes: &Votes<'_>, expired: bool) -> (GateState, String) {
    let phase = gate.before;
    let remaining = votes.remaining(gate);
    if let Some(who) = votes.rejected {
        return (
            GateState::Rejected,
            format!(
                "{who} rejected {phase}; {who} can still approve it with another ActivationApproval, or change the spec to request approval again"
            ),
        );
    }
    if remaining == 0 {
        let who: Vec<String> = votes.approved.iter().map(|who| (*who).to_owned()).collect();
        return (GateState::Approved, granted(gate, &who));
    }
    match gate.on_timeout {
        OnTimeout::Reject if expired => (
            GateState::Expired,
            format!(
                "nobody decided on {phase} within {}; an approval still opens the gate, or change the spec to request approval again",
                gate.timeout
            ),
        ),
        OnTimeout::Continue if expired => (GateState::Approved, granted(gate, &[])),
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
mod tests;
