//! The records of releases in Kubernetes: one ConfigMap for each release, in the operator's own
//! namespace.
//!
//! It is written once when the release has ended, and once more when it ends differently. The
//! operator needs no right on the users' ConfigMaps for it, and nobody who may edit those can change
//! what a rollback restores.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, ResourceExt};

use super::{record::Record, records::Records};
use crate::{
    api::Reason,
    error::Error,
    pipeline::{Cx, facts::Facts, step::Result, typed_map::TypedMap},
    plan::ServedSpec,
    store::{self, Write},
};

/// Requests for a rollback that one record remembers.
const REQUESTS: usize = 16;

/// The key of a ConfigMap that holds the record.
const KEY: &str = "release.json";

/// The key of a ConfigMap that holds the fly.toml of the release.
const CONFIG_KEY: &str = "fly.toml";

/// The key of a ConfigMap that holds the spec that the release went live with.
const SPEC_KEY: &str = "spec.json";

/// What the objects are for, in their labels.
const COMPONENT: &str = "release";

/// The records as they are stored.
#[derive(Clone, Debug, Default)]
struct Stored {
    records: Records,
    /// Resource versions of the ConfigMaps, by the number of the release.
    versions: BTreeMap<u64, String>,
}

/// The records as they were read from Kubernetes. A fact.
#[derive(Debug)]
struct Loaded(Stored);

/// The records as this process has written them since; `None`: the outcome of a write is unknown.
/// In the journal.
#[derive(Debug)]
struct Saved(Option<Stored>);

fn known(facts: &Facts, journal: &TypedMap) -> Option<Stored> {
    match journal.get::<Saved>() {
        Some(saved) => saved.0.clone(),
        None => facts.get::<Loaded>().map(|loaded| loaded.0.clone()),
    }
}

/// The digest of the image that serves, as far as this process knows it without reading.
pub fn known_serving_digest(facts: &Facts, journal: &TypedMap) -> Option<String> {
    let stored = known(facts, journal)?;
    let serving = stored.records.serving_record();
    serving.map(|serving| serving.content.digest.clone())
}

/// Whether the newest release passed its SmokeTest with this part of the spec, as far as this process
/// knows it without reading. Deploy reads the records in each new process.
pub fn is_known_proven(facts: &Facts, journal: &TypedMap, served: &ServedSpec) -> bool {
    known(facts, journal).is_some_and(|stored| stored.records.is_proven_as(served))
}

/// The records. Read once in the life of this process, because nobody else writes them.
///
/// # Errors
/// When Kubernetes does not answer or a record cannot be decoded. An unreadable record never counts
/// as missing, because that would forget that a release has failed.
pub async fn load(cx: &Cx) -> Result<Records> {
    Ok(stored(cx).await?.records)
}

/// What a rollback that is only planned would record, with the UID of its request. In the journal.
#[derive(Clone, Debug)]
struct Planned(String, Record);

/// Notes what a rollback would record, or that there is none.
pub fn note_planned(cx: &Cx, planned: Option<(String, Record)>) {
    match planned {
        Some((uid, record)) => cx.journal.set(Planned(uid, record)),
        None => cx.journal.clear::<Planned>(),
    }
}

/// The records as they will be when what is requested is done: a pass that only plans shows what a rollback leads
/// to. In any other pass they are as [`load`] says.
///
/// # Errors
/// As [`load`].
pub async fn ahead(cx: &Cx) -> Result<Records> {
    let records = load(cx).await?;
    let planned = cx.journal.get::<Planned>().filter(|_| !cx.may_act());
    let planned = planned.filter(|planned| {
        let mut requests = cx.refs.rollbacks().iter();
        requests.any(|request| request.uid == planned.0)
    });
    Ok(match planned {
        Some(planned) => records.with(planned.1.clone()),
        None => records,
    })
}

async fn stored(cx: &Cx) -> Result<Stored> {
    let place = Place {
        kube: &cx.kube,
        own_namespace: &cx.installation.own_namespace,
        uid: &cx.owner.uid,
    };
    stored_at(place, &cx.facts, &cx.journal).await
}

/// Where the records of an Activation are.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// Kubernetes.
    pub kube: &'a Client,
    /// The operator's own namespace.
    pub own_namespace: &'a str,
    /// UID of the Activation.
    pub uid: &'a str,
}

/// The records, for a caller that has no target yet.
///
/// # Errors
/// As [`load`].
pub async fn load_at(place: Place<'_>, facts: &Facts, journal: &TypedMap) -> Result<Records> {
    Ok(stored_at(place, facts, journal).await?.records)
}

