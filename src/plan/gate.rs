//! Gates: a phase that people must approve before it begins. Pure: decisions and time are arguments.
//!
//! A gate asks about one plan of one generation, while one release serves. Once it is open it stays
//! open for that plan, until a retry is requested of a release that was rolled back: decisions are used
//! up by what they opened.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::votes::{Ballot, Subject, more};
use crate::api::{
    approval::Decision,
    condition::whole_seconds,
    policy::{Gate, OnTimeout},
    status::{GateState, GateStatus},
};
use crate::clock::not_in_the_future;

/// Most approvers that a status lists.
const LISTED_APPROVERS: usize = 10;

/// The state of a gate.
#[derive(Clone, Debug, PartialEq)]
pub struct GateReport {
    /// As it is written to the status; `expires_at` follows from the time of the request.
    pub status: GateStatus,
    /// The sentence for a person.
    pub message: String,
    /// It opens now.
    pub opens: Option<Opening>,
}

/// A gate that opens now, unless a fresh look at the plan finds something else than people have seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Opening {
    /// What the plan removed for good when people saw it.
    pub destroys: Vec<String>,
    /// Now.
    pub now: Timestamp,
    /// Until when people decide, if the gate asks anew from now on.
    pub expires_anew: Timestamp,
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
    /// Changes are planned only: nobody is asked, and the phase does not begin.
    Planned,
}

impl GateReport {
    /// The gate as it asks again when it was about to open, and the plan by now removes this too, which nobody has
    /// seen. `None`: it removes no more than was seen, or the gate was open before.
    pub fn asks_again(&self, destroys: &BTreeSet<String>) -> Option<Self> {
        let opening = self.opens.as_ref()?;
        let now: Vec<String> = destroys.iter().cloned().collect();
        let more = more(&opening.destroys, &now)?;
        Some(Self {
            // People get the whole time again: with `onTimeout: Continue` the gate would open otherwise for what they
            // have hardly seen.
            status: GateStatus {
                state: GateState::Requested,
                approved_by: Vec::new(),
                requested_at: Some(whole_seconds(opening.now)),
                expires_at: Some(whole_seconds(opening.expires_anew)),
                reminders: 0,
                ..self.status.clone()
            },
            message: format!(
                "something changed at Fly.io since the plan was approved, and now it also destroys {more}: review the plan, and decide again"
            ),
            opens: None,
        })
    }

    /// The gate as it waits when it was about to open, and it could not be observed what these steps would do by now:
    /// what was decided stays, and counts as soon as that is known. `None`: the gate was open before.
    pub fn waits_for_a_look(&self, steps: &[&str]) -> Option<Self> {
        self.opens.as_ref()?;
        Some(Self {
            status: GateStatus {
                state: GateState::Requested,
                ..self.status.clone()
            },
            message: format!(
                "{}; the phase begins when it is known that its plan is still what was shown: what {} would do could not be observed, and Golive looks again",
                self.message,
                steps.join(", ")
            ),
            opens: None,
        })
    }

    /// Whether the phase behind the gate may begin.
    pub fn passage(&self) -> Passage {
        match self.status.state {
            GateState::Approved => Passage::Open,
            GateState::Rejected | GateState::Expired => Passage::Closed,
            GateState::Requested => Passage::Waiting,
            GateState::Pending => Passage::Planned,
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
    /// Fingerprint of what is behind the gate and not part of the digest of the plan.
    pub about: &'a str,
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
            opens: None,
        };
    }
    if subject.planned {
        return planned(question);
    }
    let request = before.filter(|before| is_same_request(before, question));
    let requested = request
        .and_then(|status| status.requested_at.as_ref())
        .map_or(now, |time| not_in_the_future(time.0, now));
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
    let (state, message) = state(gate, subject.plan.digest(), &votes, expired);
    let approvers = votes.approved.iter().take(LISTED_APPROVERS);
    let opens = (state == GateState::Approved).then(|| Opening {
        destroys: subject.destroys.to_vec(),
        now,
        expires_anew: now.checked_add(timeout).unwrap_or(Timestamp::MAX),
    });
    GateReport {
        opens,
        status: GateStatus {
            state,
            digest: subject.plan.digest().to_owned(),
            requested_at: Some(whole_seconds(requested)),
            expires_at: Some(whole_seconds(expires)),
            generation: Some(subject.generation),
            release: request.map_or(subject.release, |request| {
                request.release.or(subject.release)
            }),
            attempt: question.attempt.to_owned(),
            about: question.about.to_owned(),
            reminders,
            approved_by: approvers.map(|name| (*name).to_owned()).collect(),
            rejected_by: votes.rejected.map(str::to_owned),
        },
        message,
    }
}

