//! When an object is observed again, and which steps a re-check of an unchanged live object
//! observes.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::{
    StepId,
    advance::{AnyStep, Phase},
    cx::{RecheckPass, Timing},
    observations::Observations,
    record::StepRecord,
    report::Report,
};

/// Fly.io reads that one re-check of an unchanged live object may cost.
pub const RECHECK_READS: u32 = 3;

/// Shortest pause before the next pass, so that no object spins.
const SHORTEST: Duration = Duration::from_millis(5);

/// Fact: the overview of the app cannot be read. Steps that share it then read what they need one by
/// one, and take turns with the others.
#[derive(Debug)]
pub struct OverviewFails;

/// Which of the due steps a re-check of a live, unchanged object observes. `None`: no limit, since
/// the object is not settled. Required and free steps are always included, then those observed
/// longest ago; the others are put off to the next re-checks, an interval later.
pub fn choose(
    phases: &[Phase],
    observations: &mut Observations,
    stamp: &str,
    timing: &Timing,
) -> Option<BTreeSet<StepId>> {
    // What comes after Go-Live asks nothing of Fly.io, and is observed whenever it is due.
    let (live, later): (Vec<&Phase>, Vec<&Phase>) =
        phases.iter().partition(|phase| phase.id.before_live());
    let all: Vec<&'static dyn AnyStep> =
        live.iter().flat_map(|phase| phase.steps).copied().collect();
    let settled = all.iter().all(|step| {
        observations
            .steps
            .get(&step.id())
            .is_some_and(|record| record.stamp == stamp && record.state.satisfied())
    });
    if !settled {
        return None;
    }
    observations.facts.set(RecheckPass(observations.passes));
    let now = Instant::now();
    let mut spent = Spent {
        fails: observations.facts.get::<OverviewFails>().is_some(),
        ..Spent::default()
    };
    let later = later.iter().flat_map(|phase| phase.steps);
    let is_due = |step: &StepId| {
        let again = observations.steps.get(step).and_then(|known| known.again);
        again.is_some_and(|again| again <= now)
    };
    let mut chosen: BTreeSet<StepId> = later.map(|step| step.id()).filter(is_due).collect();
    for step in candidates(all, observations, now) {
        let fits = spent.take(step);
        if fits {
            chosen.insert(step.id());
        }
        if let Some(record) = observations.steps.get_mut(&step.id()) {
            record.again = Some(if fits { now } else { now + timing.recheck });
        }
    }
    Some(chosen)
}

/// The reads that the chosen steps cost.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    reads: u32,
    /// The overview is one of them.
    overview: bool,
    /// The overview cannot be read.
    fails: bool,
}

impl Spent {
    /// Takes a step if what it costs is left.
    fn take(&mut self, step: &dyn AnyStep) -> bool {
        let overview = self.overview || step.reads_overview();
        let mut reads = self.reads + step.reads() + u32::from(overview && !self.overview);
        if step.reads_overview() && self.fails {
            reads += 1;
        }
        if reads > RECHECK_READS {
            return false;
        }
        (self.reads, self.overview) = (reads, overview);
        true
    }
}

/// The steps that this re-check may observe, the most urgent first.
fn candidates(
    all: Vec<&'static dyn AnyStep>,
    observations: &Observations,
    now: Instant,
) -> Vec<&'static dyn AnyStep> {
    let due = |record: &StepRecord| record.again.is_some_and(|again| again <= now);
    let known = |step: &dyn AnyStep| observations.steps.get(&step.id());
    let mut due_now = all
        .iter()
        .filter_map(|step| known(*step))
        .filter(|record| due(record));
    // A step that only holds for a moment is observed alone when that moment is over. All others
    // are re-checked together when the first of them is due: one re-check an interval.
    let whole = due_now.any(|record| !record.holds);
    let fails = observations.facts.get::<OverviewFails>().is_some();
    let is_always = |step: &dyn AnyStep| step.always_rechecked() || step.reads_overview() && !fails;
    let mut candidates: Vec<(bool, Instant, &'static dyn AnyStep)> = all
        .into_iter()
        .filter_map(|step| {
            let record = known(step)?;
            let included = due(record) || (whole && !record.holds && record.again.is_some());
            let optional = !(is_always(step) || record.holds && due(record));
            included.then_some((optional, record.observed_at, step))
        })
        .collect();
    candidates.sort_by_key(|(optional, observed_at, _)| (*optional, *observed_at));
    candidates.into_iter().map(|(_, _, step)| step).collect()
}

/// The pause before the next pass: until the earliest due step, never in a tight loop. Steps of a
/// phase that was not reached do not count, however long they are due.
pub fn next(report: &Report, observations: &Observations, timing: &Timing) -> Duration {
    let reached = report.phases.iter().filter(|phase| phase.is_reached());
    let steps = reached.flat_map(|phase| &phase.steps);
    let due = steps.filter_map(|(id, _)| observations.steps.get(id)?.again);
    let now = Instant::now();
    due.min()
        .map_or(timing.recheck, |at| at.saturating_duration_since(now))
        .clamp(SHORTEST, timing.recheck)
}
