//! What builds and publishes a release: pinned, with no more rights than needed, and the manifest for Krew.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::env::root;

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

fn workflow() -> Value {
    serde_saphyr::from_str(&read(".github/workflows/release.yml")).unwrap()
}

fn steps(workflow: &Value) -> Vec<&Value> {
    let jobs = workflow["jobs"].as_object().unwrap().values();
    jobs.flat_map(|job| job["steps"].as_array().unwrap())
        .collect()
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.chars().all(|c| c.is_ascii_hexdigit())
}

#[test]
fn every_action_is_pinned_by_its_commit_and_a_token_has_the_rights_of_its_job_alone() {
    let workflow = workflow();
    assert_eq!(workflow["permissions"], serde_json::json!({}));
    let mut actions = 0;
    for step in steps(&workflow) {
        if let Some(action) = step["uses"].as_str() {
            let (_, commit) = action.split_once('@').unwrap();
            assert!(is_hex(commit, 40), "{action}");
            actions += 1;
        }
        if step["uses"]
            .as_str()
            .is_some_and(|a| a.starts_with("actions/checkout@"))
        {
            assert_eq!(step["with"]["persist-credentials"], false, "{step}");
        }
        // What somebody else writes, such as a branch's name, is no part of a script.
        let script = step["run"].as_str().unwrap_or_default();
        assert!(!script.contains("${{ github."), "{script}");
    }
    assert!(actions >= 15, "{actions}");
    for (name, job) in workflow["jobs"].as_object().unwrap() {
        assert!(job["permissions"].is_object(), "{name}");
    }
    // Nothing is published that was not checked.
    for (name, job) in workflow["jobs"].as_object().unwrap() {
        let needs = job["needs"].to_string();
        assert!(name == "check" || needs.contains("check"), "{name}");
    }
}

#[test]
fn what_is_published_is_signed_and_has_a_list_of_its_parts() {
    let workflow = workflow();
    let all: Vec<String> = steps(&workflow)
        .iter()
        .map(|step| step.to_string())
        .collect();
    for needed in [
        "cosign sign --yes \\\"$IMAGE@$DIGEST\\\"",
        "cosign sign --yes \\\"$CHARTS/golive@$digest\\\"",
        "cosign sign-blob",
        "cargo cyclonedx",
        "attest-build-provenance",
        "install.yaml",
        "krew.sh",
    ] {
        assert!(all.iter().any(|step| step.contains(needed)), "{needed}");
    }
}

#[test]
fn every_base_image_is_pinned_by_its_digest_and_the_image_has_its_labels() {
    let text = read("Dockerfile");
    let bases: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("FROM "))
        .collect();
    assert_eq!(bases.len(), 2);
    for base in bases {
        let image = base.split(' ').next().unwrap();
        let digest = image.split_once("@sha256:").map(|(_, digest)| digest);
        assert!(
            image == "scratch" || digest.is_some_and(|d| is_hex(d, 64)),
            "{base}"
        );
    }
    for label in ["source", "licenses", "version", "revision", "title"] {
        assert!(
            text.contains(&format!("org.opencontainers.image.{label}=")),
            "{label}"
        );
    }
    assert!(text.contains("USER 65532:65532"));
    assert!(text.contains(&format!("ARG VERSION={}\n", env!("CARGO_PKG_VERSION"))));
}

/// A program that is linked to the libraries of its builder does not start on older systems.
#[test]
fn the_plugin_for_linux_is_static_and_every_job_has_the_compiler_of_the_image() {
    let workflow = workflow();
    let plugin = &workflow["jobs"]["plugin"];
    let mut linux = 0;
    for platform in plugin["strategy"]["matrix"]["include"].as_array().unwrap() {
        let target = platform["target"].as_str().unwrap();
        let arch = match platform["arch"].as_str().unwrap() {
            "amd64" => "x86_64",
            _ => "aarch64",
        };
        assert!(target.starts_with(arch), "{platform}");
        if platform["os"] == "linux" {
            assert!(target.ends_with("-linux-musl"), "{platform}");
            linux += 1;
        }
    }
    assert_eq!(linux, 2);
    let built = plugin.to_string();
    assert!(built.contains("--bin kubectl-golive --target ${{ matrix.target }}"));
    assert!(built.contains("target/${{ matrix.target }}/release/kubectl-golive"));

    let version = env!("CARGO_PKG_RUST_VERSION");
    assert_eq!(workflow["env"]["RUSTUP_TOOLCHAIN"], version);
    assert!(read("Dockerfile").contains(&format!("FROM rust:{version}-alpine@")));
    for (name, job) in workflow["jobs"].as_object().unwrap() {
        let text = job["steps"].to_string();
        assert!(
            !text.contains("cargo ") || text.contains("rustup toolchain install"),
            "{name}"
        );
    }
}

