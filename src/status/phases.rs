//! `status.phases[]`: state, times and steps of each phase.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{PassResult, Proof, Runs, integrations, plan as plans, proof};
use crate::{
    api::{
        Activation, ActivationStatus, PhaseName, Reason,
        condition::whole_seconds,
        policy::Mode,
        status::{
            GateState, GateStatus, MAX_MESSAGE, PhaseState, PhaseStatus, StepState, StepStatus,
            one_line,
        },
    },
    clock::not_in_the_future,
    pipeline::{
        State, StepId, StepRecord,
        report::{PhaseProgress, PhaseReport, Report},
    },
};

/// Longest error of a step's last try, in bytes.
const LONGEST_ERROR: usize = 512;

/// The phases before anything was seen.
pub fn unseen() -> Vec<PhaseStatus> {
    PhaseName::ALL
        .iter()
        .map(|name| PhaseStatus {
            name: *name,
            state: PhaseState::Pending,
            reason: Reason::Pending.to_string(),
            message: "not observed yet".to_owned(),
            starts: 0,
            attempts: 0,
            started_at: None,
            finished_at: None,
            deadline: None,
            owner: None,
            gate: None,
            steps: Vec::new(),
        })
        .collect()
}

/// All phases, from the old ones and the result of the pass.
pub fn next(
    old: Option<&ActivationStatus>,
    activation: &Activation,
    seen: &PassResult<'_>,
    report: &Report,
    same_generation: bool,
    now: Timestamp,
) -> Vec<PhaseStatus> {
    let mut earlier_unobserved: Option<String> = None;
    let mut earlier_done = true;
    let plan = old.and_then(|old| old.plan.as_ref());
    let same_plan = plans::leads_to(plan, seen.wanted);
    let phases = report.phases.iter();
    phases
        .map(|phase| {
            let before = old.and_then(|old| old.phases.iter().find(|p| p.name == phase.id));
            // Only while everything before it is as it was when this spec went live.
            let beside = made_beside(old, seen, phase).filter(|_| same_generation && same_plan);
            let phase = beside.filter(|_| earlier_done).unwrap_or(phase);
            let input = PhaseInput {
                before,
                activation,
                seen,
                same_generation,
                same_plan,
                earlier_unobserved: earlier_unobserved.as_deref(),
                earlier_done,
                now,
            };
            let next = input.next(phase);
            earlier_done &= matches!(next.state, PhaseState::Succeeded | PhaseState::Skipped);
            if earlier_unobserved.is_none() {
                earlier_unobserved = unobserved(seen, phase);
            }
            next
        })
        .collect()
}

/// The checks of what serves, made beside a pass that did not come to its own, when they have decided something else
/// than is on record: a check that fails ends the success that was kept, and one that passes again restores it.
/// Pure.
fn made_beside<'a>(
    old: Option<&ActivationStatus>,
    seen: &'a PassResult<'_>,
    phase: &PhaseReport,
) -> Option<&'a PhaseReport> {
    let is_open = phase.id == PhaseName::SmokeTest && phase.progress == PhaseProgress::Pending;
    let old = old.filter(|old| is_open && old.went_live())?;
    // A spec with other checks has not passed them, whatever those of before say.
    let site = seen.site.as_ref().filter(|site| site.proves_wanted)?;
    let made = site.report.phase(PhaseName::SmokeTest)?;
    match proof(made) {
        Proof::Fails(..) => Some(made),
        // What passes says nothing of a release that no machine runs.
        Proof::Answers => (!old.is_live() && site.machines == Runs::Serving).then_some(made),
        Proof::Open => None,
    }
}

/// True when all that keeps the phase from success is that the world could not be observed.
pub fn cannot_observe(phase: &PhaseReport) -> bool {
    let mut open = phase
        .steps
        .iter()
        .map(|(_, record)| &record.state)
        .filter(|state| !state.satisfied() && **state != State::Pending)
        .peekable();
    open.peek().is_some() && open.all(|state| *state == State::Retrying { observing: true })
}

/// Why it is not known whether this phase is done, if it is not.
fn unobserved(seen: &PassResult<'_>, phase: &PhaseReport) -> Option<String> {
    if !cannot_observe(phase) {
        return (seen.reporting_drift && planned(phase)).then(String::new);
    }
    let mut steps = phase.steps.iter();
    let lost = steps.find(|(_, step)| step.state == State::Retrying { observing: true });
    let why = lost.map(|(id, step)| format!("{id}: {}", step.message));
    Some(format!(
        "{}; {} cannot be observed, and this waits for it",
        why.unwrap_or_default(),
        phase.id
    ))
}

