//! The Secret in the operator's namespace that stores the token for one app.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, Client};
use secrecy::{ExposeSecret, SecretString};

use super::token_pace::Making;
use crate::{
    error::Error,
    fly::app_token::MadeToken,
    pipeline::{Cx, step::Result},
    store::{self, Write},
};

/// Keys of the Secret.
const TOKEN: &str = "token";
const TOKEN_ID: &str = "id";

/// Annotations of the Secret: when the token was made, by Fly.io's clock, and how many in a row.
const MADE_AT: &str = "golive.dev/made-at";
const MADE_IN_A_ROW: &str = "golive.dev/made-in-a-row";

/// The stored token.
#[derive(Clone)]
pub struct StoredToken {
    /// Its id at Fly.io.
    pub id: String,
    /// The token; empty when the Secret does not hold text.
    pub value: SecretString,
    /// Its making; `None` in a Secret of an earlier version.
    pub made: Option<Making>,
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
            made: made(secret.metadata.annotations.as_ref()),
            version: secret.metadata.resource_version,
        }
    }))
}

fn made(annotations: Option<&BTreeMap<String, String>>) -> Option<Making> {
    let annotations = annotations?;
    let at: Timestamp = annotations.get(MADE_AT)?.parse().ok()?;
    let row = annotations.get(MADE_IN_A_ROW)?.parse().ok()?;
    Some(Making { at, row })
}

/// Whether a token is stored for the Activation with this UID.
///
/// # Errors
/// When Kubernetes refuses or does not answer.
pub async fn is_stored(kube: &Client, own_namespace: &str, uid: &str) -> Result<bool> {
    let name = name(uid);
    let found = api(kube, own_namespace).get_metadata_opt(&name).await;
    let found = found.map_err(|source| Error::kube(format!("read the Secret {name}"), source))?;
    Ok(found.is_some())
}

/// Stores a token, in place of the stored one.
///
/// # Errors
/// When Kubernetes refuses or does not answer, or another process wrote the Secret in the meantime.
pub async fn save(cx: &Cx, created: &MadeToken) -> Result<()> {
    let name = name(&cx.owner.uid);
    let before = read(cx).await?;
    let made = before.as_ref().and_then(|stored| stored.made);
    let made = Making::next(made, cx.fly_now(), cx.installation.timing.backoff_min);
    let mut metadata = store::metadata(name.clone(), "app-token", &cx.owner);
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(MADE_AT.to_owned(), made.at.to_string());
    annotations.insert(MADE_IN_A_ROW.to_owned(), made.row.to_string());
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    let secret = Secret {
        metadata,
        data: Some(BTreeMap::from([
            (TOKEN_ID.to_owned(), bytes(&created.id)),
            (TOKEN.to_owned(), bytes(created.value.expose_secret())),
        ])),
        ..Secret::default()
    };
    let version = before.as_ref().and_then(|stored| stored.version.as_deref());
    let api = api(&cx.kube, &cx.installation.own_namespace);
    store::put(&api, secret, version)
        .await
        .and_then(Write::into_result)
        .map(drop)
        .map_err(|source| Error::kube(format!("store the token in the Secret {name}"), source))
}

/// Deletes the Secret, if it exists.
///
/// # Errors
/// When Kubernetes refuses or does not answer.
pub async fn delete(kube: &Client, own_namespace: &str, uid: &str) -> Result<()> {
    let name = name(uid);
    store::delete(&api(kube, own_namespace), &name)
        .await
        .map_err(|source| Error::kube(format!("delete the Secret {name}"), source))
}
