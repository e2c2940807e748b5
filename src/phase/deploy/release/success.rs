//! The success of a release: it is recorded once all machines run it and are healthy.

use std::fmt;

use jiff::Timestamp;

use super::{
    draft::draft,
    fly_release,
    record::Outcome,
    store,
    targets::{self, RolledBack, Targets},
    wanted::WantedRelease,
};
use crate::{
    api::Reason,
    api::policy::Deletion,
    pipeline::{Cx, Note, Removal, Step, StepChange, StepId, Verdict, Why, step::Result},
    plan::Target,
};

/// The record of the release.
pub struct Release;

/// The two targets, and the rollback if there is one.
#[derive(Debug)]
pub struct Observed {
    targets: Targets,
    rollback: Option<RolledBack>,
}

/// The release succeeded.
#[derive(Debug)]
pub struct RecordSuccess {
    wanted: WantedRelease,
}

impl fmt::Display for RecordSuccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record release {}", self.wanted.number)
    }
}

impl StepChange for RecordSuccess {}

impl Step for Release {
    type Observed = Observed;
    type Change = RecordSuccess;

    fn id(&self) -> StepId {
        StepId::Release
    }

    fn needs(&self) -> &'static [StepId] {
        &[StepId::Verify, StepId::SeedCommand, StepId::FlyRelease]
    }

    /// A record stays.
    fn rechecked(&self) -> bool {
        false
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        let targets = targets::observe(cx).await?;
        let rollback = targets.effective(&cx.target)?.rollback;
        Ok(Observed { targets, rollback })
    }

    fn diff(
        &self,
        _target: &Target,
        observed: &Observed,
        _now: Timestamp,
    ) -> Verdict<RecordSuccess> {
        if let Some(RolledBack { failed, serving }) = &observed.rollback {
            return Verdict::Blocked(Why::new(
                Reason::RolledBack,
                format!(
                    "{} serves again, because {} {}; change the spec to deploy another release, or annotate the object with golive.dev/retry=<word> to try this one again",
                    serving.name(),
                    failed.name(),
                    failed.ending()
                ),
            ));
        }
        if observed.targets.is_wanted_good() {
            return Verdict::Done;
        }
        Verdict::Change(RecordSuccess {
            wanted: observed.targets.wanted.clone(),
        })
    }

    fn notes(&self, _target: &Target, observed: &Observed) -> Vec<Note> {
        let targets = &observed.targets;
        let mut notes = vec![Note::History(targets.records.history())];
        let running = match &observed.rollback {
            Some(rollback) => Some(&rollback.serving),
            None => targets
                .records
                .latest()
                .filter(|_| targets.is_wanted_good()),
        };
        notes.extend(running.map(|record| Note::Release(record.status())));
        if observed.rollback.is_some() {
            notes.push(Note::RolledBack);
        }
        notes
    }

    async fn act(&self, cx: &Cx, RecordSuccess { wanted }: RecordSuccess) -> Result<()> {
        let records = store::load(cx).await?;
        let serving = records.serving_record();
        let mut record = draft(cx, &wanted, Outcome::Succeeded, "", serving);
        record.fly_version = fly_release::end(cx, &wanted, Outcome::Succeeded).await?;
        store::save(cx, record).await
    }

    async fn remove(&self, cx: &Cx) -> Result<Removal> {
        store::forget(cx);
        if cx.target.deletion.app == Deletion::Retain {
            // Its successor takes them over with the app.
            return Ok(Removal::Gone);
        }
        store::delete_all(&cx.kube, &cx.installation.own_namespace, &cx.owner.uid).await?;
        Ok(Removal::Gone)
    }
}
