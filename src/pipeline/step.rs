//! What a step is: it observes, decides without I/O, and acts without deciding.
//!
//! A step never waits in a worker. It returns [`Verdict::Wait`] and says what would wake it;
//! `crate::triggers` keeps the long poll in the background.

use std::{
    future::Future,
    pin::Pin,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    change::{Sent, StepChange},
    cx::Cx,
    intent::Permit,
    note::Note,
};
use crate::{
    api::{Reason, StepId},
    error::Error,
    fly,
    plan::Target,
};

/// Result of I/O in a step. The error is classified once, in `fly::error` or `crate::error`.
pub type Result<T> = std::result::Result<T, Error>;

/// A machine-readable reason and a sentence for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// Stable: part of the API.
    pub reason: Reason,
    /// One line: what was found, the evidence, and the next action.
    pub message: String,
}

impl Why {
    /// A reason with its sentence.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

/// What a step found.
#[derive(Debug, PartialEq)]
pub enum Verdict<C> {
    /// The world matches the target.
    Done,
    /// The world matched the target, and one look that says otherwise is no proof: it still
    /// counts as done, and is looked at again after this time.
    Holds(Duration),
    /// Not asked for by the spec.
    Skipped(Why),
    /// Apply this change now, then observe again.
    Change(C),
    /// Nothing to do but look again when `wake` fires.
    Wait {
        /// What is awaited.
        why: Why,
        /// What ends the wait.
        wake: Wake,
    },
    /// Only a person or a change elsewhere can help. Looked at again, ever more seldom.
    Blocked(Why),
}

/// What ends a wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Look again after this time.
    After(Duration),
    /// Look again after the operator's poll interval: Fly.io offers no long poll for this.
    Poll,
    /// The Machines API's long poll answers that the machine reached one of these states.
    Machine {
        /// Fly app.
        app: String,
        /// Machine id.
        id: String,
        /// Only this version (`instance_id`) counts, when given.
        version: Option<String>,
        /// The state that is awaited.
        state: fly::MachineState,
        /// Look without the poll's answer after this time: a machine that exits never reaches
        /// the state, and must not be waited for until the end.
        patience: Duration,
    },
}

/// A create that Fly does not make idempotent. It is announced in `status.intents[]`
/// before it is sent, so that after a crash it is looked up before it is sent again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot {
    /// Kind of the external object, such as `ManagedPostgres`.
    pub kind: String,
    /// Its deterministic name.
    pub name: String,
}

/// What became of a removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is observed to be gone.
    Gone,
    /// It stays, as the deletion policy asks. Says what stays, for the report.
    Retained(String),
    /// On its way; look again after the given time.
    Pending {
        /// What is awaited.
        why: Why,
        /// When to look again.
        again: Duration,
    },
}

