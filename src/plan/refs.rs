//! The values that an Activation names in its own namespace: Secrets, ConfigMaps, approvals. Read
//! only. A missing object is data, not an error. No field can name another namespace.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use futures::future::Either;
#[cfg(test)]
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client, ResourceExt, api::ListParams};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;

use crate::{
    api::{Activation, ActivationApproval, reference::TokenSecretRef},
    error::Error,
    flytoml,
    plan::{
        missing::{Defect, Missing},
        named::{Named, RefKind, named, watched},
        rollback_request,
        room::{MOST_BYTES, MOST_KEYS, NoRoom, Room, SMALL, Taken},
        votes::Vote,
    },
    redact::{self, Guarded, MOST_PARTS, Redactor},
};

pub use crate::plan::{allowed::Allowed, rollback_request::RollbackRequest};

/// The values of a ConfigMap, or why one is not text.
type ConfigData = BTreeMap<String, Result<String, String>>;

type SecretData = BTreeMap<String, Result<Value, Defect>>;

/// A value of a Secret.
#[derive(Clone, Debug)]
struct Value {
    /// Byte for byte: what an application gets.
    exact: Guarded,
    /// Without the line break at its end, which editors and `echo` add: a token or an address.
    /// `None`: it has none.
    line: Option<Guarded>,
}

impl Value {
    fn line(&self) -> &SecretString {
        self.line.as_ref().unwrap_or(&self.exact).secret()
    }
}

/// What people decided about an Activation.
#[derive(Clone, Debug, Default)]
pub struct Decisions {
    votes: Vec<Vote>,
    rollbacks: Vec<RollbackRequest>,
}

/// Everything that an Activation names, as it was read. It lives as long as the pass.
#[derive(Clone, Debug, Default)]
pub struct Refs {
    secrets: Arc<BTreeMap<String, Option<SecretData>>>,
    versions: BTreeMap<String, Option<String>>,
    deleted: BTreeMap<String, String>,
    /// Secrets that do not allow their use. Their values are not kept.
    refused: BTreeSet<String>,
    /// The Secret of the Fly token: no other field gets a value of it, whatever its key.
    token_secret: Option<String>,
    config_maps: Arc<BTreeMap<String, Option<ConfigData>>>,
    config_versions: BTreeMap<String, Option<String>>,
    decisions: Arc<Decisions>,
    /// The objects that are not here, because all together are too large.
    left_out: BTreeSet<(RefKind, String)>,
    large: bool,
    /// The room that the values take.
    _room: Option<Arc<Taken>>,
}

