//! The release command: migrations and the like, once per release, before any machine of the
//! application is touched. How it runs is in `one_off`.

use std::{fmt, time::Duration};

use jiff::Timestamp;

use super::{
    fleet, image, look,
    one_off::{self, OneOff, Runs, What},
    records, release, rollback, roster,
};
use crate::{
    api::{Reason, status::HistoryEntry},
    fly::{Machine, machine_config::MachineGuest},
    flytoml,
    phase::{Cx, Note, Slot, Step, StepId, Verdict, Why, step::Result},
    target::Target,
};

/// The release command.
pub struct ReleaseCommand;

/// Name of the step.
pub const ID: StepId = "ReleaseCommand";

/// Longest run, unless fly.toml says otherwise (flyctl's default, fly-api.md G.1).
const TIMEOUT: Duration = Duration::from_secs(300);

/// What is known of a command.
#[derive(Debug)]
pub enum Observed {
    /// The fly.toml has none.
    NotAsked(What),
    /// It has run, as far as this release needs it.
    Ran,
    /// What its machines tell.
    Runs(Box<Runs>),
}

/// What is known of the release command, and of the record of its failure.
#[derive(Debug)]
pub struct Seen {
    command: Observed,
    /// The release, while it is not on record that its command has failed.
    unrecorded: Option<Box<release::Wanted>>,
    /// What the history tells of that failure, once it is on record.
    recorded: Option<HistoryEntry>,
}

impl From<Observed> for Seen {
    fn from(command: Observed) -> Self {
        Self {
            command,
            unrecorded: None,
            recorded: None,
        }
    }
}

/// What to do.
#[derive(Debug, PartialEq)]
pub enum Change {
    /// About its machine.
    Machine(one_off::Change),
    /// Record that the release has failed.
    Record(Box<rollback::Change>),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine(change) => change.fmt(f),
            Self::Record(change) => change.fmt(f),
        }
    }
}

impl Step for ReleaseCommand {
    type Observed = Seen;
    type Change = Change;

    fn id(&self) -> StepId {
        ID
    }

    fn needs(&self) -> &'static [StepId] {
        &[image::ID, rollback::ID]
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
        let Some(command) = config.app.deploy.release_command.clone() else {
            return Ok(Observed::NotAsked(What::Release).into());
        };
        let records = records::load(cx).await?;
        let release = look::release(cx, &records)?;
        // It has run for this release, or the release is held back and another one runs.
        if records.is_good(&release.key) || records.held(&release.key, &cx.target).is_some() {
            return Ok(Observed::Ran.into());
        }
        let slot = fleet::release_slot(release.number, &release.key);
        let commands = one_off::machines_of(cx, &slot, <[Machine]>::is_empty);
        let (app_machines, commands) = match records.last_good() {
            // Before the first release there are no machines that could tell that it has run.
            None => tokio::try_join!(roster::ours(cx), commands)
                .map(|(ours, commands)| (ours, Some(commands)))?,
            Some(_) => (roster::ours(cx).await?, None),
        };
        let marked = |machine: &Machine| {
            machine.metadata(fleet::RELEASE_KEY) == Some(release.key.as_str())
                && !fleet::runs_a_command(machine)
        };
        // A machine is given a release only after its command has run. When an earlier release is
        // asked for again while some machines still have it, the command has run for them too.
        if app_machines.iter().any(marked) {
            return Ok(Observed::Ran.into());
        }
        let key: String = release.key.chars().take(8).collect();
        let asked = Command {
            what: What::Release,
            slot: slot.clone(),
            name: format!("golive-release-{key}-{}", release.number),
            announced: announced(release.number),
            image: release.image.pinned.clone(),
            command,
        };
        let commands = match commands {
            Some(commands) => commands,
            None => one_off::machines_of(cx, &slot, <[Machine]>::is_empty).await?,
        };
        let runs = runs(cx, asked, commands, &app_machines).await?;
        let unrecorded = cx.may_act() && !records.tells_failure(&release.key, &cx.target);
        let recorded = records.left(&release.key).map(records::Record::entry);
        Ok(Seen {
            command: Observed::Runs(Box::new(runs)),
            recorded: recorded.filter(|_| !unrecorded),
            unrecorded: unrecorded.then(|| Box::new(release)),
        })
    }

    fn diff(&self, target: &Target, seen: &Seen, now: Timestamp) -> Verdict<Change> {
        match seen.command.decide(&target.app, now) {
            Verdict::Blocked(why) => seen.record_first(why),
            Verdict::Change(change) => Verdict::Change(Change::Machine(change)),
            Verdict::Wait { why, wake } => Verdict::Wait { why, wake },
            Verdict::Skipped(why) => Verdict::Skipped(why),
            Verdict::Holds(time) => Verdict::Holds(time),
            Verdict::Done => Verdict::Done,
        }
    }

    fn notes(&self, _target: &Target, seen: &Seen) -> Vec<Note> {
        seen.recorded
            .clone()
            .map(Note::Failed)
            .into_iter()
            .collect()
    }

    fn intent(&self, _target: &Target, change: &Change) -> Option<Slot> {
        match change {
            Change::Machine(change) => change.intent(),
            Change::Record(_) => None,
        }
    }

    async fn act(&self, cx: &Cx, change: Change) -> Result<()> {
        match change {
            Change::Machine(change) => one_off::apply(cx, change).await,
            Change::Record(change) => {
                rollback::act(cx, *change).await?;
                // Now it is told to people, before the command is run again.
                cx.facts.failures_told.clear();
                Ok(())
            }
        }
    }
}

