//! What an Activation names in its own namespace: Secrets, ConfigMaps, approvals. Read only; a
//! missing one is data, not an error. There is no way to name another namespace.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use jiff::Timestamp;
#[cfg(test)]
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client, ResourceExt, api::ListParams};
use secrecy::SecretString;

use crate::{
    api::{
        Activation, ActivationApproval, Reason,
        approval::{ActivationApprovalSpec, DecidedOn, Decision},
        reference::SecretKeyRef,
    },
    error::Error,
    plan::source::decide::Followed,
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
#[derive(Clone, Debug, Default)]
pub struct Refs {
    secrets: Arc<BTreeMap<String, Option<SecretData>>>,
    versions: BTreeMap<String, Option<String>>,
    config_maps: BTreeMap<String, Option<BTreeMap<String, String>>>,
    approvals: Vec<ActivationApprovalSpec>,
    rollbacks: Vec<RollbackRequest>,
    source: Option<Followed>,
}

/// Somebody asks for an earlier release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollbackRequest {
    /// UID of the ActivationApproval: what makes the request one that counts once.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// When the API server took it.
    pub created: Timestamp,
    /// Digest of the plan that is to be taken back.
    pub digest: String,
    /// Number of the release to restore.
    pub to: u64,
    /// Who asks, as the API server proved.
    pub by: String,
    /// Why.
    pub message: Option<String>,
}

impl RollbackRequest {
    fn of(approval: &ActivationApproval) -> Option<Self> {
        let spec = &approval.spec;
        if spec.gate != DecidedOn::Rollback || spec.decision != Decision::Approve {
            return None;
        }
        Some(Self {
            uid: approval.uid()?,
            name: approval.name_any(),
            created: approval.creation_timestamp()?.0,
            digest: spec.digest.clone(),
            to: u64::try_from(spec.to_release?).ok()?,
            by: spec.approver.clone(),
            message: spec.message.clone(),
        })
    }
}

impl Refs {
    /// What is named and cannot be had.
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

