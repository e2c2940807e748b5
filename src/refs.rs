//! What an Activation names in its own namespace: Secrets, ConfigMaps, approvals. Read only; a
//! missing one is data, not an error. There is no way to name another namespace.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client, ResourceExt, api::ListParams};
use secrecy::SecretString;

use crate::{
    api::{Activation, ActivationApproval, Reason, approval::ActivationApprovalSpec},
    error::Error,
    redact::{self, Guarded},
};

/// What kind of object is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefKind {
    /// A Secret.
    Secret,
    /// A ConfigMap.
    ConfigMap,
}

/// Why a value that is named cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// There is no such object.
    Object {
        /// Its kind.
        kind: RefKind,
        /// Its name.
        name: String,
    },
    /// The object has no such key.
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
    /// One word for conditions.
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

/// Everything that an Activation names, as it was read. Values are redacted from all output
/// while this lives.
#[derive(Debug, Default)]
pub struct Refs {
    secrets: BTreeMap<String, Option<SecretData>>,
    config_maps: BTreeMap<String, Option<BTreeMap<String, String>>>,
    approvals: Vec<ActivationApprovalSpec>,
}

impl Refs {
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

    /// The approvals for this Activation.
    pub fn approvals(&self) -> &[ActivationApprovalSpec] {
        &self.approvals
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

/// What an Activation names: a change of any of these wakes it.
pub fn watched(activation: &Activation) -> BTreeSet<(RefKind, String)> {
    let spec = &activation.spec;
    let mut names = BTreeSet::new();
    let mut secret = |name: &str| names.insert((RefKind::Secret, name.to_owned()));
    secret(&spec.token_secret_ref.name);
    if let Some(postgres) = &spec.provision.postgres {
        for source in [&postgres.external, &postgres.fallback]
            .into_iter()
            .flatten()
        {
            secret(&source.url_secret_ref.name);
        }
    }
    if let Some(external) = spec
        .provision
        .redis
        .as_ref()
        .and_then(|redis| redis.external.as_ref())
    {
        secret(&external.url_secret_ref.name);
    }
    for source in &spec.provision.secrets.from {
        secret(&source.secret_ref.name);
    }
    if let Some(map) = spec
        .deploy
        .config
        .as_ref()
        .and_then(|config| config.config_map_ref.as_ref())
    {
        names.insert((RefKind::ConfigMap, map.name.clone()));
    }
    names
}

/// Reads everything that the Activation names, all at once.
///
/// # Errors
/// When the API server refuses or cannot be reached. What does not exist is no error.
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
    let read_secrets = futures::future::try_join_all(of_kind(RefKind::Secret).map(|name| {
        let secrets = secrets.clone();
        async move {
            let secret = secrets
                .get_opt(&name)
                .await
                .map_err(|source| Error::kube(format!("read the Secret {name}"), source))?;
            Ok::<_, Error>((name, secret.map(values)))
        }
    }));
    let read_config_maps = futures::future::try_join_all(of_kind(RefKind::ConfigMap).map(|name| {
        let config_maps = config_maps.clone();
        async move {
            let map = config_maps
                .get_opt(&name)
                .await
                .map_err(|source| Error::kube(format!("read the ConfigMap {name}"), source))?;
            Ok::<_, Error>((name, map.map(|map| map.data.unwrap_or_default())))
        }
    }));
    let read_approvals = approvals(kube, &namespace, activation);
    let (secrets, config_maps, approvals) =
        futures::try_join!(read_secrets, read_config_maps, read_approvals)?;
    Ok(Refs {
        secrets: secrets.into_iter().collect(),
        config_maps: config_maps.into_iter().collect(),
        approvals,
    })
}

/// The approvals for this object; only read when it has gates.
async fn approvals(
    kube: &Client,
    namespace: &str,
    activation: &Activation,
) -> Result<Vec<ActivationApprovalSpec>, Error> {
    if activation.spec.gates.is_empty() {
        return Ok(Vec::new());
    }
    let api: Api<ActivationApproval> = Api::namespaced(kube.clone(), namespace);
    let params =
        ListParams::default().fields(&format!("spec.activation={}", activation.name_any()));
    let list = api
        .list(&params)
        .await
        .map_err(|source| Error::kube("list the approvals", source))?;
    Ok(list
        .items
        .into_iter()
        .map(|approval| approval.spec)
        .collect())
}

/// The values of a Secret as text. A newline at the end, which editors and `echo` leave there,
/// is not part of the value.
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
