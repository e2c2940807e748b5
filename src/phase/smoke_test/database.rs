//! The check of the database: a command in a machine of the app, where the database can be reached.
//! When no command can be run there, the fallbacks of the check decide from outside.
//!
//! A command that runs and fails is a failure, and no fallback hides it. The default commands are
//! guesses about the image: one that the image does not have is no failure. The report names the
//! command or fallback that passed, and why the command was not the one. Without a database in the
//! spec there is nothing to prove, and the checks are skipped.

use std::{convert::Infallible, time::Instant};

use jiff::Timestamp;

use super::{
    check::{self, Try},
    look::{self, Look},
    machine_command::{self, DefaultCommand, KnownExec, Ran},
    memory::Memory,
    question,
    report::{self, ObservedChecks, verified},
};
use crate::{
    api::{
        Reason,
        policy::Mode,
        smoke_test::Check,
        status::{CheckResult, SmokeTestResult},
    },
    phase::{
        database_probe::{Command, Guess, declared, default_commands},
        names::public_host,
    },
    pipeline::{
        Cx, Note, PlannedChange, ProbeKind, ProvedBy, Step, StepId, Verdict, Why, facts::Facts,
        step::Result,
    },
    plan::{SmokeCheck, Target},
};

/// Runs the checks of the database.
pub struct DatabaseCheck;

/// Fact: what was found for the present plan.
#[derive(Clone, Debug, Default)]
struct DatabaseMemory(Memory);

/// Forgets the tries so far: they were made of other machines.
pub fn forget_tries(facts: &Facts) {
    if facts.get::<DatabaseMemory>().is_some() {
        facts.change_or_default::<DatabaseMemory>(|memory| memory.0.tries.clear());
    }
}

/// The checks of a database.
fn database_checks(target: &Target) -> impl Iterator<Item = &SmokeCheck> {
    let checks = target.proof.checks.iter();
    checks.filter(|smoke| smoke.check.database.is_some())
}

/// What is said of a check of a database that the spec does not have.
const NO_DATABASE: &str = "the spec has no database (`provision.postgres`), so there is nothing to prove: name the database, or remove the check";

/// The note about a check that is skipped.
fn skipped(smoke: &SmokeCheck) -> Note {
    let result = SmokeTestResult {
        check: smoke.check.name.clone(),
        result: CheckResult::Skipped,
        reason: Reason::NotRequested.to_string(),
        message: NO_DATABASE.to_owned(),
        ..SmokeTestResult::default()
    };
    Note::SmokeTest(result, ProbeKind::Database)
}

/// What a command in a machine shows of the database.
enum Direct {
    /// It was run.
    Tried(Try),
    /// It could not be run, for this reason.
    Unavailable(String),
}

/// Makes one try of a check.
async fn attempt(cx: &Cx, smoke: &SmokeCheck) -> Result<Try> {
    let check = &smoke.check;
    let why = match directly(cx, check).await? {
        Direct::Tried(tried) => {
            return Ok(Try {
                kind: ProbeKind::Database,
                ..tried
            });
        }
        Direct::Unavailable(why) => why,
    };
    let questions = question::questions(smoke);
    if questions.is_empty() {
        let name = declared(check).map_or_else(|| "exec".to_owned(), |command| command.name);
        let message = format!("{why}; the check has no fallbacks");
        return Ok(Try {
            kind: ProbeKind::Database,
            ..Try::failed(name, Reason::ExecUnavailable, message)
        });
    }
    let host = public_host(&cx.target.app);
    let tried = check::attempt(&cx.probe, &host, &questions, report::timeout(cx, check)).await?;
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
            // The exit codes of a shell for a program that does not exist or cannot be executed.
            Ran::Ended(code @ (126 | 127), _) => {
                Direct::Unavailable(format!("{name} cannot be run (code {code})"))
            }
            Ran::Unavailable(why) => Direct::Unavailable(why),
            ran @ (Ran::Ended(..) | Ran::TimedOut(_)) => Direct::Tried(tried(name, &ran)),
        },
    )
}

/// Runs the default commands: the first that the image has decides.
async fn run_defaults(cx: &Cx, check: &Check, known: &mut KnownExec) -> Result<Direct> {
    let none = "the image has none of the default commands";
    let commands = default_commands(&cx.target);
    let from = match known.default {
        DefaultCommand::None => return Ok(Direct::Unavailable(none.to_owned())),
        DefaultCommand::Decides(index) => index,
        DefaultCommand::Unknown => 0,
    };
    let mut ends = Vec::new();
    for (index, command) in commands.iter().enumerate().skip(from) {
        let name = command.name.clone();
        let ran = machine_command::run(cx, check, command, known).await?;
        if matches!(ran, Ran::Unavailable(_)) && !known.has_machine() {
            let Ran::Unavailable(why) = ran else { continue };
            return Ok(Direct::Unavailable(why));
        }
        let decides = match ran {
            Ran::Unavailable(_) => {
                ends.push(format!("{name}: not there"));
                false
            }
            // The exit codes of a shell for a program that does not exist or cannot be executed.
            Ran::Ended(126 | 127, _) => {
                ends.push(format!("{name}: not there"));
                false
            }
            Ran::Ended(0, _) => true,
            Ran::Ended(..) | Ran::TimedOut(_) if command.guess == Guess::Tool => true,
            // An own program may not know the subcommand, and then ends with any code.
            Ran::Ended(code, _) => knows(cx, check, command, code, known).await?,
            Ran::TimedOut(_) => matches!(known.default, DefaultCommand::Decides(_)),
        };
        if decides {
            known.default = DefaultCommand::Decides(index);
            return Ok(Direct::Tried(tried(name, &ran)));
        }
        if let Ran::Ended(code, _) = ran
            && !matches!(code, 126 | 127)
        {
            ends.push(format!("{name}: no such subcommand (code {code})"));
        } else if matches!(ran, Ran::TimedOut(_)) {
            ends.push(format!("{name}: does not end"));
        }
    }
    if known.default == DefaultCommand::Unknown {
        known.default = DefaultCommand::None;
    }
    Ok(Direct::Unavailable(format!("{none} ({})", ends.join(", "))))
}

