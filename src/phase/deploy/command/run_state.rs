//! The state of one run of a program, from its machine. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::program::Program;
use crate::{
    api::status::one_line,
    fly::{Machine, MachineState, machines::CheckResult, machines::ExitEvent},
    phase::{
        evidence::{cause, listening::Listening, start_time},
        marks::TRIAL_KEY,
    },
};

/// The mark of a trial that has passed.
const PASSED: &str = "passed";

/// Begins the mark of a trial that was not steady in time; what its checks said follows.
const LATE: &str = "late";

/// How long after its end the exit of a machine may not be readable yet.
pub const EXIT_DELAY: Duration = Duration::from_secs(15);

/// The state of one run.
#[derive(Debug, PartialEq)]
pub enum Run {
    /// It is running.
    Running,
    /// It has ended, and its exit cannot be read yet.
    Ending,
    /// It succeeded.
    Succeeded,
    /// It failed, for this reason.
    Failed {
        /// Whether it ran out of memory.
        out_of_memory: bool,
        /// The exit code, where the program has ended by itself.
        code: Option<i64>,
        /// What happened, for messages: "exited with code 1".
        how: String,
    },
    /// It has ended, and its exit is unknown, or somebody stopped it.
    Unknown,
    /// It could not start, or has run too long.
    Stuck,
    /// Its result is known, and is to be recorded on its machine before that ends.
    Decided(String),
}

/// The state of the run of a program in this machine; `limit` is its longest run.
pub fn of(program: &Program, limit: Duration, machine: &Machine, now: Timestamp) -> Run {
    if let Program::Trial { steady } = program {
        return trial(*steady, limit, machine, now);
    }
    let check = program.is_check();
    let timeout = limit.as_secs();
    let failed = |how: String| Run::Failed {
        out_of_memory: false,
        code: None,
        how,
    };
    let raise = format!(
        "raise `[deploy] {}` in fly.toml if it needs more",
        program.limit()
    );
    // A stop by somebody else proves nothing about the machine that a check tests.
    let ended_by_us = |at: Option<Timestamp>| longer(machine.created_at, at.unwrap_or(now), limit);
    if let Some(exit) = machine.exit_since_start() {
        let code = exit.guest_exit_code.or(exit.exit_code).unwrap_or(-1);
        return if exit.oom_killed == Some(true) {
            Run::Failed {
                out_of_memory: true,
                code: None,
                how: format!(
                    "ran out of memory: give it more with `{}` in fly.toml",
                    program.memory()
                ),
            }
        } else if exit.requested_stop != Some(true) && code == 0 {
            Run::Succeeded
        } else if exit.requested_stop != Some(true) {
            Run::Failed {
                out_of_memory: false,
                code: Some(code),
                how: format!("exited with code {code}{}", after(machine, exit)),
            }
        } else if !check {
            failed(format!(
                "was stopped before it had ended (limit {timeout} s: {raise})"
            ))
        } else if ended_by_us(exit.exited_at) {
            failed(format!("took longer than {timeout} s ({raise})"))
        } else {
            Run::Unknown
        };
    }
    match &machine.state {
        state if state.is_over() => {
            if !longer(machine.updated_at, now, EXIT_DELAY) {
                Run::Ending
            } else if !check {
                failed(format!("was ended, or took longer than {timeout} s"))
            } else if ended_by_us(machine.updated_at) {
                failed(format!("took longer than {timeout} s ({raise})"))
            } else {
                Run::Unknown
            }
        }
        _ if hangs(machine, limit, now) => Run::Stuck,
        MachineState::Stopped | MachineState::Stopping => Run::Ending,
        _ => Run::Running,
    }
}