impl Refs {
    /// What is named and not available.
    pub fn missing(&self, activation: &Activation) -> Vec<(Named, Missing)> {
        let token = &activation.spec.token_secret_ref;
        let lack = |named: &Named| match (named.kind, &named.key) {
            (RefKind::Secret, _) if named.field == TOKEN_FIELD => self.token(token).err(),
            (RefKind::Secret, _) if named.name == token.name => Some(holds_token(&named.name)),
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

    /// Whether the Secrets and ConfigMaps are the same as those that were read before.
    pub fn is_same_version(&self, before: &Versions) -> bool {
        self.seen() == *before
    }

    /// The versions of the Secrets and ConfigMaps.
    pub fn seen(&self) -> Versions {
        Versions {
            secrets: self.versions.clone(),
            config_maps: self.config_versions.clone(),
            left_out: self.left_out.clone(),
            large: self.large,
        }
    }

    /// Whether the values are so large that what goes through all of them belongs on another thread.
    pub fn is_large(&self) -> bool {
        self.large
    }

    /// What people decided, to be used again with what another read finds.
    pub fn decisions(&self) -> Arc<Decisions> {
        self.decisions.clone()
    }

    /// The UID of this Secret, if somebody has deleted it and a finalizer holds it.
    pub fn deleted(&self, secret: &str) -> Option<&str> {
        self.deleted.get(secret).map(String::as_str)
    }

    /// The Fly token, without a line break at its end.
    ///
    /// # Errors
    /// When the Secret, the key, or a usable value is missing.
    pub fn token(&self, reference: &TokenSecretRef) -> Result<&SecretString, Missing> {
        self.line(&reference.name, &reference.key)
    }

    /// One value of a Secret that is a token or an address: without a line break at its end, which
    /// is never a part of it. Not the Fly token, which has a function of its own.
    ///
    /// # Errors
    /// When the Secret, the key, or a usable value is missing, or the Secret is that of the Fly token.
    pub fn secret(&self, name: &str, key: &str) -> Result<&SecretString, Missing> {
        self.is_apart(name)?;
        self.line(name, key)
    }

    fn line(&self, name: &str, key: &str) -> Result<&SecretString, Missing> {
        let value = self.value(name, key)?.line();
        if value.expose_secret().is_empty() {
            return Err(unusable(name, key, Defect::Empty));
        }
        Ok(value)
    }

    /// Whether a value ends with a line break, which [`Self::secret`] leaves out.
    pub fn ends_with_line_break(&self, name: &str, key: &str) -> bool {
        self.value(name, key)
            .is_ok_and(|value| value.line.is_some())
    }

    /// All values of a Secret for an application, byte for byte, by key.
    ///
    /// # Errors
    /// When the Secret does not exist, or is that of the Fly token, or a value in it cannot be that of an
    /// environment variable.
    pub fn secret_values(&self, name: &str) -> Result<BTreeMap<&str, &SecretString>, Missing> {
        self.is_apart(name)?;
        self.secret_data(name, None)?
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
        let data = self.secret_data(name, None);
        data.map_or_else(|_| Vec::new(), |data| data.keys().cloned().collect())
    }

    fn value(&self, name: &str, key: &str) -> Result<&Value, Missing> {
        let data = self.secret_data(name, Some(key))?;
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
            .ok_or_else(|| self.absent(RefKind::ConfigMap, name, Some(key)))?;
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
        &self.decisions.votes
    }

    /// The requests for a rollback, oldest first.
    pub fn rollbacks(&self) -> &[RollbackRequest] {
        &self.decisions.rollbacks
    }

    /// The Secret of the token is not for anything else: what names it beside that would send the token,
    /// or what stands beside it, to another place.
    fn is_apart(&self, name: &str) -> Result<(), Missing> {
        match self.token_secret.as_deref() == Some(name) {
            true => Err(holds_token(name)),
            false => Ok(()),
        }
    }

    /// The data of a Secret of which this key is needed.
    fn secret_data(&self, name: &str, key: Option<&str>) -> Result<&SecretData, Missing> {
        if self.refused.contains(name) {
            let name = name.to_owned();
            return Err(Missing::NotAllowed { name });
        }
        self.secrets
            .get(name)
            .and_then(Option::as_ref)
            .ok_or_else(|| self.absent(RefKind::Secret, name, key))
    }

    /// Why this object is not here.
    fn absent(&self, kind: RefKind, name: &str, key: Option<&str>) -> Missing {
        let name = name.to_owned();
        match self.left_out.contains(&(kind, name.clone())) {
            true => Missing::TooMuch { kind, name },
            false => Missing::Object {
                kind,
                name,
                key: key.map(str::to_owned),
            },
        }
    }
}

/// The versions of the Secrets and ConfigMaps that were read, to compare them with the next ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    secrets: BTreeMap<String, Option<String>>,
    config_maps: BTreeMap<String, Option<String>>,
    left_out: BTreeSet<(RefKind, String)>,
    large: bool,
}

impl Versions {
    /// Whether there was much.
    pub fn is_large(&self) -> bool {
        self.large
    }
}

/// Reads everything that the Activation names, and the Secrets `also`; the decisions of people only if
/// they are not `known`. `large` says that there was much when it was read before.
///
/// The values of a Secret that it may not use are dropped at once.
///
/// Its Secrets and ConfigMaps are read as long as they fit: beyond [`MOST_BYTES`], [`MOST_KEYS`] or
/// [`MOST_PARTS`] only the token is kept, and the rest counts as too much. What is read also takes nothing
/// from that: of these Secrets those are left out that do not fit beside it.
///
/// # Errors
/// When the API server refuses or cannot be reached, or there is no room. A missing object is no error.
pub async fn fetch(
    kube: &Client,
    (activation, also): (&Activation, &BTreeSet<String>),
    allowed: Allowed,
    room: &Room,
    known: Option<Arc<Decisions>>,
    large: bool,
) -> Result<Refs, Error> {
    let namespace = activation
        .namespace()
        .ok_or(Error::Malformed("namespace"))?;
    let mut taken = take(room, &namespace, large).await?;
    let decisions = async {
        match known {
            Some(known) => Ok::<_, Error>(known),
            None => {
                let approvals = approvals(kube, &namespace, activation).await?;
                Ok(Arc::new(Decisions {
                    rollbacks: rollback_request::of(activation, &approvals),
                    votes: approvals.iter().map(Vote::of).collect(),
                }))
            }
        }
    };
    let most = if large { MOST_BYTES } else { SMALL };
    let (mut found, decisions) =
        futures::try_join!(Found::read(kube, (activation, also), most), decisions)?;
    if !large && !found.fits() {
        // Gives back what it holds first: two passes that wait for each other would wait for ever.
        drop((found, taken));
        taken = take(room, &namespace, true).await?;
        found = Found::read(kube, (activation, also), MOST_BYTES).await?;
    }
    found.refuse(allowed, &activation.name_any());
    found.refs(decisions, taken).await
}

async fn take(room: &Room, namespace: &str, large: bool) -> Result<Taken, Error> {
    let taken = room.take(namespace, large).await;
    taken.map_err(|NoRoom| Error::Crowded)
}

/// Secrets and ConfigMaps as they are read, one after the other.
#[derive(Default)]
struct Found {
    secrets: Vec<(String, Option<Secret>)>,
    config_maps: Vec<(String, Option<ConfigMap>)>,
    versions: BTreeMap<String, Option<String>>,
    config_versions: BTreeMap<String, Option<String>>,
    left_out: BTreeSet<(RefKind, String)>,
    refused: BTreeSet<String>,
    /// The bytes that there is room for.
    most: usize,
    size: Size,
    /// The key of the token in its Secret.
    token: TokenSecretRef,
}

/// How much was read.
#[derive(Clone, Copy, Default)]
struct Size {
    bytes: usize,
    keys: usize,
    /// What is to be redacted: values of Secrets, with their lines and passwords.
    parts: usize,
}

/// Objects that one pass reads at the same time.
const AT_ONCE: usize = 3;

impl Found {
    /// Reads what an Activation names, the token's Secret first, until it has more than `most` bytes.
    async fn read(
        kube: &Client,
        (activation, also): (&Activation, &BTreeSet<String>),
        most: usize,
    ) -> Result<Self, Error> {
        let mut found = Self {
            most,
            token: activation.spec.token_secret_ref.clone(),
            ..Self::default()
        };
        let namespace = activation.namespace().unwrap_or_default();
        let token = &activation.spec.token_secret_ref.name;
        found
            .read_all(kube, &namespace, watched(activation), token)
            .await?;
        if found.fits() {
            found.read_also(kube, &namespace, also).await?;
        }
        Ok(found)
    }

