//! The claim on a Fly app: which Activation an app belongs to. A ConfigMap in the operator's own
//! namespace, named after the app.
//!
//! An app at Fly.io carries no mark of ours. The name of the ConfigMap is unique in the namespace,
//! and all Activations of all namespaces have their claims in this one, so that the API server lets
//! only one of them claim an app. A claim is written only after Fly.io answered that the app does
//! not exist, or when adoption allows to take it over.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Client,
    api::{Patch, PatchParams},
};

use crate::{
    api::{FIELD_MANAGER, Owner},
    error::Error,
    store::{self, Write},
};

/// What the object is for, in its labels.
const COMPONENT: &str = "claim";

/// Kind of the managed Postgres cluster in [`Claim::made`].
pub const DATABASE: &str = "database";

/// Kind of the Redis database in [`Claim::made`].
pub const REDIS: &str = "redis";

/// Begins the kind of a volume in [`Claim::made`]; its id follows.
const VOLUME: &str = "volume-";

/// Keys of [`TakenOver`] in the ConfigMap.
const FORMER: &str = "former";
const EVERYTHING: &str = "everything";
const SERVED: &str = "served";

/// Prefix of the keys that hold [`Claim::made`]: one key for each kind, so that two writers do not
/// overwrite each other.
const MADE: &str = "made-";

/// The Activation that an app belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// UID of the Activation.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The Activation was deleted, and its deletion policy retained the app.
    pub retained: bool,
    /// Slug of the organization in which the app was created.
    pub organization: String,
    /// When this Activation claimed it, by the clock of Fly.io.
    pub taken: Option<Timestamp>,
    /// Kinds of objects that carry the app's name and were created for it, such as [`DATABASE`], and
    /// therefore may be deleted with it. Objects that existed before are not included.
    pub made: BTreeSet<String>,
    /// What was taken over with an app that existed before this Activation.
    pub taken_over: TakenOver,
    version: Option<String>,
    object_uid: Option<String>,
}

/// What an Activation takes over with an app that existed before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TakenOver {
    /// UIDs of the Activations whose claim passed on: their machines are taken over.
    pub former: BTreeSet<String>,
    /// Every machine is taken over, whoever made it (`adoption: Always`).
    pub everything: bool,
    /// The app had machines or volumes: it was in use.
    pub served: bool,
}

impl TakenOver {
    /// Whether machines of others may have to be taken over.
    pub fn is_any(&self) -> bool {
        self.everything || !self.former.is_empty()
    }
}

/// The kind under which a claim records a volume that was created for the app.
pub fn volume(id: &str) -> String {
    format!("{VOLUME}{id}")
}

/// Whether this kind in [`Claim::made`] is a volume, which lives and dies with the app.
pub fn is_volume(kind: &str) -> bool {
    kind.starts_with(VOLUME)
}

impl Claim {
    /// True when this Activation holds the app.
    pub fn is_of(&self, owner: &Owner) -> bool {
        self.uid == owner.uid && !self.retained
    }

    /// True when an Activation of the same namespace and name held the app before. The API server
    /// has one object of a name at a time, so an Activation with another UID is gone, whatever the
    /// claim says.
    pub fn left_by_namesake(&self, owner: &Owner) -> bool {
        self.namespace == owner.namespace && self.name == owner.name
    }

    /// True when the app may pass to this Activation as its successor: a namesake left it behind, or
    /// another Activation of the same namespace was deleted and retained it. Whoever may create
    /// Activations in a namespace may create them under any name.
    pub fn passes_to(&self, owner: &Owner) -> bool {
        self.uid != owner.uid
            && self.namespace == owner.namespace
            && (self.name == owner.name || self.retained)
    }

    /// The ids of the volumes that were created for the app.
    pub fn volumes(&self) -> BTreeSet<&str> {
        let made = self.made.iter();
        made.filter_map(|kind| kind.strip_prefix(VOLUME)).collect()
    }
}

/// Name of the ConfigMap of an app.
pub fn name(app: &str) -> String {
    format!("golive-app-{app}")
}

/// Reads the claim on an app.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn read(kube: &Client, own_namespace: &str, app: &str) -> Result<Option<Claim>, Error> {
    let found = store::maps(kube, own_namespace)
        .get_opt(&name(app))
        .await
        .map_err(|source| Error::kube(format!("read the claim on the app {app}"), source))?;
    Ok(found.map(parse))
}

/// Claims the app for this Activation: creates the claim, or takes over `before`. Losing the race is
/// no error: the next read shows who holds it.
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
    write(kube, own_namespace, app, owner, before, terms)
        .await
        .map(drop)
}

/// The content of a claim besides its owner.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// Slug of the organization.
    pub organization: &'a str,
    /// When it is claimed; `None`: the app is retained after deletion.
    pub taken: Option<Timestamp>,
    /// Kinds of objects that were, or are about to be, created for the app.
    pub made: &'a BTreeSet<String>,
    /// What is taken over with an app that existed before.
    pub taken_over: &'a TakenOver,
}

