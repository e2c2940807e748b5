//! The command line of the kubectl plugin: `kubectl golive`.
//!
//! Exit codes: 0 success, 1 failure (the reason is on standard error), 2 wrong usage. A command is
//! a file with `Args` and `run`, and a line in [`Command`].
//! May use: everything below the programs. Start reading in `render`, which works offline.

mod cel;
mod connect;
mod manifest;
mod output;
mod render;
mod rollback;
mod schema;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::output::Output;

/// Exit code of a command that failed.
const FAILED: u8 = 1;

/// Take a web application live on Fly.io from one Kubernetes object.
#[derive(Debug, Parser)]
#[command(name = "kubectl golive", bin_name = "kubectl golive", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
enum Command {
    /// Print the machine configurations that would be sent to Fly.io; needs no cluster and no token.
    Render(render::Args),
    /// Restore an earlier release, and hold back what the spec asks for until the spec changes.
    Rollback(rollback::Args),
}

/// Runs the plugin with the arguments of the process.
pub fn main() -> ExitCode {
    // On wrong usage clap ends the process with exit code 2, and on --help with 0.
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Render(args) => render::run(&args),
        Command::Rollback(args) => online(rollback::run(&args)),
    };
    match done {
        Ok(Output { text, warnings }) => {
            for warning in warnings {
                complain(&format!("warning: {warning}"));
            }
            // A closed pipe, such as by `head`, is no failure.
            match io::stdout().lock().write_all(text.as_bytes()) {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    complain(&format!("error: cannot write the output: {error}"));
                    ExitCode::from(FAILED)
                }
                _ => ExitCode::SUCCESS,
            }
        }
        Err(error) => {
            complain(&format!("error: {}", crate::causes::chain(&*error)));
            ExitCode::from(FAILED)
        }
    }
}

/// Runs a command that talks to the cluster.
fn online<E>(
    command: impl Future<Output = Result<Output, E>>,
) -> Result<Output, Box<dyn std::error::Error>>
where
    E: std::error::Error + 'static,
{
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
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound_and_speaks_of_kubectl_golive() {
        Cli::command().debug_assert();
        let usage = Cli::command().render_usage().to_string();
        assert!(usage.contains("kubectl golive <COMMAND>"), "{usage}");
    }
}
