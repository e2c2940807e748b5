//! What the steps of this folder have in common: they run a one-off machine for a release, decide on
//! what became of it in one way, and are done once it has ended well.

use std::future::Future;

use jiff::Timestamp;

use super::observation::{self, Change, Observation};
use crate::{
    pipeline::{Cx, Note, PlannedChange, Slot, Step, StepChange, StepId, Verdict, step::Result},
    plan::Target,
};

/// A step that runs a one-off machine once for a release.
pub trait OneOffStep: Send + Sync + 'static {
    /// See [`Step::id`].
    const ID: StepId;
    /// See [`Step::needs`].
    const NEEDS: &'static [StepId];

    /// See [`Step::expected_creates`].
    fn expected_creates(&self, _cx: &Cx) -> Vec<Slot> {
        Vec::new()
    }

    /// The run of the command for the target, as data; `None`: the target has no such command.
    fn run(&self, target: &Target) -> Option<PlannedChange>;

    /// See [`Step::observe`].
    fn observe(&self, cx: &Cx) -> impl Future<Output = Result<Observation>> + Send;
}

/// Such a step, for the table of its phase.
pub struct OneOff<S>(pub S);

impl<S: OneOffStep> Step for OneOff<S> {
    type Observed = Observation;
    type Change = Change;

    fn id(&self) -> StepId {
        S::ID
    }

    fn needs(&self) -> &'static [StepId] {
        S::NEEDS
    }

    /// What has run well is not run again.
    fn rechecked(&self) -> bool {
        false
    }

    fn expected_creates(&self, cx: &Cx) -> Vec<Slot> {
        self.0.expected_creates(cx)
    }

    async fn observe(&self, cx: &Cx) -> Result<Observation> {
        self.0.observe(cx).await
    }

    fn diff(&self, target: &Target, observation: &Observation, now: Timestamp) -> Verdict<Change> {
        observation.decide(target, now)
    }

    /// What is recorded before the command runs is no change beside the run.
    fn plan(
        &self,
        target: &Target,
        _observation: &Observation,
        change: &Change,
    ) -> Vec<PlannedChange> {
        let runs = matches!(change, Change::Begin(_)) || change.runs();
        let run = self.0.run(target).filter(|_| runs);
        run.map_or_else(|| change.planned(), |run| vec![run])
    }

    fn expected(&self, cx: &Cx) -> Vec<PlannedChange> {
        self.0.run(&cx.target).into_iter().collect()
    }

    fn notes(&self, _target: &Target, observation: &Observation) -> Vec<Note> {
        observation.notes()
    }

    fn intent(&self, _target: &Target, change: &Change) -> Option<Slot> {
        change.intent()
    }

    async fn act(&self, cx: &Cx, change: Change) -> Result<()> {
        observation::apply(cx, change).await
    }
}