    /// Reads these Secrets too, one by one. One that does not fit beside the rest is left out.
    async fn read_also(
        &mut self,
        kube: &Client,
        namespace: &str,
        also: &BTreeSet<String>,
    ) -> Result<(), Error> {
        let secrets: Api<Secret> = Api::namespaced(kube.clone(), namespace);
        for name in also {
            if self.versions.contains_key(name) {
                continue;
            }
            let secret = read(&secrets, name, "Secret").await?;
            self.add_beside(name, secret);
        }
        Ok(())
    }

    /// Adds a Secret that the spec does not name. One that does not fit is left out, and takes no room from
    /// what the spec names; with less room than the most, all is read again.
    fn add_beside(&mut self, name: &str, secret: Option<Secret>) {
        let before = self.size;
        self.add(name, Either::Left(secret));
        if !self.fits() && self.most == MOST_BYTES {
            self.secrets.pop();
            self.size = before;
            self.left_out.insert((RefKind::Secret, name.to_owned()));
        }
    }

    async fn read_all(
        &mut self,
        kube: &Client,
        namespace: &str,
        named: BTreeSet<(RefKind, String)>,
        token: &str,
    ) -> Result<(), Error> {
        let secrets: Api<Secret> = Api::namespaced(kube.clone(), namespace);
        let config_maps: Api<ConfigMap> = Api::namespaced(kube.clone(), namespace);
        let (first, mut rest): (Vec<_>, Vec<_>) = named
            .iter()
            .cloned()
            .partition(|(kind, name)| *kind == RefKind::Secret && name == token);
        rest.splice(0..0, first);
        // Some at a time, to notice too much early.
        let mut at_once = AT_ONCE;
        let mut rest = rest.as_slice();
        while !rest.is_empty() && self.fits() {
            let (now, later) = rest.split_at(at_once.min(rest.len()));
            let reads = now.iter().map(|(kind, name)| {
                let (secrets, config_maps) = (&secrets, &config_maps);
                async move {
                    Ok::<_, Error>(match kind {
                        RefKind::Secret => Either::Left(read(secrets, name, "Secret").await?),
                        RefKind::ConfigMap => {
                            Either::Right(read(config_maps, name, "ConfigMap").await?)
                        }
                    })
                }
            });
            for (found, (_, name)) in futures::future::try_join_all(reads)
                .await?
                .into_iter()
                .zip(now)
            {
                self.add(name, found);
            }
            // Large ones are read one by one.
            at_once = if self.size.bytes > LARGE { 1 } else { AT_ONCE };
            rest = later;
        }
        if !self.fits() && self.most == MOST_BYTES {
            self.leave_out(&named, token);
            for (kind, name) in rest {
                if *kind == RefKind::Secret {
                    let version = secrets.get_metadata_opt(name).await.map_err(|source| {
                        Error::kube(format!("read the metadata of the Secret {name}"), source)
                    })?;
                    let version = version.and_then(|secret| secret.resource_version());
                    self.versions.insert(name.clone(), version);
                }
            }
        }
        Ok(())
    }

