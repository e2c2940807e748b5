//! The command line of the kubectl plugin: `kubectl golive`.
//!
//! Exit codes: 0 success, 1 failure (the reason is on standard error), 2 wrong usage; `wait` has more. A
//! command is a file with `Args` and `run`, a line in [`Command`] and one in `run`. What it shows is
//! derived by pure functions: an object and the time in, lines or a document out.
//! May use: everything below the programs. Start reading in `render`, which works offline.

mod abort;
mod ages;
mod cel;
mod completion;
mod confirm;
mod connect;
mod decide;
mod events;
mod explain;
mod forget;
mod format;
mod gitops;
mod history;
mod lint;
mod list;
mod logs;
mod manifest;
mod output;
mod plan;
mod refused;
mod render;
mod report;
mod retry;
mod rollback;
mod rotate;
mod rules;
mod schema;
mod status;
mod style;
mod suspend;
mod version;
mod wait;
mod watch;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, error::ErrorKind};

use self::output::Output;
#[cfg(test)]
pub(crate) use self::rules::import_of;

/// Exit code of a command that failed.
const FAILED: u8 = 1;

/// Take a web application live on Fly.io from one Kubernetes object.
#[derive(Debug, Parser)]
#[command(name = "kubectl golive", bin_name = "kubectl golive", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
enum Command {
    /// Show an Activation as a tree: its site, its spec, its phases, who waits for what, and what to do.
    Status(status::Args),
    /// List Activations.
    List(list::Args),
    /// Show Activations as they change.
    Watch(watch::Args),
    /// Wait until an Activation is live, its integrations are verified, or its watch has ended well.
    Wait(wait::Args),
    /// Show the changes that are planned or being made.
    Plan(plan::Args),
    /// Approve the plan that waits at a gate.
    Approve(decide::ApproveArgs),
    /// Reject the plan that waits at a gate.
    Reject(decide::RejectArgs),
    /// Try again what has stopped.
    Retry(retry::Args),
    /// Stop all work on an Activation.
    Suspend(suspend::SuspendArgs),
    /// End a suspension.
    Resume(suspend::ResumeArgs),
    /// Stop the work on the current plan, and leave everything as it is.
    Abort(abort::Args),
    /// Replace the values of the generated secrets.
    Rotate(rotate::Args),
    /// Let a deletion end that cannot reach Fly.io, and leave what is there.
    Forget(forget::Args),
    /// Show the releases on record.
    History(history::Args),
    /// Show the events of Activations.
    Events(events::Args),
    /// Show log lines of the machines, from Fly.io, with your own token.
    Logs(logs::Args),
    /// Say what a reason means and what to do; needs no cluster.
    Explain(explain::Args),
    /// Print the machine configurations that would be sent to Fly.io; needs no cluster and no token.
    Render(render::Args),
    /// Check manifests, as the API server and the operator would; needs no cluster.
    Lint(lint::Args),
    /// Restore an earlier release, and hold back what the spec asks for until the spec changes.
    Rollback(rollback::Args),
    /// Print all that is known of an Activation: checklist, phases, checks, releases, objectives with curves.
    Report(report::Args),
    /// Print the objectives as rules for Prometheus, Sloth, Pyrra or OpenSLO, or import them.
    Rules(rules::Args),
    /// Show the versions of this program, of the operator and of the definitions, and whether they fit.
    Version(version::Args),
    /// Print a script that completes commands, flags and names in a shell.
    Completion(completion::Args),
    /// What kubectl asks for while somebody types.
    #[command(name = "__complete", hide = true)]
    Complete(completion::CompleteArgs),
}

type Done = Result<Output, Box<dyn Error>>;

/// Runs the plugin with the arguments of the process.
pub fn main() -> ExitCode {
    // On wrong usage clap ends the process with exit code 2, and on --help with 0.
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if is_bare(&error, std::env::args_os().count()) => {
            let help = Cli::command().render_help().to_string();
            return finish(&Output::text(help));
        }
        Err(error) => error.exit(),
    };
    match run(&cli.command) {
        Ok(output) => finish(&output),
        Err(error) => {
            complain(&format!("error: {}", crate::causes::chain(&*error)));
            ExitCode::from(FAILED)
        }
    }
}

