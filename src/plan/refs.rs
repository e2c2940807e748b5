//! The values that an Activation names in its own namespace: Secrets, ConfigMaps, approvals. Read
//! only. A missing object is data, not an error. No field can name another namespace.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

#[cfg(test)]
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client, ResourceExt, api::ListParams};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;

use crate::{
    api::{ALLOWED, Activation, ActivationApproval, LABEL_ALLOW},
    error::Error,
    flytoml,
    plan::{
        missing::{Defect, Missing},
        named::{Named, RefKind, named, watched},
        rollback_request,
        votes::Vote,
    },
    redact::{self, Guarded},
    store::generated,
};

pub use crate::plan::rollback_request::RollbackRequest;

/// The values of a ConfigMap, or why one is not text.
type ConfigData = BTreeMap<String, Result<String, String>>;

type SecretData = BTreeMap<String, Result<Value, Defect>>;

/// A value of a Secret.
#[derive(Clone, Debug)]
struct Value {
    /// Byte for byte: what an application gets.
    exact: Guarded,
    /// Without the line break at its end, which editors and `echo` add: a token or an address.
    line: Guarded,
}

/// Everything that an Activation names, as it was read. Its values are redacted from all output
/// until this is dropped.
#[derive(Clone, Debug, Default)]
pub struct Refs {
    secrets: Arc<BTreeMap<String, Option<SecretData>>>,
    versions: BTreeMap<String, Option<String>>,
    deleted: BTreeMap<String, String>,
    /// Secrets that do not allow their use. Their values are not kept.
    refused: BTreeSet<String>,
    config_maps: BTreeMap<String, Option<ConfigData>>,
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

    /// One value of a Secret that is a token or an address: without a line break at its end, which
    /// is never a part of it.
    ///
    /// # Errors
    /// When the Secret, the key, or a usable value is missing.
    pub fn secret(&self, name: &str, key: &str) -> Result<&SecretString, Missing> {
        let value = self.value(name, key)?.line.secret();
        if value.expose_secret().is_empty() {
            return Err(unusable(name, key, Defect::Empty));
        }
        Ok(value)
    }

    /// Whether a value ends with a line break, which [`Self::secret`] leaves out.
    pub fn ends_with_line_break(&self, name: &str, key: &str) -> bool {
        self.value(name, key)
            .is_ok_and(|value| value.exact.secret().expose_secret().ends_with(LINE_BREAKS))
    }

    /// All values of a Secret for an application, byte for byte, by key.
    ///
    /// # Errors
    /// When the Secret does not exist, or a value in it cannot be that of an environment variable.
    pub fn secret_values(&self, name: &str) -> Result<BTreeMap<&str, &SecretString>, Missing> {
        self.secret_data(name)?
            .keys()
            .map(|key| {
                let value = self.value(name, key)?.exact.secret();
                // `KEY=VALUE` with the byte that ends it.
                if key.len() + value.expose_secret().len() + 2 > LONGEST_VARIABLE {
                    return Err(unusable(name, key, Defect::TooLong));
                }
                Ok((key.as_str(), value))
            })
            .collect()
    }

    /// The keys of a Secret; none if it does not exist.
    pub fn secret_keys(&self, name: &str) -> Vec<String> {
        let data = self.secret_data(name);
        data.map_or_else(|_| Vec::new(), |data| data.keys().cloned().collect())
    }

    fn value(&self, name: &str, key: &str) -> Result<&Value, Missing> {
        let data = self.secret_data(name)?;
        match data.get(key) {
            Some(Ok(value)) => Ok(value),
            Some(Err(defect)) => Err(unusable(name, key, *defect)),
            None => Err(Missing::Key {
                kind: RefKind::Secret,
                name: name.to_owned(),
                key: key.to_owned(),
                present: data.keys().cloned().collect(),
            }),
        }
    }

    /// One value of a ConfigMap.
    ///
    /// # Errors
    /// When the ConfigMap or the key is missing, or its value is not text.
    pub fn config_map(&self, name: &str, key: &str) -> Result<&str, Missing> {
        let data = self
            .config_maps
            .get(name)
            .and_then(Option::as_ref)
            .ok_or_else(|| Missing::Object {
                kind: RefKind::ConfigMap,
                name: name.to_owned(),
            })?;
        match data.get(key) {
            Some(Ok(text)) => Ok(text),
            Some(Err(why)) => Err(Missing::NotText {
                name: name.to_owned(),
                key: key.to_owned(),
                why: why.clone(),
            }),
            None => Err(Missing::Key {
                kind: RefKind::ConfigMap,
                name: name.to_owned(),
                key: key.to_owned(),
                present: data.keys().cloned().collect(),
            }),
        }
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
        if self.refused.contains(name) {
            let name = name.to_owned();
            return Err(Missing::NotAllowed { name });
        }
        self.secrets
            .get(name)
            .and_then(Option::as_ref)
            .ok_or_else(|| Missing::Object {
                kind: RefKind::Secret,
                name: name.to_owned(),
            })
    }
}

