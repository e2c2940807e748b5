//! Rollback: a release that has failed for certain is recorded as failed. From then on the last
//! good release is what should run, and the ordinary steps bring it back. The record holds the
//! failed release until the spec changes, also for another process.

use std::fmt;

use super::{
    look::Look,
    records::{self, Outcome},
    release,
};
use crate::phase::{Cx, step::Result};

/// The release that has failed.
#[derive(Debug, PartialEq)]
pub struct Change {
    release: release::Wanted,
    to: String,
    cause: String,
}

impl Change {
    /// Gives up the wanted release for this cause.
    pub fn of(look: &Look, cause: String) -> Self {
        let good = look.records.last_good();
        Self {
            release: look.release.clone(),
            to: good.map_or_else(String::new, records::Record::name),
            cause,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "roll back to {}", self.to)
    }
}

/// Records the failure.
///
/// # Errors
/// When Kubernetes does not answer: nothing is rolled back without a record of why.
pub async fn act(cx: &Cx, change: Change) -> Result<()> {
    tracing::warn!(to = %change.to, cause = %change.cause, "rolling back");
    let mut record = records::record(cx, &change.release, Outcome::Failed, &change.cause);
    // Fly.io's own record is for people; the rollback does not wait for it.
    let told = release::tell_fly(cx, &change.release, None, Outcome::Failed).await;
    record.fly_version = told.unwrap_or_default();
    records::add(cx, record).await
}
