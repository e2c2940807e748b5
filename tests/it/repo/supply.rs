//! The supply chain: what is built, from where, and which of it runs while it is built. Without the
//! network; `make supply` asks cargo-deny the same and more.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use semver::{Version, VersionReq};
use serde_json::Value;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A package of the lock file.
struct Package {
    name: String,
    version: Version,
    /// Where it is from; `None`: a folder of the repository.
    source: Option<String>,
    has_checksum: bool,
}

/// The packages of the lock file.
fn packages() -> Vec<Package> {
    let lock: Value = toml_edit::de::from_str(&read("Cargo.lock")).unwrap();
    let packages = lock["package"].as_array().unwrap().iter();
    packages
        .map(|package| {
            let text = |key: &str| package[key].as_str().map(str::to_owned);
            Package {
                name: text("name").unwrap(),
                version: text("version").unwrap().parse().unwrap(),
                source: text("source"),
                has_checksum: package["checksum"].is_string(),
            }
        })
        .collect()
}

#[test]
fn every_package_comes_from_the_registry_with_a_checksum() {
    let members = [
        "golive", "cabanas", "fly-sim", "house", "kube-env", "planted", "reading", "vendors",
    ];
    let mut sources = BTreeSet::new();
    for package in packages() {
        let name = &package.name;
        match package.source {
            None => assert!(members.contains(&name.as_str()), "{name} is from a folder"),
            Some(source) => {
                assert!(package.has_checksum, "{name} has no checksum");
                assert!(source.starts_with("registry+"), "{name} is from {source}");
                sources.insert(source);
            }
        }
    }
    assert_eq!(sources.len(), 1, "{sources:?}");
}

/// Packages of the registry with a build script (`script NAME`), or a procedural macro (`macro NAME`).
fn runs_while_building() -> BTreeSet<String> {
    let output = |program: &str, args: &[&str]| {
        let output = Command::new(program)
            .args(args)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{program} {args:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    };
    let host = output("rustc", &["-vV"]);
    let host = host.lines().find_map(|line| line.strip_prefix("host: "));
    let metadata = [
        "metadata",
        "--locked",
        "--offline",
        "--format-version=1",
        "--filter-platform",
        host.unwrap(),
    ];
    let found: Value = serde_json::from_str(&output(env!("CARGO"), &metadata)).unwrap();
    let mut runs = BTreeSet::new();
    for package in found["packages"].as_array().unwrap() {
        if package["source"].is_null() {
            continue;
        }
        for target in package["targets"].as_array().unwrap() {
            let kinds = target["kind"].as_array().unwrap();
            for (kind, word) in [("custom-build", "script"), ("proc-macro", "macro")] {
                if kinds.iter().any(|found| found == kind) {
                    runs.insert(format!("{word} {}", package["name"].as_str().unwrap()));
                }
            }
        }
    }
    runs
}

#[test]
fn only_known_packages_run_code_while_golive_is_built() {
    let text = read("tests/checks/build-code.txt");
    let lines = text.lines().map(str::trim);
    let known: BTreeSet<String> = lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    let runs = runs_while_building();
    let new: Vec<_> = runs.difference(&known).collect();
    assert!(
        new.is_empty(),
        "read what these do while they are built, and add them to tests/checks/build-code.txt: {new:#?}"
    );
    let gone: Vec<_> = known.difference(&runs).collect();
    assert!(
        gone.is_empty(),
        "remove them from tests/checks/build-code.txt: {gone:#?}"
    );
}

#[test]
fn every_build_uses_the_lock_file_as_it_is() {
    let files = [
        "Makefile",
        ".ci/run",
        "Dockerfile",
        ".github/workflows/release.yml",
        "tests/checks/licences.sh",
        "tests/checks/supply.sh",
        "tests/checks/prereqs.sh",
    ];
    let builds = [
        "build", "test", "clippy", "run", "bench", "tree", "install", "fetch", "metadata",
    ];
    let mut seen = 0;
    for file in files {
        for line in read(file).lines() {
            let line = line.trim().trim_start_matches('@');
            let command = line.split("cargo ").nth(1).unwrap_or_default();
            let word = command.split_whitespace().next().unwrap_or_default();
            // What a person is told to do is not done here.
            if line.starts_with('#') || line.starts_with("echo") || !builds.contains(&word) {
                continue;
            }
            assert!(command.contains("--locked"), "{file}: {line}");
            seen += 1;
        }
    }
    assert!(seen >= 10, "only {seen} commands were read");
}

/// The advisories of `tests/checks/advisories.txt`.
fn advisories(text: &str) -> Vec<Value> {
    let parts = text.split("\n== ").skip(1);
    parts
        .map(|part| {
            let (file, toml) = part.split_once('\n').unwrap();
            toml_edit::de::from_str(toml).unwrap_or_else(|error| panic!("{file}: {error}"))
        })
        .collect()
}

/// Whether an advisory is about this version.
fn affects(advisory: &Value, version: &Version) -> bool {
    let matches = |key: &str| {
        let wanted = advisory["versions"][key].as_array();
        wanted.into_iter().flatten().any(|wanted| {
            let wanted: VersionReq = wanted.as_str().unwrap().parse().unwrap();
            wanted.matches(version)
        })
    };
    advisory["advisory"]["withdrawn"].is_null() && !matches("patched") && !matches("unaffected")
}

#[test]
fn no_known_vulnerability_is_in_the_lock_file() {
    let text = read("tests/checks/advisories.txt");
    let all = advisories(&text);
    assert!(all.len() > 1000, "{} advisories", all.len());
    let mut by_name: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for advisory in &all {
        let name = advisory["advisory"]["package"].as_str().unwrap();
        by_name.entry(name).or_default().push(advisory);
    }
    let mut found = Vec::new();
    for Package {
        name,
        version,
        source,
        ..
    } in packages()
    {
        let known = by_name.get(name.as_str()).into_iter().flatten();
        for advisory in known.filter(|_| source.is_some()) {
            if affects(advisory, &version) {
                found.push(format!("{name} {version}: {}", advisory["advisory"]["id"]));
            }
        }
    }
    assert!(found.is_empty(), "rustsec.org/advisories: {found:#?}");
}

#[test]
fn a_vulnerable_version_is_found() {
    let text = "\n== x\n[advisory]\nid = \"A\"\npackage = \"x\"\n[versions]\npatched = [\">= 1.2.3, < 2.0.0\", \">= 2.1.0\"]\nunaffected = [\"< 1.0.0\"]\n";
    let advisory = &advisories(text)[0];
    for (version, expected) in [
        ("0.9.0", false),
        ("1.0.0", true),
        ("1.2.3", false),
        ("2.0.5", true),
        ("2.1.0", false),
    ] {
        let version = version.parse().unwrap();
        assert_eq!(affects(advisory, &version), expected, "{version}");
    }
}
