//! The Kubernetes Secret with the generated values of one Activation.
//!
//! It is called `<activation>-golive`, is in the Activation's namespace and has no owner: the values
//! outlive the Activation, so that one that is deleted and created again finds the passwords that its
//! database still has. A value is generated once. It is not generated again because Fly.io lost it,
//! because a reply was lost, or because the Activation is new. Only a requested rotation replaces it,
//! and then the previous value stays for a while under `<NAME>.previous`.
//!
//! [`read`](SecretStore::read) and [`write`](SecretStore::write) do I/O and decide nothing;
//! [`decide`] decides and does no I/O.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ObjectMeta;
use kube::{Api, Client};
use secrecy::SecretString;

use crate::api::provision::GeneratedSecret;
use crate::api::{LABEL_UID, Owner, Reason};
use crate::error::Retry;
use crate::redact::{self, Guarded};
use crate::store::{self, LABEL_MANAGED_BY, MANAGED_BY, Write};

mod decision;
mod entropy;

pub use decision::{Changes, Rotation, decide};
pub use entropy::{Entropy, generate, operating_system};

/// Annotation on an Activation that requests a rotation; its value is a token of the caller's
/// choice, and each new token rotates once.
pub const ANNOTATION_ROTATE: &str = "golive.dev/rotate-secrets";

/// Annotation on the Secret: the rotation token that was handled last.
const ANNOTATION_ROTATED_FOR: &str = "golive.dev/rotated-for";

/// Annotation on the Secret: when each value was generated, as JSON.
const ANNOTATION_GENERATED_AT: &str = "golive.dev/generated-at";

/// Suffix of the key of a previous value. The name of an environment variable has no dot, so this
/// never hides a value of the user's.
const PREVIOUS: &str = ".previous";

/// Annotations that keep other tools from pruning the Secret.
const RETENTION: &[(&str, &str)] = &[
    ("golive.dev/data-retention", "Retain"),
    ("helm.sh/resource-policy", "keep"),
    (
        "argocd.argoproj.io/sync-options",
        "Prune=false,Delete=false",
    ),
    ("argocd.argoproj.io/compare-options", "IgnoreExtraneous"),
    ("kustomize.toolkit.fluxcd.io/prune", "disabled"),
];

/// What the object is for, in its labels.
const COMPONENT: &str = "generated-secrets";

/// Most attempts to write when somebody else writes at the same time.
const MOST_CONFLICTS: usize = 4;

/// Why generated values are not available. No message holds a value.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or did not answer.
    #[error("cannot {doing} secret {name}")]
    Kube {
        /// What was being done.
        doing: &'static str,
        /// Name of the Secret.
        name: String,
        /// What went wrong.
        source: Box<kube::Error>,
    },
    /// A Secret of that name exists and does not belong to the Activation.
    #[error(
        "secret {name} exists and is not managed by golive for activation {activation}; \
         rename or remove it, or label it app.kubernetes.io/managed-by=golive and \
         app.kubernetes.io/instance={activation} to let golive use it"
    )]
    NotOurs {
        /// Name of the Secret.
        name: String,
        /// Name of the Activation.
        activation: String,
    },
    /// Somebody changed a value into something that cannot be an environment variable.
    #[error(
        "key {key} of secret {name} is not UTF-8 text; set it to text, or remove the key to have a new value generated"
    )]
    NotText {
        /// Name of the Secret.
        name: String,
        /// The key.
        key: String,
    },
    /// The Secret does not hold what was just written.
    #[error(
        "secret {name} was read back with another value of {key}; another writer is at work, trying again"
    )]
    ReadBack {
        /// Name of the Secret.
        name: String,
        /// The first key that differs.
        key: String,
    },
    /// Others changed the Secret at each attempt to write it.
    #[error("secret {name} changed {times} times while it was being written, trying again later")]
    Contended {
        /// Name of the Secret.
        name: String,
        /// How often.
        times: usize,
    },
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes: {0}")]
    Entropy(String),
}

impl From<Error> for crate::error::Error {
    fn from(error: Error) -> Self {
        let retry = match &error {
            Error::NotOurs { .. } | Error::NotText { .. } => Retry::OnChange,
            _ => Retry::Backoff,
        };
        Self::Store {
            doing: "settle the generated secrets",
            reason: Reason::SecretInvalid,
            retry,
            source: Box::new(error),
        }
    }
}

/// What the Secret holds.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// The values in use, by name.
    pub values: BTreeMap<String, Guarded>,
    /// The values before the last rotation, by name, until the overlap ends.
    pub previous: BTreeMap<String, Guarded>,
    /// When each value in use was generated.
    pub generated_at: BTreeMap<String, Timestamp>,
    /// The rotation token that was handled last.
    pub rotated_for: Option<String>,
    /// UID of the Activation that the Secret is labelled with.
    pub uid: Option<String>,
    /// The object as it was read: a write replaces this version.
    object: Secret,
}

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

