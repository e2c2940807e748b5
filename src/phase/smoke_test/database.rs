//! The check of the database: a command in a machine of the app, where the database can be
//! reached; when no command can be run there, what the application itself says of it from outside.
//!
//! A command that the spec names decides: it passes when it exits with 0 and fails otherwise. The
//! default ones are guesses about the image, so they can only pass; when none does, the indirect
//! way decides. Which way passed, and why not the direct one, stands in the report.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    check::{self, Try},
    edge::{self, AllTries, Observed},
    tries::Tries,
};
use crate::{
    api::{Reason, policy::Mode, smoke_test::Check},
    error::Error,
    fly::{self, Class, Conflict, ExecRequest, Machine, MachineState},
    flytoml,
    phase::deploy::fleet::roster,
    pipeline::{Cx, Note, Step, StepId, Verdict, Why, step::Result},
    plan::Target,
};

/// The checks that are commands in a machine.
pub struct DatabaseCheck;

/// Longest time of one command, in seconds: the step shares the reconcile's deadline.
const LONGEST: u64 = 20;

/// Calls in a row that Fly.io does not answer before the command counts as not to be had.
const PATIENCE: u32 = 3;

/// What is known about running commands, for one target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    stamp: String,
    /// The machine that answered.
    machine: Option<String>,
    /// The default command that passed; `Some(None)`: none of them does.
    default: Option<Option<usize>>,
    /// Calls in a row that failed without an answer.
    failures: u32,
}

/// A command that may prove that the database answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// What it is called in the report.
    pub name: String,
    /// The program and its arguments.
    pub argv: Vec<String>,
}

/// What came of running a command in a machine.
enum Ran {
    /// It ended with this code; 0 is success.
    Ended(i64, Duration),
    /// It did not end in time.
    TooLong(Duration),
    /// It could not be run. Says why.
    Not(String),
}

/// The default commands: the application's own, then the tools of PostgreSQL.
///
/// The application's own is `<program> db-check`, where the program is that of the fly.toml's
/// release command, if that is a program with a subcommand of its own (`cabanas migrate`).
pub fn default_commands(target: &Target) -> Vec<Command> {
    let mut commands = Vec::new();
    let release = target
        .config_or_invalid()
        .ok()
        .and_then(|config| config.app.deploy.release_command.clone());
    if let Some(program) = release.as_deref().and_then(own_program) {
        commands.push(Command {
            name: format!("exec {program} db-check"),
            argv: vec![program, "db-check".to_owned()],
        });
    }
    for (name, line) in [
        (
            "exec psql",
            r#"export PGCONNECT_TIMEOUT=5; exec psql "$DATABASE_URL" -XAtqc 'select 1'"#,
        ),
        (
            "exec pg_isready",
            r#"exec pg_isready -q -t 5 -d "$DATABASE_URL""#,
        ),
    ] {
        commands.push(Command {
            name: name.to_owned(),
            // Its words are not wanted: an error of psql may quote the address.
            argv: ["sh", "-c", &format!("{line} >/dev/null 2>&1")]
                .map(str::to_owned)
                .to_vec(),
        });
    }
    commands
}

/// Programs that run others: a subcommand of theirs is a file, a script or a package.
const RUNNERS: [&str; 22] = [
    "sh", "bash", "ash", "dash", "env", "node", "npm", "npx", "pnpm", "yarn", "bun", "deno",
    "python", "python3", "poetry", "uv", "ruby", "bundle", "php", "java", "mix", "make",
];

/// The program of a command line such as `cabanas migrate`.
fn own_program(line: &str) -> Option<String> {
    let words = flytoml::split(line).ok()?;
    let (program, rest) = words.split_first()?;
    let name = program.rsplit('/').next().unwrap_or(program);
    let is_subcommand = rest
        .first()
        .is_some_and(|word| word.starts_with(|c: char| c.is_ascii_lowercase()));
    let plain = program
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte));
    (is_subcommand && plain && !RUNNERS.contains(&name)).then(|| program.clone())
}

fn given(check: &Check) -> Option<Command> {
    let argv = check.database.as_ref()?.command.clone();
    let program = argv.first()?;
    // Arguments are the user's own business.
    Some(Command {
        name: format!("exec {program}"),
        argv,
    })
}

