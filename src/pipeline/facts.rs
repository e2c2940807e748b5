//! What the steps observed, for later steps and later passes.
//!
//! `observe` sets a fact: a value of a type that its step declares. `act` sets none; what it sent is
//! in the journal ([`Cx::journal`](super::Cx)). Facts live in memory only: after a restart every step
//! observes again before a later one may run.

use std::{
    any::Any,
    sync::{Arc, Mutex, PoisonError},
};

pub use crate::store::image::Image;

use super::{note::Incident, typed_map::TypedMap};
use crate::fly;

/// The facts of one Activation, by type, and what a pass shares beside them.
#[derive(Debug, Default)]
pub struct Facts {
    observed: TypedMap,
    /// The token for the app alone, which the client uses.
    pub app_token: Arc<fly::AppToken>,
    /// The app that the object has claimed: its clients spend the app's rate limits.
    pub claimed: Arc<fly::ClaimedApp>,
    incidents: Mutex<Vec<Incident>>,
}

impl Facts {
    /// The fact of this type.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.observed.get()
    }

    /// Sets the fact of this type.
    pub fn set<T: Any + Send + Sync>(&self, value: T) {
        self.observed.set(value);
    }

    /// Removes the fact of this type.
    pub fn clear<T: Any + Send + Sync>(&self) {
        self.observed.clear::<T>();
    }

    /// Changes the fact of this type, or its default if it is not known.
    pub fn change_or_default<T: Any + Send + Sync + Clone + Default>(
        &self,
        change: impl FnOnce(&mut T),
    ) {
        self.observed.change_or_default(change);
    }

    /// Publishes an incident by an event at the end of the pass.
    pub fn report(&self, incident: Incident) {
        let mut incidents = self
            .incidents
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        incidents.push(incident);
    }

    /// Takes the incidents that were reported since the last call.
    pub fn take_incidents(&self) -> Vec<Incident> {
        let mut incidents = self
            .incidents
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *incidents)
    }

    /// Empty facts of another target of the same object, with the same token for the app.
    pub fn beside(other: &Self) -> Self {
        Self {
            app_token: other.app_token.clone(),
            claimed: other.claimed.clone(),
            ..Self::default()
        }
    }

    /// Forgets all facts. Whose rate limits are spent does not change by that.
    #[must_use]
    pub fn cut_off(&self) -> Self {
        Self {
            claimed: self.claimed.clone(),
            ..Self::default()
        }
    }
}
