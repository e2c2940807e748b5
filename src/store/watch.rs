//! What a watch has observed, stored so that a restart and a failover go on with it.
//!
//! One ConfigMap for each Activation in the operator's own namespace. While a watch runs it is written at
//! most every five minutes, and not after its end. The status shows figures but is never read for them.
//!
//! [`load`] and [`save`] keep nothing in memory: their caller holds the [`Stored`].

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::ConfigMap};
use kube::{Client, ResourceExt};

use crate::{
    api::Owner,
    error::Error,
    store::{self, Write},
};

/// The key of the ConfigMap with what the watch is about.
const KEY: &str = "watch.json";

/// The key of the ConfigMap with what was observed.
const EVIDENCE: &str = "evidence";

/// What the object is for, in its labels.
const COMPONENT: &str = "watch";

/// What is stored of a watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// What it is about, as JSON. Empty: nothing is stored.
    pub about: String,
    /// What was observed, as bytes.
    pub evidence: Vec<u8>,
    version: Option<String>,
}

impl Stored {
    /// Whether a watch is stored.
    pub fn exists(&self) -> bool {
        self.version.is_some()
    }
}

/// The name of the ConfigMap of the Activation with this UID.
pub fn name(uid: &str) -> String {
    format!("golive-watch-{uid}")
}

/// Reads what is stored for an Activation.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn load(kube: &Client, own_namespace: &str, uid: &str) -> Result<Stored, Error> {
    let found = store::maps(kube, own_namespace)
        .get_opt(&name(uid))
        .await
        .map_err(|source| Error::kube("read what the watch has observed", source))?;
    Ok(found.map(parse).unwrap_or_default())
}

fn parse(map: ConfigMap) -> Stored {
    let version = map.resource_version();
    let about = map.data.unwrap_or_default().remove(KEY);
    let evidence = map.binary_data.unwrap_or_default().remove(EVIDENCE);
    Stored {
        about: about.unwrap_or_default(),
        evidence: evidence.map(|bytes| bytes.0).unwrap_or_default(),
        version,
    }
}

/// Stores this in the place of `before`, and returns what is stored then; `None` when somebody else has
/// written since `before` was read: what is stored must be loaded again.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn save(
    kube: &Client,
    own_namespace: &str,
    owner: &Owner,
    before: &Stored,
    (about, evidence): (String, Vec<u8>),
) -> Result<Option<Stored>, Error> {
    let map = config_map(owner, &about, &evidence);
    let version = before.version.as_deref();
    let written = store::put(&store::maps(kube, own_namespace), map, version).await;
    let written =
        written.map_err(|source| Error::kube("store what the watch has observed", source))?;
    Ok(match written {
        Write::Done(map) => Some(Stored {
            about,
            evidence,
            version: map.resource_version(),
        }),
        Write::Conflict(_) => None,
    })
}

fn config_map(owner: &Owner, about: &str, evidence: &[u8]) -> ConfigMap {
    let evidence = (EVIDENCE.to_owned(), ByteString(evidence.to_vec()));
    ConfigMap {
        metadata: store::metadata(name(&owner.uid), COMPONENT, owner),
        data: Some(store::text([(KEY, about)])),
        binary_data: Some(BTreeMap::from([evidence])),
        ..ConfigMap::default()
    }
}

/// Deletes what is stored. Already gone is fine.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn delete(kube: &Client, own_namespace: &str, uid: &str) -> Result<(), Error> {
    store::delete(&store::maps(kube, own_namespace), &name(uid))
        .await
        .map_err(|source| Error::kube("delete what the watch has observed", source))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_read_back_byte_by_byte() {
        let owner = Owner {
            namespace: "cabanas".to_owned(),
            name: "mvp".to_owned(),
            uid: "u-1".to_owned(),
            generation: 1,
        };
        let mut map = config_map(&owner, "{}", &[0, 159, 255]);
        assert_eq!(map.metadata.name.as_deref(), Some("golive-watch-u-1"));
        assert!(!parse(map.clone()).exists());
        map.metadata.resource_version = Some("7".to_owned());
        let stored = parse(map);
        assert!(stored.exists());
        assert_eq!(
            (stored.about.as_str(), &stored.evidence[..]),
            ("{}", &[0, 159, 255][..])
        );
    }
}
