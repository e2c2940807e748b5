//! The conditions, all of them, every time. The table of states is the contract with
//! kstatus, Flux and Argo CD; each row is a test in `tests.rs` beside this file, and
//! `tests/it/life/conditions.rs` holds it against every status that an object ever has.
//!
//! `Reconciling` and `Stalled` are present only when True, and never both. kstatus reads them
//! before `Ready` (kubernetes-sigs/cli-utils, pkg/kstatus/status/generic.go).

use jiff::Timestamp;

use super::{
    PassResult, Removing, Site, drift, integrations, live,
    pass_result::Liveness,
    phases::{cannot_observe, succeeded},
    setter::Setter,
    watch,
};
use crate::{
    api::{
        Activation, ActivationStatus, PhaseName, Reason,
        condition::{self, ConditionStatus, ConditionType},
        policy::ReadyWhen,
        status::{PhaseState, PhaseStatus},
    },
    pipeline::{
        Note, State, StepRecord,
        report::{PhaseProgress, Report},
    },
    plan::invalid::Invalid,
};

use ConditionStatus::{False, True, Unknown};

/// Sets all conditions of `status`, whose phases and lists are already the next ones.
pub fn next(
    status: &mut ActivationStatus,
    activation: &Activation,
    seen: &PassResult<'_>,
    liveness: &Liveness,
    now: Timestamp,
) {
    let mut to = Setter {
        status,
        generation: activation.metadata.generation,
        now,
    };
    if seen.suspended && seen.removing.is_none() {
        // Everything else stays as it was.
        suspended(&mut to, activation);
        live::while_suspended(&mut to, seen);
        return;
    }
    to.set(
        ConditionType::Suspended,
        False,
        Reason::NotSuspended,
        &not_suspended(activation),
    );
    for phase in PhaseName::ALL {
        match phase {
            PhaseName::Integrations => integrations::set_condition(&mut to, seen),
            PhaseName::Observe => watch::set_conditions(&mut to, activation, seen),
            phase => phase_condition(&mut to, *phase),
        }
    }
    observed(&mut to, seen);
    drift::set(&mut to, seen, liveness);
    if let Some(removing) = &seen.removing {
        deleting(&mut to, removing);
        return;
    }
    if let Some((reason, message)) = &seen.failed {
        failed(&mut to, seen, *reason, message);
        return;
    }
    if let Some(first) = seen.invalid.first() {
        invalid(&mut to, seen.invalid, first.reason);
    } else {
        ready(&mut to, activation, seen, liveness.live);
    }
    live::set(&mut to, seen, liveness);
}

/// What is said of an activation that is not suspended. With `suspend: true` the time is over.
fn not_suspended(activation: &Activation) -> String {
    match (activation.spec.suspend, &activation.spec.suspend_until) {
        (true, Some(until)) => format!(
            "not suspended: `suspend` is true, and `suspendUntil` {} is over; remove `suspendUntil` to suspend it",
            until.0
        ),
        _ => "not suspended".to_owned(),
    }
}

fn suspended(to: &mut Setter<'_>, activation: &Activation) {
    let spec = &activation.spec;
    let reason = spec.suspend_reason.as_deref().unwrap_or("no reason given");
    let until = spec.suspend_until.as_ref();
    let until = until.map_or(String::new(), |time| format!(", until {}", time.0));
    to.set(
        ConditionType::Suspended,
        True,
        Reason::Suspended,
        &format!("suspended: {reason}{until}"),
    );
    if condition::find(&to.status.conditions, ConditionType::Ready).is_none() {
        to.set(
            ConditionType::Ready,
            Unknown,
            Reason::Suspended,
            "suspended before anything was done",
        );
    }
}

fn deleting(to: &mut Setter<'_>, removing: &Removing) {
    let progress = format!("{}: {}", removing.progress, removing.message);
    let reason = if removing.blocked {
        Reason::DeletionBlocked
    } else {
        Reason::Deleting
    };
    to.set(ConditionType::Deleting, True, reason, &progress);
    to.set(ConditionType::Ready, False, Reason::Deleting, &progress);
    // What is there may still answer, as long as it is there or when it stays. Nobody checks it.
    to.set(ConditionType::Live, Unknown, Reason::Deleting, &progress);
    to.reconciling(reason, &progress);
}

