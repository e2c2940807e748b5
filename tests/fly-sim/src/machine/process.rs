//! A machine's program as a local process that cannot outlive the simulator.
//!
//! A shell starts a watcher in the background and then becomes the program (`exec`), so that the
//! process id, signals and exit status are the program's own. The watcher reads a pipe that only
//! the simulator holds; when it ends, because we close it or die, it kills the process group.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;

use super::{ExecRequest, ExecResult};

const GUARD: &str = r#"exec 3<&0
(
  while read -r _; do :; done
  kill -s KILL -- "-$$"
) <&3 3<&- >/dev/null 2>&1 &
exec "$@" 3<&- </dev/null"#;

/// Longest line of output that is kept, in bytes.
const LINE_LIMIT: usize = 8 * 1024;

/// Most output of a command that is given back, in bytes per stream.
const OUTPUT_LIMIT: u64 = 1024 * 1024;

/// Longest time from a program's end until its output is read: a child of its own that has left its
/// process group may hold the pipe for as long as it likes.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What to run.
#[derive(Clone, Debug)]
pub struct Program {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Its whole environment.
    pub env: BTreeMap<String, String>,
    /// Its working directory.
    pub dir: PathBuf,
}

/// A running program. Dropping it kills it and what it started.
#[derive(Debug)]
pub struct Running {
    child: Child,
    pid: Pid,
    lifeline: Option<ChildStdin>,
    /// What reads its output.
    output: Vec<JoinHandle<()>>,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Exit code as Fly shows it: 128 plus the signal if a signal ended it.
    pub code: i32,
    /// The signal, or -1.
    pub signal: i32,
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        let signal = status.signal().unwrap_or(-1);
        let code = status.code().unwrap_or(128 + signal.max(0));
        Self { code, signal }
    }
}

fn command(program: &Program) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", GUARD, "guard"])
        .args(&program.argv)
        .env_clear()
        .envs(&program.env)
        .current_dir(&program.dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    command
}

impl Running {
    /// Starts a program; `line` gets each line that it prints, and whether it came from stderr.
    pub fn spawn(
        program: &Program,
        line: impl Fn(String, bool) + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let mut child = command(program).spawn()?;
        let pid = child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .ok_or_else(|| io::Error::other("the process has no id"))?;
        let lifeline = child.stdin.take();
        let mut output = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            let line = line.clone();
            output.push(tokio::spawn(lines(stdout, move |text| line(text, false))));
        }
        if let Some(stderr) = child.stderr.take() {
            output.push(tokio::spawn(lines(stderr, move |text| line(text, true))));
        }
        Ok(Self {
            child,
            pid: Pid::from_raw(pid),
            lifeline,
            output,
        })
    }

    /// Process id, which is also that of its group.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Sends a signal to the program.
    pub fn signal(&self, signal: Signal) {
        // Without an id it has been waited for: the number may be somebody else's by now.
        if self.child.id().is_some() {
            let _ = kill(self.pid, signal);
        }
    }

    /// Waits until it has ended and all that it printed is read: who is told of the end reads the log
    /// at once. What it started ends with it. A wait that is given up can be begun again.
    pub async fn wait(&mut self) -> Exit {
        let exit = match self.child.wait().await {
            Ok(status) => status.into(),
            Err(_) => Exit {
                code: 255,
                signal: -1,
            },
        };
        self.lifeline = None;
        let read = async {
            while let Some(task) = self.output.last_mut() {
                let _ = task.await;
                self.output.pop();
            }
        };
        let _ = tokio::time::timeout(LAST_WORDS, read).await;
        self.output.clear();
        exit
    }
}

/// Splits output into lines of bounded length.
async fn lines(stream: impl AsyncRead + Unpin, line: impl Fn(String)) {
    let mut reader = BufReader::new(stream);
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        let mut limited = (&mut reader).take(LINE_LIMIT as u64);
        match limited.read_until(b'\n', &mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&buffer);
                line(text.trim_end_matches(['\n', '\r']).to_owned());
            }
        }
    }
}

