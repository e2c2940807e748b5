//! What the phases would change that are not carried out: behind a closed gate, or because changes are
//! only planned.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::{
    StepId,
    advance::{AnyStep, Phase},
    change::{ChangeVerb, PlannedChange},
    cx::Cx,
    observations::{Ahead, Observations, Preview},
    record::State,
    report::{PhaseProgress, PhaseReport},
    step::Progress,
};
use crate::{
    api::{PhaseName, policy::Mode},
    clock::{Timing, backoff},
    error::{Error, Retry},
};

/// The phases that are previewed: the first one that is not carried out, and what comes after it up to
/// Go-Live. Drift that is only reported is that of one phase.
pub fn ahead<'p>(cx: &Cx, phases: &'p [Phase], reports: &[PhaseReport]) -> &'p [Phase] {
    let stops = |report: &PhaseReport| {
        let only_plans = cx.target.mode == Mode::Plan && report.progress == PhaseProgress::Planned;
        report.is_previewed() || only_plans
    };
    let Some(at) = reports.iter().position(stops) else {
        return &[];
    };
    let held = reports.get(at).is_some_and(PhaseReport::is_behind_gate);
    let all = held || cx.target.mode == Mode::Plan;
    from(phases, at, all)
}

/// The phase at this place, and with `all` what comes after it up to Go-Live.
pub fn from(phases: &[Phase], at: usize, all: bool) -> &[Phase] {
    let rest = phases.get(at..).unwrap_or_default();
    let of_live = rest
        .iter()
        .take_while(|phase| phase.id.before_live())
        .count();
    let length = if all { of_live.max(1) } else { 1 };
    rest.get(..length).unwrap_or_default()
}

/// Has the preview made again at the next call of [`make`].
pub fn expire(observations: &mut Observations) {
    if let Some(preview) = &mut observations.preview {
        preview.again = Instant::now();
    }
}

/// The pause until the preview is made again, because something is unknown that can be known by itself soon.
pub fn due(observations: &Observations) -> Option<Duration> {
    let preview = observations.preview.as_ref();
    let preview = preview.filter(|preview| preview.tries > 0)?;
    Some(preview.again.saturating_duration_since(Instant::now()))
}

/// Finds what these phases would change, as far as it can be known now: each step that can be observed is, once
/// and in order, and does not act. It is found anew as often as what serves is re-checked, and sooner while a
/// step could not be observed. `reached` is the report of the first one, if its steps ran in this pass.
pub async fn make(
    (cx, stamp): (&Cx, &str),
    phases: &[Phase],
    reached: Option<&PhaseReport>,
    observations: &mut Observations,
) {
    let Some(first) = phases.first() else {
        return;
    };
    let retry = &cx.target.retry;
    let known = observations.preview.as_ref().filter(|known| {
        (known.stamp.as_str(), known.phase, &known.retry) == (stamp, first.id, retry)
    });
    if known.is_some_and(|known| Instant::now() < known.again) {
        return;
    }
    let before = known.map_or(0, |known| known.tries);
    let mut walk = Walk {
        cx: &cx.looking(),
        changes: Vec::new(),
        unknown: Vec::new(),
        unseen: Vec::new(),
        moves: false,
        planned: BTreeSet::new(),
        foundation: None,
        is_wholly_done: true,
    };
    let mut changes_nothing = true;
    for phase in phases {
        let reached = reached.filter(|reached| reached.id == phase.id);
        walk.phase(phase, reached).await;
        if phase.id == first.id {
            changes_nothing = walk.is_wholly_done;
        }
    }
    let tries = match walk.moves || !walk.unseen.is_empty() {
        true => before.saturating_add(1),
        false => 0,
    };
    observations.preview = Some(Preview {
        stamp: stamp.to_owned(),
        phase: first.id,
        retry: retry.clone(),
        changes_nothing,
        again: Instant::now() + pause(walk.unknown.is_empty(), tries, &cx.installation.timing),
        changes: walk.changes,
        unknown: walk.unknown,
        unseen: walk.unseen,
        tries,
    });
}

/// The way through the steps.
struct Walk<'a> {
    cx: &'a Cx,
    changes: Vec<Ahead>,
    unknown: Vec<StepId>,
    /// Those of them that could not be observed, and can be later.
    unseen: Vec<StepId>,
    /// One of them waits for something that is under way.
    moves: bool,
    /// Steps that plan something.
    planned: BTreeSet<StepId>,
    /// A step that makes what everything else is inside of, and has not made it.
    foundation: Option<StepId>,
    /// Every step so far was observed, and has nothing to do.
    is_wholly_done: bool,
}