/// The pass failed as a whole: what was known stays for a few re-checks, and the failure is reported.
fn failed(to: &mut Setter<'_>, seen: &PassResult<'_>, reason: Reason, message: &str) {
    if seen.unproven && to.status.go_live.is_some() {
        live::set_unproven(to, seen);
    } else if condition::find(&to.status.conditions, ConditionType::Live).is_none() {
        to.set(ConditionType::Live, Unknown, reason, message);
    }
    to.set(ConditionType::Ready, Unknown, reason, message);
    to.reconciling(Reason::ProgressingWithRetry, message);
}

fn invalid(to: &mut Setter<'_>, invalid: &[Invalid], reason: Reason) {
    let list: Vec<String> = invalid.iter().map(ToString::to_string).collect();
    let message = list.join("; ");
    to.set(ConditionType::Ready, False, reason, &message);
    to.stalled(reason, &message);
}

fn phase_condition(to: &mut Setter<'_>, name: PhaseName) {
    let type_ = name.condition();
    let Some(phase) = to
        .status
        .phases
        .iter()
        .find(|phase| phase.name == name)
        .cloned()
    else {
        to.set(type_, Unknown, Reason::Pending, "not observed yet");
        return;
    };
    let reason = Reason::parse(&phase.reason).unwrap_or_default();
    let mut steps = phase.steps.iter();
    let crash_loop = steps.find(|step| step.reason == Reason::CrashLooping.as_str());
    let (status, message) = match phase.state {
        PhaseState::Succeeded => match crash_loop {
            Some(step) => (True, format!("{}; {}", succeeded(&phase), step.message)),
            None => (True, succeeded(&phase)),
        },
        PhaseState::Failed => (False, phase.message),
        _ if phase.message.is_empty() => (Unknown, not_told(&phase)),
        _ => (Unknown, phase.message),
    };
    to.set(type_, status, reason, &message);
}

/// What is said of a phase that has nothing to say yet.
fn not_told(phase: &PhaseStatus) -> String {
    match phase.state {
        PhaseState::Pending => {
            "not reached yet: it begins when the phases before it have succeeded"
        }
        _ => "under way; nothing is known yet",
    }
    .to_owned()
}

fn observed(to: &mut Setter<'_>, seen: &PassResult<'_>) {
    let Some(report) = seen.report else {
        if seen.failed.is_some() && seen.unproven {
            to.set(
                ConditionType::Observed,
                Unknown,
                Reason::ObservationUnknown,
                "no pass has come to its end lately, so nothing was observed",
            );
            return;
        }
        match condition::find(&to.status.conditions, ConditionType::Observed).cloned() {
            None => to.set(
                ConditionType::Observed,
                Unknown,
                Reason::Pending,
                "not observed yet",
            ),
            // A deletion is a generation of its own, and observes nothing anew.
            Some(known) if seen.removing.is_some() => to.set(
                ConditionType::Observed,
                ConditionStatus::parse(&known.status).unwrap_or_default(),
                Reason::parse(&known.reason).unwrap_or_default(),
                &known.message,
            ),
            Some(_) => {}
        }
        return;
    };
    let lost = |report: &'_ Report| {
        let lost = report.first(|state| *state == State::Retrying { observing: true });
        lost.map(|(_, step, record)| (step, record.message.clone()))
    };
    let refused = report
        .steps()
        .any(|(_, record)| record.state == State::Blocked && record.reason == Reason::TokenInvalid);
    if refused {
        let kept = seen.site.as_ref().is_some_and(Site::is_kept);
        let message = match kept {
            true => {
                "Fly.io refuses the token: only what the token for the app alone may read is observed"
            }
            false => "Fly.io refuses the token, so nothing there can be observed",
        };
        to.set(
            ConditionType::Observed,
            Unknown,
            Reason::ObservationUnknown,
            message,
        );
        return;
    }
    let site = seen.site.as_ref().map(|site| &site.report);
    match lost(report).or_else(|| site.and_then(lost)) {
        Some((step, message)) => to.set(
            ConditionType::Observed,
            Unknown,
            Reason::ObservationUnknown,
            &format!("{step}: {message}"),
        ),
        None => to.set(
            ConditionType::Observed,
            True,
            Reason::Observed,
            "all observations succeeded",
        ),
    }
}

