//! The app's name is free, or the app is ours, or may be taken over.

use jiff::Timestamp;

use super::check::{Check, Finding};
use crate::{
    api::{preflight::CheckName, status::Severity},
    phase::provision::app,
    pipeline::{Cx, Step, Verdict, step::Result},
    plan::Target,
};

/// The app's name is free, or the app is ours, or may be taken over.
pub struct AppNameAvailable;

impl Check for AppNameAvailable {
    /// What the step that claims and creates the app would see: the two must never disagree.
    type Seen = (app::Observed, Timestamp);
    const NAME: CheckName = CheckName::AppNameAvailable;
    const SEVERITY: Severity = Severity::Blocking;

    async fn look(&self, cx: &Cx) -> Result<(app::Observed, Timestamp)> {
        Ok((app::App.observe(cx).await?, cx.now()))
    }

    fn judge(&self, target: &Target, (seen, now): &(app::Observed, Timestamp)) -> Finding {
        let name = &target.app;
        match app::App.diff(target, seen, *now) {
            Verdict::Blocked(why) => Finding::from_sentence(why.reason, &why.message),
            Verdict::Change(app::Change::Claim { adopt: true, .. }) => {
                Finding::passed(format!("the app {name} exists and may be taken over"))
            }
            Verdict::Change(_) => Finding::passed(format!("the name {name} is free")),
            _ => Finding::passed(format!("the app {name} is ours")),
        }
    }
}
