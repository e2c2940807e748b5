//! One step in one pass: observe, diff, act, and observe again until there is nothing to do now.

use std::{
    future::Future,
    ops::ControlFlow::{self, Break, Continue},
    pin::Pin,
    time::{Duration, Instant},
};

use super::{
    StepId,
    change::{PlannedChange, Sent, StepChange},
    cx::Cx,
    intent::Permit,
    step::{Outcome, Progress, Step},
    verdict::{Removal, Result, Slot, Verdict, Wake, Why},
};
use crate::{
    api::{PhaseName, Reason},
    error::Error,
    plan::cost::Billed,
    process::outside,
};

/// One line of the table of phases.
pub struct Phase {
    /// Its name.
    pub id: PhaseName,
    /// In the order in which they are reported; removed in reverse. Empty: not implemented
    /// yet, and the status says so.
    pub steps: &'static [&'static dyn AnyStep],
}

impl Phase {
    /// Whether the step is part of the table. A need that is not counts as met: it was met when what
    /// serves went live.
    pub fn has(&self, id: StepId) -> bool {
        self.steps.iter().any(|step| step.id() == id)
    }
}

/// A boxed future of an erased step.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A step whose types are erased, so that a phase can list its steps.
pub trait AnyStep: Send + Sync {
    /// See [`Step::id`].
    fn id(&self) -> StepId;
    /// See [`Step::needs`].
    fn needs(&self) -> &'static [StepId];
    /// See [`Step::invalidates`].
    fn invalidates(&self) -> &'static [StepId];
    /// See [`Step::reads`].
    fn reads(&self) -> u32;
    /// See [`Step::reads_overview`].
    fn reads_overview(&self) -> bool;
    /// See [`Step::always_rechecked`].
    fn always_rechecked(&self) -> bool;
    /// See [`Step::rechecked`].
    fn rechecked(&self) -> bool;
    /// See [`Step::expected_creates`].
    fn expected_creates(&self, cx: &Cx) -> Vec<Slot>;
    /// See [`Step::expected`].
    fn expected(&self, cx: &Cx) -> Vec<PlannedChange>;
    /// See [`Step::billed`].
    fn billed(&self, cx: &Cx) -> Vec<Billed>;
    /// See [`Step::is_foundation`].
    fn is_foundation(&self) -> bool;
    /// Observe, diff, act and observe again, until there is nothing to do now.
    fn advance<'a>(&'a self, cx: &'a Cx) -> BoxFuture<'a, Outcome>;
    /// See [`Step::remove`].
    fn remove<'a>(&'a self, cx: &'a Cx) -> BoxFuture<'a, Result<Removal>>;
}

impl<S: Step> AnyStep for S {
    fn id(&self) -> StepId {
        Step::id(self)
    }

    fn needs(&self) -> &'static [StepId] {
        Step::needs(self)
    }

    fn invalidates(&self) -> &'static [StepId] {
        Step::invalidates(self)
    }

    fn reads(&self) -> u32 {
        Step::reads(self)
    }

    fn reads_overview(&self) -> bool {
        Step::reads_overview(self)
    }

    fn always_rechecked(&self) -> bool {
        Step::always_rechecked(self)
    }

    fn rechecked(&self) -> bool {
        Step::rechecked(self)
    }

    fn expected_creates(&self, cx: &Cx) -> Vec<Slot> {
        Step::expected_creates(self, cx)
    }

    fn expected(&self, cx: &Cx) -> Vec<PlannedChange> {
        Step::expected(self, cx)
    }

    fn billed(&self, cx: &Cx) -> Vec<Billed> {
        Step::billed(self, cx)
    }

    fn is_foundation(&self) -> bool {
        Step::is_foundation(self)
    }

    fn advance<'a>(&'a self, cx: &'a Cx) -> BoxFuture<'a, Outcome> {
        // The large part on the heap first: it is moved into the outer one.
        let advance = Box::pin(advance(self, cx));
        Box::pin(outside::of_step(Step::id(self), advance))
    }

    fn remove<'a>(&'a self, cx: &'a Cx) -> BoxFuture<'a, Result<Removal>> {
        Box::pin(Step::remove(self, cx))
    }
}

/// Changes that one step may send in one pass. More than a step ever needs; it stops a step
/// whose change has no effect from spinning.
const MAX_CHANGES: usize = 12;

/// Pause before a step whose changes have no effect tries again, if the operator's longest
/// pause is not shorter.
const NO_EFFECT_PAUSE: Duration = Duration::from_secs(10);

/// Pause before a replica that may not write observes again.
pub const CLOSED_FENCE_PAUSE: Duration = Duration::from_secs(1);

