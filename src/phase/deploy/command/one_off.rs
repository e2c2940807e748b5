//! A program that runs once in a machine of its own: the release command, the seed command or one of
//! the machine checks.
//!
//! Such a machine is destroyed when its program ends (`auto_destroy`), and can still be read with its
//! exit code. So its metadata shows how it ended, also to another process. The name of a machine is
//! unique among live machines only, so that the create is announced: after an unknown outcome the
//! machine is looked up before another is created.

use std::{fmt, time::Duration};

use jiff::Timestamp;

use super::{
    again::Again,
    one_off_machines,
    program::Program,
    published,
    run_state::{self, Run},
};
use crate::{
    api::{Reason, status::one_line},
    clock::backoff_without_jitter,
    error::Error,
    fly::{self, Machine, MachineConfig, MachineState, NewMachine},
    phase::{
        evidence::{exit, last_lines},
        marks::{ATTEMPT_KEY, TRIAL_KEY},
        releases::record::CommandRun,
        roster,
    },
    pipeline::{ChangeVerb, Cx, PlannedChange, Slot, Timing, Verdict, Wake, Why, step::Result},
};

/// Pause between two observations of a trial, whose checks have no long poll.
const TRIAL_PAUSE: Duration = Duration::from_millis(500);

/// Most bytes of a failed program's last lines in a message, which also has to say what to do.
const LINES: usize = 420;

/// Pause between two observations of a machine that is ending.
const SOON: Duration = Duration::from_millis(300);

/// A program to run.
#[derive(Clone, Debug)]
pub struct OneOff {
    /// Which program.
    pub program: Program,
    /// Name of its machine without the number of the run.
    pub name: String,
    /// The name in the announcement, which may be known before the name of the machine is.
    pub announced: String,
    /// Where it runs.
    pub region: String,
    /// The configuration of its machine.
    pub config: MachineConfig,
    /// Longest run.
    pub timeout: Duration,
    /// What identifies the release and the command; empty where every run counts.
    pub attempt: String,
}

/// The machines of one program, as far as they are known.
#[derive(Debug)]
pub struct Runs {
    one_off: OneOff,
    /// The latest.
    last: Option<Machine>,
    /// The number of machines so far.
    count: u32,
    /// Whether the failure of the latest was published, which comes before another run.
    published: bool,
    /// Whether it runs again after a failure.
    again: Again,
    /// The last log lines of the latest, when it has failed.
    tail: Option<String>,
    timing: Timing,
}

/// What is sent next.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Run it.
    Run {
        /// Which program.
        program: Program,
        /// Name of the machine.
        name: String,
        /// The name in the announcement.
        announced: String,
        /// Where.
        region: String,
        /// Its configuration.
        config: Box<MachineConfig>,
    },
    /// Record the result of a trial on its machine.
    Mark {
        /// Name of the machine.
        name: String,
        /// Its id.
        id: String,
        /// The result.
        result: String,
    },
    /// End a run that takes too long, could not start, or is no longer waited for.
    End {
        /// Name of the machine.
        name: String,
        /// Its id.
        id: String,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run { program, name, .. } => {
                write!(f, "run the {} in the machine {name}", program.name())
            }
            Self::Mark { name, .. } => write!(f, "record the result of the machine {name}"),
            Self::End { name, .. } => write!(f, "end the command's machine {name}"),
        }
    }
}

impl Action {
    /// The same as data.
    pub fn planned(&self) -> PlannedChange {
        match self {
            Self::Run {
                program,
                name,
                region,
                config,
                ..
            } => {
                let run = PlannedChange::new(ChangeVerb::Run, program.kind(), name);
                run.set("image", &config.image).set("region", region)
            }
            Self::Mark { name, .. } => {
                PlannedChange::new(ChangeVerb::Record, "CommandResult", name)
            }
            Self::End { name, .. } => PlannedChange::new(ChangeVerb::Stop, "Command", name),
        }
    }

    /// A run is announced: names are unique among live machines only, and this machine ends.
    pub fn intent(&self) -> Option<Slot> {
        match self {
            Self::Run { announced, .. } => Some(slot(announced.clone())),
            Self::Mark { .. } | Self::End { .. } => None,
        }
    }
}

/// What ends the wait for a command: its machine is destroyed when its program ends.
pub(super) fn until_gone(app: &str, machine: &Machine) -> Wake {
    Wake::Machine {
        app: app.to_owned(),
        id: machine.id.clone(),
        version: None,
        state: MachineState::Destroyed,
        patience: Duration::from_secs(5),
    }
}

