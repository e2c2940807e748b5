//! What one pass found about an object: the input of the next status.

use crate::{
    api::Reason,
    pipeline::{announce::Announced, report::Report},
    plan::{Target, invalid::Invalid},
};

/// What one pass found about an object.
#[derive(Debug, Default)]
pub struct PassResult<'a> {
    /// The target, when the object is valid.
    pub target: Option<&'a Target>,
    /// What the phases found.
    pub report: Option<&'a Report>,
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
}

/// How far a deletion has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removing {
    /// Steps whose removal is done, of all.
    pub done: usize,
    /// All steps.
    pub all: usize,
    /// What is being done, or what is in the way.
    pub message: String,
    /// Deletion cannot go on without a person.
    pub blocked: bool,
}
