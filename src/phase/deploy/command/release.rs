//! The release command: migrations and the like, once for each release, before any machine of the
//! application is changed.

use super::{
    former,
    machine::Command,
    observation::{self, CommandState, Observation},
    one_off, one_off_machines,
    program::Program,
    step::OneOffStep,
};
use crate::phase::roster;
use crate::{
    fly::Machine,
    phase::{
        deploy::{
            fleet::slots,
            release::{records::Records, store, targets},
        },
        marks::RELEASE_KEY,
    },
    pipeline::{ChangeVerb, Cx, PlannedChange, Slot, StepId, step::Result},
    plan::Target,
};

/// The release command.
pub struct ReleaseCommand;

impl OneOffStep for ReleaseCommand {
    const ID: StepId = StepId::ReleaseCommand;
    const NEEDS: &'static [StepId] = &[StepId::Image, StepId::Rollback, StepId::Volumes];

    /// The first run for the first release.
    fn expected_creates(&self, cx: &Cx) -> Vec<Slot> {
        let config = cx.target.config();
        let requested = config.is_ok_and(|config| config.app.deploy.release_command.is_some());
        requested
            .then(|| one_off::slot(format!("{}-0", announced(1))))
            .into_iter()
            .collect()
    }

    fn run(&self, target: &Target) -> Option<PlannedChange> {
        let config = target.config().ok()?;
        config.app.deploy.release_command.as_ref()?;
        let run = PlannedChange::new(ChangeVerb::Run, Program::Release.kind(), "");
        let reversible = target.deploy.migrations.reversible;
        let run = run.set("image", target.image_name());
        Some(run.set("declared reversible", if reversible { "yes" } else { "no" }))
    }

    async fn observe(&self, cx: &Cx) -> Result<Observation> {
        let config = cx.target.config()?;
        let records = store::ahead(cx).await?;
        let Some(line) = config.app.deploy.release_command.clone() else {
            let state = CommandState::NotRequested(Program::Release);
            return after_others(cx, &records, state).await;
        };
        let targets = targets::of(cx, records)?;
        let (wanted, records) = (&targets.wanted, &targets.records);
        if targets.is_wanted_rolled_out() {
            return Ok(CommandState::Ran.into());
        }
        // The release is held back, and another one runs.
        if records.held(&wanted.key, &cx.target).is_some() {
            return after_others(cx, records, CommandState::Ran).await;
        }
        let slot = slots::release_command(wanted.number, &wanted.key);
        // Before the list of this slot, which replaces what is known.
        let known = one_off_machines::known_machines(cx);
        let commands = one_off_machines::in_slot(cx, &slot, <[Machine]>::is_empty);
        let (app_machines, commands) = match targets.serving {
            // Before the first release no machine could show that the command has run.
            None => tokio::try_join!(roster::ours(cx), commands)
                .map(|(ours, commands)| (ours, Some(commands)))?,
            Some(_) => (roster::ours(cx).await?, None),
        };
        if let Some(former) = former::find(cx, records, Some(&slot), &app_machines, &known).await? {
            return Ok(Observation::from(CommandState::Ran).after(Some(former)));
        }
        let has_release = |machine: &Machine| {
            machine.metadata(RELEASE_KEY) == Some(wanted.key.as_str())
                && !slots::runs_a_command(machine)
        };
        // A machine is given a release only after its command has run. If an earlier release is
        // requested again while some machines still have it, the command has run for them too.
        let has_run = app_machines.iter().any(has_release)
            || records.has_passed(wanted.number, &wanted.key, Program::Release.key());
        if has_run {
            return Ok(Observation::of(cx, CommandState::Ran, targets));
        }
        let key: String = wanted.key.chars().take(8).collect();
        let command = Command {
            program: Program::Release,
            slot: slot.clone(),
            name: format!("golive-release-{key}-{}", wanted.number),
            announced: announced(wanted.number),
            image: wanted.image.pinned.clone(),
            command: line,
            release: wanted.key.clone(),
        };
        let commands = match commands {
            Some(commands) => commands,
            None => one_off_machines::in_slot(cx, &slot, <[Machine]>::is_empty).await?,
        };
        observation::observe(cx, command, commands, &app_machines, targets).await
    }
}

/// Where no command is to be run, one of another release has to end all the same.
async fn after_others(cx: &Cx, records: &Records, command: CommandState) -> Result<Observation> {
    let ours = roster::ours(cx).await?;
    let known = one_off_machines::known_machines(cx);
    let former = former::find(cx, records, None, &ours, &known).await?;
    Ok(Observation::from(command).after(former))
}

/// The name in the announcements of the runs for a release. The names of the machines contain the
/// release's key, which is not known before its secrets are.
fn announced(release: u64) -> String {
    format!("golive-release-{release}")
}
