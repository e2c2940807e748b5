//! The Secret as it is to be written. Pure but for the random values.

use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::api::ObjectMeta;

use super::{
    decision::Changes,
    entropy::{Entropy, generate},
    error::Error,
    stored::{ANNOTATION_GENERATED_AT, ANNOTATION_ROTATED_FOR, PREVIOUS, Stored, marks, name},
};
use crate::{
    api::Owner,
    store::{self, MANAGED_BY},
};

/// What the object is for, in its labels.
const COMPONENT: &str = "generated-secrets";

/// Annotations that keep other tools from pruning the Secret.
const RETENTION: &[(&str, &str)] = &[
    ("golive.dev/data-retention", "Retain"),
    ("helm.sh/resource-policy", "keep"),
    (
        "argocd.argoproj.io/sync-options",
        "Prune=false,Delete=false",
    ),
    ("argocd.argoproj.io/compare-options", "IgnoreExtraneous"),
    ("kustomize.toolkit.fluxcd.io/prune", "disabled"),
];

/// The next version of the Secret. Keys, labels and annotations of others stay.
pub(super) fn next(
    stored: Option<&Stored>,
    changes: &Changes,
    owner: &Owner,
    now: Timestamp,
    entropy: Entropy,
) -> Result<Secret, Error> {
    let mut secret = stored
        .map(|stored| stored.object.clone())
        .unwrap_or_default();
    let mut generated_at = stored
        .map(|stored| stored.generated_at.clone())
        .unwrap_or_default();
    let data = secret.data.get_or_insert_default();
    for name in &changes.drop_previous {
        data.remove(&format!("{name}{PREVIOUS}"));
    }
    for wanted in &changes.rotate {
        if let Some(old) = data.get(&wanted.name).cloned() {
            data.insert(format!("{}{PREVIOUS}", wanted.name), old);
        }
    }
    for wanted in changes.generate.iter().chain(&changes.rotate) {
        let value = generate(wanted, entropy)?;
        data.insert(wanted.name.clone(), ByteString(value.as_bytes().to_vec()));
        generated_at.insert(wanted.name.clone(), now);
    }
    let generated_at = serde_json::to_string(&generated_at).unwrap_or_default();
    mark(&mut secret, owner);
    let annotations = secret.metadata.annotations.get_or_insert_default();
    annotations.insert(ANNOTATION_GENERATED_AT.to_owned(), generated_at);
    if let Some(token) = &changes.handled {
        annotations.insert(ANNOTATION_ROTATED_FOR.to_owned(), token.clone());
    }
    Ok(secret)
}

/// The same values for an Activation of another name. Labels, finalizers and owners that others gave
/// to the former Secret stay with that one.
pub(super) fn copied(stored: &Stored, owner: &Owner) -> Secret {
    let annotations = stored.object.metadata.annotations.iter().flatten();
    let kept = annotations
        .filter(|(key, _)| {
            [ANNOTATION_GENERATED_AT, ANNOTATION_ROTATED_FOR].contains(&key.as_str())
        })
        .map(|(key, value)| (key.clone(), value.clone()));
    let mut secret = Secret {
        data: stored.object.data.clone(),
        metadata: ObjectMeta {
            annotations: Some(kept.collect()),
            ..ObjectMeta::default()
        },
        ..Secret::default()
    };
    mark(&mut secret, owner);
    secret
}

/// Marks the Secret as that of this Activation.
fn mark(secret: &mut Secret, owner: &Owner) {
    let metadata = ObjectMeta {
        name: Some(name(&owner.name)),
        namespace: Some(owner.namespace.clone()),
        managed_fields: None,
        ..std::mem::take(&mut secret.metadata)
    };
    secret.metadata = metadata;
    let labels = secret.metadata.labels.get_or_insert_default();
    labels.extend(store::labels(COMPONENT, &owner.uid));
    labels.extend(store::text([("app.kubernetes.io/part-of", MANAGED_BY)]));
    for (key, value) in marks(&owner.name) {
        labels.insert(key.to_owned(), value);
    }
    let annotations = secret.metadata.annotations.get_or_insert_default();
    for (key, value) in RETENTION {
        // A user may override it.
        let annotation = annotations.entry((*key).to_owned());
        annotation.or_insert_with(|| (*value).to_owned());
    }
    secret.type_.get_or_insert_with(|| "Opaque".to_owned());
}