impl Seen {
    /// A release whose command has run and failed is on record before that is told: half of a
    /// migration may be done.
    fn record_first(&self, why: Why) -> Verdict<Change> {
        match (&self.unrecorded, &self.command) {
            (Some(release), Observed::Runs(runs)) if runs.has_run() => {
                let change = rollback::Change::left((**release).clone(), why.message);
                Verdict::Change(Change::Record(Box::new(change)))
            }
            _ => Verdict::Blocked(why),
        }
    }
}

impl Observed {
    /// Whether the command is to be run, has run, or runs.
    pub(super) fn decide(&self, app: &str, now: Timestamp) -> Verdict<one_off::Change> {
        match self {
            Self::NotAsked(what) => Verdict::Skipped(Why::new(
                Reason::NotRequested,
                format!("fly.toml has no `[deploy] {}`", what.key()),
            )),
            Self::Ran => Verdict::Done,
            Self::Runs(runs) => runs.decide(app, now),
        }
    }
}

/// The name that the runs for a release are announced by. Those of the machines have the release's
/// key in them, which is not known before its secrets are.
fn announced(release: u64) -> String {
    format!("golive-release-{release}")
}

/// A command of `[deploy]`.
pub(super) struct Command {
    /// Which.
    pub what: What,
    /// The place of its machine.
    pub slot: String,
    /// Name of its machine without the number of the run.
    pub name: String,
    /// The same as it is announced.
    pub announced: String,
    /// The image with its digest.
    pub image: String,
    /// The command line.
    pub command: String,
}

/// What is known of the runs of a command, whose `machines` these are.
///
/// # Errors
/// When the fly.toml cannot be converted.
pub(super) async fn runs(
    cx: &Cx,
    command: Command,
    machines: Vec<Machine>,
    app_machines: &[Machine],
) -> Result<Runs> {
    let app = &cx.target.config()?.app;
    let mut context = flytoml::Context {
        image: &command.image,
        ..flytoml::Context::default()
    };
    for (key, value) in [
        (fleet::UID_KEY, cx.owner.uid.as_str()),
        (fleet::SLOT_KEY, command.slot.as_str()),
    ] {
        context.metadata.insert(key.to_owned(), value.to_owned());
    }
    let largest = largest(app_machines, &app.default_group());
    let config = app
        .one_off_machine_config(&command.command, &context, largest.as_ref())
        .map_err(|error| {
            fleet::not_convertible(&format!("machine of the {}", command.what.key()), &error)
        })?;
    let asked = OneOff {
        what: command.what,
        name: command.name,
        announced: command.announced,
        region: cx.target.region.clone(),
        config,
        timeout: app
            .deploy
            .release_command_timeout
            .map_or(TIMEOUT, |timeout| timeout.0),
    };
    Ok(Runs::new(cx, asked, machines).await)
}

