//! One pass over the phases: every step whose needs are met runs, all of them at once.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream::FuturesUnordered};
use tracing::Instrument;

use super::{
    Cx, Memory, Phase, Sent, Slot, State, StepId, StepRecord, Timing,
    intent::{Attending, Attention},
    step::{AnyStep, BoxFuture},
};
use crate::phase::PHASES;
use crate::{
    api::PhaseName,
    error::Error,
    plan::gate::{GateReport, Passage},
    process::telemetry,
};

/// Fly reads that one re-check of an unchanged live object may cost.
pub const RECHECK_READS: u32 = 3;

/// What one pass found. Plain data: status, events and metrics are computed from it.
#[derive(Clone, Debug)]
pub struct Report {
    /// The changes that this pass sent.
    pub sent: Vec<Sent>,
    /// All phases of the table, in order.
    pub phases: Vec<PhaseReport>,
    /// What the phase behind a closed gate would change: what an approval is about.
    pub behind_gate: Vec<(PhaseName, StepId, String)>,
}

/// What one pass found in one phase.
#[derive(Clone, Debug)]
pub struct PhaseReport {
    /// Which.
    pub id: PhaseName,
    /// Where it stands.
    pub state: PhaseState,
    /// The gate before it, when there is one and it was reached.
    pub gate: Option<GateReport>,
    /// Its steps, in the order of the table.
    pub steps: Vec<(StepId, StepRecord)>,
}

/// Where a phase stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhaseState {
    /// An earlier phase is not done.
    Pending,
    /// Its gate is closed.
    AwaitingApproval,
    /// Its gate was rejected, or expired.
    Rejected,
    /// Steps are at work or wait.
    Running,
    /// All steps are done.
    Succeeded,
    /// A step is stopped.
    Failed,
    /// Plan mode: some steps would change something.
    Planned,
    /// The phase is not implemented yet.
    NotImplemented,
}

impl Report {
    /// True when every phase that Go-Live waits for is done.
    pub fn live(&self) -> bool {
        self.phases
            .iter()
            .zip(PHASES)
            .filter(|(_, phase)| phase.before_live)
            .all(|(report, _)| report.state == PhaseState::Succeeded)
    }

    /// The first step, in order, that is in a state of this kind.
    pub fn first(&self, is: impl Fn(&State) -> bool) -> Option<(PhaseName, StepId, &StepRecord)> {
        self.phases.iter().find_map(|phase| {
            phase
                .steps
                .iter()
                .find(|(_, record)| is(&record.state))
                .map(|(id, record)| (phase.id, *id, record))
        })
    }
}

/// Creates that are announced, each with the step that asks for it.
pub type Announced = Vec<(StepId, Slot)>;

/// Writes the status in the middle of a pass: what is about to be created is announced there.
pub trait Herald: Sync {
    /// Writes what was found so far, with these intents. Answers with those that stand there now:
    /// none when it could not write.
    fn announce(&self, report: Report, intents: Announced) -> BoxFuture<'_, Announced>;
}

/// Runs one pass. `gate` answers for the gate before a phase; it is asked only once the
/// earlier phases are done. `first` has to be done before anything is changed: it is done beside the
/// first phase, which looks only.
///
/// # Errors
/// Those of `first`.
pub async fn run(
    cx: &Cx,
    memory: &mut Memory,
    herald: &dyn Herald,
    gate: impl Fn(PhaseName) -> Option<GateReport>,
    first: impl Future<Output = Result<(), Error>>,
) -> Result<Report, Error> {
    let digest = cx.target.stamp().to_owned();
    let fired = memory.fired.take();
    let began = Instant::now();
    let allowed = recheck_choice(memory, &digest, &cx.installation.timing);
    let intents = cx.intents.clone();
    let mut pass = Pass {
        cx,
        herald,
        writing: None,
        attending: Some(intents.attend()),
        digest,
        fired,
        allowed,
        dirty: false,
        sent: Vec::new(),
    };
    let mut phases = Vec::with_capacity(PHASES.len());
    let mut open = true;
    let mut first = Some(first);
    for phase in PHASES {
        if phase.steps.is_empty() {
            phases.push(PhaseReport {
                id: phase.id,
                state: PhaseState::NotImplemented,
                gate: None,
                steps: Vec::new(),
            });
            continue;
        }
        // On the heap: a pass with all that its steps do is too much for a worker's stack.
        let looks = Box::pin(pass.phase(phase, memory, open, &gate, &phases));
        let report = match first.take() {
            Some(first) => {
                let (report, first) = tokio::join!(looks, Box::pin(first));
                first?;
                report
            }
            None => looks.await,
        };
        open = open && report.state == PhaseState::Succeeded;
        if report.state == PhaseState::AwaitingApproval {
            preview(cx, &pass.digest, phase, memory).await;
        }
        phases.push(report);
    }
    // Two writers at once would not know what the other has written.
    if let Some(writing) = pass.writing.take() {
        let written = writing.await;
        pass.written(written);
    }
    // What one re-check looked at is due again at one time, however long each took.
    for id in pass.allowed.iter().flatten() {
        if let Some(record) = memory.steps.get_mut(id)
            && record.state.satisfied()
            && let Some(again) = &mut record.again
        {
            *again = (*again).min(began + cx.installation.timing.recheck);
        }
    }
    let behind_gate = memory
        .preview
        .as_ref()
        .filter(|preview| preview.stamp == pass.digest)
        .filter(|preview| {
            phases.iter().any(|phase| {
                phase.id == preview.phase && phase.state == PhaseState::AwaitingApproval
            })
        })
        .map(|preview| {
            let lines = preview.changes.iter();
            lines
                .map(|(step, change)| (preview.phase, *step, change.clone()))
                .collect()
        })
        .unwrap_or_default();
    Ok(Report {
        sent: pass.sent,
        phases,
        behind_gate,
    })
}

