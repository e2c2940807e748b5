//! Programs that run once, each in a machine of its own: the release command, the seed command and
//! the machine checks.
//!
//! Such a machine is destroyed when its program ends, and stays readable with its exit code
//! (fly-api.md B.3, G.4). So a later look, also of another process, finds how it ended by its mark. A
//! machine's name is unique among live machines only, so the create is announced: one whose outcome
//! is unknown is looked up before another is sent.

use std::{
    borrow::Cow,
    fmt,
    time::{Duration, Instant},
};

use futures::future::try_join_all;
use jiff::{SignedDuration, Timestamp};

use crate::phase::deploy::fleet::{self, SLOT_KEY, UID_KEY, diagnosis};
use crate::{
    api::Reason,
    error::Error,
    fly::{self, Machine, MachineConfig, MachineState, NewMachine},
    pipeline::{Cx, Slot, Timing, Verdict, Wake, Why, cx::backoff_without_spread, step::Result},
};

/// How long a machine that ends may take until its exit can be read.
const TELLING: Duration = Duration::from_secs(15);

/// Pause between two looks at a machine that ends.
const SOON: Duration = Duration::from_millis(300);

/// A program that runs once in a machine of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// `[deploy] release_command`.
    Release,
    /// `[deploy] seed_command`.
    Seed,
    /// One of `machine_checks`.
    Check {
        /// Its command line.
        command: String,
        /// The machine that it tests: name and id.
        tested: String,
    },
}

impl What {
    fn name(&self) -> Cow<'static, str> {
        match self {
            Self::Release => "release command".into(),
            Self::Seed => "seed command".into(),
            Self::Check { command, tested } => {
                format!("machine check `{command}` of the machine {tested}").into()
            }
        }
    }

    /// As fly.toml spells it.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Release => "release_command",
            Self::Seed => "seed_command",
            Self::Check { .. } => "machine_checks",
        }
    }

    /// What bounds its run, as fly.toml spells it.
    fn limit(&self) -> &'static str {
        match self {
            Self::Release | Self::Seed => "release_command_timeout",
            Self::Check { .. } => "wait_timeout",
        }
    }

    /// What gives it more memory.
    fn memory(&self) -> &'static str {
        match self {
            Self::Release | Self::Seed => "[deploy.release_command_vm] memory",
            Self::Check { .. } => "[[vm]] memory",
        }
    }

    /// What its failure leaves, and what to do about it.
    fn failed(&self) -> &'static str {
        match self {
            Self::Release => {
                "no machine of the application was touched; mend the migration and deploy another image; it is also tried again by itself"
            }
            Self::Seed => {
                "no machine of the application was touched; mend the command or what it depends on; it is also tried again by itself"
            }
            Self::Check { .. } => "mend the application or the check",
        }
    }

    fn running(&self) -> Reason {
        match self {
            Self::Release | Self::Seed => Reason::ReleaseCommandRunning,
            Self::Check { .. } => Reason::MachineCheckRunning,
        }
    }

    fn is_check(&self) -> bool {
        matches!(self, Self::Check { .. })
    }
}

/// A run that is asked for.
#[derive(Clone, Debug)]
pub struct OneOff {
    /// Which program.
    pub what: What,
    /// Name of its machine without the number of the run.
    pub name: String,
    /// The same as it is announced, where that has to be known before the name is.
    pub announced: String,
    /// Where it runs.
    pub region: String,
    /// What it runs in.
    pub config: MachineConfig,
    /// Longest run.
    pub timeout: Duration,
}

/// The machines of one program, as far as they are known.
#[derive(Debug)]
pub struct Runs {
    asked: OneOff,
    /// The latest.
    last: Option<Machine>,
    /// How many there have been.
    count: u32,
    /// Whether the failure of the latest was told before: it is, once, before another is run.
    told: bool,
    /// The last lines of the latest, when it has ended badly.
    tail: Option<String>,
    timing: Timing,
}

