//! Which decisions of people count: judged one by one against the present request. Pure.
//!
//! A decision is bound, when it is first observed, to what is true then: the object's UID and
//! generation, the digest of the plan, and the release that serves. It counts while all of them stay
//! the same, until it is used or expires. The API server's clock orders the decisions of people and
//! the writes of the spec; its time is never compared with ours.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::plan_id::PlanId;
use crate::api::{
    Activation, ActivationApproval,
    approval::{
        ActivationApprovalSpec, ActivationApprovalStatus, ApprovalState, DecidedOn, Decision,
    },
    condition::whole_seconds,
    policy::Gate,
    status::{GateState, RollbackState, RollbackStatus},
};

/// A decision, as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Vote {
    /// UID of the ActivationApproval.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// When the API server stored it.
    pub created: Option<Timestamp>,
    /// Its `metadata.resourceVersion`, a number that grows.
    pub version: Option<i64>,
    /// What was decided.
    pub spec: ActivationApprovalSpec,
    /// What was found of it before.
    pub status: Option<ActivationApprovalStatus>,
}

impl Vote {
    /// The decision in this object.
    pub fn of(approval: &ActivationApproval) -> Self {
        let version = approval.resource_version();
        Self {
            uid: approval.uid().unwrap_or_default(),
            name: approval.name_any(),
            created: approval.creation_timestamp().map(|time| time.0),
            version: version.and_then(|version| version.parse().ok()),
            spec: approval.spec.clone(),
            status: approval.status.clone(),
        }
    }

    fn is_on(&self, gate: &Gate) -> bool {
        self.spec.gate.as_str() == gate.before.as_str()
    }

    /// The order in which people decided.
    fn order(&self) -> (Option<Timestamp>, Option<i64>, &str) {
        let first = self.status.as_ref();
        let first = first.and_then(|status| status.first_observed_version);
        (self.created, first.or(self.version), &self.name)
    }
}

/// What a decision must be about in order to count now.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// UID of the Activation.
    pub uid: &'a str,
    /// When it was created, by the API server's clock.
    pub created: Option<Timestamp>,
    /// Its generation.
    pub generation: i64,
    /// When this generation was written, by the API server's clock.
    pub written: Option<Timestamp>,
    /// Its plan.
    pub plan: &'a PlanId,
    /// Number of the release that serves, if it is known.
    pub release: Option<i64>,
    /// What its plan removes for good, as the status says.
    pub destroys: &'a [String],
    /// Its gates.
    pub gates: &'a [Gate],
    /// Whether changes are planned only: then no gate opens.
    pub planned: bool,
}

/// A decision and what was found of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Ballot {
    /// The decision.
    pub vote: Vote,
    /// What was found of it now.
    pub status: ActivationApprovalStatus,
}

impl Ballot {
    /// Whether it counts for this gate now.
    pub fn counts_for(&self, gate: &Gate) -> bool {
        self.status.state == ApprovalState::Counts && self.vote.is_on(gate)
    }

    /// Whether it opened this gate for this plan of this generation.
    pub fn opened(&self, gate: &Gate, subject: &Subject<'_>) -> bool {
        self.status.state == ApprovalState::Used
            && self.vote.is_on(gate)
            && self.vote.spec.digest == subject.plan.digest()
            && self.status.activation_uid.as_deref() == Some(subject.uid)
            && self.status.generation == Some(subject.generation)
    }

    fn becomes(&mut self, state: ApprovalState, message: impl Into<String>) {
        self.status.state = state;
        self.status.message = message.into();
    }

    /// The gate is open, or the decision was carried out.
    pub fn use_up(&mut self, opened_by_it: bool) {
        let gate = self.vote.spec.gate;
        if opened_by_it {
            self.becomes(
                ApprovalState::Used,
                format!("opened the gate before {gate}"),
            );
        } else {
            self.becomes(
                ApprovalState::NotNeeded,
                format!(
                    "the gate before {gate} was open already; to stop the work on this plan, annotate the Activation with golive.dev/abort={}",
                    self.vote.spec.digest
                ),
            );
        }
    }
}

