//! Runs a command in a machine of the app.

use std::time::{Duration, Instant};

use crate::{
    api::smoke_test::Check,
    error::Error,
    fly::{self, Class, Conflict, ExecRequest, Machine, MachineState},
    flytoml,
    phase::{database_probe::Command, roster},
    pipeline::{Cx, step::Result},
    plan::Target,
};

/// Longest time of one command, in seconds: the step shares the deadline of the reconcile.
const MAX_SECONDS: u64 = 20;

/// Calls in a row without an answer of Fly.io, after which commands count as unavailable.
const MAX_FAILURES: u32 = 3;

/// Fact: what is known about running commands, for one target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownExec {
    /// Identifies the target.
    pub stamp: String,
    /// The machine that answered.
    machine: Option<String>,
    /// The default commands, as far as they were run.
    pub default: DefaultCommand,
    /// Calls in a row that failed without an answer.
    failures: u32,
}

impl KnownExec {
    /// What is known for this target.
    pub fn of(cx: &Cx) -> Self {
        let stamp = cx.target.stamp();
        match cx.facts.get::<Self>() {
            Some(known) if known.stamp == stamp => (*known).clone(),
            _ => Self {
                stamp: stamp.to_owned(),
                ..Self::default()
            },
        }
    }

    /// Whether a machine has answered.
    pub fn has_machine(&self) -> bool {
        self.machine.is_some()
    }
}

/// Which of the default commands decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DefaultCommand {
    /// None was run yet.
    #[default]
    Unknown,
    /// The one with this index: the image has it.
    Decides(usize),
    /// The image has none of them.
    None,
}

/// What came of running a command in a machine.
#[derive(Debug)]
pub enum Ran {
    /// It ended with this code, after this time; 0 is success.
    Ended(i64, Duration),
    /// It did not end within this time.
    TimedOut(Duration),
    /// It could not be run, for this reason.
    Unavailable(String),
}

/// Runs one command in a machine of the app.
///
/// # Errors
/// When Fly.io does not answer, fewer than three times in a row.
pub async fn run(cx: &Cx, check: &Check, command: &Command, known: &mut KnownExec) -> Result<Ran> {
    let id = match known.machine.clone() {
        Some(id) => id,
        None => match choose(&roster::ours(cx).await?, &cx.target) {
            Some(machine) => machine.id.clone(),
            None => {
                return Ok(Ran::Unavailable(
                    "no machine of the app is started".to_owned(),
                ));
            }
        },
    };
    let seconds = check.timeout.get().as_secs().clamp(1, MAX_SECONDS);
    let request = ExecRequest {
        command: command.argv.clone(),
        timeout: u32::try_from(seconds).ok(),
        stdin: None,
        container: None,
    };
    let began = Instant::now();
    let answer = cx.fly.exec(&cx.target.app, &id, &request, None).await;
    let error = match answer {
        Ok(outcome) => {
            known.failures = 0;
            known.machine = Some(id);
            let signal = outcome.exit_signal.unwrap_or(0);
            let code = outcome.exit_code.unwrap_or(0);
            // A shell reports a program that a signal ended in the same way.
            let code = if signal == 0 { code } else { 128 + signal };
            return Ok(Ran::Ended(code, began.elapsed()));
        }
        Err(error) => error,
    };
    if error.status() == Some(408) {
        known.failures = 0;
        return Ok(Ran::TimedOut(Duration::from_secs(seconds)));
    }
    if command_refused(&error) {
        // The machine answered: it is the command that cannot be run.
        known.failures = 0;
        known.machine = Some(id);
        return Ok(Ran::Unavailable(error.to_string()));
    }
    known.machine = None;
    if exec_refused(&error) {
        known.failures = 0;
        return Ok(Ran::Unavailable(error.to_string()));
    }
    known.failures += 1;
    if known.failures >= MAX_FAILURES {
        return Ok(Ran::Unavailable(error.to_string()));
    }
    Err(Error::fly(
        "run the check of the database in a machine",
        error,
    ))
}

/// True when Fly.io says that there is no such program.
fn command_refused(error: &fly::Error) -> bool {
    error.status() == Some(400)
}

/// True when Fly.io says that no command can be run in the machine: it does not exist, is not
/// started or is leased, or the token may not run commands.
fn exec_refused(error: &fly::Error) -> bool {
    error.is_forbidden()
        || matches!(
            error.class(),
            Class::Gone
                | Class::Invalid
                | Class::Conflict(Conflict::State | Conflict::Lease { .. })
        )
        || matches!(error.status(), Some(405 | 501))
}

/// A started machine, preferably of the default process group.
fn choose<'a>(machines: &'a [Machine], target: &Target) -> Option<&'a Machine> {
    let group = target
        .config_or_invalid()
        .map(|config| config.app.default_group())
        .unwrap_or_default();
    let of_group =
        |machine: &&Machine| machine.metadata(flytoml::PROCESS_GROUP_KEY) == Some(group.as_str());
    let usable = |machine: &&Machine| {
        machine.state == MachineState::Started
            && machine.metadata(flytoml::PROCESS_GROUP_KEY) != Some(flytoml::RELEASE_COMMAND_GROUP)
    };
    let started = || machines.iter().filter(usable);
    started().find(of_group).or_else(|| started().next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::testing::target;

    #[test]
    fn a_command_runs_where_the_application_runs() {
        let machine = |id: &str, state, group: &str| Machine {
            id: id.to_owned(),
            state,
            config: Some(fly::MachineConfig {
                metadata: [(flytoml::PROCESS_GROUP_KEY.to_owned(), group.to_owned())].into(),
                ..fly::MachineConfig::default()
            }),
            ..Machine::default()
        };
        let machines = [
            machine("r", MachineState::Started, flytoml::RELEASE_COMMAND_GROUP),
            machine("w", MachineState::Started, "worker"),
            machine("s", MachineState::Stopped, "app"),
            machine("a", MachineState::Started, "app"),
        ];
        let target = target("", &[]);
        let chosen = |machines: &[Machine]| choose(machines, &target).map(|m| m.id.clone());
        assert_eq!(chosen(&machines).as_deref(), Some("a"));
        assert_eq!(chosen(&machines[..3]).as_deref(), Some("w"));
        assert_eq!(
            chosen(&machines[..1]),
            None,
            "the release command's is not one"
        );
    }
}
