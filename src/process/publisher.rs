//! Publishes events in the background, so that a pass does not wait for them. Events of one object
//! keep their order.
//!
//! An event that cannot be published is logged and not retried: the status is the record.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::Event;
use tokio::{sync::mpsc, task::JoinSet};

use super::recorder::Recorder;

/// Capacity of the queue of each worker. It fills only after a long outage of the API server;
/// further events are then dropped.
const WAITING: usize = 1024;

/// Number of workers.
const LANES: usize = 4;

/// Time for publishing queued events when the process ends.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Publishes events.
#[derive(Debug)]
pub struct Publisher {
    lanes: Mutex<Vec<mpsc::Sender<(ObjectReference, Event)>>>,
    workers: Mutex<JoinSet<()>>,
}

impl Publisher {
    /// Starts the workers. Must be called within a tokio runtime.
    pub fn start(recorder: Recorder) -> Self {
        let recorder = Arc::new(recorder);
        let mut workers = JoinSet::new();
        let lanes = (0..LANES)
            .map(|_| {
                let (sender, receiver) = mpsc::channel(WAITING);
                workers.spawn(lane(recorder.clone(), receiver));
                sender
            })
            .collect();
        Self {
            lanes: Mutex::new(lanes),
            workers: Mutex::new(workers),
        }
    }

    /// Queues events of an object, after those queued before.
    pub fn publish(&self, about: &ObjectReference, events: Vec<Event>) {
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut hasher = DefaultHasher::new();
        about.uid.hash(&mut hasher);
        let at = usize::try_from(hasher.finish() % LANES as u64).unwrap_or_default();
        for event in events {
            let reason = event.reason.clone();
            let taken = lanes
                .get(at)
                .is_some_and(|lane| lane.try_send((about.clone(), event)).is_ok());
            if !taken {
                tracing::warn!(%reason, "event dropped: the queue is full");
            }
        }
    }

    /// Accepts no further events, and waits briefly for queued ones.
    pub async fn close(&self) {
        self.lanes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        let mut workers =
            std::mem::take(&mut *self.workers.lock().unwrap_or_else(PoisonError::into_inner));
        let all = async { while workers.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_WORDS, all).await.is_err() {
            tracing::warn!("some events were not published before shutdown");
        }
    }
}

async fn lane(recorder: Arc<Recorder>, mut waiting: mpsc::Receiver<(ObjectReference, Event)>) {
    while let Some((about, event)) = waiting.recv().await {
        if let Err(source) = recorder.publish(&event, &about).await {
            let error = crate::causes::chain(&source);
            tracing::warn!(error, reason = %event.reason, "cannot publish an event");
        }
    }
}
