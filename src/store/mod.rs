//! What Golive stores in Kubernetes, and how an object of ours is written and deleted.
//!
//! All objects but two are in the operator's own namespace, where the users' tools do not prune
//! them: claims on apps, the image that was chosen, records of releases, what people were told, what a watch
//! has observed, the token of an app, the key of fingerprints. The generated secrets of an Activation, and
//! its plan when the status has no room for it, are in its own namespace.
//!
//! May use: `error`, `notify`, `redact`, `api` and what is below them. Start reading at [`put`]; a small user of it is
//! [`image`].
//!
//! Every object has the labels of [`labels`] and, when it belongs to one Activation, the
//! annotations of [`annotations`]. Every write is fenced: a create fails when the object exists, a
//! replace fails when its version has changed. Such a conflict is a value, [`Write::Conflict`],
//! because what it means differs: for a claim somebody else won, for generated secrets it is read
//! again, for the image it ends the pass.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, PostParams, Preconditions},
    core::ObjectMeta,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::api::{FIELD_MANAGER, LABEL_UID, LABEL_VERSION, Owner};

pub mod approvals;
pub mod claim;
pub mod finalizers;
pub mod generated;
pub mod image;
pub mod installation_key;
pub mod outbox;
pub mod owners;
pub mod plan;
pub mod watch;

/// Label: what the object is for, such as `claim`.
pub const LABEL_COMPONENT: &str = "app.kubernetes.io/component";

/// Label: the tool that manages the object.
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// The value of [`LABEL_MANAGED_BY`].
pub const MANAGED_BY: &str = "golive";

/// Annotation: namespace of the Activation that the object belongs to.
const ANNOTATION_NAMESPACE: &str = "golive.dev/namespace";

/// Annotation: name of the Activation that the object belongs to.
const ANNOTATION_ACTIVATION: &str = "golive.dev/activation";

/// The result of a fenced write.
#[derive(Debug)]
pub enum Write<T> {
    /// It was applied.
    Done(T),
    /// It was not applied: the object was created, changed or deleted since it was read, or an
    /// earlier try of ours was applied and its reply was lost. Holds the answer of the API server.
    Conflict(kube::Error),
}

impl<T> Write<T> {
    /// For callers to whom a conflict is an error.
    ///
    /// # Errors
    /// On a conflict.
    pub fn into_result(self) -> Result<T, kube::Error> {
        match self {
            Self::Done(value) => Ok(value),
            Self::Conflict(error) => Err(error),
        }
    }

    /// True when the write was not applied because of another one.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict(_))
    }
}

/// Owned copies of pairs of text: labels, annotations, or the data of a ConfigMap.
pub fn text<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, String> {
    let pairs = pairs.into_iter();
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// Labels of an object that belongs to no Activation.
pub fn common_labels(component: &str) -> BTreeMap<String, String> {
    text([
        ("app.kubernetes.io/name", "golive"),
        (LABEL_COMPONENT, component),
        (LABEL_MANAGED_BY, MANAGED_BY),
        LABEL_VERSION,
    ])
}

/// Labels of an object that belongs to the Activation with this UID.
pub fn labels(component: &str, uid: &str) -> BTreeMap<String, String> {
    let mut labels = common_labels(component);
    labels.insert(LABEL_UID.to_owned(), uid.to_owned());
    labels
}

/// Annotations that name the Activation that an object belongs to, for people. A name can be too long
/// for a label.
pub fn annotations(owner: &Owner) -> BTreeMap<String, String> {
    text([
        (ANNOTATION_NAMESPACE, owner.namespace.as_str()),
        (ANNOTATION_ACTIVATION, owner.name.as_str()),
    ])
}

/// Metadata of an object in the operator's own namespace that belongs to an Activation.
pub fn metadata(name: String, component: &str, owner: &Owner) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        labels: Some(labels(component, &owner.uid)),
        annotations: Some(annotations(owner)),
        ..ObjectMeta::default()
    }
}

/// The ConfigMaps of one namespace: the operator's own.
pub fn maps(kube: &Client, own_namespace: &str) -> Api<ConfigMap> {
    Api::namespaced(kube.clone(), own_namespace)
}

/// A ConfigMap that belongs to an Activation and holds one value as JSON, under `key`.
///
/// # Errors
/// When the value has no JSON.
pub fn json_map(
    name: String,
    (component, key): (&str, &str),
    owner: &Owner,
    value: &impl Serialize,
) -> Result<ConfigMap, serde_json::Error> {
    let json = serde_json::to_string(value)?;
    Ok(ConfigMap {
        metadata: metadata(name, component, owner),
        data: Some(text([(key, json.as_str())])),
        ..ConfigMap::default()
    })
}

/// Selects the objects of a component that belong to the Activation with this UID.
pub fn selector(component: &str, uid: &str) -> ListParams {
    ListParams::default().labels(&format!("{LABEL_UID}={uid},{LABEL_COMPONENT}={component}"))
}

