//! One pass over the phases: every step whose needs are met runs, all of them at once.

use std::{collections::BTreeSet, time::Instant};

use futures::{StreamExt, stream::FuturesUnordered};
use tracing::Instrument;

use super::{
    StepId,
    advance::{AnyStep, Phase},
    announce::{Announcements, Announcer, expect_creates, forget_expected, is_app_stopped},
    change::Sent,
    cx::Cx,
    observations::Observations,
    preview, recheck,
    record::{State, StepRecord},
    report::{PhaseProgress, PhaseReport, Report, phase_progress, remembered},
    step::{Outcome, Progress},
    verdict::Wake,
};
use crate::{
    api::{
        PhaseName,
        status::{GateState, destroyed},
    },
    error::{Error, Retry},
    plan::{
        gate::{GateReport, Passage},
        token::store_new,
    },
    process::telemetry,
};

/// Runs one pass over `phases`. `gate` answers for the gate before a phase; it is asked only once the
/// earlier phases are done. `first` must be done before anything is changed: it runs beside the first
/// phase, which only observes.
///
/// # Errors
/// Those of `first`.
pub async fn run(
    cx: &Cx,
    phases: &'static [Phase],
    observations: &mut Observations,
    announcer: &dyn Announcer,
    gate: impl Fn(PhaseName) -> Option<GateReport>,
    first: impl Future<Output = Result<(), Error>>,
) -> Result<Report, Error> {
    let began = Instant::now();
    let mut pass = Runner::begin(cx, phases, observations, announcer);
    let mut reports = Vec::with_capacity(phases.len());
    let mut open = true;
    let mut first = Some(first);
    for phase in phases {
        // On the heap: a pass with all that its steps do is too much for a worker's stack.
        let running = Box::pin(pass.phase(phase, observations, open, &gate, &reports));
        let report = match first.take() {
            Some(first) => {
                let (report, first) = tokio::join!(running, Box::pin(first));
                first?;
                report
            }
            None => running.await,
        };
        // What comes after Go-Live holds up nothing.
        let required = phase.id.before_live();
        open = open
            && (!required
                || matches!(
                    report.progress,
                    PhaseProgress::Succeeded | PhaseProgress::NotImplemented
                ));
        reports.push(report);
    }
    pass.announcements.finish().await;
    forget_expected(observations, &pass.stamp);
    pass.align_rechecks(observations, began);
    let ahead = preview::ahead(cx, phases, &reports);
    let first = ahead.first().map(|phase| phase.id);
    let mut reached = reports.iter().filter(|report| !report.is_behind_gate());
    let reached = reached.find(|report| Some(report.id) == first);
    Box::pin(preview::make(
        (cx, &pass.stamp),
        ahead,
        reached,
        observations,
    ))
    .await;
    let (found, unknown) = preview::found(observations, &pass.stamp, ahead, &reports);
    Ok(Report {
        sent: pass.sent,
        phases: reports,
        ahead: found,
        unknown,
    })
}

struct Runner<'a> {
    cx: &'a Cx,
    phases: &'static [Phase],
    announcements: Announcements<'a>,
    stamp: String,
    fired: BTreeSet<StepId>,
    /// The steps that a re-check observes; `None`: all that are due.
    allowed: Option<BTreeSet<StepId>>,
    /// An earlier phase changed the world in this pass: later ones observe again.
    dirty: bool,
    sent: Vec<Sent>,
}

/// A phase that runs: what is known of the phases before it, and its gate. A write in the middle of
/// the pass needs both.
struct Running<'a> {
    phase: &'a Phase,
    earlier: &'a [PhaseReport],
    gate: Option<&'a GateReport>,
    /// With the right to act, unless nobody has opened the gate.
    cx: &'a Cx,
}

