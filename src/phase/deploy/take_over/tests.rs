#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;
use crate::{
    flytoml,
    phase::deploy::fleet::wanted::{FleetSpec, machines},
    store::claim::{TakenOver, tests::claim},
};

const TOML: &str = "app = 'a'\n[processes]\nweb = ''\njobs = ''\n[http_service]\ninternal_port = 8080\nprocesses = ['web']\n";

fn wanted(uid: &str, secrets: &str) -> Vec<WantedMachine> {
    let config = flytoml::parse(TOML).unwrap().config;
    let owner = Owner {
        namespace: "n".to_owned(),
        name: "a".to_owned(),
        uid: uid.to_owned(),
        generation: 1,
    };
    machines(&FleetSpec {
        scale: &[("web".to_owned(), 1), ("jobs".to_owned(), 1)].into(),
        regions: &BTreeMap::new(),
        region: "eze",
        owner: &owner,
        config: &config,
        image: "r/a@sha256:1",
        secrets,
        release: "key",
        size: None,
    })
    .unwrap()
}

/// The machine that was made of this, with these changes.
fn made_of(wanted: &WantedMachine, change: serde_json::Value) -> Machine {
    let mut machine = json!({
        "id": format!("id-{}", wanted.slot), "name": wanted.name, "state": "started",
        "region": "eze", "instance_id": "01", "config": wanted.config,
        "image_ref": {"digest": "sha256:1"}, "created_at": "2026-01-01T00:00:00Z",
    });
    json_patch(&mut machine, change);
    serde_json::from_value(machine).unwrap()
}

fn json_patch(into: &mut serde_json::Value, change: serde_json::Value) {
    match (into, change) {
        (serde_json::Value::Object(into), serde_json::Value::Object(change)) => {
            for (key, value) in change {
                json_patch(into.entry(key).or_insert(serde_json::Value::Null), value);
            }
        }
        (into, change) => *into = change,
    }
}

/// The marks that each of these machines gets, by its name.
fn take(others: &[Machine], same_secrets: bool) -> BTreeMap<String, BTreeMap<String, String>> {
    let (ours, former) = (wanted("new", "s"), wanted("old", "s"));
    let inventory = Inventory {
        wanted: &ours,
        former: &[("old".to_owned(), former)].into(),
        ours: &[],
        same_secrets,
    };
    let text = |(key, value): (String, Option<String>)| (key, value.unwrap_or_default());
    inventory
        .taking(others)
        .into_iter()
        .map(|taking| (taking.name, taking.marks.into_iter().map(text).collect()))
        .collect()
}

#[test]
fn a_machine_of_a_former_owner_that_was_given_the_same_is_marked_as_current() {
    let (ours, former) = (wanted("new", "s"), wanted("old", "s"));
    let taken = take(&[made_of(&former[0], json!({}))], false);
    let marks = &taken[&former[0].name];
    assert_eq!(marks[UID_KEY], "new");
    assert_eq!(marks[CONFIG_KEY], ours[0].hash);
    assert_eq!(marks[RELEASE_KEY], "key");
}

#[test]
fn a_machine_that_was_given_something_else_changes_only_its_owner() {
    for former in [wanted("old", "other secrets"), wanted("unknown", "s")] {
        let taken = take(&[made_of(&former[0], json!({}))], false);
        let marks = &taken[&former[0].name];
        assert_eq!(marks[UID_KEY], "new");
        assert_eq!(marks.get(CONFIG_KEY), None);
    }
}

#[test]
fn a_machine_of_a_lost_cluster_is_current_when_image_configuration_and_secrets_are_the_same() {
    // Another installation has another key, so that the hashes differ.
    let lost = wanted("unknown", "other key");
    let marks = |change, same_secrets| {
        let taken = take(&[made_of(&lost[0], change)], same_secrets);
        taken[&lost[0].name].contains_key(CONFIG_KEY)
    };
    assert!(marks(json!({}), true));
    assert!(!marks(json!({}), false));
    assert!(!marks(
        json!({"config": {"init": {"cmd": ["another"]}}}),
        true
    ));
    let other = json!({"config": {"image": "r/a:2"}, "image_ref": {"digest": "sha256:2"}});
    assert!(!marks(other, true));
    let named = json!({"config": {"image": "r/a:1"}});
    assert!(marks(named, true), "the same image by its tag");
}

#[test]
fn a_machine_without_marks_fills_a_free_place_of_its_group_and_region() {
    let ours = wanted("new", "s");
    let bare = |name: &str, group: &str, region: &str| {
        made_of(
            &ours[0],
            json!({
                "name": name, "id": name, "region": region,
                "config": {"metadata": {"fly_process_group": group}},
            }),
        )
    };
    let mut machines: Vec<Machine> = [
        ("first", "web", "eze"),
        ("second", "web", "eze"),
        ("elsewhere", "web", "gru"),
        ("console", "fly_app_console", "eze"),
    ]
    .map(|(name, group, region)| bare(name, group, region))
    .into();
    for machine in &mut machines {
        let config = machine.config.as_mut().unwrap();
        config.metadata.retain(|key, _| key == GROUP);
    }
    let taken = take(&machines, false);
    assert_eq!(taken.keys().collect::<Vec<_>>(), ["first"]);
    let web = ours.iter().find(|wanted| wanted.group == "web").unwrap();
    assert_eq!(taken["first"][SLOT_KEY], web.slot);
    assert_eq!(taken["first"].get(CONFIG_KEY), None);
}

#[test]
fn only_machines_of_former_owners_pass_unless_everything_does() {
    let machine = made_of(&wanted("old", "s")[0], json!({}));
    let bare = {
        let mut machine = machine.clone();
        machine.config.as_mut().unwrap().metadata.clear();
        machine
    };
    let mut ours = claim("new", "n", "a", false);
    ours.taken = Some("2026-02-01T00:00:00Z".parse().unwrap());
    assert!(!passes(&ours, &machine) && !passes(&ours, &bare));
    ours.taken_over.former.insert("old".to_owned());
    assert!(passes(&ours, &machine) && !passes(&ours, &bare));
    ours.taken_over = TakenOver {
        everything: true,
        ..TakenOver::default()
    };
    assert!(passes(&ours, &machine) && passes(&ours, &bare));
    // What somebody makes later is no part of what was taken over.
    ours.taken = Some("2025-12-01T00:00:00Z".parse().unwrap());
    assert!(!passes(&ours, &bare));
}
