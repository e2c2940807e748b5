//! The release: what it is, what should run instead when it has failed, and its record when it
//! has succeeded.

pub mod changes;
pub mod fly_release;
pub mod records;
pub mod rollback;

use std::{fmt, sync::Arc};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{fleet, look};
use crate::{
    api::Reason,
    error::Error,
    flytoml::{self, AppConfig},
    pipeline::{Cx, Note, Removal, Step, StepChange, StepId, Verdict, Why, facts, step::Result},
    plan::Target,
};
use records::{Outcome, Record, Records};

/// The record of the release.
pub struct Release;

/// The release that the target asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Its number within the Activation.
    pub number: u64,
    /// What it is: the same image, configuration and secrets are the same release.
    pub key: String,
    /// The image.
    pub image: facts::Image,
    /// Hash of the machines' configuration without image and secrets.
    pub config_hash: String,
    /// Names of the environment.
    pub env: Vec<String>,
    /// Whether it has a release command.
    pub migrates: bool,
}

/// What should run now: the wanted release, or the last good one when the wanted has failed.
#[derive(Clone, Debug)]
pub struct Effective {
    /// Key of the release.
    pub key: String,
    /// The image with its digest.
    pub pinned: String,
    /// The digest alone.
    pub digest: String,
    /// The application's configuration.
    pub config: Arc<AppConfig>,
    /// The failure that holds the wanted release back, and the release that runs instead.
    pub instead: Option<(Record, Record)>,
}

/// The release that the target asks for.
///
/// # Errors
/// When the fly.toml cannot be converted; preflight finds that first.
pub fn wanted(
    target: &Target,
    image: &facts::Image,
    secrets: &str,
    records: &Records,
) -> Result<Wanted> {
    let config = target.config()?;
    let app = &config.app;
    let context = flytoml::Context::default();
    let mut hash = Sha256::new();
    for (group, machine) in app
        .machine_configs(&context)
        .map_err(|error| fleet::not_convertible("machines", &error))?
    {
        hash.update(group);
        hash.update([0]);
        hash.update(serde_json::to_vec(&machine).unwrap_or_default());
    }
    hash.update([0]);
    hash.update(app.deploy.release_command.as_deref().unwrap_or_default());
    let config_hash = hex(hash);
    let mut hash = Sha256::new();
    for part in [&config_hash, &image.pinned, secrets] {
        hash.update(part);
        hash.update([0]);
    }
    let key = hex(hash);
    Ok(Wanted {
        number: records.number(&key, target),
        key,
        image: image.clone(),
        config_hash,
        env: app.env.keys().cloned().collect(),
        migrates: app.deploy.release_command.is_some(),
    })
}

fn hex(hash: Sha256) -> String {
    data_encoding::HEXLOWER.encode(&hash.finalize()[..12])
}

/// What should run now.
///
/// # Errors
/// When the record of the last good release cannot be used any more.
pub fn effective(target: &Target, wanted: &Wanted, records: &Records) -> Result<Effective> {
    let instead = records.held(&wanted.key, target).zip(records.last_good());
    let Some((failed, good)) = instead else {
        return Ok(Effective {
            key: wanted.key.clone(),
            pinned: wanted.image.pinned.clone(),
            digest: wanted.image.digest.clone(),
            config: Arc::new(target.config()?.app.clone()),
            instead: None,
        });
    };
    let mut config =
        match &good.config {
            None => AppConfig::minimal(&target.app, &target.region, good.port),
            Some(text) => flytoml::parse(text)
                .map_err(|error| Error::Blocked {
                    reason: Reason::RollbackHeld,
                    message: format!(
                        "the fly.toml of {} is no longer valid ({error}): deploy another release",
                        good.name()
                    ),
                })?
                .config,
        };
    config.bind(&target.app, &target.region);
    Ok(Effective {
        key: good.key.clone(),
        pinned: good.pinned.clone(),
        digest: good.digest.clone(),
        config: Arc::new(config),
        instead: Some((failed.clone(), good.clone())),
    })
}

/// What is recorded.
#[derive(Debug)]
pub struct Observed {
    wanted: Wanted,
    records: Records,
    instead: Option<(Record, Record)>,
}

/// A record to write.
#[derive(Debug)]
pub struct Change {
    wanted: Wanted,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record release {}", self.wanted.number)
    }
}

impl StepChange for Change {}

impl Step for Release {
    type Observed = Observed;
    type Change = Change;

    fn id(&self) -> StepId {
        StepId::Release
    }

    fn needs(&self) -> &'static [StepId] {
        &[StepId::Verify, StepId::SeedCommand, StepId::FlyRelease]
    }

    /// What is recorded stays recorded.
    fn rechecked(&self) -> bool {
        false
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        let records = records::load(cx).await?;
        let wanted = look::release(cx, &records)?;
        let instead = effective(&cx.target, &wanted, &records)?.instead;
        Ok(Observed {
            wanted,
            records,
            instead,
        })
    }

    fn diff(&self, _target: &Target, observed: &Observed, _now: Timestamp) -> Verdict<Change> {
        if let Some((failed, good)) = &observed.instead {
            return Verdict::Blocked(Why::new(
                Reason::RolledBack,
                format!(
                    "{} serves again, because {} {}; change the spec to deploy another release, or annotate the object with golive.dev/retry=<word> to try this one again",
                    good.name(),
                    failed.name(),
                    failed.fate()
                ),
            ));
        }
        if observed.records.is_good(&observed.wanted.key) {
            return Verdict::Done;
        }
        Verdict::Change(Change {
            wanted: observed.wanted.clone(),
        })
    }

    fn notes(&self, _target: &Target, observed: &Observed) -> Vec<Note> {
        let mut notes = vec![Note::History(observed.records.history())];
        let running = match &observed.instead {
            Some((_, good)) => Some(good),
            None => observed
                .records
                .latest()
                .filter(|_| observed.records.is_good(&observed.wanted.key)),
        };
        notes.extend(running.map(|record| Note::Release(record.status())));
        if observed.instead.is_some() {
            notes.push(Note::RolledBack);
        }
        notes
    }

    async fn act(&self, cx: &Cx, change: Change) -> Result<()> {
        let before = records::load(cx).await?;
        let mut record = records::record(
            cx,
            &change.wanted,
            Outcome::Succeeded,
            "",
            before.last_good(),
        );
        record.fly_version = fly_release::ended(cx, &change.wanted, Outcome::Succeeded).await?;
        records::save(cx, record).await
    }

    async fn remove(&self, cx: &Cx) -> Result<Removal> {
        cx.facts.releases.clear();
        records::delete_all(&cx.kube, &cx.installation.own_namespace, &cx.owner.uid).await?;
        Ok(Removal::Gone)
    }
}
