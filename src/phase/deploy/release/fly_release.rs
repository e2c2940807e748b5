//! Fly.io's own record of the release, for `fly releases` and the dashboard: made when the release
//! begins, as flyctl does, and told how it ended. The application does not depend on it: a token that
//! may not do this is no obstacle.

use std::fmt;

use jiff::Timestamp;

use super::records::{self, Outcome, Records};
use crate::phase::deploy::{
    look,
    release::{Wanted, effective},
};
use crate::{
    error::Error,
    fly::{
        self,
        releases::{NewRelease, Release, ReleaseStatus},
    },
    flytoml::{self, Strategy},
    pipeline::{Cx, Step, StepChange, StepId, Verdict, step::Result},
    plan::Target,
};

/// Fly.io's record of the release that is being deployed.
pub struct FlyRelease;

/// Fly.io's releases that are looked through for one that we recorded before a crash.
const RECENT: u32 = 5;

/// What is on record at Fly.io.
#[derive(Debug)]
pub enum Observed {
    /// This release, or nothing is to be recorded now.
    There,
    /// Not this release.
    Missing {
        /// What is being deployed.
        wanted: Box<Wanted>,
        /// The release that this process began before and that this one supersedes.
        superseded: Option<Box<Release>>,
    },
}

/// A release begins.
#[derive(Debug)]
pub struct Begin {
    wanted: Box<Wanted>,
    superseded: Option<Box<Release>>,
}

impl fmt::Display for Begin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tell Fly.io that release {} begins", self.wanted.number)
    }
}

impl StepChange for Begin {}

impl Step for FlyRelease {
    type Observed = Observed;
    type Change = Begin;

    fn id(&self) -> StepId {
        StepId::FlyRelease
    }

    fn needs(&self) -> &'static [StepId] {
        &[StepId::Image, StepId::Rollback]
    }

    /// What is recorded stays recorded.
    fn rechecked(&self) -> bool {
        false
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        let records = records::load(cx).await?;
        let wanted = look::release(cx, &records)?;
        // What runs in place of it is on record already. What has failed and was left gets another
        // record once it is well, and a plan makes none.
        let ended = effective(&cx.target, &wanted, &records)?.instead.is_some()
            || records.is_good(&wanted.key)
            || records.left(&wanted.key).is_some();
        if ended || !cx.may_act() {
            return Ok(Observed::There);
        }
        let known = cx.facts.fly_release.get();
        if known.as_ref().is_some_and(|known| known.0 == wanted.key) {
            return Ok(Observed::There);
        }
        let superseded = known
            .and_then(|known| known.1.clone())
            .filter(|release| {
                matches!(
                    release.status,
                    ReleaseStatus::Pending | ReleaseStatus::Running
                )
            })
            .map(Box::new);
        if superseded.is_none()
            && let Some(found) = begun(cx, &wanted, &records).await?
        {
            cx.facts.fly_release.set((wanted.key, Some(found)));
            return Ok(Observed::There);
        }
        Ok(Observed::Missing {
            wanted: Box::new(wanted),
            superseded,
        })
    }

    fn diff(&self, _target: &Target, observed: &Observed, _now: Timestamp) -> Verdict<Begin> {
        match observed {
            Observed::There => Verdict::Done,
            Observed::Missing { wanted, superseded } => Verdict::Change(Begin {
                wanted: wanted.clone(),
                superseded: superseded.clone(),
            }),
        }
    }

    async fn act(&self, cx: &Cx, Begin { wanted, superseded }: Begin) -> Result<()> {
        if let Some(superseded) = superseded {
            end(cx, &superseded, &ReleaseStatus::Interrupted).await?;
            cx.facts.fly_release.clear();
        }
        begin(cx, &wanted).await.map(drop)
    }
}

/// The release at Fly.io that an earlier try made: newer than all that are recorded, of the
/// same image, and not failed.
async fn begun(cx: &Cx, wanted: &Wanted, records: &Records) -> Result<Option<Release>> {
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
                ReleaseStatus::Pending | ReleaseStatus::Running | ReleaseStatus::Complete
            )
    }))
}

/// Records the release at Fly.io; `None` where the token may not.
async fn begin(cx: &Cx, wanted: &Wanted) -> Result<Option<Release>> {
    let target = &cx.target;
    let new = NewRelease {
        app_name: target.app.clone(),
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
    let release = match cx.fly.create_release(&new).await {
        Ok(release) => Some(release),
        Err(error) if refused(&error) => {
            tracing::warn!(%error, "Fly.io does not record the release");
            None
        }
        Err(error) => return Err(Error::fly("record the release", error)),
    };
    let known = (wanted.key.clone(), release.clone());
    cx.facts.fly_release.set(known);
    Ok(release)
}

/// Tells Fly.io how the release has ended, and answers with its number there. One that it does not
/// know of yet is recorded first, and so is one that is well after all.
///
/// # Errors
/// When Fly.io does not answer.
pub async fn ended(cx: &Cx, wanted: &Wanted, outcome: Outcome) -> Result<Option<u64>> {
    let status = records::fly_status(outcome);
    let known = cx.facts.fly_release.get();
    let release = match known.filter(|known| known.0 == wanted.key) {
        Some(known) => match &known.1 {
            Some(release)
                if release.status == ReleaseStatus::Failed && status != release.status =>
            {
                begin(cx, wanted).await?
            }
            known => known.clone(),
        },
        None => begin(cx, wanted).await?,
    };
    let Some(mut release) = release else {
        return Ok(None);
    };
    if release.status != status {
        end(cx, &release, &status).await?;
        release.status = status;
    }
    let version = release.version;
    cx.facts
        .fly_release
        .set((wanted.key.clone(), Some(release)));
    Ok(version)
}

async fn end(cx: &Cx, release: &Release, status: &ReleaseStatus) -> Result<()> {
    match cx.fly.set_release_status(&release.id, status, None).await {
        Err(error) if refused(&error) => {
            tracing::warn!(%error, "Fly.io does not record how the release ended");
            Ok(())
        }
        set => set.map_err(|error| Error::fly("record how the release ended", error)),
    }
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
