//! The conditions, all of them, every time. The table of states is the contract with
//! kstatus, Flux and Argo CD; it stands row by row in `tests.rs` beside this file, and
//! `tests/it/life/conditions.rs` holds it against every status that an object ever has.
//!
//! `Reconciling` and `Stalled` are present only when True, and never both. kstatus reads them
//! before `Ready` (kubernetes-sigs/cli-utils, pkg/kstatus/status/generic.go).

use jiff::Timestamp;

use super::{
    next::{Seen, about},
    phases::{before_live, cannot_observe},
};
use crate::{
    api::{
        Activation, ActivationStatus, PhaseName, Reason,
        condition::{self, ConditionStatus, ConditionType, Observation},
        policy::ReadyWhen,
        status::{PhaseState, PhaseStatus},
    },
    phase::{
        PHASES,
        deploy::image,
        provision::{app_token, secrets},
    },
    pipeline::{Note, State, StepRecord, run},
};

use ConditionStatus::{False, True, Unknown};

struct Setter<'a> {
    status: &'a mut ActivationStatus,
    generation: Option<i64>,
    now: Timestamp,
}

impl Setter<'_> {
    fn set(
        &mut self,
        type_: ConditionType,
        status: ConditionStatus,
        reason: Reason,
        message: &str,
    ) {
        condition::set(
            &mut self.status.conditions,
            Observation::new(type_, status, reason, message),
            self.generation,
            self.now,
        );
    }

    fn unset(&mut self, type_: ConditionType) {
        condition::remove(&mut self.status.conditions, type_);
    }

    fn reconciling(&mut self, reason: Reason, message: &str) {
        self.set(ConditionType::Reconciling, True, reason, message);
        self.unset(ConditionType::Stalled);
    }

    fn stalled(&mut self, reason: Reason, message: &str) {
        self.set(ConditionType::Stalled, True, reason, message);
        self.unset(ConditionType::Reconciling);
    }

    fn quiet(&mut self) {
        self.unset(ConditionType::Reconciling);
        self.unset(ConditionType::Stalled);
    }
}

/// Sets all conditions of `status`, whose phases and lists are already the next ones.
pub fn next(
    status: &mut ActivationStatus,
    activation: &Activation,
    seen: &Seen<'_>,
    live: bool,
    same_generation: bool,
    steady: bool,
    now: Timestamp,
) {
    let mut to = Setter {
        status,
        generation: activation.metadata.generation,
        now,
    };
    if seen.suspended && seen.removing.is_none() {
        let reason = activation
            .spec
            .suspend_reason
            .as_deref()
            .unwrap_or("no reason given");
        let until = activation
            .spec
            .suspend_until
            .as_ref()
            .map_or(String::new(), |time| format!(", until {}", time.0));
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
        // Everything else stays frozen as it was.
        return;
    }
    to.set(
        ConditionType::Suspended,
        False,
        Reason::NotSuspended,
        "not suspended",
    );
    for phase in PHASES {
        phase_condition(&mut to, phase.id, phase.done);
    }
    stabilized(&mut to, activation);
    observed(&mut to, seen);
    drifted(&mut to, seen, live, same_generation, steady);

    if let Some(removing) = &seen.removing {
        let progress = format!(
            "{} of {} removed: {}",
            removing.done, removing.all, removing.message
        );
        let reason = if removing.blocked {
            Reason::DeletionBlocked
        } else {
            Reason::Deleting
        };
        to.set(ConditionType::Deleting, True, reason, &progress);
        to.set(ConditionType::Ready, False, Reason::Deleting, &progress);
        to.set(ConditionType::Live, False, Reason::Deleting, &progress);
        to.reconciling(reason, &progress);
        return;
    }
    if let Some((reason, message)) = &seen.failed {
        // The pass failed as a whole: what was known stays, and the failure is told.
        if condition::find(&to.status.conditions, ConditionType::Live).is_none() {
            to.set(ConditionType::Live, Unknown, *reason, message);
        }
        to.set(ConditionType::Ready, Unknown, *reason, message);
        to.reconciling(Reason::ProgressingWithRetry, message);
        return;
    }
    if !seen.invalid.is_empty() {
        let list: Vec<String> = seen.invalid.iter().map(ToString::to_string).collect();
        let message = list.join("; ");
        let reason = seen
            .invalid
            .first()
            .map_or(Reason::InvalidSpec, |invalid| invalid.reason);
        to.set(ConditionType::Live, Unknown, reason, &message);
        to.set(ConditionType::Ready, False, reason, &message);
        to.stalled(reason, &message);
        return;
    }
    ready(&mut to, activation, seen, live);
}

