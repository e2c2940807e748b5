//! The values that an Activation names in its own namespace: Secrets, ConfigMaps, approvals. Read
//! only. A missing object is data, not an error. No field can name another namespace.

use std::{collections::BTreeMap, fmt, sync::Arc};

#[cfg(test)]
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client, ResourceExt, api::ListParams};
use secrecy::SecretString;
use serde::de::DeserializeOwned;

use crate::{
    api::{Activation, ActivationApproval, Reason},
    error::Error,
    plan::{
        named::{Named, RefKind, named, watched},
        rollback_request,
        votes::Vote,
    },
    redact::{self, Guarded},
};

pub use crate::plan::rollback_request::RollbackRequest;

/// Why a value that is named is not available.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The object does not exist.
    Object {
        /// Its kind.
        kind: RefKind,
        /// Its name.
        name: String,
    },
    /// The object does not have the key.
    Key {
        /// Its kind.
        kind: RefKind,
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
    /// The value is empty or not text.
    Unusable {
        /// Name of the Secret.
        name: String,
        /// The key.
        key: String,
        /// What is wrong, without the value.
        why: &'static str,
    },
}

impl Missing {
    /// The reason for conditions.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Object {
                kind: RefKind::Secret,
                ..
            } => Reason::SecretNotFound,
            Self::Object {
                kind: RefKind::ConfigMap,
                ..
            } => Reason::ConfigMapNotFound,
            Self::Key {
                kind: RefKind::Secret,
                ..
            } => Reason::SecretKeyMissing,
            Self::Key {
                kind: RefKind::ConfigMap,
                ..
            } => Reason::ConfigMapKeyMissing,
            Self::Unusable { .. } => Reason::SecretInvalid,
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object { kind, name } => write!(
                f,
                "the {kind:?} {name} does not exist in this namespace: create it"
            ),
            Self::Key { kind, name, key } => {
                write!(f, "the {kind:?} {name} has no key {key}: add it")
            }
            Self::Unusable { name, key, why } => write!(
                f,
                "the value of key {key} of the Secret {name} {why}: put a usable value there"
            ),
        }
    }
}

type SecretData = BTreeMap<String, Result<Guarded, &'static str>>;

/// Everything that an Activation names, as it was read. Its values are redacted from all output
/// until this is dropped.
#[derive(Clone, Debug, Default)]
pub struct Refs {
    secrets: Arc<BTreeMap<String, Option<SecretData>>>,
    versions: BTreeMap<String, Option<String>>,
    deleted: BTreeMap<String, String>,
    config_maps: BTreeMap<String, Option<BTreeMap<String, String>>>,
    votes: Vec<Vote>,
    rollbacks: Vec<RollbackRequest>,
}

impl Refs {
    /// What is named and not available.
    pub fn missing(&self, activation: &Activation) -> Vec<(Named, Missing)> {
        let lack = |named: &Named| match (named.kind, &named.key) {
            (RefKind::Secret, Some(key)) => self.secret(&named.name, key).err(),
            (RefKind::Secret, None) => self.secret_values(&named.name).err(),
            (RefKind::ConfigMap, key) => {
                let key = key.as_deref().unwrap_or_default();
                self.config_map(&named.name, key).err()
            }
        };
        named(activation)
            .into_iter()
            .filter_map(|named| lack(&named).map(|missing| (named, missing)))
            .collect()
    }

    /// The resource versions of the Secrets as they were read, by name; `None`: it does not exist.
    pub fn versions(&self) -> &BTreeMap<String, Option<String>> {
        &self.versions
    }

    /// The UID of this Secret, if somebody has deleted it and a finalizer holds it.
    pub fn deleted(&self, secret: &str) -> Option<&str> {
        self.deleted.get(secret).map(String::as_str)
    }

    /// One value of a Secret.
    ///
    /// # Errors
    /// When the Secret, the key, or a usable value is missing.
    pub fn secret(&self, name: &str, key: &str) -> Result<&SecretString, Missing> {
        let data = self.secret_data(name)?;
        match data.get(key) {
            Some(Ok(value)) => Ok(value.secret()),
            Some(Err(why)) => Err(Missing::Unusable {
                name: name.to_owned(),
                key: key.to_owned(),
                why,
            }),
            None => Err(Missing::Key {
                kind: RefKind::Secret,
                name: name.to_owned(),
                key: key.to_owned(),
            }),
        }
    }

