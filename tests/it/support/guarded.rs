//! A process that does not outlive the test that started it, not even when the test is killed.
//! It is our direct child, so that a test may kill it and see how it ended.

#![allow(clippy::expect_used, reason = "a helper fails its test by a panic")]

use std::process::{Child, Command, ExitStatus, Stdio};

/// Kills the process when its own standard input is closed, which the kernel does when we end.
const WATCH: &str = "cat >/dev/null; kill -KILL \"$1\" 2>/dev/null";

/// The process and its watcher.
pub struct Guarded {
    child: Child,
    watcher: Child,
}

impl Guarded {
    /// Starts it.
    pub fn spawn(command: &mut Command) -> Self {
        let child = command.spawn().expect("the process starts");
        let watcher = Command::new("sh")
            .args(["-c", WATCH, "watch", &child.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell starts");
        Self { child, watcher }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The process itself, to read what it prints and see how it ends.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// SIGKILL; says how it ended.
    pub fn kill(&mut self) -> ExitStatus {
        // The watcher first: once the child is reaped, its id may be reused.
        self.watcher.kill().expect("SIGKILL");
        self.watcher.wait().expect("it has ended");
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("it has ended")
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
fn a_process_ends_with_the_test_that_started_it() {
    let mut guarded = Guarded::spawn(Command::new("sleep").arg("600"));
    // What the kernel does when the test is killed: its end of the pipe is closed.
    drop(guarded.watcher.stdin.take());
    let ended = guarded.child.wait().expect("it has ended");
    assert!(!ended.success());
}