/// Hands what was read to another target of the same object.
pub fn share(from: &Facts, to: &Facts) {
    if let Some(loaded) = from.get::<Loaded>() {
        to.set(Loaded(loaded.0.clone()));
    }
}

async fn stored_at(place: Place<'_>, facts: &Facts, journal: &TypedMap) -> Result<Stored> {
    if let Some(stored) = known(facts, journal) {
        return Ok(stored);
    }
    let Place {
        kube,
        own_namespace,
        uid,
    } = place;
    let found = store::maps(kube, own_namespace)
        .list(&store::selector(COMPONENT, uid))
        .await
        .map_err(|source| Error::kube("list the records of releases", source))?;
    let mut stored = Stored::default();
    for map in found.items {
        let name = map.name_any();
        let version = map.resource_version();
        let record = decode(map).map_err(|why| Error::Blocked {
            reason: Reason::InternalError,
            message: format!(
                "the ConfigMap {own_namespace}/{name} does not hold a release ({why})"
            ),
            action: "restore it, or delete it to forget the release".to_owned(),
        })?;
        let version = version.map(|version| (record.number, version));
        stored.versions.extend(version);
        stored.records.list.push(record);
    }
    stored.records.list.sort_by_key(|record| record.number);
    facts.set(Loaded(stored.clone()));
    journal.clear::<Saved>();
    Ok(stored)
}

fn decode(map: ConfigMap) -> std::result::Result<Record, String> {
    let name = map.name_any();
    let mut data = map.data.unwrap_or_default();
    let text = data.remove(KEY).unwrap_or_default();
    let mut record: Record = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    check_number(record.number, &name)?;
    record.content.config = data.remove(CONFIG_KEY);
    // Without it the present spec says how the release is kept.
    let served = data.remove(SPEC_KEY);
    record.content.served = served.and_then(|text| serde_json::from_str(&text).ok());
    Ok(record)
}

/// Refuses the number of a record that somebody has edited: the next release would get one that follows from it, and
/// the record would be written under another name. Pure.
fn check_number(number: u64, name: &str) -> std::result::Result<(), String> {
    let of_name = name.rsplit('-').next().unwrap_or_default();
    if of_name.parse() != Ok(number) {
        return Err(format!(
            "its number is {number}, and its name says {of_name}"
        ));
    }
    // The status has room for numbers up to here.
    match i64::try_from(number) {
        Ok(1..) => Ok(()),
        _ => Err(format!("its number is {number}")),
    }
}

/// Writes a record, new or again, and deletes those beyond the number that is kept. A second try
/// after a lost reply finds the first.
///
/// # Errors
/// When Kubernetes does not answer. The records are then read again.
pub async fn save(cx: &Cx, mut record: Record) -> Result<()> {
    let before = stored(cx).await?;
    if let Some(same) = before.records.of(record.number) {
        record.merge(same);
    }
    let excess = record.requests.len().saturating_sub(REQUESTS);
    record.requests.drain(..excess);
    let number = record.number;
    let map = config_map(cx, &record)?;
    let api = store::maps(&cx.kube, &cx.installation.own_namespace);
    let version = before.versions.get(&number).map(String::as_str);
    let written = match store::put(&api, map, version).await {
        Ok(Write::Done(map)) => map,
        // Somebody else wrote it, or an earlier try of ours did: what is stored now counts.
        Ok(Write::Conflict(_)) => {
            cx.journal.set(Saved(None));
            return Ok(());
        }
        Err(source) => {
            cx.journal.set(Saved(None));
            return Err(Error::kube("record the release", source));
        }
    };
    let mut after = before;
    after.records = after.records.with(record);
    let version = written.resource_version().map(|version| (number, version));
    after.versions.extend(version);
    for number in after.records.superfluous() {
        match remove(&api, &name(&cx.owner.uid, number)).await {
            Ok(()) => {
                after.records = after.records.without(number);
                after.versions.remove(&number);
            }
            // It is tried again with the next record.
            Err(error) => {
                tracing::warn!(number, error = %crate::causes::chain(&error), "an old record of a release was not deleted");
            }
        }
    }
    cx.journal.set(Saved(Some(after)));
    Ok(())
}

/// Forgets what is known of the records.
pub fn forget(cx: &Cx) {
    cx.facts.clear::<Loaded>();
    cx.journal.clear::<Saved>();
}

fn config_map(cx: &Cx, record: &Record) -> Result<ConfigMap> {
    let text = serde_json::to_string(record).map_err(|_| Error::Malformed("release record"))?;
    let mut data = BTreeMap::from([(KEY.to_owned(), text)]);
    let config = record.content.config.clone();
    data.extend(config.map(|text| (CONFIG_KEY.to_owned(), text)));
    let served = record.content.served.as_ref();
    let served = served.and_then(|served| serde_json::to_string(served).ok());
    data.extend(served.map(|text| (SPEC_KEY.to_owned(), text)));
    Ok(ConfigMap {
        metadata: store::metadata(name(&cx.owner.uid, record.number), COMPONENT, &cx.owner),
        data: Some(data),
        ..ConfigMap::default()
    })
}

