//! What this process has told of an object, which its cache may not hold yet.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::Written;
use crate::api::ActivationStatus;

/// The last status that was written, and how the API server stored it. Clones tell the same.
#[derive(Clone, Debug, Default)]
pub struct Told(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    status: Option<ActivationStatus>,
    written: Option<Written>,
    words_due: Option<Instant>,
}

impl Told {
    /// The last status that this process wrote.
    pub fn status(&self) -> Option<ActivationStatus> {
        self.lock().status.clone()
    }

    /// How the API server stored it.
    pub fn written(&self) -> Option<Written> {
        self.lock().written.clone()
    }

    /// When other words for the same state are to be written.
    pub fn words_due(&self) -> Option<Instant> {
        self.lock().words_due
    }

    /// Other words for the same state are held back until then.
    pub fn hold_words(&self, due: Option<Instant>) {
        self.lock().words_due = due;
    }

    /// This status holds now; `written` when that took a write.
    pub fn tell(&self, status: ActivationStatus, written: Option<Written>) {
        let mut inner = self.lock();
        inner.status = Some(status);
        if written.is_some() {
            inner.written = written;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Each change is whole by itself.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
