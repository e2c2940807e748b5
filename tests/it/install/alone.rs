//! The program as it is in its image: alone in a root folder, as the user 65532, who may write nothing.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::env::Env;
use crate::support::guarded::Guarded;
use crate::support::trouble::{options, recovered};

/// A static build of the program to run instead of the one of the tests: `make test-alone`.
const STATIC: &str = "GOLIVE_STATIC_BINARY";

/// The libraries that a program loads; none of a static one.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .expect("ldd starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let words = text.split_whitespace();
    words
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect()
}

/// A file of the root folder that everybody may read and nobody may write.
fn put(root: &Path, from: &Path, to: &str, mode: u32) {
    let path = root.join(to.trim_start_matches('/'));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::copy(from, &path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// All that is in a folder.
fn listing(root: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(
                std::fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
        found.insert(path);
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_needs_nothing_but_itself_and_may_write_nothing() {
    let env = Env::without_operator(options()).await;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let built = std::env::var_os(STATIC).map(PathBuf::from);
    let is_static = built.is_some();
    let program = built.unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_golive")));
    put(root, &program, "/golive", 0o555);
    let libraries = libraries(&program);
    assert!(!is_static || libraries.is_empty(), "{libraries:?}");
    for library in &libraries {
        put(root, library, library.to_str().unwrap(), 0o555);
    }
    put(root, env.cluster.kubeconfig(), "/kubeconfig", 0o444);
    let authority = root.join("ca.pem");
    std::fs::write(&authority, env.sim.ca_pem()).unwrap();
    std::fs::set_permissions(&authority, std::fs::Permissions::from_mode(0o444)).unwrap();
    std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o555)).unwrap();
    let before = listing(root);

    let log = std::fs::File::create(env.log()).unwrap();
    env.record();
    // Only root may choose a root folder and a user; anybody may in a namespace of users.
    let mut command = if nix::unistd::Uid::effective().is_root() {
        let mut command = Command::new("chroot");
        command.arg("--userspec=65532:65532").arg(root);
        command
    } else {
        let mut command = Command::new("unshare");
        command
            .args(["--user", "--map-root-user", "chroot"])
            .arg(root);
        command
    };
    command
        .args(["/golive", "run"])
        .args(env.flags(&["--ca-file", "/ca.pem"]))
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("KUBECONFIG", "/kubeconfig")
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    let operator = Guarded::spawn(&mut command);

    env.activation("hola", json!({})).await;
    recovered(&env, "hola").await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", operator.id())).unwrap();
    let uid = status
        .lines()
        .find(|line| line.starts_with("Uid:"))
        .unwrap();
    if nix::unistd::Uid::effective().is_root() {
        assert_eq!(uid.split_whitespace().nth(2), Some("65532"), "{uid}");
    }
    env.delete("hola").await;
    assert_eq!(listing(root), before, "it wrote a file");
}
