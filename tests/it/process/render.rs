//! The plugin as a process: its output streams and exit codes.

#![allow(clippy::expect_used, reason = "a helper fails its test by a panic")]

use std::process::{Command, Output};

use serde_json::Value;

const ACTIVATION: &str = "
apiVersion: golive.dev/v1alpha1
kind: Activation
metadata: {name: cabanas, namespace: prod}
spec:
  organization: acme
  app: cabanas-mvp
  region: eze
  deploy:
    image: registry.fly.io/cabanas-mvp:1.4.0
    config:
      inline: |
        [http_service]
        internal_port = 8080
        force-https = true
";

fn golive(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kubectl-golive"))
        .args(args)
        .output()
        .expect("the plugin starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn render_prints_machines_to_standard_output_and_warnings_to_standard_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("activation.yaml");
    std::fs::write(&file, ACTIVATION).expect("written");
    let file = file.to_str().expect("a path");

    let json = golive(&["render", "-f", file, "-o", "json"]);
    let yaml = golive(&["render", "-f", file]);

    assert_eq!(json.status.code(), Some(0), "{}", text(&json.stderr));
    let from_json: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    let from_yaml: Value = serde_saphyr::from_str(&text(&yaml.stdout)).expect("YAML");
    assert_eq!(from_json, from_yaml);
    assert_eq!(from_json["activation"], "prod/cabanas");
    assert_eq!(from_json["machines"][0]["count"], 2);
    assert_eq!(
        text(&json.stderr).trim(),
        "warning: Activation cabanas, inline:3:1: http_service.force-https: unknown key, ignored; \
         did you mean force_https?"
    );
}

#[test]
fn render_fails_with_one_and_wrong_usage_with_two() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("activation.yaml");
    std::fs::write(&file, ACTIVATION.replace("8080", "\"web\"")).expect("written");

    let invalid = golive(&["render", "-f", file.to_str().expect("a path")]);
    let missing = golive(&["render", "-f", "/nowhere/activation.yaml"]);
    let usage = golive(&["render"]);

    assert_eq!(invalid.status.code(), Some(1));
    let said = text(&invalid.stderr);
    assert!(
        said.contains("http_service.internal_port: must be an integer"),
        "{said}"
    );
    assert!(invalid.stdout.is_empty());
    assert_eq!(missing.status.code(), Some(1));
    let said = text(&missing.stderr);
    assert!(
        said.starts_with("error: cannot read /nowhere/activation.yaml: "),
        "{said}"
    );
    assert_eq!(usage.status.code(), Some(2));
    let said = text(&usage.stderr);
    assert!(said.contains("Usage: kubectl golive render"), "{said}");
}