    /// All values of a Secret, by key.
    ///
    /// # Errors
    /// When the Secret does not exist, or a value in it cannot be used.
    pub fn secret_values(&self, name: &str) -> Result<BTreeMap<&str, &SecretString>, Missing> {
        self.secret_data(name)?
            .keys()
            .map(|key| Ok((key.as_str(), self.secret(name, key)?)))
            .collect()
    }

    /// One value of a ConfigMap.
    ///
    /// # Errors
    /// When the ConfigMap or the key is missing.
    pub fn config_map(&self, name: &str, key: &str) -> Result<&str, Missing> {
        let data = self
            .config_maps
            .get(name)
            .and_then(Option::as_ref)
            .ok_or_else(|| Missing::Object {
                kind: RefKind::ConfigMap,
                name: name.to_owned(),
            })?;
        data.get(key)
            .map(String::as_str)
            .ok_or_else(|| Missing::Key {
                kind: RefKind::ConfigMap,
                name: name.to_owned(),
                key: key.to_owned(),
            })
    }

    /// The decisions of people about this Activation.
    pub fn votes(&self) -> &[Vote] {
        &self.votes
    }

    /// The requests for a rollback, oldest first.
    pub fn rollbacks(&self) -> &[RollbackRequest] {
        &self.rollbacks
    }

    fn secret_data(&self, name: &str) -> Result<&SecretData, Missing> {
        self.secrets
            .get(name)
            .and_then(Option::as_ref)
            .ok_or_else(|| Missing::Object {
                kind: RefKind::Secret,
                name: name.to_owned(),
            })
    }
}

/// Reads everything that the Activation names, concurrently.
///
/// # Errors
/// When the API server refuses or cannot be reached. A missing object is no error.
pub async fn fetch(kube: &Client, activation: &Activation) -> Result<Refs, Error> {
    let namespace = activation
        .namespace()
        .ok_or(Error::Malformed("namespace"))?;
    let named = watched(activation);
    let of_kind = |wanted: RefKind| {
        named
            .iter()
            .filter(move |(kind, _)| *kind == wanted)
            .map(|(_, name)| name.clone())
    };
    let secrets: Api<Secret> = Api::namespaced(kube.clone(), &namespace);
    let config_maps: Api<ConfigMap> = Api::namespaced(kube.clone(), &namespace);
    let (secrets, config_maps, approvals) = futures::try_join!(
        read_all(&secrets, of_kind(RefKind::Secret), "Secret"),
        read_all(&config_maps, of_kind(RefKind::ConfigMap), "ConfigMap"),
        approvals(kube, &namespace, activation)
    )?;
    let versions = secrets
        .iter()
        .map(|(name, secret)| {
            let version = secret.as_ref().and_then(ResourceExt::resource_version);
            (name.clone(), version)
        })
        .collect();
    let deleted = secrets.iter().filter_map(|(name, secret)| {
        let metadata = &secret.as_ref()?.metadata;
        metadata.deletion_timestamp.as_ref()?;
        Some((name.clone(), metadata.uid.clone()?))
    });
    let deleted = deleted.collect();
    Ok(Refs {
        secrets: Arc::new(
            secrets
                .into_iter()
                .map(|(name, secret)| (name, secret.map(values)))
                .collect(),
        ),
        versions,
        deleted,
        config_maps: config_maps
            .into_iter()
            .map(|(name, map)| (name, map.map(|map| map.data.unwrap_or_default())))
            .collect(),
        rollbacks: rollback_request::of(activation, &approvals),
        votes: approvals.iter().map(Vote::of).collect(),
    })
}

/// Reads objects by name; `None` for one that does not exist.
async fn read_all<K>(
    api: &Api<K>,
    names: impl Iterator<Item = String>,
    kind: &str,
) -> Result<Vec<(String, Option<K>)>, Error>
where
    K: Clone + DeserializeOwned + fmt::Debug,
{
    let reads = names.map(|name| async move {
        let found = api
            .get_opt(&name)
            .await
            .map_err(|source| Error::kube(format!("read the {kind} {name}"), source))?;
        Ok((name, found))
    });
    futures::future::try_join_all(reads).await
}

