//! Publishes events in the background, so that a pass does not wait for them. Events of one object
//! keep their order, and namespaces take turns ([`Mail`]): one that makes thousands of events delays
//! and loses its own.
//!
//! An event that cannot be published is logged and not retried: the status is the record.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::Event;
use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{mail::Mail, recorder::Recorder};

/// Number of workers.
const WORKERS: usize = 4;

/// Time for publishing queued events when the process ends.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// An event, and what it is about.
type Item = (ObjectReference, Event);

/// What the workers share.
#[derive(Default)]
struct Office {
    mail: Mutex<Mail<Item>>,
    added: Notify,
    closed: CancellationToken,
}

impl Office {
    fn mail(&self) -> MutexGuard<'_, Mail<Item>> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Publishes events.
pub struct Publisher {
    office: Arc<Office>,
    workers: Mutex<JoinSet<()>>,
}

impl Publisher {
    /// Starts the workers. Must be called within a tokio runtime.
    pub fn start(recorder: Recorder) -> Self {
        let (recorder, office) = (Arc::new(recorder), Arc::new(Office::default()));
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            workers.spawn(work(recorder.clone(), office.clone()));
        }
        Self {
            office,
            workers: Mutex::new(workers),
        }
    }

    /// Queues events of an object, after those queued before.
    pub fn publish(&self, about: &ObjectReference, events: Vec<Event>) {
        let namespace = about.namespace.as_deref().unwrap_or_default();
        for event in events {
            let reason = event.reason.clone();
            let open = !self.office.closed.is_cancelled();
            if open && self.office.mail().add(namespace, (about.clone(), event)) {
                self.office.added.notify_one();
            } else {
                tracing::warn!(%reason, "event dropped: the queue is full");
            }
        }
    }

    /// Accepts no further events, and waits briefly for queued ones.
    pub async fn close(&self) {
        self.office.closed.cancel();
        let mut workers =
            std::mem::take(&mut *self.workers.lock().unwrap_or_else(PoisonError::into_inner));
        let all = async { while workers.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_WORDS, all).await.is_err() {
            tracing::warn!("some events were not published before shutdown");
        }
    }
}

async fn work(recorder: Arc<Recorder>, office: Arc<Office>) {
    loop {
        let added = office.added.notified();
        let next = office.mail().next();
        if let Some((namespace, (about, event))) = next {
            if let Err(source) = recorder.publish(&event, &about).await {
                let error = crate::causes::chain(&source);
                tracing::warn!(error, reason = %event.reason, "cannot publish an event");
            }
            office.mail().done(namespace);
            // More of this namespace may have come meanwhile.
            office.added.notify_one();
            continue;
        }
        tokio::select! {
            () = added => {}
            // Who publishes goes on with what its namespace has left.
            () = office.closed.cancelled() => return,
        }
    }
}
