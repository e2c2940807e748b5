//! What all reconciles of this process share: clients, memory, waits and limits.

use std::{sync::Arc, time::Duration};

use kube::{
    Resource as _,
    runtime::{events::Event, reflector::ObjectRef},
};

use crate::{
    api::Activation,
    fly,
    net::probe::Probe,
    pipeline::{Fence, Installation},
    process::{metrics::Metrics, publisher::Publisher, turnstile::Turnstile, workqueue::Object},
    reconcile::memory::Memories,
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
    pub publisher: Publisher,
    /// What this process remembers of each object.
    pub memories: Memories,
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
        self.metrics.forget(&Object::new(namespace, name));
    }

    /// Has events published about an object, without waiting for it.
    pub fn publish(&self, activation: &Activation, events: Vec<Event>) {
        self.publisher.publish(&activation.object_ref(&()), events);
    }
}