/// Which of the due steps a re-check of a live, unchanged object looks at. `None`: no limit,
/// since the object is not settled. What matters most and what is free always comes along, then
/// what was looked at longest ago; the rest takes its turn at the next re-checks, an interval later.
fn recheck_choice(memory: &mut Memory, digest: &str, timing: &Timing) -> Option<BTreeSet<StepId>> {
    let all: Vec<&'static dyn AnyStep> = PHASES
        .iter()
        .flat_map(|phase| phase.steps)
        .copied()
        .collect();
    let settled = all.iter().all(|step| {
        memory
            .steps
            .get(&step.id())
            .is_some_and(|record| record.digest == digest && record.state.satisfied())
    });
    if !settled {
        return None;
    }
    let now = Instant::now();
    let due = |record: &StepRecord| record.again.is_some_and(|again| again <= now);
    let known = |step: &dyn AnyStep| memory.steps.get(&step.id());
    let mut begins = all
        .iter()
        .filter_map(|step| known(*step))
        .filter(|r| due(r));
    // What holds for a moment only is looked at when that is over, and nothing else with it. All the
    // others are looked at together, whenever the first of them is due: so there is one re-check an
    // interval, whenever each was looked at before.
    let whole = begins.any(|record| !record.holds);
    let mut candidates: Vec<(bool, Instant, &'static dyn AnyStep)> = all
        .into_iter()
        .filter_map(|step| {
            let record = known(step)?;
            let comes = due(record) || (whole && !record.holds && record.again.is_some());
            let lesser = !(step.vital() || record.holds && due(record));
            comes.then_some((lesser, record.looked, step))
        })
        .collect();
    candidates.sort_by_key(|(lesser, looked, _)| (*lesser, *looked));
    let mut reads = 0;
    let mut chosen = BTreeSet::new();
    for (_, _, step) in candidates {
        let fits = reads + step.reads() <= RECHECK_READS;
        if fits {
            reads += step.reads();
            chosen.insert(step.id());
        }
        if let Some(record) = memory.steps.get_mut(&step.id()) {
            record.again = Some(if fits { now } else { now + timing.recheck });
        }
    }
    Some(chosen)
}

struct Pass<'a> {
    cx: &'a Cx,
    herald: &'a dyn Herald,
    /// The write of the status that is under way.
    writing: Option<BoxFuture<'a, Announced>>,
    /// Until one could not be written: then each step that needs one waits for the next pass.
    attending: Option<Attending<'a>>,
    digest: String,
    fired: BTreeSet<StepId>,
    allowed: Option<BTreeSet<StepId>>,
    /// An earlier phase changed the world in this pass: later ones look again.
    dirty: bool,
    sent: Vec<Sent>,
}

