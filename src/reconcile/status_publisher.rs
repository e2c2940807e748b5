//! The publisher of a status: derives the next one, writes it if it changed, and publishes the events
//! and metrics that follow. Every write of a status goes through here, also the one in the
//! middle of a pass that announces creates.

use std::time::Instant;

use futures::FutureExt;
use kube::Api;

use crate::{
    api::{Activation, ActivationStatus, Reason},
    error::Error,
    pipeline::{
        Owner,
        advance::BoxFuture,
        announce::{Announced, Announcer},
        report::Report,
    },
    plan::{ServingRelease, Target},
    reconcile::{context::Context, measure},
    status::{self, PassResult, Published, Unanswered, Written, debounce, events},
};

/// Publishes the status of one object.
pub struct StatusPublisher<'a> {
    activation: &'a Activation,
    context: &'a Context,
    owner: &'a Owner,
    published: Published,
}

impl<'a> StatusPublisher<'a> {
    /// A publisher for an object whose last status is `published`.
    pub fn new(
        activation: &'a Activation,
        context: &'a Context,
        owner: &'a Owner,
        published: Published,
    ) -> Self {
        Self {
            activation,
            context,
            owner,
            published,
        }
    }

    /// Derives the next status, writes it if it changed, and publishes its events. Returns the
    /// announced creates that it holds: a status has room for a limited number.
    ///
    /// # Errors
    /// When Kubernetes refuses or does not answer, and when another replica may lead by now.
    pub async fn publish(
        &self,
        old: Option<&ActivationStatus>,
        result: &PassResult<'_>,
    ) -> Result<Announced, Error> {
        let context = self.context;
        let found = self.settle().await?;
        let old = found.as_ref().or(old);
        let now = context.installation.clock.now();
        let mut new = status::next(old, self.activation, result, now);
        status::redact(&mut new);
        let announced = status::announced(&new, &result.intents);
        if !context.leads.open() {
            return Err(Error::Blocked {
                reason: Reason::NotLeading,
                message: "this replica may no longer write the status".to_owned(),
            });
        }
        let current = self.current(old).await?;
        if self.only_a_message_changed(current, &new) {
            return Ok(announced);
        }
        let written = status::write(&context.kube, self.owner, current, &new).await;
        let written = written.inspect_err(|_| {
            self.published.lost_answer(Unanswered {
                old: old.cloned(),
                new: new.clone(),
            });
        })?;
        measure::status(context, self.owner, self.activation, result, old, &new);
        if written.is_some() {
            context.publish(self.activation, events::between(old, &new));
        }
        self.published.set(new, written);
        Ok(announced)
    }

    /// Finds out what became of a write whose answer was lost: the next status follows from the one that
    /// the object holds. Otherwise times of conditions would change that were written already, and what
    /// was written would be told by no event. `None`: there was no such write.
    async fn settle(&self) -> Result<Option<ActivationStatus>, Error> {
        let Some(write) = self.published.unanswered() else {
            return Ok(None);
        };
        let api: Api<Activation> =
            Api::namespaced(self.context.kube.clone(), &self.owner.namespace);
        let found = api.get_opt(&self.owner.name).await;
        let found = found.map_err(|source| Error::kube("read the status again", source))?;
        let found = found.filter(|found| found.metadata.uid.as_ref() == Some(&self.owner.uid));
        let Some(found) = found else {
            return Ok(None);
        };
        if found.status.as_ref() == Some(&write.new) {
            let events = events::between(write.old.as_ref(), &write.new);
            self.context.publish(self.activation, events);
        }
        let status = status::own(&found);
        self.published.found(status.clone(), Written::of(found));
        Ok(status)
    }

    /// The status that the object holds now. One that is not its own, or that somebody else wrote
    /// over ours, is cleared first.
    async fn current<'o>(
        &self,
        old: Option<&'o ActivationStatus>,
    ) -> Result<Option<&'o ActivationStatus>, Error> {
        let written = self.published.written();
        let overwritten = written.is_some_and(|written| written.overwritten(self.activation));
        if overwritten {
            tracing::warn!("somebody else has written the status; it is written anew");
        }
        if overwritten || (old.is_none() && status::foreign(self.activation)) {
            status::clear(&self.context.kube, self.owner).await?;
        }
        Ok(old.filter(|_| !overwritten))
    }

    /// True when the two differ in messages of work under way only, and the last write is recent:
    /// then this write waits.
    fn only_a_message_changed(
        &self,
        old: Option<&ActivationStatus>,
        new: &ActivationStatus,
    ) -> bool {
        self.published.hold_message(None);
        if let (Some(old), Some(written)) = (old, self.published.written()) {
            let due = written.at + self.context.installation.timing.poll * debounce::POLLS;
            if due > Instant::now() && debounce::only_messages_differ(old, new) {
                self.published.hold_message(Some(due));
                return true;
            }
        }
        false
    }

    /// What announces creates in the middle of a pass for this target.
    pub fn announcer(&'a self, target: &'a Target, reporting_drift: bool) -> StatusAnnouncer<'a> {
        StatusAnnouncer {
            publisher: self,
            target,
            reporting_drift,
        }
    }
}

/// Writes the status in the middle of a pass.
pub struct StatusAnnouncer<'a> {
    publisher: &'a StatusPublisher<'a>,
    target: &'a Target,
    reporting_drift: bool,
}

impl Announcer for StatusAnnouncer<'_> {
    fn announce(&self, report: Report, intents: Announced) -> BoxFuture<'_, Announced> {
        async move {
            let publisher = self.publisher;
            let old = publisher.published.status();
            let old = old.or_else(|| status::own(publisher.activation));
            let before = old.as_ref().and_then(ServingRelease::of_status);
            let result = PassResult {
                serving: status::serving(&report, before.as_ref()),
                wanted: Some(self.target),
                report: Some(&report),
                intents,
                reporting_drift: self.reporting_drift,
                ..PassResult::default()
            };
            match publisher.publish(old.as_ref(), &result).await {
                Ok(announced) => announced,
                Err(error) => {
                    // The pass tries once more at its end, and reports the error.
                    tracing::debug!(error = %crate::causes::chain(&error), "not announced");
                    Vec::new()
                }
            }
        }
        .boxed()
    }
}
