//! The key of the fingerprints of secret values in a status. Each installation has a key of its own,
//! so that nobody can find a weak secret by computing fingerprints of guesses.

use std::sync::Arc;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, Client, core::ObjectMeta};

use crate::{
    api::Reason,
    error::Error,
    store::{self, Write},
};

/// What the object is for, in its labels.
const COMPONENT: &str = "fingerprint-key";

/// Name of the Secret in the operator's own namespace.
pub const NAME: &str = "golive-fingerprint-key";

/// The key in the Secret's data.
const KEY: &str = "key";

/// Length of the key in bytes: as long as an output of SHA-256.
const LENGTH: usize = 32;

/// Reads the key, or creates it when the operator starts for the first time. Two replicas that
/// start at once get the same key: the API server lets only one of them create it.
///
/// # Errors
/// When the API server refuses or cannot be reached, or the Secret holds no key.
pub async fn load(kube: &Client, namespace: &str) -> Result<Arc<[u8]>, Error> {
    let api: Api<Secret> = Api::namespaced(kube.clone(), namespace);
    let error = |what: &str, source| {
        let doing = format!("{what} the Secret {namespace}/{NAME}");
        Error::kube(doing, source)
    };
    let found = api.get_opt(NAME).await;
    let secret = match found.map_err(|source| error("read", source))? {
        Some(secret) => secret,
        None => match store::put(&api, fresh(), None).await {
            Ok(Write::Done(created)) => created,
            // Another replica was first, or our own reply was lost: the stored key counts.
            Ok(Write::Conflict(_)) => {
                let stored = api.get(NAME).await;
                stored.map_err(|source| error("read", source))?
            }
            Err(source) => return Err(error("create", source)),
        },
    };
    let key = secret.data.and_then(|mut data| data.remove(KEY));
    match key {
        Some(key) if key.0.len() >= LENGTH => Ok(key.0.into()),
        _ => Err(Error::Blocked {
            reason: Reason::SecretInvalid,
            message: format!("the Secret {namespace}/{NAME} has no usable `{KEY}`"),
            action: format!(
                "`kubectl -n {namespace} delete secret {NAME}`: a new key is then created, and all secrets are pushed once more"
            ),
        }),
    }
}

/// The Secret with a new key.
fn fresh() -> Secret {
    let key: [u8; LENGTH] = rand::random();
    Secret {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            labels: Some(store::common_labels(COMPONENT)),
            ..ObjectMeta::default()
        },
        data: Some([(KEY.to_owned(), ByteString(key.to_vec()))].into()),
        ..Secret::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_new_key_is_another_one_of_full_length() {
        let key = || fresh().data.and_then(|mut data| data.remove(KEY));
        assert_eq!(key().map(|key| key.0.len()), Some(LENGTH));
        assert_ne!(key(), key());
    }
}