fn phase_condition(to: &mut Setter<'_>, name: PhaseName, type_: ConditionType) {
    let Some(phase) = to
        .status
        .phases
        .iter()
        .find(|phase| phase.name == name)
        .cloned()
    else {
        to.set(type_, Unknown, Reason::Pending, "not looked at yet");
        return;
    };
    let reason = Reason::parse(&phase.reason).unwrap_or_default();
    let (status, message) = match phase.state {
        PhaseState::Succeeded => (True, format!("{name} is done")),
        PhaseState::Failed => (False, phase.message),
        _ => (Unknown, phase.message),
    };
    to.set(type_, status, reason, &message);
}

fn stabilized(to: &mut Setter<'_>, activation: &Activation) {
    let (reason, message) = if activation.spec.observe.is_some() {
        (
            Reason::NotImplemented,
            "this version of Golive does not watch objectives",
        )
    } else {
        (Reason::NotRequested, "no watch was asked for")
    };
    to.set(ConditionType::Stabilized, Unknown, reason, message);
}

fn observed(to: &mut Setter<'_>, seen: &Seen<'_>) {
    let Some(report) = seen.report else {
        if condition::find(&to.status.conditions, ConditionType::Observed).is_none() {
            to.set(
                ConditionType::Observed,
                Unknown,
                Reason::Pending,
                "not looked at yet",
            );
        }
        return;
    };
    match report.first(|state| *state == State::Retrying { observing: true }) {
        Some((_, step, record)) => to.set(
            ConditionType::Observed,
            Unknown,
            Reason::ObservationUnknown,
            &format!("{step}: {}", record.message),
        ),
        None => to.set(
            ConditionType::Observed,
            True,
            Reason::Observed,
            "what was looked at could be observed",
        ),
    }
}

/// Whether generated values were replaced in this pass, at their age or because somebody asked. That
/// is no drift, and neither is the update of the machines that follows from it.
fn rotates(report: &run::Report) -> bool {
    let sent = report.sent.iter();
    sent.into_iter()
        .any(|(step, change)| *step == secrets::ID && secrets::rotates(change))
}

/// Drift is a change that a step wants, or made, in a phase that was done for this generation. That
/// there is none is said only of what is live and was observed.
fn drifted(to: &mut Setter<'_>, seen: &Seen<'_>, live: bool, same_generation: bool, steady: bool) {
    let lines: Vec<String> = seen
        .report
        .filter(|_| seen.reporting_drift)
        .iter()
        .flat_map(|report| &report.phases)
        .flat_map(|phase| &phase.steps)
        .filter(|(_, record)| record.state == State::Planned)
        .flat_map(|(step, record)| {
            record
                .changes
                .iter()
                .map(move |change| format!("{step}: {change}"))
        })
        .collect();
    if !lines.is_empty() {
        let text = format!(
            "{}; `drift` is Report, so nothing was changed",
            lines.join("; ")
        );
        to.set(ConditionType::Drifted, True, Reason::DriftDetected, &text);
        return;
    }
    // What was put right within one pass is told as well: the next pass finds it in order.
    let sent: Vec<String> = seen
        .report
        .filter(|report| steady && !rotates(report))
        .iter()
        .flat_map(|report| &report.sent)
        // A token that is replaced is no news about the application, nor is what we keep for ourselves.
        .filter(|(step, _)| ![app_token::ID, image::ID].contains(step))
        .map(|(step, change)| format!("{step}: {change}"))
        .collect();
    if !sent.is_empty() {
        let text = format!(
            "what ran was not what was asked for; it is being put right: {}",
            sent.join("; ")
        );
        to.set(ConditionType::Drifted, True, Reason::DriftDetected, &text);
        return;
    }
    let observed = condition::is_true(&to.status.conditions, ConditionType::Observed);
    // Over several passes it is drift when it began as such: in an object that was live for this
    // very target. A changed Secret is a new target, and what follows from it is no drift.
    let was = condition::is_true(&to.status.conditions, ConditionType::Drifted);
    let correcting = same_generation
        && ((steady && !seen.report.is_some_and(rotates)) || was)
        && to.status.go_live.is_some()
        && to.status.phases.iter().any(|phase| {
            phase.name != PhaseName::Preflight
                && before_live(phase.name)
                && matches!(phase.state, PhaseState::Running | PhaseState::Waiting)
                && phase.attempts > 1
        });
    if correcting {
        to.set(
            ConditionType::Drifted,
            True,
            Reason::DriftDetected,
            "what runs is not what was asked for; it is being put right",
        );
        return;
    }
    let before = condition::find(&to.status.conditions, ConditionType::Drifted).cloned();
    let (status, reason, message) = match (before, seen.report) {
        _ if to.status.go_live.is_none() => (
            Unknown,
            Reason::Pending,
            "nothing is live yet that could differ".to_owned(),
        ),
        // A difference that was seen is not gone because it cannot be looked at, or because what
        // was to put it right has failed.
        (Some(before), _) if was && same_generation && !(live && observed) => (
            True,
            Reason::parse(&before.reason).unwrap_or_default(),
            before.message,
        ),
        // The pass ended before it looked.
        (Some(before), None) if same_generation && seen.failed.is_some() => (
            ConditionStatus::parse(&before.status).unwrap_or_default(),
            Reason::parse(&before.reason).unwrap_or_default(),
            before.message,
        ),
        (_, None) => (
            Unknown,
            Reason::ObservationUnknown,
            "what runs was not compared with what is asked for".to_owned(),
        ),
        (_, Some(_)) if !observed => (
            Unknown,
            Reason::ObservationUnknown,
            "Fly.io cannot be observed: what runs there is not known".to_owned(),
        ),
        (_, Some(_)) if !live => (
            Unknown,
            Reason::Progressing,
            "what is asked for is not live yet: there is nothing to compare with".to_owned(),
        ),
        (_, Some(_)) => (
            False,
            Reason::NoDrift,
            "what runs is what was asked for".to_owned(),
        ),
    };
    to.set(ConditionType::Drifted, status, reason, &message);
}

