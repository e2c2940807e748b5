//! What the deletion of an object removes from Fly.io, from its policy and from what is on record. Pure.

use crate::api::{
    ANNOTATION_DELETE_DATA, Activation,
    policy::{Deletion, DeletionPolicy},
    status::{ChangeVerb, ExternalKind, ExternalObject, PlannedChange},
};
use kube::ResourceExt;

/// The phase and the step of these changes in a plan.
const DELETION: (&str, &str) = ("Deletion", "Remove");

/// What is removed when the object is deleted now, in order. What stays is not listed.
pub fn changes(activation: &Activation) -> Vec<PlannedChange> {
    let spec = &activation.spec;
    let confirmed = activation.annotations().get(ANNOTATION_DELETE_DATA) == Some(&spec.app);
    let status = activation.status.as_ref();
    let external = status.map(|status| status.external.as_slice());
    let external = external.unwrap_or_default();
    let keeps_volumes = keeps_volumes(&spec.deletion_policy, external, confirmed);
    let goes = |object: &&ExternalObject| {
        let policy = &spec.deletion_policy;
        let data = |policy: Deletion| policy == Deletion::Delete && confirmed;
        match ExternalKind::parse(&object.kind) {
            Some(ExternalKind::App) => policy.app == Deletion::Delete && !keeps_volumes,
            Some(ExternalKind::Machine | ExternalKind::Address | ExternalKind::Certificate) => {
                policy.app == Deletion::Delete
            }
            Some(ExternalKind::Volume) => policy.app == Deletion::Delete && data(policy.volumes),
            Some(ExternalKind::ManagedPostgres | ExternalKind::FlyPostgres) => {
                data(policy.database)
            }
            Some(ExternalKind::UpstashRedis) => data(policy.redis),
            None => false,
        }
    };
    let objects = external.iter().filter(goes).map(destroyed);
    let generated = !spec.provision.secrets.generate.is_empty();
    let secrets = generated && spec.deletion_policy.secrets == Deletion::Delete;
    let secrets = secrets.then(|| PlannedChange::new(ChangeVerb::Destroy, "GeneratedSecrets", ""));
    let named = |change: PlannedChange| PlannedChange {
        phase: DELETION.0.to_owned(),
        step: DELETION.1.to_owned(),
        ..change.finished()
    };
    objects.chain(secrets).map(named).collect()
}

/// Whether a volume stays, and the app with it.
fn keeps_volumes(policy: &DeletionPolicy, external: &[ExternalObject], confirmed: bool) -> bool {
    let deleted = policy.volumes == Deletion::Delete && confirmed;
    let mut kinds = external
        .iter()
        .map(|object| ExternalKind::parse(&object.kind));
    !deleted && kinds.any(|kind| kind == Some(ExternalKind::Volume))
}

fn destroyed(object: &ExternalObject) -> PlannedChange {
    let change = PlannedChange::new(ChangeVerb::Destroy, &object.kind, &object.name);
    let change = match object.id == object.name {
        true => change,
        false => change.field("id", Some(object.id.clone()), None),
    };
    match object.size_gb {
        Some(size) => change.field("data", Some(format!("{size} GB")), None),
        None => change,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn destroyed_by(policy: serde_json::Value, annotations: serde_json::Value) -> Vec<String> {
        let object = |kind: &str, name: &str| json!({"kind": kind, "id": name, "name": name});
        let activation: Activation = serde_json::from_value(json!({
            "metadata": {"name": "shop", "annotations": annotations},
            "spec": {"organization": "o", "app": "shop", "region": "eze",
                "deploy": {"image": "x:1"}, "deletionPolicy": policy},
            "status": {"external": [
                object("App", "shop"), object("Machine", "m"), object("Volume", "v"),
                object("ManagedPostgres", "shop-db"), object("UpstashRedis", "shop-redis"),
            ]},
        }))
        .unwrap();
        let changes = changes(&activation);
        assert!(changes.iter().all(PlannedChange::destroys));
        changes.into_iter().map(|change| change.kind).collect()
    }

    #[test]
    fn a_deletion_destroys_what_the_policy_says_and_data_only_once_that_is_confirmed() {
        let none = || json!({});
        let confirmed = || json!({"golive.dev/delete-data": "shop"});
        // The volume stays, and the app with it.
        assert_eq!(destroyed_by(none(), none()), ["Machine"]);
        let all = || {
            let delete = "Delete";
            json!({"volumes": delete, "database": delete, "redis": delete})
        };
        assert_eq!(destroyed_by(all(), none()), ["Machine"]);
        assert_eq!(
            destroyed_by(all(), json!({"golive.dev/delete-data": "other"})),
            ["Machine"]
        );
        assert_eq!(
            destroyed_by(all(), confirmed()),
            [
                "App",
                "Machine",
                "Volume",
                "ManagedPostgres",
                "UpstashRedis"
            ]
        );
        assert!(destroyed_by(json!({"app": "Retain"}), confirmed()).is_empty());
    }
}
