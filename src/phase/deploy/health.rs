//! Health: every machine runs and all its checks pass. A machine whose program ended is found at
//! once, with its exit code and its last log lines; no timeout has to pass for that.

use jiff::Timestamp;

use super::{
    assessment::{self, Assessment},
    judge,
    release::failure::{self, FailedRelease},
};
use crate::{
    api::Reason,
    pipeline::{Cx, Note, Step, StepId, Verdict, Wake, Why, step::Result},
    plan::Target,
};

/// The health of the machines.
pub struct Health;

impl Step for Health {
    type Observed = Assessment;
    type Change = FailedRelease;

    fn id(&self) -> StepId {
        StepId::Health
    }

    fn needs(&self) -> &'static [StepId] {
        &[StepId::Machines]
    }

    fn invalidates(&self) -> &'static [StepId] {
        &[StepId::Machines]
    }

    /// From then on `Verify` observes the health too.
    fn rechecked(&self) -> bool {
        false
    }

    async fn observe(&self, cx: &Cx) -> Result<Assessment> {
        assessment::observe(cx).await
    }

    fn diff(
        &self,
        target: &Target,
        assessment: &Assessment,
        now: Timestamp,
    ) -> Verdict<FailedRelease> {
        let rollout = &assessment.rollout;
        // The rollout had ended: what it left is lost or changed, if this look is true.
        let wake = Wake::Earlier {
            step: StepId::Machines,
            pause: rollout.patience.pause,
        };
        if !rollout.lacking().is_empty() {
            return Verdict::Wait {
                why: Why::new(Reason::MachineStarting, "a new machine is not listed yet"),
                wake,
            };
        }
        // After a rollback was decided here the machines still run the failed release: that is no
        // failure of the release that is restored.
        if let Some(machine) = rollout.outdated() {
            return Verdict::Wait {
                why: Why::new(
                    Reason::MachineOutdated,
                    format!(
                        "the machine {} ({}) is to be updated",
                        machine.name, machine.id
                    ),
                ),
                wake,
            };
        }
        match judge::health(assessment, &target.app, now, |_| true) {
            Verdict::Blocked(why) => match judge::failure(assessment, target, why) {
                Ok(failed) => Verdict::Change(failed),
                Err(why) => Verdict::Blocked(why),
            },
            other => other,
        }
    }

    fn notes(&self, _target: &Target, assessment: &Assessment) -> Vec<Note> {
        let slow = judge::slow_start(assessment).map(Note::Remark);
        assessment.notes().into_iter().chain(slow).collect()
    }

    async fn act(&self, cx: &Cx, failed: FailedRelease) -> Result<()> {
        failure::record(cx, failed).await
    }
}
