//! Finalizers: on the Activation before the first external write, and on the Secret with its
//! token until the work is done, so that deletion can still reach Fly.io.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
    core::DeserializeGuard,
};
use serde_json::json;

use crate::{
    api::{Activation, ActivationStatus, FIELD_MANAGER, FINALIZER, Reason},
    error::Error,
    pipeline::Owner,
};

/// Puts the finalizer on the Activation, if it is not there.
///
/// # Errors
/// When the API server refuses or cannot be reached, and when the object is gone or is another one of
/// the same name: nothing may be made for it then, because nobody would remove it.
pub async fn add_finalizer(
    activation: &Activation,
    kube: &Client,
    owner: &Owner,
) -> Result<(), Error> {
    if activation.finalizers().iter().any(|f| f == FINALIZER) {
        return Ok(());
    }
    let api: Api<Activation> = Api::namespaced(kube.clone(), &owner.namespace);
    // The version fences the change: only if the cache is old does it take a look first.
    let version = activation.resource_version();
    let mut finalizers = activation.finalizers().to_vec();
    finalizers.push(FINALIZER.to_owned());
    match set_finalizers(&api, &owner.name, version, &finalizers).await {
        Ok(true) => return Ok(()),
        Ok(false) => return Err(gone(owner)),
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
        return Ok(());
    }
    finalizers.push(FINALIZER.to_owned());
    match set_finalizers(&api, &owner.name, current.resource_version(), &finalizers).await? {
        true => Ok(()),
        false => Err(gone(owner)),
    }
}

fn gone(owner: &Owner) -> Error {
    Error::Blocked {
        reason: Reason::Deleting,
        message: format!(
            "the Activation {} was deleted before anything was made for it",
            owner.name
        ),
    }
}

/// Takes the finalizer off the Activation: the API server then removes the object.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn remove_finalizer(kube: &Client, owner: &Owner) -> Result<(), Error> {
    let api: Api<Activation> = Api::namespaced(kube.clone(), &owner.namespace);
    // The metadata alone: an object that cannot be decoded can be let go as well.
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

/// Puts the finalizer on the Secret that holds the Fly token. A Secret that is not there is
/// found by preflight.
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
    // A finalizer cannot be added to what is being deleted.
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

/// The Secrets that may carry our finalizer for this object: the one that the spec names, and those
/// that it named before, as far as this process or the status knows. The status is only a place to
/// look: nothing but our own finalizer is ever taken off, and only where nobody needs it, so that one
/// that was copied or made up does no harm.
pub fn held(
    activation: &Activation,
    protected: &BTreeSet<String>,
    old: Option<&ActivationStatus>,
) -> BTreeSet<String> {
    let told = [old, activation.status.as_ref()];
    let told = told.into_iter().flatten();
    told.filter_map(|status| status.token_secret.clone())
        .chain([activation.spec.token_secret_ref.name.clone()])
        .chain(protected.iter().cloned())
        .collect()
}

/// Takes the finalizer off a token's Secret, unless another Activation in the namespace still needs
/// it.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn release(name: &str, kube: &Client, owner: &Owner) -> Result<(), Error> {
    // One that cannot be decoded must not keep others from being deleted; with our finalizer on it
    // it may need any token.
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

/// Replaces the list of finalizers, if the object is still the one that was read. `false`: it is gone.
async fn set_finalizers<K>(
    api: &Api<K>,
    name: &str,
    resource_version: Option<String>,
    finalizers: &[String],
) -> Result<bool, Error>
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
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(false),
        Err(source) => Err(Error::kube(format!("set the finalizers of {name}"), source)),
    }
}