    /// The versions of the Secrets as they were read, by name; `None`: it does not exist.
    pub fn versions(&self) -> &BTreeMap<String, Option<String>> {
        &self.versions
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

    /// The approvals for this Activation.
    pub fn approvals(&self) -> &[ActivationApprovalSpec] {
        &self.approvals
    }

    /// The requests for a rollback, oldest first.
    pub fn rollbacks(&self) -> &[RollbackRequest] {
        &self.rollbacks
    }

    /// What is known of the image that `deploy.source` asks for.
    pub fn source(&self) -> Option<&Followed> {
        self.source.as_ref()
    }

    /// Adds what is known of the image that `deploy.source` asks for; see `crate::plan::source`.
    pub fn set_source(&mut self, source: Option<Followed>) {
        self.source = source;
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

/// One thing that an Activation names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Path of the field that names it, such as `spec.tokenSecretRef`.
    pub field: String,
    /// Its kind.
    pub kind: RefKind,
    /// Its name.
    pub name: String,
    /// The key in it; `None` for all of its keys.
    pub key: Option<String>,
    /// Whether a live application needs it. What is used after Go-Live only never holds it up.
    pub required: bool,
    /// Whether its value decides what is done, so that a new value needs a new approval.
    pub decides: bool,
}

/// Everything that an Activation names, in the order of its fields. The one table behind what is
/// read, what is watched, and what preflight looks for.
pub fn named(activation: &Activation) -> Vec<Named> {
    let spec = &activation.spec;
    let mut list = Vec::new();
    let mut secret = |field: String, reference: &SecretKeyRef, required: bool, decides: bool| {
        list.push(Named {
            field,
            kind: RefKind::Secret,
            name: reference.name.clone(),
            key: Some(reference.key.clone()),
            required,
            decides,
        });
    };
    let token = SecretKeyRef {
        name: spec.token_secret_ref.name.clone(),
        key: spec.token_secret_ref.key.clone(),
    };
    secret("spec.tokenSecretRef".to_owned(), &token, true, false);
    if let Some(postgres) = &spec.provision.postgres {
        for (field, source) in [
            ("external", &postgres.external),
            ("fallback", &postgres.fallback),
        ] {
            if let Some(source) = source {
                let field = format!("spec.provision.postgres.{field}.urlSecretRef");
                secret(field, &source.url_secret_ref, true, true);
            }
        }
    }
    if let Some(external) = spec
        .provision
        .redis
        .as_ref()
        .and_then(|r| r.external.as_ref())
    {
        let field = "spec.provision.redis.external.urlSecretRef".to_owned();
        secret(field, &external.url_secret_ref, true, true);
    }
    if let Some(integrations) = &spec.integrations {
        if let Some(whatsapp) = &integrations.whatsapp {
            let field = |name: &str| format!("spec.integrations.whatsapp.{name}");
            secret(
                field("verifyTokenSecretRef"),
                &whatsapp.verify_token_secret_ref,
                false,
                false,
            );
            secret(
                field("appSecretRef"),
                &whatsapp.app_secret_ref,
                false,
                false,
            );
        }
        if let Some(mercado_pago) = &integrations.mercado_pago {
            let field = "spec.integrations.mercadoPago.signingSecretRef".to_owned();
            secret(field, &mercado_pago.signing_secret_ref, false, false);
        }
        for webhook in &integrations.webhooks {
            let field = format!("spec.integrations.webhooks[{}].secretRef", webhook.name);
            secret(field, &webhook.secret_ref, false, false);
        }
    }
    let prometheus = spec
        .observe
        .as_ref()
        .and_then(|o| o.source.prometheus.as_ref());
    if let Some(token) = prometheus.and_then(|p| p.token_secret_ref.as_ref()) {
        let field = "spec.observe.source.prometheus.tokenSecretRef".to_owned();
        secret(field, token, false, false);
    }
    for (index, notification) in spec.notifications.iter().enumerate() {
        let field = format!("spec.notifications[{index}].webhook.urlSecretRef");
        secret(field, &notification.webhook.url_secret_ref, false, false);
    }
    for (index, source) in spec.provision.secrets.from.iter().enumerate() {
        list.push(Named {
            field: format!("spec.provision.secrets.from[{index}].secretRef"),
            kind: RefKind::Secret,
            name: source.secret_ref.name.clone(),
            key: None,
            required: true,
            decides: true,
        });
    }
    let source = spec.deploy.source.as_ref();
    if let Some(credentials) = source.and_then(|source| source.credentials_secret_ref.as_ref()) {
        list.push(Named {
            field: "spec.deploy.source.credentialsSecretRef".to_owned(),
            kind: RefKind::Secret,
            name: credentials.name.clone(),
            key: None,
            // They are for reading tags: what is live needs them no more, and without them the
            // check on the image says so.
            required: false,
            decides: false,
        });
    }
    let config = spec.deploy.config.as_ref();
    if let Some(map) = config.and_then(|config| config.config_map_ref.as_ref()) {
        list.push(Named {
            field: "spec.deploy.config.configMapRef".to_owned(),
            kind: RefKind::ConfigMap,
            name: map.name.clone(),
            key: Some(map.key.clone()),
            required: true,
            decides: true,
        });
    }
    list
}

/// What an Activation names, each once: a change of any of these wakes it.
pub fn watched(activation: &Activation) -> BTreeSet<(RefKind, String)> {
    let named = named(activation).into_iter();
    named.map(|named| (named.kind, named.name)).collect()
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
            Ok::<_, Error>((name, secret))
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
    // What was decided about an earlier object of the same name is not about this one.
    let born = activation.creation_timestamp().map(|time| time.0);
    let mut rollbacks: Vec<RollbackRequest> = approvals
        .iter()
        .filter_map(RollbackRequest::of)
        .filter(|request| born.is_none_or(|born| request.created >= born))
        .collect();
    rollbacks.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    let versions = secrets
        .iter()
        .map(|(name, secret)| {
            let version = secret.as_ref().and_then(ResourceExt::resource_version);
            (name.clone(), version)
        })
        .collect();
    Ok(Refs {
        secrets: Arc::new(
            secrets
                .into_iter()
                .map(|(name, secret)| (name, secret.map(values)))
                .collect(),
        ),
        versions,
        config_maps: config_maps.into_iter().collect(),
        approvals: approvals
            .into_iter()
            .map(|approval| approval.spec)
            .collect(),
        rollbacks,
        source: None,
    })
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

#[cfg(test)]
impl Refs {
    /// What a namespace with these Secrets (name, key, value) and ConfigMaps would give.
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

    fn activation(spec: &str) -> Activation {
        let spec: serde_json::Value = serde_saphyr::from_str(spec).unwrap();
        serde_json::from_value(serde_json::json!({"metadata": {"name": "x"}, "spec": spec}))
            .unwrap()
    }

    const FULL: &str = "
        organization: o
        app: x
        region: eze
        tokenSecretRef: {name: fly}
        provision:
          postgres: {managed: {}, fallback: {urlSecretRef: {name: db, key: url}}}
          redis: {external: {urlSecretRef: {name: redis, key: url}}}
          secrets: {from: [{secretRef: {name: app}}, {secretRef: {name: db}}]}
        deploy: {image: 'x:1', config: {configMapRef: {name: config}}}
        integrations:
          whatsapp: {path: /w, verifyTokenSecretRef: {name: wa, key: a}, appSecretRef: {name: wa, key: b}}
        notifications: [{webhook: {urlSecretRef: {name: slack, key: url}}}]
    ";

    #[test]
    fn everything_that_is_named_is_watched_once() {
        let watched = watched(&activation(FULL));
        let names: Vec<&str> = watched.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(
            names,
            ["app", "db", "fly", "redis", "slack", "wa", "config"]
        );
    }

    #[test]
    fn only_what_a_live_application_needs_is_required() {
        let named = named(&activation(FULL));
        let optional: Vec<&str> = named
            .iter()
            .filter(|named| !named.required)
            .map(|named| named.field.as_str())
            .collect();
        assert_eq!(
            optional,
            [
                "spec.integrations.whatsapp.verifyTokenSecretRef",
                "spec.integrations.whatsapp.appSecretRef",
                "spec.notifications[0].webhook.urlSecretRef",
            ]
        );
    }

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
