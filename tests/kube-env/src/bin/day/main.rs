//! Runs the commands of `docs/tasks/a-day-with-golive.md` in a local world, one after the other, and writes
//! what they print below each. `make day` is this program. The page is its own script: a line in a block
//! ```` ```console ```` that begins with `$ ` is a command, and lines with `> ` go on with it. A comment
//! `<!-- run: COMMAND -->` is run and not shown; `<!-- picture: FILE: COMMAND -->` is run on a terminal, and
//! what is on it becomes a picture.

mod page;
mod picture;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use clap::Parser;

use crate::page::Part;

/// Runs the day of a team in a local world, and writes its page.
#[derive(Parser)]
struct Cli {
    /// The page.
    #[arg(long, default_value = "docs/tasks/a-day-with-golive.md")]
    page: PathBuf,

    /// The environment of the world, which `world up` wrote.
    #[arg(long, default_value = ".golive/day/env")]
    env: PathBuf,

    /// Where the programs are.
    #[arg(long, default_value = "target/debug")]
    programs: PathBuf,

    /// Write nothing, and fail where the output has another shape than that of the page.
    #[arg(long)]
    check: bool,
}

/// How long a person reads before an answer.
const READING: Duration = Duration::from_secs(3);

/// Why the day ends early.
type Failure = Box<dyn std::error::Error>;

/// A shell in the world.
struct Shell {
    prelude: String,
    folder: tempfile::TempDir,
}

impl Shell {
    fn new(cli: &Cli) -> Result<Self, Failure> {
        let absolute = |path: &Path| std::path::absolute(path);
        let env = absolute(&cli.env)?;
        let programs = absolute(&cli.programs)?;
        let folder = tempfile::tempdir()?;
        let prelude = format!(
            ". '{}'; export PATH='{}':\"$PATH\"; cd '{}'\n",
            env.display(),
            programs.display(),
            folder.path().display()
        );
        Ok(Self { prelude, folder })
    }

    /// What a command prints, on both outputs in their order.
    fn run(&self, command: &str) -> Result<String, Failure> {
        let script = format!("{}exec 2>&1\n{command}\n", self.prelude);
        let output = Command::new("bash").args(["-c", &script]).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(self.steady(&text))
    }

    /// The bytes that a command sends to a terminal of this size.
    fn on_terminal(&self, command: &str) -> Result<Vec<u8>, Failure> {
        let (rows, columns) = picture::SIZE;
        let script = format!(
            "{}export TERM=xterm-256color; stty rows {rows} cols {columns}; {command}",
            self.prelude
        );
        let mut child = Command::new("script")
            .args(["--quiet", "--return", "--command", &script, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .env("SHELL", "/bin/bash")
            .spawn()?;
        // A person reads what is asked before the answer.
        let stdin = child.stdin.take();
        let asks = command.contains(" approve ") && !command.contains("--yes");
        let person = std::thread::spawn(move || -> std::io::Result<()> {
            std::thread::sleep(READING);
            match stdin {
                Some(mut stdin) if asks => {
                    stdin.write_all(b"y\n")?;
                    std::thread::sleep(READING);
                    Ok(())
                }
                _ => Ok(()),
            }
        });
        let output = child.wait_with_output()?;
        // A command that asked nothing has ended before the answer.
        drop(person);
        Ok(output.stdout)
    }

    /// Without folders of this machine.
    fn steady(&self, text: &str) -> String {
        let folder = self.folder.path().display().to_string();
        text.replace(&folder, "~/shop")
    }
}

fn day(cli: &Cli) -> Result<bool, Failure> {
    let shell = Shell::new(cli)?;
    let text = std::fs::read_to_string(&cli.page)?;
    let mut parts = page::parse(&text);
    let mut same = true;
    for part in &mut parts {
        match part {
            Part::Prose(_) => {}
            Part::Hidden(_, command) => {
                eprintln!("({command})");
                let said = shell.run(command)?;
                eprint!("{said}");
            }
            Part::Picture(_, file, command) => {
                eprintln!("[{file}] {command}");
                let bytes = shell.on_terminal(command)?;
                let drawn = picture::draw(&bytes, command);
                let folder = cli.page.parent().unwrap_or(Path::new("."));
                if !cli.check {
                    std::fs::write(folder.join(file), drawn)?;
                }
            }
            Part::Command { command, output } => {
                eprintln!("$ {command}");
                let said = shell.run(command)?;
                eprint!("{said}");
                if page::shape(&said) != page::shape(output) {
                    same = false;
                    eprintln!("^ has another shape than in the page");
                }
                *output = said;
            }
        }
    }
    if !cli.check {
        std::fs::write(&cli.page, page::write(&parts))?;
        return Ok(true);
    }
    Ok(same)
}

fn main() -> ExitCode {
    match day(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("error: the page is out of date: `make day` writes it anew");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