/// Whether nothing was asked for, which is no mistake: as by kubectl, the help is the answer.
fn is_bare(error: &clap::Error, words: usize) -> bool {
    words <= 1 && error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
}

fn run(command: &Command) -> Done {
    match command {
        Command::Status(args) => online(status::run(args)),
        Command::List(args) => online(list::run(args)),
        Command::Watch(args) => online(watch::run(args)),
        Command::Wait(args) => online(wait::run(args)),
        Command::Plan(args) => online(plan::run(args)),
        Command::Approve(args) => online(decide::approve(args)),
        Command::Reject(args) => online(decide::reject(args)),
        Command::Retry(args) => online(retry::run(args)),
        Command::Suspend(args) => online(suspend::suspend(args)),
        Command::Resume(args) => online(suspend::resume(args)),
        Command::Abort(args) => online(abort::run(args)),
        Command::Rotate(args) => online(rotate::run(args)),
        Command::Forget(args) => online(forget::run(args)),
        Command::History(args) => online(history::run(args)),
        Command::Events(args) => online(events::run(args)),
        Command::Logs(args) => online(logs::run(args)),
        Command::Explain(args) => explain::run(args),
        Command::Render(args) => render::run(args),
        Command::Lint(args) => lint::run(args),
        Command::Rollback(args) => online(rollback::run(args)),
        Command::Report(args) => online(report::run(args)),
        Command::Rules(args) => online(rules::run(args)),
        Command::Version(args) => online(version::run(args)),
        Command::Completion(args) => Ok(completion::run(args, Cli::command())),
        Command::Complete(args) => online(completion::complete(args, Cli::command())),
    }
}

/// Prints the output, and returns its exit code.
fn finish(output: &Output) -> ExitCode {
    for warning in &output.warnings {
        complain(&format!("warning: {warning}"));
    }
    let mut out = io::stdout().lock();
    let written = out
        .write_all(output.text.as_bytes())
        .and_then(|()| out.flush());
    // A closed pipe, such as by `head`, is no failure.
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!("error: cannot write the output: {error}"));
            ExitCode::from(FAILED)
        }
        _ => ExitCode::from(output.code),
    }
}

/// Runs a command that talks to the cluster.
fn online<E: Error + 'static>(command: impl Future<Output = Result<Output, E>>) -> Done {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(command)?)
}

fn complain(line: &str) {
    // A closed standard error cannot be reported.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound_and_speaks_of_kubectl_golive() {
        Cli::command().debug_assert();
        let usage = Cli::command().render_usage().to_string();
        assert!(usage.contains("kubectl golive <COMMAND>"), "{usage}");
        let help = Cli::command().render_help().to_string();
        assert!(
            help.starts_with("Take a web application live on Fly.io"),
            "{help}"
        );
    }

    #[test]
    fn the_program_alone_shows_its_help_and_a_wrong_command_is_a_mistake() {
        let error = |words: &[&str]| Cli::try_parse_from(words).unwrap_err();
        assert!(is_bare(&error(&["kubectl-golive"]), 1));
        assert!(!is_bare(&error(&["kubectl-golive", "statsu"]), 2));
        assert!(!is_bare(&error(&["kubectl-golive", "wait"]), 2));
    }

    #[test]
    fn the_help_of_every_command_has_an_example() {
        let mut cli = Cli::command();
        cli.build();
        for command in cli.get_subcommands_mut() {
            let name = command.get_name().to_owned();
            if name == "help" || command.is_hide_set() {
                continue;
            }
            let help = command.render_long_help().to_string();
            assert!(
                help.contains(&format!("Usage: kubectl golive {name}")),
                "{help}"
            );
            let examples = help.split("Examples:").nth(1).unwrap_or_default();
            assert!(
                examples.contains(&format!("  kubectl golive {name}")),
                "{name} has no example"
            );
        }
    }
}