/// The announcement of a run with this name.
pub(super) fn slot(name: String) -> Slot {
    Slot {
        kind: "Machine".to_owned(),
        name,
    }
}

/// The progress of a program.
#[derive(Debug, PartialEq)]
pub enum Progress {
    /// It succeeded.
    Passed,
    /// It is running, or its exit is not known yet.
    Waits {
        /// What is awaited.
        why: Why,
        /// What ends the wait.
        wake: Wake,
    },
    /// This has to be sent.
    Needs(Action),
    /// It failed.
    Failed {
        /// How.
        why: Why,
        /// The next run, once the failure was published and the pause is over.
        again: Option<Action>,
    },
}

impl Runs {
    /// The runs of a program in these machines, oldest first.
    ///
    /// # Errors
    /// While Fly.io has not answered what the last one printed.
    pub async fn new(cx: &Cx, one_off: OneOff, mut machines: Vec<Machine>) -> Result<Self> {
        let mut runs = Self {
            count: u32::try_from(machines.len()).unwrap_or(u32::MAX),
            last: machines.pop(),
            one_off,
            tail: None,
            published: false,
            again: Again::Freely,
            timing: cx.installation.timing,
        };
        runs.forget_other_attempt(cx.fly_now());
        let Some(last) = &runs.last else {
            return Ok(runs);
        };
        match runs.state(last, cx.fly_now()) {
            // Its result is recorded already, or it could not start.
            Run::Stuck if matches!(runs.one_off.program, Program::Trial { .. }) => {
                runs.close_announcement(cx);
            }
            Run::Failed { .. } | Run::Stuck => {
                runs.close_announcement(cx);
                runs.published = published::is_published(cx, &last.id);
                runs.tail = last_lines::of(cx, &last.id, true).await?;
                published::note_published(cx, &last.id);
            }
            Run::Succeeded => runs.close_announcement(cx),
            Run::Running | Run::Ending | Run::Unknown | Run::Decided(_) => {}
        }
        Ok(runs)
    }

    /// A failed run of another release or another command line is no run of this one.
    fn forget_other_attempt(&mut self, now: Timestamp) {
        let is_other = self.last.as_ref().is_some_and(|machine| {
            let mark = machine.metadata(ATTEMPT_KEY);
            mark.is_some_and(|mark| mark != self.one_off.attempt)
                && matches!(self.state(machine, now), Run::Failed { .. })
        });
        if is_other {
            self.last = None;
        }
    }

    /// The same, with a limit to the runs after a failure.
    #[must_use]
    pub fn limited(self, again: impl FnOnce((&Program, &str), Option<&str>) -> Again) -> Self {
        let last = self.last.as_ref().map(|machine| machine.id.as_str());
        let again = again((&self.one_off.program, &self.one_off.attempt), last);
        Self { again, ..self }
    }

    /// The command whose failures are counted, and the machine of its latest run.
    pub fn command(&self) -> Option<CommandRun> {
        let last = self.last.as_ref().filter(|_| self.again != Again::Freely)?;
        Some(CommandRun {
            program: self.one_off.program.key().to_owned(),
            attempt: self.one_off.attempt.clone(),
            machine: last.id.clone(),
        })
    }

    /// The key of the command and when it ended, if it is one that runs once for a release and has run
    /// well.
    pub fn passed(&self, now: Timestamp) -> Option<(&'static str, Timestamp)> {
        let program = &self.one_off.program;
        let last = self.last.as_ref()?;
        let counts = matches!(program, Program::Release | Program::Seed);
        let exit = last.exit_since_start().and_then(|exit| exit.exited_at);
        let ended = exit.or(last.updated_at).unwrap_or(Timestamp::UNIX_EPOCH);
        (counts && self.state(last, now) == Run::Succeeded).then(|| (program.key(), ended))
    }

    /// Whether the latest run is not on record as failed.
    pub fn is_unrecorded(&self) -> bool {
        self.last.is_some() && self.again.is_unrecorded()
    }

    /// Closes the announcement of the latest run, whose end was observed.
    fn close_announcement(&self, cx: &Cx) {
        let run = self.count.saturating_sub(1);
        let announced = format!("{}-{run}", self.one_off.announced);
        cx.intents.served(&slot(announced));
    }

    /// The state of one of its runs.
    fn state(&self, machine: &Machine, now: Timestamp) -> Run {
        run_state::of(&self.one_off.program, self.one_off.timeout, machine, now)
    }

