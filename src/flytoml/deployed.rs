//! What a real `fly deploy --image` sent for the golden cases, field by field against what we send.
//!
//! `testdata/NAME.flyctl.json` was written by a run of flyctl against the simulator; see
//! `docs/fly-toml.md`, which also explains every difference that is allowed here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Value, json};

use super::machine::{RELEASE_COMMAND_GROUP, Release};
use super::*;
use crate::fly::machine_config::{MachineConfig, MachineGuest};

/// Cases in which our own result differs on purpose, and at which field.
const ON_PURPOSE: &[(&str, &str)] = &[("checks-readiness", "checks.ready.kind")];

#[derive(Deserialize)]
struct Run {
    first: Vec<Sent>,
    update: Option<Vec<Sent>>,
    /// The platform did not take it: what would have come after the first machine was not sent.
    refused: Option<String>,
}

#[derive(Clone, Deserialize)]
struct Sent {
    process_group: String,
    count: u32,
    #[serde(default)]
    region: Value,
    skip_launch: bool,
    config: Value,
}

fn testdata() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/flytoml/testdata")
}

/// Name, configuration and flyctl's machines of every case that was run.
fn runs() -> Vec<(String, AppConfig, Run)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(testdata()).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        let Some(name) = file.strip_suffix(".flyctl.json") else {
            continue;
        };
        let toml = path.with_file_name(format!("{name}.toml"));
        let config = parse(&std::fs::read_to_string(toml).unwrap())
            .unwrap()
            .config;
        let run = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        all.push((name.to_owned(), config, run));
    }
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all
}

/// Without what is absent and empty alike, without flyctl's version and ids of volumes, headers by
/// name.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .filter(|(key, value)| *key != "fly_flyctl_version" && *value != "<id of the volume>")
            .map(|(key, value)| (key.clone(), plain(value)))
            .filter(|(_, value)| !is_empty(value))
            .collect(),
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(plain).collect();
            if items.iter().all(|item| item.get("values").is_some()) {
                items.sort_by_key(|item| item["name"].as_str().map(str::to_owned));
            }
            json!(items)
        }
        other => other.clone(),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// Where two values differ.
fn differences(flyctl: &Value, ours: &Value, at: &str, all: &mut Vec<String>) {
    if let (Value::Object(one), Value::Object(other)) = (flyctl, ours) {
        let keys: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
        for key in keys {
            differences(&flyctl[key], &ours[key], &format!("{at}.{key}"), all);
        }
    } else if let (Value::Array(one), Value::Array(other)) = (flyctl, ours)
        && one.len() == other.len()
    {
        for (index, (one, other)) in one.iter().zip(other).enumerate() {
            differences(one, other, &format!("{at}.{index}"), all);
        }
    } else if flyctl != ours {
        all.push(format!("{at}: flyctl sends {flyctl}, we send {ours}"));
    }
}