/// The approvals for this object, and the requests for a rollback.
async fn approvals(
    kube: &Client,
    namespace: &str,
    activation: &Activation,
) -> Result<Vec<ActivationApproval>, Error> {
    let api: Api<ActivationApproval> = Api::namespaced(kube.clone(), namespace);
    let params =
        ListParams::default().fields(&format!("spec.activation={}", activation.name_any()));
    let list = api
        .list(&params)
        .await
        .map_err(|source| Error::kube("list the approvals", source))?;
    Ok(list.items)
}

/// The values of a Secret as text. A newline at the end, which editors and `echo` add, is not part
/// of a value.
fn values(secret: Secret) -> SecretData {
    secret
        .data
        .unwrap_or_default()
        .into_iter()
        .map(|(key, bytes)| {
            let value = match String::from_utf8(bytes.0) {
                Ok(text) => {
                    let text = text.trim_end_matches(['\r', '\n']);
                    if text.is_empty() {
                        Err("is empty")
                    } else {
                        Ok(redact::guard(SecretString::from(text)))
                    }
                }
                Err(_) => Err("is not UTF-8 text"),
            };
            (key, value)
        })
        .collect()
}

#[cfg(test)]
impl Refs {
    /// The values in a namespace with these Secrets (name, key, value) and ConfigMaps.
    pub(crate) fn of(secrets: &[(&str, &str, &str)], config_maps: &[(&str, &str, &str)]) -> Self {
        let mut refs = Self::default();
        let mut all: BTreeMap<String, Option<SecretData>> = BTreeMap::new();
        for (name, key, value) in secrets {
            let data = BTreeMap::from([((*key).to_owned(), ByteString((*value).into()))]);
            let secret = Secret {
                data: Some(data),
                ..Secret::default()
            };
            let entry = all.entry((*name).to_owned()).or_default();
            entry.get_or_insert_default().extend(values(secret));
        }
        refs.secrets = Arc::new(all);
        for (name, key, value) in config_maps {
            let entry = refs.config_maps.entry((*name).to_owned()).or_default();
            entry
                .get_or_insert_default()
                .insert((*key).to_owned(), (*value).to_owned());
        }
        refs
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::plan::named::tests::{FULL, activation};

    #[test]
    fn what_is_missing_is_told_with_the_field_that_names_it() {
        let refs = Refs::of(
            &[("fly", "token", "t"), ("db", "URL", "x"), ("app", "A", "")],
            &[],
        );
        let missing = refs.missing(&activation(FULL));
        let told = |field: &str| {
            let found = missing.iter().find(|(named, _)| named.field == field);
            found.map(|(_, missing)| (missing.reason(), missing.to_string()))
        };
        assert_eq!(told("spec.tokenSecretRef"), None);
        let (reason, text) = told("spec.provision.postgres.fallback.urlSecretRef").unwrap();
        assert_eq!(reason, Reason::SecretKeyMissing);
        assert_eq!(text, "the Secret db has no key url: add it");
        let (reason, text) = told("spec.provision.redis.external.urlSecretRef").unwrap();
        assert_eq!(reason, Reason::SecretNotFound);
        assert!(text.contains("Secret redis does not exist"), "{text}");
        let (reason, _) = told("spec.provision.secrets.from[0].secretRef").unwrap();
        assert_eq!(reason, Reason::SecretInvalid);
        let (reason, _) = told("spec.deploy.config.configMapRef").unwrap();
        assert_eq!(reason, Reason::ConfigMapNotFound);
    }

    #[test]
    fn values_lose_the_newline_that_editors_leave_and_are_never_shown() {
        let refs = Refs::of(&[("fly", "token", "canary-value-123\r\n")], &[]);
        let value = refs.secret("fly", "token").unwrap();
        assert_eq!(value.expose_secret(), "canary-value-123");
        let shown = format!("{refs:?} {value:?}");
        assert!(!shown.contains("canary"), "{shown}");
    }
}