/// What to do.
#[derive(Debug, PartialEq)]
pub enum Change {
    /// Run it.
    Run {
        /// Which program.
        what: What,
        /// Name of the machine.
        name: String,
        /// The name that it is announced by.
        announced: String,
        /// Where.
        region: String,
        /// Its configuration.
        config: Box<MachineConfig>,
    },
    /// End a run that takes too long, that could not start, or that nobody waits for.
    End {
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
            Self::End { name, .. } => write!(f, "end the command's machine {name}"),
        }
    }
}

impl Change {
    /// A run is announced: names are unique among live machines only, and this one ends.
    pub fn intent(&self) -> Option<Slot> {
        match self {
            Self::Run { announced, .. } => Some(slot(announced.clone())),
            Self::End { .. } => None,
        }
    }
}

/// Whether more than this long has passed; of what is not known it has not.
fn longer(since: Option<Timestamp>, until: Timestamp, limit: Duration) -> bool {
    let limit = SignedDuration::try_from(limit).unwrap_or(SignedDuration::MAX);
    since.is_some_and(|since| until.duration_since(since) > limit)
}

/// Whether a command's machine that is not over could not start, or takes longer than it may.
pub(super) fn hangs(machine: &Machine, limit: Duration, now: Timestamp) -> bool {
    matches!(
        machine.state,
        MachineState::Failed | MachineState::LaunchFailed
    ) || longer(machine.created_at, now, limit)
}

/// What ends the wait for a command: its machine goes when its program has ended.
pub(super) fn until_gone(app: &str, machine: &Machine) -> Wake {
    Wake::Machine {
        app: app.to_owned(),
        id: machine.id.clone(),
        version: None,
        state: MachineState::Destroyed,
        patience: Duration::from_secs(5),
    }
}

/// What announces a run by this name.
pub(super) fn slot(name: String) -> Slot {
    Slot {
        kind: "Machine".to_owned(),
        name,
    }
}

/// How the latest run stands.
#[derive(Debug, PartialEq)]
enum Run {
    /// It goes on.
    Running,
    /// It has ended, and how is not told yet.
    Ending,
    /// It ended well.
    Succeeded,
    /// It ended badly, for this reason.
    Failed { out_of_memory: bool, how: String },
    /// It is over, and nothing tells how its program ended, or somebody stopped it.
    Unknown,
    /// It could not start, or takes too long.
    Stuck,
}

/// Where a program stands.
#[derive(Debug, PartialEq)]
pub enum Progress {
    /// It has ended well.
    Passed,
    /// It runs, or nothing can be said about it yet.
    Waits {
        /// What is awaited.
        why: Why,
        /// What ends the wait.
        wake: Wake,
    },
    /// This has to be done.
    Needs(Change),
    /// It has ended badly.
    Failed {
        /// How.
        why: Why,
        /// The next run, once the failure was told and enough time has passed.
        again: Option<Change>,
    },
}

impl Runs {
    /// What is known of a program whose `machines` these are, oldest first.
    pub async fn new(cx: &Cx, asked: OneOff, mut machines: Vec<Machine>) -> Self {
        let mut runs = Self {
            count: u32::try_from(machines.len()).unwrap_or(u32::MAX),
            last: machines.pop(),
            asked,
            tail: None,
            told: false,
            timing: cx.installation.timing,
        };
        let Some(last) = &runs.last else {
            return runs;
        };
        match runs.stand(last, cx.now()) {
            Run::Failed { .. } | Run::Stuck => {
                runs.served(cx);
                let told = cx.facts.failures_told.get();
                runs.told = told.is_some_and(|told| told.contains(&last.id));
                runs.tail = diagnosis::log_tail(cx, &last.id, true).await;
                cx.facts.failures_told.add(|told| {
                    told.insert(last.id.clone());
                });
            }
            // Its end is seen: the announcement has served.
            Run::Succeeded => runs.served(cx),
            Run::Running | Run::Ending | Run::Unknown => {}
        }
        runs
    }

