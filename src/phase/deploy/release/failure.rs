//! The failure of a release: it is recorded, and from then on the release that served before it is
//! what the machines should run, if the record says so. The ordinary steps bring that one back. The
//! record holds the failed release back until the spec changes, also for another process.

use std::fmt;

use super::{
    draft::draft,
    fly_release,
    record::{CommandRun, FailedCommand, Outcome, Record},
    store,
    wanted::WantedRelease,
};
use crate::pipeline::{ChangeKind, ChangeVerb, Cx, PlannedChange, StepChange, step::Result};

/// A failed release, and what follows from its failure.
#[derive(Debug, PartialEq)]
pub struct FailedRelease {
    release: WantedRelease,
    /// Number and name of the release that is restored; `None`: the failed one is left as it is.
    restores: Option<(u64, String)>,
    cause: String,
    /// The run of a command that failed.
    command: Option<CommandRun>,
}

impl FailedRelease {
    /// The release failed for this cause, and the one that served before it is restored.
    pub fn rolled_back(release: WantedRelease, serving: Option<&Record>, cause: String) -> Self {
        Self {
            release,
            restores: serving.map(|serving| (serving.number, serving.name())),
            cause,
            command: None,
        }
    }

    /// The release failed for this cause, and is left as it is.
    pub fn left(release: WantedRelease, cause: String) -> Self {
        Self {
            release,
            restores: None,
            cause,
            command: None,
        }
    }

    /// The same because of this run of a command.
    #[must_use]
    pub fn by_command(self, run: CommandRun) -> Self {
        Self {
            command: Some(run),
            ..self
        }
    }
}

impl FailedRelease {
    /// Whether another release is restored.
    pub fn is_rolled_back(&self) -> bool {
        self.restores.is_some()
    }
}

impl fmt::Display for FailedRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.restores {
            Some((_, name)) => write!(f, "roll back to {name}"),
            None => write!(f, "record that release {} has failed", self.release.number),
        }
    }
}

impl StepChange for FailedRelease {
    fn planned(&self) -> Vec<PlannedChange> {
        let name = self.release.number.to_string();
        let record = PlannedChange::new(ChangeVerb::Record, "Release", name);
        let record = record.set("outcome", "Failed");
        let restores = self.restores.as_ref();
        vec![match restores {
            Some((_, name)) => record.set("restores", name),
            None => record,
        }]
    }

    fn kind(&self) -> ChangeKind {
        match self.restores {
            Some(_) => ChangeKind::RollbackStart,
            None => ChangeKind::Ordinary,
        }
    }
}

/// Records the failure.
///
/// # Errors
/// When Kubernetes does not answer: nothing is rolled back without a record of why.
pub async fn record(cx: &Cx, failed: FailedRelease) -> Result<()> {
    let cause = &failed.cause;
    match &failed.restores {
        Some((_, name)) => tracing::warn!(to = %name, %cause, "rolling back"),
        None => tracing::warn!(%cause, "the release has failed and is left as it is"),
    }
    let records = store::load(cx).await?;
    let serving = records.serving_record();
    let mut record = draft(cx, &failed.release, Outcome::Failed, cause, serving);
    record.restores = failed.restores.map(|(number, _)| number);
    // Fly.io's own record is for people: nothing waits for it, and it is written once.
    let before = records.left(&failed.release.key);
    record.failed_command = failed.command.map(|run| {
        let retry = &cx.target.retry;
        match before.and_then(|before| before.failed_command.as_ref()) {
            Some(before) => before.next(run, retry),
            None => FailedCommand::first(run, retry),
        }
    });
    if before.is_none_or(|before| before.fly_version.is_none()) {
        let version = fly_release::end(cx, &failed.release, Outcome::Failed).await;
        record.fly_version = version.unwrap_or_default();
    }
    store::save(cx, record).await
}
