//! The record of releases: what ran, who asked for it and why, and how it ended. A rollback restores
//! from it, and a release that has failed or was taken back is not tried again until the spec
//! changes, also by another process.
//!
//! A release that has failed and is left as it is (`onFailure`, a rollback that is held back, a
//! release command that failed) has a record as well: what its migration has done to the database
//! keeps later releases from being rolled back over it. Nothing is held by such a record, and when
//! the release becomes well, the same record says so. For the same end a release beside which an
//! earlier one could be restored is on record before its command is run: another spec may supersede it
//! before it ends.
//!
//! One ConfigMap for each release, in the operator's own namespace: it is written once when the
//! release has ended and once more when it ends otherwise, the operator needs no right on the users'
//! ConfigMaps for it, and nobody who may edit those can change what a rollback restores. No value of
//! a secret is in it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
    core::ObjectMeta,
};
use serde::{Deserialize, Serialize};

use super::changes;
use crate::{
    api::{
        FIELD_MANAGER, LABEL_UID, LABEL_VERSION, Reason,
        condition::whole_seconds,
        status::{HistoryEntry, HistoryOutcome, ReleaseStatus, one_line},
    },
    error::Error,
    fly,
    pipeline::{Cx, Note, step::Result},
    plan::Target,
};

/// Releases that are kept.
const KEPT: usize = 10;

/// Requests for a rollback that one record remembers.
const REQUESTS: usize = 16;

/// The key of a ConfigMap that holds the record.
const KEY: &str = "release.json";

/// The key of a ConfigMap that holds the fly.toml of the release.
const CONFIG_KEY: &str = "fly.toml";

/// The value of the label `app.kubernetes.io/component` on records.
const COMPONENT: &str = "release";

/// How a release ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It has not ended: its release command was about to be run. One of before the latest was
    /// superseded, and what its command did is done.
    Begun,
    /// All machines ran it and were healthy.
    Succeeded,
    /// It failed, or was taken back by somebody. Another release serves instead if the record
    /// names one; else it was left as it is.
    Failed,
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
    /// The text of the fly.toml; `None` when there was none. A key of its own in the ConfigMap.
    #[serde(skip)]
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
    /// The words that asked to try again when it failed: a new one lifts the hold.
    #[serde(default)]
    pub retry: BTreeSet<String>,
    /// Number of the release that serves instead.
    #[serde(default)]
    pub restores: Option<u64>,
    /// Who asked for it: the manager of the spec, and who approved it at a gate.
    #[serde(default)]
    pub by: String,
    /// Why, as who asked for it said.
    #[serde(default)]
    pub why: String,
    /// What is different from the release before it: names, never values.
    #[serde(default)]
    pub changes: String,
    /// Whether a release command ran for it.
    #[serde(default)]
    pub migrated: bool,
    /// Whether the spec called its migrations reversible.
    #[serde(default)]
    pub reversible: bool,
    /// Requests for a rollback that were decided on while it was the latest. Each counts once.
    #[serde(default)]
    pub requests: Vec<Request>,
    /// Fly.io's number of the release.
    #[serde(default)]
    pub fly_version: Option<u64>,
    /// When it ended.
    pub time: Timestamp,
}

/// A request for a rollback that was decided on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// UID of the ActivationApproval.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// Who asked, as the API server proved.
    pub by: String,
    /// Number of the release to go back to.
    pub to: u64,
    /// Why it was refused; `None` when it was carried out.
    pub refused: Option<String>,
    /// What the rollback leaves as it is.
    #[serde(default)]
    pub note: String,
    /// When it was decided on.
    pub time: Timestamp,
}

/// All records of an Activation, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records {
    /// The records.
    pub list: Vec<Record>,
    /// Versions of their ConfigMaps, by number.
    versions: BTreeMap<u64, String>,
}

impl Records {
    /// The newest.
    pub fn latest(&self) -> Option<&Record> {
        self.list.last()
    }

