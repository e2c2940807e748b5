//! The one place that writes `status`.

use std::time::Instant;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams},
    core::{ApiResource, DynamicObject},
};

use crate::{
    api::{
        Activation, ActivationStatus, FIELD_MANAGER, Reason,
        condition::{self, ConditionStatus, ConditionType, Observation},
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

/// Takes a status away that is not the object's own.
///
/// # Errors
/// When the API server refuses or cannot be reached.
#[expect(clippy::disallowed_methods, reason = "the one writer of status")]
pub async fn clear(kube: &Client, owner: &Owner) -> Result<(), Error> {
    let api: Api<Activation> = Api::namespaced(kube.clone(), &owner.namespace);
    let body = serde_json::json!({ "metadata": { "uid": owner.uid }, "status": null });
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    api.patch_status(&owner.name, &params, &Patch::Merge(body))
        .await
        .map(drop)
        .map_err(|source| Error::kube("take away the status of another object", source))
}

/// A status as the API server stored it.
#[derive(Clone, Debug)]
pub struct Written {
    /// `metadata.resourceVersion` of the write. Versions of one resource are numbers that grow
    /// (kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions).
    version: u128,
    status: Option<ActivationStatus>,
    /// When it was written.
    pub at: Instant,
}

impl Written {
    /// The status of an object as it was read or written just now.
    pub fn of(stored: Activation) -> Option<Self> {
        let version = stored.metadata.resource_version?.parse().ok()?;
        Some(Self {
            version,
            status: stored.status,
            at: Instant::now(),
        })
    }

    /// True when an object that is newer than this write carries another status: somebody else
    /// has written it. One that is older tells nothing, for the cache lags behind our writes.
    pub fn overwritten(&self, activation: &Activation) -> bool {
        let version = activation.metadata.resource_version.as_deref();
        version
            .and_then(|version| version.parse::<u128>().ok())
            .is_some_and(|version| version > self.version)
            && activation.status != self.status
    }
}

/// Writes the whole status with server-side apply, unless nothing has changed. The one writer.
///
/// `old` is what was last written, kept in memory, or the cached status just after a start: the
/// cache may lag behind our own last write. Gives what was stored when something was written.
///
/// # Errors
/// When the API server refuses or cannot be reached; nothing is lost, the next pass writes.
#[expect(clippy::disallowed_methods, reason = "the one writer of status")]
pub async fn write(
    kube: &Client,
    owner: &Owner,
    old: Option<&ActivationStatus>,
    new: &ActivationStatus,
) -> Result<Option<Written>, Error> {
    if old == Some(new) {
        return Ok(None);
    }
    let api: Api<Activation> = Api::namespaced(kube.clone(), &owner.namespace);
    let body = serde_json::json!({
        "apiVersion": Activation::api_version(&()),
        "kind": Activation::kind(&()),
        // An object that was deleted and made again meanwhile must not get this status.
        "metadata": { "name": owner.name, "namespace": owner.namespace, "uid": owner.uid },
        "status": new,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let stored = api
        .patch_status(&owner.name, &params, &Patch::Apply(body))
        .await
        .map_err(|source| Error::kube("write the status", source))?;
    Ok(Written::of(stored))
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