/// Records that an object of this kind is about to be created for the app. Safe to repeat.
///
/// # Errors
/// When the API server refuses or cannot be reached, or another claim has replaced the one that was
/// read.
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
    store::maps(kube, own_namespace)
        .patch(&name(app), &params, &Patch::Merge(&patch))
        .await
        .map(drop)
        .map_err(|source| Error::kube(format!("note in the claim on the app {app}"), source))
}

/// Marks the claim as retained: the app, or objects of its name of the kinds `kept`, outlive the
/// Activation.
///
/// # Errors
/// When the API server refuses or cannot be reached, or the claim was written since it was read.
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
        taken_over: &claim.taken_over,
    };
    let written = write(kube, own_namespace, app, owner, Some(claim), &terms).await?;
    written.into_result().map_err(|source| {
        Error::kube(
            format!("mark the claim on the app {app} as retained"),
            source,
        )
    })
}

/// Creates the claim, or replaces `before`.
async fn write(
    kube: &Client,
    own_namespace: &str,
    app: &str,
    owner: &Owner,
    before: Option<&Claim>,
    terms: &Terms<'_>,
) -> Result<Write<()>, Error> {
    let map = ConfigMap {
        metadata: store::metadata(name(app), COMPONENT, owner),
        data: Some(data(app, owner, terms)),
        ..ConfigMap::default()
    };
    let version = before.and_then(|claim| claim.version.as_deref());
    let written = store::put(&store::maps(kube, own_namespace), map, version).await;
    written
        .map(|written| match written {
            Write::Done(_) => Write::Done(()),
            Write::Conflict(error) => Write::Conflict(error),
        })
        .map_err(|source| Error::kube(format!("write the claim on the app {app}"), source))
}

/// The data of the ConfigMap; [`read`] parses it.
fn data(app: &str, owner: &Owner, terms: &Terms<'_>) -> BTreeMap<String, String> {
    let retained = terms.taken.is_none();
    let mut data = store::text([
        ("app", app),
        ("uid", &owner.uid),
        ("namespace", &owner.namespace),
        ("name", &owner.name),
        ("organization", terms.organization),
        ("retained", if retained { "true" } else { "false" }),
    ]);
    data.extend(terms.taken.map(|at| ("taken".to_owned(), at.to_string())));
    let made = terms.made.iter();
    data.extend(made.map(|kind| (format!("{MADE}{kind}"), "true".to_owned())));
    let over = terms.taken_over;
    if !over.former.is_empty() {
        let list: Vec<&str> = over.former.iter().map(String::as_str).collect();
        data.insert(FORMER.to_owned(), list.join(","));
    }
    for (key, holds) in [(EVERYTHING, over.everything), (SERVED, over.served)] {
        if holds {
            data.insert(key.to_owned(), "true".to_owned());
        }
    }
    data
}

/// A claim, from the ConfigMap that holds it.
fn parse(map: ConfigMap) -> Claim {
    let mut data = map.data.unwrap_or_default();
    let made = data
        .iter()
        .filter(|(_, value)| *value == "true")
        .filter_map(|(key, _)| key.strip_prefix(MADE))
        .map(str::to_owned)
        .collect();
    let mut text = |key: &str| data.remove(key).unwrap_or_default();
    let former = text(FORMER);
    let taken_over = TakenOver {
        former: former
            .split(',')
            .filter(|uid| !uid.is_empty())
            .map(str::to_owned)
            .collect(),
        everything: text(EVERYTHING) == "true",
        served: text(SERVED) == "true",
    };
    Claim {
        taken_over,
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
}

/// Deletes the claim. Already gone is fine, and so is another claim in its place, which stays.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn give_back(
    kube: &Client,
    own_namespace: &str,
    app: &str,
    claim: &Claim,
) -> Result<(), Error> {
    let api = store::maps(kube, own_namespace);
    store::delete_if(&api, &name(app), claim.object_uid.as_deref())
        .await
        .map(drop)
        .map_err(|source| Error::kube(format!("give back the claim on the app {app}"), source))
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
            taken_over: TakenOver::default(),
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
        // A rename: what another one of the namespace retained passes on, and what it holds does not.
        assert!(claim("old", "cabanas", "mvp", false).passes_to(&owner));
        assert!(claim("old", "cabanas", "former", true).passes_to(&owner));
        assert!(!claim("old", "cabanas", "former", false).passes_to(&owner));
        assert!(!claim("old", "other", "mvp", true).passes_to(&owner));
    }

    #[test]
    fn what_a_claim_says_is_read_as_it_was_written() {
        let owner = Owner {
            namespace: "cabanas".into(),
            name: "mvp".into(),
            uid: "new".into(),
            generation: 1,
        };
        let taken_over = TakenOver {
            former: ["a".to_owned(), "b".to_owned()].into(),
            everything: true,
            served: true,
        };
        let made = BTreeSet::from([DATABASE.to_owned(), volume("vol_1")]);
        let terms = Terms {
            organization: "cabanas",
            taken: Some(Timestamp::UNIX_EPOCH),
            made: &made,
            taken_over: &taken_over,
        };
        let read = parse(ConfigMap {
            data: Some(data("shop", &owner, &terms)),
            ..ConfigMap::default()
        });
        assert_eq!((&read.made, &read.taken_over), (&made, &taken_over));
        assert_eq!(read.volumes(), ["vol_1"].into());
        assert!(read.is_of(&owner));
    }
}
