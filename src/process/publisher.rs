//! Events are published in the background, those of one object in their order: a pass does not
//! wait until its story is told.
//!
//! An event that cannot be published is logged and not tried again: events are a story for people,
//! the status is the record.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, Recorder};
use tokio::{sync::mpsc, task::JoinSet};

/// Events that may wait in each lane. Beyond that the API server has been away for long, and the
/// newest are dropped: what they tell stands in the status.
const WAITING: usize = 1024;

/// Events of different objects that are published at a time.
const LANES: usize = 4;

/// How long what waits may take when the process ends.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Publishes events.
#[derive(Debug)]
pub struct Publisher {
    lanes: Mutex<Vec<mpsc::Sender<(ObjectReference, Event)>>>,
    workers: Mutex<JoinSet<()>>,
}

impl Publisher {
    /// Starts to publish with this recorder. Must be called within a tokio runtime.
    pub fn start(recorder: &Recorder) -> Self {
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

    /// Has these published about an object, after what was given before.
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
                tracing::warn!(%reason, "event lost: too many wait to be published");
            }
        }
    }

    /// Takes no more, and waits a moment for what is under way.
    pub async fn close(&self) {
        self.lanes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        let mut workers =
            std::mem::take(&mut *self.workers.lock().unwrap_or_else(PoisonError::into_inner));
        let all = async { while workers.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_WORDS, all).await.is_err() {
            tracing::warn!("some events were not published before the end");
        }
    }
}

async fn lane(recorder: Recorder, mut waiting: mpsc::Receiver<(ObjectReference, Event)>) {
    while let Some((about, event)) = waiting.recv().await {
        if let Err(source) = recorder.publish(&event, &about).await {
            let error = crate::causes::chain(&source);
            tracing::warn!(error, reason = %event.reason, "cannot publish an event");
        }
    }
}
