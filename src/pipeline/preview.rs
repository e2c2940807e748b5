//! What the phase behind a closed gate would change.

use std::time::{Duration, Instant};

use super::{
    StepId,
    advance::Phase,
    cx::{Act, Cx},
    observations::{Observations, Preview},
    report::PhaseReport,
    step::Progress,
};
use crate::{api::PhaseName, clock::Timing};

/// Finds what the phase would change, as far as it can be known now: each step observes once, in order, and
/// does not act. What cannot be observed yet is left out. It is found anew as often as what serves is
/// re-checked, and sooner while a step could not be observed.
pub async fn make(cx: &Cx, stamp: &str, phase: &Phase, observations: &mut Observations) {
    let known = observations.preview.as_ref();
    let retry = &cx.target.retry;
    if known.is_some_and(|known| {
        let is_for_this =
            (known.stamp.as_str(), known.phase, &known.retry) == (stamp, phase.id, retry);
        is_for_this && Instant::now() < known.again
    }) {
        return;
    }
    let retry = retry.clone();
    let cx = Cx {
        act: Act::Plan,
        ..cx.clone()
    };
    let mut changes = Vec::new();
    let mut all_done = true;
    let mut all_known = true;
    for step in phase.steps {
        let progress = step.advance(&cx).await.progress;
        all_done &= is_done(&progress);
        all_known &= is_done(&progress) || matches!(progress, Progress::Planned(_));
        if let Progress::Planned(lines) = progress {
            // A later step corrects what an earlier one has not done yet: one change, listed once.
            for line in lines {
                if !changes.iter().any(|(_, known)| *known == line) {
                    changes.push((step.id(), line));
                }
            }
        }
    }
    observations.preview = Some(Preview {
        stamp: stamp.to_owned(),
        phase: phase.id,
        retry,
        changes,
        changes_nothing: all_done,
        again: Instant::now() + pause(all_known, &cx.installation.timing),
    });
}

/// Whether the step has nothing to do: what holds for a while is done as well.
fn is_done(progress: &Progress) -> bool {
    matches!(
        progress,
        Progress::Done | Progress::Holds(_) | Progress::Skipped(_)
    )
}

fn pause(all_known: bool, timing: &Timing) -> Duration {
    if all_known {
        timing.recheck
    } else {
        timing.backoff_min.min(timing.recheck)
    }
}

/// The preview of the phase that is not carried out, if it was made for this target: what its own steps do not
/// plan.
pub fn behind_gate(
    observations: &Observations,
    stamp: &str,
    phases: &[PhaseReport],
) -> Vec<(PhaseName, StepId, String)> {
    let preview = observations.preview.as_ref();
    let Some(preview) = preview.filter(|preview| preview.stamp == stamp) else {
        return Vec::new();
    };
    let mut previewed = phases.iter().filter(|phase| phase.is_previewed());
    let Some(phase) = previewed.find(|phase| phase.id == preview.phase) else {
        return Vec::new();
    };
    let changes = preview.changes.iter();
    changes
        .filter(|(step, change)| !phase.plans(*step) && !phase.lists(change))
        .map(|(step, change)| (preview.phase, *step, change.clone()))
        .collect()
}