    /// The newest that has ended.
    pub fn ended(&self) -> Option<&Record> {
        let mut ended = self.list.iter().rev();
        ended.find(|record| record.outcome != Outcome::Begun)
    }

    /// The release of this number.
    pub fn of(&self, number: u64) -> Option<&Record> {
        self.list.iter().find(|record| record.number == number)
    }

    /// The one that served last: the newest that succeeded, or that was restored after it.
    pub fn last_good(&self) -> Option<&Record> {
        self.serving().map(|(good, _)| good)
    }

    /// The one that served last, and the number of the release with which it began to.
    pub fn serving(&self) -> Option<(&Record, u64)> {
        self.list.iter().rev().find_map(|record| {
            let good = match (record.outcome, record.restores) {
                (Outcome::Succeeded, _) => Some(record),
                (Outcome::Failed, Some(number)) => self
                    .of(number)
                    .filter(|restored| restored.outcome == Outcome::Succeeded),
                (Outcome::Failed, None) | (Outcome::Begun, _) => None,
            };
            good.map(|good| (good, record.number))
        })
    }

    /// The newest release after this number whose migration cannot be undone. Of the release `key`
    /// the spec speaks, and not its record.
    pub fn irreversible_after(&self, number: u64, key: &str) -> Option<&Record> {
        self.list
            .iter()
            .rev()
            .filter(|record| record.number > number && record.key != key)
            .find(|record| record.migrated && !record.reversible)
    }

    /// The record of the release `key`, if it is the latest, has failed and was left as it is.
    pub fn left(&self, key: &str) -> Option<&Record> {
        self.latest()
            .filter(|record| record.key == key && record.is_left())
    }

    /// Whether the failure of the release `key` is on record as it is for this target.
    pub fn tells_failure(&self, key: &str, target: &Target) -> bool {
        self.left(key)
            .is_some_and(|record| record.reversible == target.deploy.migrations.reversible)
    }

    /// Whether `key` is what was recorded last, and ran well.
    pub fn is_good(&self, key: &str) -> bool {
        self.latest()
            .is_some_and(|record| record.key == key && record.outcome == Outcome::Succeeded)
    }

    /// The record of the failure that holds the release `key` back for this target.
    pub fn held(&self, key: &str, target: &Target) -> Option<&Record> {
        self.latest().filter(|record| {
            let again = !target.retry.is_subset(&record.retry);
            record.outcome == Outcome::Failed
                && !record.is_left()
                && record.key == key
                && record.target == target.digest()
                && !again
        })
    }

    /// The number of the release `key`: the next one, unless it is recorded already.
    pub fn number(&self, key: &str, target: &Target) -> u64 {
        match self.latest() {
            Some(last)
                if self.is_good(key)
                    || last.key == key && last.outcome == Outcome::Begun
                    || self.left(key).is_some()
                    || self.held(key, target).is_some() =>
            {
                last.number
            }
            Some(last) => last.number + 1,
            None => 1,
        }
    }

    /// Whether this request for a rollback was decided on, and how.
    pub fn request(&self, uid: &str) -> Option<&Request> {
        let mut all = self.list.iter().flat_map(|record| &record.requests);
        all.find(|request| request.uid == uid)
    }

    /// The request that was decided on last.
    pub fn last_request(&self) -> Option<&Request> {
        self.list
            .iter()
            .flat_map(|record| &record.requests)
            .max_by_key(|request| request.time)
    }

    /// Numbers of those that are too many: the oldest, and never what serves or what is held, nor
    /// what keeps it from being restored.
    fn superfluous(&self) -> Vec<u64> {
        let mut stay = Vec::new();
        if let Some((good, since)) = self.serving() {
            let newest = self.irreversible_after(since, "");
            // The spec may speak for the newest, and then another one counts.
            let other = newest.and_then(|newest| self.irreversible_after(since, &newest.key));
            let kept = [Some(good), newest, other];
            stay.extend(kept.into_iter().flatten().map(|record| record.number));
            stay.push(since);
        }
        let old = self.list.len().saturating_sub(KEPT);
        let numbers = self.list.iter().map(|record| record.number);
        let going = numbers.filter(|number| !stay.contains(number));
        going.take(old).collect()
    }

