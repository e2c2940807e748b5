//! The record of releases: what ran, and how it ended. A rollback restores from it, and a release
//! that has failed is not tried again until the spec changes, also by another process.
//!
//! One ConfigMap for each Activation, in the operator's own namespace: it is written once per
//! release, the operator needs no right on the users' ConfigMaps for it, and nobody who may edit
//! those can change what a rollback restores. No value of a secret is in it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{DeleteParams, PostParams},
    core::ObjectMeta,
};
use serde::{Deserialize, Serialize};

use crate::{
    api::{
        FIELD_MANAGER, LABEL_UID,
        condition::whole_seconds,
        status::{HistoryEntry, ReleaseStatus, one_line},
    },
    error::Error,
    fly,
    phase::{Cx, step::Result},
};

/// Releases that are kept.
const KEPT: usize = 10;

/// Most bytes of one ConfigMap that we fill: the API server refuses 1 MiB and more.
const ROOM: usize = 900_000;

/// The key of the ConfigMap that holds the records.
const KEY: &str = "releases.json";

/// How a release ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// All machines ran it and were healthy.
    Succeeded,
    /// It was rolled back.
    Failed,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "Succeeded",
            Self::Failed => "RolledBack",
        }
    }
}

/// One release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Counted from 1 within the Activation.
    pub number: u64,
    /// What it is: hash of image, configuration and secrets.
    pub key: String,
    /// The image as the spec named it.
    pub image: String,
    /// With its digest, as machines got it.
    pub pinned: String,
    /// Digest of the image.
    pub digest: String,
    /// The text of the fly.toml; `None` when there was none.
    pub config: Option<String>,
    /// The port, when there was no fly.toml.
    pub port: u16,
    /// Hash of the machines' configuration.
    pub config_hash: String,
    /// Names of the environment.
    pub env: Vec<String>,
    /// The application's secrets: name and digest at Fly.io.
    pub secrets: BTreeMap<String, String>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it failed. One line.
    #[serde(default)]
    pub reason: String,
    /// The target that it failed for: another one may try the same release again.
    #[serde(default)]
    pub target: String,
    /// Fly.io's number of the release.
    #[serde(default)]
    pub fly_version: Option<u64>,
    /// When it ended.
    pub time: Timestamp,
}

/// All records of an Activation, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records {
    /// The records.
    pub list: Vec<Record>,
    version: Option<String>,
}

impl Records {
    /// The newest.
    pub fn latest(&self) -> Option<&Record> {
        self.list.last()
    }

    /// The newest that succeeded.
    pub fn last_good(&self) -> Option<&Record> {
        self.list
            .iter()
            .rev()
            .find(|record| record.outcome == Outcome::Succeeded)
    }

    /// Whether `key` is what was recorded last, and ran well.
    pub fn is_good(&self, key: &str) -> bool {
        self.latest()
            .is_some_and(|record| record.key == key && record.outcome == Outcome::Succeeded)
    }

    /// The record of the failure that holds the release `key` back for this target.
    pub fn held(&self, key: &str, target: &str) -> Option<&Record> {
        self.latest().filter(|record| {
            record.outcome == Outcome::Failed && record.key == key && record.target == target
        })
    }

    /// The number of the release `key`: the next one, unless it is recorded already.
    pub fn number(&self, key: &str, target: &str) -> u64 {
        match self.latest() {
            Some(last) if self.is_good(key) || self.held(key, target).is_some() => last.number,
            Some(last) => last.number + 1,
            None => 1,
        }
    }

    /// With one more; the oldest go when there are too many, or too much text. The last good one
    /// stays, whatever happens.
    fn with(&self, record: Record) -> Vec<Record> {
        let mut list = self.list.clone();
        list.push(record);
        let size = |list: &[Record]| {
            list.iter()
                .map(|record| record.config.as_deref().map_or(0, str::len) + 2_000)
                .sum::<usize>()
        };
        while list.len() > 1 && (list.len() > KEPT || size(&list) > ROOM) {
            let good = list
                .iter()
                .rposition(|record| record.outcome == Outcome::Succeeded);
            let oldest = usize::from(good == Some(0));
            list.remove(oldest);
        }
        list
    }

