//! Verify: every machine runs the wanted image and configuration, and goes on doing so. Fly.io has
//! been seen to take an update back silently (fly-api.md L), and people change machines by hand:
//! both are found here, and mended as the drift policy allows. This is the look of every re-check.

use jiff::Timestamp;

use super::{
    look::{self, Failure, Look},
    machines::{self, Change},
};
use crate::phase::deploy::{command::one_off::Progress, fleet::strategy::Move, release::rollback};
use crate::{
    pipeline::{Cx, Note, Slot, Step, StepId, Verdict, step::Result},
    plan::Target,
};

/// The proof of what runs.
pub struct Verify;

impl Step for Verify {
    type Observed = Look;
    type Change = Change;

    fn id(&self) -> StepId {
        StepId::Verify
    }

    fn needs(&self) -> &'static [StepId] {
        &[StepId::Health]
    }

    fn disturbs(&self) -> &'static [StepId] {
        &[StepId::Machines, StepId::Health]
    }

    /// A machine that is lost, or was changed by hand, is what users notice first.
    fn vital(&self) -> bool {
        true
    }

    async fn observe(&self, cx: &Cx) -> Result<Look> {
        machines::observe(cx).await
    }

    fn diff(&self, target: &Target, look: &Look, now: Timestamp) -> Verdict<Change> {
        let checks = look.checks.stand(&target.app, now, look.pause);
        match look.plan(true, now).next {
            Move::Nothing if checks == Progress::Passed => {
                match look.judge(&target.app, now, |_| true) {
                    Verdict::Blocked(why) => match look.failed(target, why) {
                        Failure::Stop(why) => Verdict::Blocked(why),
                        Failure::RollBack(cause) => {
                            Verdict::Change(Change::RollBack(rollback::Change::of(look, cause)))
                        }
                        Failure::Record(cause) => {
                            let change = rollback::Change::left(look.release.clone(), cause);
                            Verdict::Change(Change::RollBack(change))
                        }
                    },
                    other => other,
                }
            }
            _ => machines::decide(target, look, now),
        }
    }

    fn notes(&self, _target: &Target, look: &Look) -> Vec<Note> {
        look::notes(look)
    }

    fn intent(&self, _target: &Target, change: &Change) -> Option<Slot> {
        change.intent()
    }

    async fn act(&self, cx: &Cx, change: Change) -> Result<()> {
        machines::apply(cx, change).await
    }
}
