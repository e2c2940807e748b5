//! The decisions on the way from nothing to a cluster that is ready.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;
use crate::{
    phase::app_lookup::AppLookup, pipeline::Owner, plan::testing::target,
    store::claim::tests::claim,
};

fn spec() -> Spec {
    Spec::default()
}

fn outside(lookup: AppLookup, claim: Option<Claim>, adoption: &str) -> Verdict<ClusterChange> {
    let owner = Owner {
        namespace: "cabanas".into(),
        name: "shop".into(),
        uid: "uid-1".into(),
        generation: 1,
    };
    let claim = claim.map(Box::new);
    let state = ClusterState::Outside {
        lookup,
        claim,
        owner,
    };
    decide(&target(&format!("adoption: {adoption}")), &spec(), &state)
}

fn inside(
    missing: &[&'static str],
    stored: bool,
    volumes: Value,
    machines: Value,
) -> Verdict<ClusterChange> {
    let state = ClusterState::Inside {
        missing: missing.iter().copied().collect(),
        stored,
        volumes: serde_json::from_value(volumes).unwrap(),
        machines: serde_json::from_value(machines).unwrap(),
    };
    decide(&target(""), &spec(), &state)
}

fn there(role: &str) -> AppLookup {
    let app = json!({"id": "shop-db", "name": "shop-db", "app_role": role});
    AppLookup::Found(Box::new(serde_json::from_value(app).unwrap()))
}

fn volume(state: &str, size: u32, attached: &str) -> Value {
    json!([{"id": "vol_1", "name": "pg_data", "state": state, "region": "eze", "size_gb": size,
        "attached_machine_id": attached}])
}

fn machine(state: &str, role: &str, pg: &str) -> Value {
    json!([{"id": "m1", "name": "shop-db-0", "state": state, "checks": [
        {"name": "pg", "status": pg}, {"name": "vm", "status": "passing"},
        {"name": "role", "status": "passing", "output": role},
    ]}])
}

#[test]
fn passwords_of_a_cluster_with_data_that_are_lost_are_not_made_anew_in_silence() {
    let lost = inside(
        &["SU_PASSWORD"],
        false,
        json!([]),
        machine("started", "primary", "passing"),
    );
    let Verdict::Blocked(why) = lost else {
        unreachable!("a person decides")
    };
    assert_eq!(why.reason, Reason::GeneratedSecretLost);
    assert!(why.message.contains("SU_PASSWORD"), "{}", why.message);
    // Before the first machine there is no data that knows them.
    let fresh = inside(&["SU_PASSWORD"], false, json!([]), json!([]));
    assert_eq!(
        fresh,
        Verdict::Change(ClusterChange::Generate("shop-db".to_owned()))
    );
}

#[test]
fn the_app_is_claimed_then_created_and_retained_data_is_found_again() {
    let ours = claim("uid-1", "cabanas", "shop", false);
    let left = claim("uid-0", "cabanas", "shop", true);
    let take = |verdict| matches!(verdict, Verdict::Change(ClusterChange::Claim { .. }));
    assert!(take(outside(AppLookup::NotFound, None, "Never")));
    assert_eq!(
        outside(AppLookup::NotFound, Some(ours), "Never"),
        Verdict::Change(ClusterChange::Create("shop-db".to_owned()))
    );
    assert!(take(outside(
        there("postgres_cluster"),
        Some(left),
        "Never"
    )));
}

#[test]
fn what_is_not_ours_is_not_touched() {
    let theirs = claim("uid-9", "other", "shop", false);
    let reason = |verdict| match verdict {
        Verdict::Blocked(why) => why.reason,
        other => unreachable!("{other:?}"),
    };
    let cluster = || there("postgres_cluster");
    assert_eq!(
        reason(outside(cluster(), Some(theirs), "Always")),
        Reason::AppClaimed
    );
    assert_eq!(
        reason(outside(cluster(), None, "Never")),
        Reason::AdoptionRefused
    );
    assert_eq!(
        reason(outside(there("web"), None, "Always")),
        Reason::NameTaken
    );
    assert_eq!(
        reason(outside(AppLookup::Forbidden, None, "Always")),
        Reason::NameTaken
    );
}

#[test]
fn passwords_are_stored_before_they_are_set_and_set_before_a_machine_starts() {
    let none = || json!([]);
    let app = || "shop-db".to_owned();
    let missing = ["SU_PASSWORD", "FLY_CONSUL_URL"];
    assert_eq!(
        inside(&missing, false, none(), none()),
        Verdict::Change(ClusterChange::Generate(app()))
    );
    assert_eq!(
        inside(&missing, true, none(), none()),
        Verdict::Change(ClusterChange::Secrets(app(), missing.into()))
    );
    let volume_change = ClusterChange::Volume(app(), 0);
    assert!(intent(&volume_change).is_some());
    assert_eq!(
        inside(&[], true, none(), none()),
        Verdict::Change(volume_change)
    );
}

#[test]
fn a_volume_is_used_before_another_is_created() {
    let free = inside(&[], true, volume("created", 1, ""), json!([]));
    assert!(
        matches!(free, Verdict::Change(ClusterChange::Machine { volume, .. }) if volume == "vol_1")
    );
    for held in [volume("creating", 1, ""), volume("created", 1, "m9")] {
        let verdict = inside(&[], true, held, json!([]));
        assert!(matches!(verdict, Verdict::Wait { .. }), "{verdict:?}");
    }
}

#[test]
fn the_cluster_is_ready_when_every_check_passes_and_one_is_the_primary() {
    let on = |machine, size| inside(&[], true, volume("created", size, "m1"), machine);
    let ready = machine("started", "primary", "passing");
    assert_eq!(on(ready.clone(), 1), Verdict::Done);
    assert_eq!(on(ready, 2), Verdict::Done);
    for waiting in [
        machine("starting", "primary", "passing"),
        machine("started", "primary", "critical"),
        machine("started", "replica", "passing"),
    ] {
        let verdict = on(waiting, 1);
        assert!(matches!(verdict, Verdict::Wait { .. }), "{verdict:?}");
    }
    let stopped = on(machine("stopped", "primary", "passing"), 1);
    assert!(matches!(stopped, Verdict::Change(ClusterChange::Start(..))));
    let failed = on(machine("failed", "primary", "passing"), 1);
    assert!(matches!(failed, Verdict::Blocked(why) if why.reason == Reason::DatabaseFailed));
}

#[test]
fn each_machine_gets_a_volume_of_its_own_and_one_is_created_at_a_time() {
    let spec = Spec { count: 3, ..spec() };
    let volume = |id: &str, state: &str, attached: &str| json!({"id": id, "name": "pg_data", "state": state, "region": "eze", "size_gb": 1, "attached_machine_id": attached});
    let next = |volumes: Value| {
        let volumes: Vec<Volume> = serde_json::from_value(volumes).unwrap();
        let volumes: Vec<&Volume> = volumes.iter().collect();
        new_machine(
            &spec,
            "shop-db".to_owned(),
            "shop-db-1".to_owned(),
            &volumes,
        )
    };
    let created = |at| Verdict::Change(ClusterChange::Volume("shop-db".to_owned(), at));
    let held = || volume("vol_1", "created", "m1");
    assert_eq!(next(json!([])), created(0));
    assert_eq!(next(json!([held()])), created(1));
    let waits = |volumes: Value| matches!(next(volumes), Verdict::Wait { .. });
    assert!(waits(json!([held(), volume("vol_2", "creating", "")])));
    assert!(
        waits(json!([held(), held(), held()])),
        "there are as many as machines"
    );
    let free = next(json!([held(), volume("vol_2", "created", "")]));
    assert!(
        matches!(free, Verdict::Change(ClusterChange::Machine { volume, .. }) if volume == "vol_2")
    );
}
