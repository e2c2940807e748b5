//! Tells what a pass has seen: derives the next status, writes it if it changed, and tells the story
//! in events. Every write of a status goes through here, also the one in the middle of a pass that
//! announces what is about to be created.

use std::time::Instant;

use futures::FutureExt;

use crate::{
    api::{Activation, ActivationStatus, Reason},
    error::Error,
    pipeline::{
        Owner,
        run::{self, Announced, Report},
        step::BoxFuture,
    },
    plan::Target,
    reconcile::context::Context,
    status::{self, Seen, Told, events},
};

/// Tells about one object.
pub struct Teller<'a> {
    /// The object.
    pub activation: &'a Activation,
    /// What the process shares.
    pub context: &'a Context,
    /// Who it is.
    pub owner: &'a Owner,
    /// What was told before.
    pub told: Told,
}

impl Teller<'_> {
    /// Derives the next status, writes it if it changed, and tells the story in events. Answers with
    /// the announced creates that stand in it: it has room for so many.
    ///
    /// # Errors
    /// When Kubernetes refuses or does not answer, and when another replica may lead by now: it knows
    /// better.
    pub async fn write(
        &self,
        old: Option<&ActivationStatus>,
        seen: &Seen<'_>,
    ) -> Result<Announced, Error> {
        let Self {
            activation,
            context,
            owner,
            told,
        } = self;
        let now = (context.installation.clock)();
        let new = status::next(old, activation, seen, now);
        let announced = status::announced(&new, &seen.intents);
        if !context.leads.open() {
            return Err(Error::Blocked {
                reason: Reason::NotLeading,
                message: "this replica may no longer write the status".to_owned(),
            });
        }
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
            let due = written.at + context.installation.timing.poll * status::words::POLLS;
            if due > Instant::now() && status::words::only(old, &new) {
                told.hold_words(Some(due));
                return Ok(announced);
            }
        }
        let written = status::write(&context.kube, owner, stands, &new).await?;
        context.observe_status(owner, activation, old, &new, now);
        if written.is_some() {
            context.publish(activation, events::between(old, &new));
        }
        told.tell(new, written);
        Ok(announced)
    }
}

/// Writes the status in the middle of a pass.
pub struct Herald<'a> {
    /// What writes it.
    pub teller: &'a Teller<'a>,
    /// What the object asks for.
    pub target: &'a Target,
    /// Changes are told and not made.
    pub reporting_drift: bool,
}

impl run::Herald for Herald<'_> {
    fn announce(&self, report: Report, intents: Announced) -> BoxFuture<'_, Announced> {
        async move {
            let old = self.teller.told.status();
            let old = old.or_else(|| status::own(self.teller.activation));
            let seen = Seen {
                target: Some(self.target),
                report: Some(&report),
                intents,
                reporting_drift: self.reporting_drift,
                ..Seen::default()
            };
            match self.teller.write(old.as_ref(), &seen).await {
                Ok(announced) => announced,
                Err(error) => {
                    // The pass tries once more at its end, and says what is wrong.
                    tracing::debug!(error = %crate::causes::chain(&error), "not announced");
                    Vec::new()
                }
            }
        }
        .boxed()
    }
}
