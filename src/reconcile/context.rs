//! What all reconciles of this process share: clients, memory, waits and limits.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use kube::{
    Resource as _,
    runtime::{events::Event, reflector::ObjectRef},
};

use crate::{
    api::Activation,
    fly,
    net::{probe::Probe, vendor::Vendors},
    notifier::Notifier,
    pipeline::{Fence, Installation},
    plan::room::Room,
    process::{metrics::Metrics, publisher::Publisher, turnstile::Turnstile, workqueue::Object},
    reconcile::memory::Memories,
    redact::{self, Redactor},
    triggers::{Waits, secrets::SecretPoller},
};

/// Shared by all reconciles.
pub struct Context {
    /// Kubernetes.
    pub kube: kube::Client,
    /// Fly.io, without a token.
    pub fly: fly::Fly,
    /// Requests to applications.
    pub probe: Probe,
    /// How many questions to servers outside are under way.
    pub outside: Arc<Turnstile>,
    /// Questions to vendors.
    pub vendors: Vendors,
    /// Metrics of this process.
    pub metrics: Arc<Metrics>,
    /// What all objects have in common.
    pub installation: Arc<Installation>,
    /// Whether this process may write to the outside.
    pub fence: Fence,
    /// Whether this process may publish status and events: also while it stops, but not once another
    /// replica may lead.
    pub leads: Fence,
    /// The shortest pause between two reads of a registry; it overrides a shorter `interval`.
    pub source_interval_min: Duration,
    /// Waits in the background.
    pub waits: Waits,
    /// Which versions of Secrets the objects have read.
    pub secret_poller: SecretPoller,
    /// Publishes events.
    pub publisher: Arc<Publisher>,
    /// Tells people what the statuses say.
    pub notifier: Notifier,
    /// What this process remembers of each object.
    pub memories: Memories,
    /// The room for what objects name.
    pub room: Room,
    /// What is known of the secret values of each object, to keep them out of its texts.
    pub redactors: Redactors,
    /// Whose turn it is to leave a namespace.
    pub departures: Departures,
}

/// Of each namespace, one deleted object at a time gives back what it shares with the others and goes.
/// Two that did so together would each see the other as a user, and nobody would give it back.
#[derive(Debug, Default)]
pub struct Departures(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

impl Departures {
    /// Waits for the turn of an object of this namespace. It ends when what is returned is dropped.
    pub async fn turn(&self, namespace: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let turns = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|_, turns| turns.strong_count() > 0);
            let known = all.get(namespace).and_then(Weak::upgrade);
            let turns = known.unwrap_or_default();
            all.insert(namespace.to_owned(), Arc::downgrade(&turns));
            turns
        };
        turns.lock_owned().await
    }
}

/// The redactors of all objects, by namespace and name.
#[derive(Debug, Default)]
pub struct Redactors(Mutex<HashMap<(String, String), Redactor>>);

impl Redactors {
    /// The redactor of this object.
    pub fn of(&self, namespace: &str, name: &str) -> Redactor {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (namespace.to_owned(), name.to_owned());
        all.entry(place).or_default().clone()
    }

    fn forget(&self, namespace: &str, name: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&(namespace.to_owned(), name.to_owned()));
    }
}

impl Context {
    /// Forgets an object that is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        if let Some(memory) = self.memories.forget(namespace, name) {
            self.waits.forget(&memory.uid);
        }
        let object = ObjectRef::new(name).within(namespace);
        self.waits.take_touched(&object);
        self.secret_poller.forget(namespace, name);
        let gone = Object::new(namespace, name);
        self.notifier.forget(&gone);
        self.metrics.forget(&gone);
        self.redactors.forget(namespace, name);
    }

    /// Has events published about an object, without waiting for it.
    pub fn publish(&self, activation: &Activation, mut events: Vec<Event>) {
        for note in events.iter_mut().filter_map(|event| event.note.as_mut()) {
            redact::in_place(note);
        }
        self.publisher.publish(&activation.object_ref(&()), events);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn one_object_at_a_time_leaves_a_namespace_and_holds_up_no_other() {
        let departures = Departures::default();
        let first = departures.turn("a").await;
        assert!(departures.turn("b").now_or_never().is_some());
        assert!(departures.turn("a").now_or_never().is_none());
        drop(first);
        assert!(departures.turn("a").now_or_never().is_some());
    }
}
