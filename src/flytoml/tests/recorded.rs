//! What a real flyctl sent for the golden cases, and how it is compared with what we send.
//!
//! `testdata/NAME.flyctl.json` was written by a run of flyctl against the simulator; see
//! `docs/fly-toml.md`, which also explains every difference that is allowed. Two tests use this:
//! `deployed.rs` for the conversion alone, and `tests/it/deploy/parity.rs` for what the operator sends.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Cases in which our own result differs on purpose, and at which field.
pub const ON_PURPOSE: &[(&str, &str)] = &[("checks-readiness", "checks.ready.kind")];

/// What two deployments of the same file sent.
#[derive(Deserialize)]
pub struct Run {
    /// The machines of the first one.
    pub first: Vec<Sent>,
    /// The machines of the second one, with another image.
    pub update: Option<Vec<Sent>>,
    /// The platform did not take it: what would have come after the first machine was not sent.
    pub refused: Option<String>,
    /// The volumes of both: bodies of their creates.
    pub volumes: Vec<Value>,
    /// The addresses of both: bodies of their assignments.
    pub addresses: Vec<Value>,
}

/// Machines that were sent alike.
#[derive(Clone, Deserialize)]
pub struct Sent {
    /// The process group.
    pub process_group: String,
    /// How many.
    pub count: u32,
    /// The region, if one was named.
    #[serde(default)]
    pub region: Value,
    /// Whether they are created or updated without being started.
    pub skip_launch: bool,
    /// The configuration.
    pub config: Value,
}

/// A file that flyctl deployed.
pub struct Case {
    /// Its name.
    pub name: String,
    /// The `fly.toml`.
    pub toml: String,
    /// What flyctl sent.
    pub run: Run,
}

/// A field in which we differ.
#[derive(Debug)]
pub struct Difference {
    /// Which machines, and the path of the field.
    pub at: String,
    /// What flyctl sends there.
    pub flyctl: Value,
    /// What we send there.
    pub ours: Value,
}

/// What a comparison has found.
#[derive(Default)]
pub struct Comparison {
    /// Fields that were compared.
    pub fields: usize,
    /// Those that differ.
    pub differences: Vec<Difference>,
}

/// Every case that was deployed, by name.
pub fn cases() -> Vec<Case> {
    let mut all = recorded();
    all.retain(|case| !case.name.starts_with("bad-"));
    all
}

/// The cases of which the platform did not take the machines; Golive does not send them.
#[allow(
    dead_code,
    reason = "used by one of the two tests that include this file"
)]
pub fn refused() -> Vec<Case> {
    let mut all = recorded();
    all.retain(|case| case.name.starts_with("bad-"));
    all
}

/// Every case that was run, by name.
fn recorded() -> Vec<Case> {
    let testdata = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/flytoml/testdata");
    let mut all = Vec::new();
    for entry in std::fs::read_dir(testdata).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        let Some(name) = file.strip_suffix(".flyctl.json") else {
            continue;
        };
        let toml = path.with_file_name(format!("{name}.toml"));
        all.push(Case {
            name: name.to_owned(),
            toml: std::fs::read_to_string(toml).unwrap(),
            run: serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap(),
        });
    }
    all.sort_by(|one, other| one.name.cmp(&other.name));
    all
}

impl Difference {
    /// One line for a person.
    pub fn text(&self) -> String {
        let (flyctl, ours) = (&self.flyctl, &self.ours);
        format!("{}: flyctl sends {flyctl}, we send {ours}", self.at)
    }
}

impl Comparison {
    /// Compares all machines of one deployment with ours, by group and whether they are started.
    /// Of what the platform refused only what was sent until then can be compared.
    pub fn machines(&mut self, at: &str, flyctl: &[Sent], ours: &[Sent], refused: bool) {
        let (flyctl, ours) = (by_kind(flyctl), by_kind(ours));
        let kinds: BTreeSet<&(String, bool)> = flyctl.keys().chain(ours.keys()).collect();
        for kind in kinds {
            let (group, skip_launch) = kind;
            let how = if *skip_launch {
                "not started"
            } else {
                "started"
            };
            let at = format!("{at} {group} {how}");
            let (theirs, ours) = (flyctl.get(kind), ours.get(kind));
            if !refused {
                let count = |sent: Option<&Vec<&Sent>>| -> u32 {
                    sent.into_iter().flatten().map(|sent| sent.count).sum()
                };
                self.field(
                    &format!("{at} count"),
                    &json!(count(theirs)),
                    &json!(count(ours)),
                );
            }
            // Each of ours beside one of theirs, so that none is left out.
            let (theirs, ours) = (theirs.into_iter().flatten(), ours.into_iter().flatten());
            let Some(like) = theirs.clone().next() else {
                continue;
            };
            for ours in ours.clone() {
                let theirs = theirs.clone().find(|sent| sent.config == ours.config);
                let theirs = theirs.unwrap_or(like);
                self.field(&format!("{at} region"), &theirs.region, &ours.region);
                self.values(&at, &plain(&theirs.config), &plain(&ours.config));
            }
        }
    }

    /// Compares two values field by field.
    pub fn values(&mut self, at: &str, flyctl: &Value, ours: &Value) {
        if let (Value::Object(one), Value::Object(other)) = (flyctl, ours) {
            let keys: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            for key in keys {
                self.values(&format!("{at}.{key}"), &flyctl[key], &ours[key]);
            }
        } else if let (Value::Array(one), Value::Array(other)) = (flyctl, ours)
            && one.len() == other.len()
        {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                self.values(&format!("{at}.{index}"), one, other);
            }
        } else {
            self.field(at, flyctl, ours);
        }
    }

    fn field(&mut self, at: &str, flyctl: &Value, ours: &Value) {
        self.fields += 1;
        if flyctl != ours {
            self.differences.push(Difference {
                at: at.to_owned(),
                flyctl: flyctl.clone(),
                ours: ours.clone(),
            });
        }
    }
}

/// Process group of machines that run a release or seed command.
const RELEASE_COMMAND: &str = "fly_app_release_command";

fn by_kind(machines: &[Sent]) -> BTreeMap<(String, bool), Vec<&Sent>> {
    let mut all: BTreeMap<_, Vec<&Sent>> = BTreeMap::new();
    for sent in machines {
        // A command's machine is started by its create here, and by another call by flyctl.
        let command = sent.process_group == RELEASE_COMMAND;
        let kind = (sent.process_group.clone(), sent.skip_launch && !command);
        all.entry(kind).or_default().push(sent);
    }
    all
}

/// Without what is absent and empty alike, without flyctl's version, headers by name.
pub fn plain(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map
                .iter()
                .filter(|(key, _)| *key != "fly_flyctl_version")
                .map(|(key, value)| (key.clone(), plain(value)))
                .filter(|(_, value)| !is_empty(value));
            Value::Object(kept.collect::<Map<_, _>>())
        }
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
