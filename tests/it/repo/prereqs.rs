//! `make prereqs` names each program that is missing or too old, the required version, and the
//! command that installs it.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::{
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Command,
};

use crate::support::env::root;

/// Programs that the script itself is made of.
const TOOLS: &[&str] = &[
    "sh", "sed", "head", "sort", "dirname", "printf", "ls", "cat",
];

/// Versions that are new enough, as their programs print them.
const GOOD: &[(&str, &str)] = &[
    ("rustc", "rustc 99.1.0 (abc 2026-01-01)"),
    ("cargo", "cargo 99.1.0 (abc 2026-01-01)"),
    ("go", "go version go99.1.2 linux/amd64"),
    ("git", "git version 99.1.0"),
    ("kubectl", "Client Version: v99.1.0"),
];

/// A folder that is all that the script finds programs in.
struct Programs(tempfile::TempDir);

impl Programs {
    /// All is there and new, and these do something else, or are not there when that is empty.
    fn with(others: &[(&str, &str)]) -> Self {
        let programs = Self(tempfile::tempdir().unwrap());
        for tool in TOOLS {
            let found = ["/bin", "/usr/bin"]
                .iter()
                .map(|folder| Path::new(folder).join(tool))
                .find(|path| path.exists());
            if let Some(path) = found {
                symlink(path, programs.0.path().join(tool)).unwrap();
            }
        }
        for name in [
            "cc",
            "initdb",
            "redis-server",
            "prometheus",
            "promtool",
            "prometheus-alertmanager",
            "chromium",
            "faketime",
            "curl",
        ] {
            programs.script(name, "exit 0");
        }
        for (name, prints) in GOOD {
            programs.script(name, &format!("echo '{prints}'"));
        }
        for (name, does) in others {
            let path = programs.0.path().join(name);
            if does.is_empty() {
                std::fs::remove_file(path).unwrap();
            } else {
                programs.script(name, does);
            }
        }
        programs
    }

    fn script(&self, name: &str, body: &str) {
        let path = self.0.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Whether the script is content, and what it says to standard error.
    fn run(&self) -> (bool, String) {
        let output = Command::new("/bin/sh")
            .arg(root().join("tests/checks/prereqs.sh"))
            .env_clear()
            .env("PATH", self.0.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), text)
    }
}

/// The version after this in a file of ours.
fn wanted(file: &str, before: &str) -> String {
    let text = std::fs::read_to_string(root().join(file)).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(before));
    line.unwrap().trim_matches('"').to_owned()
}

#[test]
fn where_all_is_there_nothing_is_said() {
    assert_eq!(Programs::with(&[]).run(), (true, String::new()));
}

#[test]
fn what_is_missing_is_named_with_the_version_wanted_and_the_way_to_get_it() {
    let rust = wanted("Cargo.toml", "rust-version = ");
    let go = wanted("tests/control-plane/go.mod", "go ");
    let go = go.split('.').take(2).collect::<Vec<_>>().join(".");
    let all = [
        ("rustc", ""),
        ("cargo", ""),
        ("go", ""),
        ("git", ""),
        ("kubectl", ""),
    ];

    let (content, text) = Programs::with(&all).run();

    assert!(!content);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            format!(
                "missing: Rust, wanted {rust} or newer: rustup update stable, or https://rustup.rs"
            ),
            format!("missing: cargo, wanted {rust} or newer: it comes with Rust"),
            format!("missing: Go, wanted {go} or newer: https://go.dev/doc/install"),
            "missing: git, wanted 2.30 or newer: apt-get install -y git".to_owned(),
            "missing: kubectl, wanted 1.30 or newer: https://kubernetes.io/docs/tasks/tools/"
                .to_owned(),
        ]
    );
}

#[test]
fn what_is_too_old_is_named_with_its_version_and_the_one_wanted() {
    let rust = wanted("Cargo.toml", "rust-version = ");
    for (name, prints, says) in [
        (
            "rustc",
            "rustc 1.9.0 (old)",
            format!("too old: Rust 1.9.0, wanted {rust} or newer: rustup update stable"),
        ),
        (
            "go",
            "go version go1.9 linux/amd64",
            "too old: Go 1.9, wanted 1.".to_owned(),
        ),
        (
            "kubectl",
            "Client Version: v1.9.3",
            "too old: kubectl 1.9.3, wanted 1.30 or newer: ".to_owned(),
        ),
    ] {
        let print = format!("echo '{prints}'");
        let (content, text) = Programs::with(&[(name, &print)]).run();
        assert!(!content, "{name}");
        assert!(text.starts_with(&says), "{name}: {text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

#[test]
fn who_is_not_root_gets_the_exact_command() {
    let others = [
        ("redis-server", ""),
        ("id", "echo 1000"),
        ("apt-get", "echo apt-get was run >&2"),
    ];

    let (content, text) = Programs::with(&others).run();

    assert!(!content);
    let install = "apt-get install -y --no-install-recommends redis-server";
    assert_eq!(
        text,
        format!(
            "missing: redis-server: run this, then try again:\n  sudo apt-get update && sudo {install}\n"
        )
    );
}

#[test]
fn where_there_is_no_apt_the_packages_are_named() {
    let (content, text) = Programs::with(&[("redis-server", ""), ("curl", "")]).run();
    assert!(!content);
    assert!(
        text.starts_with("missing: redis-server curl (names of Debian's packages)"),
        "{text}"
    );
}
