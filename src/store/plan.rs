//! The whole plan of an Activation, for which its status has no room.
//!
//! One ConfigMap in the namespace of the Activation, where the people who decide on it may read it. It belongs to
//! the Activation, so that the API server removes it with its owner. The status has the hash of its text: what
//! somebody else writes into it is no plan, and is replaced.

use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{Client, Resource, ResourceExt};

use crate::{
    api::{Activation, Owner},
    error::Error,
    store,
};

/// The key of the ConfigMap.
pub const KEY: &str = "plan.json";

/// What the object is for, in its labels.
const COMPONENT: &str = "plan";

/// Most bytes of such a text: a ConfigMap has room for 1 MiB.
pub const MAX_BYTES: usize = 960 * 1024;

/// The name of the ConfigMap of the Activation with this UID.
pub fn name(uid: &str) -> String {
    format!("golive-plan-{uid}")
}

/// Makes the ConfigMap have this text.
///
/// # Errors
/// When the API server refuses or cannot be reached, or somebody else writes it at the same time.
pub async fn save(kube: &Client, owner: &Owner, text: &str) -> Result<(), Error> {
    let error = |source| Error::kube("store the whole plan", source);
    let maps = store::maps(kube, &owner.namespace);
    let found = maps.get_opt(&name(&owner.uid)).await.map_err(error)?;
    let wanted = config_map(owner, text);
    let holds = |found: &ConfigMap| found.data == wanted.data && found.binary_data.is_none();
    if found.as_ref().is_some_and(holds) {
        return Ok(());
    }
    let version = found.and_then(|found| found.resource_version());
    let written = store::put(&maps, wanted, version.as_deref()).await;
    written.and_then(store::Write::into_result).map_err(error)?;
    Ok(())
}

/// Deletes it. Already gone is fine.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn delete(kube: &Client, owner: &Owner) -> Result<(), Error> {
    store::delete(&store::maps(kube, &owner.namespace), &name(&owner.uid))
        .await
        .map_err(|source| {
            Error::kube(
                "delete the whole plan, for which the status has room",
                source,
            )
        })
}

fn config_map(owner: &Owner, text: &str) -> ConfigMap {
    let mut metadata = store::metadata(name(&owner.uid), COMPONENT, owner);
    metadata.owner_references = Some(vec![OwnerReference {
        api_version: Activation::api_version(&()).into_owned(),
        kind: Activation::kind(&()).into_owned(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
        ..OwnerReference::default()
    }]);
    ConfigMap {
        metadata,
        data: Some(store::text([(KEY, text)])),
        ..ConfigMap::default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_plan_belongs_to_its_activation_and_is_in_its_namespace() {
        let owner = Owner {
            namespace: "cabanas".to_owned(),
            name: "mvp".to_owned(),
            uid: "u-1".to_owned(),
            generation: 1,
        };
        let map = config_map(&owner, "{}");
        assert_eq!(map.name_any(), "golive-plan-u-1");
        assert_eq!(map.labels()["golive.dev/activation-uid"], "u-1");
        let [of] = map.owner_references() else {
            unreachable!("{map:?}")
        };
        assert_eq!((of.kind.as_str(), of.uid.as_str()), ("Activation", "u-1"));
        assert_eq!((of.controller, of.block_owner_deletion), (None, None));
        assert_eq!(map.data.unwrap()[KEY], "{}");
    }
}
