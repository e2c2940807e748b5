//! What the Secret holds, parsed. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::core::ObjectMeta;
use secrecy::SecretString;

use super::error::Error;
use crate::{
    api::{LABEL_UID, Owner},
    redact::{self, Guarded},
    store::{LABEL_MANAGED_BY, MANAGED_BY},
};

/// Annotation on the Secret: the rotation token that was handled last.
pub(super) const ANNOTATION_ROTATED_FOR: &str = "golive.dev/rotated-for";

/// Annotation on the Secret: when each value was generated, as JSON.
pub(super) const ANNOTATION_GENERATED_AT: &str = "golive.dev/generated-at";

/// Suffix of the key of a previous value. The name of an environment variable has no dot, so this
/// never hides a value of the user's.
pub(super) const PREVIOUS: &str = ".previous";

/// What the Secret holds.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// The values in use, by name.
    pub values: BTreeMap<String, Guarded>,
    /// The values before the last rotation, by name, until the overlap ends.
    pub previous: BTreeMap<String, Guarded>,
    /// When each value in use was generated.
    pub generated_at: BTreeMap<String, Timestamp>,
    /// The rotation token that was handled last.
    pub rotated_for: Option<String>,
    /// UID of the Activation that the Secret is labelled with.
    pub uid: Option<String>,
    /// The object as it was read: a write replaces this version.
    pub(super) object: Secret,
}

/// Name of the Secret with the generated values of an Activation.
pub fn name(activation: &str) -> String {
    format!("{activation}-golive")
}

/// Parses a Secret, if it is ours.
pub(super) fn stored(secret: Secret, owner: &Owner) -> Result<Stored, Error> {
    let name = name(&owner.name);
    let labels = secret.metadata.labels.clone().unwrap_or_default();
    if !is_ours(&secret.metadata.labels, owner) {
        let activation = owner.name.clone();
        return Err(Error::NotOurs { name, activation });
    }
    let annotations = secret.metadata.annotations.clone().unwrap_or_default();
    let generated_at = annotations.get(ANNOTATION_GENERATED_AT);
    // Unreadable counts as not recorded: ages then count from the next rotation.
    let generated_at = generated_at.and_then(|json| serde_json::from_str(json).ok());
    let mut found = Stored {
        generated_at: generated_at.unwrap_or_default(),
        rotated_for: annotations.get(ANNOTATION_ROTATED_FOR).cloned(),
        uid: labels.get(LABEL_UID).cloned(),
        ..Stored::default()
    };
    for (key, value) in secret.data.iter().flatten() {
        let Ok(text) = String::from_utf8(value.0.clone()) else {
            let key = key.clone();
            return Err(Error::NotText { name, key });
        };
        let value = redact::guard(SecretString::from(text));
        match key.strip_suffix(PREVIOUS) {
            Some(key) => found.previous.insert(key.to_owned(), value),
            None => found.values.insert(key.clone(), value),
        };
    }
    found.object = secret;
    Ok(found)
}

/// True when this is the Secret with the generated values of the Activation of this name.
pub fn is_of(activation: &str, secret: &ObjectMeta) -> bool {
    let labels = secret.labels.as_ref();
    let marked = |(key, value): &(&str, String)| {
        labels.is_some_and(|labels| labels.get(*key) == Some(value))
    };
    secret.name.as_ref() == Some(&name(activation)) && marks(activation).iter().all(marked)
}

/// True when a Secret with these labels is ours.
pub(super) fn is_ours(labels: &Option<BTreeMap<String, String>>, owner: &Owner) -> bool {
    let has = |key: &str, value: &String| {
        let labels = labels.as_ref();
        labels.is_some_and(|labels| labels.get(key) == Some(value))
    };
    let marks = marks(&owner.name);
    marks.iter().all(|(key, value)| has(key, value))
}

/// The labels that mark a Secret as ours.
pub(super) fn marks(activation: &str) -> [(&'static str, String); 2] {
    // A label value has at most 63 characters and ends with a letter or digit. Names of
    // Activations are ASCII.
    let value: String = activation.chars().take(63).collect();
    let value = value.trim_end_matches(['-', '.']).to_owned();
    [
        (LABEL_MANAGED_BY, MANAGED_BY.to_owned()),
        ("app.kubernetes.io/instance", value),
    ]
}
