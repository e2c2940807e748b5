//! What one pass found. Plain data: status, events and metrics are computed from it.

use super::{
    StepId,
    advance::Phase,
    change::Sent,
    observations::Observations,
    record::{State, StepRecord},
};
use crate::{
    api::PhaseName,
    plan::gate::{GateReport, Passage},
};

/// What one pass found.
#[derive(Clone, Debug, Default)]
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
    /// How far it has come.
    pub progress: PhaseProgress,
    /// The gate before it, when there is one and it was reached.
    pub gate: Option<GateReport>,
    /// Its steps, in the order of the table.
    pub steps: Vec<(StepId, StepRecord)>,
}

/// How far a phase has come in one pass. `api::PhaseState` is what the status says of it, also
/// from earlier passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhaseProgress {
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
    /// Plan mode: some steps would change something, or its gate would ask.
    Planned,
    /// The phase is not implemented yet.
    NotImplemented,
}

impl Report {
    /// True when every phase that Go-Live waits for is done.
    pub fn live(&self) -> bool {
        self.phases
            .iter()
            .filter(|phase| phase.id.before_live())
            .all(|phase| phase.progress == PhaseProgress::Succeeded)
    }

    /// What was found in one phase, if the table has it.
    pub fn phase(&self, id: PhaseName) -> Option<&PhaseReport> {
        self.phases.iter().find(|phase| phase.id == id)
    }

    /// The steps of all phases, in order.
    pub fn steps(&self) -> impl DoubleEndedIterator<Item = &(StepId, StepRecord)> {
        self.phases.iter().flat_map(|phase| &phase.steps)
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

impl PhaseReport {
    /// Whether its steps ran in this pass, or were found to be current.
    pub fn is_reached(&self) -> bool {
        let stopped = matches!(
            self.progress,
            PhaseProgress::Pending | PhaseProgress::AwaitingApproval | PhaseProgress::Rejected
        );
        !stopped && !self.is_held()
    }

    /// Whether its gate keeps it from beginning, and could open: what is behind it is previewed.
    pub fn is_held(&self) -> bool {
        let passage = self.gate.as_ref().map(GateReport::passage);
        matches!(passage, Some(Passage::Waiting | Passage::Planned))
    }

    /// A phase whose steps are not run in this pass.
    pub fn not_run(
        phase: &Phase,
        progress: PhaseProgress,
        observations: &Observations,
        stamp: &str,
    ) -> Self {
        Self {
            id: phase.id,
            progress: if phase.steps.is_empty() {
                PhaseProgress::NotImplemented
            } else {
                progress
            },
            gate: None,
            steps: remembered(phase, observations, stamp),
        }
    }
}

/// The last observations of the steps of one phase, for this target.
pub fn remembered(
    phase: &Phase,
    observations: &Observations,
    stamp: &str,
) -> Vec<(StepId, StepRecord)> {
    phase
        .steps
        .iter()
        .map(|step| {
            let record = observations
                .steps
                .get(&step.id())
                .filter(|record| record.stamp == stamp)
                .cloned()
                .unwrap_or_else(|| StepRecord::pending(stamp));
            (step.id(), record)
        })
        .collect()
}

/// The progress of a phase follows from its steps: one that is stopped stops it, all that are
/// satisfied end it.
pub fn phase_progress(steps: &[(StepId, StepRecord)]) -> PhaseProgress {
    if steps.iter().all(|(_, step)| step.state.satisfied()) {
        return PhaseProgress::Succeeded;
    }
    if steps.iter().any(|(_, step)| step.state == State::Blocked) {
        return PhaseProgress::Failed;
    }
    if steps.iter().any(|(_, step)| step.state == State::Planned) {
        return PhaseProgress::Planned;
    }
    PhaseProgress::Running
}