impl Pass<'_> {
    async fn phase(
        &mut self,
        phase: &Phase,
        memory: &mut Memory,
        open: bool,
        gate: &impl Fn(PhaseName) -> Option<GateReport>,
        earlier: &[PhaseReport],
    ) -> PhaseReport {
        let mut report = PhaseReport {
            id: phase.id,
            state: PhaseState::Pending,
            gate: None,
            steps: Vec::new(),
        };
        if !open {
            report.steps = remembered(phase, memory, &self.digest);
            return report;
        }
        report.gate = gate(phase.id);
        if let Some(gate) = &report.gate
            && let Some(state) = held_state(gate.passage())
        {
            report.state = state;
            report.steps = remembered(phase, memory, &self.digest);
            return report;
        }
        if !earlier.is_empty() {
            let phases = PHASES.get(earlier.len()..);
            self.foresee(phases.unwrap_or_default(), gate);
        }
        self.steps(phase, memory, (earlier, report.gate.as_ref()))
            .await;
        report.steps = remembered(phase, memory, &self.digest);
        report.state = phase_state(&report.steps);
        report
    }

    /// Runs the steps of one phase, each as soon as its needs are met. `so_far` is what is told of the
    /// earlier phases, and of the gate of this one, when something is announced meanwhile.
    async fn steps(
        &mut self,
        phase: &Phase,
        memory: &mut Memory,
        so_far: (&[PhaseReport], Option<&GateReport>),
    ) {
        let mut attention = self.cx.intents.attention();
        let mut waiting: Vec<&'static dyn AnyStep> = phase.steps.to_vec();
        let mut running = FuturesUnordered::new();
        let mut settled: BTreeSet<StepId> = BTreeSet::new();
        let mut changed: BTreeSet<StepId> = BTreeSet::new();
        loop {
            let (ready, rest): (Vec<_>, Vec<_>) = waiting
                .into_iter()
                .partition(|step| step.needs().iter().all(|need| settled.contains(need)));
            waiting = rest;
            let idle = ready.is_empty();
            for step in ready {
                let upstream = self.dirty || step.needs().iter().any(|n| changed.contains(n));
                if !upstream && let Some(record) = self.reusable(step, memory) {
                    if record.state.satisfied() {
                        settled.insert(step.id());
                    }
                    continue;
                }
                let cx = self.cx;
                // Every line that the step logs says which one it is.
                let phase = telemetry::phase(phase.id.as_str());
                let span = phase.in_scope(|| telemetry::step(step.id().as_str()));
                running.push(async move { (step, step.advance(cx).await) }.instrument(span));
            }
            if !idle && running.is_empty() {
                // Everything ready was remembered, which may have met the needs of others.
                continue;
            }
            if self.is_to_announce(*attention.borrow_and_update(), running.len()) {
                let report = self.snapshot(phase, memory, so_far);
                self.announce(report);
            }
            let (step, outcome) = tokio::select! {
                next = running.next() => match next {
                    Some(ended) => ended,
                    None => break,
                },
                written = ended(&mut self.writing) => {
                    self.writing = None;
                    self.written(written);
                    continue;
                }
                Ok(()) = attention.changed() => continue,
            };
            self.sent.extend(outcome.sent.iter().cloned());
            if !outcome.sent.is_empty() {
                changed.insert(step.id());
                for disturbed in step.disturbs() {
                    if let Some(record) = memory.steps.get_mut(disturbed) {
                        record.again = Some(Instant::now());
                    }
                }
            }
            let record = StepRecord::of(
                &self.digest,
                outcome,
                memory.steps.get(&step.id()),
                &self.cx.installation.timing,
                step.rechecked(),
                Instant::now(),
            );
            if record.state.satisfied() {
                memory.intents.settled(step.id());
                settled.insert(step.id());
            }
            memory.steps.insert(step.id(), record);
        }
        // What was not reached is forgotten: its needs are no longer met.
        for step in waiting {
            memory.steps.remove(&step.id());
        }
        self.dirty |= !changed.is_empty();
    }

    /// An app that is not there yet holds nothing: what will be created until a person is asked is
    /// announced at once, while the app is being made. Not before the first phase is done: it says
    /// whether anything may be created.
    fn foresee(&self, phases: &[Phase], gate: &impl Fn(PhaseName) -> Option<GateReport>) {
        let cx = self.cx;
        if !cx.recorded.external.is_empty() || !cx.may_act() {
            return;
        }
        let later = phases.iter().skip(1);
        let later = later.take_while(|phase| gate(phase.id).is_none());
        let this = phases.iter().take(1);
        for step in this.chain(later).flat_map(|phase| phase.steps) {
            for slot in step.foresees(cx) {
                cx.intents.foresee(step.id(), slot);
            }
        }
    }

    /// Whether to write now what is to be announced. What one step waits for, others soon will: so
    /// that one write does for all, it comes when all that run wait for it or have begun to act.
    /// Nobody need wait for what is foreseen.
    fn is_to_announce(&self, attention: Attention, running: usize) -> bool {
        let nobody_looks = attention.waiting + attention.acting >= running;
        let foreseen = attention.waiting == 0;
        self.attending.is_some()
            && self.writing.is_none()
            && (nobody_looks || foreseen)
            && self.cx.intents.to_announce()
    }

    fn announce(&mut self, report: Report) {
        let intents = self.cx.intents.open();
        self.writing = Some(self.herald.announce(report, intents));
    }

    fn written(&mut self, announced: Announced) {
        if announced.is_empty() {
            self.attending = None;
        } else {
            self.cx.intents.written(&announced);
        }
    }

    /// What is known in the middle of the pass.
    fn snapshot(
        &self,
        phase: &Phase,
        memory: &Memory,
        (earlier, gate): (&[PhaseReport], Option<&GateReport>),
    ) -> Report {
        let at_work = |id: PhaseName, steps: Vec<(StepId, StepRecord)>| PhaseReport {
            id,
            state: phase_state(&steps),
            gate: gate.cloned(),
            steps,
        };
        let later = PHASES.iter().skip(earlier.len() + 1);
        let later = later.map(|phase| PhaseReport {
            id: phase.id,
            state: if phase.steps.is_empty() {
                PhaseState::NotImplemented
            } else {
                PhaseState::Pending
            },
            gate: None,
            steps: remembered(phase, memory, &self.digest),
        });
        let steps = remembered(phase, memory, &self.digest);
        Report {
            sent: self.sent.clone(),
            phases: earlier
                .iter()
                .cloned()
                .chain([at_work(phase.id, steps)])
                .chain(later)
                .collect(),
            behind_gate: Vec::new(),
        }
    }

    /// The last look, if it still holds.
    fn reusable<'m>(&self, step: &dyn AnyStep, memory: &'m Memory) -> Option<&'m StepRecord> {
        let record = memory.steps.get(&step.id())?;
        if record.digest != self.digest || self.fired.contains(&step.id()) {
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
}

