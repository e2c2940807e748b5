//! A command of `[deploy]` in fly.toml: what is known of it, and what is written down about the release
//! that it runs for. How it runs is in `one_off`.
//!
//! A command may change the database, half or whole, so what may have happened to it is on record
//! before anything else is done or told: that the command was begun for a release beside which an
//! earlier one could be restored, and that it has failed.

pub mod one_off;
pub mod release;
pub mod seed;

use std::{fmt, time::Duration};

use futures::future::try_join_all;
use jiff::Timestamp;

use super::{fleet, release::Wanted};
use crate::phase::deploy::{
    command::one_off::{OneOff, Runs, What},
    release::{
        records::{self, Outcome, Record, Records},
        rollback,
    },
};
use crate::{
    api::Reason,
    error::Error,
    fly::{Machine, machine_config::MachineGuest},
    flytoml::{self, AppConfig},
    pipeline::{ChangeKind, Cx, Note, Slot, StepChange, Verdict, Why, step::Result},
    plan::Target,
};

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

/// What is known of a command, and of the record of the release that it runs for.
#[derive(Debug)]
pub struct Seen {
    command: Observed,
    /// The release, while it is not on record that its command was begun.
    unbegun: Option<Box<Wanted>>,
    /// The release, while it is not on record that its command has failed.
    unrecorded: Option<Box<Wanted>>,
    /// What the history tells already.
    told: Vec<Note>,
    /// What has to end first.
    former: Option<Former>,
}

/// The machine in which a release command of another release has not ended.
#[derive(Clone, Debug)]
pub struct Former {
    machine: Box<Machine>,
    /// It could not start, or takes longer than it may.
    hangs: bool,
}

impl From<Observed> for Seen {
    fn from(command: Observed) -> Self {
        Self {
            command,
            unbegun: None,
            unrecorded: None,
            told: Vec::new(),
            former: None,
        }
    }
}

/// What to do.
#[derive(Debug, PartialEq)]
pub enum Change {
    /// Record that the release has begun.
    Begin(Box<Wanted>),
    /// About the command's machine.
    Machine(one_off::Change),
    /// Record that the release has failed.
    Record(Box<rollback::Change>),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin(release) => write!(f, "record that release {} begins", release.number),
            Self::Machine(change) => change.fmt(f),
            Self::Record(change) => change.fmt(f),
        }
    }
}

impl StepChange for Change {
    fn kind(&self) -> ChangeKind {
        match self {
            Self::Record(change) => change.kind(),
            Self::Begin(_) | Self::Machine(_) => ChangeKind::Ordinary,
        }
    }
}

impl Change {
    /// What has to be announced before it is sent.
    pub fn intent(&self) -> Option<Slot> {
        match self {
            Self::Machine(change) => change.intent(),
            Self::Begin(_) | Self::Record(_) => None,
        }
    }
}

impl Seen {
    /// What is known of a command, and what the records tell of its release.
    pub fn of(cx: &Cx, command: Observed, release: Wanted, records: &Records) -> Self {
        let unrecorded = cx.may_act() && !records.tells_failure(&release.key, &cx.target);
        let unbegun = cx.may_act() && is_unbegun(&release, records, &cx.target);
        let told = records.notes(&release.key);
        let release = Box::new(release);
        Self {
            command,
            told,
            former: None,
            unbegun: unbegun.then(|| release.clone()),
            unrecorded: unrecorded.then_some(release),
        }
    }

    /// The same, and what has to end first.
    #[must_use]
    pub fn after(self, former: Option<Former>) -> Self {
        Self { former, ..self }
    }

    /// What has to be done next.
    pub fn decide(&self, target: &Target, now: Timestamp) -> Verdict<Change> {
        if let Some(former) = &self.former {
            return former.decide(target);
        }
        if let Some(release) = &self.unbegun {
            return Verdict::Change(Change::Begin(release.clone()));
        }
        match self.command.decide(&target.app, now) {
            Verdict::Blocked(why) => self.record_first(why),
            Verdict::Change(change) => Verdict::Change(Change::Machine(change)),
            Verdict::Wait { why, wake } => Verdict::Wait { why, wake },
            Verdict::Skipped(why) => Verdict::Skipped(why),
            Verdict::Holds(time) => Verdict::Holds(time),
            Verdict::Done => Verdict::Done,
        }
    }

