//! What people were told of an Activation, and the messages that are on their way, stored so that a
//! restart and another replica find them: one ConfigMap in the operator's own namespace, written before
//! a message is sent and when it has arrived.
//!
//! [`load`] and [`save`] keep nothing in memory: their caller holds the [`Stored`].

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Client, ResourceExt};

use crate::{
    api::Owner,
    error::Error,
    notify::Outbox,
    store::{self, Write},
};

/// The key of the ConfigMap.
const KEY: &str = "outbox.json";

/// What the object is for, in its labels.
const COMPONENT: &str = "outbox";

/// What is stored for an Activation, and in which version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// What was told; `None` when nothing was ever stored, or it cannot be parsed.
    pub outbox: Option<Outbox>,
    version: Option<String>,
}

impl Stored {
    /// The same version, with what this process remembers of it beside.
    #[must_use]
    pub fn holding(self, outbox: Outbox) -> Self {
        Self {
            outbox: Some(outbox),
            ..self
        }
    }
}

fn name(uid: &str) -> String {
    format!("golive-outbox-{uid}")
}

/// Reads what is stored for an Activation. One that cannot be parsed counts as none, and is replaced:
/// nothing that Golive does follows from it but messages.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn load(kube: &Client, own_namespace: &str, uid: &str) -> Result<Stored, Error> {
    let found = store::maps(kube, own_namespace).get_opt(&name(uid)).await;
    let found = found.map_err(|source| Error::kube("read what people were told", source))?;
    Ok(found.map(parse).unwrap_or_default())
}

fn parse(map: ConfigMap) -> Stored {
    let version = map.resource_version();
    let text = map.data.unwrap_or_default().remove(KEY).unwrap_or_default();
    let outbox = serde_json::from_str(&text);
    let outbox = outbox.inspect_err(|error| {
        tracing::warn!(%error, "what people were told cannot be parsed; it begins anew");
    });
    Stored {
        outbox: outbox.ok(),
        version,
    }
}

/// Stores an outbox in the place of `before`. A conflict is a value: somebody else has written since
/// `before` was read, and nothing may be sent that only this outbox knows.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn save(
    kube: &Client,
    own_namespace: &str,
    owner: &Owner,
    before: &Stored,
    outbox: &Outbox,
) -> Result<Write<Stored>, Error> {
    let map = config_map(owner, outbox)?;
    let version = before.version.as_deref();
    let written = store::put(&store::maps(kube, own_namespace), map, version).await;
    let written = written.map_err(|source| Error::kube("store what people were told", source))?;
    Ok(match written {
        Write::Done(map) => Write::Done(Stored {
            outbox: Some(outbox.clone()),
            version: map.resource_version(),
        }),
        Write::Conflict(error) => Write::Conflict(error),
    })
}

fn config_map(owner: &Owner, outbox: &Outbox) -> Result<ConfigMap, Error> {
    store::json_map(name(&owner.uid), (COMPONENT, KEY), owner, outbox)
        .map_err(|_| Error::Malformed("outbox"))
}

/// Deletes what is stored. Already gone is fine.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn delete(kube: &Client, own_namespace: &str, uid: &str) -> Result<(), Error> {
    store::delete(&store::maps(kube, own_namespace), &name(uid))
        .await
        .map_err(|source| Error::kube("delete what people were told", source))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_read_as_it_was_written_and_nonsense_begins_anew() {
        let owner = Owner {
            namespace: "cabanas".to_owned(),
            name: "mvp".to_owned(),
            uid: "u-1".to_owned(),
            generation: 1,
        };
        let mut map = config_map(&owner, &Outbox::default()).unwrap();
        assert_eq!(map.metadata.name.as_deref(), Some("golive-outbox-u-1"));
        map.metadata.resource_version = Some("7".to_owned());
        let mut nonsense = map.clone();
        let read = parse(map);
        assert_eq!(read.outbox, Some(Outbox::default()));
        nonsense.data = Some(store::text([(KEY, "{\"told\": 7}")]));
        let read = parse(nonsense);
        assert_eq!((read.outbox, read.version.as_deref()), (None, Some("7")));
    }
}
