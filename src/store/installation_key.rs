//! The key of the fingerprints that stand in status: one per installation, so that a fingerprint
//! of a weak secret cannot be searched for.

use std::sync::Arc;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, Client, api::PostParams, core::ObjectMeta};

use crate::{
    api::{FIELD_MANAGER, LABEL_VERSION},
    error::Error,
};

/// Name of the Secret in the operator's own namespace.
pub const NAME: &str = "golive-fingerprint-key";

/// Its key.
const KEY: &str = "key";

/// Bytes of the key: the block of SHA-256's output.
const LENGTH: usize = 32;

/// Reads the key, and makes it when the operator starts for the first time. Two replicas that
/// start at once end with the same key: the API server lets only one create it.
///
/// # Errors
/// When the API server refuses or cannot be reached, or the Secret holds no key.
pub async fn load(kube: &Client, namespace: &str) -> Result<Arc<[u8]>, Error> {
    let api: Api<Secret> = Api::namespaced(kube.clone(), namespace);
    let doing = |what: &str| format!("{what} the Secret {namespace}/{NAME}");
    let found = api
        .get_opt(NAME)
        .await
        .map_err(|source| Error::kube(doing("read"), source))?;
    let secret = match found {
        Some(secret) => secret,
        None => {
            let fresh: [u8; LENGTH] = rand::random();
            let secret = Secret {
                metadata: ObjectMeta {
                    name: Some(NAME.to_owned()),
                    labels: Some(
                        [("app.kubernetes.io/managed-by", "golive"), LABEL_VERSION]
                            .map(|(key, value)| (key.to_owned(), value.to_owned()))
                            .into(),
                    ),
                    ..ObjectMeta::default()
                },
                data: Some([(KEY.to_owned(), ByteString(fresh.to_vec()))].into()),
                ..Secret::default()
            };
            let params = PostParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PostParams::default()
            };
            match api.create(&params, &secret).await {
                Ok(created) => created,
                // Another replica was first, or our own reply was lost: what stands there counts.
                Err(kube::Error::Api(status)) if status.is_already_exists() => api
                    .get(NAME)
                    .await
                    .map_err(|source| Error::kube(doing("read"), source))?,
                Err(source) => return Err(Error::kube(doing("create"), source)),
            }
        }
    };
    let key = secret.data.and_then(|mut data| data.remove(KEY));
    match key {
        Some(key) if key.0.len() >= LENGTH => Ok(key.0.into()),
        _ => Err(Error::Blocked {
            reason: crate::api::Reason::SecretInvalid,
            message: format!(
                "the Secret {namespace}/{NAME} has no usable `{KEY}`: delete it, and a new one is made (all secrets are then pushed once more)"
            ),
        }),
    }
}
