//! What was chosen and resolved, kept where a restart finds it: a tag that moves while this process
//! is away changes nothing.
//!
//! One ConfigMap for each Activation, in the operator's own namespace, written when the answer
//! changes and never otherwise. The status tells the same and is not asked: it is a report, and one
//! from a backup must change nothing.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, PostParams},
    core::ObjectMeta,
};
use serde::{Deserialize, Serialize};

use crate::{
    api::{FIELD_MANAGER, LABEL_UID, Reason},
    error::Error,
    pipeline::{Owner, facts::Facts},
};

/// The key of the ConfigMap.
const KEY: &str = "image.json";

/// The value of the label `app.kubernetes.io/component`.
const COMPONENT: &str = "image";

/// An image that was chosen, or a tag that was resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Choice {
    /// The question that it answers; see [`crate::plan::asked`].
    pub asked: String,
    /// The image as the spec names it; of `deploy.source`, without a tag.
    pub image: String,
    /// The tag that was chosen; empty when the spec names it itself.
    #[serde(default)]
    pub tag: String,
    /// Its digest.
    pub digest: String,
    /// Whether Fly.io's machines can run it; `None` when the registry does not tell.
    #[serde(default)]
    pub runs_on_fly: Option<bool>,
    /// Why it was chosen, for the record of the release.
    #[serde(default)]
    pub why: String,
}

impl Choice {
    /// For people: the image and its tag.
    pub fn reference(&self) -> String {
        if self.tag.is_empty() {
            self.image.clone()
        } else {
            format!("{}:{}", self.image, self.tag)
        }
    }

    /// For messages: the tag and the first digits of the digest.
    pub fn name(&self) -> String {
        format!("{} ({})", self.tag, short(&self.digest))
    }
}

/// The first twelve digits of a digest.
pub fn short(digest: &str) -> String {
    let hex = digest.rsplit(':').next().unwrap_or_default();
    hex.chars().take(12).collect()
}

/// What is kept, and the version of the ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// The answer.
    pub choice: Option<Choice>,
    version: Option<String>,
}

fn api(kube: &Client, own_namespace: &str) -> Api<ConfigMap> {
    Api::namespaced(kube.clone(), own_namespace)
}

fn name(uid: &str) -> String {
    format!("golive-image-{uid}")
}

/// What is kept for an object. Read once in the life of this process: nobody else writes it.
///
/// # Errors
/// When Kubernetes does not answer, or what is there cannot be read: never taken for "none", because
/// then a tag that has moved would be deployed.
pub async fn load(
    kube: &Client,
    own_namespace: &str,
    owner: &Owner,
    facts: &Facts,
) -> Result<Stored, Error> {
    if let Some(stored) = facts.stored_image.get() {
        return Ok((*stored).clone());
    }
    let name = name(&owner.uid);
    let found = api(kube, own_namespace)
        .get_opt(&name)
        .await
        .map_err(|source| Error::kube("read which image was chosen", source))?;
    let stored = match found {
        None => Stored::default(),
        Some(map) => {
            let version = map.resource_version();
            let text = map.data.unwrap_or_default().remove(KEY).unwrap_or_default();
            let choice = serde_json::from_str(&text).map_err(|why| Error::Blocked {
                reason: Reason::InternalError,
                message: format!(
                    "the ConfigMap {own_namespace}/{name} does not hold an image ({why}): restore it, or delete it to have the image chosen anew"
                ),
            })?;
            Stored {
                choice: Some(choice),
                version,
            }
        }
    };
    facts.stored_image.set(stored.clone());
    Ok(stored)
}

/// Keeps an answer in the place of the one before.
///
/// # Errors
/// When Kubernetes does not answer, or somebody else has written meanwhile. What is there is read
/// again by the next look.
pub async fn save(
    kube: &Client,
    own_namespace: &str,
    owner: &Owner,
    facts: &Facts,
    choice: &Choice,
) -> Result<(), Error> {
    let before = load(kube, own_namespace, owner, facts).await?;
    let map = config_map(owner, choice, before.version.clone())?;
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let api = api(kube, own_namespace);
    let written = match before.version {
        Some(_) => api.replace(&name(&owner.uid), &params, &map).await,
        None => api.create(&params, &map).await,
    };
    match written {
        Ok(map) => {
            facts.stored_image.set(Stored {
                choice: Some(choice.clone()),
                version: map.resource_version(),
            });
            Ok(())
        }
        Err(source) => {
            facts.stored_image.clear();
            Err(Error::kube("keep which image was chosen", source))
        }
    }
}

fn config_map(owner: &Owner, choice: &Choice, version: Option<String>) -> Result<ConfigMap, Error> {
    let text = serde_json::to_string(choice).map_err(|_| Error::Malformed("chosen image"))?;
    let pairs = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    Ok(ConfigMap {
        metadata: ObjectMeta {
            name: Some(name(&owner.uid)),
            labels: Some(pairs(&[
                ("app.kubernetes.io/name", "golive"),
                ("app.kubernetes.io/component", COMPONENT),
                ("app.kubernetes.io/managed-by", "golive"),
                (LABEL_UID, &owner.uid),
            ])),
            annotations: Some(pairs(&[
                ("golive.dev/namespace", &owner.namespace),
                ("golive.dev/activation", &owner.name),
            ])),
            resource_version: version,
            ..ObjectMeta::default()
        },
        data: Some(pairs(&[(KEY, &text)])),
        ..ConfigMap::default()
    })
}

/// Forgets what is kept. Already gone is fine.
///
/// # Errors
/// When Kubernetes refuses or does not answer.
pub async fn delete(kube: &Client, own_namespace: &str, uid: &str) -> Result<(), Error> {
    let api = api(kube, own_namespace);
    match api.delete(&name(uid), &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(source) => Err(Error::kube("forget which image was chosen", source)),
    }
}
