//! Claims on Fly apps: a ConfigMap in the operator's own namespace, named after the app.
//!
//! An app carries no mark at Fly.io. The name of the ConfigMap is unique across all namespaces
//! because the API server makes it so; it is written only after Fly.io said that the app does not
//! exist (or adoption allows to take it over), so whoever holds the claim made the app.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    core::ObjectMeta,
};

use crate::{
    api::{FIELD_MANAGER, LABEL_UID, LABEL_VERSION},
    error::Error,
    pipeline::Owner,
};

/// Kind of the managed Postgres cluster in [`Claim::made`].
pub const DATABASE: &str = "database";

/// Kind of the Redis database in [`Claim::made`].
pub const REDIS: &str = "redis";

/// Prefix of the keys that hold [`Claim::made`]: one key each, so that two writers do not meet.
const MADE: &str = "made-";

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
    /// Slug of the organization in which it was made.
    pub organization: String,
    /// When this Activation took it.
    pub taken: Option<Timestamp>,
    /// What bears the app's name and was made for it, so that it may be deleted: kinds such as
    /// [`DATABASE`]. What was there before us is not among it.
    pub made: BTreeSet<String>,
    version: Option<String>,
    object_uid: Option<String>,
}

impl Claim {
    /// True when this Activation holds the app.
    pub fn is_of(&self, owner: &Owner) -> bool {
        self.uid == owner.uid && !self.retained
    }

    /// True when an Activation of the same namespace and name held the app before. The API server
    /// has one object of a name, so the one with another UID is gone, whatever the claim says.
    pub fn left_by_namesake(&self, owner: &Owner) -> bool {
        self.namespace == owner.namespace && self.name == owner.name
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
        let made = data
            .iter()
            .filter(|(_, value)| *value == "true")
            .filter_map(|(key, _)| key.strip_prefix(MADE))
            .map(str::to_owned)
            .collect();
        let mut text = |key: &str| data.remove(key).unwrap_or_default();
        Claim {
            uid: text("uid"),
            namespace: text("namespace"),
            name: text("name"),
            retained: text("retained") == "true",
            organization: text("organization"),
            taken: text("taken").parse().ok(),
            made,
            version: map.metadata.resource_version,
            object_uid: map.metadata.uid,
        }
    }))
}

/// Takes the app for this Activation: creates the claim, or takes over `before`. Losing the race is no error: the next read tells
/// who holds it.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn take(
    kube: &Client,
    own_namespace: &str,
    app: &str,
    owner: &Owner,
    before: Option<&Claim>,
    terms: &Terms<'_>,
) -> Result<(), Error> {
    write(kube, own_namespace, app, owner, before, terms).await
}

/// What stands in a claim beside whose it is.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// Slug of the organization.
    pub organization: &'a str,
    /// When it is taken; `None`: it is left behind.
    pub taken: Option<Timestamp>,
    /// Kinds of what is, or is going to be, made for the app.
    pub made: &'a BTreeSet<String>,
}

/// Notes that something of this kind is going to be made for the app. Safe to repeat.
///
/// # Errors
/// When the API server refuses or cannot be reached, or the claim is not the one that was read.
pub async fn note_made(
    kube: &Client,
    own_namespace: &str,
    app: &str,
    claim: &Claim,
    kind: &str,
) -> Result<(), Error> {
    let patch = serde_json::json!({
        "metadata": {"uid": claim.object_uid},
        "data": {format!("{MADE}{kind}"): "true"},
    });
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    api(kube, own_namespace)
        .patch(&name(app), &params, &Patch::Merge(&patch))
        .await
        .map(drop)
        .map_err(|source| Error::kube(format!("note in the claim on the app {app}"), source))
}

/// Marks the claim as left behind, for an app, or for something of its name (`kept`), that stays
/// after deletion.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn retain(
    kube: &Client,
    own_namespace: &str,
    app: &str,
    owner: &Owner,
    claim: &Claim,
    kept: &BTreeSet<String>,
) -> Result<(), Error> {
    let terms = Terms {
        organization: &claim.organization,
        taken: None,
        made: kept,
    };
    write(kube, own_namespace, app, owner, Some(claim), &terms).await
}

async fn write(
    kube: &Client,
    own_namespace: &str,
    app: &str,
    owner: &Owner,
    before: Option<&Claim>,
    terms: &Terms<'_>,
) -> Result<(), Error> {
    let labels = [
        ("app.kubernetes.io/name", "golive"),
        ("app.kubernetes.io/component", "claim"),
        ("app.kubernetes.io/managed-by", "golive"),
        LABEL_VERSION,
        (LABEL_UID, owner.uid.as_str()),
    ];
    let data = [
        ("app", app),
        ("uid", &owner.uid),
        ("namespace", &owner.namespace),
        ("name", &owner.name),
        ("organization", terms.organization),
        (
            "retained",
            if terms.taken.is_none() {
                "true"
            } else {
                "false"
            },
        ),
    ];
    let text = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    let mut data = text(&data);
    data.extend(terms.taken.map(|at| ("taken".to_owned(), at.to_string())));
    data.extend(
        terms
            .made
            .iter()
            .map(|kind| (format!("{MADE}{kind}"), "true".to_owned())),
    );
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(name(app)),
            labels: Some(text(&labels)),
            resource_version: before.and_then(|claim| claim.version.clone()),
            ..ObjectMeta::default()
        },
        data: Some(data),
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A claim as it would be read.
    pub fn claim(uid: &str, namespace: &str, name: &str, retained: bool) -> Claim {
        Claim {
            uid: uid.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            retained,
            organization: "cabanas".to_owned(),
            taken: None,
            made: BTreeSet::new(),
            version: Some("1".to_owned()),
            object_uid: None,
        }
    }

    #[test]
    fn a_claim_of_an_object_that_is_gone_is_left_to_its_namesake_alone() {
        let owner = Owner {
            namespace: "cabanas".into(),
            name: "mvp".into(),
            uid: "new".into(),
            generation: 1,
        };
        assert!(claim("new", "cabanas", "mvp", false).is_of(&owner));
        assert!(!claim("new", "cabanas", "mvp", true).is_of(&owner));
        assert!(claim("old", "cabanas", "mvp", false).left_by_namesake(&owner));
        assert!(!claim("old", "other", "mvp", true).left_by_namesake(&owner));
    }
}