/// One fact that must hold in the world. See `src/phase/provision/` for examples.
pub trait Step: Send + Sync + 'static {
    /// What `observe` saw. It holds everything that `diff` needs, also facts of earlier steps.
    type Observed: Send + Sync;
    /// What `act` will do.
    type Change: StepChange;

    /// Name in status, events, logs and metrics.
    fn id(&self) -> StepId;

    /// Steps of the same phase that must be done before this one is observed.
    fn needs(&self) -> &'static [StepId] {
        &[]
    }

    /// Earlier steps of the same phase whose last look no longer holds once this one has sent a
    /// change: they are looked at again in the next pass.
    fn disturbs(&self) -> &'static [StepId] {
        &[]
    }

    /// How many Fly reads an `observe` of an unchanged world costs. The re-check of a live
    /// object spends at most three a time.
    fn reads(&self) -> u32 {
        1
    }

    /// Whether every re-check looks at it. The others take turns.
    fn vital(&self) -> bool {
        false
    }

    /// Whether a done step is looked at again at re-checks. Preflight checks are not: they hold
    /// for one target.
    fn rechecked(&self) -> bool {
        true
    }

    /// Reads. Must not change anything, anywhere.
    fn observe(&self, cx: &Cx) -> impl Future<Output = Result<Self::Observed>> + Send;

    /// Decides. Pure: no I/O, no clock, no randomness.
    fn diff(
        &self,
        target: &Target,
        observed: &Self::Observed,
        now: Timestamp,
    ) -> Verdict<Self::Change>;

    /// What the status should tell of the observation beside the step's state. Pure.
    fn notes(&self, _target: &Target, _observed: &Self::Observed) -> Vec<Note> {
        Vec::new()
    }

    /// What the status should tell when the world could not be observed. Pure.
    fn notes_of_failure(&self, _error: &Error) -> Vec<Note> {
        Vec::new()
    }

    /// The slot that must be announced before this change is sent, if Fly does not make it
    /// idempotent.
    fn intent(&self, _target: &Target, _change: &Self::Change) -> Option<Slot> {
        None
    }

    /// The slots that this step will need announced, as far as that can be told before it has
    /// looked: they are announced while earlier steps work, so that nothing waits for it. One that is
    /// not needed in the end does no harm. Pure.
    fn foresees(&self, _cx: &Cx) -> Vec<Slot> {
        Vec::new()
    }

    /// Acts. Must tolerate having run before with the reply lost. Its answer is not believed:
    /// the engine observes again.
    fn act(&self, cx: &Cx, change: Self::Change) -> impl Future<Output = Result<()>> + Send;

    /// Removes what this step made, if the deletion policy asks for it. Must tolerate that it
    /// is gone already, and never removes what is not provably ours.
    fn remove(&self, _cx: &Cx) -> impl Future<Output = Result<Removal>> + Send {
        async { Ok(Removal::Gone) }
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
    /// See [`Step::disturbs`].
    fn disturbs(&self) -> &'static [StepId];
    /// See [`Step::reads`].
    fn reads(&self) -> u32;
    /// See [`Step::vital`].
    fn vital(&self) -> bool;
    /// See [`Step::rechecked`].
    fn rechecked(&self) -> bool;
    /// See [`Step::foresees`].
    fn foresees(&self, cx: &Cx) -> Vec<Slot>;
    /// Observe, diff, act and observe again, until there is nothing to do now.
    fn advance<'a>(&'a self, cx: &'a Cx) -> BoxFuture<'a, Outcome>;
    /// See [`Step::remove`].
    fn remove<'a>(&'a self, cx: &'a Cx) -> BoxFuture<'a, Result<Removal>>;
}

/// Where a step stands after a pass.
#[derive(Debug)]
pub enum Stand {
    /// Observed to match the target.
    Done,
    /// Done as far as is proven; look again after this time.
    Holds(Duration),
    /// Not asked for.
    Skipped(Why),
    /// Plan mode, `drift: Report`, or a closed fence: what would be done.
    Planned(Vec<String>),
    /// The change needs this slot announced first.
    Announce(Slot),
    /// Waiting for a fact.
    Wait {
        /// What is awaited.
        why: Why,
        /// What ends the wait.
        wake: Wake,
    },
    /// Stopped until something changes.
    Blocked(Why),
    /// A call failed.
    Failed {
        /// True when the world could not be observed: nothing is known, nothing is rolled back.
        observing: bool,
        /// What failed.
        error: Error,
    },
}

/// What one pass over one step found and did.
#[derive(Debug)]
pub struct Outcome {
    /// Where the step stands.
    pub stand: Stand,
    /// What the last observation tells the status.
    pub notes: Vec<Note>,
    /// The changes that were sent in this pass.
    pub sent: Vec<Sent>,
}

/// Changes that one step may send in one pass. More than a step ever needs; it stops a step
/// whose change has no effect from spinning.
const MAX_CHANGES: usize = 12;

impl<S: Step> AnyStep for S {
    fn id(&self) -> StepId {
        Step::id(self)
    }