/// Judges all decisions about an object. Of several decisions of one person at one gate the latest
/// counts.
pub fn judge(votes: &[Vote], subject: &Subject<'_>, now: Timestamp) -> Vec<Ballot> {
    let mut votes: Vec<&Vote> = votes.iter().collect();
    votes.sort_by(|a, b| a.order().cmp(&b.order()));
    let mut ballots: Vec<Ballot> = Vec::with_capacity(votes.len());
    for vote in votes {
        let status = judge_one(vote, subject, now);
        if status.state == ApprovalState::Counts && vote.spec.gate != DecidedOn::Rollback {
            for earlier in &mut ballots {
                if earlier.status.state == ApprovalState::Counts
                    && earlier.vote.spec.gate == vote.spec.gate
                    && earlier.vote.spec.approver == vote.spec.approver
                {
                    let message = format!(
                        "{} decided again: the ActivationApproval {} counts",
                        vote.spec.approver, vote.name
                    );
                    earlier.becomes(ApprovalState::Superseded, message);
                }
            }
        }
        ballots.push(Ballot {
            vote: vote.clone(),
            status,
        });
    }
    ballots
}

fn judge_one(vote: &Vote, subject: &Subject<'_>, now: Timestamp) -> ActivationApprovalStatus {
    let known = vote.status.as_ref();
    if let Some(status) = known.filter(|status| status.state != ApprovalState::Counts) {
        return status.clone();
    }
    let mut status = known.cloned().unwrap_or_else(|| first(vote, subject, now));
    let refusal = match known {
        None => refused_at_first(vote, subject),
        Some(_) => None,
    };
    let (state, message) = refusal
        .or_else(|| superseded(vote, &status, subject))
        .or_else(|| expired(vote, &status, now))
        .unwrap_or_else(|| {
            let about = match vote.spec.gate {
                DecidedOn::Rollback => "the request for a rollback".to_owned(),
                gate => format!("the gate before {gate}"),
            };
            let rollback = vote.spec.gate == DecidedOn::Rollback;
            let message = if subject.planned && rollback {
                "`mode` is Plan, so nothing is done; `status.plan` says what the rollback would do, and it is carried out when `mode` is Apply".to_owned()
            } else if subject.planned {
                format!(
                    "`mode` is Plan, so nothing is done; decide again on {about} when it is Apply"
                )
            } else {
                format!("counts for {about}, generation {}", subject.generation)
            };
            (ApprovalState::Counts, message)
        });
    status.state = state;
    status.message = message;
    status
}

/// What a decision is bound to when it is first observed.
fn first(vote: &Vote, subject: &Subject<'_>, now: Timestamp) -> ActivationApprovalStatus {
    let lasts = SignedDuration::try_from(vote.spec.valid_for.get()).unwrap_or(SignedDuration::MAX);
    let expires = now.saturating_add(lasts).unwrap_or(Timestamp::MAX);
    ActivationApprovalStatus {
        activation_uid: Some(subject.uid.to_owned()),
        generation: Some(subject.generation),
        release: subject.release,
        destroys: subject.destroys.to_vec(),
        first_observed_version: vote.version,
        first_observed_time: Some(whole_seconds(now)),
        expires_at: Some(whole_seconds(expires)),
        ..ActivationApprovalStatus::default()
    }
}

/// Why a decision that is observed for the first time does not count.
fn refused_at_first(vote: &Vote, subject: &Subject<'_>) -> Option<(ApprovalState, String)> {
    let before = |time: Option<Timestamp>| vote.created.zip(time).is_some_and(|(a, b)| a < b);
    if before(subject.created) {
        let message = "it was made for an earlier Activation of this name; decide again";
        return Some((ApprovalState::Superseded, message.to_owned()));
    }
    let gate = vote.spec.gate;
    let rollback = gate == DecidedOn::Rollback;
    if !rollback && !subject.gates.iter().any(|gate| vote.is_on(gate)) {
        let known: Vec<&str> = subject.gates.iter().map(|g| g.before.as_str()).collect();
        let known = match known.as_slice() {
            [] => "it has no gates".to_owned(),
            known => format!("it has gates before {}", known.join(", ")),
        };
        let message = format!("the Activation has no gate before {gate}: {known}");
        return Some((ApprovalState::UnknownGate, message));
    }
    let earlier = |generation: &i64| *generation < subject.generation;
    if let Some(generation) = vote.spec.generation.filter(earlier) {
        let message = format!(
            "it is about generation {generation}, and this is generation {}: review the plan, and decide again",
            subject.generation
        );
        return Some((ApprovalState::Superseded, message));
    }
    if !names(vote, subject) {
        let message = format!(
            "the digest of the plan is {}: review the plan, and decide again with this digest",
            subject.plan.digest()
        );
        return Some((ApprovalState::WrongDigest, message));
    }
    if !rollback && before(subject.written) {
        let message = format!(
            "it was made before generation {} of the Activation was written; decide again",
            subject.generation
        );
        return Some((ApprovalState::Superseded, message));
    }
    None
}

