//! The release command: migrations and the like, once per release, before any machine of the
//! application is touched.
//!
//! It runs in a machine of its own that is destroyed when its program ends, and that stays readable
//! with its exit code (fly-api.md B.3, G.4). So a later look, also of another process, finds how
//! it ended by its mark. A machine's name is unique among live machines only, so the create is
//! announced: one whose outcome is unknown is looked up before another is sent. As with flyctl it
//! is created without being started, and started once it is settled.

use std::{
    fmt,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};

use super::{
    diagnosis,
    fleet::{self, UID_KEY},
    image, look, records, rollback, roster,
};
use crate::{
    api::Reason,
    error::Error,
    fly::{self, Machine, MachineConfig, MachineState, NewMachine, machine_config::MachineGuest},
    flytoml,
    phase::{
        Cx, Slot, Step, StepId, Timing, Verdict, Wake, Why, facts::Fact,
        memory::backoff_without_spread, step::Result,
    },
    target::Target,
};

/// The release command.
pub struct ReleaseCommand;

/// Name of the step.
pub const ID: StepId = "ReleaseCommand";

/// Longest run, unless fly.toml says otherwise (flyctl's default, fly-api.md G.1).
const TIMEOUT: Duration = Duration::from_secs(300);

/// How long a machine that ends may take until its exit can be read.
const TELLING: Duration = Duration::from_secs(15);

/// How long a machine that was told to start may look as if it had not been.
const STARTING: Duration = Duration::from_secs(5);

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

/// The machines of the release command of this release.
#[derive(Debug)]
pub struct Runs {
    /// Which command, for messages.
    what: What,
    /// The latest.
    last: Option<Machine>,
    /// How many there have been.
    count: u32,
    /// Name and configuration of the next.
    next: (String, MachineConfig),
    /// Whether the failure of the latest was told before: it is, once, before another is run.
    told: bool,
    /// The last lines of the latest, when it has ended badly.
    tail: Option<String>,
    /// This process has just told the latest to start.
    told_to_start: bool,
    timeout: Duration,
    timing: Timing,
}

/// A command that runs once in a machine of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// `[deploy] release_command`.
    Release,
    /// `[deploy] seed_command`.
    Seed,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            Self::Release => "release command",
            Self::Seed => "seed command",
        }
    }

    /// As fly.toml spells it.
    fn key(self) -> &'static str {
        match self {
            Self::Release => "release_command",
            Self::Seed => "seed_command",
        }
    }

    /// What its failure leaves, and what to do about it.
    fn failed(self) -> &'static str {
        match self {
            Self::Release => {
                "no machine of the application was touched; mend the migration and deploy another image"
            }
            Self::Seed => {
                "no machine of the application was touched; mend the command or what it depends on"
            }
        }
    }

    /// What is known of its machines.
    fn known(self, cx: &Cx) -> &Fact<Known> {
        match self {
            Self::Release => &cx.facts.release_machines,
            Self::Seed => &cx.facts.seed_machines,
        }
    }
}

/// A run that is asked for.
pub(super) struct OneOff {
    /// Which command.
    pub what: What,
    /// The place of its machine.
    pub slot: String,
    /// Name of its machine without the number of the run.
    pub name: String,
    /// The image with its digest.
    pub image: String,
    /// The command line.
    pub command: String,
}

/// What to do.
#[derive(Debug, PartialEq)]
pub enum Change {
    /// Run it.
    Run {
        /// Which command.
        what: What,
        /// Name of the machine.
        name: String,
        /// Its configuration.
        config: Box<MachineConfig>,
    },
    /// Start the machine that was created for it.
    Start {
        /// Which command.
        what: What,
        /// Name of the machine.
        name: String,
        /// Its id.
        id: String,
    },
    /// End a run that takes too long, or a machine that could not start.
    End {
        /// Which command.
        what: What,
        /// Name of the machine.
        name: String,
        /// Its id.
        id: String,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run { what, name, .. } => {
                write!(f, "run the {} in the machine {name}", what.name())
            }
            Self::Start { what, name, .. } => {
                write!(f, "start the {} in the machine {name}", what.name())
            }
            Self::End { name, .. } => write!(f, "end the command's machine {name}"),
        }
    }
}