/// The size with most memory among the machines of the default group, as flyctl gives it to the
/// command; of equal ones the first.
fn largest(machines: &[Machine], default_group: &str) -> Option<MachineGuest> {
    machines
        .iter()
        .filter(|machine| machine.metadata(flytoml::PROCESS_GROUP_KEY) == Some(default_group))
        .filter(|machine| !fleet::runs_a_command(machine))
        .filter_map(|machine| machine.config.as_ref()?.guest.as_ref())
        .filter(|guest| guest.memory_mb > Some(0))
        .reduce(|most, guest| {
            if guest.memory_mb > most.memory_mb {
                guest
            } else {
                most
            }
        })
        .cloned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;
    use crate::phase::facts;

    fn machine(group: &str, slot: &str, cpus: u32, memory_mb: u32) -> Machine {
        serde_json::from_value(json!({
            "id": "148ed599b14d89", "state": "started",
            "config": {
                "image": "r/a:1",
                "guest": {"cpu_kind": "shared", "cpus": cpus, "memory_mb": memory_mb},
                "metadata": {"fly_process_group": group, "golive_slot": slot},
            },
        }))
        .unwrap()
    }

    #[test]
    fn the_command_gets_the_size_with_most_memory_of_the_default_group_alone() {
        let machines = [
            machine("app", "app-0", 4, 1024),
            machine("app", "app-1", 1, 2048),
            machine("app", "app-2", 2, 2048),
            machine("worker", "worker-0", 8, 16_384),
            machine("app", "release/1-abc", 8, 16_384),
        ];
        let size = |machines: &[Machine], group| {
            largest(machines, group).map(|guest| (guest.cpus.unwrap(), guest.memory_mb.unwrap()))
        };
        assert_eq!(size(&machines, "app"), Some((1, 2048)));
        assert_eq!(size(&machines, "worker"), Some((8, 16_384)));
        // A first deployment has none: the conversion takes shared-cpu-2x.
        assert_eq!(size(&machines, "web"), None);
    }
    /// A command on whose last machine these events are known, and which is not on record.
    fn seen(events: serde_json::Value) -> Seen {
        let runs = one_off::tests::runs(Some(json!({"events": events})));
        let release = release::Wanted {
            number: 2,
            key: "k".to_owned(),
            image: facts::Image {
                asked: String::new(),
                reference: "r/a:2".to_owned(),
                pinned: "r/a@sha256:2".to_owned(),
                digest: "sha256:2".to_owned(),
                runs_on_fly: None,
            },
            config_hash: String::new(),
            env: Vec::new(),
            migrates: true,
        };
        Seen {
            command: Observed::Runs(Box::new(runs)),
            unrecorded: Some(Box::new(release)),
            recorded: None,
        }
    }

    #[test]
    fn only_a_command_that_was_started_may_have_migrated_half() {
        let why = || Why::new(Reason::ReleaseCommandFailed, "it failed");
        let launched = json!({"type": "launch", "status": "launch_failed"});
        let started = json!({"type": "start", "status": "started"});
        for (events, recorded) in [
            (json!([launched]), false),
            (json!([started, launched]), true),
            (json!([]), true),
        ] {
            let verdict = seen(events).record_first(why());
            assert_eq!(
                matches!(verdict, Verdict::Change(Change::Record(_))),
                recorded
            );
        }
        let mut told = seen(json!([started]));
        told.unrecorded = None;
        assert_eq!(told.record_first(why()), Verdict::Blocked(why()));
    }
}