    /// The end of the latest run is seen: what announced it has served.
    fn served(&self, cx: &Cx) {
        let run = self.count.saturating_sub(1);
        let announced = format!("{}-{run}", self.asked.announced);
        cx.intents.served(&slot(announced));
    }

    /// How a run stands.
    fn stand(&self, machine: &Machine, now: Timestamp) -> Run {
        let check = self.asked.what.is_check();
        let timeout = self.asked.timeout.as_secs();
        let limit = self.asked.what.limit();
        let failed = |how: String| Run::Failed {
            out_of_memory: false,
            how,
        };
        let raise = format!("raise `[deploy] {limit}` in fly.toml if it needs more");
        // Nobody else's doing proves anything about the machine that a check tests.
        let ended_by_us = |at: Option<Timestamp>| {
            longer(machine.created_at, at.unwrap_or(now), self.asked.timeout)
        };
        if let Some(exit) = machine.exit_since_start() {
            let code = exit.guest_exit_code.or(exit.exit_code).unwrap_or(-1);
            return if exit.oom_killed == Some(true) {
                Run::Failed {
                    out_of_memory: true,
                    how: format!(
                        "ran out of memory: give it more with `{}` in fly.toml",
                        self.asked.what.memory()
                    ),
                }
            } else if exit.requested_stop != Some(true) && code == 0 {
                Run::Succeeded
            } else if exit.requested_stop != Some(true) {
                failed(format!("exited with code {code}{}", after(machine, exit)))
            } else if !check {
                failed(format!(
                    "was stopped before it had ended (allowed are {timeout} s: {raise})"
                ))
            } else if ended_by_us(exit.exited_at) {
                failed(format!("took longer than {timeout} s ({raise})"))
            } else {
                Run::Unknown
            };
        }
        match &machine.state {
            state if state.is_over() => {
                if !longer(machine.updated_at, now, TELLING) {
                    Run::Ending
                } else if !check {
                    failed(format!("was ended, or took longer than {timeout} s"))
                } else if ended_by_us(machine.updated_at) {
                    failed(format!("took longer than {timeout} s ({raise})"))
                } else {
                    Run::Unknown
                }
            }
            _ if hangs(machine, self.asked.timeout, now) => Run::Stuck,
            MachineState::Stopped | MachineState::Stopping => Run::Ending,
            _ => Run::Running,
        }
    }

    fn next(&self) -> Change {
        Change::Run {
            what: self.asked.what.clone(),
            name: format!("{}-{}", self.asked.name, self.count),
            announced: format!("{}-{}", self.asked.announced, self.count),
            region: self.asked.region.clone(),
            config: Box::new(self.asked.config.clone()),
        }
    }

    /// How much of the pause before another run is left: ever more with each run.
    fn rest(&self, machine: &Machine, now: Timestamp) -> Option<Duration> {
        let pause = backoff_without_spread(&self.timing, self.count + 1);
        let ended = machine.updated_at.unwrap_or(Timestamp::UNIX_EPOCH);
        let passed = Duration::try_from(now.duration_since(ended)).unwrap_or_default();
        pause.checked_sub(passed).filter(|left| !left.is_zero())
    }

    /// Whether there has been no run yet.
    pub fn is_new(&self) -> bool {
        self.last.is_none()
    }

    /// Whether the program of the latest has been started. When nothing tells, it has.
    pub fn has_run(&self) -> bool {
        self.last.as_ref().is_some_and(|machine| {
            let started = |kind: &str| ["start", "exit"].contains(&kind);
            let mut events = machine.events.iter();
            machine.events.is_empty() || events.any(|event| started(&event.kind))
        })
    }