/// What is said of a phase that has succeeded.
pub fn succeeded(phase: &PhaseStatus) -> String {
    let times = phase.started_at.as_ref().zip(phase.finished_at.as_ref());
    match times {
        Some((began, ended)) => {
            let seconds = ended.0.duration_since(began.0).as_secs();
            format!("{} succeeded in {seconds} s", phase.name)
        }
        None => format!("{} succeeded", phase.name),
    }
}

fn planned(phase: &PhaseReport) -> bool {
    phase.progress == PhaseProgress::Planned
}

/// What one phase is derived from, beside its report.
struct PhaseInput<'a> {
    before: Option<&'a PhaseStatus>,
    activation: &'a Activation,
    seen: &'a PassResult<'a>,
    same_generation: bool,
    /// The status before was about the same plan: a Secret may change it without a new generation.
    same_plan: bool,
    /// Why it is not known whether an earlier phase is done.
    earlier_unobserved: Option<&'a str>,
    /// All earlier phases have succeeded, as far as is known, or are skipped.
    earlier_done: bool,
    now: Timestamp,
}

impl PhaseInput<'_> {
    fn next(&self, report: &PhaseReport) -> PhaseStatus {
        // What cannot be observed is not known to have failed: the last known state stays.
        if let Some(before) = self.before.filter(|_| self.keeps_success(report)) {
            return before.clone();
        }
        let (mut state, mut reason, mut message) = state_of(self.activation, report);
        if let Some(why) = self.earlier_unobserved
            && !self.seen.reporting_drift
            && state == PhaseState::Pending
        {
            // The earlier phase is kept as it was, so that it does not say what holds this one up.
            reason = Reason::ObservationUnknown;
            message = why.to_owned();
        }
        let (owner, deadline_after) = owner_and_deadline(self.activation, self.seen, report.id);
        // What is only planned has not begun.
        let works = is_at_work(state) && reason != Reason::Planned;
        let restarted = self.restarted(state, works);
        let started_at = self.started_at(works, restarted);
        let deadline = deadline_after
            .filter(|_| state != PhaseState::Skipped && !self.is_planning())
            .and_then(|after| {
                let began: &Time = started_at.as_ref()?;
                Some(whole_seconds(began.0.saturating_add(after).ok()?))
            });
        let late = deadline.as_ref().is_some_and(|at| self.now >= at.0);
        if late && matches!(state, PhaseState::Running | PhaseState::Waiting) {
            state = PhaseState::Failed;
            // A check that failed until now has failed, and its reason says more than the deadline.
            if report.id != PhaseName::SmokeTest || !reason.names_a_failed_check() {
                message = format!(
                    "exceeded its deadline ({reason}); Golive continues when the cause is fixed: {message}"
                );
                reason = Reason::DeadlineExceeded;
            }
        }
        let gate = report.gate.as_ref().map(|gate| gate.status.clone());
        let steps: Vec<StepStatus> = report
            .steps
            .iter()
            .map(|(id, record)| step(self.before, *id, record, self.now))
            .collect();
        PhaseStatus {
            name: report.id,
            state,
            reason: reason.to_string(),
            message: one_line(&message, MAX_MESSAGE),
            starts: self.before.map_or(0, |old| old.starts) + u32::from(restarted),
            attempts: self.attempts(&steps, restarted),
            finished_at: self.finished_at(state, restarted),
            started_at,
            deadline,
            owner,
            gate: gate.or_else(|| self.former_gate(report)),
            steps,
        }
    }

    /// A plan waits for people, as long as they need.
    fn is_planning(&self) -> bool {
        self.activation.spec.mode == Mode::Plan
    }

    fn was(&self) -> PhaseState {
        self.before.map_or(PhaseState::Pending, |old| old.state)
    }

    /// The gate as it was, while the spec has it: one that is set again asks again. A phase that is done without an
    /// answer has nothing to ask about any more.
    fn former_gate(&self, report: &PhaseReport) -> Option<GateStatus> {
        let mut gates = self.activation.spec.gates.iter();
        let exists = gates.any(|gate| gate.before.as_str() == report.id.as_str());
        let done = report.progress == PhaseProgress::Succeeded;
        let former = self.before.filter(|_| exists)?.gate.clone();
        former.filter(|gate| !done || gate.state == GateState::Approved)
    }

    /// Tries since the phase was started: each failed try of a step is followed by another.
    fn attempts(&self, steps: &[StepStatus], restarted: bool) -> u32 {
        let known = |name: &str| {
            let before = self.before.filter(|_| !restarted)?;
            before.steps.iter().find(|step| step.name == name)
        };
        let failed = steps.iter().map(|step| {
            let before = known(&step.name).map_or(0, |step| step.attempts);
            if step.attempts < before {
                step.attempts
            } else {
                step.attempts - before
            }
        });
        let before = self.before.map_or(0, |before| before.attempts);
        let before = if restarted { 1 } else { before };
        before.saturating_add(failed.sum())
    }

    /// The phase had succeeded for the same plan, and this pass found nothing that contradicts it.
    fn keeps_success(&self, report: &PhaseReport) -> bool {
        self.same_generation
            && self.same_plan
            && self.earlier_done
            && self.was() == PhaseState::Succeeded
            && (cannot_observe(report)
                || (self.earlier_unobserved.is_some() && report.progress == PhaseProgress::Pending)
                || (self.seen.reporting_drift && planned(report)))
    }

    /// The work of the phase begins, or begins anew.
    fn restarted(&self, state: PhaseState, works: bool) -> bool {
        let began_before = self
            .before
            .is_some_and(|before| before.started_at.is_some());
        let open = state != PhaseState::Succeeded;
        works
            && (!began_before
                || (self.was() == PhaseState::Succeeded && open)
                || (!self.same_generation && open && self.was() != PhaseState::Pending))
    }

    fn started_at(&self, works: bool, restarted: bool) -> Option<Time> {
        match (works, restarted) {
            (true, true) => Some(whole_seconds(self.now)),
            (true, false) => {
                let began = self.before?.started_at.as_ref()?;
                Some(whole_seconds(not_in_the_future(began.0, self.now)))
            }
            (false, _) => None,
        }
    }

    fn finished_at(&self, state: PhaseState, restarted: bool) -> Option<Time> {
        match state {
            PhaseState::Succeeded if self.was() == PhaseState::Succeeded && !restarted => {
                self.before.and_then(|old| old.finished_at.clone())
            }
            PhaseState::Succeeded => Some(whole_seconds(self.now)),
            _ => None,
        }
    }
}