async fn advance<S: Step>(step: &S, cx: &Cx) -> Outcome {
    let mut sent: Vec<Sent> = Vec::new();
    // A step that has sent a change no longer delays the write that announces the creates of others.
    let mut acting = None;
    loop {
        let observed = match step.observe(cx).await {
            Ok(observed) => observed,
            Err(error) => {
                return Outcome {
                    notes: step.notes_of_failure(&error),
                    progress: failed(error, true),
                    sent,
                };
            }
        };
        cx.outside.observed(Step::id(step));
        let notes = step.notes(&cx.target, &observed);
        let end = |progress, sent| Outcome {
            progress,
            notes,
            sent,
        };
        let change = match settle(step.diff(&cx.target, &observed, cx.fly_now())) {
            Continue(change) => change,
            Break(progress) => return end(progress, sent),
        };
        let may_act = cx.may_act() || cx.ends_releases && change.ends_release();
        if !may_act {
            let planned = step.plan(&cx.target, &observed, &change);
            let planned = planned.into_iter().map(PlannedChange::finished);
            return end(Progress::Planned(planned.collect()), sent);
        }
        let line = change.to_string();
        let kind = change.kind();
        let slot = match permit(step, cx, &change, &line, sent.len()).await {
            Continue(Some(Ready(slot))) => slot,
            Continue(None) => continue,
            Break(progress) => return end(progress, sent),
        };
        acting.get_or_insert_with(|| cx.intents.act());
        cx.note_change();
        if let Err(error) = step.act(cx, change).await {
            if let Some(slot) = slot.filter(|_| error.surely_not_applied()) {
                cx.intents.refused(&slot);
            }
            return end(failed(error, false), sent);
        }
        sent.push(Sent {
            step: Step::id(step),
            line,
            kind,
        });
    }
}

/// The progress of a step of which a call failed, or has not been answered yet.
fn failed(error: Error, observing: bool) -> Progress {
    match error {
        Error::Awaited(_) => Progress::Awaited(Why::new(Reason::Waiting, error.to_string())),
        error => Progress::Failed { observing, error },
    }
}

/// The change of a verdict, or the progress that any other verdict leads to.
fn settle<C>(verdict: Verdict<C>) -> ControlFlow<Progress, C> {
    match verdict {
        Verdict::Change(change) => Continue(change),
        Verdict::Done => Break(Progress::Done),
        Verdict::Holds(again) => Break(Progress::Holds(again)),
        Verdict::Skipped(why) => Break(Progress::Skipped(why)),
        Verdict::Wait { why, wake } => Break(Progress::Wait { why, wake }),
        Verdict::Blocked(why) => Break(Progress::Blocked(why)),
    }
}

/// A change may be sent now; with the slot that was announced for it.
struct Ready(Option<Slot>);

/// Whether a change may be sent now, after `sent` others in this pass. `Continue(None)`: its slot was
/// announced meanwhile, and what was observed before that may be stale.
async fn permit<S: Step>(
    step: &S,
    cx: &Cx,
    change: &S::Change,
    line: &str,
    sent: usize,
) -> ControlFlow<Progress, Option<Ready>> {
    if sent >= MAX_CHANGES {
        let message = format!("{line}: sent, but the next observation still requires it");
        let pause = cx.installation.timing.backoff_max.min(NO_EFFECT_PAUSE);
        return Break(wait(Reason::ChangeWithoutEffect, message, pause));
    }
    let slot = step.intent(&cx.target, change);
    if let Some(slot) = &slot {
        let settle = cx.installation.timing.settle;
        let permit = cx
            .intents
            .before_create(Step::id(step), slot, Instant::now(), settle);
        match permit {
            Permit::Send => {}
            Permit::Announce if cx.intents.announce(slot).await => return Continue(None),
            Permit::Announce => return Break(Progress::Announce(slot.clone())),
            Permit::Settle(again) => {
                let message = format!(
                    "the outcome of creating {} {} is unknown; looking again before it is sent again",
                    slot.kind, slot.name
                );
                return Break(wait(Reason::OutcomeUnknown, message, again));
            }
        }
    }
    // The span names the step; the change is data, so it goes into a field.
    tracing::info!(change = %line, "change");
    if !cx.fence.open() {
        if let Some(slot) = &slot {
            cx.intents.refused(slot);
        }
        let message = "this replica is stopping or may no longer write".to_owned();
        return Break(wait(Reason::NotLeading, message, CLOSED_FENCE_PAUSE));
    }
    Continue(Some(Ready(slot)))
}

fn wait(reason: Reason, message: String, again: Duration) -> Progress {
    Progress::Wait {
        why: Why::new(reason, message),
        wake: Wake::After(again),
    }
}