impl<'a> Runner<'a> {
    fn begin(
        cx: &'a Cx,
        phases: &'static [Phase],
        observations: &mut Observations,
        announcer: &'a dyn Announcer,
    ) -> Self {
        let stamp = cx.target.stamp().to_owned();
        let fired = observations.fired.take(phases);
        let timing = &cx.installation.timing;
        let allowed = recheck::choose(phases, observations, &stamp, timing);
        // What was known of another plan may have been overtaken by this one.
        let preview = &mut observations.preview;
        preview.take_if(|preview| preview.stamp != stamp);
        Self {
            cx,
            phases,
            announcements: Announcements::new(announcer, &cx.intents),
            stamp,
            fired,
            allowed,
            dirty: false,
            sent: Vec::new(),
        }
    }

    async fn phase(
        &mut self,
        phase: &Phase,
        observations: &mut Observations,
        open: bool,
        gate: &impl Fn(PhaseName) -> Option<GateReport>,
        earlier: &[PhaseReport],
    ) -> PhaseReport {
        let not_run = |progress, observations: &Observations, stamp: &str| {
            PhaseReport::not_run(phase, progress, observations, stamp)
        };
        if !open || phase.steps.is_empty() {
            return not_run(PhaseProgress::Pending, observations, &self.stamp);
        }
        let mut gate_report = gate(phase.id);
        let ahead = preview::from(self.phases, earlier.len(), true);
        let of = (self.cx, self.stamp.as_str());
        if let Some(again) = asks_again(of, ahead, gate_report.as_ref(), observations).await {
            gate_report = Some(again);
        }
        if let Some(progress) = gate_report.as_ref().and_then(held_by) {
            let asked = gate_report.as_ref();
            let nothing = changes_nothing(of, ahead, asked, observations).await;
            if !nothing || !Box::pin(self.finds_nothing(phase, earlier, observations)).await {
                return PhaseReport {
                    gate: gate_report,
                    ..not_run(progress, observations, &self.stamp)
                };
            }
            gate_report = None;
        } else {
            if !earlier.is_empty() && !is_app_stopped(observations, &self.stamp) {
                let phases = self.phases.get(earlier.len()..);
                expect_creates(self.cx, phases.unwrap_or_default(), gate);
            }
            let running = Running {
                phase,
                earlier,
                gate: gate_report.as_ref(),
                cx: self.cx,
            };
            self.steps(running, observations).await;
        }
        let steps = remembered(phase, observations, &self.stamp);
        PhaseReport {
            id: phase.id,
            progress: phase_progress(&steps),
            gate: gate_report,
            steps,
        }
    }

    /// Runs the steps of a phase whose gate nobody has opened, because it had nothing to do: they only look.
    /// False when one of them wants a change after all; the gate asks about that.
    async fn finds_nothing(
        &mut self,
        phase: &Phase,
        earlier: &[PhaseReport],
        observations: &mut Observations,
    ) -> bool {
        let looks = self.cx.looking();
        let running = Running {
            phase,
            earlier,
            gate: None,
            cx: &looks,
        };
        self.steps(running, observations).await;
        let steps = remembered(phase, observations, &self.stamp);
        let wants = |(_, record): &(StepId, StepRecord)| record.state == State::Planned;
        let nothing = !steps.iter().any(wants);
        if !nothing {
            observations.preview = None;
            observations.forget(phase);
        }
        nothing
    }