fn ready(to: &mut Setter<'_>, activation: &Activation, seen: &Seen<'_>, live: bool) {
    if live {
        let url = to.status.url.clone().unwrap_or_default();
        let message = format!("live at {url}");
        to.set(ConditionType::Live, True, Reason::GoLive, &message);
        match activation.spec.ready_when {
            ReadyWhen::GoLive => to.set(ConditionType::Ready, True, Reason::GoLive, &message),
            ReadyWhen::IntegrationsVerified | ReadyWhen::Stabilized => to.set(
                ConditionType::Ready,
                Unknown,
                Reason::NotImplemented,
                &format!(
                    "{message}; this version of Golive cannot prove `readyWhen: {}`: use GoLive",
                    activation.spec.ready_when
                ),
            ),
        }
        to.quiet();
        return;
    }
    let rolled_back = seen
        .report
        .iter()
        .flat_map(|report| &report.phases)
        .flat_map(|phase| &phase.steps)
        .any(|(_, record)| record.notes.contains(&Note::RolledBack));
    let Some(phase) = to
        .status
        .phases
        .iter()
        .filter(|phase| before_live(phase.name))
        .find(|phase| phase.state != PhaseState::Succeeded)
        .cloned()
    else {
        to.set(
            ConditionType::Live,
            Unknown,
            Reason::Pending,
            "not looked at yet",
        );
        to.set(
            ConditionType::Ready,
            Unknown,
            Reason::Pending,
            "not looked at yet",
        );
        to.reconciling(Reason::Progressing, "not looked at yet");
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
            to.set(ConditionType::Live, False, cause, &message);
            to.set(ConditionType::Ready, False, cause, &message);
            to.stalled(cause, &message);
        }
        PhaseState::AwaitingApproval => waiting(to, Reason::AwaitingApproval, &message),
        _ if is_plan(seen) => {
            to.set(ConditionType::Live, Unknown, Reason::Planned, &message);
            to.set(ConditionType::Ready, Unknown, Reason::Planned, &message);
            to.quiet();
        }
        _ if retrying(seen, &phase) => waiting(to, Reason::ProgressingWithRetry, &message),
        _ => waiting(to, Reason::Progressing, &message),
    }
}

/// Work is under way: not False, because Argo CD reads `Ready=False` as Degraded.
fn waiting(to: &mut Setter<'_>, reason: Reason, message: &str) {
    to.set(ConditionType::Live, Unknown, reason, message);
    to.set(ConditionType::Ready, Unknown, reason, message);
    to.reconciling(reason, message);
}

fn is_plan(seen: &Seen<'_>) -> bool {
    seen.report.is_some_and(|report| {
        report
            .phases
            .iter()
            .any(|phase| phase.state == run::PhaseState::Planned)
    })
}

fn retrying(seen: &Seen<'_>, phase: &PhaseStatus) -> bool {
    let Some(report) = seen.report else {
        return false;
    };
    let tries = |record: &StepRecord| matches!(record.state, State::Retrying { .. });
    let mut steps = report.phases.iter().filter(|p| p.id == phase.name);
    // An earlier phase that cannot be observed holds up the one that is told of.
    report.phases.iter().any(cannot_observe)
        || steps.any(|phase| phase.steps.iter().any(|(_, record)| tries(record)))
}
