//! `Activation.status`: derived purely from what a pass saw, and written at one place.

mod conditions;
mod lists;
mod next;
mod phases;

pub use next::{Removing, Seen, next};

use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams},
};

use crate::{
    api::{Activation, ActivationStatus, FIELD_MANAGER},
    error::Error,
    phase::Owner,
};

/// The old status of an object, if it is its own: one that was copied or restored from a backup
/// carries another UID and is not believed.
pub fn own(activation: &Activation) -> Option<ActivationStatus> {
    let status = activation.status.clone()?;
    let own = status.uid.is_some() && status.uid == activation.metadata.uid;
    own.then_some(status)
}

/// Writes the whole status with server-side apply, unless nothing has changed. The one writer.
///
/// `old` is what was last written, kept in memory, or the cached status just after a start: the
/// cache may lag behind our own last write. True when something was written.
///
/// # Errors
/// When the API server refuses or cannot be reached; nothing is lost, the next pass writes.
#[expect(clippy::disallowed_methods, reason = "the one writer of status")]
pub async fn write(
    kube: &Client,
    owner: &Owner,
    old: Option<&ActivationStatus>,
    new: &ActivationStatus,
) -> Result<bool, Error> {
    if old == Some(new) {
        return Ok(false);
    }
    let api: Api<Activation> = Api::namespaced(kube.clone(), &owner.namespace);
    let body = serde_json::json!({
        "apiVersion": Activation::api_version(&()),
        "kind": Activation::kind(&()),
        // An object that was deleted and made again meanwhile must not get this status.
        "metadata": { "name": owner.name, "namespace": owner.namespace, "uid": owner.uid },
        "status": new,
    });
    api.patch_status(
        &owner.name,
        &PatchParams::apply(FIELD_MANAGER).force(),
        &Patch::Apply(body),
    )
    .await
    .map_err(|source| Error::kube("write the status", source))?;
    Ok(true)
}
