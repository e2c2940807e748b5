//! Wakes an object: what it left to the background has ended.

use std::{fmt, sync::Arc};

use crate::api::StepId;

/// Wakes one object, for a step of one of its targets.
#[derive(Clone)]
pub struct Waker(Arc<dyn Fn(Option<StepId>) + Send + Sync>);

impl Waker {
    /// A waker that calls this.
    pub fn new(wake: impl Fn(Option<StepId>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(wake))
    }

    /// Has the object reconciled as soon as it can be, and the step observe again. Without a step: what was
    /// asked was needed before there is a target.
    pub fn wake(&self, step: Option<StepId>) {
        (self.0)(step);
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Waker").finish()
    }
}
