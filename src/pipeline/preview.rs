//! What the phase behind a closed gate would change.

use super::{
    StepId,
    advance::Phase,
    cx::{Act, Cx},
    observations::{Observations, Preview},
    report::PhaseReport,
    step::Progress,
};
use crate::api::PhaseName;

/// Finds what the phase would change, as far as it can be known now: each step observes once for a
/// target, in order, and does not act. What cannot be observed yet is left out.
pub async fn make(cx: &Cx, stamp: &str, phase: &Phase, observations: &mut Observations) {
    let known = observations.preview.as_ref();
    let retry = &cx.target.retry;
    if known.is_some_and(|known| {
        (known.stamp.as_str(), known.phase, &known.retry) == (stamp, phase.id, retry)
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
    for step in phase.steps {
        let progress = step.advance(&cx).await.progress;
        all_done &= matches!(progress, Progress::Done | Progress::Skipped(_));
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
    });
}

/// The preview of the phase whose gate is closed, if it was made for this target.
pub fn behind_gate(
    observations: &Observations,
    stamp: &str,
    phases: &[PhaseReport],
) -> Vec<(PhaseName, StepId, String)> {
    let preview = observations.preview.as_ref();
    let current = preview.filter(|preview| {
        preview.stamp == stamp
            && phases
                .iter()
                .any(|phase| phase.id == preview.phase && phase.is_held())
    });
    let changes = current.iter().flat_map(|preview| {
        let changes = preview.changes.iter();
        changes.map(|(step, change)| (preview.phase, *step, change.clone()))
    });
    changes.collect()
}