/// Runs a command to its end; `None` when it took longer than `limit` and was killed.
pub async fn run(
    program: &Program,
    request: &ExecRequest,
    limit: Duration,
) -> io::Result<Option<ExecResult>> {
    let has_input = !request.stdin.is_empty();
    let mut command = command(program);
    if has_input {
        // The guard gives the program an empty standard input; with input, it runs unguarded and
        // is killed when its time is over or the simulator drops it.
        command = Command::new(program.argv.first().map_or("", String::as_str));
        command
            .args(program.argv.iter().skip(1))
            .env_clear()
            .envs(&program.env)
            .current_dir(&program.dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
    }
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take();
    let input = request.stdin.clone();
    let feed = async move {
        if has_input && let Some(mut pipe) = stdin.take() {
            let _ = pipe.write_all(input.as_bytes()).await;
            return None;
        }
        stdin
    };
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let whole = async {
        let (lifeline, stdout, stderr) = tokio::join!(feed, read(stdout), read(stderr));
        let status = child.wait().await?;
        drop(lifeline);
        Ok::<_, io::Error>((status, stdout, stderr))
    };
    let Ok(done) = tokio::time::timeout(limit, whole).await else {
        return Ok(None);
    };
    let (status, stdout, stderr) = done?;
    Ok(Some(ExecResult {
        exit_code: status.code().unwrap_or(0),
        exit_signal: status.signal().unwrap_or(0),
        stdout,
        stderr,
    }))
}

async fn read(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        let _ = (&mut stream)
            .take(OUTPUT_LIMIT)
            .read_to_end(&mut bytes)
            .await;
        // Drain the rest, so that the program does not hang on a full pipe.
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Where a program is: itself if it has a slash, else in `path`.
pub fn find(name: &str, path: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Path::new(name).is_file().then(|| name.into());
    }
    path.split(':')
        .map(|dir| Path::new(dir).join(name))
        .find(|file| file.is_file())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn shell(script: &str) -> Program {
        Program {
            argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            env: BTreeMap::from([("PATH".to_owned(), std::env::var("PATH").unwrap())]),
            dir: std::env::temp_dir(),
        }
    }

    #[tokio::test]
    async fn a_program_has_its_own_exit_code_signals_and_output() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        let mut running = Running::spawn(
            // Not INT: a shell cannot trap what was ignored when it began, as INT is behind a `&`.
            &shell("trap 'exit 7' TERM; echo up; while :; do sleep 0.01; done"),
            move |line, _| sink.lock().unwrap().push(line),
        )
        .unwrap();
        while !seen.lock().unwrap().contains(&"up".to_owned()) {
            tokio::task::yield_now().await;
        }
        running.signal(Signal::SIGTERM);
        let exit = running.wait().await;
        assert_eq!(
            exit,
            Exit {
                code: 7,
                signal: -1
            }
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_end_is_told_once_all_output_is_read() {
        for _ in 0..50 {
            let seen = Arc::new(Mutex::new(Vec::new()));
            let sink = Arc::clone(&seen);
            let script = "sleep 600 & echo out; echo err >&2; exit 3";
            let mut running = Running::spawn(&shell(script), move |line, _| {
                sink.lock().unwrap().push(line);
            })
            .unwrap();
            let exit = running.wait().await;
            assert_eq!(exit.code, 3);
            let mut seen = std::mem::take(&mut *seen.lock().unwrap());
            seen.sort_unstable();
            assert_eq!(seen, ["err", "out"]);
        }
    }

    #[tokio::test]
    async fn a_dropped_program_is_gone_with_its_children() {
        let (tx, mut rx) = tokio::sync::mpsc::unbounded_channel();
        let running = Running::spawn(&shell("sleep 600 & echo $!; wait"), move |line, _| {
            let _ = tx.send(line);
        })
        .unwrap();
        let grandchild = Pid::from_raw(rx.recv().await.unwrap().parse().unwrap());
        assert!(kill(grandchild, None).is_ok());
        drop(running);
        tokio::time::timeout(Duration::from_secs(10), async {
            // A zombie that nobody has waited for still answers: look at its state instead.
            while std::fs::read_to_string(format!("/proc/{grandchild}/stat"))
                .is_ok_and(|stat| !stat.contains(") Z"))
            {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn a_command_gives_its_output_and_code_and_is_killed_in_time() {
        let request = |stdin: &str| ExecRequest {
            command: Vec::new(),
            stdin: stdin.to_owned(),
        };
        let limit = Duration::from_secs(10);
        let done = run(
            &shell("echo out; echo err >&2; exit 3"),
            &request(""),
            limit,
        )
        .await
        .unwrap()
        .unwrap();
        assert_eq!((done.exit_code, done.stdout.as_str()), (3, "out\n"));
        assert_eq!(done.stderr, "err\n");
        let done = run(&shell("cat"), &request("hello"), limit)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(done.stdout, "hello");
        let late = run(&shell("sleep 600"), &request(""), Duration::from_millis(50)).await;
        assert!(late.unwrap().is_none());
    }
}
