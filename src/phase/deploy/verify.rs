//! Verify: every machine runs the wanted image and configuration, and continues to. Fly.io sometimes
//! reverts an update without an error, and people change machines by hand: both are found here, and
//! corrected as the drift policy allows. This is the observation of every re-check.

use jiff::Timestamp;

use super::{
    assessment::Assessment,
    command::one_off::Progress,
    fleet::{foreign, next_move::Move},
    judge,
    machines::{self, Change},
};
use crate::{
    pipeline::{Cx, Note, PlannedChange, Slot, Step, StepId, Verdict, step::Result},
    plan::Target,
};

/// The proof of what runs.
pub struct Verify;

impl Step for Verify {
    type Observed = Assessment;
    type Change = Change;

    fn id(&self) -> StepId {
        StepId::Verify
    }

    fn needs(&self) -> &'static [StepId] {
        &[StepId::Health]
    }

    fn invalidates(&self) -> &'static [StepId] {
        &[
            StepId::Machines,
            StepId::Health,
            StepId::EdgeChecks,
            StepId::DatabaseCheck,
            StepId::SteadyMachines,
        ]
    }

    /// Users notice a lost or changed machine first.
    fn always_rechecked(&self) -> bool {
        true
    }

    async fn observe(&self, cx: &Cx) -> Result<Assessment> {
        machines::observe(cx).await
    }

    fn diff(&self, target: &Target, assessment: &Assessment, now: Timestamp) -> Verdict<Change> {
        let pause = assessment.rollout.patience.pause;
        let checks = assessment.checks.progress(&target.app, now, pause);
        if assessment.plan(true, now).next != Move::Nothing || checks != Progress::Passed {
            return machines::decide(target, assessment, now);
        }
        match judge::health(assessment, &target.app, now, |_| true) {
            Verdict::Blocked(why) => match judge::failure(assessment, target, why) {
                Ok(failed) => Verdict::Change(Change::Fail(failed)),
                Err(why) => Verdict::Blocked(why),
            },
            Verdict::Done => assessment
                .rollout
                .doubt
                .map_or(Verdict::Done, Verdict::Holds),
            other => other,
        }
    }

    fn plan(&self, _: &Target, assessment: &Assessment, change: &Change) -> Vec<PlannedChange> {
        machines::plan(assessment, change)
    }

    fn notes(&self, target: &Target, assessment: &Assessment) -> Vec<Note> {
        let rollout = &assessment.rollout;
        let groups = rollout.effective.config.process_groups();
        let groups = groups.into_iter().collect();
        let lines = foreign::lines(&rollout.others, &target.app, &groups);
        let mut notes = assessment.notes();
        notes.extend(lines.into_iter().map(Note::Drift));
        let crash_loop = assessment.crash_loop.as_ref();
        notes.extend(crash_loop.map(|found| Note::Remark(found.why.clone())));
        notes
    }

    fn intent(&self, _target: &Target, change: &Change) -> Option<Slot> {
        change.intent()
    }

    async fn act(&self, cx: &Cx, change: Change) -> Result<()> {
        machines::apply(cx, change).await
    }
}