    /// Where it stands.
    pub fn progress(&self, app: &str, now: Timestamp) -> Progress {
        let Some(machine) = &self.last else {
            return Progress::Needs(self.next());
        };
        let what = &self.asked.what;
        let name = format!("the machine {} ({})", machine.name, machine.id);
        let waits = |reason: Reason, text: String, wake: Wake| Progress::Waits {
            why: Why::new(reason, text),
            wake,
        };
        let runs = || format!("the {} runs in {name}", what.name());
        match self.stand(machine, now) {
            Run::Succeeded => Progress::Passed,
            Run::Running => waits(what.running(), runs(), until_gone(app, machine)),
            Run::Ending => waits(what.running(), runs(), Wake::After(SOON)),
            Run::Stuck => Progress::Needs(Change::End {
                name: machine.name.clone(),
                id: machine.id.clone(),
            }),
            // It proves nothing, so it is run again, ever more seldom.
            Run::Unknown => match self.rest(machine, now) {
                None => Progress::Needs(self.next()),
                Some(left) => waits(
                    Reason::OutcomeUnknown,
                    format!(
                        "the {} was ended in {name}, or could not start there, and nothing tells how it would have ended; it is run again",
                        what.name()
                    ),
                    Wake::After(left),
                ),
            },
            // Logs come a little later than the end that they explain.
            Run::Failed { .. } if self.lacks_its_log(machine, now) => {
                waits(what.running(), runs(), Wake::After(SOON))
            }
            Run::Failed { out_of_memory, how } => {
                let lines = self
                    .tail
                    .as_ref()
                    .map_or(String::new(), |tail| format!("; its last lines: {tail}"));
                // Mended elsewhere, it recovers by itself.
                let again = self.told && self.rest(machine, now).is_none();
                Progress::Failed {
                    why: Why::new(
                        match what {
                            What::Check { .. } => Reason::MachineCheckFailed,
                            _ if out_of_memory => Reason::OutOfMemory,
                            _ => Reason::ReleaseCommandFailed,
                        },
                        format!(
                            "the {} {how} in {name}; {}{lines}",
                            what.name(),
                            what.failed()
                        ),
                    ),
                    again: again.then(|| self.next()),
                }
            }
        }
    }

    /// What a check says decides about a release at once, so its last words are waited for, as long
    /// as anything is given to settle. As flyctl, which waits for ten seconds.
    fn lacks_its_log(&self, machine: &Machine, now: Timestamp) -> bool {
        let ended = machine.exit_since_start().and_then(|exit| exit.exited_at);
        self.asked.what.is_check()
            && self.tail.is_none()
            && ended.is_some_and(|ended| {
                let passed = Duration::try_from(now.duration_since(ended)).unwrap_or_default();
                passed < self.timing.settle
            })
    }

    /// Whether it is to be run, has run, or runs; a failure is told, and then it is run again.
    pub fn decide(&self, app: &str, now: Timestamp) -> Verdict<Change> {
        match self.progress(app, now) {
            Progress::Passed => Verdict::Done,
            Progress::Waits { why, wake } => Verdict::Wait { why, wake },
            Progress::Needs(change)
            | Progress::Failed {
                again: Some(change),
                ..
            } => Verdict::Change(change),
            Progress::Failed { why, again: None } => Verdict::Blocked(why),
        }
    }
}

