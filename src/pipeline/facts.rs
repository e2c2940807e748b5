//! What the steps have observed, for the steps that need it.
//!
//! One step sets a fact, in `observe`; later ones read it. Facts live in memory only: after a
//! restart every step observes again before a later one may run.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use secrecy::SecretString;

pub use crate::store::image::Image;

use super::{note::News, typed_map::TypedMap};
use crate::{
    api::status::SecretStatus,
    fly,
    redact::{self, Guarded},
};

/// All facts. Each is set by the step that its comment names.
#[derive(Debug, Default)]
pub struct Facts {
    observed: TypedMap,
    /// The app. Set by the step `App`.
    pub app: Fact<fly::App>,
    /// Our claim on the app. Set by the step `App`.
    pub claim: Fact<crate::store::claim::Claim>,
    /// The token for the app alone, which the client uses. Set by the step `AppToken`.
    pub app_token: Arc<fly::AppToken>,
    /// The one that this process made last, by its id, and when. Set by the step `AppToken`.
    pub app_token_made: Fact<(String, std::time::Instant)>,
    /// The database. Set by the step `Postgres`.
    pub database: Fact<Database>,
    /// Why the declared fallback database is in use. Set by `Postgres` and `Attach`.
    pub database_fallback: Fact<String>,
    /// Addresses that this process assigned. Set by the step `Addresses`.
    pub addresses: Fact<BTreeSet<String>>,
    /// Since when addresses that are on record are not listed. Set by the step `Addresses`.
    pub addresses_lack_since: Fact<std::time::Instant>,
    /// `DATABASE_URL` as it follows from the cluster. Set by the step `Attach`.
    pub database_url: Fact<SecretString>,
    /// Version of the secrets of legacy Fly Postgres that its machines must see. Set by `Postgres`.
    pub fly_postgres_secrets: Fact<u64>,
    /// Legacy Fly Postgres: the size, in GB, that no volume is below. Set by `Postgres`.
    pub fly_postgres_volumes: Fact<u32>,
    /// Attempts to attach that failed in a row.
    pub attach_failures: Fact<u32>,
    /// `REDIS_URL` as it was last seen. Set by the step `Redis`.
    pub redis_url: Fact<SecretString>,
    /// The app's secrets at Fly.io and when they were read. Shared by the steps that push.
    pub secret_list: Fact<(Instant, Vec<fly::secrets::AppSecret>)>,
    /// Version of the app's secrets that machines must see. Set by the steps that push secrets.
    pub secrets_version: Fact<u64>,
    /// What stood at Fly.io under the app's name before it was created. Set by the step `App`.
    pub app_free: Fact<(Instant, BTreeSet<String>)>,
    /// The app as it was last seen, and when. Set by the step `App`.
    pub app_there: Fact<(Instant, fly::App)>,
    /// The DNS records that hostnames need, which the list of certificates does not tell. Set by the
    /// step `Certificates`.
    pub dns: Fact<BTreeMap<String, fly::certificates::DnsRequirements>>,
    /// Tries of the smoke checks. Set by the step `EdgeChecks`.
    pub smoke_tries: Fact<crate::phase::smoke_test::edge::AllTries>,
    /// Tries of the checks of the database. Set by the step `DatabaseCheck`.
    pub database_tries: Fact<crate::phase::smoke_test::edge::AllTries>,
    /// What is known about running commands in machines. Set by the step `DatabaseCheck`.
    pub exec: Fact<crate::phase::smoke_test::database::Known>,
    news: Mutex<Vec<News>>,
    pushed: Mutex<BTreeMap<String, SecretStatus>>,
    guarded: Mutex<BTreeMap<String, Guarded>>,
}

impl std::ops::Deref for Facts {
    type Target = TypedMap;

    fn deref(&self) -> &TypedMap {
        &self.observed
    }
}

impl Facts {
    /// What this process pushed, by name.
    pub fn pushed(&self) -> BTreeMap<String, SecretStatus> {
        self.lock_pushed().clone()
    }

    /// Has this told by an event when the pass has ended.
    pub fn tell(&self, news: News) {
        let mut told = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        told.push(news);
    }

    /// What is to be told, once.
    pub fn take_news(&self) -> Vec<News> {
        std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Records a secret that was pushed.
    pub fn record_push(&self, secret: SecretStatus) {
        self.lock_pushed().insert(secret.name.clone(), secret);
    }

    /// Forgets a secret that was removed.
    pub fn forget_push(&self, name: &str) {
        self.lock_pushed().remove(name);
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

    fn lock_pushed(&self) -> MutexGuard<'_, BTreeMap<String, SecretStatus>> {
        self.pushed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    /// Elsewhere: its URL is in a Secret.
    External,
    /// A managed Postgres cluster.
    Managed {
        /// Its id.
        id: String,
    },
    /// Legacy Fly Postgres.
    FlyPostgres {
        /// The app that is the cluster.
        app: String,
        /// Id of the machine that is the primary.
        primary: String,
    },
}

impl Database {
    /// True when both are one database, which has one address.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::FlyPostgres { app, .. }, Self::FlyPostgres { app: other, .. }) => app == other,
            _ => self == other,
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
