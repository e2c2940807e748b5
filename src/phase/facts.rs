//! What the steps have observed, for the steps that need it.
//!
//! One step sets a fact, in `observe`; later ones read it. Facts live in memory only: after a
//! restart every step observes again before a later one may run.

use crate::fly;
use std::sync::{Arc, Mutex, PoisonError};

/// All facts. Each is set by the step that its comment names.
#[derive(Debug, Default)]
pub struct Facts {
    /// The app. Set by the step `App`.
    pub app: Fact<fly::App>,
    /// The image to run. Set by the preflight check on the image and by the step `Image`.
    pub image: Fact<Image>,
    /// Version of the app's secrets that machines must see. Set by the steps that push secrets.
    pub secrets_version: Fact<i64>,
    /// The app's live machines. Set by the steps of Deploy.
    pub machines: Fact<Vec<fly::Machine>>,
}

/// An image that was resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// As the spec names it.
    pub reference: String,
    /// Reference with the digest, as machines get it: `registry/repository@sha256:...`.
    pub pinned: String,
    /// `sha256:...`.
    pub digest: String,
}

/// One fact: unknown until its step has observed it.
#[derive(Debug)]
pub struct Fact<T>(Mutex<Option<Arc<T>>>);

impl<T> Default for Fact<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Fact<T> {
    /// Sets what was observed just now.
    pub fn set(&self, value: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(value));
    }

    /// Forgets: the thing is not there.
    pub fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What was last observed.
    pub fn get(&self) -> Option<Arc<T>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