fn is_at_work(state: PhaseState) -> bool {
    !matches!(
        state,
        PhaseState::Pending | PhaseState::Skipped | PhaseState::AwaitingApproval
    )
}

/// State, reason and message of a phase as its report gives them.
fn state_of(activation: &Activation, report: &PhaseReport) -> (PhaseState, Reason, String) {
    let gate = report
        .gate
        .as_ref()
        .map(|gate| gate.message.clone())
        .unwrap_or_default();
    let requested = match report.id {
        PhaseName::Integrations => integrations::are_requested(activation),
        PhaseName::Observe => activation.spec.observe.is_some(),
        _ => true,
    };
    if !requested {
        let not = "not requested".to_owned();
        return (PhaseState::Skipped, Reason::NotRequested, not);
    }
    match report.progress {
        PhaseProgress::Pending => (
            PhaseState::Pending,
            Reason::Waiting,
            "waits for an earlier phase".to_owned(),
        ),
        PhaseProgress::AwaitingApproval => {
            (PhaseState::AwaitingApproval, Reason::AwaitingApproval, gate)
        }
        PhaseProgress::Rejected => {
            let expired = report
                .gate
                .as_ref()
                .is_some_and(|gate| gate.status.state == crate::api::status::GateState::Expired);
            let reason = if expired {
                Reason::ApprovalExpired
            } else {
                Reason::Rejected
            };
            (PhaseState::Failed, reason, gate)
        }
        PhaseProgress::Succeeded => (PhaseState::Succeeded, Reason::Succeeded, String::new()),
        PhaseProgress::NotImplemented => (
            PhaseState::Skipped,
            Reason::NotImplemented,
            "this version of Golive does not implement this phase".to_owned(),
        ),
        PhaseProgress::Planned => (
            PhaseState::Waiting,
            Reason::Planned,
            if gate.is_empty() || !report.is_held() {
                "changes are planned and not made; see `status.plan`".to_owned()
            } else {
                gate
            },
        ),
        PhaseProgress::Running | PhaseProgress::Failed => at_work(report),
    }
}

/// The state follows from the step that matters most: one that is stopped before one that fails,
/// before one that waits.
fn at_work(report: &PhaseReport) -> (PhaseState, Reason, String) {
    let rank = |state: &State| match state {
        State::Blocked => 0,
        State::Retrying { .. } => 1,
        State::Waiting => 2,
        State::Running => 3,
        _ => 4,
    };
    let telling: Option<&(StepId, StepRecord)> = report
        .steps
        .iter()
        .filter(|(_, record)| !record.state.satisfied())
        .min_by_key(|(_, record)| rank(&record.state));
    let Some((id, record)) = telling else {
        return (PhaseState::Running, Reason::Progressing, String::new());
    };
    let mut message = if record.message.is_empty() {
        id.to_string()
    } else {
        format!("{id}: {}", record.message)
    };
    // Preflight reports all failed checks, so that a person can fix them together.
    if report.id == PhaseName::Preflight {
        message.push_str(&beside(report, *id, record));
    }
    let state = match record.state {
        State::Blocked => PhaseState::Failed,
        // It has failed, and is looked at again: what was changed elsewhere may have mended it.
        State::Waiting if record.reason.names_a_failed_integration() => PhaseState::Failed,
        State::Waiting => PhaseState::Waiting,
        _ => PhaseState::Running,
    };
    (state, record.reason, message)
}

