//! What the steps observed, for later steps and later passes.
//!
//! `observe` sets a fact: a value of a type that its step declares. `act` sets none; what it sent is
//! in the journal ([`Cx::journal`](super::Cx)). Facts live in memory only: after a restart every step
//! observes again before a later one may run.

use std::{
    any::Any,
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use secrecy::SecretString;

pub use crate::store::image::Image;

use super::{note::Incident, typed_map::TypedMap};
use crate::{
    fly,
    redact::{self, Guarded},
};

/// The facts of one Activation, by type, and what a pass shares beside them.
#[derive(Debug, Default)]
pub struct Facts {
    observed: TypedMap,
    /// The token for the app alone, which the client uses.
    pub app_token: Arc<fly::AppToken>,
    /// The app that the object has claimed: its clients spend the app's rate limits.
    pub claimed: Arc<fly::ClaimedApp>,
    incidents: Mutex<Vec<Incident>>,
    guarded: Mutex<BTreeMap<String, Guarded>>,
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

    /// Redacts a value of the application in all output for as long as the object is remembered: a
    /// machine may print it at any time, also after it was replaced.
    pub fn guard(&self, fingerprint: &str, value: &SecretString) {
        self.guarded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(fingerprint.to_owned())
            .or_insert_with(|| redact::guard(value.clone()));
    }

    /// Empty facts of another target of the same object, with the same token for the app.
    pub fn beside(other: &Self) -> Self {
        Self {
            app_token: other.app_token.clone(),
            claimed: other.claimed.clone(),
            ..Self::default()
        }
    }

    /// Forgets all facts; guarded values stay guarded.
    #[must_use]
    pub fn cut_off(&self) -> Self {
        let mut guarded = self.guarded.lock().unwrap_or_else(PoisonError::into_inner);
        Self {
            claimed: self.claimed.clone(),
            guarded: Mutex::new(std::mem::take(&mut *guarded)),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guarded_value_is_redacted_as_long_as_the_object_is_remembered() {
        let value = "made-up-and-printed-by-a-machine-61c0";
        let facts = Facts::default();
        facts.guard("print", &SecretString::from(value));
        assert_eq!(redact::redact(value), redact::REDACTED);
        drop(facts);
        assert_eq!(redact::redact(value), value);
    }
}
