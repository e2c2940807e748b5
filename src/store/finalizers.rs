//! Our finalizers: on the Activation from before the first external write, and on the Secret with
//! its token for as long as deletion needs the token to reach Fly.io.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
    core::DeserializeGuard,
};
use serde_json::json;

use crate::{
    api::{Activation, ActivationStatus, FIELD_MANAGER, FINALIZER, Owner, Reason},
    error::Error,
};

/// The versions of an object before and after its finalizers were set.
pub type Moved = (String, String);

/// Adds the finalizer to the Activation, if it is missing. Returns the versions before and after, if
/// the write followed from the version that was given.
///
/// # Errors
/// When the API server refuses or cannot be reached, and when the object is gone or another one has
/// its name: nothing may be created for it then, because nobody would remove it.
pub async fn add_finalizer(
    activation: &Activation,
    kube: &Client,
    owner: &Owner,
) -> Result<Option<Moved>, Error> {
    if activation.finalizers().iter().any(|f| f == FINALIZER) {
        return Ok(None);
    }
    let api: Api<Activation> = Api::namespaced(kube.clone(), &owner.namespace);
    // The write is fenced by the cached version. Only when the cache is stale is the object read.
    let version = activation.resource_version();
    let mut finalizers = activation.finalizers().to_vec();
    finalizers.push(FINALIZER.to_owned());
    match set_finalizers(&api, &owner.name, version.clone(), &finalizers).await {
        Ok(Some(after)) => return Ok(version.map(|before| (before, after))),
        Ok(None) => return Err(gone(owner)),
        Err(error) if error.is_conflict() => {}
        Err(error) => return Err(error),
    }
    let current = api
        .get_opt(&owner.name)
        .await
        .map_err(|source| Error::kube("read the activation", source))?;
    let same = current.filter(|current| current.uid().as_deref() == Some(&owner.uid));
    let Some(current) = same else {
        return Err(gone(owner));
    };
    let mut finalizers = current.finalizers().to_vec();
    if finalizers.iter().any(|f| f == FINALIZER) {
        return Ok(None);
    }
    finalizers.push(FINALIZER.to_owned());
    match set_finalizers(&api, &owner.name, current.resource_version(), &finalizers).await? {
        Some(_) => Ok(None),
        None => Err(gone(owner)),
    }
}

fn gone(owner: &Owner) -> Error {
    Error::Blocked {
        reason: Reason::Deleting,
        message: format!(
            "the Activation {} was deleted before anything was created for it",
            owner.name
        ),
        action: String::new(),
    }
}

/// Removes the finalizer from the Activation: the API server then deletes the object.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn remove_finalizer(kube: &Client, owner: &Owner) -> Result<(), Error> {
    let api: Api<Activation> = Api::namespaced(kube.clone(), &owner.namespace);
    // Metadata only, so that it works for an object that cannot be decoded too.
    let current = api
        .get_metadata_opt(&owner.name)
        .await
        .map_err(|source| Error::kube("read the activation", source))?;
    match current {
        Some(current) if current.uid().as_deref() == Some(&owner.uid) => {
            let rest = without(current.finalizers());
            let set = set_finalizers(&api, &owner.name, current.resource_version(), &rest);
            set.await.map(drop)
        }
        _ => Ok(()),
    }
}

/// Adds the finalizer to the Secret that holds the Fly token. A missing Secret is reported by
/// preflight.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn protect(activation: &Activation, kube: &Client, owner: &Owner) -> Result<(), Error> {
    let api: Api<Secret> = Api::namespaced(kube.clone(), &owner.namespace);
    let name = &activation.spec.token_secret_ref.name;
    let secret = api
        .get_metadata_opt(name)
        .await
        .map_err(|source| Error::kube(format!("read the Secret {name}"), source))?;
    let Some(secret) = secret else { return Ok(()) };
    // The API server refuses new finalizers on an object that is being deleted.
    if secret.finalizers().iter().any(|f| f == FINALIZER)
        || secret.metadata.deletion_timestamp.is_some()
    {
        return Ok(());
    }
    let mut finalizers = secret.finalizers().to_vec();
    finalizers.push(FINALIZER.to_owned());
    let set = set_finalizers(&api, name, secret.resource_version(), &finalizers);
    set.await.map(drop)
}

/// Names of the Secrets that may carry our finalizer for this object: the one that the spec names,
/// those that this process `protected`, and the one that the status recorded. A wrong entry in a
/// status does no harm: [`release`] removes nothing but our own finalizer, and only where no other
/// Activation needs it.
pub fn held(
    activation: &Activation,
    protected: &BTreeSet<String>,
    old: Option<&ActivationStatus>,
) -> BTreeSet<String> {
    let statuses = [old, activation.status.as_ref()];
    let statuses = statuses.into_iter().flatten();
    statuses
        .filter_map(|status| status.token_secret.clone())
        .chain([activation.spec.token_secret_ref.name.clone()])
        .chain(protected.iter().cloned())
        .collect()
}

/// Removes the finalizer from a token's Secret, unless another Activation of the namespace needs the
/// token.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn release(name: &str, kube: &Client, owner: &Owner) -> Result<(), Error> {
    // An Activation that cannot be decoded must not block the deletion of others. If it carries our
    // finalizer, it may need any token.
    let activations: Api<DeserializeGuard<Activation>> =
        Api::namespaced(kube.clone(), &owner.namespace);
    let others = activations
        .list(&ListParams::default())
        .await
        .map_err(|source| Error::kube("list the activations of the namespace", source))?;
    let needed = others.items.iter().any(|other| {
        other.uid().as_deref() != Some(&owner.uid)
            && other.finalizers().iter().any(|f| f == FINALIZER)
            && other
                .0
                .as_ref()
                .map_or(true, |other| other.spec.token_secret_ref.name == name)
    });
    if needed {
        return Ok(());
    }
    let api: Api<Secret> = Api::namespaced(kube.clone(), &owner.namespace);
    let secret = api
        .get_metadata_opt(name)
        .await
        .map_err(|source| Error::kube(format!("read the Secret {name}"), source))?;
    match secret {
        Some(secret) if secret.finalizers().iter().any(|f| f == FINALIZER) => {
            let rest = without(secret.finalizers());
            let set = set_finalizers(&api, name, secret.resource_version(), &rest);
            set.await.map(drop)
        }
        _ => Ok(()),
    }
}

fn without(finalizers: &[String]) -> Vec<String> {
    finalizers
        .iter()
        .filter(|finalizer| *finalizer != FINALIZER)
        .cloned()
        .collect()
}

/// Replaces the list of finalizers, if the object still has the version that was read. Returns its
/// version after that; `None`: the object is gone.
async fn set_finalizers<K>(
    api: &Api<K>,
    name: &str,
    resource_version: Option<String>,
    finalizers: &[String],
) -> Result<Option<String>, Error>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let patch = json!({
        "metadata": { "finalizers": finalizers, "resourceVersion": resource_version }
    });
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    match api
        .patch_metadata(name, &params, &Patch::Merge(&patch))
        .await
    {
        Ok(stored) => Ok(Some(stored.metadata.resource_version.unwrap_or_default())),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
        Err(source) => Err(Error::kube(format!("set the finalizers of {name}"), source)),
    }
}
