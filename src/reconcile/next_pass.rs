//! When an object is reconciled again after a pass.

use std::time::{Duration, Instant};

use crate::{
    api::{
        ActivationStatus,
        condition::{self, ConditionType},
        status::PhaseState,
    },
    pipeline::{announce::Announced, recheck, report::Report},
    reconcile::{begin::Pass, memory::Memory},
    status::Site,
};

/// Added to the pause before an instant of the status, so that the pass comes after it.
const MARGIN: Duration = Duration::from_millis(50);

/// The pause before the next pass: until a step, the registry, a held message or the status itself
/// needs one. Long polls wake the object before that.
pub fn after(
    pass: &Pass<'_>,
    memory: &Memory,
    (report, kept): (&Report, Duration),
    announced: &Announced,
) -> Duration {
    // A step waits for what was announced just now.
    if memory.wanted.intents.written(announced) {
        return Duration::ZERO;
    }
    let timing = &pass.context.installation.timing;
    let mut pause = recheck::next(report, &memory.wanted, timing).min(kept);
    let due = [memory.source.due(), memory.published.message_due()];
    for due in due.into_iter().flatten() {
        pause = pause.min(due.saturating_duration_since(Instant::now()));
    }
    let Some(status) = memory.published.status() else {
        return pause;
    };
    let drifted = condition::is_true(&status.conditions, ConditionType::Drifted);
    if drifted && !report.sent.is_empty() {
        // Drift that was corrected is soon reported as gone.
        pause = pause.min(timing.poll);
    }
    match next_instant(&status, pass.now()) {
        Some(at) => pause.min(at),
        None => pause,
    }
}

/// The pause until what serves needs the next pass, when it is kept beside the spec.
pub fn of_site(pass: &Pass<'_>, memory: &Memory, site: Option<&Site>) -> Duration {
    let timing = &pass.context.installation.timing;
    match (site, &memory.kept) {
        (Some(site), Some(kept)) => recheck::next(&site.report, kept, timing),
        _ => timing.recheck,
    }
}

/// The time until the status changes by itself: a deadline, or the end of a gate.
fn next_instant(status: &ActivationStatus, now: jiff::Timestamp) -> Option<Duration> {
    let deadlines = status
        .phases
        .iter()
        .filter(|phase| matches!(phase.state, PhaseState::Running | PhaseState::Waiting))
        .filter_map(|phase| phase.deadline.as_ref());
    let gates = status
        .phases
        .iter()
        .filter(|phase| phase.state == PhaseState::AwaitingApproval)
        .filter_map(|phase| phase.gate.as_ref()?.expires_at.as_ref());
    deadlines
        .chain(gates)
        .filter_map(|time| Duration::try_from(time.0.duration_since(now)).ok())
        .min()
        .map(|wait| wait + MARGIN)
}
