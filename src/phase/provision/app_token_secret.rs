//! The Secret in the operator's namespace that stores the token for one app.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
    core::ObjectMeta,
};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    api::{FIELD_MANAGER, LABEL_UID, LABEL_VERSION},
    error::Error,
    fly::app_token::MadeToken,
    pipeline::{Cx, step::Result},
};

/// Keys of the Secret.
const TOKEN: &str = "token";
const TOKEN_ID: &str = "id";

/// The stored token.
#[derive(Clone)]
pub struct StoredToken {
    /// Its id at Fly.io.
    pub id: String,
    /// The token; empty when the Secret does not hold text.
    pub value: SecretString,
    /// `resourceVersion` of the Secret.
    version: Option<String>,
}

impl fmt::Debug for StoredToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredToken")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

fn name(uid: &str) -> String {
    format!("golive-app-token-{uid}")
}

fn api(kube: &Client, own_namespace: &str) -> Api<Secret> {
    Api::namespaced(kube.clone(), own_namespace)
}

/// Reads the stored token.
///
/// # Errors
/// When Kubernetes refuses or does not answer.
pub async fn read(cx: &Cx) -> Result<Option<StoredToken>> {
    let name = name(&cx.owner.uid);
    let found = api(&cx.kube, &cx.installation.own_namespace)
        .get_opt(&name)
        .await
        .map_err(|source| Error::kube(format!("read the Secret {name}"), source))?;
    Ok(found.map(|secret| {
        let data = secret.data.unwrap_or_default();
        let text = |key: &str| {
            let bytes = data.get(key).map(|bytes| bytes.0.clone());
            bytes
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .unwrap_or_default()
        };
        StoredToken {
            id: text(TOKEN_ID),
            value: text(TOKEN).into(),
            version: secret.metadata.resource_version,
        }
    }))
}

/// Stores a token, in place of the stored one.
///
/// # Errors
/// When Kubernetes refuses or does not answer, or another process wrote the Secret in the meantime.
pub async fn store(cx: &Cx, made: &MadeToken) -> Result<()> {
    let name = name(&cx.owner.uid);
    let before = read(cx).await?;
    let labels = [
        ("app.kubernetes.io/name", "golive"),
        ("app.kubernetes.io/component", "app-token"),
        ("app.kubernetes.io/managed-by", "golive"),
        LABEL_VERSION,
        (LABEL_UID, cx.owner.uid.as_str()),
    ];
    let annotations = [
        ("golive.dev/namespace", cx.owner.namespace.as_str()),
        ("golive.dev/activation", cx.owner.name.as_str()),
    ];
    let text = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            labels: Some(text(&labels)),
            annotations: Some(text(&annotations)),
            resource_version: before.as_ref().and_then(|stored| stored.version.clone()),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([
            (
                TOKEN_ID.to_owned(),
                ByteString(made.id.clone().into_bytes()),
            ),
            (
                TOKEN.to_owned(),
                ByteString(made.value.expose_secret().as_bytes().to_vec()),
            ),
        ])),
        ..Secret::default()
    };
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let api = api(&cx.kube, &cx.installation.own_namespace);
    let written = match before {
        None => api.create(&params, &secret).await,
        Some(_) => api.replace(&name, &params, &secret).await,
    };
    written
        .map(drop)
        .map_err(|source| Error::kube(format!("store the token in the Secret {name}"), source))
}

/// Deletes the Secret, if it exists.
///
/// # Errors
/// When Kubernetes refuses or does not answer.
pub async fn delete(kube: &Client, own_namespace: &str, uid: &str) -> Result<()> {
    let name = name(uid);
    let gone = api(kube, own_namespace)
        .delete(&name, &DeleteParams::default())
        .await;
    match gone {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(source) => Err(Error::kube(format!("delete the Secret {name}"), source)),
    }
}