    /// Runs the steps of one phase, each as soon as its needs are met.
    async fn steps(&mut self, phase: Running<'_>, observations: &mut Observations) {
        let mut attention = self.cx.intents.attention();
        let mut waiting: Vec<&'static dyn AnyStep> = phase.phase.steps.to_vec();
        let mut running = FuturesUnordered::new();
        let mut settled: BTreeSet<StepId> = BTreeSet::new();
        let mut changed: BTreeSet<StepId> = BTreeSet::new();
        loop {
            let (ready, rest): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|step| {
                let mut needs = step.needs().iter();
                needs.all(|need| settled.contains(need) || !phase.phase.has(*need))
            });
            waiting = rest;
            let idle = ready.is_empty();
            for step in ready {
                let upstream = self.dirty || step.needs().iter().any(|n| changed.contains(n));
                let cx = phase.cx;
                if !upstream && let Some(record) = self.reusable(step, cx, observations) {
                    if record.state.satisfied() {
                        settled.insert(step.id());
                    }
                    continue;
                }
                // Every line that the step logs says which one it is.
                let span = telemetry::phase(phase.phase.id.as_str());
                let span = span.in_scope(|| telemetry::step(step.id().as_str()));
                running.push(
                    async move {
                        let outcome = step.advance(cx).await;
                        outcome.log();
                        (step, outcome)
                    }
                    .instrument(span),
                );
            }
            if !idle && running.is_empty() {
                // Everything ready was remembered, which may have met the needs of others.
                continue;
            }
            let now = *attention.borrow_and_update();
            if self.announcements.is_due(now, running.len()) {
                let report = self.snapshot(&phase, observations);
                self.announcements.begin(report);
            }
            let (step, outcome) = tokio::select! {
                next = running.next() => match next {
                    Some(ended) => ended,
                    None => break,
                },
                () = self.announcements.written() => continue,
                Ok(()) = attention.changed() => continue,
            };
            if !outcome.sent.is_empty() {
                changed.insert(step.id());
            }
            if self.record(step, outcome, observations) {
                settled.insert(step.id());
            }
        }
        // A step that was not reached is forgotten: its needs are no longer met.
        for step in waiting {
            observations.steps.remove(&step.id());
        }
        if !changed.is_empty() {
            self.dirty = true;
            // What a later phase would change was found before this.
            observations.preview = None;
        }
    }

    /// Records the outcome of a step. True when steps that need it may run.
    fn record(
        &mut self,
        step: &'static dyn AnyStep,
        outcome: Outcome,
        observations: &mut Observations,
    ) -> bool {
        self.sent.extend(outcome.sent.iter().cloned());
        let invalidated = match outcome.sent.is_empty() {
            true => &[],
            false => step.invalidates(),
        };
        let earlier = match &outcome.progress {
            Progress::Wait {
                wake: Wake::Earlier { step, .. },
                ..
            } => Some(step),
            _ => None,
        };
        for stale in invalidated.iter().chain(earlier) {
            if let Some(record) = observations.steps.get_mut(stale) {
                record.again = Some(Instant::now());
            }
        }
        let token = token_action(self.cx, &outcome);
        let record = StepRecord::of(
            &self.stamp,
            outcome,
            observations.steps.get(&step.id()),
            &self.cx.installation.timing,
            step.rechecked(),
            (Instant::now(), token),
        );
        let satisfied = record.state.satisfied();
        if satisfied {
            observations.intents.settled(step.id());
        }
        observations.steps.insert(step.id(), record);
        satisfied
    }

    /// What is known in the middle of the pass.
    fn snapshot(&self, running: &Running<'_>, observations: &Observations) -> Report {
        let steps = remembered(running.phase, observations, &self.stamp);
        let now = PhaseReport {
            id: running.phase.id,
            progress: phase_progress(&steps),
            gate: running.gate.cloned(),
            steps,
        };
        let later = self.phases.iter().skip(running.earlier.len() + 1);
        let later = later.map(|phase| {
            PhaseReport::not_run(phase, PhaseProgress::Pending, observations, &self.stamp)
        });
        let earlier = running.earlier.iter().cloned();
        let phases: Vec<PhaseReport> = earlier.chain([now]).chain(later).collect();
        Report {
            sent: self.sent.clone(),
            ahead: Vec::new(),
            phases,
            unknown: Vec::new(),
        }
    }

    /// The last observation, if it is still current.
    fn reusable<'o>(
        &self,
        step: &dyn AnyStep,
        cx: &Cx,
        observations: &'o Observations,
    ) -> Option<&'o StepRecord> {
        let record = observations.steps.get(&step.id())?;
        // What was only planned is done once that is allowed.
        let may_now = record.state == State::Planned && cx.may_act();
        if record.stamp != self.stamp || may_now || self.fired.contains(&step.id()) {
            return None;
        }
        let due = record.again.is_some_and(|again| again <= Instant::now());
        if !due {
            return Some(record);
        }
        match &self.allowed {
            Some(chosen) if record.state.satisfied() && !chosen.contains(&step.id()) => {
                Some(record)
            }
            _ => None,
        }
    }

    /// The steps of one re-check are due again at the same time, however long each took.
    fn align_rechecks(&self, observations: &mut Observations, began: Instant) {
        for id in self.allowed.iter().flatten() {
            if let Some(record) = observations.steps.get_mut(id)
                && record.state.satisfied()
                && let Some(again) = &mut record.again
            {
                *again = (*again).min(began + self.cx.installation.timing.recheck);
            }
        }
    }
}

