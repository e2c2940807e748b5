//! The digest of a target: two targets with the same digest ask for the same to be done.

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::api::{Activation, Duration, integrations::Integrations, observe::Observe};
use crate::plan::{
    named::{RefKind, named},
    refs::Refs,
};

/// Keyed fingerprint of a secret value, in hex. It shows whether the value has changed, and guesses
/// of the value cannot be checked without the installation's key.
pub fn fingerprint(key: &[u8], value: &SecretString) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return String::new();
    };
    mac.update(value.expose_secret().as_bytes());
    let tag = mac.finalize().into_bytes();
    data_encoding::HEXLOWER.encode(&tag[..8])
}

/// Digest of everything that decides what is done. `chosen` is the image that was chosen for
/// `deploy.source`. The token is not part of it: another token with the same rights does the same.
pub(super) fn of(activation: &Activation, refs: &Refs, chosen: Option<&str>, key: &[u8]) -> String {
    let mut hash = Sha256::new();
    // The lengths keep two parts from being hashed as one.
    let mut part = |name: &str, value: &str| {
        for text in [name, value] {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
    };
    part("spec", &decisive(activation, chosen).to_string());
    for named in named(activation) {
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

/// Hash that identifies the request for an image: a choice counts only for the same request. A single tag is resolved again whenever the spec changes what is done; a policy that follows
/// new tags goes on following whatever else changes.
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

/// Fingerprint of what the integrations are verified by: what a gate before them is about beside the plan.
/// Owner, deadline and interval are no part of it.
pub fn verified(integrations: &Integrations) -> String {
    let mut asked = integrations.clone();
    let none = Duration::default();
    (asked.owner, asked.deadline, asked.interval) = (None, none, none);
    let text = serde_json::to_vec(&asked).unwrap_or_default();
    data_encoding::HEXLOWER.encode(&Sha256::digest(text)[..12])
}

/// Fingerprint of how the application is watched: what a gate before the watch is about beside the plan. The owner is
/// no part of it.
pub fn watched(observe: &Observe) -> String {
    let mut asked = observe.clone();
    asked.owner = None;
    let text = serde_json::to_vec(&asked).unwrap_or_default();
    data_encoding::HEXLOWER.encode(&Sha256::digest(text)[..12])
}

/// The part of the spec that decides what is done on Fly.io, with the chosen image in the place of
/// `deploy.source`. Owners, deadlines, gates, notifications and what happens after Go-Live are not
/// part of it: they may change without a new approval.
fn decisive(activation: &Activation, chosen: Option<&str>) -> serde_json::Value {
    let spec = &activation.spec;
    let (mut provision, mut deploy, mut smoke) = (
        spec.provision.clone(),
        spec.deploy.clone(),
        spec.smoke_test.clone(),
    );
    if deploy.source.take().is_some() {
        deploy.image = chosen.map(str::to_owned);
    }
    let none = Duration::default();
    (provision.owner, deploy.owner, smoke.owner) = (None, None, None);
    smoke.interval = None;
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_a_gate_before_the_watch_is_about_changes_with_what_is_watched_and_not_with_its_owner() {
        let watch = |value: serde_json::Value| watched(&serde_json::from_value(value).unwrap());
        let day = watch(json!({"window": "24h"}));
        assert_eq!(day, watch(json!({"window": "24h", "owner": "Ops"})));
        assert_ne!(day, watch(json!({"window": "48h"})));
        assert_ne!(day, watch(json!({"window": "24h", "onBreach": "RollBack"})));
    }
}
