//! Claims on Fly apps: a ConfigMap in the operator's own namespace, named after the app.
//!
//! An app carries no mark at Fly.io. The name of the ConfigMap is unique across all namespaces
//! because the API server makes it so; it is written only after Fly.io said that the app does not
//! exist (or adoption allows to take it over), so whoever holds the claim made the app.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams, Preconditions},
    core::ObjectMeta,
};

use crate::{
    api::{FIELD_MANAGER, LABEL_UID},
    error::Error,
    phase::Owner,
};

/// Who holds an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// UID of the Activation.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The Activation is gone, and left the app behind as its deletion policy asked.
    pub retained: bool,
    version: Option<String>,
    object_uid: Option<String>,
}

impl Claim {
    /// True when this Activation holds the app.
    pub fn is_of(&self, owner: &Owner) -> bool {
        self.uid == owner.uid && !self.retained
    }

    /// True when an earlier Activation of the same namespace and name left the app behind.
    pub fn left_by_namesake(&self, owner: &Owner) -> bool {
        self.namespace == owner.namespace
            && self.name == owner.name
            && (self.retained || self.uid == owner.uid)
    }
}

/// Name of the ConfigMap for an app.
pub fn name(app: &str) -> String {
    format!("golive-app-{app}")
}

fn api(kube: &Client, own_namespace: &str) -> Api<ConfigMap> {
    Api::namespaced(kube.clone(), own_namespace)
}

/// Reads the claim on an app.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn read(kube: &Client, own_namespace: &str, app: &str) -> Result<Option<Claim>, Error> {
    let found = api(kube, own_namespace)
        .get_opt(&name(app))
        .await
        .map_err(|source| Error::kube(format!("read the claim on the app {app}"), source))?;
    Ok(found.map(|map| {
        let mut data = map.data.unwrap_or_default();
        let mut text = |key: &str| data.remove(key).unwrap_or_default();
        Claim {
            uid: text("uid"),
            namespace: text("namespace"),
            name: text("name"),
            retained: text("retained") == "true",
            version: map.metadata.resource_version,
            object_uid: map.metadata.uid,
        }
    }))
}

/// Takes the app for this Activation: creates the claim, or takes over `before`. Losing the race
/// is no error: the next read tells who holds it.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn take(
    kube: &Client,
    own_namespace: &str,
    app: &str,
    owner: &Owner,
    before: Option<&Claim>,
) -> Result<(), Error> {
    write(kube, own_namespace, app, owner, before, false).await
}

/// Marks the claim as left behind, for an app that stays after deletion.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn retain(
    kube: &Client,
    own_namespace: &str,
    app: &str,
    owner: &Owner,
    claim: &Claim,
) -> Result<(), Error> {
    write(kube, own_namespace, app, owner, Some(claim), true).await
}

async fn write(
    kube: &Client,
    own_namespace: &str,
    app: &str,
    owner: &Owner,
    before: Option<&Claim>,
    retained: bool,
) -> Result<(), Error> {
    let labels = [
        ("app.kubernetes.io/name", "golive"),
        ("app.kubernetes.io/component", "claim"),
        ("app.kubernetes.io/managed-by", "golive"),
        (LABEL_UID, owner.uid.as_str()),
    ];
    let data = [
        ("app", app),
        ("uid", &owner.uid),
        ("namespace", &owner.namespace),
        ("name", &owner.name),
        ("retained", if retained { "true" } else { "false" }),
    ];
    let text = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(name(app)),
            labels: Some(text(&labels)),
            resource_version: before.and_then(|claim| claim.version.clone()),
            ..ObjectMeta::default()
        },
        data: Some(text(&data)),
        ..ConfigMap::default()
    };
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let api = api(kube, own_namespace);
    let written = match before {
        None => api.create(&params, &map).await,
        Some(_) => api.replace(&name(app), &params, &map).await,
    };
    match written {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
            Ok(())
        }
        Err(source) => Err(Error::kube(
            format!("write the claim on the app {app}"),
            source,
        )),
    }
}

/// Gives the app back. Already gone is fine.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn give_back(
    kube: &Client,
    own_namespace: &str,
    app: &str,
    claim: &Claim,
) -> Result<(), Error> {
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: claim.object_uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match api(kube, own_namespace).delete(&name(app), &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(source) => Err(Error::kube(
            format!("give back the claim on the app {app}"),
            source,
        )),
    }
}
