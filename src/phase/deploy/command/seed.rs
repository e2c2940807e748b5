//! The seed command: once in the life of an Activation, right after the release command of its
//! first deployment and before any machine of the application exists. flyctl runs it then, in
//! `fly launch`; `fly deploy` never does.
//!
//! It runs like a release command: in a machine of its own whose exit is found by its metadata, so
//! that a crash neither loses nor repeats it. Once a release has succeeded it counts as run, and so it
//! does for an app that was in use when it was taken over.

use super::{
    machine::Command,
    observation::{self, CommandState, Observation},
    one_off_machines,
    program::Program,
    step::OneOffStep,
};
use crate::phase::{app_name::OwnClaim, roster};
use crate::{
    fly::Machine,
    phase::deploy::{
        fleet::slots,
        release::{store, targets},
    },
    pipeline::{ChangeVerb, Cx, PlannedChange, StepId, step::Result},
    plan::Target,
};

/// The seed command.
pub struct SeedCommand;

impl OneOffStep for SeedCommand {
    const ID: StepId = StepId::SeedCommand;
    const NEEDS: &'static [StepId] = &[StepId::ReleaseCommand];

    fn run(&self, target: &Target) -> Option<PlannedChange> {
        let config = target.config().ok()?;
        config.app.deploy.seed_command.as_ref()?;
        let run = PlannedChange::new(ChangeVerb::Run, Program::Seed.kind(), "");
        Some(run.set("image", target.image_name()))
    }

    async fn observe(&self, cx: &Cx) -> Result<Observation> {
        let config = cx.target.config()?;
        let Some(line) = config.app.deploy.seed_command.clone() else {
            return Ok(CommandState::NotRequested(Program::Seed).into());
        };
        let records = store::ahead(cx).await?;
        // An app that was in use when it was taken over has its data.
        let claim = cx.facts.get::<OwnClaim>();
        let served = claim.is_some_and(|claim| claim.0.taken_over.served);
        let has_run = records.has_ever_passed(Program::Seed.key());
        if served || has_run || records.was_any_rolled_out() {
            return Ok(CommandState::Ran.into());
        }
        let targets = targets::of(cx, records)?;
        let uid: String = cx.owner.uid.chars().take(8).collect();
        let name = format!("golive-seed-{uid}");
        let command = Command {
            program: Program::Seed,
            slot: slots::seed_command(),
            announced: name.clone(),
            name,
            image: targets.wanted.image.pinned.clone(),
            command: line,
            release: targets.wanted.key.clone(),
        };
        let ours = roster::ours(cx).await?;
        let commands = one_off_machines::in_slot(cx, &command.slot, <[Machine]>::is_empty).await?;
        observation::observe(cx, command, commands, &ours, targets).await
    }
}
