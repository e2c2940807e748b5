//! What a real `fly deploy --image` sent for the golden cases, field by field against what we send.
//!
//! `testdata/NAME.flyctl.json` was written by a run of flyctl against the simulator; see
//! `docs/fly-toml.md`, which also explains every difference that is allowed here. What the operator
//! sends is compared with it in `tests/it/deploy/parity.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::recorded::{Case, Comparison, ON_PURPOSE, Run, Sent, cases};
use crate::fly::machine_config::{MachineConfig, MachineGuest};
use crate::flytoml::machine::{RELEASE_COMMAND_GROUP, Release};
use crate::flytoml::*;

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

/// The conversion has no volume to name.
fn without_volumes(sent: &[Sent]) -> Vec<Sent> {
    let mut sent = sent.to_vec();
    for machine in &mut sent {
        let mounts = machine.config.get_mut("mounts");
        for mount in mounts.and_then(Value::as_array_mut).into_iter().flatten() {
            mount.as_object_mut().unwrap().remove("volume");
        }
    }
    sent
}

fn first(config: &AppConfig) -> Vec<Sent> {
    let context = context("registry.fly.io/app:1", 1);
    first_deployment(config, &context, &BTreeMap::new(), &BTreeMap::new())
        .unwrap()
        .iter()
        .map(|machines| serde_json::from_value(json!(machines)).unwrap())
        .collect()
}

/// What an update of the machines of the first deployment gives.
fn update(config: &AppConfig, run: &Run) -> Vec<Sent> {
    let context = context("registry.fly.io/app:2", 2);
    let mut all = without_volumes(run.update.as_deref().unwrap_or_default());
    for sent in &mut all {
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
        sent.config = serde_json::to_value(ours.unwrap()).unwrap();
    }
    without_volumes(&all)
}

fn compare(case: &Case) -> Comparison {
    let config = parse(&case.toml).unwrap().config;
    let run = &case.run;
    let refused = run.refused.is_some();
    let mut found = Comparison::default();
    found.machines(
        "first:",
        &without_volumes(&run.first),
        &first(&config),
        refused,
    );
    if let Some(theirs) = &run.update {
        let ours = update(&config, run);
        found.machines("update:", &without_volumes(theirs), &ours, refused);
    }
    found
}

#[test]
fn a_deployment_sends_what_flyctl_sends_field_by_field() {
    let cases = cases();
    assert!(cases.len() >= 40, "only {} cases", cases.len());
    let mut wrong = Vec::new();
    let mut met = BTreeSet::new();
    let mut fields = 0;
    for case in &cases {
        let found = compare(case);
        fields += found.fields;
        for difference in found.differences {
            let allowed = ON_PURPOSE
                .iter()
                .find(|(name, field)| *name == case.name && difference.at.contains(field));
            match allowed {
                Some(allowed) => {
                    met.insert(allowed);
                }
                None => wrong.push(format!("{}: {}", case.name, difference.text())),
            }
        }
    }
    println!("{} cases, {fields} fields", cases.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let unmet: Vec<_> = ON_PURPOSE.iter().filter(|one| !met.contains(one)).collect();
    assert!(unmet.is_empty(), "no longer different: {unmet:?}");
}

#[test]
fn flyctl_makes_addresses_and_volumes_as_the_file_asks_for_them() {
    for case in cases() {
        let config = parse(&case.toml).unwrap().config;
        let kinds: BTreeSet<&str> = case
            .run
            .addresses
            .iter()
            .map(|address| address["type"].as_str().unwrap())
            .collect();
        // It asks before it allocates a dedicated address, and here nobody answers.
        let wanted: &[&str] = match config.ip_kind() {
            Some(IpKind::Shared) => &["shared_v4", "v6"],
            Some(IpKind::Dedicated) | None => &[],
        };
        assert!(kinds.iter().eq(wanted), "{}: {kinds:?}", case.name);
        let groups = config.process_groups();
        let mounted = groups.iter().flat_map(|group| config.mounts_of(group));
        assert_eq!(case.run.volumes.len(), mounted.count(), "{}", case.name);
    }
}
