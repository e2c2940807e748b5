//! Fly.io's own record of the release, for `fly releases` and the dashboard: created when the release
//! begins, as flyctl does, and updated when it ends. The application does not depend on it: a token
//! that may not do this is no obstacle.

use std::fmt;

use jiff::Timestamp;

use super::{
    record::Outcome,
    records::Records,
    targets::{self, Targets},
    wanted::WantedRelease,
};
use crate::{
    error::Error,
    fly::{
        self,
        releases::{NewRelease, Release, ReleaseStatus},
    },
    flytoml::{self, Strategy},
    pipeline::{ChangeVerb, Cx, PlannedChange, Step, StepChange, StepId, Verdict, step::Result},
    plan::Target,
};

/// Fly.io's record of the release that is being deployed.
pub struct FlyRelease;

/// The number of Fly.io's latest releases among which one that was recorded before a crash is found.
const RECENT: u32 = 5;

/// What this process, or one before it, had Fly.io record: the key of our release and Fly.io's own
/// record of it; `None`: the token may not have it recorded. In the journal.
#[derive(Debug)]
struct OnRecord(String, Option<Release>);

/// Whether Fly.io has the wanted release on record.
#[derive(Debug)]
pub enum Observed {
    /// It has, or nothing is to be recorded now.
    Recorded,
    /// It has not.
    Missing {
        /// What is being deployed.
        wanted: Box<WantedRelease>,
        /// The release that this process began before, and that this one supersedes.
        superseded: Option<Box<Release>>,
    },
}

/// A release begins.
#[derive(Debug)]
pub struct Begin {
    wanted: Box<WantedRelease>,
    superseded: Option<Box<Release>>,
}

impl fmt::Display for Begin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "record at Fly.io that release {} begins",
            self.wanted.number
        )
    }
}

impl StepChange for Begin {
    fn planned(&self) -> Vec<PlannedChange> {
        let name = self.wanted.number.to_string();
        let record = PlannedChange::new(ChangeVerb::Record, "FlyRelease", name);
        vec![record.set("image", &self.wanted.image.pinned)]
    }
}

impl Step for FlyRelease {
    type Observed = Observed;
    type Change = Begin;

    fn id(&self) -> StepId {
        StepId::FlyRelease
    }

    fn needs(&self) -> &'static [StepId] {
        &[StepId::Image, StepId::Rollback]
    }

    /// A record stays.
    fn rechecked(&self) -> bool {
        false
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        let targets = targets::observe(cx).await?;
        // The release that a rollback restored is on record already. A failed release that was left
        // gets another record once it is healthy, and a plan writes none.
        let ended = targets.effective(&cx.target)?.rollback.is_some()
            || targets.is_wanted_rolled_out()
            || targets.records.left(&targets.wanted.key).is_some();
        let Targets {
            wanted, records, ..
        } = targets;
        if ended || !cx.may_act() {
            return Ok(Observed::Recorded);
        }
        let known = cx.journal.get::<OnRecord>();
        if known.as_ref().is_some_and(|known| known.0 == wanted.key) {
            return Ok(Observed::Recorded);
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
            cx.journal.set(OnRecord(wanted.key, Some(found)));
            return Ok(Observed::Recorded);
        }
        Ok(Observed::Missing {
            wanted: Box::new(wanted),
            superseded,
        })
    }

    fn diff(&self, _target: &Target, observed: &Observed, _now: Timestamp) -> Verdict<Begin> {
        match observed {
            Observed::Recorded => Verdict::Done,
            Observed::Missing { wanted, superseded } => Verdict::Change(Begin {
                wanted: wanted.clone(),
                superseded: superseded.clone(),
            }),
        }
    }

    async fn act(&self, cx: &Cx, Begin { wanted, superseded }: Begin) -> Result<()> {
        if let Some(superseded) = superseded {
            set_status(cx, &superseded, &ReleaseStatus::Interrupted).await?;
            cx.journal.clear::<OnRecord>();
        }
        begin(cx, &wanted).await.map(drop)
    }
}

/// The release at Fly.io that an earlier process created: newer than all that are on record, with
/// the same image, and not failed.
async fn begun(cx: &Cx, wanted: &WantedRelease, records: &Records) -> Result<Option<Release>> {
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

/// Has Fly.io record the release; `None` if the token may not.
async fn begin(cx: &Cx, wanted: &WantedRelease) -> Result<Option<Release>> {
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
    cx.journal
        .set(OnRecord(wanted.key.clone(), release.clone()));
    Ok(release)
}

/// Records at Fly.io how the release ended, and returns its number there. A release that Fly.io does
/// not have yet is recorded first, and so is one that is healthy after it had failed.
///
/// # Errors
/// When Fly.io does not answer.
pub async fn end(cx: &Cx, wanted: &WantedRelease, outcome: Outcome) -> Result<Option<u64>> {
    let status = outcome.fly_status();
    let known = cx.journal.get::<OnRecord>();
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
        set_status(cx, &release, &status).await?;
        release.status = status;
    }
    let version = release.version;
    cx.journal.set(OnRecord(wanted.key.clone(), Some(release)));
    Ok(version)
}

async fn set_status(cx: &Cx, release: &Release, status: &ReleaseStatus) -> Result<()> {
    match cx.fly.set_release_status(&release.id, status, None).await {
        Err(error) if refused(&error) => {
            tracing::warn!(%error, "Fly.io does not record how the release ended");
            Ok(())
        }
        set => set.map_err(|error| Error::fly("record how the release ended", error)),
    }
}

/// The strategy that fly.toml declares.
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
