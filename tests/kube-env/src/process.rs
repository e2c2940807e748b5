//! Child processes that never outlive the program that started them, not even when it is killed
//! with SIGKILL.
//!
//! A child runs under a small shell script (`process/guard.sh`) whose standard input is a pipe
//! that only we hold. When we drop our end, or the kernel closes it because we died, the guard
//! asks the child to end, waits, and kills it.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

const GUARD: &str = include_str!("process/guard.sh");

/// How often a condition is checked while waiting for it.
const LOOK: Duration = Duration::from_millis(10);

/// Bytes of a log that an error shows.
const TAIL: u64 = 4 * 1024;

/// What to run, and how to end it.
#[derive(Debug)]
pub struct Spec {
    name: String,
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    env_remove: Vec<OsString>,
    dir: Option<PathBuf>,
    log: PathBuf,
    signal: &'static str,
    grace: Duration,
    remove: Option<PathBuf>,
    user: Option<(u32, u32)>,
}

impl Spec {
    /// `name` is the name of the process in messages; its output is appended to the file `log`.
    pub fn new(
        name: impl Into<String>,
        program: impl Into<PathBuf>,
        log: impl Into<PathBuf>,
    ) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            env_remove: Vec::new(),
            dir: None,
            log: log.into(),
            signal: "TERM",
            grace: Duration::from_secs(10),
            remove: None,
            user: None,
        }
    }

    /// Adds one argument. Arguments are visible to every user of the machine: no secrets.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments. Arguments are visible to every user of the machine: no secrets.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets one variable of the environment, which is otherwise inherited.
    #[must_use]
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    /// Removes one variable from the inherited environment.
    #[must_use]
    pub fn env_remove(mut self, key: impl Into<OsString>) -> Self {
        self.env_remove.push(key.into());
        self
    }

    /// Working directory; inherited by default.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Signal that asks the process to end, by its short name (`TERM` by default), and how long
    /// to wait for that before it is killed (10 s by default).
    #[must_use]
    pub fn stop_with(mut self, signal: &'static str, grace: Duration) -> Self {
        self.signal = signal;
        self.grace = grace;
        self
    }

    /// A directory that the guard removes when the process has ended, also when this program has been
    /// killed.
    #[must_use]
    pub fn remove_on_exit(mut self, dir: impl Into<PathBuf>) -> Self {
        self.remove = Some(dir.into());
        self
    }

    /// Runs as this user and group. Needs root.
    #[must_use]
    pub fn user(mut self, uid: u32, gid: u32) -> Self {
        self.user = Some((uid, gid));
        self
    }

    /// Starts the process. It ends when the returned handle is dropped, or when we do.
    pub fn spawn(self) -> Result<Process> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(Error::file("open the log", &self.log))?;
        let log_copy = log
            .try_clone()
            .map_err(Error::file("open the log", &self.log))?;
        // Only what this process prints counts, not what an earlier one left in the file.
        let log_start = log
            .metadata()
            .map_err(Error::file("read the log", &self.log))?
            .len();

        let mut command = Command::new("sh");
        command
            .args(["-c", GUARD, "guard", self.signal])
            .arg((self.grace.as_millis() / 100).to_string())
            .arg(self.remove.unwrap_or_default())
            .arg(&self.program)
            .args(&self.args)
            .envs(self.env)
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(log_copy)
            // Out of the terminal's foreground group: a Ctrl-C reaches us, and we end the rest.
            .process_group(0);
        for key in self.env_remove {
            command.env_remove(key);
        }
        if let Some(dir) = self.dir {
            command.current_dir(dir);
        }
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        let mut child = command.spawn().map_err(|source| Error::Spawn {
            program: self.program.display().to_string(),
            source,
        })?;
        let lifeline = child.stdin.take();
        Ok(Process {
            name: self.name,
            log: self.log,
            log_start,
            child,
            lifeline,
        })
    }
}

/// A running child process under its guard. Dropping it ends the process and waits for that.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    log_start: u64,
    child: Child,
    lifeline: Option<ChildStdin>,
}

impl Process {
    /// Process id of the guard, which is also the id of its process group: the child and the
    /// guard are in it.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its name in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file with all that it printed.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its exit status if it has ended; 128 plus the signal if a signal ended it.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// What it has printed so far.
    pub fn output(&self) -> Result<String> {
        read_from(&self.log, self.log_start)
    }

