//! The Fly token of an Activation. Pure.

use kube::ResourceExt;
use secrecy::ExposeSecret;

use crate::{
    api::{Activation, Reason},
    fly,
    plan::{invalid::Invalid, missing::kubectl, refs::Refs},
};

/// Parses the Fly token in the Secret that the spec names.
///
/// # Errors
/// When the value is missing or cannot be a token.
pub fn token(activation: &Activation, refs: &Refs) -> Result<fly::Token, Invalid> {
    let reference = &activation.spec.token_secret_ref;
    let namespace = activation.namespace().unwrap_or_default();
    let value = refs.token(reference).map_err(|missing| Invalid {
        field: "spec.tokenSecretRef",
        reason: missing.reason(),
        message: missing.to_string(),
        action: missing.action(&namespace),
    })?;
    fly::Token::parse(value.expose_secret()).map_err(|error| Invalid {
        field: "spec.tokenSecretRef",
        reason: Reason::TokenInvalid,
        message: format!(
            "the value of key {} of the Secret {} is not a Fly token: {error}",
            reference.key, reference.name
        ),
        action: store_new(
            &namespace,
            (&reference.name, &reference.key),
            &activation.spec.organization,
        ),
    })
}

/// How a new token is created and stored, as the next action of a person.
pub fn store_new(namespace: &str, (secret, key): (&str, &str), organization: &str) -> String {
    let kubectl = kubectl(namespace);
    format!(
        "store a new one with `{kubectl} create secret generic {secret} --from-literal={key}=\"$(fly tokens create org {organization})\" --dry-run=client -o yaml | {kubectl} apply -f -`"
    )
}
