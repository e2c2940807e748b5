//! The check of the database: a command in a machine of the app, where the database can be reached.
//! When no command can be run there, the fallbacks of the check decide from outside.
//!
//! A declared command passes when it exits with 0, and fails otherwise. The default commands are
//! guesses about the image, so that they can only pass. The report names the command or fallback
//! that passed, and why the command was not the one.

use std::{collections::BTreeMap, convert::Infallible, time::Instant};

use jiff::Timestamp;

use super::{
    check::{self, Try},
    machine_command::{self, DefaultCommand, KnownExec, Ran},
    report::{self, ObservedChecks},
    tries::Tries,
};
use crate::{
    api::{Reason, policy::Mode, smoke_test::Check},
    phase::{
        database_probe::{Command, declared, default_commands},
        names::public_host,
    },
    pipeline::{Cx, Note, ProbeKind, Step, StepId, Verdict, Why, step::Result},
    plan::Target,
};

/// Runs the checks of the database.
pub struct DatabaseCheck;

/// Fact: the tries of each check since it was last decided.
#[derive(Clone, Debug, Default)]
struct DatabaseTries(BTreeMap<String, Tries>);

/// What a command in a machine shows of the database.
enum Direct {
    /// It was run.
    Tried(Try),
    /// It could not be run, for this reason.
    Unavailable(String),
}

/// Makes one try of a check.
async fn attempt(cx: &Cx, check: &Check) -> Result<Try> {
    let why = match directly(cx, check).await? {
        Direct::Tried(tried) => {
            return Ok(Try {
                kind: ProbeKind::Database,
                ..tried
            });
        }
        Direct::Unavailable(why) => why,
    };
    let ways = check::ways(check);
    if ways.is_empty() {
        let name = declared(check).map_or_else(|| "exec".to_owned(), |command| command.name);
        let message = format!("{why}; the check declares no fallbacks");
        return Ok(Try {
            kind: ProbeKind::Database,
            ..Try::failed(name, Reason::ExecUnavailable, message)
        });
    }
    let host = public_host(&cx.target.app);
    let tried = check::attempt(&cx.probe, &host, &ways, report::timeout(cx, check)).await?;
    Ok(Try {
        reason: if tried.passed {
            Reason::ExecUnavailable
        } else {
            tried.reason
        },
        message: format!("{}; indirectly, because {why}", tried.message),
        ..tried
    })
}

/// Runs the declared command, or the default ones.
async fn directly(cx: &Cx, check: &Check) -> Result<Direct> {
    if cx.target.mode == Mode::Plan {
        return Ok(Direct::Unavailable(
            "nothing is run in machines while only planning".to_owned(),
        ));
    }
    let mut known = KnownExec::of(cx);
    let result = match declared(check) {
        Some(command) => run_declared(cx, check, &command, &mut known).await,
        None => run_defaults(cx, check, &mut known).await,
    };
    cx.facts.set(known);
    result
}

/// Runs the command that the check declares: its exit code decides.
async fn run_declared(
    cx: &Cx,
    check: &Check,
    command: &Command,
    known: &mut KnownExec,
) -> Result<Direct> {
    let name = command.name.clone();
    Ok(
        match machine_command::run(cx, check, command, known).await? {
            Ran::Ended(0, took) => {
                Direct::Tried(Try::passed(name, "exited with 0".to_owned(), took))
            }
            // The exit codes of a shell for a program that does not exist or cannot be executed.
            Ran::Ended(code @ (126 | 127), _) => {
                Direct::Unavailable(format!("{name} cannot be run (code {code})"))
            }
            Ran::Ended(code, took) => Direct::Tried(Try {
                took,
                ..Try::failed(
                    name,
                    Reason::SmokeCheckFailed,
                    format!("exited with {code}"),
                )
            }),
            Ran::TimedOut(limit) => Direct::Tried(Try {
                took: limit,
                ..Try::failed(
                    name,
                    Reason::SmokeCheckFailed,
                    format!("did not end within {} s", limit.as_secs()),
                )
            }),
            Ran::Unavailable(why) => Direct::Unavailable(why),
        },
    )
}

/// Runs the default commands: the first that passes decides.
async fn run_defaults(cx: &Cx, check: &Check, known: &mut KnownExec) -> Result<Direct> {
    let none = "none of the default commands passes in the machine";
    let first = match known.default {
        DefaultCommand::None => return Ok(Direct::Unavailable(none.to_owned())),
        DefaultCommand::Passed(index) => Some(index),
        DefaultCommand::Unknown => None,
    };
    let commands = default_commands(&cx.target);
    let order = first
        .into_iter()
        .chain((0..commands.len()).filter(|index| Some(*index) != first));
    let mut ends = Vec::new();
    for index in order {
        let Some(command) = commands.get(index) else {
            continue;
        };
        match machine_command::run(cx, check, command, known).await? {
            Ran::Ended(0, took) => {
                known.default = DefaultCommand::Passed(index);
                let message = "exited with 0".to_owned();
                return Ok(Direct::Tried(Try::passed(
                    command.name.clone(),
                    message,
                    took,
                )));
            }
            Ran::Ended(code, _) => ends.push(format!("{}: code {code}", command.name)),
            Ran::TimedOut(_) => ends.push(format!("{}: too slow", command.name)),
            Ran::Unavailable(why) if !known.has_machine() => return Ok(Direct::Unavailable(why)),
            Ran::Unavailable(_) => ends.push(format!("{}: not there", command.name)),
        }
    }
    // A command that passed before may pass again; when none ever did, none is run again.
    if first.is_none() {
        known.default = DefaultCommand::None;
    }
    Ok(Direct::Unavailable(format!("{none} ({})", ends.join(", "))))
}

impl Step for DatabaseCheck {
    type Observed = ObservedChecks;
    type Change = Infallible;

    fn id(&self) -> StepId {
        StepId::DatabaseCheck
    }

    async fn observe(&self, cx: &Cx) -> Result<ObservedChecks> {
        let before = cx.facts.get::<DatabaseTries>().unwrap_or_default();
        let mut observed = ObservedChecks::default();
        let checks = cx.target.smoke_checks.iter();
        // One after the other: Fly.io limits the rate of commands for each machine.
        for check in checks.filter(|check| check.database.is_some()) {
            let mut tries = before.0.get(&check.name).cloned().unwrap_or_default();
            let now = Instant::now();
            tries.begin(check, cx.target.stamp(), now);
            if tries.is_due(check, now) {
                let tried = attempt(cx, check).await?;
                tries.add(tried, Instant::now());
            }
            observed.0.push((check.clone(), tries));
        }
        cx.facts.set(DatabaseTries(observed.by_name()));
        Ok(observed)
    }

    fn diff(
        &self,
        target: &Target,
        observed: &ObservedChecks,
        _now: Timestamp,
    ) -> Verdict<Infallible> {
        if observed.0.is_empty() {
            let why = Why::new(Reason::NotRequested, "no check of a database");
            return Verdict::Skipped(why);
        }
        let action = format!(
            "look at the database and at `fly logs -a {}`, and correct the database or the check; Golive retries",
            target.app
        );
        report::verdict(&action, observed)
    }

    fn notes(&self, _target: &Target, observed: &ObservedChecks) -> Vec<Note> {
        report::notes(observed)
    }

    async fn act(&self, _cx: &Cx, change: Infallible) -> Result<()> {
        match change {}
    }
}
