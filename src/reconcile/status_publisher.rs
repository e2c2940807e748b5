//! The publisher of a status: derives the next one, writes it if it changed, and publishes the events
//! and metrics that follow. Every write of a status goes through here, also the one in the
//! middle of a pass that announces creates.

use std::time::Instant;

use futures::FutureExt;
use kube::Api;

use crate::{
    api::{Activation, ActivationStatus, Reason, status::Intent},
    causes,
    error::Error,
    pipeline::{
        Owner,
        advance::BoxFuture,
        announce::{Announced, Announcer},
        report::Report,
    },
    plan::{ServingRelease, Target},
    reconcile::{context::Context, measure},
    status::{self, PassResult, Published, Stored, Unanswered, debounce, events},
    store::plan,
};

/// Tries of one write while others write the object at the same time.
const TRIES: u32 = 8;

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
    /// announced creates that it holds: a status has room for a limited number, and what another
    /// process has announced meanwhile is not ours.
    ///
    /// Each write follows from a version of the object: of two processes that write at the same time,
    /// one gets a conflict, and finds out what the other has announced.
    ///
    /// # Errors
    /// When Kubernetes refuses or does not answer, and when another replica may lead by now.
    pub async fn publish(
        &self,
        old: Option<&ActivationStatus>,
        result: &PassResult<'_>,
    ) -> Result<Announced, Error> {
        let mut known = self.settle().await?;
        let mut tries = 1;
        loop {
            let old = known.as_ref().or(old);
            let (announced, mut new) = self.derive(old, result);
            self.store_whole_plan(old, &mut new, result).await;
            let error = match self.write(old, &new, result).await {
                Ok(()) => return Ok(announced),
                Err(error) => error,
            };
            if !error.is_conflict() {
                return Err(error);
            }
            let Some(found) = self.read().await? else {
                return Err(error);
            };
            if found.status.as_ref() == Some(&new) {
                // Its own write, of which an answer was lost on the way.
                self.written(old, new, Stored::of(&found), result);
                return Ok(announced);
            }
            self.published.observe(&found);
            if self.published.status().is_none() {
                // What the cache had when this process began was outdated.
                known = status::own(&found);
            }
            if tries == TRIES {
                return Err(error);
            }
            tries += 1;
        }
    }

    /// The next status, and the creates that it announces for this process. Pure, but for the time.
    fn derive(
        &self,
        old: Option<&ActivationStatus>,
        result: &PassResult<'_>,
    ) -> (Announced, ActivationStatus) {
        let now = self.context.installation.clock.now();
        let mut new = status::next(old, self.activation, result, now);
        let held = self.published.held();
        status::keep_marks(&mut new, (old, &held), &result.intents);
        status::redact(&mut new);
        // Also in a pass that takes nothing over, because the object is suspended.
        status::with_others(new, &self.published.others(), &result.intents)
    }

    /// Stores the whole plan when the status has no room for it, and removes it when it has. It comes before the
    /// status, which says where it is: what is removed by then is removed again when this process ends in between. A
    /// plan that could not be stored is only counted.
    async fn store_whole_plan(
        &self,
        old: Option<&ActivationStatus>,
        new: &mut ActivationStatus,
        result: &PassResult<'_>,
    ) {
        if !self.context.leads.open() {
            return;
        }
        let kube = &self.context.kube;
        let text = status::whole_plan(new, result);
        let is_stored = |status: &ActivationStatus| {
            let plan = status.plan.as_ref();
            plan.is_some_and(|plan| plan.whole.is_some())
        };
        let done = match text {
            Some(text) => plan::save(kube, self.owner, &text).await,
            None if old.is_some_and(is_stored) && !is_stored(new) => {
                plan::delete(kube, self.owner).await
            }
            None => Ok(()),
        };
        if let Err(error) = done {
            tracing::warn!(error = %causes::chain(&error), "the whole plan is not stored");
            if let Some(plan) = &mut new.plan {
                plan.whole = None;
            }
        }
    }

    /// Writes a status if it changed, and publishes its events.
    async fn write(
        &self,
        old: Option<&ActivationStatus>,
        new: &ActivationStatus,
        result: &PassResult<'_>,
    ) -> Result<(), Error> {
        let context = self.context;
        if !context.leads.open() {
            return Err(Error::Blocked {
                reason: Reason::NotLeading,
                message: "this replica may no longer write the status".to_owned(),
                action: String::new(),
            });
        }
        let current = self.current(old).await?;
        if self.only_a_message_changed(current, new) {
            return Ok(());
        }
        let mut stored = None;
        if current != Some(new) {
            let version = self.published.version();
            let written = status::write(&context.kube, self.owner, version, new).await;
            stored = written.inspect_err(|error| {
                if !error.is_conflict() {
                    self.published.lost_answer(Unanswered {
                        old: old.cloned(),
                        new: new.clone(),
                    });
                }
            })?;
        }
        self.written(old, new.clone(), stored, result);
        Ok(())
    }

    /// The object holds this status; `stored` when that took a write.
    fn written(
        &self,
        old: Option<&ActivationStatus>,
        new: ActivationStatus,
        stored: Option<Stored>,
        result: &PassResult<'_>,
    ) {
        let context = self.context;
        measure::status(context, self.owner, self.activation, result, old, &new);
        if stored.is_some() {
            context.publish(self.activation, events::between(old, &new));
        }
        context.notifier.tell(self.activation, &new);
        self.published.set(new, stored);
    }

    /// Finds out what became of a write whose answer was lost: the next status follows from the one that
    /// the object holds. Otherwise times of conditions would change that were written already, and what
    /// was written would be told by no event. `None`: there was no such write.
    async fn settle(&self) -> Result<Option<ActivationStatus>, Error> {
        let Some(write) = self.published.unanswered() else {
            return Ok(None);
        };
        let Some(found) = self.read().await? else {
            return Ok(None);
        };
        if found.status.as_ref() == Some(&write.new) {
            let events = events::between(write.old.as_ref(), &write.new);
            self.context.publish(self.activation, events);
            self.context.notifier.tell(self.activation, &write.new);
            self.published.set(write.new, Stored::of(&found));
        } else {
            self.published.not_applied();
            self.published.observe(&found);
        }
        Ok(self.published.status().or_else(|| status::own(&found)))
    }

    /// Reads the object. `None`: it is gone, or another one has its name.
    async fn read(&self) -> Result<Option<Activation>, Error> {
        let api: Api<Activation> =
            Api::namespaced(self.context.kube.clone(), &self.owner.namespace);
        let found = api.get_opt(&self.owner.name).await;
        let found = found.map_err(|source| Error::kube("read the status again", source))?;
        Ok(found.filter(|found| found.metadata.uid.as_ref() == Some(&self.owner.uid)))
    }

    /// The status that the object holds now. One that is not its own, or in which others own fields, is
    /// cleared first.
    async fn current<'o>(
        &self,
        old: Option<&'o ActivationStatus>,
    ) -> Result<Option<&'o ActivationStatus>, Error> {
        let overwritten = self.published.overwritten();
        if overwritten.is_some() {
            tracing::warn!("somebody else has written the status; it is written anew");
        }
        let by_stranger = overwritten.is_some_and(|overwritten| overwritten.by_stranger);
        if by_stranger || (old.is_none() && status::foreign(self.activation)) {
            let version = self.published.version();
            let cleared = status::clear(&self.context.kube, self.owner, version).await?;
            if let Some(stored) = cleared {
                self.published.cleared(stored);
            }
        }
        Ok(old.filter(|_| overwritten.is_none()))
    }

    /// True when the two differ in messages of work under way only, and the last write is recent:
    /// then this write waits.
    fn only_a_message_changed(
        &self,
        old: Option<&ActivationStatus>,
        new: &ActivationStatus,
    ) -> bool {
        self.published.hold_message(None);
        if let (Some(old), Some(written)) = (old, self.published.written_at()) {
            let due = written + self.context.installation.timing.poll * debounce::POLLS;
            if due > Instant::now() && debounce::only_messages_differ(old, new) {
                self.published.hold_message(Some(due));
                return true;
            }
        }
        false
    }

    /// The creates that other processes have announced meanwhile, for whoever takes them over.
    pub fn take_others(&self) -> Vec<Intent> {
        self.published.take_others()
    }

    /// Whether another process works on the object too.
    pub fn is_shared(&self) -> bool {
        self.published.is_shared()
    }

    /// This process has changed the metadata of the object: its versions before and after.
    pub fn metadata_changed(&self, versions: (&str, &str)) {
        self.published.metadata_changed(versions);
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