    fn next(&self) -> Action {
        Action::Run {
            program: self.one_off.program.clone(),
            name: format!("{}-{}", self.one_off.name, self.count),
            announced: format!("{}-{}", self.one_off.announced, self.count),
            region: self.one_off.region.clone(),
            config: Box::new(self.one_off.config.clone()),
        }
    }

    /// How much of the pause before the next run is left. The pause grows with each run.
    fn rest(&self, machine: &Machine, now: Timestamp) -> Option<Duration> {
        let pause = backoff_without_jitter(&self.timing, self.count + 1);
        let ended = machine.updated_at.unwrap_or(Timestamp::UNIX_EPOCH);
        let passed = Duration::try_from(now.duration_since(ended)).unwrap_or_default();
        pause.checked_sub(passed).filter(|left| !left.is_zero())
    }

    /// Whether the latest program was started. Without events it counts as started.
    pub fn has_run(&self) -> bool {
        self.last.as_ref().is_some_and(|machine| {
            let started = |kind: &str| ["start", "exit"].contains(&kind);
            let mut events = machine.events.iter();
            machine.events.is_empty() || events.any(|event| started(&event.kind))
        })
    }

    /// Its progress.
    pub fn progress(&self, app: &str, now: Timestamp) -> Progress {
        let Some(machine) = &self.last else {
            return match self.again.spent() {
                Some(why) => Progress::Failed { why, again: None },
                None => Progress::Needs(self.next()),
            };
        };
        let program = &self.one_off.program;
        let name = format!("the machine {} ({})", machine.name, machine.id);
        let waits = |reason: Reason, text: String, wake: Wake| Progress::Waits {
            why: Why::new(reason, text),
            wake,
        };
        let runs = || format!("the {} runs in {name}", program.name());
        match self.state(machine, now) {
            Run::Succeeded => Progress::Passed,
            Run::Running if matches!(program, Program::Trial { .. }) => {
                waits(program.running_reason(), runs(), Wake::After(TRIAL_PAUSE))
            }
            Run::Running => waits(program.running_reason(), runs(), until_gone(app, machine)),
            Run::Decided(result) => Progress::Needs(Action::Mark {
                name: machine.name.clone(),
                id: machine.id.clone(),
                result,
            }),
            Run::Ending => waits(program.running_reason(), runs(), Wake::After(SOON)),
            Run::Stuck => Progress::Needs(Action::End {
                name: machine.name.clone(),
                id: machine.id.clone(),
            }),
            // It proves nothing, so that it is run again after a pause that grows.
            Run::Unknown => match self.rest(machine, now) {
                None => Progress::Needs(self.next()),
                Some(left) => waits(
                    Reason::OutcomeUnknown,
                    format!(
                        "the {} in {name} was stopped or could not start, so that its result is unknown; Golive runs it again",
                        program.name()
                    ),
                    Wake::After(left),
                ),
            },
            // Logs arrive a little later than the exit that they explain.
            Run::Failed { .. } if self.lacks_its_log(machine, now) => {
                waits(program.running_reason(), runs(), Wake::After(SOON))
            }
            Run::Failed {
                out_of_memory,
                code,
                how,
            } => {
                let again = self.published
                    && self.rest(machine, now).is_none()
                    && self.again.is_allowed(self.has_run());
                Progress::Failed {
                    why: self.failure(&name, how, out_of_memory, code),
                    again: again.then(|| self.next()),
                }
            }
        }
    }

    /// Why the run in this machine failed, and what to do.
    fn failure(&self, machine: &str, how: String, out_of_memory: bool, code: Option<i64>) -> Why {
        let program = &self.one_off.program;
        let lines = self.tail.as_ref().map_or(String::new(), |tail| {
            format!("; its last lines: {}", one_line(tail, LINES))
        });
        let advice = code.and_then(|code| self.advice(code));
        let fix = program.fix(advice.as_deref());
        let reason = match program {
            Program::Check { .. } => Reason::MachineCheckFailed,
            Program::Trial { .. } if !out_of_memory => Reason::ImageTrialFailed,
            _ if out_of_memory => Reason::OutOfMemory,
            _ => Reason::ReleaseCommandFailed,
        };
        let failed = format!("the {} {how} in {machine}", program.name());
        match program {
            Program::Check { .. } => Why::new(reason, format!("{failed}; {fix}{lines}")).said(fix),
            _ => {
                let unchanged = "no machine of the application was changed";
                Why::new(reason, format!("{failed}; {unchanged}{lines}"))
                    .next(self.again.action(fix))
            }
        }
    }