/// One try of a check.
async fn attempt(cx: &Cx, check: &Check) -> Result<Try> {
    let why = match directly(cx, check).await? {
        Ok(tried) => return Ok(tried),
        Err(why) => why,
    };
    let ways = check::ways(check);
    if ways.is_empty() {
        return Ok(Try::failed(
            given(check).map_or_else(|| "exec".to_owned(), |command| command.name),
            Reason::ExecUnavailable,
            format!("{why}; the check declares no fallbacks"),
        ));
    }
    let host = edge::host(&cx.target);
    let tried = check::attempt(&cx.probe, &host, &ways, edge::timeout(cx, check)).await?;
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

/// Runs the command, or the default ones. The inner error says why that cannot be done.
async fn directly(cx: &Cx, check: &Check) -> Result<std::result::Result<Try, String>> {
    if cx.target.mode == Mode::Plan {
        return Ok(Err(
            "nothing is run in machines while only planning".to_owned()
        ));
    }
    let stamp = cx.target.stamp();
    let mut known = cx
        .facts
        .exec
        .get()
        .filter(|known| known.stamp == stamp)
        .map_or_else(
            || Known {
                stamp: stamp.to_owned(),
                ..Known::default()
            },
            |known| (*known).clone(),
        );
    let result = match given(check) {
        Some(command) => decide(cx, check, &command, &mut known).await,
        None => guess(cx, check, &mut known).await,
    };
    cx.facts.exec.set(known);
    result
}

/// The command of the spec: its end decides.
async fn decide(
    cx: &Cx,
    check: &Check,
    command: &Command,
    known: &mut Known,
) -> Result<std::result::Result<Try, String>> {
    let name = command.name.clone();
    Ok(match run(cx, check, command, known).await? {
        Ran::Ended(0, took) => Ok(Try::passed(name, "exited with 0".to_owned(), took)),
        // What a shell says of a program that is not there, or is none.
        Ran::Ended(code @ (126 | 127), _) => Err(format!("{name} cannot be run (code {code})")),
        Ran::Ended(code, took) => Ok(Try {
            took,
            ..Try::failed(
                name,
                Reason::SmokeCheckFailed,
                format!("exited with {code}"),
            )
        }),
        Ran::TooLong(limit) => Ok(Try {
            took: limit,
            ..Try::failed(
                name,
                Reason::SmokeCheckFailed,
                format!("did not end within {} s", limit.as_secs()),
            )
        }),
        Ran::Not(why) => Err(why),
    })
}

/// The default commands: the first that passes decides.
async fn guess(
    cx: &Cx,
    check: &Check,
    known: &mut Known,
) -> Result<std::result::Result<Try, String>> {
    let none = "none of the default commands passes in the machine";
    let commands = default_commands(&cx.target);
    if known.default == Some(None) {
        return Ok(Err(none.to_owned()));
    }
    let first = known.default.flatten();
    let order = first
        .into_iter()
        .chain((0..commands.len()).filter(|index| Some(*index) != first));
    let mut ends = Vec::new();
    for index in order {
        let Some(command) = commands.get(index) else {
            continue;
        };
        match run(cx, check, command, known).await? {
            Ran::Ended(0, took) => {
                known.default = Some(Some(index));
                let message = "exited with 0".to_owned();
                return Ok(Ok(Try::passed(command.name.clone(), message, took)));
            }
            Ran::Ended(code, _) => ends.push(format!("{}: code {code}", command.name)),
            Ran::TooLong(_) => ends.push(format!("{}: too slow", command.name)),
            Ran::Not(why) if known.machine.is_none() => return Ok(Err(why)),
            Ran::Not(_) => ends.push(format!("{}: not there", command.name)),
        }
    }
    // One that passed before may pass again; where none ever did, none is tried again.
    if first.is_none() {
        known.default = Some(None);
    }
    Ok(Err(format!("{none} ({})", ends.join(", "))))
}

/// Runs one command in a machine of the app.
async fn run(cx: &Cx, check: &Check, command: &Command, known: &mut Known) -> Result<Ran> {
    let id = match known.machine.clone() {
        Some(id) => id,
        None => match choose(&roster::ours(cx).await?, &cx.target) {
            Some(machine) => machine.id.clone(),
            None => return Ok(Ran::Not("no machine of the app is started".to_owned())),
        },
    };
    let seconds = check.timeout.get().as_secs().clamp(1, LONGEST);
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
            // As a shell counts a program that a signal ended.
            let code = if signal == 0 { code } else { 128 + signal };
            return Ok(Ran::Ended(code, began.elapsed()));
        }
        Err(error) => error,
    };
    if error.status() == Some(408) {
        known.failures = 0;
        return Ok(Ran::TooLong(Duration::from_secs(seconds)));
    }
    if command_refused(&error) {
        // The machine is there: it is the command that cannot be run.
        known.failures = 0;
        known.machine = Some(id);
        return Ok(Ran::Not(error.to_string()));
    }
    known.machine = None;
    if exec_refused(&error) {
        known.failures = 0;
        return Ok(Ran::Not(error.to_string()));
    }
    known.failures += 1;
    if known.failures >= PATIENCE {
        return Ok(Ran::Not(error.to_string()));
    }
    Err(Error::fly(
        "run the check of the database in a machine",
        error,
    ))
}