/// Whether the phase behind a gate that nobody has rejected has nothing to do: then nobody is asked, also when
/// nobody has answered in time. Everything that it would do must be known for that.
async fn changes_nothing(
    (cx, stamp): (&Cx, &str),
    ahead: &[Phase],
    gate: Option<&GateReport>,
    observations: &mut Observations,
) -> bool {
    let state = gate.map(|gate| gate.status.state);
    let is_rejected = state.is_none_or(|state| state == GateState::Rejected);
    // What a check finds is known only when it is made.
    let first = ahead.first().map(|phase| phase.id);
    let is_known = matches!(first, Some(PhaseName::Provision | PhaseName::Deploy));
    if is_rejected || !is_known {
        return false;
    }
    Box::pin(preview::make((cx, stamp), ahead, None, observations)).await;
    let preview = observations.preview.as_ref();
    preview.is_some_and(|preview| preview.changes_nothing)
}

/// The gate that was about to open, when a fresh look finds that the plan by now removes something for good that nobody
/// has seen: it asks about that. What could not be observed is not known to remove nothing: it waits for that.
async fn asks_again(
    (cx, stamp): (&Cx, &str),
    ahead: &[Phase],
    gate: Option<&GateReport>,
    observations: &mut Observations,
) -> Option<GateReport> {
    let opens = gate.filter(|gate| gate.opens.is_some())?;
    preview::expire(observations);
    Box::pin(preview::make((cx, stamp), ahead, None, observations)).await;
    let preview = observations.preview.as_ref()?;
    let changes = preview.changes.iter().map(|ahead| &ahead.change);
    let more = opens.asks_again(&destroyed(changes));
    more.or_else(|| {
        let unseen: Vec<&str> = preview.unseen.iter().map(|step| step.as_str()).collect();
        let waits = !unseen.is_empty();
        waits.then(|| opens.waits_for_a_look(&unseen)).flatten()
    })
}

/// How a new token is stored, when Fly.io refuses the present one for good.
fn token_action(cx: &Cx, outcome: &Outcome) -> Option<String> {
    let Progress::Failed {
        error: error @ Error::Fly { source, .. },
        ..
    } = &outcome.progress
    else {
        return None;
    };
    let preflight = &cx.target.preflight;
    let stored = (&*preflight.token_secret, &*preflight.token_key);
    (source.is_token_refused() && error.retry() == Retry::OnChange)
        .then(|| store_new(&preflight.namespace, stored, &cx.target.organization))
}

/// The progress of a phase while its gate holds it; `None` when the gate is open.
fn held_by(gate: &GateReport) -> Option<PhaseProgress> {
    match gate.passage() {
        Passage::Open => None,
        Passage::Closed => Some(PhaseProgress::Rejected),
        Passage::Waiting => Some(PhaseProgress::AwaitingApproval),
        Passage::Planned => Some(PhaseProgress::Planned),
    }
}

#[cfg(test)]
mod tests;