/// Name of the Secret with the generated values of an Activation.
pub fn name(activation: &str) -> String {
    format!("{activation}-golive")
}

/// Parses a Secret, if it is ours.
fn stored(secret: Secret, owner: &Owner) -> Result<Stored, Error> {
    let name = name(&owner.name);
    let labels = secret.metadata.labels.clone().unwrap_or_default();
    if !is_ours(&secret.metadata.labels, owner) {
        let activation = owner.name.clone();
        return Err(Error::NotOurs { name, activation });
    }
    let annotations = secret.metadata.annotations.clone().unwrap_or_default();
    let generated_at = annotations.get(ANNOTATION_GENERATED_AT);
    // Unreadable counts as not recorded: ages then count from the next rotation.
    let generated_at = generated_at.and_then(|json| serde_json::from_str(json).ok());
    let mut found = Stored {
        generated_at: generated_at.unwrap_or_default(),
        rotated_for: annotations.get(ANNOTATION_ROTATED_FOR).cloned(),
        uid: labels.get(LABEL_UID).cloned(),
        ..Stored::default()
    };
    for (key, value) in secret.data.iter().flatten() {
        let Ok(text) = String::from_utf8(value.0.clone()) else {
            let key = key.clone();
            return Err(Error::NotText { name, key });
        };
        let value = redact::guard(SecretString::from(text));
        match key.strip_suffix(PREVIOUS) {
            Some(key) => found.previous.insert(key.to_owned(), value),
            None => found.values.insert(key.clone(), value),
        };
    }
    found.object = secret;
    Ok(found)
}

/// The next version of the Secret. Keys, labels and annotations of others stay.
fn next(
    stored: Option<&Stored>,
    changes: &Changes,
    owner: &Owner,
    now: Timestamp,
    entropy: Entropy,
) -> Result<Secret, Error> {
    let mut secret = stored
        .map(|stored| stored.object.clone())
        .unwrap_or_default();
    let mut generated_at = stored
        .map(|stored| stored.generated_at.clone())
        .unwrap_or_default();
    let data = secret.data.get_or_insert_default();
    for name in &changes.drop_previous {
        data.remove(&format!("{name}{PREVIOUS}"));
    }
    for wanted in &changes.rotate {
        if let Some(old) = data.get(&wanted.name).cloned() {
            data.insert(format!("{}{PREVIOUS}", wanted.name), old);
        }
    }
    for wanted in changes.generate.iter().chain(&changes.rotate) {
        let value = generate(wanted, entropy)?;
        data.insert(wanted.name.clone(), ByteString(value.as_bytes().to_vec()));
        generated_at.insert(wanted.name.clone(), now);
    }
    let generated_at = serde_json::to_string(&generated_at).unwrap_or_default();

    let metadata = ObjectMeta {
        name: Some(name(&owner.name)),
        namespace: Some(owner.namespace.clone()),
        managed_fields: None,
        ..secret.metadata
    };
    secret.metadata = metadata;
    let labels = secret.metadata.labels.get_or_insert_default();
    labels.extend(store::labels(COMPONENT, &owner.uid));
    labels.extend(store::text([("app.kubernetes.io/part-of", MANAGED_BY)]));
    for (key, value) in marks(&owner.name) {
        labels.insert(key.to_owned(), value);
    }
    let annotations = secret.metadata.annotations.get_or_insert_default();
    for (key, value) in RETENTION {
        // A user may override it.
        let annotation = annotations.entry((*key).to_owned());
        annotation.or_insert_with(|| (*value).to_owned());
    }
    annotations.insert(ANNOTATION_GENERATED_AT.to_owned(), generated_at);
    if let Some(token) = &changes.handled {
        annotations.insert(ANNOTATION_ROTATED_FOR.to_owned(), token.clone());
    }
    secret.type_.get_or_insert_with(|| "Opaque".to_owned());
    Ok(secret)
}

fn is_ours(labels: &Option<BTreeMap<String, String>>, owner: &Owner) -> bool {
    let has = |key: &str, value: &String| {
        let labels = labels.as_ref();
        labels.is_some_and(|labels| labels.get(key) == Some(value))
    };
    let marks = marks(&owner.name);
    marks.iter().all(|(key, value)| has(key, value))
}

/// The labels that mark a Secret as ours.
fn marks(activation: &str) -> [(&'static str, String); 2] {
    // A label value has at most 63 characters and ends with a letter or digit. Names of
    // Activations are ASCII.
    let value: String = activation.chars().take(63).collect();
    let value = value.trim_end_matches(['-', '.']).to_owned();
    [
        (LABEL_MANAGED_BY, MANAGED_BY.to_owned()),
        ("app.kubernetes.io/instance", value),
    ]
}
