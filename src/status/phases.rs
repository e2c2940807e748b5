//! `status.phases[]`: state, times and steps of each phase.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::PassResult;
use crate::{
    api::{
        Activation, ActivationStatus, PhaseName, Reason,
        condition::whole_seconds,
        status::{MAX_MESSAGE, PhaseState, PhaseStatus, StepState, StepStatus, one_line},
    },
    pipeline::{
        State, StepId, StepRecord,
        report::{PhaseProgress, PhaseReport, Report},
    },
};

/// The phases before anything was seen.
pub fn unseen() -> Vec<PhaseStatus> {
    PhaseName::ALL
        .iter()
        .map(|name| PhaseStatus {
            name: *name,
            state: PhaseState::Pending,
            reason: Reason::Pending.to_string(),
            message: String::new(),
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

/// All phases, from the old ones and what was seen.
pub fn next(
    old: Option<&ActivationStatus>,
    activation: &Activation,
    seen: &PassResult<'_>,
    report: &Report,
    same_generation: bool,
    now: Timestamp,
) -> Vec<PhaseStatus> {
    let mut unobserved = false;
    report
        .phases
        .iter()
        .map(|phase| {
            let before = old.and_then(|old| old.phases.iter().find(|p| p.name == phase.id));
            let next = one(
                before,
                activation,
                seen,
                phase,
                same_generation,
                unobserved,
                now,
            );
            unobserved |= cannot_observe(phase) || (seen.reporting_drift && planned(phase));
            next
        })
        .collect()
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

fn planned(phase: &PhaseReport) -> bool {
    phase.progress == PhaseProgress::Planned
}

fn one(
    before: Option<&PhaseStatus>,
    activation: &Activation,
    seen: &PassResult<'_>,
    report: &PhaseReport,
    same_generation: bool,
    earlier_unobserved: bool,
    now: Timestamp,
) -> PhaseStatus {
    let succeeded_before =
        same_generation && before.is_some_and(|old| old.state == PhaseState::Succeeded);
    // What cannot be observed is not known to have failed: the last known state stays.
    let keep = succeeded_before
        && (cannot_observe(report)
            || (earlier_unobserved && report.progress == PhaseProgress::Pending)
            || (seen.reporting_drift && planned(report)));
    if keep && let Some(before) = before {
        return before.clone();
    }
    let (owner, deadline_after) = owner_and_deadline(activation, seen, report.id);
    let (mut state, mut reason, mut message) = words(activation, report);
    if earlier_unobserved && !seen.reporting_drift && state == PhaseState::Pending {
        // The earlier phase is kept as it was, so that it does not say what holds this one up.
        reason = Reason::ObservationUnknown;
        message = "what an earlier phase made cannot be observed at present".to_owned();
    }
    let was = before.map_or(PhaseState::Pending, |old| old.state);
    let at_work = !matches!(
        state,
        PhaseState::Pending | PhaseState::Skipped | PhaseState::AwaitingApproval
    );
    let began_before = before.and_then(|old| old.started_at.clone());
    let restart = at_work
        && (began_before.is_none()
            || (was == PhaseState::Succeeded && state != PhaseState::Succeeded)
            || (!same_generation && state != PhaseState::Succeeded && was != PhaseState::Pending));
    let started_at = match (at_work, restart) {
        (true, true) => Some(whole_seconds(now)),
        (true, false) => began_before,
        (false, _) => None,
    };
    let deadline = deadline_after
        .filter(|_| state != PhaseState::Skipped)
        .and_then(|after| {
            let began: &Time = started_at.as_ref()?;
            Some(whole_seconds(began.0.saturating_add(after).ok()?))
        });
    let late = deadline.as_ref().is_some_and(|deadline| now >= deadline.0);
    if late && matches!(state, PhaseState::Running | PhaseState::Waiting) {
        state = PhaseState::Failed;
        message = format!(
            "not done within its deadline ({reason}); it goes on by itself when the cause is mended: {message}"
        );
        reason = Reason::DeadlineExceeded;
    }
    let finished_at = match state {
        PhaseState::Succeeded if was == PhaseState::Succeeded && !restart => {
            before.and_then(|old| old.finished_at.clone())
        }
        PhaseState::Succeeded => Some(whole_seconds(now)),
        _ => None,
    };
    PhaseStatus {
        name: report.id,
        state,
        reason: reason.to_string(),
        message: one_line(&message, MAX_MESSAGE),
        attempts: before.map_or(0, |old| old.attempts) + u32::from(restart),
        started_at,
        finished_at,
        deadline,
        owner,
        gate: report
            .gate
            .as_ref()
            .map(|gate| gate.status.clone())
            .or_else(|| before.and_then(|old| old.gate.clone())),
        steps: report
            .steps
            .iter()
            .map(|(id, record)| step(before, *id, record, now))
            .collect(),
    }
}

fn words(activation: &Activation, report: &PhaseReport) -> (PhaseState, Reason, String) {
    let gate = report
        .gate
        .as_ref()
        .map(|gate| gate.message.clone())
        .unwrap_or_default();
    match report.progress {
        PhaseProgress::Pending => (
            PhaseState::Pending,
            Reason::Waiting,
            "an earlier phase is not done".to_owned(),
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
        PhaseProgress::NotImplemented => {
            let asked = match report.id {
                PhaseName::Integrations => activation.spec.integrations.is_some(),
                PhaseName::Observe => activation.spec.observe.is_some(),
                _ => true,
            };
            if asked {
                (
                    PhaseState::Skipped,
                    Reason::NotImplemented,
                    "this version of Golive does nothing in this phase yet".to_owned(),
                )
            } else {
                (
                    PhaseState::Skipped,
                    Reason::NotRequested,
                    "not asked for".to_owned(),
                )
            }
        }
        PhaseProgress::Planned => (
            PhaseState::Waiting,
            Reason::Planned,
            "changes are planned and not made; see `status.plan`".to_owned(),
        ),
        PhaseProgress::Running | PhaseProgress::Failed => at_work(report),
    }
}

/// The step that says most about where the phase stands: one that is stopped before one that
/// fails, before one that waits.
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
    // Of checks that all look at once a person mends all at once.
    let blocked = report
        .steps
        .iter()
        .filter(|(_, record)| record.state == State::Blocked);
    let blocked: Vec<&str> = blocked.map(|(id, _)| id.as_str()).collect();
    if report.id == PhaseName::Preflight && blocked.len() > 1 {
        message = format!(
            "{} checks failed, which are {}; `status.preflight` has what to do about each: {message}",
            blocked.len(),
            blocked.join(", ")
        );
    }
    let state = match record.state {
        State::Blocked => PhaseState::Failed,
        State::Waiting => PhaseState::Waiting,
        _ => PhaseState::Running,
    };
    (state, record.reason, message)
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
        .target
        .and_then(|target| target.deadline(phase))
        .and_then(|after| SignedDuration::try_from(after).ok());
    (owner, deadline)
}