/// Writes an object under the name in its metadata: creates it when `version` is `None`, else
/// replaces the one that was read in this version. Returns the object as it was stored.
///
/// # Errors
/// When the API server refuses or cannot be reached, but for a conflict.
pub async fn put<K>(
    api: &Api<K>,
    mut object: K,
    version: Option<&str>,
) -> Result<Write<K>, kube::Error>
where
    K: Resource + Clone + Serialize + DeserializeOwned + fmt::Debug,
{
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    object.meta_mut().resource_version = version.map(str::to_owned);
    let written = match version {
        None => api.create(&params, &object).await,
        Some(_) => api.replace(&object.name_any(), &params, &object).await,
    };
    match written {
        Ok(stored) => Ok(Write::Done(stored)),
        Err(error) if lost_race(&error, version.is_some()) => Ok(Write::Conflict(error)),
        Err(error) => Err(error),
    }
}

/// Deletes an object of ours by its name. Already gone is fine.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn delete<K>(api: &Api<K>, name: &str) -> Result<(), kube::Error>
where
    K: Clone + DeserializeOwned + fmt::Debug,
{
    delete_if(api, name, None).await?.into_result()
}

/// Deletes the object with this UID. Already gone is fine; a conflict means that the name belongs
/// to another object by now, which stays. Without a UID it is [`delete`].
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn delete_if<K>(
    api: &Api<K>,
    name: &str,
    uid: Option<&str>,
) -> Result<Write<()>, kube::Error>
where
    K: Clone + DeserializeOwned + fmt::Debug,
{
    let params = DeleteParams {
        preconditions: uid.map(|uid| Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match api.delete(name, &params).await {
        Ok(_) => Ok(Write::Done(())),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Write::Done(())),
        Err(error) if uid.is_some() && lost_race(&error, false) => Ok(Write::Conflict(error)),
        Err(error) => Err(error),
    }
}

/// True when the API server refused a write because the object is not what was read. `replaces`:
/// the object existed; then "not found" says that it was deleted meanwhile. For a create, "not
/// found" is about the namespace, and an error.
fn lost_race(error: &kube::Error, replaces: bool) -> bool {
    match error {
        // Covers both reasons, Conflict and AlreadyExists.
        kube::Error::Api(status) => status.code == 409 || (replaces && status.is_not_found()),
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner {
            namespace: "cabanas".to_owned(),
            name: "mvp".to_owned(),
            uid: "u-1".to_owned(),
            generation: 1,
        }
    }

    fn refused(code: u16, reason: &str) -> kube::Error {
        let mut status = kube::core::Status::failure("no", reason);
        status.code = code;
        kube::Error::Api(Box::new(status))
    }

    #[test]
    fn an_object_that_changed_appeared_or_went_since_it_was_read_is_a_conflict() {
        assert!(lost_race(&refused(409, "Conflict"), true));
        assert!(lost_race(&refused(409, "AlreadyExists"), false));
        assert!(lost_race(&refused(404, "NotFound"), true));
    }

    #[test]
    fn a_missing_namespace_and_a_refusal_are_errors() {
        assert!(!lost_race(&refused(404, "NotFound"), false));
        assert!(!lost_race(&refused(403, "Forbidden"), true));
        assert!(!lost_race(&refused(500, "InternalError"), true));
    }

    #[test]
    fn a_conflict_is_a_value_that_a_caller_may_take_for_an_error() {
        let conflict: Write<()> = Write::Conflict(refused(409, "Conflict"));
        assert!(conflict.is_conflict());
        assert!(conflict.into_result().is_err());
        assert_eq!(Write::Done(7).into_result().unwrap(), 7);
    }

    #[test]
    fn an_object_of_an_activation_is_found_by_its_labels_and_names_it_in_annotations() {
        let metadata = metadata("golive-x".to_owned(), "claim", &owner());
        let labels = metadata.labels.unwrap();
        assert_eq!(labels["app.kubernetes.io/name"], "golive");
        assert_eq!(labels[LABEL_COMPONENT], "claim");
        assert_eq!(labels[LABEL_MANAGED_BY], "golive");
        assert_eq!(labels[LABEL_VERSION.0], LABEL_VERSION.1);
        assert_eq!(labels[LABEL_UID], "u-1");
        let annotations = metadata.annotations.unwrap();
        assert_eq!(annotations["golive.dev/namespace"], "cabanas");
        assert_eq!(annotations["golive.dev/activation"], "mvp");
        let selected = selector("claim", "u-1").label_selector.unwrap();
        for term in selected.split(',') {
            let (key, value) = term.split_once('=').unwrap();
            assert_eq!(labels[key], value);
        }
    }

    #[test]
    fn an_object_of_the_installation_has_no_uid() {
        assert!(!common_labels("fingerprint-key").contains_key(LABEL_UID));
    }
}
