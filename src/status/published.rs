//! The status that this process wrote last, which its cache may not hold yet.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::Written;
use crate::api::ActivationStatus;

/// The last status that was written, and how the API server stored it. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Published(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    status: Option<ActivationStatus>,
    written: Option<Written>,
    message_due: Option<Instant>,
    unanswered: Option<Unanswered>,
}

/// A write whose answer is lost: the API server may have stored it or not.
#[derive(Clone, Debug)]
pub struct Unanswered {
    /// The status before.
    pub old: Option<ActivationStatus>,
    /// The status that was to be written.
    pub new: ActivationStatus,
}

impl Published {
    /// The last status that this process wrote.
    pub fn status(&self) -> Option<ActivationStatus> {
        self.lock().status.clone()
    }

    /// How the API server stored it.
    pub fn written(&self) -> Option<Written> {
        self.lock().written.clone()
    }

    /// When a held message is written.
    pub fn message_due(&self) -> Option<Instant> {
        self.lock().message_due
    }

    /// Holds a message for the same state back until then.
    pub fn hold_message(&self, due: Option<Instant>) {
        self.lock().message_due = due;
    }

    /// Notes a write whose answer is lost.
    pub fn lost_answer(&self, write: Unanswered) {
        self.lock().unanswered = Some(write);
    }

    /// The write whose answer is lost, if there is one.
    pub fn unanswered(&self) -> Option<Unanswered> {
        self.lock().unanswered.clone()
    }

    /// The object has been read again: it holds this status.
    pub fn found(&self, status: Option<ActivationStatus>, stored: Option<Written>) {
        let mut inner = self.lock();
        inner.status = status;
        inner.written = stored;
        inner.unanswered = None;
    }

    /// Sets the present status; `written` when that took a write.
    pub fn set(&self, status: ActivationStatus, written: Option<Written>) {
        let mut inner = self.lock();
        inner.status = Some(status);
        inner.unanswered = None;
        if written.is_some() {
            inner.written = written;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Each change is whole by itself.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