    /// What to do about this exit code, if the code or the command line shows the cause.
    fn advice(&self, code: i64) -> Option<String> {
        let init = self.one_off.config.init.as_ref()?;
        let cause = exit::cause(code, &init.cmd)?;
        Some(cause.advice(self.one_off.program.key()))
    }

    /// Whether the log lines of a failed program have not arrived yet. What is published first is
    /// recorded and sent to people, so that they are waited for. As flyctl, which waits ten seconds.
    fn lacks_its_log(&self, machine: &Machine, now: Timestamp) -> bool {
        let ended = machine.exit_since_start().and_then(|exit| exit.exited_at);
        (self.one_off.program.is_check() || !self.published)
            && self.tail.is_none()
            && ended.is_some_and(|ended| {
                let passed = Duration::try_from(now.duration_since(ended)).unwrap_or_default();
                passed < self.timing.settle
            })
    }

    /// The verdict on it; a failure is published, and then the program is run again.
    pub fn decide(&self, app: &str, now: Timestamp) -> Verdict<Action> {
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

/// Runs a program, or ends a run.
///
/// # Errors
/// When Fly.io refuses or does not answer.
pub async fn apply(cx: &Cx, change: Action) -> Result<()> {
    let app = &cx.target.app;
    match change {
        Action::Run {
            program,
            name,
            announced: _,
            region,
            config,
        } => {
            let new = NewMachine {
                name: name.clone(),
                region,
                config: *config,
                min_secrets_version: crate::phase::app_secrets::version(cx),
                ..NewMachine::default()
            };
            let created = cx.fly.create_machine(app, &new).await;
            match &created {
                Ok(machine) => one_off_machines::note_created(cx, machine),
                Err(_) => one_off_machines::note_unknown(cx),
            }
            if let Program::Trial { .. } = program {
                // It does not end by itself: who no longer wants it must know it at once.
                match &created {
                    Ok(machine) => roster::note_created(cx, machine),
                    Err(_) => roster::note_unknown(cx),
                }
            }
            match created {
                Ok(_) => Ok(()),
                // It exists: an earlier try got through, and the list lags behind.
                Err(error) if matches!(error.conflict(), Some(fly::Conflict::NameTaken { .. })) => {
                    Ok(())
                }
                Err(source) => Err(Error::fly(
                    format!("run the {} in the machine {name}", program.name()),
                    source,
                )),
            }
        }
        Action::Mark { name, id, result } => {
            let mark = [(TRIAL_KEY.to_owned(), Some(result))].into();
            let marked = cx.fly.patch_metadata(app, &id, &mark, None).await;
            marked.map_err(|source| {
                Error::fly(format!("record the result of the machine {name}"), source)
            })
        }
        // Only machines with our metadata get here.
        Action::End { name, id } => {
            let deleted = cx.fly.delete_machine(app, &id, true, None).await;
            one_off_machines::note_unknown(cx);
            deleted.map_err(|source| Error::fly(format!("destroy the machine {name}"), source))
        }
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
            one_off: OneOff {
                program: Program::Check {
                    command: "curl -f".to_owned(),
                    tested: "golive-app-0 (m0)".to_owned(),
                },
                name: "golive-check".to_owned(),
                announced: "golive-check".to_owned(),
                region: "eze".to_owned(),
                config: MachineConfig::default(),
                timeout: Duration::from_secs(60),
                attempt: String::new(),
            },
            count: u32::from(machine.is_some()),
            last: machine,
            published: false,
            again: Again::Freely,
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
            Progress::Needs(Action::Run { name, .. }) => name,
            Progress::Needs(Action::End { id, .. }) => id,
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
        for text in ["`curl -f`", "golive-app-0 (m0)", "code 22", "curl: (7)"] {
            assert!(why.message.contains(text), "{text}: {}", why.message);
        }
    }

    #[test]
    fn a_test_with_an_unknown_exit_has_neither_passed_nor_failed() {
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
    fn a_failure_is_published_before_the_test_is_run_again_and_its_log_is_waited_for() {
        let mut failed = runs(Some(exit(10, json!({"exit_code": 1}))));
        let again = |runs: &Runs| match runs.progress(APP, at(600)) {
            Progress::Failed { again, .. } => again.is_some(),
            other => panic!("{other:?}"),
        };
        assert!(!again(&failed));
        failed.published = true;
        assert!(again(&failed));

        failed.tail = None;
        let soon = failed.progress(APP, at(11));
        assert!(matches!(soon, Progress::Waits { .. }), "{soon:?}");
        assert!(again(&failed), "a program may have said nothing");
    }
}