    fn fits(&self) -> bool {
        let Size { bytes, keys, parts } = self.size;
        bytes <= self.most && keys <= MOST_KEYS && parts <= MOST_PARTS
    }

    fn add(&mut self, name: &str, found: Either<Option<Secret>, Option<ConfigMap>>) {
        let (bytes, keys) = match &found {
            Either::Left(secret) => {
                let data = secret
                    .iter()
                    .flat_map(|secret| secret.data.iter().flatten());
                size(data.map(|(key, value)| key.len() + value.0.len()))
            }
            Either::Right(map) => {
                let texts = map.iter().flat_map(|map| map.data.iter().flatten());
                let binary = map.iter().flat_map(|map| map.binary_data.iter().flatten());
                let texts = texts.map(|(key, value)| key.len() + value.len());
                size(texts.chain(binary.map(|(key, value)| key.len() + value.0.len())))
            }
        };
        self.size.bytes += bytes;
        self.size.keys += keys;
        match found {
            Either::Left(secret) => {
                let data = secret
                    .iter()
                    .flat_map(|secret| secret.data.iter().flatten());
                let parts: usize = data.map(|(_, value)| redact::parts(&value.0)).sum();
                self.size.parts += parts;
                let version = secret.as_ref().and_then(ResourceExt::resource_version);
                self.versions.insert(name.to_owned(), version);
                self.secrets.push((name.to_owned(), secret));
            }
            Either::Right(map) => {
                let version = map.as_ref().and_then(ResourceExt::resource_version);
                self.config_versions.insert(name.to_owned(), version);
                self.config_maps.push((name.to_owned(), map));
            }
        }
    }

    /// Drops the values of Secrets that the Activation of this name may not use.
    fn refuse(&mut self, allowed: Allowed, activation: &str) {
        let is_refused = |secret: &Option<Secret>| {
            let found = secret.as_ref();
            found.is_some_and(|secret| !allowed.allows(activation, secret))
        };
        let (refused, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.secrets)
            .into_iter()
            .partition(|(_, secret)| is_refused(secret));
        self.refused = refused.into_iter().map(|(name, _)| name).collect();
        self.secrets = kept;
    }

    /// Forgets everything but the token. Of its Secret the names of the other keys stay, without the values.
    fn leave_out(&mut self, named: &BTreeSet<(RefKind, String)>, token: &str) {
        self.secrets.retain(|(name, _)| name == token);
        let secrets = self.secrets.iter_mut();
        let data = secrets.filter_map(|(_, secret)| secret.as_mut()?.data.as_mut());
        for (_, value) in data.flatten().filter(|(key, _)| **key != self.token.key) {
            value.0.clear();
        }
        self.config_maps.clear();
        let others = named.iter();
        let others = others.filter(|(kind, name)| *kind == RefKind::ConfigMap || name != token);
        self.left_out = others.cloned().collect();
    }