/// How a run stands.
#[derive(Debug, PartialEq)]
enum Run {
    /// Its machine is not settled yet.
    Creating,
    /// Its machine is there, and was never started.
    Created,
    /// It goes on.
    Running,
    /// It has ended, and how is not told yet.
    Ending,
    /// It ended well.
    Succeeded,
    /// It ended badly, for this reason.
    Failed { out_of_memory: bool, how: String },
    /// It could not start, or takes too long.
    Stuck(&'static str),
}

impl Step for ReleaseCommand {
    type Observed = Observed;
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

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        let config = cx.target.config()?;
        let Some(command) = config.app.deploy.release_command.clone() else {
            return Ok(Observed::NotAsked(What::Release));
        };
        let records = records::load(cx).await?;
        let release = look::release(cx, &records)?;
        // It has run for this release, or the release is held back and another one runs.
        if records.is_good(&release.key) || records.held(&release.key, &cx.target).is_some() {
            return Ok(Observed::Ran);
        }
        let app_machines = roster::ours(cx).await?;
        let marked = |machine: &Machine| {
            machine.metadata(fleet::RELEASE_KEY) == Some(release.key.as_str())
                && !fleet::runs_a_command(machine)
        };
        // A machine is given a release only after its command has run. When an earlier release is
        // asked for again while some machines still have it, the command has run for them too.
        if app_machines.iter().any(marked) {
            return Ok(Observed::Ran);
        }
        let key: String = release.key.chars().take(8).collect();
        let asked = OneOff {
            what: What::Release,
            slot: fleet::release_slot(release.number, &release.key),
            name: format!("golive-release-{key}-{}", release.number),
            image: release.image.pinned.clone(),
            command,
        };
        let runs = runs(cx, asked, &app_machines).await?;
        Ok(Observed::Runs(Box::new(runs)))
    }

    fn diff(&self, target: &Target, observed: &Observed, now: Timestamp) -> Verdict<Change> {
        observed.decide(&target.app, now)
    }

    fn intent(&self, _target: &Target, change: &Change) -> Option<Slot> {
        intent(change)
    }

    async fn act(&self, cx: &Cx, change: Change) -> Result<()> {
        apply(cx, change).await
    }
}