    fn needs(&self) -> &'static [StepId] {
        Step::needs(self)
    }

    fn disturbs(&self) -> &'static [StepId] {
        Step::disturbs(self)
    }

    fn reads(&self) -> u32 {
        Step::reads(self)
    }

    fn vital(&self) -> bool {
        Step::vital(self)
    }

    fn rechecked(&self) -> bool {
        Step::rechecked(self)
    }

    fn foresees(&self, cx: &Cx) -> Vec<Slot> {
        Step::foresees(self, cx)
    }

    fn advance<'a>(&'a self, cx: &'a Cx) -> BoxFuture<'a, Outcome> {
        Box::pin(advance(self, cx))
    }

    fn remove<'a>(&'a self, cx: &'a Cx) -> BoxFuture<'a, Result<Removal>> {
        Box::pin(Step::remove(self, cx))
    }
}

async fn advance<S: Step>(step: &S, cx: &Cx) -> Outcome {
    let mut sent: Vec<Sent> = Vec::new();
    // Once it has sent a change it is not what others wait for to be announced with.
    let mut acting = None;
    loop {
        let observed = match step.observe(cx).await {
            Ok(observed) => observed,
            Err(error) => {
                return Outcome {
                    notes: step.notes_of_failure(&error),
                    stand: Stand::Failed {
                        observing: true,
                        error,
                    },
                    sent,
                };
            }
        };
        let notes = step.notes(&cx.target, &observed);
        let end = |stand, sent| Outcome { stand, notes, sent };
        let change = match step.diff(&cx.target, &observed, cx.now()) {
            Verdict::Done => return end(Stand::Done, sent),
            Verdict::Holds(again) => return end(Stand::Holds(again), sent),
            Verdict::Skipped(why) => return end(Stand::Skipped(why), sent),
            Verdict::Wait { why, wake } => return end(Stand::Wait { why, wake }, sent),
            Verdict::Blocked(why) => return end(Stand::Blocked(why), sent),
            Verdict::Change(change) => change,
        };
        let line = change.to_string();
        let kind = change.kind();
        if !cx.may_act() {
            return end(Stand::Planned(vec![line]), sent);
        }
        if sent.len() >= MAX_CHANGES {
            let why = Why::new(
                Reason::ChangeWithoutEffect,
                format!("{line}: sent, but the next observation still asks for it"),
            );
            return end(
                Stand::Wait {
                    why,
                    wake: Wake::After(
                        cx.installation
                            .timing
                            .backoff_max
                            .min(Duration::from_secs(10)),
                    ),
                },
                sent,
            );
        }
        let mut announced = None;
        if let Some(slot) = step.intent(&cx.target, &change) {
            let permit = cx.intents.before_create(
                Step::id(step),
                &slot,
                Instant::now(),
                cx.installation.timing.settle,
            );
            match permit {
                Permit::Send => announced = Some(slot),
                Permit::Announce => {
                    if cx.intents.announce(&slot).await {
                        // What was seen before it was written may be old.
                        continue;
                    }
                    return end(Stand::Announce(slot), sent);
                }
                Permit::Settle(again) => {
                    let why = Why::new(
                        Reason::OutcomeUnknown,
                        format!(
                            "the outcome of creating {} {} is unknown; looking again before it is sent again",
                            slot.kind, slot.name
                        ),
                    );
                    return end(
                        Stand::Wait {
                            why,
                            wake: Wake::After(again),
                        },
                        sent,
                    );
                }
            }
        }
        // The span names the step; the change is data, so it goes into a field.
        tracing::info!(change = %line, "change");
        if !cx.fence.open() {
            if let Some(slot) = &announced {
                cx.intents.refused(slot);
            }
            let why = Why::new(
                Reason::NotLeading,
                "this replica is stopping or may no longer write",
            );
            return end(
                Stand::Wait {
                    why,
                    wake: Wake::After(Duration::from_secs(1)),
                },
                sent,
            );
        }
        acting.get_or_insert_with(|| cx.intents.act());
        let acted = step.act(cx, change).await;
        if let Err(error) = acted {
            if let Some(slot) = announced.filter(|_| error.surely_not_applied()) {
                cx.intents.refused(&slot);
            }
            return end(
                Stand::Failed {
                    observing: false,
                    error,
                },
                sent,
            );
        }
        sent.push(Sent {
            step: Step::id(step),
            line,
            kind,
        });
    }
}