    /// The values, as text. Large ones are converted, and learned for redaction, where that holds up
    /// nothing.
    async fn refs(self, decisions: Arc<Decisions>, mut taken: Taken) -> Result<Refs, Error> {
        let held = if self.fits() {
            self.size.bytes
        } else {
            LARGEST_TOKEN
        };
        taken.shrink(held);
        let redactor = redact::current();
        let large = self.size.bytes > LARGE;
        let convert = move || {
            let deleted = self.secrets.iter().filter_map(|(name, secret)| {
                let metadata = &secret.as_ref()?.metadata;
                metadata.deletion_timestamp.as_ref()?;
                Some((name.clone(), metadata.uid.clone()?))
            });
            let deleted = deleted.collect();
            let secrets = self.secrets.into_iter();
            let secrets = secrets.map(|(name, secret)| {
                let values = secret.map(|secret| values(secret, &redactor));
                (name, values)
            });
            let maps = self.config_maps.into_iter();
            Refs {
                secrets: Arc::new(secrets.collect()),
                versions: self.versions,
                deleted,
                refused: self.refused,
                token_secret: Some(self.token.name),
                config_maps: Arc::new(maps.map(|(name, map)| (name, map.map(texts))).collect()),
                config_versions: self.config_versions,
                decisions,
                left_out: self.left_out,
                large,
                _room: Some(Arc::new(taken)),
            }
        };
        if !large {
            return Ok(convert());
        }
        let converted = tokio::task::spawn_blocking(convert).await;
        converted.map_err(|error| Error::Panicked(error.to_string()))
    }
}

/// From here on a pass reads one object at a time, and goes through the values on another thread. Unit:
/// bytes.
pub const LARGE: usize = 64 * 1024;

/// What the Secret of a token has at most.
const LARGEST_TOKEN: usize = 1 << 20;

/// Sum and number.
fn size(sizes: impl Iterator<Item = usize>) -> (usize, usize) {
    sizes.fold((0, 0), |(bytes, keys), size| (bytes + size, keys + 1))
}

/// Reads an object by name; `None`: it does not exist.
async fn read<K>(api: &Api<K>, name: &str, kind: &str) -> Result<Option<K>, Error>
where
    K: Clone + DeserializeOwned + fmt::Debug,
{
    let found = api.get_opt(name).await;
    found.map_err(|source| Error::kube(format!("read the {kind} {name}"), source))
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

/// The field of the token.
const TOKEN_FIELD: &str = "spec.tokenSecretRef";

fn holds_token(name: &str) -> Missing {
    Missing::HoldsToken {
        name: name.to_owned(),
    }
}

fn unusable(name: &str, key: &str, defect: Defect) -> Missing {
    Missing::Unusable {
        name: name.to_owned(),
        key: key.to_owned(),
        defect,
    }
}

/// The values of a Secret as text.
fn values(secret: Secret, redactor: &Redactor) -> SecretData {
    secret
        .data
        .unwrap_or_default()
        .into_iter()
        .map(|(key, bytes)| {
            let value = match String::from_utf8(bytes.0) {
                Ok(text) if text.contains('\0') => Err(Defect::Nul),
                Ok(text) => {
                    let line = text.trim_end_matches(LINE_BREAKS);
                    let line = (line.len() < text.len()).then(|| SecretString::from(line));
                    let line = line.map(|line| redactor.guard(line));
                    let exact = redactor.guard(SecretString::from(text));
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
            let values = values(secret, &redact::current());
            entry.get_or_insert_default().extend(values);
        }
        refs.secrets = Arc::new(all);
        let maps = Arc::make_mut(&mut refs.config_maps);
        for (name, key, value) in config_maps {
            let entry = maps.entry((*name).to_owned()).or_default();
            entry
                .get_or_insert_default()
                .insert((*key).to_owned(), Ok((*value).to_owned()));
        }
        refs
    }

    /// The same with a ConfigMap as the API server returns it.
    pub(crate) fn with_config_map(mut self, map: ConfigMap) -> Self {
        let name = map.name_any();
        Arc::make_mut(&mut self.config_maps).insert(name, Some(texts(map)));
        self
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