/// A gate of an object whose changes are planned only. It asks nobody, and opens for nobody: to carry
/// the plan out is another generation, and then it asks.
fn planned(question: &Question<'_>) -> GateReport {
    let subject = &question.subject;
    GateReport {
        status: GateStatus {
            state: GateState::Pending,
            digest: subject.plan.digest().to_owned(),
            generation: Some(subject.generation),
            release: subject.release,
            attempt: question.attempt.to_owned(),
            about: question.about.to_owned(),
            ..GateStatus::default()
        },
        message: "changes are planned and not made; see `status.plan`; the gate asks for approval when `mode` is Apply".to_owned(),
        opens: None,
    }
}

/// How often the timeout has passed.
fn periods(waited: SignedDuration, timeout: SignedDuration) -> u32 {
    let timeout = timeout.as_secs().max(1);
    u32::try_from(waited.as_secs() / timeout).unwrap_or_default()
}

/// The gate as it stays open for the plan that it opened; `None` when it asks.
fn still_open(before: &GateStatus, question: &Question<'_>) -> Option<GateStatus> {
    if before.state != GateState::Approved
        || !question
            .subject
            .plan
            .leads_to_same(&before.digest, before.generation)
        || !asks_about(before, question)
    {
        return None;
    }
    let mut open = before.clone();
    question.about.clone_into(&mut open.about);
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
fn is_same_request(before: &GateStatus, question: &Question<'_>) -> bool {
    let subject = &question.subject;
    let same_release = match (before.release, subject.release) {
        (Some(then), Some(now)) => then == now,
        _ => true,
    };
    before.state != GateState::Approved
        && before.digest == subject.plan.digest()
        && before
            .generation
            .is_none_or(|then| then == subject.generation)
        && same_release
        && asks_about(before, question)
}

/// Whether what is behind the gate beyond the plan is the same. A status of an earlier version does not say.
fn asks_about(before: &GateStatus, question: &Question<'_>) -> bool {
    before.about.is_empty() || before.about == question.about
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
                "{who} rejected {phase}; {who} can still approve it with another ActivationApproval; to request approval again, change the spec"
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
                "nobody decided on {phase} within {}; an approval still opens the gate; to request approval again, change the spec",
                gate.timeout
            ),
        ),
        OnTimeout::Continue if expired => (GateState::Approved, granted(gate, &[])),
        _ => (
            GateState::Requested,
            format!(
                "waits for {remaining} of {} approvals: create an ActivationApproval with `gate: {phase}` and `digest: {digest}`",
                gate.approvals.max(1)
            ),
        ),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::api::{
        Duration,
        approval::{ActivationApprovalSpec, ApprovalState, DecidedOn},
        policy::GatedPhase,
    };
    use crate::plan::{
        PlanId,
        votes::{Vote, judge, note_gate},
    };

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
                digest: PlanId::new(PLAN, 1).digest().to_owned(),
                generation: None,
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
        about: &'static str,
        destroys: Vec<String>,
        opens: Option<GateReport>,
        rolled_back: bool,
        planned: bool,
        votes: Vec<Vote>,
        before: Option<GateStatus>,
        message: String,
    }

    impl Object {
        fn new(gate: Gate) -> Self {
            Self {
                gates: [gate],
                generation: 1,
                digest: PLAN,
                release: None,
                attempt: "",
                about: "",
                destroys: Vec::new(),
                opens: None,
                rolled_back: false,
                planned: false,
                votes: Vec::new(),
                before: None,
                message: String::new(),
            }
        }

        fn pass(&mut self, minute: i64) -> GateState {
            let plan = PlanId::new(self.digest, self.generation);
            let subject = Subject {
                uid: "u",
                created: Some(at(0)),
                generation: self.generation,
                written: None,
                plan: &plan,
                release: self.release,
                destroys: &self.destroys,
                gates: &self.gates,
                planned: self.planned,
            };
            let mut ballots = judge(&self.votes, &subject, at(minute));
            let question = Question {
                subject,
                attempt: self.attempt,
                about: self.about,
                rolled_back: self.rolled_back,
            };
            let gate = &self.gates[0];
            let report = decide(gate, &question, &ballots, self.before.as_ref(), at(minute));
            self.opens = report.opens.is_some().then(|| report.clone());
            self.message = report.message;
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
            let mut cast = vote("anna", Decision::Approve);
            cast.uid = format!("anna-{minute}");
            cast.name.clone_from(&cast.uid);
            cast.spec.digest = PlanId::new(self.digest, self.generation)
                .digest()
                .to_owned();
            self.votes.push(cast);
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
    fn an_approval_of_another_plan_does_not_count() {
        let mut object = Object::new(gate(1, OnTimeout::Reject));
        object.digest = OTHER;
        object.votes.push(vote("anna", Decision::Approve));
        assert_eq!(object.pass(1), GateState::Requested);
    }

    #[test]
    fn an_approval_of_the_same_work_for_another_generation_does_not_count() {
        for other in [1, 3] {
            let mut object = Object::new(gate(1, OnTimeout::Continue));
            object.generation = 2;
            let mut cast = vote("anna", Decision::Approve);
            cast.spec.digest = PlanId::new(PLAN, other).digest().to_owned();
            object.votes.push(cast);
            assert_eq!(object.pass(1), GateState::Requested, "generation {other}");
            let state = object.votes[0].status.as_ref().unwrap().state;
            assert_eq!(state, ApprovalState::WrongDigest);
        }
    }

    #[test]
    fn a_gate_that_an_earlier_version_opened_without_the_generation_stays_open() {
        let mut object = Object::new(gate(1, OnTimeout::Reject));
        object.approved(1);
        object.before.as_mut().unwrap().digest = PLAN.to_owned();
        assert_eq!(object.pass(2), GateState::Approved);
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
    fn a_changed_plan_asks_anew_and_its_time_begins_anew() {
        let mut object = Object::new(gate(1, OnTimeout::Reject));
        object.digest = OTHER;
        object.pass(0);
        object.digest = PLAN;
        assert_eq!(object.pass(60), GateState::Requested);
        let status = object.before.unwrap();
        assert_eq!(status.requested_at, Some(whole_seconds(at(60))));
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
            (OnTimeout::Continue, 9, GateState::Requested),
            (OnTimeout::Continue, 10, GateState::Approved),
            (OnTimeout::Remind, 99, GateState::Requested),
        ] {
            let mut object = Object::new(gate(1, on_timeout));
            object.pass(0);
            assert_eq!(object.pass(minute), state, "{on_timeout} {minute}");
        }
    }

    #[test]
    fn an_open_gate_says_who_opened_it() {
        let mut object = Object::new(gate(1, OnTimeout::Continue));
        object.pass(0);
        object.pass(10);
        let nobody = "nobody decided within 10m; `onTimeout` is Continue";
        assert_eq!(object.message, nobody);
        object.pass(11);
        assert_eq!(object.message, nobody, "it stays open");
        let mut object = Object::new(gate(1, OnTimeout::Continue));
        object.approved(1);
        assert_eq!(object.message, "approved by anna");
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
    fn a_gate_asks_again_when_what_is_behind_it_beyond_the_plan_has_changed() {
        let mut object = Object::new(gate(1, OnTimeout::Reject));
        object.about = "one webhook";
        object.approved(1);
        (object.generation, object.about) = (2, "two webhooks");
        assert_eq!(object.pass(2), GateState::Requested, "the same plan");
        object.approved(3);
        // A status of an earlier version does not say what it was about.
        object.before.as_mut().unwrap().about.clear();
        assert_eq!(object.pass(4), GateState::Approved);
        assert_eq!(object.before.as_ref().unwrap().about, "two webhooks");
    }

    #[test]
    fn a_gate_asks_again_when_the_plan_destroys_more_than_people_have_seen() {
        let set = |entries: &[String]| entries.iter().cloned().collect::<BTreeSet<String>>();
        let (one, two) = ("Machine a".to_owned(), "Machine b".to_owned());
        let mut object = Object::new(gate(1, OnTimeout::Reject));
        object.destroys = vec![one.clone()];
        object.pass(0);
        object.approved(1);
        let opens = object.opens.take().unwrap();
        assert_eq!(opens.asks_again(&set(&[])), None);
        assert_eq!(opens.asks_again(&set(std::slice::from_ref(&one))), None);
        let again = opens.asks_again(&set(&[one.clone(), two.clone()])).unwrap();
        assert_eq!(again.passage(), Passage::Waiting);
        assert!(
            again.message.contains("also destroys Machine b"),
            "{}",
            again.message
        );
        assert!(again.status.approved_by.is_empty());

        // The status has both since then: a decision from before is void, and another one counts.
        object.before = Some(again.status);
        object.votes[0].status.as_mut().unwrap().state = ApprovalState::Counts;
        object.destroys = vec![one, two];
        assert_eq!(object.pass(2), GateState::Requested);
        let state = object.votes[0].status.as_ref().unwrap().state;
        assert_eq!(state, ApprovalState::Superseded);
        object.approved(3);
        // Once it is open it stays open.
        object.destroys.push("Machine c".to_owned());
        assert_eq!(object.pass(4), GateState::Approved);
        assert!(object.opens.is_none());
    }

    #[test]
    fn a_gate_that_asks_again_about_more_gives_people_the_whole_time_again() {
        let mut object = Object::new(gate(1, OnTimeout::Continue));
        object.pass(0);
        assert_eq!(object.pass(10), GateState::Approved, "nobody has decided");
        let one = BTreeSet::from(["Machine a".to_owned()]);
        let again = object.opens.take().unwrap().asks_again(&one).unwrap();
        assert_eq!(again.status.requested_at, Some(whole_seconds(at(10))));
        assert_eq!(again.status.expires_at, Some(whole_seconds(at(20))));
        object.before = Some(again.status);
        object.destroys = one.into_iter().collect();
        assert_eq!(object.pass(11), GateState::Requested);
        assert_eq!(object.pass(19), GateState::Requested);
        assert_eq!(object.pass(20), GateState::Approved);
    }

    #[test]
    fn a_gate_whose_plan_cannot_be_looked_at_waits_for_that_and_keeps_its_decisions() {
        let mut object = Object::new(gate(1, OnTimeout::Reject));
        object.pass(0);
        object.approved(1);
        let opens = object.opens.take().unwrap();
        let waits = opens.waits_for_a_look(&["Machines"]).unwrap();
        assert_eq!(waits.passage(), Passage::Waiting);
        assert_eq!(waits.status.approved_by, ["anna"]);
        assert!(waits.message.contains("approved by anna"), "{waits:?}");
        assert!(
            waits.message.contains("what Machines would do"),
            "{waits:?}"
        );
        assert_eq!(waits.waits_for_a_look(&["Machines"]), None);
        // The decision was not used up: it opens the gate when the look succeeds.
        object.before = Some(waits.status);
        object.votes[0].status.as_mut().unwrap().state = ApprovalState::Counts;
        assert_eq!(object.pass(2), GateState::Approved);
        assert!(object.opens.is_some(), "after another look");
    }

    #[test]
    fn a_plan_opens_no_gate_and_its_approval_does_not_count_when_it_is_carried_out() {
        let mut object = Object::new(gate(1, OnTimeout::Reject));
        object.planned = true;
        object.votes.push(vote("anna", Decision::Approve));
        assert_eq!(object.pass(1), GateState::Pending, "it asks nobody");
        assert_eq!(object.pass(500), GateState::Pending, "it has no deadline");
        (object.planned, object.generation) = (false, 2);
        assert_eq!(object.pass(501), GateState::Requested);
    }
}
