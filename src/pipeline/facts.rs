//! What the steps have observed, for the steps that need it.
//!
//! One step sets a fact, in `observe`; later ones read it. Facts live in memory only: after a
//! restart every step observes again before a later one may run.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use secrecy::SecretString;

pub use crate::store::image::Image;

use super::{note::News, typed_map::TypedMap};
use crate::{
    fly,
    redact::{self, Guarded},
};

/// All facts. Each is set by the step that its comment names.
#[derive(Debug, Default)]
pub struct Facts {
    observed: TypedMap,
    /// The token for the app alone, which the client uses. Set by the step `AppToken`.
    pub app_token: Arc<fly::AppToken>,
    news: Mutex<Vec<News>>,
    guarded: Mutex<BTreeMap<String, Guarded>>,
}

impl std::ops::Deref for Facts {
    type Target = TypedMap;

    fn deref(&self) -> &TypedMap {
        &self.observed
    }
}

impl Facts {
    /// Has this told by an event when the pass has ended.
    pub fn tell(&self, news: News) {
        let mut told = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        told.push(news);
    }

    /// What is to be told, once.
    pub fn take_news(&self) -> Vec<News> {
        std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps a value of the application out of everything that is shown for as long as the object
    /// is remembered: a machine may print it at any time, also after it was replaced.
    pub fn guard(&self, fingerprint: &str, value: &SecretString) {
        self.guarded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(fingerprint.to_owned())
            .or_insert_with(|| redact::guard(value.clone()));
    }

    /// Nothing is known any more, and what was kept out of all that is shown still is.
    #[must_use]
    pub fn cut_off(&self) -> Self {
        let mut guarded = self.guarded.lock().unwrap_or_else(PoisonError::into_inner);
        Self {
            guarded: Mutex::new(std::mem::take(&mut *guarded)),
            ..Self::default()
        }
    }
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

    /// Changes what is known, if anything is.
    pub fn change(&self, change: impl FnOnce(&mut T))
    where
        T: Clone,
    {
        if let Some(known) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            change(Arc::make_mut(known));
        }
    }

    /// Changes what is known, or the default when nothing is.
    pub fn add(&self, change: impl FnOnce(&mut T))
    where
        T: Clone + Default,
    {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(known.get_or_insert_default()));
    }

    /// What was last observed.
    pub fn get(&self) -> Option<Arc<T>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
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
