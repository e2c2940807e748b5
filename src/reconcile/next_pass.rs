//! When an object is reconciled again after a pass.

use std::time::{Duration, Instant};

use crate::{
    api::{
        ActivationStatus, PhaseName,
        condition::{self, ConditionType},
        status::PhaseState,
    },
    phase::PHASES,
    pipeline::{
        ChangeKind,
        announce::Announced,
        preview, recheck,
        report::{PhaseProgress, Report},
    },
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
    if !report.unknown.is_empty()
        && let Some(due) = preview::due(&memory.wanted)
    {
        // A plan that is not whole, and can be by then.
        pause = pause.min(due);
    }
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

/// The first phase whose plan is not true any more: it was made before this pass changed what serves (`sent`), and
/// nothing of it is carried out. Pure.
pub fn outdated_plan(report: &Report, site: Option<&Site>) -> Option<PhaseName> {
    let mut sent = site?.report.sent.iter();
    if !sent.any(|sent| sent.kind != ChangeKind::Housekeeping) {
        return None;
    }
    let mut phases = report.phases.iter();
    let planned = phases.find(|phase| phase.progress == PhaseProgress::Planned || phase.is_held());
    planned.map(|phase| phase.id)
}

/// Has a plan made again that is not true any more, as soon as Fly.io shows what was changed; the pause until then.
pub fn plan_again(
    pass: &Pass<'_>,
    memory: &mut Memory,
    outdated: Option<PhaseName>,
) -> Option<Duration> {
    let first = outdated?;
    memory.wanted.forget_from(PHASES, first);
    memory.wanted.preview = None;
    Some(pass.context.installation.timing.settle)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::StepId,
        pipeline::{Sent, report::PhaseReport},
        plan::ServingRelease,
        status::Runs,
    };

    fn report(progress: PhaseProgress) -> Report {
        let phase = |id, progress| PhaseReport {
            id,
            progress,
            gate: None,
            steps: Vec::new(),
        };
        Report {
            phases: vec![
                phase(PhaseName::Provision, PhaseProgress::Succeeded),
                phase(PhaseName::Deploy, progress),
            ],
            ..Report::default()
        }
    }

    fn site(sent: Vec<Sent>) -> Site {
        Site {
            release: ServingRelease {
                number: Some(1),
                version: None,
                image: "shop:1".to_owned(),
                digest: "sha256:1".to_owned(),
                config_hash: String::new(),
                since: None,
            },
            report: Report {
                sent,
                ..Report::default()
            },
            reporting_drift: false,
            machines: Runs::Serving,
            proves_wanted: false,
        }
    }

    #[test]
    fn a_plan_is_made_again_after_what_serves_was_changed_beside_it() {
        let created = || Sent {
            step: StepId::Machines,
            line: "create the machines golive-app-0".to_owned(),
            kind: ChangeKind::Ordinary,
        };
        let planned = report(PhaseProgress::Planned);
        let kept = site(vec![created()]);
        assert_eq!(
            outdated_plan(&planned, Some(&kept)),
            Some(PhaseName::Deploy)
        );
        assert_eq!(outdated_plan(&planned, Some(&site(Vec::new()))), None);
        assert_eq!(outdated_plan(&planned, None), None);
        // What is carried out finds it in its next pass.
        let failed = report(PhaseProgress::Failed);
        assert_eq!(outdated_plan(&failed, Some(&kept)), None);
    }
}
