//! The app's name is free, or the app is ours or may be taken over.

use super::check::{Check, Finding};
use crate::{
    api::{preflight::CheckName, status::Severity},
    phase::app_name::{self, AppChange, AppObservation},
    pipeline::{Cx, Verdict, step::Result},
    plan::Target,
};

/// The app's name is free, or the app is ours or may be taken over.
pub struct AppNameAvailable;

impl Check for AppNameAvailable {
    /// The same observation as of the step `App`, so that the two never disagree.
    type Observed = AppObservation;
    const NAME: CheckName = CheckName::AppNameAvailable;
    const SEVERITY: Severity = Severity::Blocking;

    async fn observe(&self, cx: &Cx) -> Result<AppObservation> {
        app_name::observe(cx).await
    }

    fn judge(&self, target: &Target, observed: &AppObservation) -> Finding {
        let name = &target.app;
        match app_name::decide(target, observed) {
            Verdict::Blocked(why) => Finding::failed(why.reason, why.message, why.action),
            Verdict::Change(AppChange::Claim { adopt: Some(_), .. }) | Verdict::Wait { .. } => {
                Finding::passed(format!("the app {name} exists and may be taken over"))
            }
            Verdict::Change(AppChange::Reclaim { .. }) => {
                Finding::passed(format!("the app {name} is ours"))
            }
            Verdict::Change(_) => Finding::passed(format!("the name {name} is free")),
            _ => Finding::passed(format!("the app {name} is ours")),
        }
    }
}
