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

/// What it says of this file, on both streams, and whether it succeeded.
fn said_of(name: &str, contents: &[u8]) -> (bool, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join(name);
    std::fs::write(&file, contents).expect("written");
    let output = golive(&["render", "-f", file.to_str().expect("a path")]);
    let said = text(&output.stdout) + &text(&output.stderr);
    (output.status.success(), said)
}

#[test]
fn render_says_of_an_activation_what_the_api_server_would_say() {
    let with = |from: &str, to: &str| {
        assert!(ACTIVATION.contains(from), "{from}");
        ACTIVATION.replacen(from, to, 1)
    };
    let image = "image: registry.fly.io/cabanas-mvp:1.4.0";
    for (activation, said) in [
        (
            with(image, "image: 1.4"),
            "spec.deploy.image: must be a string, not the number 1.4: put it in quotes",
        ),
        (
            with("region: eze", "region: no"),
            "spec.region: must be a string, not the boolean false",
        ),
        (
            with("app: cabanas-mvp", "app: cabanas-mvp\n  app: other"),
            "the key app is there twice; remove one of them",
        ),
        (with("app: cabanas-mvp", "app: My_App"), "spec.app: "),
        (
            with(image, "image: x:1\n    port: 3000"),
            "`port` must not be set with `config`",
        ),
        (with(image, "port: 3000"), "spec.deploy: "),
        (
            with("mvp\n  region", "mvp\n  mode: Aply\n  region"),
            "did you mean Apply?",
        ),
        (
            with("region: eze", "regoin: eze"),
            "spec.region: is required",
        ),
        (with("region: eze", "regoin: eze"), "did you mean region?"),
        (
            with("v1alpha1", "v1"),
            "this program knows golive.dev/v1alpha1",
        ),
    ] {
        let (success, told) = said_of("activation.yaml", activation.as_bytes());
        assert!(!success && told.contains(said), "{said}: {told}");
        for library in ["DuplicateKeyPolicy", "invalid type", "serde"] {
            assert!(!told.contains(library), "{told}");
        }
    }
    let unknown = with("region: eze", "region: eze\n  regoin: eze\n  Deploy: {}");
    let (success, told) = said_of("activation.yaml", unknown.as_bytes());
    assert!(success, "{told}");
    for said in [
        "warning: Activation cabanas: spec.Deploy: unknown field",
        "warning: Activation cabanas: spec.regoin: unknown field",
    ] {
        assert!(told.contains(said), "{told}");
    }
}

#[test]
fn render_reads_a_directory_as_kubectl_does_and_says_when_a_file_is_not_utf_8() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, contents: &[u8]| {
        std::fs::write(folder.path().join(name), contents).expect("written");
    };
    let directory = folder.path().to_str().expect("a path");
    let empty = golive(&["render", "-f", directory]);
    assert!(!empty.status.success());
    let told = text(&empty.stderr);
    assert!(told.contains("ends in .yaml, .yml or .json"), "{told}");

    let by_name = ACTIVATION.split("      inline").next().expect("a part");
    let by_name = format!("{by_name}      configMapRef: {{name: cfg}}\n");
    write("a.yaml", by_name.as_bytes());
    write("notes.txt", b"not: [yaml");
    write(
        "map.json",
        br#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cfg"},
            "data": {"fly.toml": "[http_service]\ninternal_port = 3000\n"}}"#,
    );
    let rendered = golive(&["render", "-f", directory, "-o", "json"]);
    assert!(rendered.status.success(), "{}", text(&rendered.stderr));
    assert!(text(&rendered.stdout).contains("\"internal_port\": 3000"));

    // As `kubectl create configmap --from-file --dry-run=client -o yaml` writes Latin-1.
    write(
        "map.json",
        br#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cfg"},
            "binaryData": {"fly.toml": "YXBwID0gIngiICMgY2FiYfFhCg=="}}"#,
    );
    let binary = golive(&["render", "-f", directory]);
    let told = text(&binary.stderr);
    assert!(told.contains("has fly.toml in binaryData"), "{told}");
    assert!(told.contains("byte 0xf1 in line 1"), "{told}");

    write("fly.toml", b"\xff\xfea\0p\0p\0");
    let config = folder.path().join("fly.toml");
    let config = config.to_str().expect("a path");
    let utf16 = golive(&["render", "-f", directory, "--config", config]);
    let told = text(&utf16.stderr);
    assert!(told.contains("is not UTF-8 text: it is UTF-16"), "{told}");
}

#[test]
fn a_reader_that_stops_early_is_no_failure() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("activation.yaml");
    std::fs::write(&file, ACTIVATION).expect("written");
    let operator = env!("CARGO_BIN_EXE_golive");
    let plugin = env!("CARGO_BIN_EXE_kubectl-golive");
    for command in [
        format!("{plugin} render -f {} | true", file.display()),
        format!("{plugin} --help | true"),
        format!("{operator} crd | true"),
        format!("{operator} run --help | true"),
    ] {
        let output = Command::new("sh").args(["-c", &command]).output();
        let told = text(&output.expect("a shell").stderr);
        assert!(!told.contains("panicked"), "{command}: {told}");
    }
}