    /// What the status tells of them, newest first.
    pub fn history(&self) -> Vec<HistoryEntry> {
        self.list
            .iter()
            .rev()
            .take(KEPT)
            .map(|record| HistoryEntry {
                version: number(record),
                image: record.image.clone(),
                digest_short: short(&record.digest),
                config_hash: record.config_hash.clone(),
                outcome: record.outcome.as_str().to_owned(),
                time: Some(whole_seconds(record.time)),
            })
            .collect()
    }
}

impl Record {
    /// What the status tells of the release that runs.
    pub fn status(&self) -> ReleaseStatus {
        ReleaseStatus {
            version: number(self),
            image: self.image.clone(),
            digest: self.digest.clone(),
            digest_short: short(&self.digest),
            config_hash: self.config_hash.clone(),
            time: Some(whole_seconds(self.time)),
        }
    }

    /// For messages.
    pub fn name(&self) -> String {
        format!("release {} ({})", self.number, self.image)
    }
}

/// Fly.io's number where it is known, else ours.
fn number(record: &Record) -> Option<i64> {
    i64::try_from(record.fly_version.unwrap_or(record.number)).ok()
}

/// The first twelve digits of a digest.
fn short(digest: &str) -> String {
    let hex = digest.rsplit(':').next().unwrap_or_default();
    hex.chars().take(12).collect()
}

/// Name of the ConfigMap.
fn name(uid: &str) -> String {
    format!("golive-releases-{uid}")
}

fn api(cx: &Cx) -> Api<ConfigMap> {
    Api::namespaced(cx.kube.clone(), &cx.own_namespace)
}

/// The records. Read once in the life of this process: nobody else writes them.
///
/// # Errors
/// When Kubernetes does not answer, or what is there cannot be read: never taken for "none",
/// because that would forget that a release has failed.
pub async fn load(cx: &Cx) -> Result<Records> {
    if let Some(records) = cx.facts.releases.get() {
        return Ok((*records).clone());
    }
    let name = name(&cx.owner.uid);
    let doing = || format!("read the releases in the ConfigMap {name}");
    let found = api(cx)
        .get_opt(&name)
        .await
        .map_err(|source| Error::kube(doing(), source))?;
    let records = match found {
        None => Records::default(),
        Some(map) => {
            let text = map.data.unwrap_or_default().remove(KEY).unwrap_or_default();
            let list = serde_json::from_str(&text).map_err(|error| Error::Blocked {
                reason: crate::api::Reason::InternalError,
                message: format!(
                    "the ConfigMap {}/{name} does not hold releases ({error}): restore it, or delete it to begin anew",
                    cx.own_namespace
                ),
            })?;
            Records {
                list,
                version: map.metadata.resource_version,
            }
        }
    };
    cx.facts.releases.set(records.clone());
    Ok(records)
}

/// Adds a record. A second try after a lost reply finds the first.
///
/// # Errors
/// When Kubernetes does not answer, or somebody else wrote: then it is read again.
pub async fn add(cx: &Cx, record: Record) -> Result<()> {
    let before = load(cx).await?;
    let list = before.with(record);
    let text = serde_json::to_string(&list).map_err(|_| Error::Malformed("release record"))?;
    let labels = [
        ("app.kubernetes.io/name", "golive"),
        ("app.kubernetes.io/component", "releases"),
        ("app.kubernetes.io/managed-by", "golive"),
        (LABEL_UID, cx.owner.uid.as_str()),
    ];
    let annotations = [
        ("golive.dev/namespace", cx.owner.namespace.as_str()),
        ("golive.dev/activation", cx.owner.name.as_str()),
    ];
    let text_of = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    let name = name(&cx.owner.uid);
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            labels: Some(text_of(&labels)),
            annotations: Some(text_of(&annotations)),
            resource_version: before.version.clone(),
            ..ObjectMeta::default()
        },
        data: Some([(KEY.to_owned(), text)].into()),
        ..ConfigMap::default()
    };
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let api = api(cx);
    let written = match before.version {
        None => api.create(&params, &map).await,
        Some(_) => api.replace(&name, &params, &map).await,
    };
    match written {
        Ok(map) => {
            cx.facts.releases.set(Records {
                list,
                version: map.metadata.resource_version,
            });
            Ok(())
        }
        Err(source) => {
            // Whatever happened, what is there now counts.
            cx.facts.releases.clear();
            Err(Error::kube("record the release", source))
        }
    }
}