impl Observed {
    /// Whether the command is to be run, has run, or runs.
    pub(super) fn decide(&self, app: &str, now: Timestamp) -> Verdict<Change> {
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

/// What is known of the runs of a command.
///
/// # Errors
/// When Fly.io does not answer, or the fly.toml cannot be converted.
pub(super) async fn runs(cx: &Cx, asked: OneOff, app_machines: &[Machine]) -> Result<Runs> {
    let app = &cx.target.config()?.app;
    let known = asked.what.known(cx);
    let mut machines = machines_of(cx, known, &asked.slot).await?;
    let count = u32::try_from(machines.len()).unwrap_or(u32::MAX);
    let last = machines.pop();
    let mut context = flytoml::Context {
        image: &asked.image,
        ..flytoml::Context::default()
    };
    for (key, value) in [
        (UID_KEY, cx.owner.uid.as_str()),
        (fleet::SLOT_KEY, asked.slot.as_str()),
    ] {
        context.metadata.insert(key.to_owned(), value.to_owned());
    }
    let largest = largest(app_machines, &app.default_group());
    let machine = app
        .one_off_machine_config(&asked.command, &context, largest.as_ref())
        .map_err(|error| {
            let name = format!("{}'s machine", asked.what.name());
            fleet::not_convertible(&name, &error)
        })?;
    let mut runs = Runs {
        what: asked.what,
        next: (format!("{}-{count}", asked.name), machine),
        count,
        tail: None,
        told: false,
        told_to_start: known.get().is_some_and(|known| {
            let started = known.started.as_ref();
            started.zip(last.as_ref()).is_some_and(|(started, last)| {
                started.0 == last.id && started.1.elapsed() < STARTING
            })
        }),
        timeout: app
            .deploy
            .release_command_timeout
            .map_or(TIMEOUT, |timeout| timeout.0),
        timing: cx.timing,
        last,
    };
    if let Some(last) = &runs.last
        && matches!(
            runs.stand(cx.now()),
            Some(Run::Failed { .. } | Run::Stuck(_))
        )
    {
        runs.told = cx.facts.failure_told.get().as_deref() == Some(&last.id);
        runs.tail = diagnosis::log_tail(cx, &last.id).await;
        cx.facts.failure_told.set(last.id.clone());
    }
    Ok(runs)
}

/// A run is announced: names are unique among live machines only, and this one ends.
pub(super) fn intent(change: &Change) -> Option<Slot> {
    match change {
        Change::Run { name, .. } => Some(Slot {
            kind: "Machine".to_owned(),
            name: name.clone(),
        }),
        Change::Start { .. } | Change::End { .. } => None,
    }
}

/// Runs it, or ends a run.
///
/// # Errors
/// When Fly.io refuses or does not answer.
pub(super) async fn apply(cx: &Cx, change: Change) -> Result<()> {
    let app = &cx.target.app;
    match change {
        Change::Run { what, name, config } => {
            let new = NewMachine {
                name: name.clone(),
                region: cx.target.region.clone(),
                config: *config,
                skip_launch: true,
                min_secrets_version: cx.facts.secrets_version.get().map(|version| *version),
                ..NewMachine::default()
            };
            let created = cx.fly.create_machine(app, &new).await;
            let known = what.known(cx);
            match &created {
                Ok(machine) => known.change(|known| known.machines.push(machine.clone())),
                Err(_) => known.clear(),
            }
            match created {
                Ok(_) => Ok(()),
                // It is there: an earlier try got through, and the list lags behind.
                Err(error) if matches!(error.conflict(), Some(fly::Conflict::NameTaken { .. })) => {
                    Ok(())
                }
                Err(source) => Err(Error::fly(
                    format!("run the {} in the machine {name}", what.name()),
                    source,
                )),
            }
        }
        // As flyctl, without a lease: nobody else knows of it.
        Change::Start { what, name, id } => {
            let told = Some((id.clone(), Instant::now()));
            what.known(cx).change(|known| known.started = told);
            let started = cx.fly.start_machine(app, &id, None).await;
            started.map_err(|source| {
                let doing = format!("start the {} in the machine {name}", what.name());
                Error::fly(doing, source)
            })
        }
        // Only what carries our mark gets here.
        Change::End { what, name, id } => {
            let deleted = cx.fly.delete_machine(app, &id, true, None).await;
            what.known(cx).clear();
            deleted.map_err(|source| Error::fly(format!("destroy the machine {name}"), source))
        }
    }
}

/// How long a list without any such machine is believed: until the create is announced.
const NONE_FOR: Duration = Duration::from_secs(1);

/// The machines of the release command of one release, as they were last seen.
#[derive(Clone, Debug)]
pub struct Known {
    slot: String,
    listed: Instant,
    /// In the order in which they were created.
    machines: Vec<Machine>,
    /// The one that this process told to start last, and when.
    started: Option<(String, Instant)>,
}

/// The machines that fill this place, also destroyed ones, in the order of their creation. Listed
/// once: from then on only this process makes more, and only the last of them can change, which
/// is read by its id, for the list is limited to one a second (fly-api.md B.1).
async fn machines_of(cx: &Cx, facts: &Fact<Known>, slot: &str) -> Result<Vec<Machine>> {
    let known = facts.get().filter(|known| known.slot == slot);
    if let Some(known) = &known
        && let Some(machines) = read_last(cx, known).await?
    {
        facts.set(Known {
            machines: machines.clone(),
            ..(**known).clone()
        });
        return Ok(machines);
    }
    let marks = [(UID_KEY, cx.owner.uid.as_str()), (fleet::SLOT_KEY, slot)];
    let listed = Instant::now();
    let machines = cx
        .fly
        .machines_and_destroyed(&cx.target.app, &marks)
        .await
        .map_err(|source| Error::fly("look for the release command's machine", source));
    let mut machines = machines?;
    // The server filters; a platform that does not know the filter must not mislead us.
    machines.retain(|machine| {
        fleet::is_ours(machine, &cx.owner) && machine.metadata(fleet::SLOT_KEY) == Some(slot)
    });
    machines.sort_by_key(|machine| machine.created_at);
    facts.set(Known {
        slot: slot.to_owned(),
        listed,
        machines: machines.clone(),
        started: known.and_then(|known| known.started.clone()),
    });
    Ok(machines)
}

/// Reads the last of them again; `None` when only a list can tell: there was none, some time ago,
/// or it is not there, and may be so new that not every reader knows it.
async fn read_last(cx: &Cx, known: &Known) -> Result<Option<Vec<Machine>>> {
    let Some((last, before)) = known.machines.split_last() else {
        return Ok((known.listed.elapsed() < NONE_FOR).then(Vec::new));
    };
    let found = cx.fly.machine(&cx.target.app, &last.id).await;
    let found = found.map_err(|source| {
        Error::fly(
            format!("read the release command's machine {}", last.id),
            source,
        )
    })?;
    Ok(found.map(|found| before.iter().cloned().chain([found]).collect()))
}

impl Runs {
    /// How the latest run stands; `None` when there is none.
    fn stand(&self, now: Timestamp) -> Option<Run> {
        let machine = self.last.as_ref()?;
        let age = |since: Option<Timestamp>, limit: Duration| {
            let limit = SignedDuration::try_from(limit).unwrap_or(SignedDuration::MAX);
            since.is_some_and(|since| now.duration_since(since) > limit)
        };
        if let Some(exit) = machine.exit_since_start() {
            let code = exit.guest_exit_code.or(exit.exit_code).unwrap_or(-1);
            let out_of_memory = exit.oom_killed == Some(true);
            return Some(
                if code == 0 && !out_of_memory && exit.requested_stop != Some(true) {
                    Run::Succeeded
                } else if out_of_memory {
                    Run::Failed {
                    out_of_memory,
                    how: "ran out of memory: give it more with `[deploy.release_command_vm] memory` in fly.toml".to_owned(),
                }
                } else if exit.requested_stop == Some(true) {
                    Run::Failed {
                        out_of_memory,
                        how: format!(
                            "was stopped before it had ended (allowed are {} s: raise `[deploy] release_command_timeout` in fly.toml if it needs more)",
                            self.timeout.as_secs()
                        ),
                    }
                } else {
                    Run::Failed {
                        out_of_memory,
                        how: format!("exited with code {code}{}", after(machine, exit)),
                    }
                },
            );
        }
        Some(match &machine.state {
            state if state.is_over() => {
                if age(machine.updated_at, TELLING) {
                    Run::Failed {
                        out_of_memory: false,
                        how: format!(
                            "was ended, or took longer than {} s",
                            self.timeout.as_secs()
                        ),
                    }
                } else {
                    Run::Ending
                }
            }
            MachineState::Failed | MachineState::LaunchFailed => Run::Stuck("could not be started"),
            _ if age(machine.created_at, self.timeout) => Run::Stuck("takes too long"),
            state if !machine.events.iter().any(|event| event.kind == "start") => match state {
                MachineState::Stopped if !self.told_to_start => Run::Created,
                MachineState::Creating | MachineState::Created => Run::Creating,
                _ => Run::Running,
            },
            MachineState::Stopped | MachineState::Stopping => Run::Ending,
            _ => Run::Running,
        })
    }

    /// What to do now.
    pub(super) fn decide(&self, app: &str, now: Timestamp) -> Verdict<Change> {
        let run = || {
            let (name, config) = self.next.clone();
            Verdict::Change(Change::Run {
                what: self.what,
                name,
                config: Box::new(config),
            })
        };
        let (Some(stand), Some(machine)) = (self.stand(now), &self.last) else {
            return run();
        };
        let name = format!("the machine {} ({})", machine.name, machine.id);
        match stand {
            Run::Succeeded => Verdict::Done,
            Run::Created => Verdict::Change(Change::Start {
                what: self.what,
                name: machine.name.clone(),
                id: machine.id.clone(),
            }),
            Run::Creating | Run::Running | Run::Ending => Verdict::Wait {
                why: Why::new(
                    Reason::ReleaseCommandRunning,
                    format!("the {} runs in {name}", self.what.name()),
                ),
                wake: match stand {
                    Run::Ending => Wake::After(Duration::from_millis(300)),
                    _ => Wake::Machine {
                        app: app.to_owned(),
                        id: machine.id.clone(),
                        version: None,
                        state: match stand {
                            Run::Creating => MachineState::Stopped,
                            _ => MachineState::Destroyed,
                        },
                        patience: Duration::from_secs(5),
                    },
                },
            },
            Run::Stuck(_) => Verdict::Change(Change::End {
                what: self.what,
                name: machine.name.clone(),
                id: machine.id.clone(),
            }),
            Run::Failed { out_of_memory, how } => {
                // Mended elsewhere, it recovers by itself: it is run again, ever more seldom.
                let pause = backoff_without_spread(&self.timing, self.count + 1);
                let pause = SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX);
                let ended = machine.updated_at.unwrap_or(Timestamp::UNIX_EPOCH);
                if self.told && now.duration_since(ended) >= pause {
                    return run();
                }
                let lines = self
                    .tail
                    .as_ref()
                    .map_or(String::new(), |tail| format!("; its last lines: {tail}"));
                Verdict::Blocked(Why::new(
                    if out_of_memory {
                        Reason::OutOfMemory
                    } else {
                        Reason::ReleaseCommandFailed
                    },
                    format!(
                        "the {} {how} in {name}; {}; it is also tried again by itself{lines}",
                        self.what.name(),
                        self.what.failed()
                    ),
                ))
            }
        }
    }
}

/// How long a program ran.
fn after(machine: &Machine, exit: &fly::machines::ExitEvent) -> String {
    let started = machine
        .events
        .iter()
        .filter(|event| event.kind == "start")
        .filter_map(|event| event.timestamp)
        .max()
        .and_then(|at| Timestamp::from_millisecond(at).ok());
    match started.zip(exit.exited_at) {
        Some((started, exited)) => {
            let ran = exited.duration_since(started).as_millis().max(0);
            format!(" after {}.{} s", ran / 1000, ran % 1000 / 100)
        }
        None => String::new(),
    }
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

    fn runs(state: &str, events: &[&str], told_to_start: bool) -> Verdict<Change> {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let events: Vec<_> = events
            .iter()
            .map(|kind| json!({"type": kind, "timestamp": now.as_millisecond()}))
            .collect();
        let last = json!({
            "id": "148ed599b14d89", "name": "golive-release-1", "state": state,
            "created_at": now.to_string(), "events": events,
        });
        let runs = Runs {
            what: What::Release,
            last: Some(serde_json::from_value(last).unwrap()),
            count: 1,
            next: ("golive-release-2".to_owned(), MachineConfig::default()),
            told: false,
            tail: None,
            told_to_start,
            timeout: TIMEOUT,
            timing: Timing::default(),
        };
        runs.decide("a", now)
    }

    #[test]
    fn a_machine_is_started_once_when_it_is_settled_and_never_after_it_has_run() {
        let starts = |state, events: &[&str], told| {
            let verdict = runs(state, events, told);
            matches!(verdict, Verdict::Change(Change::Start { .. }))
        };
        assert!(starts("stopped", &["launch"], false));
        assert!(!starts("created", &["launch"], false));
        assert!(!starts("stopped", &["launch"], true), "it was just told to");
        assert!(!starts("starting", &["launch"], false));
        assert!(!starts("stopped", &["launch", "start"], false));
        let waits_for = |state, events: &[&str]| match runs(state, events, false) {
            Verdict::Wait {
                wake: Wake::Machine { state, .. },
                ..
            } => Some(state),
            _ => None,
        };
        assert_eq!(
            waits_for("created", &["launch"]),
            Some(MachineState::Stopped)
        );
        assert_eq!(
            waits_for("started", &["launch", "start"]),
            Some(MachineState::Destroyed)
        );
    }
}
