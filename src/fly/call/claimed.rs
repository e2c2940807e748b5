//! Which app an Activation has claimed, and with it whose rate limit a call spends.
//!
//! Fly.io counts calls by app or machine. Everybody may name any app in an Activation, so calls of
//! those who have not claimed it are counted by their token as well: they cannot use up what the
//! app's owner needs. Names of apps are unique at Fly.io and among claims, so an app has one owner.

use std::sync::{Mutex, PoisonError};

/// The app that an Activation has claimed, shared by all its clients. Empty at first.
#[derive(Debug, Default)]
pub struct ClaimedApp(Mutex<Option<String>>);

impl ClaimedApp {
    /// The claim on this app was read, and it is this Activation's.
    pub fn set(&self, app: &str) {
        *self.lock() = Some(app.to_owned());
    }

    /// The claim is not this Activation's, or there is none.
    pub fn clear(&self) {
        *self.lock() = None;
    }

    /// Whether it is this app.
    pub(crate) fn is(&self, app: &str) -> bool {
        self.lock().as_deref() == Some(app)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
