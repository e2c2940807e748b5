//! Objects that cannot be decoded, because the CRD that accepted them differs from this version's
//! types. Golive reports that on the object and sets its state to Unknown; a deletion needs the
//! annotation `golive.dev/forget`.

use std::collections::BTreeSet;

use kube::{
    Api, Resource, ResourceExt,
    core::{ApiResource, DeserializeGuard, DynamicObject, error_boundary::InvalidObject},
};
use serde_json::Value;

use crate::{
    api::{ANNOTATION_FORGET, Activation, FINALIZER, Reason},
    error::Error,
    pipeline::Owner,
    reconcile::{begin, context::Context, finalize},
    status::{self, events},
};

/// Reports on the object why it is not reconciled. A deleted object is released when the annotation
/// requests it; nothing else is safe without its spec.
///
/// # Errors
/// When Kubernetes could not be read or written.
pub async fn pass(
    object: &DeserializeGuard<Activation>,
    invalid: &InvalidObject,
    context: &Context,
) -> Result<(), Error> {
    let error = crate::redact::redact(&invalid.error).into_owned();
    let reference = object.object_ref(&());
    let held = object.finalizers().iter().any(|f| f == FINALIZER);
    let living = object.meta().deletion_timestamp.is_none();
    if !living && !held {
        return Ok(());
    }
    let owner = begin::owner(object)?;
    let Some(raw) = read_raw(context, &owner).await? else {
        return Ok(());
    };
    if living {
        let note = format!(
            "the object cannot be decoded and is left alone until it changes: {error}; correct the field that this names, or apply the crds/ that came with this version of the operator"
        );
        let event = events::warning(Reason::InvalidSpec.as_str(), "Validate", &note);
        context.publisher.publish(&reference, vec![event]);
        // Its old status is outdated: Ready and Live become Unknown.
        let status = raw.data.get("status").cloned().unwrap_or_default();
        let (kube, now) = (&context.kube, context.installation.clock.now());
        if context.leads.open() {
            status::unknown(kube, &owner, &status, &note, now).await?;
        }
        return Ok(());
    }
    let app = app(&raw);
    if raw.annotations().get(ANNOTATION_FORGET) == Some(&app) {
        return finalize::forget(&app, &tokens(&raw.data), context, &owner).await;
    }
    let note = format!(
        "the object cannot be decoded, so that what it made cannot be removed: {error}; correct the field that this names and the deletion goes on, or annotate the object with {ANNOTATION_FORGET}={app} to leave everything on Fly.io as it is"
    );
    let event = events::warning(Reason::DeletionBlocked.as_str(), "Delete", &note);
    context.publisher.publish(&reference, vec![event]);
    Ok(())
}

/// The object in the API server, if it is still the same.
async fn read_raw(context: &Context, owner: &Owner) -> Result<Option<DynamicObject>, Error> {
    let api: Api<DynamicObject> = Api::namespaced_with(
        context.kube.clone(),
        &owner.namespace,
        &ApiResource::erase::<Activation>(&()),
    );
    let raw = api
        .get_opt(&owner.name)
        .await
        .map_err(|source| Error::kube("read the activation", source))?;
    Ok(raw.filter(|raw| raw.uid().as_deref() == Some(&owner.uid)))
}

/// The app, or the object's own name when not even that can be read.
fn app(raw: &DynamicObject) -> String {
    let app = raw.data.pointer("/spec/app").and_then(Value::as_str);
    app.map_or_else(|| raw.name_any(), str::to_owned)
}

/// The Secrets that may carry our finalizer for it.
fn tokens(raw: &Value) -> BTreeSet<String> {
    ["/spec/tokenSecretRef/name", "/status/tokenSecret"]
        .iter()
        .filter_map(|place| raw.pointer(place)?.as_str())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_read_of_an_object_is_read_and_the_rest_does_not_matter() {
        let raw = |spec: Value| -> DynamicObject {
            serde_json::from_value(serde_json::json!({
                "apiVersion": "golive.dev/v1alpha1", "kind": "Activation",
                "metadata": {"name": "hola"}, "spec": spec, "status": {"tokenSecret": "old"},
            }))
            .unwrap()
        };
        let some = raw(serde_json::json!({
            "app": "shop", "tokenSecretRef": {"name": "fly"}, "drift": 7,
        }));
        assert_eq!(app(&some), "shop");
        assert_eq!(
            tokens(&some.data),
            BTreeSet::from(["fly".into(), "old".into()])
        );
        let none = raw(serde_json::json!({"app": 7}));
        assert_eq!(app(&none), "hola");
        assert_eq!(tokens(&none.data), BTreeSet::from(["old".into()]));
    }
}
