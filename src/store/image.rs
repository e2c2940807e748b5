//! The image that was chosen or resolved, stored so that a restart finds it: a tag that moves while
//! no process runs changes nothing.
//!
//! One ConfigMap for each Activation in the operator's own namespace, written only when the image
//! changes. The status shows the same but is never read for it: a status is a report, and one from a
//! backup must change nothing.
//!
//! [`load`] and [`save`] keep nothing in memory: their caller holds the [`Stored`].

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Client, ResourceExt};
use serde::{Deserialize, Serialize};

use crate::{
    api::{Owner, Reason},
    error::Error,
    store::{self, Write},
};

/// The key of the ConfigMap.
const KEY: &str = "image.json";

/// What the object is for, in its labels.
const COMPONENT: &str = "image";

/// An image that was chosen, or a tag that was resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Choice {
    /// The question that it answers, as `plan::asked` computes it. An answer to another question
    /// does not count.
    pub asked: String,
    /// The image as the spec names it; of `deploy.source`, without a tag.
    pub image: String,
    /// The tag that was chosen; empty when the spec names it itself.
    #[serde(default)]
    pub tag: String,
    /// Its digest.
    pub digest: String,
    /// Whether Fly.io's machines can run it; `None` when the registry does not say.
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

/// An image whose digest is known: what machines are given. A fact of a pass, set where the image is
/// resolved and read by the steps of Deploy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The question that it answers, as `plan::asked` computes it.
    pub asked: String,
    /// As the spec names it, or with the tag that was chosen.
    pub reference: String,
    /// Reference with the digest, as machines get it: `registry/repository@sha256:...`.
    pub pinned: String,
    /// `sha256:...`.
    pub digest: String,
    /// Whether Fly.io's machines can run it; `None` when the registry does not say.
    pub runs_on_fly: Option<bool>,
}

/// What is stored for an Activation, and in which version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// The image; `None` when none was ever stored.
    pub choice: Option<Choice>,
    version: Option<String>,
}

fn name(uid: &str) -> String {
    format!("golive-image-{uid}")
}

/// Reads what is stored for an Activation. Once in the life of a process is enough, because no
/// other process writes it.
///
/// # Errors
/// When the API server refuses or cannot be reached, or the ConfigMap cannot be parsed. It is never
/// taken for "none", because then a tag that has moved would be deployed.
pub async fn load(kube: &Client, own_namespace: &str, owner: &Owner) -> Result<Stored, Error> {
    let found = store::maps(kube, own_namespace)
        .get_opt(&name(&owner.uid))
        .await
        .map_err(|source| Error::kube("read which image was chosen", source))?;
    match found {
        None => Ok(Stored::default()),
        Some(map) => parse(map).map_err(|why| Error::Blocked {
            reason: Reason::InternalError,
            message: format!(
                "the ConfigMap {own_namespace}/{} does not hold an image ({why})",
                name(&owner.uid)
            ),
            action: "restore it, or delete it to have the image chosen again".to_owned(),
        }),
    }
}

fn parse(map: ConfigMap) -> Result<Stored, serde_json::Error> {
    let version = map.resource_version();
    let text = map.data.unwrap_or_default().remove(KEY).unwrap_or_default();
    Ok(Stored {
        choice: Some(serde_json::from_str(&text)?),
        version,
    })
}

/// Stores a choice in the place of `before`, and returns what is stored then.
///
/// # Errors
/// When the API server refuses or cannot be reached, or somebody else has written since `before` was
/// read: what follows from the choice must not begin, and what is stored must be loaded again.
pub async fn save(
    kube: &Client,
    own_namespace: &str,
    owner: &Owner,
    before: &Stored,
    choice: &Choice,
) -> Result<Stored, Error> {
    let map = config_map(owner, choice)?;
    let version = before.version.as_deref();
    let written = store::put(&store::maps(kube, own_namespace), map, version).await;
    let map = written
        .and_then(Write::into_result)
        .map_err(|source| Error::kube("store which image was chosen", source))?;
    Ok(Stored {
        choice: Some(choice.clone()),
        version: map.resource_version(),
    })
}

fn config_map(owner: &Owner, choice: &Choice) -> Result<ConfigMap, Error> {
    store::json_map(name(&owner.uid), (COMPONENT, KEY), owner, choice)
        .map_err(|_| Error::Malformed("chosen image"))
}

/// Deletes what is stored. Already gone is fine.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn delete(kube: &Client, own_namespace: &str, uid: &str) -> Result<(), Error> {
    store::delete(&store::maps(kube, own_namespace), &name(uid))
        .await
        .map_err(|source| Error::kube("delete which image was chosen", source))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_read_back_and_what_cannot_be_parsed_is_never_none() {
        let owner = Owner {
            namespace: "cabanas".to_owned(),
            name: "mvp".to_owned(),
            uid: "u-1".to_owned(),
            generation: 1,
        };
        let choice = Choice {
            asked: "q".to_owned(),
            image: "registry.fly.io/shop".to_owned(),
            tag: "1.4.0".to_owned(),
            digest: "sha256:a".to_owned(),
            runs_on_fly: Some(true),
            why: "source: semver 1.4.0".to_owned(),
        };
        let mut map = config_map(&owner, &choice).unwrap();
        assert_eq!(map.metadata.name.as_deref(), Some("golive-image-u-1"));
        map.metadata.resource_version = Some("7".to_owned());
        let stored = parse(map).unwrap();
        assert_eq!(stored.choice, Some(choice));
        assert_eq!(stored.version.as_deref(), Some("7"));
        assert!(parse(ConfigMap::default()).is_err());
    }

    #[test]
    fn an_object_of_an_earlier_version_is_read_the_same() {
        let text = r#"{"asked": "q", "image": "shop:1", "digest": "sha256:a"}"#;
        let map = ConfigMap {
            data: Some(store::text([(KEY, text)])),
            ..ConfigMap::default()
        };
        let choice = parse(map).unwrap().choice.unwrap();
        assert_eq!((choice.tag.as_str(), choice.runs_on_fly), ("", None));
    }
}