/// Runs it, or ends a run.
///
/// # Errors
/// When Fly.io refuses or does not answer.
pub async fn apply(cx: &Cx, change: Change) -> Result<()> {
    let app = &cx.target.app;
    match change {
        Change::Run {
            what,
            name,
            announced: _,
            region,
            config,
        } => {
            let new = NewMachine {
                name: name.clone(),
                region,
                config: *config,
                min_secrets_version: cx.facts.secrets_version.get().map(|version| *version),
                ..NewMachine::default()
            };
            let created = cx.fly.create_machine(app, &new).await;
            let known = &cx.facts.one_offs;
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
        // Only what carries our mark gets here.
        Change::End { name, id } => {
            let deleted = cx.fly.delete_machine(app, &id, true, None).await;
            cx.facts.one_offs.clear();
            deleted.map_err(|source| Error::fly(format!("destroy the machine {name}"), source))
        }
    }
}

/// How long a list that lacks a machine is believed: until its create is announced.
const NONE_FOR: Duration = Duration::from_secs(1);

/// The machines that fill one place, as they were last seen.
#[derive(Clone, Debug)]
pub struct Known {
    slot: String,
    listed: Instant,
    /// In the order in which they were created.
    machines: Vec<Machine>,
}

impl Known {
    /// The machines, as they were then.
    pub fn machines(&self) -> &[Machine] {
        &self.machines
    }
}

/// The machines that fill this place, also destroyed ones, in the order of their creation. Listed
/// once: from then on only this process makes more, and only those change whose end is not told
/// yet. These are read by their ids, for the list is limited to one a second (fly-api.md B.1).
/// `lacks` says that one is to be created for lack of it, which only a fresh list can tell.
///
/// # Errors
/// When Fly.io does not answer.
pub async fn machines_of(
    cx: &Cx,
    slot: &str,
    lacks: impl Fn(&[Machine]) -> bool,
) -> Result<Vec<Machine>> {
    let known = cx.facts.one_offs.get();
    if let Some(known) = known.filter(|known| known.slot == slot)
        && let Some(machines) = read_again(cx, &known.machines).await?
        && (!lacks(&machines) || known.listed.elapsed() < NONE_FOR)
    {
        cx.facts.one_offs.set(Known {
            machines: machines.clone(),
            ..(*known).clone()
        });
        return Ok(machines);
    }
    let marks = [(UID_KEY, cx.owner.uid.as_str()), (SLOT_KEY, slot)];
    let listed = Instant::now();
    let machines = cx
        .fly
        .machines_and_destroyed(&cx.target.app, &marks)
        .await
        .map_err(|source| Error::fly("look for the machines of commands", source));
    let mut machines = machines?;
    // The server filters; a platform that does not know the filter must not mislead us.
    machines.retain(|machine| {
        fleet::is_ours(machine, &cx.owner) && machine.metadata(SLOT_KEY) == Some(slot)
    });
    machines.sort_by_key(|machine| machine.created_at);
    cx.facts.one_offs.set(Known {
        slot: slot.to_owned(),
        listed,
        machines: machines.clone(),
    });
    Ok(machines)
}

/// Reads those again that can still change; `None` when only a list can tell: one is not there,
/// and may be so new that not every reader knows it.
async fn read_again(cx: &Cx, machines: &[Machine]) -> Result<Option<Vec<Machine>>> {
    let read = machines.iter().map(|machine| async move {
        if machine.state.is_over() && machine.exit_since_start().is_some() {
            return Ok(Some(machine.clone()));
        }
        let found = cx.fly.machine(&cx.target.app, &machine.id).await;
        found.map_err(|source| {
            Error::fly(format!("read the command's machine {}", machine.id), source)
        })
    });
    Ok(try_join_all(read).await?.into_iter().collect())
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

#[cfg(test)]
mod commands;

#[cfg(test)]
pub(in crate::phase::deploy) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::{Value, json};

    use super::*;

    const APP: &str = "cabanas";

    pub fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_780_000_000 + seconds).unwrap()
    }

    /// A check that may take a minute, and the machine of its first run.
    pub fn runs(machine: Option<Value>) -> Runs {
        let machine = machine.map(|more| {
            let mut machine = json!({
                "id": "t0", "name": "golive-check-0", "state": "destroyed",
                "created_at": at(0).to_string(), "updated_at": at(10).to_string(),
            });
            let fields = machine.as_object_mut().unwrap();
            fields.extend(more.as_object().unwrap().clone());
            serde_json::from_value(machine).unwrap()
        });
        Runs {
            asked: OneOff {
                what: What::Check {
                    command: "curl -f".to_owned(),
                    tested: "golive-app-0 (m0)".to_owned(),
                },
                name: "golive-check".to_owned(),
                announced: "golive-check".to_owned(),
                region: "eze".to_owned(),
                config: MachineConfig::default(),
                timeout: Duration::from_secs(60),
            },
            count: u32::from(machine.is_some()),
            last: machine,
            told: false,
            tail: Some("curl: (7)".to_owned()),
            timing: Timing::default(),
        }
    }

    /// How a program ended, at this second.
    pub fn exit(second: i64, event: Value) -> Value {
        let mut exit = json!({"exited_at": at(second).to_string()});
        let fields = exit.as_object_mut().unwrap();
        fields.extend(event.as_object().unwrap().clone());
        json!({"events": [{
            "id": "e", "type": "exit", "timestamp": at(second).as_millisecond(),
            "request": {"exit_event": exit},
        }]})
    }

    fn name_of(progress: &Progress) -> &str {
        match progress {
            Progress::Needs(Change::Run { name, .. }) => name,
            Progress::Needs(Change::End { id, .. }) => id,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_check_that_has_not_run_is_run_and_the_exit_code_decides() {
        let progress = runs(None).progress(APP, at(0));
        assert_eq!(name_of(&progress), "golive-check-0");

        let passed = runs(Some(exit(10, json!({"exit_code": 0}))));
        assert_eq!(passed.progress(APP, at(11)), Progress::Passed);

        let failed = runs(Some(exit(
            10,
            json!({"exit_code": 0, "guest_exit_code": 22}),
        )));
        let Progress::Failed { why, again: None } = failed.progress(APP, at(11)) else {
            panic!("not failed");
        };
        assert_eq!(why.reason, Reason::MachineCheckFailed);
        for told in ["`curl -f`", "golive-app-0 (m0)", "code 22", "curl: (7)"] {
            assert!(why.message.contains(told), "{told}: {}", why.message);
        }
    }

    #[test]
    fn a_test_whose_end_is_not_known_has_neither_passed_nor_failed() {
        let stopped = exit(10, json!({"exit_code": 0, "requested_stop": true}));
        let gone = json!({});
        for machine in [stopped, gone] {
            let runs = runs(Some(machine));
            let soon = runs.progress(APP, at(11));
            assert!(matches!(soon, Progress::Waits { .. }), "{soon:?}");
            let later = runs.progress(APP, at(600));
            assert_eq!(name_of(&later), "golive-check-1", "it is run again");
        }
    }

    #[test]
    fn a_test_that_takes_too_long_is_ended_and_has_failed() {
        let running = runs(Some(json!({"state": "started"})));
        let waits = running.progress(APP, at(59));
        assert!(matches!(waits, Progress::Waits { .. }), "{waits:?}");
        assert_eq!(name_of(&running.progress(APP, at(61))), "t0");

        let ended = exit(61, json!({"exit_code": 137, "requested_stop": true}));
        let ended = runs(Some(ended)).progress(APP, at(62));
        let Progress::Failed { why, .. } = ended else {
            panic!("{ended:?}");
        };
        assert!(why.message.contains("longer than 60 s"), "{}", why.message);
    }

    #[test]
    fn a_failure_is_told_before_the_test_is_run_again_and_its_last_lines_are_waited_for() {
        let mut failed = runs(Some(exit(10, json!({"exit_code": 1}))));
        let again = |runs: &Runs| match runs.progress(APP, at(600)) {
            Progress::Failed { again, .. } => again.is_some(),
            other => panic!("{other:?}"),
        };
        assert!(!again(&failed));
        failed.told = true;
        assert!(again(&failed));

        failed.tail = None;
        let soon = failed.progress(APP, at(11));
        assert!(matches!(soon, Progress::Waits { .. }), "{soon:?}");
        assert!(again(&failed), "a program may have said nothing");
    }
}
