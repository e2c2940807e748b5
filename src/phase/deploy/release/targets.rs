//! The two targets of the phase: the release that serves and the release that the spec requests;
//! and which of them the machines should run now.

use std::sync::Arc;

use super::{
    record::Record,
    records::{Records, ServingRecord},
    store,
    wanted::WantedRelease,
};
use crate::{
    api::Reason,
    error::Error,
    flytoml::{self, AppConfig},
    phase::{app_secrets, release_secrets},
    pipeline::{Care, Cx, step::Result},
    plan::Target,
};

/// The two targets, and the records that they follow from.
#[derive(Clone, Debug)]
pub struct Targets {
    /// The release that serves; `None` before the first has succeeded.
    pub serving: Option<ServingRecord>,
    /// The release that the spec requests; while what serves is kept, the one that serves.
    pub wanted: WantedRelease,
    /// Whether this pass only keeps what serves.
    pub keeps_serving: bool,
    /// The records.
    pub records: Records,
}

/// What the machines should run now: the wanted release, or the one that served before it when the
/// wanted one has failed.
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
    /// The rollback, if the wanted release is held back.
    pub rollback: Option<RolledBack>,
}

/// A wanted release that is held back, and the release that serves instead.
#[derive(Clone, Debug)]
pub struct RolledBack {
    /// The record of the failure.
    pub failed: Record,
    /// The record of the release that serves.
    pub serving: Record,
}

/// The two targets now, from the records and the spec.
///
/// # Errors
/// When Kubernetes does not answer, the image is not known or the fly.toml cannot be converted.
pub async fn observe(cx: &Cx) -> Result<Targets> {
    of(cx, store::ahead(cx).await?)
}

/// The two targets that follow from these records and the spec, with the present secrets.
///
/// # Errors
/// When the image is not known or the fly.toml cannot be converted.
pub fn of(cx: &Cx, records: Records) -> Result<Targets> {
    let serving = records.serving();
    if cx.care == Care::Serving {
        let record = serving.as_ref().map(|serving| &serving.record);
        let record = record.ok_or(Error::NotKnown("the release that serves"))?;
        return Ok(Targets {
            wanted: WantedRelease::of_record(record),
            keeps_serving: true,
            serving,
            records,
        });
    }
    let image = cx
        .facts
        .get::<crate::store::image::Image>()
        .ok_or(Error::NotKnown("the image"))?;
    let secrets = app_secrets::digest_of(&release_secrets::expected(cx));
    Ok(Targets {
        serving,
        wanted: WantedRelease::of(&cx.target, &image, &secrets, &records)?,
        keeps_serving: false,
        records,
    })
}

impl Targets {
    /// Whether the wanted release was rolled out well already.
    pub fn is_wanted_rolled_out(&self) -> bool {
        self.keeps_serving || self.records.is_rolled_out(&self.wanted.key)
    }

    /// Whether the wanted release has also passed its SmokeTest: it serves.
    pub fn is_wanted_good(&self) -> bool {
        self.keeps_serving || self.records.is_good(&self.wanted.key)
    }

    /// The record of the release that serves.
    pub fn serving_record(&self) -> Option<&Record> {
        self.serving.as_ref().map(|serving| &serving.record)
    }

    /// What the machines should run now.
    ///
    /// # Errors
    /// When the record of the release that serves cannot be used any more.
    pub fn effective(&self, target: &Target) -> Result<Effective> {
        if let Some(serving) = self.serving_record().filter(|_| self.keeps_serving) {
            return restored(serving, target, None);
        }
        let held = self.records.held(&self.wanted.key, target);
        let Some((failed, serving)) = held.zip(self.serving_record()) else {
            return Ok(Effective {
                key: self.wanted.key.clone(),
                pinned: self.wanted.image.pinned.clone(),
                digest: self.wanted.image.digest.clone(),
                config: Arc::new(target.config()?.app.clone()),
                rollback: None,
            });
        };
        let rollback = RolledBack {
            failed: failed.clone(),
            serving: serving.clone(),
        };
        restored(serving, target, Some(rollback))
    }
}

/// What the machines run when they run the release of this record.
fn restored(serving: &Record, target: &Target, rollback: Option<RolledBack>) -> Result<Effective> {
    let content = &serving.content;
    let mut config = match &content.config {
        None => AppConfig::minimal(&target.app, &target.region, content.port),
        Some(text) => {
            flytoml::parse(text)
                .map_err(|error| Error::Blocked {
                    reason: Reason::RollbackHeld,
                    message: format!(
                        "the fly.toml of {} is no longer valid ({error})",
                        serving.name()
                    ),
                    action: "deploy another release".to_owned(),
                })?
                .config
        }
    };
    config.bind(&target.app, &target.region);
    Ok(Effective {
        key: serving.key.clone(),
        pinned: content.pinned.clone(),
        digest: content.digest.clone(),
        config: Arc::new(config),
        rollback,
    })
}