/// Removes the records. Already gone is fine.
///
/// # Errors
/// When Kubernetes refuses or does not answer.
pub async fn delete(cx: &Cx) -> Result<()> {
    cx.facts.releases.clear();
    let name = name(&cx.owner.uid);
    match api(cx).delete(&name, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(source) => Err(Error::kube("delete the record of releases", source)),
    }
}

/// A record of what is to be written now.
pub fn record(cx: &Cx, release: &super::release::Wanted, outcome: Outcome, reason: &str) -> Record {
    Record {
        number: release.number,
        key: release.key.clone(),
        image: release.image.reference.clone(),
        pinned: release.image.pinned.clone(),
        digest: release.image.digest.clone(),
        config: cx.target.config_text().map(str::to_owned),
        port: cx.target.port(),
        config_hash: release.config_hash.clone(),
        env: release.env.clone(),
        secrets: crate::phase::provision::push::records(cx)
            .into_iter()
            .map(|(name, secret)| (name, secret.digest))
            .collect(),
        outcome,
        reason: one_line(&crate::redact::redact(reason), 1_000),
        target: cx.target.digest().to_owned(),
        fly_version: None,
        time: cx.now(),
    }
}

/// What Fly.io calls the state of a release that ended so.
pub fn fly_status(outcome: Outcome) -> fly::releases::ReleaseStatus {
    match outcome {
        Outcome::Succeeded => fly::releases::ReleaseStatus::Complete,
        Outcome::Failed => fly::releases::ReleaseStatus::Failed,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn record(number: u64, key: &str, outcome: Outcome) -> Record {
        Record {
            number,
            key: key.to_owned(),
            image: "registry.fly.io/a:1".to_owned(),
            pinned: "registry.fly.io/a@sha256:1".to_owned(),
            digest: "sha256:0123456789abcdef".to_owned(),
            config: Some("app = 'a'".to_owned()),
            port: 8080,
            config_hash: String::new(),
            env: Vec::new(),
            secrets: BTreeMap::new(),
            outcome,
            reason: String::new(),
            target: "t1".to_owned(),
            fly_version: None,
            time: Timestamp::UNIX_EPOCH,
        }
    }

    fn records(list: &[(&str, Outcome)]) -> Records {
        let list = list.iter().zip(1..);
        Records {
            list: list
                .map(|((key, outcome), number)| record(number, key, *outcome))
                .collect(),
            version: None,
        }
    }

    #[test]
    fn a_failed_release_is_held_for_the_same_target_only() {
        let records = records(&[("a", Outcome::Succeeded), ("b", Outcome::Failed)]);
        assert!(records.held("b", "t1").is_some());
        assert!(records.held("b", "t2").is_none());
        assert!(records.held("c", "t1").is_none());
        assert_eq!(records.last_good().unwrap().key, "a");
        assert!(!records.is_good("a"), "what failed came after it");
        assert_eq!(records.number("b", "t1"), 2);
        assert_eq!(records.number("b", "t2"), 3);
    }

    #[test]
    fn ten_releases_are_kept_and_the_last_good_one_always() {
        let mut all = records(&[("good", Outcome::Succeeded)]);
        for number in 2..30 {
            all.list = all.with(record(number, "bad", Outcome::Failed));
        }
        assert_eq!(all.list.len(), KEPT);
        assert_eq!(all.last_good().unwrap().key, "good");
        assert_eq!(all.latest().unwrap().number, 29);
        assert_eq!(all.history().len(), KEPT);
        assert_eq!(all.history().first().unwrap().version, Some(29));
    }

    #[test]
    fn much_text_keeps_fewer_releases_and_never_fills_the_config_map() {
        let mut all = Records::default();
        for number in 1..9 {
            let mut record = record(number, "k", Outcome::Succeeded);
            record.config = Some("x".repeat(400_000));
            all.list = all.with(record);
        }
        assert_eq!(all.list.len(), 2);
        assert_eq!(all.latest().unwrap().number, 8);
    }
}