/// Whether the program knows the subcommand that ended with this code. One that it cannot know ends
/// with the same code if it does not.
async fn knows(
    cx: &Cx,
    check: &Check,
    command: &Command,
    code: i64,
    known: &mut KnownExec,
) -> Result<bool> {
    if matches!(known.default, DefaultCommand::Decides(_)) {
        return Ok(true);
    }
    let Some(other) = command.unknown_subcommand() else {
        return Ok(false);
    };
    let ran = machine_command::run(cx, check, &other, known).await?;
    Ok(matches!(ran, Ran::Ended(end, _) if end != code && end != 0))
}

/// The try that a command made.
fn tried(name: String, ran: &Ran) -> Try {
    let failed = |message: String| Try::failed(name.clone(), Reason::SmokeCheckFailed, message);
    match ran {
        Ran::Ended(0, took) => Try::passed(name, "exited with 0".to_owned(), *took),
        Ran::Ended(code, took) => Try {
            took: *took,
            ..failed(format!("exited with {code}"))
        },
        Ran::TimedOut(limit) => Try {
            took: *limit,
            ..failed(format!("did not end within {} s", limit.as_secs()))
        },
        Ran::Unavailable(why) => failed(why.clone()),
    }
}

impl Step for DatabaseCheck {
    type Observed = ObservedChecks;
    type Change = Infallible;

    fn id(&self) -> StepId {
        StepId::DatabaseCheck
    }

    fn expected(&self, cx: &Cx) -> Vec<PlannedChange> {
        match cx.target.database() {
            Some(_) => verified(database_checks(&cx.target)),
            None => Vec::new(),
        }
    }

    async fn observe(&self, cx: &Cx) -> Result<ObservedChecks> {
        let before = cx.facts.get::<DatabaseMemory>();
        let mut memory = Memory::of(cx, before.map(|before| before.0.clone()));
        if cx.target.database().is_none() || database_checks(&cx.target).next().is_none() {
            return Ok(ObservedChecks::default());
        }
        let names: Vec<&str> = database_checks(&cx.target)
            .map(|smoke| smoke.check.name.as_str())
            .collect();
        cx.outside.keep_only(StepId::DatabaseCheck, &names);
        let mut begun = names.iter();
        let mut awaited = begun.any(|name| cx.outside.awaits(StepId::DatabaseCheck, name));
        let look = match awaited {
            // A try that was begun is counted.
            true => Look::Try,
            false => look::decide(cx, &memory).await?,
        };
        let mut checks = Vec::new();
        // One after the other: Fly.io limits the rate of commands for each machine.
        for smoke in database_checks(&cx.target) {
            let check = &smoke.check;
            let mut tries = memory.tries.get(&check.name).cloned().unwrap_or_default();
            let now = Instant::now();
            if look == Look::Try {
                tries.begin(check, cx.target.stamp(), now);
                let begun = cx.outside.awaits(StepId::DatabaseCheck, &check.name);
                if tries.is_due(check, now) && (begun || !awaited) {
                    let (of, smoke) = (cx.clone(), smoke.clone());
                    let attempt = || async move { attempt(&of, &smoke).await };
                    let stamp = cx.target.stamp();
                    let tried = cx.outside.ask(&check.name, stamp, attempt).await;
                    awaited = tried.is_none();
                    if let Some(tried) = tried {
                        tries.add(tried?, Instant::now());
                    }
                }
            }
            checks.push((check.clone(), tries));
        }
        if look == Look::Try {
            memory.look(cx);
        }
        let observed = ObservedChecks::of(cx, checks, look, &mut memory);
        memory.tries = observed.by_name();
        cx.facts.set(DatabaseMemory(memory));
        Ok(observed)
    }

    fn diff(
        &self,
        target: &Target,
        observed: &ObservedChecks,
        _now: Timestamp,
    ) -> Verdict<Infallible> {
        if observed.checks.is_empty() {
            let message = match database_checks(target).next() {
                Some(_) => NO_DATABASE,
                None => "no check of a database",
            };
            return Verdict::Skipped(Why::new(Reason::NotRequested, message));
        }
        let action = format!(
            "look at the database and at `fly logs -a {}`, and correct the database or the check; Golive retries",
            target.app
        );
        report::verdict(&action, observed)
    }

    fn notes(&self, target: &Target, observed: &ObservedChecks) -> Vec<Note> {
        if observed.checks.is_empty() {
            return database_checks(target).map(skipped).collect();
        }
        report::notes(observed, ProvedBy::Database)
    }

    async fn act(&self, _cx: &Cx, change: Infallible) -> Result<()> {
        match change {}
    }
}
