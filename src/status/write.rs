//! The one place that writes `status`.

use std::time::Instant;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ManagedFieldsEntry};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams},
    core::{ApiResource, DynamicObject},
};

use crate::{
    api::{
        Activation, ActivationStatus, FIELD_MANAGER, Reason,
        condition::{self, ConditionStatus, ConditionType, Observation},
        status::Intent,
    },
    error::Error,
    pipeline::Owner,
};

/// The old status of an object, if it is its own: one that was copied or restored from a backup
/// carries another UID and is ignored.
pub fn own(activation: &Activation) -> Option<ActivationStatus> {
    let status = activation.status.clone()?;
    let own = status.uid.is_some() && status.uid == activation.metadata.uid;
    own.then_some(status)
}

/// True when an object carries a status that is not its own. Server-side apply would leave in place
/// what we do not set ourselves: the Go-Live of another object, its URL, its open intents.
pub fn foreign(activation: &Activation) -> bool {
    let fresh = ActivationStatus {
        observed_generation: Some(-1),
        ..ActivationStatus::default()
    };
    own(activation).is_none()
        && activation
            .status
            .as_ref()
            .is_some_and(|status| *status != fresh && *status != ActivationStatus::default())
}

/// Whether somebody else than Golive owns fields of the status.
pub fn has_stranger(activation: &Activation) -> bool {
    let fields = activation.metadata.managed_fields.iter().flatten();
    fields.into_iter().any(is_of_stranger)
}

/// Whether this entry says that somebody else than Golive owns fields of the status.
pub fn is_of_stranger(entry: &ManagedFieldsEntry) -> bool {
    entry.subresource.as_deref() == Some("status")
        && entry.manager.as_deref() != Some(FIELD_MANAGER)
}

/// The metadata of a write: an object that was deleted and made again meanwhile must not get this
/// status, nor one whose status somebody has written since `version`.
fn guarded(owner: &Owner, version: Option<u128>) -> serde_json::Value {
    let mut metadata =
        serde_json::json!({ "name": owner.name, "namespace": owner.namespace, "uid": owner.uid });
    if let Some(version) = version {
        metadata["resourceVersion"] = version.to_string().into();
    }
    metadata
}

/// Takes a status away that is not the object's own, if the object still has this version.
///
/// # Errors
/// When the API server refuses or cannot be reached; a conflict when the object has another version.
#[expect(clippy::disallowed_methods, reason = "the one writer of status")]
pub async fn clear(
    kube: &Client,
    owner: &Owner,
    version: Option<u128>,
) -> Result<Option<Stored>, Error> {
    let api: Api<Activation> = Api::namespaced(kube.clone(), &owner.namespace);
    let body = serde_json::json!({ "metadata": guarded(owner, version), "status": null });
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let stored = api
        .patch_status(&owner.name, &params, &Patch::Merge(body))
        .await
        .map_err(|source| Error::kube("take away the status of another object", source))?;
    Ok(Stored::of(&stored))
}

/// A status as the API server holds it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// `metadata.resourceVersion` of the object. Versions of one resource are numbers that grow
    /// (kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions).
    pub version: u128,
    /// The status.
    pub status: Option<ActivationStatus>,
    /// When it was read or written.
    pub at: Instant,
}

impl Stored {
    /// The status of an object as it was read or written.
    pub fn of(object: &Activation) -> Option<Self> {
        let version = object.metadata.resource_version.as_ref()?.parse().ok()?;
        Some(Self {
            version,
            status: object.status.clone(),
            at: Instant::now(),
        })
    }

    /// The announced creates in it.
    pub fn intents(&self) -> &[Intent] {
        match &self.status {
            Some(status) => &status.intents,
            None => &[],
        }
    }
}

/// Writes the whole status with server-side apply, if the object still has this version. The one
/// writer. Gives what was stored.
///
/// # Errors
/// When the API server refuses or cannot be reached; nothing is lost, the next pass writes. A conflict
/// when the object has another version.
#[expect(clippy::disallowed_methods, reason = "the one writer of status")]
pub async fn write(
    kube: &Client,
    owner: &Owner,
    version: Option<u128>,
    new: &ActivationStatus,
) -> Result<Option<Stored>, Error> {
    let api: Api<Activation> = Api::namespaced(kube.clone(), &owner.namespace);
    let body = serde_json::json!({
        "apiVersion": Activation::api_version(&()),
        "kind": Activation::kind(&()),
        "metadata": guarded(owner, version),
        "status": new,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let stored = api
        .patch_status(&owner.name, &params, &Patch::Apply(body))
        .await
        .map_err(|source| Error::kube("write the status", source))?;
    Ok(Stored::of(&stored))
}

/// The field manager of what is said of objects that cannot be decoded: one of its own, so that
/// applying two conditions takes nothing else away.
const UNDECODABLE: &str = "golive-undecodable";

/// Sets Ready and Live of an object that cannot be decoded to Unknown. `raw` is its present status;
/// everything else in it stays.
///
/// # Errors
/// When the API server refuses or cannot be reached.
#[expect(clippy::disallowed_methods, reason = "the one writer of status")]
pub async fn unknown(
    kube: &Client,
    owner: &Owner,
    raw: &serde_json::Value,
    message: &str,
    now: Timestamp,
) -> Result<(), Error> {
    let told = [ConditionType::Ready, ConditionType::Live];
    let old = raw.get("conditions").cloned().unwrap_or_default();
    let mut old: Vec<Condition> = serde_json::from_value(old).unwrap_or_default();
    old.retain(|known| told.iter().any(|type_| type_.as_str() == known.type_));
    let mut new = old.clone();
    for type_ in told {
        let seen = Observation::new(
            type_,
            ConditionStatus::Unknown,
            Reason::InvalidSpec,
            message,
        );
        condition::set(&mut new, seen, Some(owner.generation), now);
    }
    if new == old {
        return Ok(());
    }
    let resource = ApiResource::erase::<Activation>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(kube.clone(), &owner.namespace, &resource);
    let body = serde_json::json!({
        "apiVersion": Activation::api_version(&()),
        "kind": Activation::kind(&()),
        "metadata": { "name": owner.name, "namespace": owner.namespace, "uid": owner.uid },
        "status": { "conditions": new },
    });
    let params = PatchParams::apply(UNDECODABLE).force();
    api.patch_status(&owner.name, &params, &Patch::Apply(body))
        .await
        .map(drop)
        .map_err(|source| Error::kube("say that the object cannot be decoded", source))
}
