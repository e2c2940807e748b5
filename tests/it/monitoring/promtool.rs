//! promtool of Debian's package `prometheus`.

#![allow(clippy::expect_used, reason = "a helper fails its test by a panic")]

use std::path::Path;
use std::process::Command;

/// Runs it in a folder, and returns whether it is content and what it says.
pub fn promtool(folder: &Path, args: &[&str]) -> (bool, String) {
    let output = Command::new("promtool")
        .args(args)
        .current_dir(folder)
        .output()
        .expect("promtool is not installed: `make prereqs` installs it");
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    (output.status.success(), said)
}

/// The same, which must be content.
pub fn content(folder: &Path, args: &[&str]) -> String {
    let (is_content, said) = promtool(folder, args);
    assert!(is_content, "promtool {args:?}: {said}");
    said
}