/// What the phase behind a closed gate would change, as far as it can be told now: looked at
/// once for a target, in order, without acting. What cannot be observed yet is left out.
async fn preview(cx: &Cx, digest: &str, phase: &Phase, memory: &mut Memory) {
    let known = memory.preview.as_ref();
    if known.is_some_and(|known| known.stamp == digest && known.phase == phase.id) {
        return;
    }
    let cx = Cx {
        act: super::Act::Plan,
        ..cx.clone()
    };
    let mut changes = Vec::new();
    for step in phase.steps {
        if let super::step::Stand::Planned(lines) = step.advance(&cx).await.stand {
            // Later steps put right what earlier ones did not do yet: one move, told once.
            for line in lines {
                if !changes.iter().any(|(_, known)| *known == line) {
                    changes.push((step.id(), line));
                }
            }
        }
    }
    memory.preview = Some(super::memory::Preview {
        stamp: digest.to_owned(),
        phase: phase.id,
        changes,
    });
}

/// The end of the write that is under way, if there is one.
async fn ended(writing: &mut Option<BoxFuture<'_, Announced>>) -> Announced {
    match writing {
        Some(writing) => writing.await,
        None => std::future::pending().await,
    }
}

fn remembered(phase: &Phase, memory: &Memory, digest: &str) -> Vec<(StepId, StepRecord)> {
    phase
        .steps
        .iter()
        .map(|step| {
            let record = memory
                .steps
                .get(&step.id())
                .filter(|record| record.digest == digest)
                .cloned()
                .unwrap_or_else(|| StepRecord::pending(digest));
            (step.id(), record)
        })
        .collect()
}

/// The state of a phase follows from its steps: one that is stopped stops it, all that are
/// satisfied end it.
/// The state of a phase that its gate holds back; `None` when the gate is open.
fn held_state(passage: Passage) -> Option<PhaseState> {
    match passage {
        Passage::Open => None,
        Passage::Waiting => Some(PhaseState::AwaitingApproval),
        Passage::Closed => Some(PhaseState::Rejected),
    }
}

fn phase_state(steps: &[(StepId, StepRecord)]) -> PhaseState {
    if steps.iter().all(|(_, step)| step.state.satisfied()) {
        return PhaseState::Succeeded;
    }
    if steps.iter().any(|(_, step)| step.state == State::Blocked) {
        return PhaseState::Failed;
    }
    if steps.iter().any(|(_, step)| step.state == State::Planned) {
        return PhaseState::Planned;
    }
    PhaseState::Running
}

/// When to look again: the earliest of the steps, never in a tight loop. Those of a phase that is not
/// reached are looked at when it is, however long they are due.
pub fn next_look(report: &Report, memory: &Memory, timing: &super::Timing) -> Duration {
    let reached = report.phases.iter().filter(|phase| {
        !matches!(
            phase.state,
            PhaseState::Pending | PhaseState::AwaitingApproval | PhaseState::Rejected
        )
    });
    let steps = reached.flat_map(|phase| &phase.steps);
    let due = steps.filter_map(|(id, _)| memory.steps.get(id)?.again);
    let now = Instant::now();
    due.min()
        .map_or(timing.recheck, |at| at.saturating_duration_since(now))
        .clamp(Duration::from_millis(5), timing.recheck)
}

#[cfg(test)]
mod tests;
