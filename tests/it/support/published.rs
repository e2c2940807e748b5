//! `tests/published`: Helm, kstatus, and the interpreters of Flux and Argo CD, as they are published.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::Value;

use crate::support::env::root;

/// What the judges say of one object.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Verdict {
    /// kstatus.
    pub kstatus: String,
    /// The expressions of Flux's health checks.
    pub flux: String,
    /// Argo CD's health.
    pub argo: String,
    /// Argo CD's message.
    pub message: String,
}

/// What Helm made, or left.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Rendered {
    /// All objects of the release as YAML, without hooks.
    pub manifest: String,
    /// Each hook as YAML.
    pub hooks: Vec<String>,
    /// What is shown after an installation.
    pub notes: String,
    /// What an uninstallation says of what it left.
    pub info: String,
    /// The revision of the release.
    pub revision: u32,
    /// Messages of lint, and the end of each hook.
    pub messages: Vec<String>,
}

fn program() -> PathBuf {
    let path = root().join("tests/published/bin/published");
    assert!(
        path.is_file(),
        "{} is not built: run `make published` first",
        path.display()
    );
    path
}

/// Runs the program; the result, or what it complains of.
pub fn run(args: &[&str], input: &Value) -> Result<Value, String> {
    let mut child = Command::new(program())
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_string();
    // It may end without having read all.
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(input.as_bytes());
    });
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("no panic");
    if output.status.success() {
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        return Ok(serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}")));
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Judges objects by kstatus, the shipped script for Argo CD, and a shipped Kustomization of Flux.
pub fn judge(objects: &[Value], flux: &str) -> Vec<Verdict> {
    let argo = "manifests/gitops/argocd/resource_customizations/golive.dev/Activation/health.lua";
    let (health, flux) = (root().join(argo), root().join(flux));
    let args = ["judge", "--health", path(&health), "--flux", path(&flux)];
    let verdicts = run(&args, &Value::Array(objects.to_vec())).expect("verdicts");
    serde_json::from_value(verdicts).expect("verdicts")
}

/// Runs a script of Argo CD on one object.
pub fn script(file: &Path, object: &Value) -> Value {
    let args = ["script", "--file", path(file)];
    let results = run(&args, &Value::Array(vec![object.clone()])).expect("a result");
    results[0].clone()
}

/// Runs Helm: `action` and further flags.
pub fn helm(action: &str, flags: &[&str]) -> Result<Rendered, String> {
    let args = [&["helm", action], flags].concat();
    let result = run(&args, &Value::Null)?;
    Ok(serde_json::from_value(result).expect("a result of Helm"))
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}
