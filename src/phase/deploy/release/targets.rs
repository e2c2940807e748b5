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
    phase::app_secrets,
    pipeline::{Cx, step::Result},
    plan::Target,
};

/// The two targets, and the records that they follow from.
#[derive(Clone, Debug)]
pub struct Targets {
    /// The release that serves; `None` before the first has succeeded.
    pub serving: Option<ServingRecord>,
    /// The release that the spec requests.
    pub wanted: WantedRelease,
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
    of(cx, store::load(cx).await?)
}

/// The two targets that follow from these records and the spec, with the present secrets.
///
/// # Errors
/// When the image is not known or the fly.toml cannot be converted.
pub fn of(cx: &Cx, records: Records) -> Result<Targets> {
    let image = cx
        .facts
        .get::<crate::store::image::Image>()
        .ok_or(Error::NotKnown("the image"))?;
    let secrets = app_secrets::digest_of(&app_secrets::records(cx));
    Ok(Targets {
        serving: records.serving(),
        wanted: WantedRelease::of(&cx.target, &image, &secrets, &records)?,
        records,
    })
}

impl Targets {
    /// Whether the wanted release has run well already.
    pub fn is_wanted_good(&self) -> bool {
        self.records.is_good(&self.wanted.key)
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
        let content = &serving.content;
        let mut config = match &content.config {
            None => AppConfig::minimal(&target.app, &target.region, content.port),
            Some(text) => flytoml::parse(text)
                .map_err(|error| Error::Blocked {
                    reason: Reason::RollbackHeld,
                    message: format!(
                        "the fly.toml of {} is no longer valid ({error}): deploy another release",
                        serving.name()
                    ),
                })?
                .config,
        };
        config.bind(&target.app, &target.region);
        Ok(Effective {
            key: serving.key.clone(),
            pinned: content.pinned.clone(),
            digest: content.digest.clone(),
            config: Arc::new(config),
            rollback: Some(RolledBack {
                failed: failed.clone(),
                serving: serving.clone(),
            }),
        })
    }
}