impl Walk<'_> {
    async fn phase(&mut self, phase: &Phase, reached: Option<&PhaseReport>) {
        for step in phase.steps {
            let known = reached.and_then(|reached| reached.known(step.id()));
            match known {
                Some((State::Done | State::Skipped, _)) => continue,
                Some((State::Planned, changes)) => {
                    self.plans(phase, *step, changes.to_vec());
                    continue;
                }
                _ => {}
            }
            // What a check of the application finds is known only when it is made.
            let is_observed = matches!(phase.id, PhaseName::Provision | PhaseName::Deploy);
            if self.foundation.is_some() || !is_observed {
                self.expects(phase, *step);
                continue;
            }
            let progress = step.advance(self.cx).await.progress;
            match progress {
                Progress::Done | Progress::Holds(_) | Progress::Skipped(_) => {}
                Progress::Planned(changes) => self.plans(phase, *step, changes),
                // It is not known what it would do, and not that it needs something first.
                progress if is_unseen(&progress) => {
                    self.unseen.push(step.id());
                    self.leaves_open(*step);
                }
                _ if self.needs_planned(phase, *step).is_some() => self.expects(phase, *step),
                progress => {
                    self.moves |= matches!(progress, Progress::Wait { .. });
                    self.leaves_open(*step);
                }
            }
        }
    }

    /// It is not known what the step would do.
    fn leaves_open(&mut self, step: &dyn AnyStep) {
        self.is_wholly_done = false;
        self.unknown.push(step.id());
    }

    /// The step was observed, and plans these changes.
    fn plans(&mut self, phase: &Phase, step: &dyn AnyStep, changes: Vec<PlannedChange>) {
        let makes = |change: &PlannedChange| change.verb == ChangeVerb::Create;
        if step.is_foundation() && changes.iter().any(makes) {
            self.foundation = Some(step.id());
        }
        self.add(phase, step, changes);
    }

    /// The step cannot be observed before another one is done.
    fn expects(&mut self, phase: &Phase, step: &dyn AnyStep) {
        let after = self.foundation.or_else(|| self.needs_planned(phase, step));
        let mut changes = step.expected(self.cx);
        for change in &mut changes {
            let own = change.after.take();
            change.after = own.or_else(|| after.map(|step| step.to_string()));
        }
        let changes = changes.into_iter().map(PlannedChange::finished);
        self.add(phase, step, changes.collect());
    }

    fn add(&mut self, phase: &Phase, step: &dyn AnyStep, changes: Vec<PlannedChange>) {
        self.is_wholly_done = false;
        self.planned.insert(step.id());
        for change in changes {
            // A later step corrects what an earlier one has not done yet: one change, listed once.
            if !self.changes.iter().any(|known| known.change == change) {
                self.changes.push(Ahead {
                    phase: phase.id,
                    step: step.id(),
                    change,
                });
            }
        }
    }

    /// A step that it needs, directly or not, and that plans something.
    fn needs_planned(&self, phase: &Phase, step: &dyn AnyStep) -> Option<StepId> {
        let mut open: Vec<StepId> = step.needs().to_vec();
        let mut seen = BTreeSet::new();
        while let Some(need) = open.pop() {
            if self.planned.contains(&need) {
                return Some(need);
            }
            if seen.insert(need) {
                let mut steps = phase.steps.iter();
                open.extend(
                    steps
                        .find(|step| step.id() == need)
                        .map_or(&[][..], |step| step.needs()),
                );
            }
        }
        None
    }
}

/// Whether a step could not be observed, and can be when it is looked at again: an answer was lost, or one look is no
/// proof. A step that lacks what an earlier one makes is none of these, nor is one that Fly.io refuses. Pure.
fn is_unseen(progress: &Progress) -> bool {
    match progress {
        Progress::Failed { error, .. } => {
            !matches!(error, Error::NotKnown(_)) && error.retry() != Retry::OnChange
        }
        Progress::Awaited(_) => true,
        _ => false,
    }
}

/// The time for which a preview counts, after so many looks in a row that have left something open.
fn pause(all_known: bool, tries: u32, timing: &Timing) -> Duration {
    match (all_known, tries) {
        (true, _) => timing.recheck,
        (false, 0) => timing.backoff_min.min(timing.recheck),
        (false, tries) => backoff(timing, tries).min(timing.recheck),
    }
}

/// What is not carried out and lies ahead, if it was found for this target: what the steps of `reports` do not
/// plan themselves. And the steps of which that is not known.
pub fn found(
    observations: &Observations,
    stamp: &str,
    ahead: &[Phase],
    reports: &[PhaseReport],
) -> (Vec<Ahead>, Vec<StepId>) {
    let first = ahead.first().map(|phase| phase.id);
    let preview = observations.preview.as_ref();
    let preview = preview.filter(|preview| preview.stamp == stamp && Some(preview.phase) == first);
    let Some(preview) = preview else {
        return (Vec::new(), Vec::new());
    };
    // What this pass has found of a step is newer than the preview.
    let is_settled = |phase: Option<PhaseName>, step: StepId| {
        let mut reports = reports.iter().filter(|report| report.is_reached());
        reports.any(|report| {
            let known = report.known(step);
            phase.is_none_or(|phase| phase == report.id)
                && known.is_some_and(|(state, _)| state.satisfied() || state == State::Planned)
        })
    };
    let changes = preview.changes.iter();
    let is_listed = |ahead: &&Ahead| reports.iter().any(|report| report.lists(&ahead.change));
    let changes = changes
        .filter(|ahead| !is_settled(Some(ahead.phase), ahead.step))
        .filter(|ahead| !is_listed(ahead));
    let unknown = preview.unknown.iter().copied();
    let unknown = unknown.filter(|step| !is_settled(None, *step));
    (changes.cloned().collect(), unknown.collect())
}