/// True when Fly.io says that there is no such program (fly-api.md I).
fn command_refused(error: &fly::Error) -> bool {
    error.status() == Some(400)
}

/// True when Fly.io says that no command can be run there: no such call or machine, not allowed,
/// not started, leased.
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

/// A started machine, of the default process group when there is one.
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

impl Step for DatabaseCheck {
    type Observed = Observed;
    type Change = Infallible;

    fn id(&self) -> StepId {
        StepId::DatabaseCheck
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        let before: Arc<AllTries> = cx.facts.database_tries.get().unwrap_or_default();
        let mut seen: Vec<(Check, Tries)> = Vec::new();
        let checks = cx.target.smoke_checks.iter();
        // One after the other: Fly.io counts commands by machine.
        for check in checks.filter(|check| check.database.is_some()) {
            let mut tries = before.get(&check.name).cloned().unwrap_or_default();
            let now = Instant::now();
            tries.begin(check, cx.target.stamp(), now);
            if tries.due(check, now) {
                let tried = attempt(cx, check).await?;
                tries.took(tried, Instant::now());
            }
            seen.push((check.clone(), tries));
        }
        cx.facts.database_tries.set(edge::by_name(&seen));
        Ok(Observed(seen))
    }

    fn diff(&self, target: &Target, observed: &Observed, _now: Timestamp) -> Verdict<Infallible> {
        if observed.0.is_empty() {
            let why = Why::new(Reason::NotRequested, "no check of a database");
            return Verdict::Skipped(why);
        }
        let action = format!(
            "look at the database and at `fly logs -a {}`, mend it or the check, and it is tried again by itself",
            target.app
        );
        edge::verdict(&action, &observed.0)
    }

    fn notes(&self, _target: &Target, observed: &Observed) -> Vec<Note> {
        edge::notes(observed)
    }

    async fn act(&self, _cx: &Cx, change: Infallible) -> Result<()> {
        match change {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::preflight::check::target;

    fn names(spec: &str) -> Vec<String> {
        let commands = default_commands(&target(spec, &[]));
        commands.into_iter().map(|command| command.name).collect()
    }

    #[test]
    fn the_own_program_is_asked_first_when_the_release_command_shows_one() {
        let with = |line: &str| {
            format!("deploy: {{config: {{inline: \"[deploy]\\nrelease_command = '{line}'\\n\"}}}}")
        };
        let tools = ["exec psql", "exec pg_isready"];
        assert_eq!(names(""), tools);
        assert_eq!(names(&with("cabanas migrate"))[0], "exec cabanas db-check");
        assert_eq!(
            names(&with("/app/bin/shop migrate up"))[0],
            "exec /app/bin/shop db-check"
        );
        for guess_that_would_be_wild in [
            "npm run migrate",
            "python manage.py migrate",
            "sh -c migrate",
            "./migrate.sh",
            "bundle exec rake db:migrate",
        ] {
            assert_eq!(names(&with(guess_that_would_be_wild)), tools);
        }
    }

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
