//! The record of one release: what ran, who requested it and why, and how it ended. Plain data.
//!
//! A release that failed and was not rolled back (`onFailure`, a rollback that is held, a release
//! command that failed) has a record as well: what its migration did to the database keeps later
//! releases from being rolled back over it. Such a record holds nothing back, and when the release
//! becomes healthy, the same record says so. For the same reason a release that could be rolled back
//! is on record before its command runs: another spec may supersede it before it ends.
//!
//! The record contains no value of a secret.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    api::{
        condition::whole_seconds,
        status::{HistoryEntry, HistoryOutcome, ReleaseStatus},
    },
    fly,
    plan::ServedSpec,
};

/// How a release ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It has not ended: its release command was about to run. If it is not the latest, it was
    /// superseded, and what its command did is done.
    Begun,
    /// All machines ran it and were healthy. It is good once it is proven too.
    Succeeded,
    /// It failed, or somebody rolled it back. If the record names another release, that one serves
    /// instead; else the failed release was left as it is.
    Failed,
}

impl Outcome {
    /// Fly.io's name for the state of a release with this outcome.
    pub fn fly_status(self) -> fly::releases::ReleaseStatus {
        match self {
            Self::Begun => fly::releases::ReleaseStatus::Pending,
            Self::Succeeded => fly::releases::ReleaseStatus::Complete,
            Self::Failed => fly::releases::ReleaseStatus::Failed,
        }
    }
}

fn proven_by_default() -> bool {
    true
}

/// One release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Counted from 1 within the Activation.
    pub number: u64,
    /// What identifies it: hash of image, configuration and secrets.
    pub key: String,
    /// What its machines run.
    #[serde(flatten)]
    pub content: Content,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether it has passed its SmokeTest. Only such a release serves, and only such a release is
    /// restored. Older versions recorded a success without it.
    #[serde(default = "proven_by_default")]
    pub proven: bool,
    /// Why it failed. One line.
    #[serde(default)]
    pub reason: String,
    /// Number of the release that serves instead.
    #[serde(default)]
    pub restores: Option<u64>,
    /// When it ended.
    pub time: Timestamp,
    /// For which requests its failure holds it back.
    #[serde(flatten)]
    pub hold: Hold,
    /// Who requested it and why.
    #[serde(flatten)]
    pub provenance: Provenance,
    /// What it did to the database.
    #[serde(flatten)]
    pub migration: Migration,
    /// Requests for a rollback that were decided while it was the latest. Each counts once.
    #[serde(default)]
    pub requests: Vec<Request>,
    /// Fly.io's number of the release.
    #[serde(default)]
    pub fly_version: Option<u64>,
    /// The failures of its command, if that is what it failed for.
    #[serde(default)]
    pub failed_command: Option<FailedCommand>,
    /// The commands that have run well for it, by their key in fly.toml: they do not run again, also
    /// when Fly.io has forgotten their machines.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub passed_commands: BTreeSet<String>,
}

/// A run of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandRun {
    /// Its key in fly.toml.
    pub program: String,
    /// For which release, and with which command line.
    pub attempt: String,
    /// Id of its machine.
    pub machine: String,
}

/// How often a command of a release has failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedCommand {
    /// Its key in fly.toml.
    pub program: String,
    /// For which release, and with which command line.
    #[serde(default)]
    pub attempt: String,
    /// Id of the machine of the latest run that failed.
    pub machine: String,
    /// How often it has failed since a retry was last requested.
    pub runs: u32,
    /// The retry tokens that were set when it failed last.
    #[serde(default)]
    pub retry: BTreeSet<String>,
}

impl FailedCommand {
    /// The same after the failure of a run, with these retry tokens.
    #[must_use]
    pub fn next(&self, run: CommandRun, retry: &BTreeSet<String>) -> Self {
        if self.machine == run.machine {
            return self.clone();
        }
        let same_command = self.program == run.program && self.attempt == run.attempt;
        let same = same_command && retry.is_subset(&self.retry);
        Self {
            runs: if same { self.runs.saturating_add(1) } else { 1 },
            ..Self::first(run, retry)
        }
    }

    /// The first failure.
    pub fn first(run: CommandRun, retry: &BTreeSet<String>) -> Self {
        Self {
            program: run.program,
            attempt: run.attempt,
            machine: run.machine,
            runs: 1,
            retry: retry.clone(),
        }
    }
}

/// What the machines of a release run: what a rollback restores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Content {
    /// The image as the spec named it.
    pub image: String,
    /// With its digest, as machines got it.
    pub pinned: String,
    /// Digest of the image.
    pub digest: String,
    /// The text of the fly.toml; `None` when there was none. A key of its own in the ConfigMap.
    #[serde(skip)]
    pub config: Option<String>,
    /// The spec that it went live with; `None` until then. A key of its own in the ConfigMap.
    #[serde(skip)]
    pub served: Option<ServedSpec>,
    /// The port, when there was no fly.toml.
    pub port: u16,
    /// Hash of the machines' configuration.
    pub config_hash: String,
    /// Names of the environment variables.
    pub env: Vec<String>,
    /// The application's secrets: name and digest at Fly.io.
    pub secrets: BTreeMap<String, String>,
    /// The same with the keyed fingerprints of their values: what is set again while the release serves.
    /// Empty in records of older versions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fingerprints: BTreeMap<String, String>,
    /// Whether `DATABASE_URL` is that of the declared fallback; `None` in records of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<bool>,
    /// Since when releases that served have had each of these values without interruption, by name: records of the
    /// first of them go in time. Set when the release is proven; empty in records of older versions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub since: BTreeMap<String, Timestamp>,
}

