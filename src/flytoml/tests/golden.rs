//! Golden cases: `testdata/NAME.toml` must give `testdata/NAME.json`.
//!
//! The machine configurations in them were compared with those that flyctl builds from the same
//! file; see `docs/fly-toml.md`. `GOLIVE_UPDATE_GOLDEN=1 cargo test -p golive flytoml::tests::golden`
//! writes them anew, and the difference is then to be judged by a person.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::flytoml::*;

fn testdata() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/flytoml/testdata")
}

fn outcome(text: &str) -> Value {
    let lines =
        |problems: &[Problem]| -> Vec<String> { problems.iter().map(Problem::to_string).collect() };
    let parsed = match parse(text) {
        Ok(parsed) => parsed,
        Err(invalid) => return json!({"problems": lines(&invalid.problems)}),
    };
    let config = parsed.config;
    let context = Context {
        image: "registry.fly.io/app:1",
        ..Context::default()
    };
    let mut first = BTreeMap::new();
    for group in config.process_groups() {
        let machines = config.first_machines(&group, true);
        first.insert(group, json!([machines.running, machines.standby]));
    }
    let mut whole = json!({
        "groups": config.machine_configs(&context).unwrap(),
        "strategy": config.strategy().as_str(),
        "first_machines": first,
    });
    let kind = match config.ip_kind() {
        Some(IpKind::Shared) => Some("shared"),
        Some(IpKind::Dedicated) => Some("dedicated"),
        None => None,
    };
    let paths = config.health_paths();
    let optional = [
        ("ip", kind.map(Value::from)),
        (
            "url",
            config
                .url(config.app.as_deref().unwrap_or("app"))
                .map(Value::from),
        ),
        ("health_paths", (!paths.is_empty()).then(|| json!(paths))),
        (
            "warnings",
            (!parsed.warnings.is_empty()).then(|| json!(lines(&parsed.warnings))),
        ),
        (
            "release",
            config
                .deploy
                .release_command
                .as_ref()
                .map(|_| json!(config.release_machine_config(&context, None).unwrap())),
        ),
    ];
    for (key, value) in optional {
        if let Some(value) = value {
            whole[key] = value;
        }
    }
    whole
}

#[test]
fn every_golden_case_gives_what_it_gave() {
    let update = std::env::var_os("GOLIVE_UPDATE_GOLDEN").is_some();
    let mut cases = 0;
    let mut wrong = Vec::new();
    let mut entries: Vec<PathBuf> = std::fs::read_dir(testdata())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    entries.sort();
    for path in entries {
        cases += 1;
        let found = outcome(&std::fs::read_to_string(&path).unwrap());
        let golden = path.with_extension("json");
        if update {
            let text = serde_json::to_string_pretty(&found).unwrap();
            std::fs::write(&golden, text + "\n").unwrap();
            continue;
        }
        let text = std::fs::read_to_string(&golden).unwrap_or_else(|_| "null".to_owned());
        let expected: Value = serde_json::from_str(&text).unwrap();
        if found != expected {
            wrong.push(format!(
                "{}:\nfound {found:#}\nexpected {expected:#}",
                path.display()
            ));
        }
    }
    assert!(cases >= 40, "only {cases} cases");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_case_called_bad_is_refused_and_every_other_is_accepted() {
    for entry in std::fs::read_dir(testdata()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap();
        let parsed = parse(&std::fs::read_to_string(&path).unwrap());
        assert_eq!(
            parsed.is_err(),
            name.starts_with("bad-"),
            "{name}: {parsed:?}"
        );
    }
}