/// Name of the ConfigMap of a release.
fn name(uid: &str, number: impl std::fmt::Display) -> String {
    format!("golive-release-{uid}-{number}")
}

async fn remove(api: &Api<ConfigMap>, name: &str) -> Result<()> {
    store::delete(api, name)
        .await
        .map_err(|source| Error::kube("delete the record of a release", source))
}

/// Takes over the records of a former Activation, whose app passes to ours. They are copied; the
/// originals stay. Safe to repeat.
///
/// # Errors
/// When Kubernetes refuses or does not answer.
pub async fn inherit(cx: &Cx, from: &str) -> Result<()> {
    let api = store::maps(&cx.kube, &cx.installation.own_namespace);
    let found = api
        .list(&store::selector(COMPONENT, from))
        .await
        .map_err(|source| Error::kube("list the records of releases", source))?;
    for map in found.items {
        let Some(number) = map.name_any().rsplit('-').next().map(str::to_owned) else {
            continue;
        };
        let copy = ConfigMap {
            metadata: store::metadata(name(&cx.owner.uid, &number), COMPONENT, &cx.owner),
            data: map.data,
            ..ConfigMap::default()
        };
        // A conflict: it was copied before.
        store::put(&api, copy, None)
            .await
            .map_err(|source| Error::kube("take over the record of a release", source))?;
    }
    forget(cx);
    Ok(())
}

/// Deletes all records of an Activation. It is no error when there are none.
///
/// # Errors
/// When Kubernetes refuses or does not answer.
pub async fn delete_all(kube: &Client, own_namespace: &str, uid: &str) -> Result<()> {
    let api = store::maps(kube, own_namespace);
    let found = api
        .list(&store::selector(COMPONENT, uid))
        .await
        .map_err(|source| Error::kube("list the records of releases", source))?;
    for map in found.items {
        remove(&api, &map.name_any()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_record_is_refused_whose_number_is_not_that_of_its_name() {
        let uid = "0b8e2a3c-6d41-4d55-9f4e-2a6d3c1b7e90";
        assert_eq!(check_number(3, &name(uid, 3)), Ok(()));
        let refused = check_number(u64::MAX, &name(uid, 1)).unwrap_err();
        assert!(refused.contains("its name says 1"), "{refused}");
        for number in [0, u64::MAX] {
            let refused = check_number(number, &name(uid, number)).unwrap_err();
            assert!(refused.contains(&number.to_string()), "{refused}");
        }
    }

    #[test]
    fn a_record_of_an_earlier_version_is_decoded_and_written_with_the_same_keys() {
        let text = serde_json::json!({
            "number": 3, "key": "k", "image": "r/a:1", "pinned": "r/a@sha256:1",
            "digest": "sha256:1", "port": 8080, "configHash": "c", "env": ["A"],
            "secrets": {"S": "d"}, "outcome": "Failed", "time": "2026-01-01T00:00:00Z",
        });
        let map = |value: &serde_json::Value| ConfigMap {
            metadata: kube::core::ObjectMeta {
                name: Some(name("u", 3)),
                ..Default::default()
            },
            data: Some(BTreeMap::from([
                (KEY.to_owned(), value.to_string()),
                (CONFIG_KEY.to_owned(), "app = 'a'".to_owned()),
            ])),
            ..ConfigMap::default()
        };
        let record = decode(map(&text)).unwrap();
        assert_eq!(record.content.config.as_deref(), Some("app = 'a'"));
        assert_eq!(record.content.secrets["S"], "d");
        assert!(record.hold.retry.is_empty() && !record.migration.migrated);
        let written = serde_json::to_value(&record).unwrap();
        for (key, value) in text.as_object().unwrap() {
            assert_eq!(&written[key], value, "{key}");
        }
        let mut keys: Vec<&str> = written.as_object().unwrap().keys().map(|k| &**k).collect();
        keys.sort_unstable();
        assert_eq!(
            keys,
            [
                "by",
                "changes",
                "configHash",
                "digest",
                "env",
                "failedCommand",
                "flyVersion",
                "image",
                "key",
                "migrated",
                "number",
                "outcome",
                "pinned",
                "port",
                "proven",
                "reason",
                "requests",
                "restores",
                "retry",
                "reversible",
                "secrets",
                "target",
                "time",
                "why",
            ]
        );
    }
}