/// Which Secrets an Activation may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Every one of its namespace.
    All,
    /// Those with the label [`LABEL_ALLOW`], and the one that Golive generates for this Activation.
    Labelled,
}

impl Allowed {
    /// Whether an Activation of this name may use this Secret.
    fn allows(self, activation: &str, secret: &Secret) -> bool {
        let labels = secret.labels();
        let labelled = labels
            .get(LABEL_ALLOW)
            .is_some_and(|value| value == ALLOWED);
        self == Self::All || labelled || generated::is_of(activation, &secret.metadata)
    }
}

/// Reads everything that the Activation names, concurrently. The values of a Secret that it may not
/// use are dropped at once.
///
/// # Errors
/// When the API server refuses or cannot be reached. A missing object is no error.
pub async fn fetch(
    kube: &Client,
    activation: &Activation,
    allowed: Allowed,
) -> Result<Refs, Error> {
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
    let name = activation.name_any();
    let refused: BTreeSet<String> = secrets
        .iter()
        .filter(|(_, secret)| {
            secret
                .as_ref()
                .is_some_and(|found| !allowed.allows(&name, found))
        })
        .map(|(name, _)| name.clone())
        .collect();
    let secrets = secrets
        .into_iter()
        .filter(|(name, _)| !refused.contains(name));
    Ok(Refs {
        secrets: Arc::new(
            secrets
                .map(|(name, secret)| (name, secret.map(values)))
                .collect(),
        ),
        versions,
        deleted,
        refused,
        config_maps: config_maps
            .into_iter()
            .map(|(name, map)| (name, map.map(texts)))
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

/// The values of a ConfigMap as text. kubectl puts what is not UTF-8 into `binaryData`; what is UTF-8
/// there is read all the same.
fn texts(map: ConfigMap) -> ConfigData {
    let binary = map.binary_data.unwrap_or_default().into_iter();
    let data = map.data.unwrap_or_default().into_iter();
    binary
        .map(|(key, bytes)| (key, text_of(bytes.0)))
        .chain(data.map(|(key, text)| (key, Ok(text))))
        .collect()
}

fn text_of(bytes: Vec<u8>) -> Result<String, String> {
    match flytoml::not_utf8(&bytes) {
        Some(why) => Err(why),
        None => String::from_utf8(bytes).map_err(|error| error.to_string()),
    }
}

/// Characters that end a line.
const LINE_BREAKS: [char; 2] = ['\r', '\n'];

/// Longest text of an environment variable with its name, in bytes: the kernel refuses to start a
/// program with a longer one. Source: execve(2), `MAX_ARG_STRLEN`, 32 pages of 4 kB.
const LONGEST_VARIABLE: usize = 128 * 1024;

fn unusable(name: &str, key: &str, defect: Defect) -> Missing {
    Missing::Unusable {
        name: name.to_owned(),
        key: key.to_owned(),
        defect,
    }
}

/// The values of a Secret as text.
fn values(secret: Secret) -> SecretData {
    secret
        .data
        .unwrap_or_default()
        .into_iter()
        .map(|(key, bytes)| {
            let value = match String::from_utf8(bytes.0) {
                Ok(text) if text.contains('\0') => Err(Defect::Nul),
                Ok(text) => {
                    let line =
                        redact::guard(SecretString::from(text.trim_end_matches(LINE_BREAKS)));
                    let exact = redact::guard(SecretString::from(text));
                    Ok(Value { exact, line })
                }
                Err(_) => Err(Defect::NotText),
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
                .insert((*key).to_owned(), Ok((*value).to_owned()));
        }
        refs
    }

    /// The same with a ConfigMap as the API server returns it.
    pub(crate) fn with_config_map(mut self, map: ConfigMap) -> Self {
        let name = map.name_any();
        self.config_maps.insert(name, Some(texts(map)));
        self
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::api::Reason;
    use crate::plan::named::tests::{FULL, activation};

    #[test]
    fn what_is_missing_is_told_with_the_field_that_names_it() {
        let refs = Refs::of(
            &[
                ("fly", "token", "t"),
                ("db", "URL", "x"),
                ("app", "A", "a\0b"),
            ],
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
        assert_eq!(text, "the Secret db has no key url; its key is URL");
        let (reason, text) = told("spec.provision.redis.external.urlSecretRef").unwrap();
        assert_eq!(reason, Reason::SecretNotFound);
        assert!(text.contains("Secret redis does not exist"), "{text}");
        let (reason, text) = told("spec.provision.secrets.from[0].secretRef").unwrap();
        assert_eq!(reason, Reason::SecretInvalid);
        assert!(text.contains("key A of the Secret app"), "{text}");
        let (reason, _) = told("spec.deploy.config.configMapRef").unwrap();
        assert_eq!(reason, Reason::ConfigMapNotFound);
    }

    #[test]
    fn a_fly_toml_that_is_not_found_is_told_with_what_is_there_instead() {
        let map: ConfigMap = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "cfg"},
            "data": {"fly.production.toml": "app = 'x'"},
            "binaryData": {
                "latin.toml": ByteString(b"app = 'x' # caba\xf1a\n".to_vec()),
                "utf16.toml": ByteString(b"\xff\xfea\0p\0p\0".to_vec()),
                "utf8.toml": ByteString(b"app = 'caba\xc3\xb1a'".to_vec()),
            },
        }))
        .unwrap();
        let refs = Refs::of(&[], &[]).with_config_map(map);
        let told = |key| {
            let missing = refs.config_map("cfg", key).unwrap_err();
            (missing.reason(), missing.to_string())
        };
        let (reason, text) = told("fly.toml");
        assert_eq!(reason, Reason::ConfigMapKeyMissing);
        assert!(
            text.contains("fly.production.toml, latin.toml, utf16.toml"),
            "{text}"
        );
        let (reason, text) = told("latin.toml");
        assert_eq!(reason, Reason::FlyConfigInvalid);
        assert!(
            text.contains("has latin.toml in binaryData, because it is not UTF-8 text")
                && text.contains("byte 0xf1 in line 1"),
            "{text}"
        );
        assert!(told("utf16.toml").1.contains("it is UTF-16"));
        assert_eq!(refs.config_map("cfg", "utf8.toml"), Ok("app = 'cabaña'"));
    }

    #[test]
    fn a_token_loses_the_line_break_at_its_end_and_is_never_shown() {
        let refs = Refs::of(&[("fly", "token", "canary-value-123\r\n")], &[]);
        let value = refs.secret("fly", "token").unwrap();
        assert_eq!(value.expose_secret(), "canary-value-123");
        assert!(refs.ends_with_line_break("fly", "token"));
        let shown = format!("{refs:?} {value:?}");
        assert!(!shown.contains("canary"), "{shown}");
    }

    #[test]
    fn only_a_labelled_secret_and_the_own_generated_one_may_be_used_where_that_is_asked_for() {
        let secret = |name: &str, labels: serde_json::Value| -> Secret {
            serde_json::from_value(
                serde_json::json!({"metadata": {"name": name, "labels": labels}}),
            )
            .unwrap()
        };
        let ours = |instance: &str| serde_json::json!({"app.kubernetes.io/managed-by": "golive", "app.kubernetes.io/instance": instance});
        for (name, labels, expected) in [
            ("db", serde_json::json!({}), false),
            ("db", serde_json::json!({"golive.dev/allow": "true"}), true),
            ("db", serde_json::json!({"golive.dev/allow": "True"}), false),
            ("db", serde_json::json!({"golive.dev/allow": ""}), false),
            ("shop-golive", ours("shop"), true),
            ("shop-golive", serde_json::json!({}), false),
            ("other-golive", ours("other"), false),
            ("db", ours("shop"), false),
        ] {
            let secret = secret(name, labels);
            assert_eq!(
                Allowed::Labelled.allows("shop", &secret),
                expected,
                "{secret:?}"
            );
            assert!(Allowed::All.allows("shop", &secret));
        }
    }

    #[test]
    fn what_may_not_be_used_is_refused_with_the_command_that_allows_it() {
        let mut refs = Refs::of(&[("fly", "token", "x")], &[]);
        refs.refused = ["fly".to_owned()].into();
        for missing in [
            refs.secret("fly", "token").unwrap_err(),
            refs.secret_values("fly").unwrap_err(),
        ] {
            assert_eq!(missing.reason(), Reason::SecretNotAllowed);
            let command = "`kubectl -n shop label secret fly golive.dev/allow=true`";
            assert!(missing.action("shop").contains(command), "{missing:?}");
        }
        assert!(refs.secret_keys("fly").is_empty());
        assert!(!refs.ends_with_line_break("fly", "token"));
    }

    #[test]
    fn an_application_gets_its_values_byte_for_byte() {
        let values = ["", "\n", "x\n", "a\r\nb\r\n", "-----END-----\n", " x "];
        for exact in values {
            let refs = Refs::of(&[("app", "A", exact)], &[]);
            let values = refs.secret_values("app").unwrap();
            assert_eq!(values["A"].expose_secret(), exact, "{exact:?}");
        }
    }

    #[test]
    fn a_value_that_no_environment_variable_can_have_is_named_by_its_key() {
        let longest = LONGEST_VARIABLE - "A=".len() - 1;
        for (value, part) in [
            ("a\0b".to_owned(), Some("NUL byte")),
            ("x".repeat(longest), None),
            ("x".repeat(longest + 1), Some("longer than")),
        ] {
            let refs = Refs::of(&[("app", "A", &value)], &[]);
            let told = refs
                .secret_values("app")
                .err()
                .map(|missing| missing.to_string());
            match part {
                Some(part) => {
                    let told = told.unwrap();
                    assert!(
                        told.contains(part) && told.contains("key A of the Secret app"),
                        "{told}"
                    );
                }
                None => assert_eq!(told, None),
            }
        }
    }
}
