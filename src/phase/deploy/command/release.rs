//! The release command: migrations and the like, once per release, before any machine of the
//! application is touched. How it runs is in `one_off`.

use jiff::Timestamp;

use super::one_off::{self, What};
use crate::phase::deploy::{
    command::{self, Change, Command, Observed, Seen},
    fleet::{self, roster},
    look,
    release::records::{self, Records},
};
use crate::{
    fly::Machine,
    pipeline::{Cx, Note, Slot, Step, StepId, Verdict, step::Result},
    plan::Target,
};

/// The release command.
pub struct ReleaseCommand;

impl Step for ReleaseCommand {
    type Observed = Seen;
    type Change = Change;

    fn id(&self) -> StepId {
        StepId::ReleaseCommand
    }

    fn needs(&self) -> &'static [StepId] {
        &[StepId::Image, StepId::Rollback]
    }

    /// What has run has run.
    fn rechecked(&self) -> bool {
        false
    }

    /// The first run for the first release.
    fn foresees(&self, cx: &Cx) -> Vec<Slot> {
        let config = cx.target.config();
        let asked = config.is_ok_and(|config| config.app.deploy.release_command.is_some());
        asked
            .then(|| one_off::slot(format!("{}-0", announced(1))))
            .into_iter()
            .collect()
    }

    async fn observe(&self, cx: &Cx) -> Result<Seen> {
        let config = cx.target.config()?;
        let records = records::load(cx).await?;
        let Some(line) = config.app.deploy.release_command.clone() else {
            return after_others(cx, &records, Observed::NotAsked(What::Release)).await;
        };
        let release = look::release(cx, &records)?;
        if records.is_good(&release.key) {
            return Ok(Observed::Ran.into());
        }
        // The release is held back, and another one runs.
        if records.held(&release.key, &cx.target).is_some() {
            return after_others(cx, &records, Observed::Ran).await;
        }
        let known = cx.facts.one_offs.get();
        let slot = fleet::release_slot(release.number, &release.key);
        let commands = one_off::machines_of(cx, &slot, <[Machine]>::is_empty);
        let (app_machines, commands) = match records.last_good() {
            // Before the first release there are no machines that could tell that it has run.
            None => tokio::try_join!(roster::ours(cx), commands)
                .map(|(ours, commands)| (ours, Some(commands)))?,
            Some(_) => (roster::ours(cx).await?, None),
        };
        let others = command::former(cx, &records, Some(&slot), &app_machines, known.as_deref());
        if let Some(former) = others.await? {
            return Ok(Seen::from(Observed::Ran).after(Some(former)));
        }
        let marked = |machine: &Machine| {
            machine.metadata(fleet::RELEASE_KEY) == Some(release.key.as_str())
                && !fleet::runs_a_command(machine)
        };
        // A machine is given a release only after its command has run. When an earlier release is
        // asked for again while some machines still have it, the command has run for them too.
        if app_machines.iter().any(marked) {
            return Ok(Seen::of(cx, Observed::Ran, release, &records));
        }
        let key: String = release.key.chars().take(8).collect();
        let asked = Command {
            what: What::Release,
            slot: slot.clone(),
            name: format!("golive-release-{key}-{}", release.number),
            announced: announced(release.number),
            image: release.image.pinned.clone(),
            command: line,
        };
        let commands = match commands {
            Some(commands) => commands,
            None => one_off::machines_of(cx, &slot, <[Machine]>::is_empty).await?,
        };
        command::see(cx, asked, commands, &app_machines, (release, &records)).await
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

/// Where no command is to be run, one of another release has to have ended all the same.
async fn after_others(cx: &Cx, records: &Records, command: Observed) -> Result<Seen> {
    let known = cx.facts.one_offs.get();
    let ours = roster::ours(cx).await?;
    let former = command::former(cx, records, None, &ours, known.as_deref()).await?;
    Ok(Seen::from(command).after(former))
}

/// The name that the runs for a release are announced by. Those of the machines have the release's
/// key in them, which is not known before its secrets are.
fn announced(release: u64) -> String {
    format!("golive-release-{release}")
}