    /// Waits until `ready` says so, the process ends, or `limit` is over. The last two are errors
    /// that show the end of the log.
    pub async fn wait_until<T>(
        &mut self,
        limit: Duration,
        mut ready: impl FnMut(&Self) -> Result<Option<T>>,
    ) -> Result<T> {
        let started = Instant::now();
        loop {
            if let Some(value) = ready(self)? {
                return Ok(value);
            }
            if let Some(status) = self.exited() {
                return Err(self.not_ready(format!("ended with {status}")));
            }
            if started.elapsed() > limit {
                return Err(self.not_ready(format!("was not ready within {limit:?}")));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits for a line of its output that contains `text`, and returns that line.
    pub async fn wait_for_line(&mut self, text: &str, limit: Duration) -> Result<String> {
        self.wait_until(limit, |process| {
            let output = process.output()?;
            // A line without its end may still grow.
            Ok(output
                .split_inclusive('\n')
                .find(|line| line.ends_with('\n') && line.contains(text))
                .map(|line| line.trim_end().to_owned()))
        })
        .await
    }

    /// An error about this process, with the end of its log.
    pub fn not_ready(&self, what: impl Into<String>) -> Error {
        Error::NotReady {
            name: self.name.clone(),
            what: what.into(),
            log: self.log.clone(),
            tail: tail(&self.log),
        }
    }

    /// Ends the process and waits until it has gone: asks first, kills after its grace period.
    pub fn stop(&mut self) -> Option<ExitStatus> {
        drop(self.lifeline.take());
        self.child.wait().ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The identity of a process: ids are reused, but not with the same start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Process id.
    pub pid: u32,
    /// Start time in clock ticks since the machine booted. Source: proc(5), `stat`, field 22.
    pub started: u64,
}

impl Identity {
    /// Of a running process; `None` if there is none with this id.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field, the command in parentheses, may contain anything: count after it.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?;
        if matches!(state, "Z" | "X") {
            return None;
        }
        let started = fields.nth(18)?.parse().ok()?;
        Some(Self { pid, started })
    }

    /// Whether exactly this process still runs.
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid) == Some(*self)
    }

    /// Sends a signal if exactly this process still runs; says whether it did.
    pub fn signal(&self, signal: nix::sys::signal::Signal) -> bool {
        let Ok(pid) = i32::try_from(self.pid) else {
            return false;
        };
        self.is_alive() && nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).is_ok()
    }
}

/// The end of a log file, for messages; empty if there is none.
pub fn tail(log: &Path) -> String {
    let length = std::fs::metadata(log).map_or(0, |meta| meta.len());
    read_from(log, length.saturating_sub(TAIL)).unwrap_or_default()
}

fn read_from(path: &Path, start: u64) -> Result<String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|mut file| {
            file.seek(SeekFrom::Start(start))?;
            file.read_to_end(&mut bytes)
        })
        .map_err(Error::file("read the log", path))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn shell(dir: &Path, script: &str) -> Spec {
        Spec::new("script", "sh", dir.join("log")).args(["-c", script])
    }

    async fn eventually(what: &str, condition: impl Fn() -> bool) {
        let started = Instant::now();
        while !condition() {
            assert!(started.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
            tokio::time::sleep(LOOK).await;
        }
    }

    #[tokio::test]
    async fn a_dropped_process_has_gone_and_was_asked_first() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = shell(
            dir.path(),
            "trap 'echo asked; exit 0' TERM; echo pid=$$; while :; do sleep 0.05; done",
        )
        .spawn()
        .unwrap();
        let line = process.wait_for_line("pid=", LIMIT).await.unwrap();
        let child = Identity::of(line.trim_start_matches("pid=").parse().unwrap()).unwrap();
        let log = process.log().to_owned();

        drop(process);

        assert!(!child.is_alive());
        assert!(std::fs::read_to_string(log).unwrap().contains("asked"));
    }

    #[tokio::test]
    async fn a_process_that_does_not_listen_is_killed_after_its_grace() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = shell(
            dir.path(),
            "trap '' TERM; echo up; while :; do sleep 0.05; done",
        )
        .stop_with("TERM", Duration::from_millis(300))
        .spawn()
        .unwrap();
        process.wait_for_line("up", LIMIT).await.unwrap();

        let status = process.stop().unwrap();

        assert_eq!(status.code(), Some(128 + 9));
    }

    #[tokio::test]
    async fn a_process_ends_with_a_parent_that_was_killed() {
        let dir = tempfile::tempdir().unwrap();
        let removed = dir.path().join("removed");
        std::fs::create_dir(&removed).unwrap();
        // The parent: a shell that holds the guard's pipe, and nothing else does.
        let mut parent = Command::new("sh")
            .args([
                "-c",
                r#"mkfifo "$1/pipe"
                sh -c "$2" guard TERM 50 "$1/removed" sh -c 'echo $$ >"$0/pid"; exec sleep 600' "$1" <"$1/pipe" &
                exec 9>"$1/pipe"
                exec sleep 600"#,
                "parent",
            ])
            .arg(dir.path())
            .arg(GUARD)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pid_file = dir.path().join("pid");
        let read = || std::fs::read_to_string(&pid_file).ok()?.trim().parse().ok();
        eventually("the child has started", || read().is_some()).await;
        let child = Identity::of(read().unwrap()).unwrap();

        parent.kill().unwrap();
        parent.wait().unwrap();

        eventually("the child has gone", || !child.is_alive()).await;
        eventually("its directory has gone", || !removed.exists()).await;
    }

    #[tokio::test]
    async fn a_process_that_ends_early_is_an_error_with_its_last_words() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = shell(dir.path(), "echo no port left; exit 3")
            .spawn()
            .unwrap();

        let error = process.wait_for_line("ready", LIMIT).await.unwrap_err();

        let text = error.to_string();
        assert!(text.contains("no port left"), "{text}");
        assert!(text.contains("exit status: 3"), "{text}");
    }

    #[tokio::test]
    async fn a_child_can_be_interrupted() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = shell(dir.path(), "grep SigIgn /proc/self/status")
            .spawn()
            .unwrap();
        let line = process.wait_for_line("SigIgn", LIMIT).await.unwrap();
        let mask = u64::from_str_radix(line.rsplit('\t').next().unwrap(), 16).unwrap();
        assert_eq!(
            mask & 0b110,
            0,
            "SIGINT and SIGQUIT must not be ignored: {line}"
        );
    }

    #[test]
    fn an_identity_is_of_one_process_only() {
        let me = Identity::of(std::process::id()).unwrap();
        assert!(me.is_alive());
        let other = Identity {
            started: me.started + 1,
            ..me
        };
        assert!(!other.is_alive());
    }
}