    /// With one more, or with another one in the place of its number.
    fn with(&self, record: Record) -> Self {
        let mut next = self.clone();
        next.list.retain(|other| other.number != record.number);
        next.list.push(record);
        next.list.sort_by_key(|record| record.number);
        next
    }

    fn without(&self, number: u64) -> Self {
        let mut next = self.clone();
        next.list.retain(|record| record.number != number);
        next.versions.remove(&number);
        next
    }

    /// What the status tells of them before the step `Release` is reached: which ones were
    /// superseded, and that the release `key` has failed and was left as it is.
    pub fn notes(&self, key: &str) -> Vec<Note> {
        let left = self.left(key).map(Record::entry);
        let superseded = self.history().into_iter();
        let superseded = superseded.filter(|entry| entry.outcome == HistoryOutcome::Superseded);
        left.into_iter()
            .chain(superseded)
            .map(Note::Ended)
            .collect()
    }

    /// What the status tells of them, newest first.
    pub fn history(&self) -> Vec<HistoryEntry> {
        let mut entries: Vec<HistoryEntry> = self.list.iter().rev().map(Record::entry).collect();
        entries.truncate(KEPT);
        for entry in entries.iter_mut().skip(1) {
            if entry.outcome == HistoryOutcome::Begun {
                entry.outcome = HistoryOutcome::Superseded;
            }
        }
        entries
    }
}

impl Record {
    /// What the history tells of it.
    pub fn entry(&self) -> HistoryEntry {
        let (outcome, why) = match (self.outcome, self.restores) {
            (Outcome::Succeeded, _) => (HistoryOutcome::Succeeded, &self.why),
            (Outcome::Failed, Some(_)) => (HistoryOutcome::RolledBack, &self.reason),
            (Outcome::Failed, None) => (HistoryOutcome::Failed, &self.reason),
            (Outcome::Begun, _) => (HistoryOutcome::Begun, &self.why),
        };
        HistoryEntry {
            number: i64::try_from(self.number).ok(),
            version: number(self),
            image: self.image.clone(),
            digest_short: short(&self.digest),
            config_hash: self.config_hash.clone(),
            outcome,
            by: self.by.clone(),
            why: why.clone(),
            changes: self.changes.clone(),
            restores: self.restores.and_then(|number| i64::try_from(number).ok()),
            time: Some(whole_seconds(self.time)),
        }
    }

    /// Whether it failed and nothing was restored in its place.
    pub fn is_left(&self) -> bool {
        self.outcome == Outcome::Failed && self.restores.is_none()
    }

    /// Takes over what was written down about the same release before.
    fn follow(&mut self, before: &Self) {
        let known = |request: &&Request| self.requests.iter().all(|r| r.uid != request.uid);
        let mut requests: Vec<Request> = before.requests.iter().filter(known).cloned().collect();
        requests.append(&mut self.requests);
        self.requests = requests;
        self.fly_version = self.fly_version.or(before.fly_version);
    }

    /// What the status tells of the release that runs.
    pub fn status(&self) -> ReleaseStatus {
        ReleaseStatus {
            number: i64::try_from(self.number).ok(),
            version: number(self),
            image: self.image.clone(),
            digest: self.digest.clone(),
            digest_short: short(&self.digest),
            config_hash: self.config_hash.clone(),
            time: Some(whole_seconds(self.time)),
        }
    }

    /// Whether somebody asked to take it back, rather than that it failed.
    pub fn taken_back(&self) -> bool {
        self.requests
            .iter()
            .any(|request| request.refused.is_none())
    }