/// Whether the decision names what is asked now: at a gate this very plan, and for a rollback the work that is taken
/// back, which is the same after only an owner has changed.
fn names(vote: &Vote, subject: &Subject<'_>) -> bool {
    match vote.spec.gate {
        DecidedOn::Rollback => subject.plan.is_same_work(&vote.spec.digest),
        _ => vote.spec.digest == subject.plan.digest(),
    }
}

/// What is removed for good beyond what was known.
pub(super) fn more(known: &[String], now: &[String]) -> Option<String> {
    let more = now.iter().filter(|entry| !known.contains(entry));
    let more: Vec<&str> = more.map(String::as_str).collect();
    (!more.is_empty()).then(|| more.join(", "))
}

/// Why a decision is about something else than what is asked now.
fn superseded(
    vote: &Vote,
    status: &ActivationApprovalStatus,
    subject: &Subject<'_>,
) -> Option<(ApprovalState, String)> {
    let because = if status.activation_uid.as_deref() != Some(subject.uid) {
        "it was made for an earlier Activation of this name".to_owned()
    } else if !names(vote, subject)
        && subject
            .plan
            .leads_to_same(&vote.spec.digest, status.generation)
    {
        format!(
            "the Activation has changed: this is generation {}",
            subject.generation
        )
    } else if !names(vote, subject) {
        format!(
            "the plan has changed, and its digest is {}",
            subject.plan.digest()
        )
    } else if vote.spec.gate == DecidedOn::Rollback {
        return None;
    } else if let (Some(then), Some(now)) = (status.release, subject.release)
        && then != now
    {
        format!("release {now} serves, and not release {then}")
    } else if let Some(more) = more(&status.destroys, subject.destroys) {
        format!("since it was made, the plan also destroys {more}")
    } else {
        return None;
    };
    Some((
        ApprovalState::Superseded,
        format!("{because}; decide again"),
    ))
}

fn expired(
    vote: &Vote,
    status: &ActivationApprovalStatus,
    now: Timestamp,
) -> Option<(ApprovalState, String)> {
    // A rejection stays: with `onTimeout: Continue` its end would open the gate.
    let expires = status.expires_at.as_ref()?;
    (vote.spec.decision == Decision::Approve && now >= expires.0).then(|| {
        let message = format!(
            "it was not used within {}; decide again",
            vote.spec.valid_for
        );
        (ApprovalState::Expired, message)
    })
}

/// Takes over what became of the requests for a rollback.
pub fn note_rollback(ballots: &mut [Ballot], rollback: Option<&RollbackStatus>) {
    let Some(rollback) = rollback else { return };
    let decided = ballots.iter_mut().filter(|ballot| {
        ballot.vote.spec.gate == DecidedOn::Rollback
            && ballot.status.state == ApprovalState::Counts
            && ballot.vote.name == rollback.request
    });
    for ballot in decided {
        match rollback.state {
            RollbackState::Waiting => {}
            RollbackState::Accepted => {
                ballot.becomes(ApprovalState::Used, "the rollback was carried out");
            }
            RollbackState::Refused => {
                ballot.becomes(ApprovalState::Refused, rollback.message.clone());
            }
        }
    }
}

/// Marks the decisions at a gate that is open: those that opened it are used up, and the others were
/// not needed.
pub fn note_gate(ballots: &mut [Ballot], gate: &Gate, state: GateState, approved_by: &[String]) {
    if state != GateState::Approved {
        return;
    }
    for ballot in ballots.iter_mut().filter(|ballot| ballot.counts_for(gate)) {
        let approves = ballot.vote.spec.decision == Decision::Approve;
        ballot.use_up(approves && approved_by.contains(&ballot.vote.spec.approver));
    }
}

/// When this generation of the spec was written, by the API server's clock: the last write of a
/// field manager to the spec.
pub fn written(activation: &Activation) -> Option<Timestamp> {
    let fields = activation.managed_fields().iter();
    fields
        .filter_map(|entry| entry.time.as_ref().map(|time| time.0))
        .max()
}

/// What was found of decisions about an Activation that does not exist.
pub fn of_no_activation(vote: &Vote, now: Timestamp) -> Option<ActivationApprovalStatus> {
    if vote.status.is_some() {
        return None;
    }
    Some(ActivationApprovalStatus {
        state: ApprovalState::ActivationNotFound,
        message: format!(
            "there is no Activation {} in this namespace; delete this, and decide again with the right name",
            vote.spec.activation
        ),
        first_observed_version: vote.version,
        first_observed_time: Some(whole_seconds(now)),
        ..ActivationApprovalStatus::default()
    })
}

#[cfg(test)]
mod tests;
