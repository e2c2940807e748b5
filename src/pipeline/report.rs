//! What one pass found. Plain data: status, events and metrics are computed from it.

use super::{
    StepId,
    advance::Phase,
    change::Sent,
    observations::Observations,
    record::{State, StepRecord},
};
use crate::{
    api::{PhaseName, Reason, preflight::CheckName},
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

    /// Whether what it would change is found beside its steps: its gate keeps it from beginning, or Deploy only plans,
    /// and a change that is not made keeps later steps from being reached.
    pub fn is_previewed(&self) -> bool {
        let mut steps = self.steps.iter();
        let stops = self.id == PhaseName::Deploy && self.progress == PhaseProgress::Planned;
        self.is_held() || stops && steps.any(|(_, record)| record.state == State::Pending)
    }

    /// Whether its plan lists this step already.
    pub fn plans(&self, step: StepId) -> bool {
        let mut steps = self.steps.iter();
        steps.any(|(id, record)| *id == step && record.state == State::Planned)
    }

    /// Whether a step of it plans this change: a later step would correct what an earlier one has not done yet.
    pub fn lists(&self, change: &str) -> bool {
        let mut planned = self.steps.iter().map(|(_, record)| record);
        planned.any(|record| {
            record.state == State::Planned && record.changes.iter().any(|line| line == change)
        })
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
    let mut steps: Vec<(StepId, StepRecord)> = phase
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
        .collect();
    leave_the_token_to_its_check(&mut steps);
    steps
}

/// Whether Fly.io refuses the token for good is for `TokenValid` to say. The checks beside it ask
/// at the same time, so one of them may be refused a moment before it: until `TokenValid` has
/// decided, they have only not been made.
fn leave_the_token_to_its_check(steps: &mut [(StepId, StepRecord)]) {
    let id = StepId::Check(CheckName::TokenValid);
    let undecided = |(step, record): &(StepId, StepRecord)| {
        *step == id && !record.state.satisfied() && record.state != State::Blocked
    };
    if !steps.iter().any(undecided) {
        return;
    }
    for (_, record) in steps {
        if record.state == State::Blocked && record.reason == Reason::TokenInvalid {
            record.state = State::Retrying { observing: true };
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_planned_change_keeps_from_being_reached_is_previewed() {
        let phase = |id, states: &[State]| {
            let record = |state: &State| StepRecord {
                state: state.clone(),
                ..StepRecord::pending("stamp")
            };
            let ids = [StepId::SetSecrets, StepId::Machines];
            let steps: Vec<_> = ids.into_iter().zip(states.iter().map(record)).collect();
            PhaseReport {
                id,
                progress: phase_progress(&steps),
                gate: None,
                steps,
            }
        };
        let stops = [State::Planned, State::Pending];
        let deploy = phase(PhaseName::Deploy, &stops);
        assert!(deploy.is_previewed());
        assert!(deploy.plans(StepId::SetSecrets) && !deploy.plans(StepId::Machines));
        let mut deploy = deploy;
        deploy.steps[0].1.changes = vec!["set the secret A".to_owned()];
        assert!(deploy.lists("set the secret A") && !deploy.lists("create the machines a"));
        let all = [State::Planned, State::Planned];
        assert!(!phase(PhaseName::Deploy, &all).is_previewed());
        // What Provision would make is not known before what it needs is made.
        assert!(!phase(PhaseName::Provision, &stops).is_previewed());
    }

    const TOKEN: StepId = StepId::Check(CheckName::TokenValid);
    const NAME: StepId = StepId::Check(CheckName::AppNameAvailable);

    fn record(state: State, reason: Reason) -> StepRecord {
        StepRecord {
            state,
            reason,
            ..StepRecord::pending("digest")
        }
    }

    /// The states of `TokenValid` and of a check beside it that was refused for good.
    fn beside(token: State, reason: Reason) -> State {
        let mut steps = [
            (TOKEN, record(token, Reason::TokenInvalid)),
            (NAME, record(State::Blocked, reason)),
        ];
        leave_the_token_to_its_check(&mut steps);
        steps[1].1.state.clone()
    }

    #[test]
    fn a_token_that_is_refused_stops_no_check_before_the_check_of_the_token_has_decided() {
        for undecided in [
            State::Pending,
            State::Running,
            State::Waiting,
            State::Retrying { observing: true },
        ] {
            let shown = beside(undecided.clone(), Reason::TokenInvalid);
            assert_eq!(shown, State::Retrying { observing: true }, "{undecided:?}");
        }
    }

    #[test]
    fn a_check_stops_once_the_token_is_decided_and_at_once_for_any_other_cause() {
        for decided in [State::Done, State::Blocked] {
            assert_eq!(beside(decided, Reason::TokenInvalid), State::Blocked);
        }
        let waiting = State::Retrying { observing: true };
        assert_eq!(beside(waiting, Reason::NameTaken), State::Blocked);
    }
}
