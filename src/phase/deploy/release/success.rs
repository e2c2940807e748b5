//! The end of a rollout: it is recorded once all machines run the release and are healthy. A release
//! that fails its SmokeTest afterwards is rolled back from here, as `onFailure` says.

use std::fmt;

use jiff::Timestamp;

use super::{
    super::{
        assessment::{self, Assessment},
        judge,
    },
    draft::draft,
    failure::{self, FailedRelease},
    fly_release,
    record::Outcome,
    store,
    targets::{self, RolledBack, Targets},
    wanted::WantedRelease,
};
use crate::{
    api::Reason,
    api::policy::Deletion,
    phase::smoke_failure,
    pipeline::{
        ChangeKind, ChangeVerb, Cx, Note, Owner, PlannedChange, Removal, Step, StepChange, StepId,
        Verdict, Wake, Why, step::Result,
    },
    plan::{Target, missing::kubectl},
};

/// The record of the release.
pub struct Release;

/// The two targets, the rollback if there is one, and what the SmokeTest found.
#[derive(Debug)]
pub struct Observed {
    targets: Targets,
    rollback: Option<RolledBack>,
    /// The rollback began in this pass: the machines do not run the other release yet.
    is_beginning: bool,
    smoke_failure: Option<SmokeFailure>,
    owner: Owner,
}

/// Why the release failed its SmokeTest, and what is known of its machines.
#[derive(Debug)]
struct SmokeFailure {
    message: String,
    assessment: Box<Assessment>,
}

/// Journal: the pass that began a rollback.
#[derive(Debug)]
struct RollbackBegun(u64);

/// How the rollout ended.
#[derive(Debug)]
pub enum RecordEnd {
    /// All machines run it well.
    Success(Box<WantedRelease>),
    /// It failed its SmokeTest, and the release before it is restored.
    Failure(Box<FailedRelease>),
}

impl fmt::Display for RecordEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Success(wanted) => write!(f, "record release {}", wanted.number),
            Self::Failure(failed) => failed.fmt(f),
        }
    }
}

impl StepChange for RecordEnd {
    fn planned(&self) -> Vec<PlannedChange> {
        match self {
            Self::Success(wanted) => {
                let name = wanted.number.to_string();
                let record = PlannedChange::new(ChangeVerb::Record, "Release", name);
                vec![record.set("outcome", "Succeeded")]
            }
            Self::Failure(failed) => failed.planned(),
        }
    }

    fn kind(&self) -> ChangeKind {
        match self {
            Self::Success(_) => ChangeKind::Ordinary,
            Self::Failure(failed) => failed.kind(),
        }
    }
}

impl Observed {
    /// What follows from a failed SmokeTest: the rollback, or why there is none.
    fn after_smoke_test(&self, target: &Target) -> Option<std::result::Result<FailedRelease, Why>> {
        let failure = self.smoke_failure.as_ref()?;
        let message = format!("it failed its SmokeTest: {}", failure.message);
        let why = Why::new(Reason::SmokeCheckFailed, message);
        Some(judge::failure(&failure.assessment, target, why))
    }
}

impl Step for Release {
    type Observed = Observed;
    type Change = RecordEnd;

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
        let unproven = targets.is_wanted_rolled_out() && !targets.is_wanted_good();
        let smoke_failure = match smoke_failure::of(cx).filter(|_| unproven) {
            Some(message) => {
                let mut assessment = Box::new(assessment::observe(cx).await?);
                // The rollout itself has ended well: only a rollback is recorded.
                assessment.is_unrecorded = false;
                Some(SmokeFailure {
                    message,
                    assessment,
                })
            }
            None => None,
        };
        let begun = cx.journal.get::<RollbackBegun>();
        Ok(Observed {
            is_beginning: begun.is_some_and(|begun| begun.0 == cx.pass),
            targets,
            rollback,
            smoke_failure,
            owner: cx.owner.clone(),
        })
    }

    fn diff(&self, target: &Target, observed: &Observed, _now: Timestamp) -> Verdict<RecordEnd> {
        if observed.is_beginning {
            return Verdict::Wait {
                why: Why::new(
                    Reason::RolledBack,
                    "the release before it is being restored",
                ),
                wake: Wake::Poll,
            };
        }
        if let Some(RolledBack { failed, serving }) = &observed.rollback {
            return Verdict::Blocked(Why::new(
                Reason::RolledBack,
                format!(
                    "{} serves again, because {} {}",
                    serving.name(),
                    failed.name(),
                    failed.ending()
                ),
            )
            .next(format!(
                "change the spec to deploy another release, or try this one again: `{} annotate activation {} golive.dev/retry=$(date +%s) --overwrite`",
                kubectl(&observed.owner.namespace),
                observed.owner.name
            )));
        }
        if let Some(Ok(failed)) = observed.after_smoke_test(target)
            && failed.is_rolled_back()
        {
            return Verdict::Change(RecordEnd::Failure(Box::new(failed)));
        }
        if observed.targets.is_wanted_rolled_out() {
            return Verdict::Done;
        }
        let wanted = observed.targets.wanted.clone();
        Verdict::Change(RecordEnd::Success(Box::new(wanted)))
    }

    fn notes(&self, target: &Target, observed: &Observed) -> Vec<Note> {
        let targets = &observed.targets;
        let mut notes = vec![Note::History(targets.records.history())];
        let serving = targets.serving_record();
        notes.extend(serving.map(|record| Note::Release(record.status())));
        if let Some(Err(why)) = observed.after_smoke_test(target) {
            notes.push(Note::Remark(why));
        }
        if observed.rollback.is_some() {
            notes.push(Note::RolledBack);
        }
        notes
    }

    async fn act(&self, cx: &Cx, change: RecordEnd) -> Result<()> {
        let wanted = match change {
            RecordEnd::Success(wanted) => wanted,
            RecordEnd::Failure(failed) => {
                cx.journal.set(RollbackBegun(cx.pass));
                return failure::record(cx, *failed).await;
            }
        };
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
