//! The digest of a target: two targets with the same digest ask for the same to be done.

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::api::{Activation, Duration};
use crate::plan::refs::{self, RefKind, Refs};

/// Keyed fingerprint of a secret value, in hex: it tells whether the value has changed, and
/// cannot be searched for without the installation's key.
pub fn fingerprint(key: &[u8], value: &SecretString) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return String::new();
    };
    mac.update(value.expose_secret().as_bytes());
    let tag = mac.finalize().into_bytes();
    data_encoding::HEXLOWER.encode(&tag[..8])
}

/// Digest of everything that decides what is done. The token is not in it: another token of the
/// same rights does the same.
pub(super) fn of(activation: &Activation, refs: &Refs, key: &[u8]) -> String {
    let mut hash = Sha256::new();
    // Lengths keep two parts from being read as one.
    let mut part = |name: &str, value: &str| {
        for text in [name, value] {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
    };
    let chosen = refs.source().and_then(|source| source.choice.as_ref());
    let chosen = chosen.map(|choice| format!("{}@{}", choice.reference(), choice.digest));
    part("spec", &decisive(activation, chosen).to_string());
    for named in refs::named(activation) {
        if !named.decides {
            continue;
        }
        match (named.kind, &named.key) {
            (RefKind::ConfigMap, key) => {
                let key = key.as_deref().unwrap_or_default();
                let text = refs.config_map(&named.name, key);
                part(&named.field, text.unwrap_or_default());
            }
            (RefKind::Secret, Some(secret_key)) => match refs.secret(&named.name, secret_key) {
                Ok(value) => part(&named.field, &fingerprint(key, value)),
                Err(missing) => part(&named.field, &missing.to_string()),
            },
            (RefKind::Secret, None) => match refs.secret_values(&named.name) {
                Ok(values) => {
                    for (secret_key, value) in values {
                        part(
                            &format!("{}.{secret_key}", named.field),
                            &fingerprint(key, value),
                        );
                    }
                }
                Err(missing) => part(&named.field, &missing.to_string()),
            },
        }
    }
    format!(
        "sha256:{}",
        data_encoding::HEXLOWER.encode(&hash.finalize())
    )
}

/// Tells one question about the image from another: what was answered for one is not believed for
/// another. One tag is resolved again whenever the spec asks for something else; a policy that goes on
/// by itself goes on whatever else changes.
pub fn asked(activation: &Activation) -> String {
    let source = activation.spec.deploy.source.as_ref();
    let question = match source {
        Some(source) if source.policy.pinned.is_none() => {
            json!({"image": source.image, "policy": source.policy})
        }
        Some(source) => json!({
            "image": source.image, "policy": source.policy, "spec": decisive(activation, None),
        }),
        None => json!({"spec": decisive(activation, None)}),
    };
    let hash = Sha256::digest(question.to_string());
    data_encoding::HEXLOWER.encode(&hash[..12])
}

/// The part of the spec that decides what is done on Fly.io, with the image that was chosen in the
/// place of where it comes from. Owners, deadlines, gates, notifications and what happens later do
/// not: they may change without a new approval.
fn decisive(activation: &Activation, chosen: Option<String>) -> serde_json::Value {
    let spec = &activation.spec;
    let (mut provision, mut deploy, mut smoke) = (
        spec.provision.clone(),
        spec.deploy.clone(),
        spec.smoke_test.clone(),
    );
    if deploy.source.take().is_some() {
        deploy.image = chosen;
    }
    let none = Duration::default();
    (provision.owner, deploy.owner, smoke.owner) = (None, None, None);
    (provision.deadline, deploy.deadline, smoke.deadline) = (none, none, none);
    json!({
        "organization": spec.organization,
        "app": spec.app,
        "region": spec.region,
        "skip": spec.preflight.skip,
        "provision": provision,
        "deploy": deploy,
        "smokeTest": smoke,
        "adoption": spec.adoption,
    })
}