/// A failed release is not tried again for the same target, unless a new retry token requests it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// Digest of the target that it failed for.
    #[serde(default)]
    pub target: String,
    /// The retry tokens that were set when it failed.
    #[serde(default)]
    pub retry: BTreeSet<String>,
}

/// Where a release came from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Provenance {
    /// Who requested it: the field manager of the spec, and who approved it at a gate.
    #[serde(default)]
    pub by: String,
    /// Why, in the words of its author.
    #[serde(default)]
    pub why: String,
    /// What is different from the release before it: names, never values.
    #[serde(default)]
    pub changes: String,
}

/// What a release did to the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Migration {
    /// Whether a release command ran for it.
    #[serde(default)]
    pub migrated: bool,
    /// Whether the spec declared its migrations reversible.
    #[serde(default)]
    pub reversible: bool,
}

impl Migration {
    /// Whether an earlier release may not run on the database any more.
    pub fn is_irreversible(self) -> bool {
        self.migrated && !self.reversible
    }
}

/// A request for a rollback that was decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// UID of the ActivationApproval.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// Who made the request, as the API server authenticated them.
    pub by: String,
    /// Number of the release to go back to.
    pub to: u64,
    /// Why it was refused; `None` when it was accepted.
    pub refused: Option<String>,
    /// What the rollback does not restore.
    #[serde(default)]
    pub note: String,
    /// When it was decided.
    pub time: Timestamp,
}

impl Record {
    /// Its entry in the history of the status.
    pub fn entry(&self) -> HistoryEntry {
        let (outcome, why) = match (self.outcome, self.restores) {
            (Outcome::Succeeded, _) if !self.proven => {
                (HistoryOutcome::Begun, &self.provenance.why)
            }
            (Outcome::Succeeded, _) => (HistoryOutcome::Succeeded, &self.provenance.why),
            (Outcome::Failed, Some(_)) => (HistoryOutcome::RolledBack, &self.reason),
            (Outcome::Failed, None) => (HistoryOutcome::Failed, &self.reason),
            (Outcome::Begun, _) => (HistoryOutcome::Begun, &self.provenance.why),
        };
        HistoryEntry {
            number: i64::try_from(self.number).ok(),
            version: self.version(),
            image: self.content.image.clone(),
            digest_short: short(&self.content.digest),
            config_hash: self.content.config_hash.clone(),
            outcome,
            by: self.provenance.by.clone(),
            why: why.clone(),
            changes: self.provenance.changes.clone(),
            restores: self.restores.and_then(|number| i64::try_from(number).ok()),
            time: Some(whole_seconds(self.time)),
        }
    }

    /// Its entry in the status while the machines run it.
    pub fn status(&self) -> ReleaseStatus {
        ReleaseStatus {
            number: i64::try_from(self.number).ok(),
            version: self.version(),
            image: self.content.image.clone(),
            digest: self.content.digest.clone(),
            digest_short: short(&self.content.digest),
            config_hash: self.content.config_hash.clone(),
            time: Some(whole_seconds(self.time)),
        }
    }

    /// Fly.io's number where it is known, else ours.
    fn version(&self) -> Option<i64> {
        i64::try_from(self.fly_version.unwrap_or(self.number)).ok()
    }

    /// Whether it ran well and passed its SmokeTest.
    pub fn is_good(&self) -> bool {
        self.outcome == Outcome::Succeeded && self.proven
    }

    /// Whether it failed and nothing was restored in its place.
    pub fn is_left(&self) -> bool {
        self.outcome == Outcome::Failed && self.restores.is_none()
    }

    /// Adds what an earlier record of the same release says.
    pub fn merge(&mut self, before: &Self) {
        let known = |request: &&Request| self.requests.iter().all(|r| r.uid != request.uid);
        let mut requests: Vec<Request> = before.requests.iter().filter(known).cloned().collect();
        requests.append(&mut self.requests);
        self.requests = requests;
        self.fly_version = self.fly_version.or(before.fly_version);
        if self.key == before.key {
            self.passed_commands
                .extend(before.passed_commands.iter().cloned());
            if self.content.since.is_empty() {
                self.content.since.clone_from(&before.content.since);
            }
        }
    }

    /// Whether a request rolled it back, rather than a failure.
    fn was_rolled_back_on_request(&self) -> bool {
        self.requests
            .iter()
            .any(|request| request.refused.is_none())
    }

    /// How it ended, for messages.
    pub fn ending(&self) -> String {
        match (self.outcome, self.was_rolled_back_on_request()) {
            (Outcome::Begun, _) => "has not ended".to_owned(),
            (Outcome::Succeeded, _) => "succeeded".to_owned(),
            (Outcome::Failed, true) => self.reason.clone(),
            (Outcome::Failed, false) => format!("failed: {}", self.reason),
        }
    }

    /// Its name, for messages.
    pub fn name(&self) -> String {
        format!("release {} ({})", self.number, self.content.image)
    }
}

/// The first twelve digits of a digest.
fn short(digest: &str) -> String {
    let hex = digest.rsplit(':').next().unwrap_or_default();
    hex.chars().take(12).collect()
}