    /// How it ended, for messages.
    pub fn fate(&self) -> String {
        match (self.outcome, self.taken_back()) {
            (Outcome::Begun, _) => "has not ended".to_owned(),
            (Outcome::Succeeded, _) => "succeeded".to_owned(),
            (Outcome::Failed, true) => self.reason.clone(),
            (Outcome::Failed, false) => format!("failed: {}", self.reason),
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

/// Name of the ConfigMap of a release.
fn name(uid: &str, number: u64) -> String {
    format!("golive-release-{uid}-{number}")
}

fn api(kube: &Client, own_namespace: &str) -> Api<ConfigMap> {
    Api::namespaced(kube.clone(), own_namespace)
}

/// Selects the records of one Activation.
fn selector(uid: &str) -> ListParams {
    ListParams::default().labels(&format!(
        "{LABEL_UID}={uid},app.kubernetes.io/component={COMPONENT}"
    ))
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
    let found = api(&cx.kube, &cx.installation.own_namespace)
        .list(&selector(&cx.owner.uid))
        .await
        .map_err(|source| Error::kube("list the records of releases", source))?;
    let mut records = Records::default();
    for map in found.items {
        let name = map.name_any();
        let version = map.resource_version();
        let record = decode(map).map_err(|why| Error::Blocked {
            reason: Reason::InternalError,
            message: format!(
                "the ConfigMap {}/{name} does not hold a release ({why}): restore it, or delete it to forget the release",
                cx.installation.own_namespace
            ),
        })?;
        records
            .versions
            .extend(version.map(|version| (record.number, version)));
        records.list.push(record);
    }
    records.list.sort_by_key(|record| record.number);
    cx.facts.releases.set(records.clone());
    Ok(records)
}

fn decode(map: ConfigMap) -> std::result::Result<Record, String> {
    let mut data = map.data.unwrap_or_default();
    let text = data.remove(KEY).unwrap_or_default();
    let mut record: Record = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    record.config = data.remove(CONFIG_KEY);
    Ok(record)
}

/// Writes a record: a new one, or another version of one that is there; then removes those that are
/// too many. A second try after a lost reply finds the first.
///
/// # Errors
/// When Kubernetes does not answer. What is there is read again by the next look.
pub async fn save(cx: &Cx, mut record: Record) -> Result<()> {
    let before = load(cx).await?;
    if let Some(same) = before.of(record.number) {
        record.follow(same);
    }
    let excess = record.requests.len().saturating_sub(REQUESTS);
    record.requests.drain(..excess);
    let number = record.number;
    let map = config_map(cx, &record, before.versions.get(&number))?;
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let api = api(&cx.kube, &cx.installation.own_namespace);
    let written = if before.versions.contains_key(&number) {
        let name = name(&cx.owner.uid, number);
        api.replace(&name, &params, &map).await
    } else {
        api.create(&params, &map).await
    };
    let written = match written {
        Ok(map) => map,
        Err(source) => {
            // Whatever happened, what is there now counts.
            cx.facts.releases.clear();
            return match source {
                kube::Error::Api(status) if status.is_already_exists() || status.is_conflict() => {
                    Ok(())
                }
                source => Err(Error::kube("record the release", source)),
            };
        }
    };
    let mut after = before.with(record);
    after
        .versions
        .extend(written.resource_version().map(|version| (number, version)));
    for number in after.superfluous() {
        let gone = remove(&api, &name(&cx.owner.uid, number)).await;
        match gone {
            Ok(()) => after = after.without(number),
            // It is tried again with the next record.
            Err(error) => {
                tracing::warn!(number, error = %crate::causes::chain(&error), "an old record of a release stays");
            }
        }
    }
    cx.facts.releases.set(after);
    Ok(())
}

fn config_map(cx: &Cx, record: &Record, version: Option<&String>) -> Result<ConfigMap> {
    let text = serde_json::to_string(record).map_err(|_| Error::Malformed("release record"))?;
    let labels = [
        ("app.kubernetes.io/name", "golive"),
        ("app.kubernetes.io/component", COMPONENT),
        ("app.kubernetes.io/managed-by", "golive"),
        LABEL_VERSION,
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
    let mut data = BTreeMap::from([(KEY.to_owned(), text)]);
    data.extend(
        record
            .config
            .clone()
            .map(|text| (CONFIG_KEY.to_owned(), text)),
    );
    Ok(ConfigMap {
        metadata: ObjectMeta {
            name: Some(name(&cx.owner.uid, record.number)),
            labels: Some(text_of(&labels)),
            annotations: Some(text_of(&annotations)),
            resource_version: version.cloned(),
            ..ObjectMeta::default()
        },
        data: Some(data),
        ..ConfigMap::default()
    })
}

async fn remove(api: &Api<ConfigMap>, name: &str) -> Result<()> {
    match api.delete(name, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(source) => Err(Error::kube("delete the record of a release", source)),
    }
}

/// Removes all records of an Activation. Already gone is fine.
///
/// # Errors
/// When Kubernetes refuses or does not answer.
pub async fn delete_all(kube: &Client, own_namespace: &str, uid: &str) -> Result<()> {
    let api = api(kube, own_namespace);
    let found = api
        .list(&selector(uid))
        .await
        .map_err(|source| Error::kube("list the records of releases", source))?;
    for map in found.items {
        remove(&api, &map.name_any()).await?;
    }
    Ok(())
}

/// A record of what is to be written now.
pub fn record(
    cx: &Cx,
    release: &crate::phase::deploy::release::Wanted,
    outcome: Outcome,
    reason: &str,
    before: Option<&Record>,
) -> Record {
    let mut record = Record {
        number: release.number,
        key: release.key.clone(),
        image: release.image.reference.clone(),
        pinned: release.image.pinned.clone(),
        digest: release.image.digest.clone(),
        config: cx.target.config_text().map(str::to_owned),
        port: cx.target.port(),
        config_hash: release.config_hash.clone(),
        env: release.env.clone(),
        secrets: crate::phase::app_secrets::records(cx)
            .into_iter()
            .map(|(name, secret)| (name, secret.digest))
            .collect(),
        outcome,
        reason: one_line(&crate::redact::redact(reason), 1_000),
        target: cx.target.digest().to_owned(),
        retry: cx.target.retry.clone(),
        restores: None,
        by: one_line(&cx.origin.by(cx.refs.approvals(), cx.target.digest()), 256),
        why: one_line(&crate::redact::redact(why(cx, release, before)), 512),
        changes: String::new(),
        migrated: release.migrates,
        reversible: cx.target.deploy.migrations.reversible,
        requests: Vec::new(),
        fly_version: None,
        time: cx.now(),
    };
    record.changes = before.map_or_else(String::new, |before| changes::between(before, &record));
    record
}

/// Why there is a release: another image was chosen, or what its author said.
fn why<'c>(
    cx: &'c Cx,
    release: &crate::phase::deploy::release::Wanted,
    before: Option<&Record>,
) -> &'c str {
    let choice = cx.target.choice().filter(|choice| !choice.why.is_empty());
    let other = before.is_none_or(|before| before.digest != release.image.digest);
    choice
        .filter(|_| other)
        .map_or(&cx.origin.cause, |choice| &choice.why)
}

/// What Fly.io calls the state of a release that ended so.
pub fn fly_status(outcome: Outcome) -> fly::releases::ReleaseStatus {
    match outcome {
        Outcome::Begun => fly::releases::ReleaseStatus::Pending,
        Outcome::Succeeded => fly::releases::ReleaseStatus::Complete,
        Outcome::Failed => fly::releases::ReleaseStatus::Failed,
    }
}

#[cfg(test)]
pub(in crate::phase::deploy) mod tests;
