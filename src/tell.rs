//! Tells what a pass has seen: derives the next status, writes it if it changed, and tells the story
//! in events. Every write of a status goes through here, also the one in the middle of a pass that
//! announces what is about to be created.

use std::time::Instant;

use futures::FutureExt;

use crate::{
    api::{Activation, ActivationStatus},
    context::Context,
    error::Error,
    events,
    phase::{
        Owner, Slot, StepId,
        run::{self, Report},
        step::BoxFuture,
    },
    status::{self, Seen, Told},
    target::Target,
};

/// Derives the next status, writes it if it changed, and tells the story in events.
///
/// # Errors
/// When Kubernetes refuses or does not answer.
pub async fn write(
    activation: &Activation,
    context: &Context,
    owner: &Owner,
    told: &Told,
    old: Option<&ActivationStatus>,
    seen: &Seen<'_>,
) -> Result<(), Error> {
    let now = (context.clock)();
    let new = status::next(old, activation, seen, now);
    let written = told.written();
    let overwritten = written
        .as_ref()
        .is_some_and(|written| written.overwritten(activation));
    if overwritten {
        tracing::warn!("somebody else has written the status; it is written anew");
    }
    if overwritten || (old.is_none() && status::foreign(activation)) {
        status::clear(&context.kube, owner).await?;
    }
    let stands = old.filter(|_| !overwritten);
    told.hold_words(None);
    if let (Some(old), Some(written)) = (stands, &written) {
        let due = written.at + context.timing.poll * status::words::POLLS;
        if due > Instant::now() && status::words::only(old, &new) {
            told.hold_words(Some(due));
            return Ok(());
        }
    }
    let written = status::write(&context.kube, owner, stands, &new).await?;
    context.observe_status(owner, activation, old, &new, now);
    if written.is_some() {
        context.publish(activation, events::between(old, &new));
    }
    told.tell(new, written);
    Ok(())
}

/// Writes the status in the middle of a pass.
pub struct Herald<'a> {
    /// The object.
    pub activation: &'a Activation,
    /// What the process shares.
    pub context: &'a Context,
    /// Who it is.
    pub owner: &'a Owner,
    /// What it asks for.
    pub target: &'a Target,
    /// What was told before.
    pub told: Told,
    /// Changes are told and not made.
    pub reporting_drift: bool,
}

impl run::Herald for Herald<'_> {
    fn announce(&self, report: Report, intents: Vec<(StepId, Slot)>) -> BoxFuture<'_, bool> {
        let (activation, told) = (self.activation, &self.told);
        async move {
            let old = told.status().or_else(|| status::own(activation));
            let seen = Seen {
                target: Some(self.target),
                report: Some(&report),
                intents,
                reporting_drift: self.reporting_drift,
                ..Seen::default()
            };
            let written = write(
                activation,
                self.context,
                self.owner,
                told,
                old.as_ref(),
                &seen,
            );
            match written.await {
                Ok(()) => true,
                Err(error) => {
                    // The pass tries once more at its end, and says what is wrong.
                    tracing::debug!(error = %crate::causes::chain(&error), "not announced");
                    false
                }
            }
        }
        .boxed()
    }
}