/// The state of a trial. Its program does not end by itself, so that its result is recorded in the
/// metadata of its machine, which is then destroyed.
fn trial(steady: Duration, limit: Duration, machine: &Machine, now: Timestamp) -> Run {
    let failed = |code: Option<i64>, how: String| Run::Failed {
        out_of_memory: false,
        code,
        how,
    };
    let mark = machine.metadata(TRIAL_KEY).unwrap_or_default();
    let is_over = machine.state.is_over();
    if let Some(said) = mark.strip_prefix(LATE) {
        return match is_over {
            true => failed(
                None,
                format!("was not steady within {} s{said}", limit.as_secs()),
            ),
            false => Run::Stuck,
        };
    }
    if mark == PASSED {
        return match is_over {
            true => Run::Succeeded,
            false => Run::Stuck,
        };
    }
    if let Some(exit) = machine.exit_since_start()
        && exit.requested_stop != Some(true)
    {
        let code = exit.guest_exit_code.or(exit.exit_code).unwrap_or(-1);
        return match exit.oom_killed {
            Some(true) => Run::Failed {
                out_of_memory: true,
                code: None,
                how: "ran out of memory: give it more with `[[vm]] memory` in fly.toml".to_owned(),
            },
            _ => failed(
                Some(code),
                format!(
                    "exited with code {code}{}, and should keep running",
                    after(machine, exit)
                ),
            ),
        };
    }
    let launch_failed = |machine: &Machine| {
        let mut events = machine.events.iter();
        events.any(|event| MachineState::from(event.status.as_str()) == MachineState::LaunchFailed)
    };
    if is_over {
        return if launch_failed(machine) {
            failed(None, "could not start".to_owned())
        } else if longer(machine.updated_at, now, EXIT_DELAY) {
            // Somebody ended it, which proves nothing about the image.
            Run::Unknown
        } else {
            Run::Ending
        };
    }
    match machine.state {
        MachineState::Failed | MachineState::LaunchFailed => Run::Stuck,
        MachineState::Stopped | MachineState::Stopping => Run::Ending,
        MachineState::Started if is_steady(machine, steady, now) => Run::Decided(PASSED.to_owned()),
        _ if longer(machine.created_at, now, limit + steady) => {
            Run::Decided(format!("{LATE}{}", late(machine)))
        }
        _ => Run::Running,
    }
}

/// Whether a machine has run for this long, and all its checks pass.
fn is_steady(machine: &Machine, steady: Duration, now: Timestamp) -> bool {
    let declared = machine
        .config
        .as_ref()
        .map_or(0, |config| config.checks.len());
    let passing = |check: &crate::fly::machines::CheckStatus| check.status == CheckResult::Passing;
    machine.checks.len() >= declared
        && machine.checks.iter().all(passing)
        && start_time::running_for(machine, now).is_some_and(|ran| ran >= steady)
}

/// What the checks of a machine say that is not steady.
fn late(machine: &Machine) -> String {
    let declared = machine.config.as_ref().map(cause::declared);
    let declared = declared.unwrap_or_default();
    let found = cause::findings(&declared, &machine.checks, |_| Listening::Unknown);
    // A value of metadata, and so of bounded length.
    match found
        .first()
        .map(|found| (&found.output, one_line(&found.to_string(), 240)))
    {
        Some((output, advice)) if output.is_empty() => format!(": {advice}"),
        Some((output, advice)) => format!(" ({output}): {advice}"),
        None => String::new(),
    }
}

/// Whether more than this much time has passed. An unknown start counts as not elapsed.
fn longer(since: Option<Timestamp>, until: Timestamp, limit: Duration) -> bool {
    let limit = SignedDuration::try_from(limit).unwrap_or(SignedDuration::MAX);
    since.is_some_and(|since| until.duration_since(since) > limit)
}

/// Whether the machine of a command could not start, or has run longer than it may.
pub fn hangs(machine: &Machine, limit: Duration, now: Timestamp) -> bool {
    matches!(
        machine.state,
        MachineState::Failed | MachineState::LaunchFailed
    ) || longer(machine.created_at, now, limit)
}

/// How long a program ran.
fn after(machine: &Machine, exit: &ExitEvent) -> String {
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
