//! The seed command: once in the life of an Activation, right after the release command of its
//! first deployment and before any machine of the application exists. That is when flyctl runs it,
//! in `fly launch`; a `fly deploy` never does.
//!
//! It runs like a release command: in a machine of its own whose end is found by its mark, so it is
//! neither forgotten nor repeated after a crash. Once a release is on record it has run.

use jiff::Timestamp;

use super::one_off::{self, What};
use crate::phase::deploy::{
    command::{self, Change, Command, Observed, Seen},
    fleet::{self, roster},
    look,
    release::records,
};
use crate::{
    fly::Machine,
    pipeline::{Cx, Note, Slot, Step, StepId, Verdict, step::Result},
    plan::Target,
};

/// The seed command.
pub struct SeedCommand;

impl Step for SeedCommand {
    type Observed = Seen;
    type Change = Change;

    fn id(&self) -> StepId {
        StepId::SeedCommand
    }

    fn needs(&self) -> &'static [StepId] {
        &[StepId::ReleaseCommand]
    }

    /// What has run has run.
    fn rechecked(&self) -> bool {
        false
    }

    async fn observe(&self, cx: &Cx) -> Result<Seen> {
        let config = cx.target.config()?;
        let Some(line) = config.app.deploy.seed_command.clone() else {
            return Ok(Observed::NotAsked(What::Seed).into());
        };
        let records = records::load(cx).await?;
        if records.last_good().is_some() {
            return Ok(Observed::Ran.into());
        }
        let release = look::release(cx, &records)?;
        let uid: String = cx.owner.uid.chars().take(8).collect();
        let name = format!("golive-seed-{uid}");
        let asked = Command {
            what: What::Seed,
            slot: fleet::seed_slot(),
            announced: name.clone(),
            name,
            image: release.image.pinned.clone(),
            command: line,
        };
        let machines = roster::ours(cx).await?;
        let commands = one_off::machines_of(cx, &asked.slot, <[Machine]>::is_empty).await?;
        command::see(cx, asked, commands, &machines, (release, &records)).await
    }

    fn diff(&self, target: &Target, seen: &Seen, now: Timestamp) -> Verdict<Change> {
        seen.decide(target, now)
    }

    fn notes(&self, _target: &Target, seen: &Seen) -> Vec<Note> {
        seen.notes()
    }

    fn intent(&self, _target: &Target, change: &Change) -> Option<Slot> {
        change.intent()
    }

    async fn act(&self, cx: &Cx, change: Change) -> Result<()> {
        command::apply(cx, change).await
    }
}
