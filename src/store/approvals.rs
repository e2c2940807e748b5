//! The status of ActivationApprovals: whether a decision counts. The one place that writes it.

use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams},
};

use crate::{
    api::{ActivationApproval, FIELD_MANAGER, approval::ActivationApprovalStatus},
    error::Error,
};

/// Writes the status of one ActivationApproval. `false`: it is gone.
///
/// # Errors
/// When the API server refuses or cannot be reached.
#[expect(clippy::disallowed_methods, reason = "the one writer of this status")]
pub async fn write_status(
    kube: &Client,
    namespace: &str,
    (name, uid): (&str, &str),
    status: &ActivationApprovalStatus,
) -> Result<bool, Error> {
    let api: Api<ActivationApproval> = Api::namespaced(kube.clone(), namespace);
    let body = serde_json::json!({
        "apiVersion": ActivationApproval::api_version(&()),
        "kind": ActivationApproval::kind(&()),
        // One that was deleted and made again meanwhile must not get this status.
        "metadata": { "name": name, "namespace": namespace, "uid": uid },
        "status": status,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    match api.patch_status(name, &params, &Patch::Apply(body)).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(false),
        Err(source) => Err(Error::kube(
            format!("write the status of the ActivationApproval {name}"),
            source,
        )),
    }
}
