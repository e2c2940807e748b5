//! The release: what it is, what should run instead when it has failed, and its record when it
//! has succeeded.

use std::{fmt, sync::Arc};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{
    fleet, look,
    records::{self, Outcome, Record, Records},
};
use crate::{
    api::Reason,
    error::Error,
    fly::{self, releases::NewRelease},
    flytoml::{self, AppConfig, Strategy},
    phase::{Cx, Note, Removal, Step, StepId, Verdict, Why, facts, step::Result},
    target::Target,
};

/// The record of the release.
pub struct Release;

/// Name of the step.
pub const ID: StepId = "Release";

/// Fly.io's releases that are looked through for one that we recorded before a crash.
const RECENT: u32 = 5;

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
    /// At Fly.io, of an earlier try whose reply or whose process was lost.
    begun: Option<fly::releases::Release>,
}

/// A record to write.
#[derive(Debug)]
pub struct Change {
    wanted: Wanted,
    begun: Option<fly::releases::Release>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record release {}", self.wanted.number)
    }
}

impl Step for Release {
    type Observed = Observed;
    type Change = Change;

    fn id(&self) -> StepId {
        ID
    }

    fn needs(&self) -> &'static [StepId] {
        &[super::verify::ID, super::seed_command::ID]
    }

    /// What is recorded stays recorded.
    fn rechecked(&self) -> bool {
        false
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        let records = records::load(cx).await?;
        let wanted = look::release(cx, &records)?;
        let instead = effective(&cx.target, &wanted, &records)?.instead;
        let begun = if instead.is_some() || records.is_good(&wanted.key) {
            None
        } else {
            begun(cx, &wanted, &records).await?
        };
        Ok(Observed {
            wanted,
            records,
            instead,
            begun,
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
            begun: observed.begun.clone(),
        })
    }

    fn notes(&self, _target: &Target, observed: &Observed) -> Vec<Note> {
        let mut notes = vec![Note::History(observed.records.history())];
        let running = match &observed.instead {
            Some((_, good)) => Some(good),
            None => observed
                .records
                .latest()
                .filter(|record| record.key == observed.wanted.key && !record.is_left()),
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
        record.fly_version = tell_fly(cx, &change.wanted, change.begun, Outcome::Succeeded).await?;
        records::save(cx, record).await
    }

    async fn remove(&self, cx: &Cx) -> Result<Removal> {
        cx.facts.releases.clear();
        records::delete_all(&cx.kube, &cx.own_namespace, &cx.owner.uid).await?;
        Ok(Removal::Gone)
    }
}

/// The release at Fly.io that an earlier try made: newer than all that are recorded, of the
/// same image, and not failed. What has failed there stays so: a release that becomes well after
/// all gets another one.
async fn begun(
    cx: &Cx,
    wanted: &Wanted,
    records: &Records,
) -> Result<Option<fly::releases::Release>> {
    let recorded = records
        .list
        .iter()
        .filter_map(|record| record.fly_version)
        .max();
    let listed = match cx.fly.releases(&cx.target.app, RECENT).await {
        Ok(listed) => listed,
        Err(error) if refused(&error) => return Ok(None),
        Err(error) => return Err(Error::fly("list the releases of the app", error)),
    };
    Ok(listed.into_iter().find(|release| {
        release.version > recorded
            && release.image_ref.as_deref() == Some(wanted.image.pinned.as_str())
            && matches!(
                release.status,
                fly::releases::ReleaseStatus::Pending
                    | fly::releases::ReleaseStatus::Running
                    | fly::releases::ReleaseStatus::Complete
            )
    }))
}

/// Records the release at Fly.io, for `fly releases` and the dashboard, and answers with its
/// number. The application does not depend on it: a token that may not do this is no obstacle.
///
/// # Errors
/// When Fly.io does not answer.
pub async fn tell_fly(
    cx: &Cx,
    wanted: &Wanted,
    begun: Option<fly::releases::Release>,
    outcome: Outcome,
) -> Result<Option<u64>> {
    let target = &cx.target;
    let release = match begun {
        Some(begun) => begun,
        None => {
            let new = NewRelease {
                app_name: cx.target.app.clone(),
                image: wanted.image.pinned.clone(),
                strategy: strategy(target).as_str().to_uppercase(),
                definition: flytoml::definition(
                    target.config_text(),
                    &target.app,
                    &target.region,
                    target.port(),
                ),
                build_id: 0,
            };
            match cx.fly.create_release(&new).await {
                Ok(release) => release,
                Err(error) if refused(&error) => {
                    tracing::warn!(%error, "Fly.io does not record the release");
                    return Ok(None);
                }
                Err(error) => return Err(Error::fly("record the release", error)),
            }
        }
    };
    let status = records::fly_status(outcome);
    if release.status != status {
        let set = cx.fly.set_release_status(&release.id, &status, None).await;
        match set {
            Err(error) if refused(&error) => {
                tracing::warn!(%error, "Fly.io does not record how the release ended");
            }
            set => set.map_err(|error| Error::fly("record how the release ended", error))?,
        }
    }
    Ok(release.version)
}

/// How the machines are updated, as the fly.toml says.
fn strategy(target: &Target) -> Strategy {
    let config = target.config_or_invalid();
    config.map_or(Strategy::default(), |config| config.app.strategy())
}

fn refused(error: &fly::Error) -> bool {
    matches!(
        error.class(),
        fly::Class::Invalid | fly::Class::Gone | fly::Class::Auth { .. }
    )
}