fn context(tag: &'static str, version: u64) -> Context<'static> {
    Context {
        image: tag,
        release: Some(Release {
            id: "<id of the release>".to_owned(),
            version,
        }),
        ..Context::default()
    }
}

/// The machines as flyctl counts them, by group and whether they are started.
fn by_kind(machines: &[Sent]) -> BTreeMap<(String, bool), Sent> {
    let key = |sent: &Sent| (sent.process_group.clone(), sent.skip_launch);
    machines
        .iter()
        .map(|sent| (key(sent), sent.clone()))
        .collect()
}

fn first_differences(config: &AppConfig, run: &Run) -> Vec<String> {
    let context = context("registry.fly.io/app:1", 1);
    let ours: Vec<Sent> = first_deployment(config, &context, &BTreeMap::new(), &BTreeMap::new())
        .unwrap()
        .iter()
        .map(|machines| serde_json::from_value(json!(machines)).unwrap())
        .collect();
    let (ours, flyctls) = (by_kind(&ours), by_kind(&run.first));
    let mut all = Vec::new();
    for (kind, flyctl) in &flyctls {
        let at = format!("{} {}", kind.0, if kind.1 { "standby" } else { "first" });
        match ours.get(kind) {
            None => all.push(format!("{at}: we send no such machine")),
            Some(ours) => {
                if ours.count != flyctl.count && run.refused.is_none() {
                    all.push(format!(
                        "{at}: {} machines, ours {}",
                        flyctl.count, ours.count
                    ));
                }
                differences(
                    &flyctl.region,
                    &ours.region,
                    &format!("{at} region"),
                    &mut all,
                );
                differences(&plain(&flyctl.config), &plain(&ours.config), &at, &mut all);
            }
        }
    }
    let unsent = ours.keys().filter(|kind| !flyctls.contains_key(kind));
    for kind in unsent.filter(|_| run.refused.is_none()) {
        all.push(format!("{kind:?}: flyctl sends no such machine"));
    }
    all
}

fn update_differences(config: &AppConfig, run: &Run) -> Vec<String> {
    let context = context("registry.fly.io/app:2", 2);
    let mut all = Vec::new();
    for sent in run.update.iter().flatten() {
        let group = &sent.process_group;
        let ours = if group == RELEASE_COMMAND_GROUP {
            let default = config.default_group();
            let largest = run
                .first
                .iter()
                .find(|first| first.process_group == default);
            let largest = largest.map(|first| &first.config["guest"]);
            let largest: Option<MachineGuest> =
                largest.map(|guest| serde_json::from_value(guest.clone()).unwrap());
            config.release_machine_config(&context, largest.as_ref())
        } else {
            let before = run.first.iter().find(|first| {
                first.process_group == *group && first.skip_launch == sent.skip_launch
            });
            let before: MachineConfig =
                serde_json::from_value(before.unwrap().config.clone()).unwrap();
            let context = Context {
                live: Some(&before),
                ..context.clone()
            };
            config.machine_config(group, &context)
        };
        let ours = serde_json::to_value(ours.unwrap()).unwrap();
        let at = format!("update of {group}");
        differences(&plain(&sent.config), &plain(&ours), &at, &mut all);
    }
    all
}

#[test]
fn a_deployment_sends_what_flyctl_sends_field_by_field() {
    let runs = runs();
    assert!(runs.len() >= 40, "only {} cases", runs.len());
    let mut wrong = Vec::new();
    let mut met = BTreeSet::new();
    for (name, config, run) in &runs {
        let all = first_differences(config, run).into_iter();
        for difference in all.chain(update_differences(config, run)) {
            let allowed = ON_PURPOSE
                .iter()
                .find(|(case, field)| case == name && difference.contains(field));
            match allowed {
                Some(allowed) => {
                    met.insert(allowed);
                }
                None => wrong.push(format!("{name}: {difference}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let unmet: Vec<_> = ON_PURPOSE.iter().filter(|one| !met.contains(one)).collect();
    assert!(unmet.is_empty(), "no longer different: {unmet:?}");
}

#[test]
fn the_cases_that_flyctl_deployed_use_every_key_that_we_read() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/fly-toml.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, rest) = page.split_once("## What is read").unwrap();
    let (section, _) = rest.split_once("\n## ").unwrap();
    let mut used = BTreeSet::new();
    for (name, ..) in runs() {
        let path = testdata().join(format!("{name}.toml"));
        let text = std::fs::read_to_string(path).unwrap();
        let words = text.split(|c: char| !c.is_alphanumeric() && !"_-".contains(c));
        used.extend(words.map(str::to_owned));
    }
    let mut unused = Vec::new();
    let mut keys = 0;
    for row in section.lines().filter(|line| line.starts_with('|')).skip(2) {
        // Every second piece between backticks is a key, or a path of keys.
        for key in row
            .split('`')
            .skip(1)
            .step_by(2)
            .flat_map(|path| path.split('.'))
        {
            let key = key.trim_matches(|c| "[]".contains(c));
            // What the page says about the Activation's own field, and a name that a user chooses.
            if key == "region" || key == "NAME" {
                continue;
            }
            keys += 1;
            if !used.contains(key) {
                unused.push(key.to_owned());
            }
        }
    }
    assert!(keys > 100, "the page has only {keys} keys");
    assert!(unused.is_empty(), "in no case: {unused:?}");
}