    /// What the history tells already.
    pub fn notes(&self) -> Vec<Note> {
        self.told.clone()
    }

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

impl Former {
    /// Two commands at once, or one beside machines that are changed, may harm the database.
    fn decide(&self, target: &Target) -> Verdict<Change> {
        let Machine { name, id, .. } = &*self.machine;
        if self.hangs {
            return Verdict::Change(Change::Machine(one_off::Change::End {
                name: name.clone(),
                id: id.clone(),
            }));
        }
        Verdict::Wait {
            why: Why::new(
                Reason::ReleaseCommandRunning,
                format!(
                    "the release command of an earlier release runs in the machine {name} ({id}); no machine is changed before it has ended, or taken longer than it may (to end it now: `fly machine destroy {id} --force`)"
                ),
            ),
            wake: one_off::until_gone(&target.app, &self.machine),
        }
    }
}

/// Looks for a release command of another release than the one that has this place. `ours` are the
/// machines that are there, and `known` those of commands that this process has seen last.
///
/// # Errors
/// When Fly.io does not answer.
pub async fn former(
    cx: &Cx,
    records: &Records,
    slot: Option<&str>,
    ours: &[Machine],
    known: Option<&one_off::Known>,
) -> Result<Option<Former>> {
    let is_other = |machine: &&Machine| {
        let place = machine.metadata(fleet::SLOT_KEY).unwrap_or_default();
        fleet::is_release_slot(place) && slot != Some(place) && !machine.state.is_over()
    };
    // One that was made a moment ago may not be among those that were listed before.
    let known = known.map_or(&[][..], one_off::Known::machines);
    let unlisted = known.iter().filter(is_other);
    let unlisted = unlisted.filter(|machine| ours.iter().all(|listed| listed.id != machine.id));
    let read = unlisted.map(|machine| cx.fly.machine(&cx.target.app, &machine.id));
    let read = try_join_all(read)
        .await
        .map_err(|source| Error::fly("read the machine of an earlier release command", source))?;
    let mut others = ours.iter().chain(read.iter().flatten()).filter(is_other);
    Ok(others.next().map(|machine| Former {
        hangs: one_off::hangs(machine, longest(cx, records, machine), cx.now()),
        machine: Box::new(machine.clone()),
    }))
}

/// How long the command in a machine may take: as the fly.toml of its release says, or the present one
/// if that allows more.
fn longest(cx: &Cx, records: &Records, machine: &Machine) -> Duration {
    let place = machine.metadata(fleet::SLOT_KEY);
    let mut list = records.list.iter();
    let own =
        list.find(|record| place == Some(fleet::release_slot(record.number, &record.key).as_str()));
    let own = own.and_then(|record| flytoml::parse(record.config.as_deref()?).ok());
    let own = own.map(|parsed| timeout(&parsed.config));
    let now = cx.target.config().ok().map(|config| timeout(&config.app));
    own.into_iter().chain(now).max().unwrap_or(TIMEOUT)
}

/// Longest run of the release command, as fly.toml says.
fn timeout(config: &AppConfig) -> Duration {
    let asked = config.deploy.release_command_timeout;
    asked.map_or(TIMEOUT, |timeout| timeout.0)
}

/// Whether it has to be written down that the command of a release begins. Before the first good
/// release nothing could be restored, so that nothing is kept from it.
fn is_unbegun(release: &Wanted, records: &Records, target: &Target) -> bool {
    let stale = |record: &Record| {
        record.outcome == Outcome::Begun && record.reversible != target.deploy.migrations.reversible
    };
    release.migrates
        && records.last_good().is_some()
        && records.of(release.number).is_none_or(stale)
}

/// Does it.
///
/// # Errors
/// When Fly.io or Kubernetes refuses or does not answer: no command is run without the record of it.
pub async fn apply(cx: &Cx, change: Change) -> Result<()> {
    match change {
        Change::Begin(release) => {
            let before = records::load(cx).await?;
            let good = before.last_good();
            let record = records::record(cx, &release, Outcome::Begun, "", good);
            records::save(cx, record).await
        }
        Change::Machine(change) => one_off::apply(cx, change).await,
        Change::Record(change) => {
            rollback::act(cx, *change).await?;
            // Now it is told to people, before the command is run again.
            cx.facts.failures_told.clear();
            Ok(())
        }
    }
}

impl Observed {
    /// Whether the command is to be run, has run, or runs.
    fn decide(&self, app: &str, now: Timestamp) -> Verdict<one_off::Change> {
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

/// A command of `[deploy]`.
pub struct Command {
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

/// What is known of a command of this release, whose `machines` these are.
///
/// # Errors
/// When the fly.toml cannot be converted.
pub async fn see(
    cx: &Cx,
    command: Command,
    machines: Vec<Machine>,
    app_machines: &[Machine],
    (release, records): (Wanted, &Records),
) -> Result<Seen> {
    let runs = runs(cx, command, machines, app_machines).await?;
    let runs = Observed::Runs(Box::new(runs));
    Ok(Seen::of(cx, runs, release, records))
}

async fn runs(
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
        timeout: timeout(app),
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
    use crate::{pipeline::facts, plan::testing::target};

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
        let release = Wanted {
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
            former: None,
            unbegun: None,
            unrecorded: Some(Box::new(release)),
            told: Vec::new(),
        }
    }

    #[test]
    fn a_command_is_run_only_once_it_is_on_record_that_its_release_begins() {
        let release = |number, key: &str| Wanted {
            number,
            key: key.to_owned(),
            ..*seen(json!([])).unrecorded.unwrap()
        };
        let good = records::tests::records(&[("a", Outcome::Succeeded)]);
        let same = target("");
        assert!(is_unbegun(&release(2, "b"), &good, &same));
        let first = Records::default();
        assert!(
            !is_unbegun(&release(1, "a"), &first, &same),
            "nothing to restore"
        );
        let begun = records::tests::records(&[("a", Outcome::Succeeded), ("b", Outcome::Begun)]);
        assert!(!is_unbegun(&release(2, "b"), &begun, &same));
        let undone = target("deploy: {migrations: {reversible: true}}");
        assert!(
            is_unbegun(&release(2, "b"), &begun, &undone),
            "that is written down"
        );
        let ended = records::tests::records(&[("a", Outcome::Succeeded), ("b", Outcome::Failed)]);
        assert!(!is_unbegun(&release(2, "b"), &ended, &undone));
        let mut none = release(2, "b");
        none.migrates = false;
        assert!(!is_unbegun(&none, &good, &same));

        let mut seen = seen(json!([]));
        seen.unbegun = Some(Box::new(release(2, "b")));
        let next = seen.decide(&same, Timestamp::UNIX_EPOCH);
        assert!(
            matches!(next, Verdict::Change(Change::Begin(_))),
            "{next:?}"
        );
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