/// What is said of other checks after the first that failed. Where Fly.io refuses the token, those
/// that need it have not failed: they could not be made.
fn beside(report: &PhaseReport, first: StepId, cause: &StepRecord) -> String {
    if cause.state != State::Blocked {
        return String::new();
    }
    let others = || {
        let steps = report.steps.iter().filter(move |(id, _)| *id != first);
        steps.filter(|(_, record)| record.state == State::Blocked)
    };
    let refused = |record: &StepRecord| record.reason == Reason::TokenInvalid;
    let follows = |record: &StepRecord| refused(cause) && refused(record);
    let failed: Vec<&str> = others()
        .filter(|(_, record)| !follows(record))
        .map(|(id, _)| id.as_str())
        .collect();
    let mut text = String::new();
    if others().any(|(_, record)| follows(record)) {
        text.push_str("; the checks that need the token were not made");
    }
    if !failed.is_empty() {
        text.push_str(&format!(
            "; also failed: {}, and `status.preflight` has what to do about each",
            failed.join(", ")
        ));
    }
    text
}

fn step(
    before: Option<&PhaseStatus>,
    id: StepId,
    record: &StepRecord,
    now: Timestamp,
) -> StepStatus {
    let old = before.and_then(|phase| phase.steps.iter().find(|step| step.name == id.as_str()));
    let state = match record.state {
        State::Pending => StepState::Pending,
        State::Running => StepState::Running,
        State::Waiting | State::Planned => StepState::Waiting,
        State::Done => StepState::Done,
        State::Skipped => StepState::Skipped,
        State::Retrying { .. } => StepState::Retrying,
        State::Blocked => StepState::Blocked,
    };
    let done = matches!(state, StepState::Done | StepState::Skipped);
    let was_done = old.is_some_and(|old| matches!(old.state, StepState::Done | StepState::Skipped));
    let began = old.and_then(|old| old.started_at.clone());
    let started_at = match state {
        StepState::Pending | StepState::Skipped => None,
        _ if was_done && !done => Some(whole_seconds(now)),
        _ => began.or_else(|| Some(whole_seconds(now))),
    };
    let finished_at = match state {
        StepState::Done if was_done => old.and_then(|old| old.finished_at.clone()),
        StepState::Done => Some(whole_seconds(now)),
        _ => None,
    };
    StepStatus {
        name: id.to_string(),
        state,
        // What is done as it should be needs no reason; one that is done and wants something does.
        reason: if state == StepState::Done && record.reason == Reason::Succeeded {
            String::new()
        } else {
            record.reason.to_string()
        },
        message: one_line(&record.message, MAX_MESSAGE),
        started_at,
        finished_at,
        attempts: record.attempts,
        next_try_time: next_try(old, record, now),
        last_error: last_error(old, record),
    }
}

/// When a step that failed is tried again. It changes only with a try.
fn next_try(old: Option<&StepStatus>, record: &StepRecord, now: Timestamp) -> Option<Time> {
    let again = record.again.filter(|_| record.attempts > 0)?;
    let told = old.filter(|old| old.attempts == record.attempts);
    if let Some(time) = told.and_then(|old| old.next_try_time.clone()) {
        return Some(time);
    }
    let pause = again.saturating_duration_since(record.observed_at);
    let pause = SignedDuration::try_from(pause).ok()?;
    Some(whole_seconds(now.saturating_add(pause).ok()?))
}

/// Why the last try of a step failed, until it succeeds.
fn last_error(old: Option<&StepStatus>, record: &StepRecord) -> String {
    if record.attempts > 0 {
        return one_line(&record.message, LONGEST_ERROR);
    }
    match old {
        Some(old) if !record.state.satisfied() => old.last_error.clone(),
        _ => String::new(),
    }
}

fn owner_and_deadline(
    activation: &Activation,
    seen: &PassResult<'_>,
    phase: PhaseName,
) -> (Option<String>, Option<SignedDuration>) {
    let spec = &activation.spec;
    let owner = match phase {
        PhaseName::Preflight => spec.preflight.owner.clone(),
        PhaseName::Provision => spec.provision.owner.clone(),
        PhaseName::Deploy => spec.deploy.owner.clone(),
        PhaseName::SmokeTest => spec.smoke_test.owner.clone(),
        PhaseName::Integrations => spec.integrations.as_ref().and_then(|i| i.owner.clone()),
        PhaseName::Observe => spec.observe.as_ref().and_then(|o| o.owner.clone()),
    };
    let deadline = seen
        .wanted
        .and_then(|target| target.deadline(phase))
        .and_then(|after| SignedDuration::try_from(after).ok());
    (owner, deadline)
}
