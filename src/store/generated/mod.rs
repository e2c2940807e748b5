//! The Kubernetes Secret with the generated values of one Activation.
//!
//! It is called `<activation>-golive`, is in the Activation's namespace and has no owner: the values
//! outlive the Activation, so that one that is deleted and created again finds the passwords that its
//! database still has. A value is generated once. It is not generated again because Fly.io lost it,
//! because a reply was lost, or because the Activation is new. Only a requested rotation replaces it,
//! and then the previous value stays for a while under `<NAME>.previous`.
//!
//! [`read`](SecretStore::read) and [`write`](SecretStore::write) do I/O and decide nothing;
//! [`decide`] decides and does no I/O. Start reading at [`SecretStore::settle`]. Uses
//! `store`, `redact` and `api`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use crate::{
    api::{Owner, provision::GeneratedSecret},
    redact::Guarded,
    store::{self, Write},
};

mod decision;
mod entropy;
mod error;
mod next;
mod stored;

pub use decision::{Changes, Rests, Rotation, decide};
pub use entropy::{Entropy, generate, operating_system};
pub use error::Error;
pub use stored::{Stored, is_of, name};

use next::{copied, next};
use stored::{is_ours, stored};

/// Annotation on an Activation that requests a rotation; its value is a token of the caller's
/// choice, and each new token rotates once.
pub const ANNOTATION_ROTATE: &str = "golive.dev/rotate-secrets";

/// Most attempts to write when somebody else writes at the same time.
const MOST_CONFLICTS: usize = 4;

/// The values of one Activation after all changes were made.
#[derive(Clone, Debug)]
pub struct Settled {
    /// The values in use, by name.
    pub values: BTreeMap<String, Guarded>,
    /// The changes that were made; empty when there were none.
    pub changes: Changes,
}

/// The Secret of one Activation.
#[derive(Clone)]
pub struct SecretStore {
    api: Api<Secret>,
    owner: Owner,
    entropy: Entropy,
}

impl SecretStore {
    /// The store of this Activation. Sends nothing.
    pub fn new(kube: Client, owner: Owner) -> SecretStore {
        SecretStore {
            api: Api::namespaced(kube, &owner.namespace),
            owner,
            entropy: operating_system,
        }
    }

    /// Name of the Secret.
    pub fn name(&self) -> String {
        name(&self.owner.name)
    }

    /// Reads what is stored; `None` when the Secret does not exist.
    ///
    /// # Errors
    /// When the API server refuses or cannot be reached, or the Secret is not ours.
    pub async fn read(&self) -> Result<Option<Stored>, Error> {
        let secret = self.api.get_opt(&self.name()).await;
        let secret = secret.map_err(|source| self.kube("read", source))?;
        secret.map(|secret| stored(secret, &self.owner)).transpose()
    }

    /// Reads, decides, writes and reads back, until nothing is left to change. A second call
    /// with the same arguments changes nothing.
    ///
    /// # Errors
    /// When a read or a write fails, or others write at the same time at every attempt.
    pub async fn settle(
        &self,
        wanted: &[GeneratedSecret],
        rotation: &Rotation,
        now: Timestamp,
    ) -> Result<Settled, Error> {
        let mut done = Changes::default();
        for _ in 0..MOST_CONFLICTS {
            let stored = self.read().await?;
            let changes = decide(stored.as_ref(), &self.owner.uid, wanted, rotation, now);
            if changes.is_empty() {
                let values = stored.unwrap_or_default().values;
                let changes = done;
                return Ok(Settled { values, changes });
            }
            if self.write(stored.as_ref(), &changes, now).await? {
                done = changes;
            }
        }
        Err(Error::Contended {
            name: self.name(),
            times: MOST_CONFLICTS,
        })
    }

    /// Makes the changes and reads them back. `false` on a conflict with another writer, or with an
    /// earlier attempt of ours whose reply was lost: then read and decide again.
    ///
    /// # Errors
    /// When the API server refuses or cannot be reached, or the Secret does not hold what was written.
    pub async fn write(
        &self,
        stored: Option<&Stored>,
        changes: &Changes,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let next = next(stored, changes, &self.owner, now, self.entropy)?;
        let version = next.metadata.resource_version.clone();
        let written = store::put(&self.api, next.clone(), version.as_deref()).await;
        if written
            .map_err(|source| self.kube("write", source))?
            .is_conflict()
        {
            return Ok(false);
        }
        let found = self.api.get(&self.name()).await;
        let found = found.map_err(|source| self.kube("read back", source))?;
        let found = found.data.unwrap_or_default();
        for (key, value) in next.data.unwrap_or_default() {
            if found.get(&key) != Some(&value) {
                let name = self.name();
                return Err(Error::ReadBack { name, key });
            }
        }
        Ok(true)
    }

    /// Takes over the values of an Activation of another name in the same namespace, unless values
    /// are stored already. The Secret of the other name stays. Safe to repeat.
    ///
    /// # Errors
    /// When the API server refuses or cannot be reached, or the Secret cannot be decoded.
    pub async fn inherit(&self, former: &str) -> Result<(), Error> {
        let there = self.api.get_opt(&self.name()).await;
        if there.map_err(|source| self.kube("read", source))?.is_some() {
            return Ok(());
        }
        let former = Owner {
            name: former.to_owned(),
            ..self.owner.clone()
        };
        let found = self.api.get_opt(&name(&former.name)).await;
        let found = found.map_err(|source| self.kube("read", source))?;
        let ours = found.filter(|found| is_ours(&found.metadata.labels, &former));
        let Some(mut found) = ours else {
            return Ok(());
        };
        found.metadata.uid = None;
        found.metadata.creation_timestamp = None;
        let stored = stored(found, &former)?;
        let copy = copied(&stored, &self.owner);
        store::put(&self.api, copy, None)
            .await
            .map(drop)
            .map_err(|source| self.kube("take over", source))
    }

    /// Deletes the Secret, for `deletionPolicy.secrets: Delete`. Already gone is fine, and a Secret
    /// that is not ours stays.
    ///
    /// # Errors
    /// When the API server refuses or cannot be reached.
    pub async fn delete(&self) -> Result<(), Error> {
        let found = self.api.get_metadata_opt(&self.name()).await;
        let found = found.map_err(|source| self.kube("read", source))?;
        let ours = found.filter(|found| is_ours(&found.metadata.labels, &self.owner));
        let Some(found) = ours else {
            return Ok(());
        };
        store::delete_if(&self.api, &self.name(), found.metadata.uid.as_deref())
            .await
            .and_then(Write::into_result)
            .map_err(|source| self.kube("delete", source))
    }

    fn kube(&self, doing: &'static str, source: kube::Error) -> Error {
        Error::Kube {
            doing,
            name: self.name(),
            source: Box::new(source),
        }
    }
}
