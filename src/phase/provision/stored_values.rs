//! Values that Golive generates and stores in the Kubernetes Secret of the Activation: the
//! application's secrets, and the passwords of a Fly Postgres cluster.

use std::{collections::BTreeMap, time::Duration};

use secrecy::SecretString;

use crate::{
    api::provision::{Encoding, GeneratedSecret},
    phase::wanted_secrets::store,
    pipeline::{Cx, step::Result},
    store::generated::Rotation,
};

/// Whether all passwords of these keys are stored.
///
/// # Errors
/// When the store cannot be read.
pub async fn are_stored(cx: &Cx, keys: &[&str]) -> Result<bool> {
    let stored = store(cx).read().await?.unwrap_or_default();
    Ok(keys.iter().all(|key| stored.values.contains_key(*key)))
}

/// Generates and stores the passwords of these keys that are not stored yet, and returns all stored
/// values. Passwords take no part in the rotation of the application's secrets.
///
/// # Errors
/// When the store cannot be read or written.
pub async fn ensure_passwords(cx: &Cx, keys: &[&str]) -> Result<BTreeMap<String, SecretString>> {
    let wanted: Vec<GeneratedSecret> = keys
        .iter()
        .map(|key| GeneratedSecret {
            name: (*key).to_owned(),
            bytes: 32,
            encoding: Encoding::Alphanumeric,
        })
        .collect();
    // The step `Secrets` decides how long a replaced value is stored.
    let never = Rotation {
        overlap: Duration::MAX,
        ..Rotation::default()
    };
    let settled = store(cx).settle(&wanted, &never, cx.now()).await?;
    let values = settled.values.into_iter();
    Ok(values
        .map(|(name, value)| (name, value.secret().clone()))
        .collect())
}