/// What `make test` leaves out, because it builds everything anew.
#[test]
fn a_release_is_checked_alone_in_an_empty_root_and_by_a_second_build() {
    let workflow = workflow();
    let check = workflow["jobs"]["check"]["steps"].to_string();
    for needed in [".ci/run", "make test-alone", "make reproducible"] {
        assert!(check.contains(needed), "{needed}");
    }
}

fn script(name: &str, args: &[&str]) -> (bool, String) {
    let output = Command::new("sh")
        .arg(root().join(".github/release").join(name))
        .args(args)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

/// What somebody reads before they install the plugin.
#[test]
fn the_description_for_krew_names_only_what_the_plugin_does() {
    let text = read(".github/release/krew.sh");
    let listed = text.split("what to do next;").nth(1).unwrap();
    let listed = listed.split(" that works offline").next().unwrap();
    let listed = listed.split_whitespace().collect::<Vec<_>>().join(" ");
    let help = Command::new(env!("CARGO_BIN_EXE_kubectl-golive"))
        .arg("--help")
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let commands: Vec<&str> = help
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| name.len() > 2)
        .collect();
    let named: Vec<&str> = listed
        .split(", ")
        .map(|item| item.trim_start_matches("and a "))
        .collect();
    assert_eq!(named.len(), 5, "{named:?}");
    for item in named {
        // `approvals` is what `approve` does.
        let does = |name: &str| item.starts_with(name.trim_end_matches('e'));
        assert!(
            commands.iter().any(|name| does(name)),
            "{item} is no command"
        );
    }
}

/// An archive of a program for one platform, in a folder of its own.
fn archive(program: &Path, folder: &Path, platform: [&str; 2]) -> std::path::PathBuf {
    let [os, arch] = platform;
    let args = [
        program.to_str().unwrap(),
        os,
        arch,
        folder.to_str().unwrap(),
    ];
    let (success, text) = script("archive.sh", &args);
    assert!(success, "{text}");
    folder.join(format!("kubectl-golive_{os}_{arch}.tar.gz"))
}

#[test]
fn the_archive_of_the_plugin_is_the_same_each_time_and_krew_finds_its_program_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    std::fs::write(&program, "#!/bin/sh\necho plugin\n").unwrap();
    let dist = folder.path().join("dist");
    let first = archive(&program, &dist, ["linux", "amd64"]);
    archive(&program, &dist, ["darwin", "arm64"]);
    let again = archive(&program, &folder.path().join("again"), ["linux", "amd64"]);
    assert_eq!(
        std::fs::read(&first).unwrap(),
        std::fs::read(again).unwrap()
    );

    let (success, manifest) = script("krew.sh", &["1.2.3", dist.to_str().unwrap()]);
    assert!(success, "{manifest}");
    let manifest: Value = serde_saphyr::from_str(&manifest).unwrap();
    assert_eq!(manifest["metadata"]["name"], "golive");
    assert_eq!(manifest["spec"]["version"], "v1.2.3");
    let platforms = manifest["spec"]["platforms"].as_array().unwrap();
    assert_eq!(platforms.len(), 2);
    let linux = platforms
        .iter()
        .find(|platform| platform["selector"]["matchLabels"]["os"] == "linux")
        .unwrap();
    assert_eq!(linux["selector"]["matchLabels"]["arch"], "amd64");
    assert!(
        linux["uri"]
            .as_str()
            .unwrap()
            .ends_with("/v1.2.3/kubectl-golive_linux_amd64.tar.gz")
    );
    let sum = Command::new("sha256sum")
        .arg(&first)
        .output()
        .unwrap()
        .stdout;
    let sum = String::from_utf8(sum).unwrap();
    assert_eq!(
        linux["sha256"].as_str().unwrap(),
        sum.split(' ').next().unwrap()
    );
    let list = Command::new("tar")
        .arg("-tzf")
        .arg(&first)
        .output()
        .unwrap()
        .stdout;
    assert_eq!(
        String::from_utf8(list).unwrap(),
        "LICENSE\nkubectl-golive\n"
    );
    for file in linux["files"].as_array().unwrap() {
        assert!(["LICENSE", "kubectl-golive"].contains(&file["from"].as_str().unwrap()));
    }
    assert_eq!(linux["bin"], "kubectl-golive");

    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let (success, text) = script("krew.sh", &["1.2.3", empty.to_str().unwrap()]);
    assert!(!success && text.contains("no archive"), "{text}");
}
