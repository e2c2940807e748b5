//! What one pass found about an object: the input of the next status.

use crate::{
    api::{PhaseName, Reason, status::CostPerMonth},
    pipeline::{Note, announce::Announced, report::Report},
    plan::{ServingRelease, Target, invalid::Invalid},
};

/// What one pass found about an object.
#[derive(Debug, Default)]
pub struct PassResult<'a> {
    /// The release that serves, as far as it is known.
    pub serving: Option<ServingRelease>,
    /// The wanted target, when the object is valid.
    pub wanted: Option<&'a Target>,
    /// What the phases found.
    pub report: Option<&'a Report>,
    /// What was found of the release that serves, when the pass over the spec did not find it.
    pub site: Option<Site>,
    /// What serves was not proven for longer than a few re-checks.
    pub unproven: bool,
    /// What is wrong with the object.
    pub invalid: &'a [Invalid],
    /// Announced creates.
    pub intents: Announced,
    /// The object is suspended: everything else in the status stays as it was.
    pub suspended: bool,
    /// `drift: Report` holds: changes are reported and not made.
    pub reporting_drift: bool,
    /// How far a deletion has come.
    pub removing: Option<Removing>,
    /// The pass as a whole failed: reason and message.
    pub failed: Option<(Reason, String)>,
    /// The token of the annotation that requested this pass.
    pub requested: Option<String>,
    /// What the application costs, before and after the plan; `None` before the end of a pass.
    pub cost: Option<CostPerMonth>,
}

/// What was found of the release that serves while the spec cannot be brought live.
#[derive(Debug)]
pub struct Site {
    /// The release.
    pub release: ServingRelease,
    /// What its steps found: those that keep it, if they ran, and the checks.
    pub report: Report,
    /// Changes are reported and not made.
    pub reporting_drift: bool,
    /// What the machines run.
    pub machines: Runs,
    /// The checks of the release are those that the spec asks for: the spec asks for this release, and what they
    /// show of it holds for the spec too.
    pub proves_wanted: bool,
}

/// What the machines run while the spec cannot be brought live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Runs {
    /// The release that serves, at least one of them; or it was not looked at.
    #[default]
    Serving,
    /// None runs it any more, and the rollout that replaces it is under way.
    Replacing,
    /// None runs it any more: a release that failed was left in its place.
    Another,
    /// There is none any more: they were lost, perhaps with the app.
    Gone,
}

impl Site {
    /// Whether the machines and what is around them were observed, and not only the checks made.
    pub fn is_kept(&self) -> bool {
        self.report.phase(PhaseName::Deploy).is_some()
    }
}

/// How far a deletion has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removing {
    /// What was removed, and what remains.
    pub progress: String,
    /// What is being done, or what is in the way.
    pub message: String,
    /// Deletion cannot go on without a person.
    pub blocked: bool,
}

/// What the conditions are derived from, beside the result of the pass.
pub struct Liveness {
    /// Every phase that Go-Live waits for has succeeded, and nothing contradicts that.
    pub live: bool,
    /// The status before was of this generation.
    pub same_generation: bool,
    /// The object was live for this very target before the pass, or held after a rollback of it.
    pub steady: bool,
}

/// The release that serves after a pass: the one that a step of it noted, else the one before.
pub fn serving(report: &Report, before: Option<&ServingRelease>) -> Option<ServingRelease> {
    let notes = report
        .steps()
        .rev()
        .flat_map(|(_, record)| record.notes.iter().rev());
    let mut noted = notes.filter_map(|note| match note {
        Note::Release(release) => ServingRelease::of_release(release),
        _ => None,
    });
    noted.next().or_else(|| before.cloned())
}
