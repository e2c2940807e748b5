//! The state of one run of a program, from its machine. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::program::Program;
use crate::fly::{Machine, MachineState, machines::ExitEvent};

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
}

/// The state of the run of a program in this machine; `limit` is its longest run.
pub fn of(program: &Program, limit: Duration, machine: &Machine, now: Timestamp) -> Run {
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