fn ready(to: &mut Setter<'_>, activation: &Activation, seen: &PassResult<'_>, live: bool) {
    if live {
        let message = live::place(to, seen);
        match activation.spec.ready_when {
            ReadyWhen::IntegrationsVerified if integrations::are_requested(activation) => {
                verified(to, &message);
                return;
            }
            ReadyWhen::Stabilized => {
                after_the_watch(to, &message);
                return;
            }
            ReadyWhen::GoLive | ReadyWhen::IntegrationsVerified => {
                let reason = watch::ready_reason(to.status);
                to.set(ConditionType::Ready, True, reason, &message);
            }
        }
        to.quiet();
        return;
    }
    let rolled_back = seen.report.is_some_and(|report| {
        let mut steps = report.steps();
        steps.any(|(_, record)| record.notes.contains(&Note::RolledBack))
    });
    let Some(phase) = to
        .status
        .phases
        .iter()
        .filter(|phase| phase.name.before_live())
        .find(|phase| phase.state != PhaseState::Succeeded)
        .cloned()
    else {
        to.set(
            ConditionType::Ready,
            Unknown,
            Reason::Pending,
            "not observed yet",
        );
        to.reconciling(Reason::Progressing, "not observed yet");
        return;
    };
    let message = about(phase.name, &phase.message);
    let cause = Reason::parse(&phase.reason).unwrap_or_default();
    match phase.state {
        PhaseState::Failed => {
            let cause = if rolled_back {
                Reason::RolledBack
            } else {
                cause
            };
            to.set(ConditionType::Ready, False, cause, &message);
            to.stalled(cause, &message);
        }
        PhaseState::AwaitingApproval => waiting(to, Reason::AwaitingApproval, &message),
        _ if is_plan(seen) => {
            to.set(ConditionType::Ready, Unknown, Reason::Planned, &message);
            to.quiet();
        }
        _ if retrying(seen, &phase) => waiting(to, Reason::ProgressingWithRetry, &message),
        _ => waiting(to, Reason::Progressing, &message),
    }
}

/// The application is live, and `Ready` waits for its integrations.
fn verified(to: &mut Setter<'_>, place: &str) {
    follows(
        to,
        ConditionType::IntegrationsHealthy,
        "Integrations",
        place,
    );
}

/// The application is live, and `Ready` waits for the end of its watch.
fn after_the_watch(to: &mut Setter<'_>, place: &str) {
    follows(to, ConditionType::Stabilized, "Observe", place);
}

/// `Ready` is what this condition is.
fn follows(to: &mut Setter<'_>, type_: ConditionType, phase: &str, place: &str) {
    let found = condition::find(&to.status.conditions, type_);
    let Some(found) = found.cloned() else {
        return waiting(to, Reason::Pending, place);
    };
    let reason = Reason::parse(&found.reason).unwrap_or_default();
    let message = format!("{place}; {phase}: {}", found.message);
    match found.status.as_str() {
        "True" => {
            to.set(ConditionType::Ready, True, reason, &message);
            to.quiet();
        }
        "False" => {
            to.set(ConditionType::Ready, False, reason, &message);
            to.stalled(reason, &message);
        }
        // The watch has ended: nothing is under way, and nothing is known.
        _ if reason == Reason::Inconclusive => {
            to.set(ConditionType::Ready, Unknown, reason, &message);
            to.quiet();
        }
        _ => waiting(to, reason, &message),
    }
}

/// Work is under way: not False, because Argo CD reads `Ready=False` as Degraded.
fn waiting(to: &mut Setter<'_>, reason: Reason, message: &str) {
    to.set(ConditionType::Ready, Unknown, reason, message);
    to.reconciling(reason, message);
}

fn is_plan(seen: &PassResult<'_>) -> bool {
    seen.report.is_some_and(|report| {
        report
            .phases
            .iter()
            .any(|phase| phase.progress == PhaseProgress::Planned)
    })
}

fn retrying(seen: &PassResult<'_>, phase: &PhaseStatus) -> bool {
    let Some(report) = seen.report else {
        return false;
    };
    let tries = |record: &StepRecord| matches!(record.state, State::Retrying { .. });
    let mut steps = report.phases.iter().filter(|p| p.id == phase.name);
    // An earlier phase that cannot be observed holds up the one that is reported.
    report.phases.iter().any(cannot_observe)
        || steps.any(|phase| phase.steps.iter().any(|(_, record)| tries(record)))
}

/// The phase that a message is about, for conditions.
fn about(phase: PhaseName, message: &str) -> String {
    if message.is_empty() {
        phase.to_string()
    } else {
        format!("{phase}: {message}")
    }
}
