#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::*;
use crate::{
    phase::releases::record::{Content, Hold, Migration, Provenance},
    plan::testing::target,
};

/// A record as it is read.
pub fn record(number: u64, key: &str, outcome: Outcome) -> Record {
    Record {
        number,
        key: key.to_owned(),
        content: Content {
            image: "registry.fly.io/a:1".to_owned(),
            pinned: "registry.fly.io/a@sha256:1".to_owned(),
            digest: "sha256:0123456789abcdef".to_owned(),
            config: Some("app = 'a'".to_owned()),
            served: None,
            port: 8080,
            config_hash: String::new(),
            env: Vec::new(),
            secrets: BTreeMap::new(),
            fingerprints: BTreeMap::new(),
            fallback: None,
            since: BTreeMap::new(),
        },
        outcome,
        proven: true,
        reason: String::new(),
        restores: None,
        time: Timestamp::UNIX_EPOCH,
        hold: Hold {
            target: target("").digest().to_owned(),
            retry: BTreeSet::new(),
        },
        provenance: Provenance::default(),
        migration: Migration::default(),
        requests: Vec::new(),
        fly_version: None,
        failed_command: None,
        passed_commands: Default::default(),
    }
}

/// Records of these releases, numbered from 1. The first serves again in the place of those that
/// failed.
pub fn records(list: &[(&str, Outcome)]) -> Records {
    let list = list.iter().zip(1..);
    let record = |((key, outcome), number): (&(&str, Outcome), u64)| Record {
        restores: (*outcome == Outcome::Failed).then_some(1),
        ..record(number, key, *outcome)
    };
    Records {
        list: list.map(record).collect(),
    }
}

/// The same, and one more that failed and was left as it is.
pub fn with_left(list: &[(&str, Outcome)], key: &str) -> Records {
    let records = records(list);
    let number = records.list.len() as u64 + 1;
    records.with(record(number, key, Outcome::Failed))
}

#[test]
fn a_failed_release_is_held_for_the_same_target_only() {
    let records = records(&[("a", Outcome::Succeeded), ("b", Outcome::Failed)]);
    let same = target("");
    let other = target("deploy: {image: 'registry.fly.io/shop:2'}");
    assert!(records.held("b", &same).is_some());
    assert!(records.held("b", &other).is_none());
    assert!(records.held("c", &same).is_none());
    assert!(!records.is_good("a"), "what failed came after it");
    assert_eq!(records.number("b", &same), 2);
    assert_eq!(records.number("b", &other), 3);
}

#[test]
fn a_failed_release_that_was_left_is_not_held_and_keeps_its_number_until_it_is_healthy() {
    let same = target("");
    let mut records = with_left(&[("a", Outcome::Succeeded)], "b");
    assert!(records.held("b", &same).is_none() && !records.is_good("b"));
    assert_eq!(records.serving_record().unwrap().number, 1);
    assert_eq!(records.number("b", &same), 2, "its own");
    assert_eq!(records.number("c", &same), 3);
    assert_eq!(records.history()[0].outcome, HistoryOutcome::Failed);
    assert!(records.has_failure("b", &same) && !records.has_failure("c", &same));
    let undone = target("deploy: {migrations: {reversible: true}}");
    assert!(!records.has_failure("b", &undone), "that is recorded");

    let mut well = record(2, "b", Outcome::Succeeded);
    records.list[1].fly_version = Some(7);
    well.merge(&records.list[1]);
    records = records.with(well);
    assert!(records.is_good("b"));
    assert_eq!(
        (records.list.len(), records.list[1].fly_version),
        (2, Some(7))
    );
}

#[test]
fn a_begun_release_does_not_serve_and_its_migration_counts() {
    let same = target("");
    let mut records = records(&[("a", Outcome::Succeeded), ("b", Outcome::Begun)]);
    records.list[1].migration.migrated = true;
    assert_eq!(records.serving_record().unwrap().number, 1);
    assert!(!records.is_good("a") && !records.is_good("b"));
    assert!(records.held("b", &same).is_none() && records.left("b").is_none());
    assert_eq!(records.number("b", &same), 2, "its own");
    assert_eq!(records.number("c", &same), 3, "another one's");
    assert_eq!(records.irreversible_after(1, "c").unwrap().number, 2);
    assert_eq!(records.ended().unwrap().number, 1);
    assert_eq!(records.history()[0].outcome, HistoryOutcome::Begun);
    let records = records.with(record(3, "c", Outcome::Failed));
    assert_eq!(records.history()[1].outcome, HistoryOutcome::Superseded);
}

#[test]
fn a_migration_counts_from_the_release_with_which_the_serving_one_began() {
    let mut records = records(&[("a", Outcome::Succeeded), ("b", Outcome::Failed)]);
    records.list[1].migration.migrated = true;
    let ServingRecord {
        record: good,
        since,
    } = records.serving().unwrap();
    assert_eq!((good.number, since), (1, 2));
    assert!(
        records.irreversible_after(since, "").is_none(),
        "it was decided on then"
    );
    records.list[1].restores = None;
    let since = records.serving().unwrap().since;
    assert_eq!(records.irreversible_after(since, "").unwrap().number, 2);
    assert!(records.irreversible_after(since, "b").is_none());
    records.list[1].migration.reversible = true;
    assert!(records.irreversible_after(since, "").is_none());
}

#[test]
fn a_migration_stays_on_record_while_it_keeps_the_serving_release_from_being_restored() {
    let mut all = with_left(&[("good", Outcome::Succeeded)], "migrates");
    all.list[1].migration.migrated = true;
    for number in 3..30 {
        all = all.with(record(number, "bad", Outcome::Failed));
        for number in all.superfluous() {
            all = all.without(number);
        }
    }
    assert_eq!(all.list.len(), KEPT);
    let ServingRecord {
        record: good,
        since,
    } = all.serving().unwrap();
    assert_eq!(good.key, "good");
    assert_eq!(all.irreversible_after(since, "bad").unwrap().number, 2);
}

#[test]
fn a_new_retry_token_lifts_the_hold_once() {
    let mut records = records(&[("a", Outcome::Succeeded), ("b", Outcome::Failed)]);
    let mut target = target("");
    target.retry = BTreeSet::from(["now".to_owned()]);
    assert!(records.held("b", &target).is_none());
    assert_eq!(records.number("b", &target), 3);
    records.list[1].hold.retry = target.retry.clone();
    assert!(
        records.held("b", &target).is_some(),
        "it failed with this token"
    );
    target.retry.clear();
    assert!(
        records.held("b", &target).is_some(),
        "a token that is removed requests nothing"
    );
}

#[test]
fn the_release_that_was_restored_last_serves() {
    let mut records = records(&[
        ("a", Outcome::Succeeded),
        ("b", Outcome::Succeeded),
        ("c", Outcome::Failed),
    ]);
    records.list[2].restores = Some(1);
    assert_eq!(records.serving_record().unwrap().number, 1);
    records.list[2].restores = None;
    assert_eq!(records.serving_record().unwrap().number, 2);
    records.list[2].outcome = Outcome::Succeeded;
    assert_eq!(records.serving_record().unwrap().number, 3);
}

#[test]
fn ten_releases_are_kept_and_the_serving_one_always() {
    let mut all = records(&[("good", Outcome::Succeeded)]);
    for number in 2..30 {
        all = all.with(record(number, "bad", Outcome::Failed));
        for number in all.superfluous() {
            all = all.without(number);
        }
    }
    assert_eq!(all.list.len(), KEPT);
    assert_eq!(all.serving_record().unwrap().key, "good");
    assert_eq!(all.latest().unwrap().number, 29);
    assert_eq!(all.history().len(), KEPT);
    assert_eq!(all.history().first().unwrap().version, Some(29));
}

#[test]
fn a_request_is_found_in_the_record_that_was_the_latest() {
    let mut all = records(&[("a", Outcome::Succeeded), ("b", Outcome::Failed)]);
    all.list[1].requests.push(Request {
        uid: "u1".to_owned(),
        name: "n".to_owned(),
        by: "ana".to_owned(),
        to: 1,
        refused: None,
        note: String::new(),
        time: Timestamp::UNIX_EPOCH,
    });
    assert!(all.request("u1").is_some());
    assert!(all.request("u2").is_none());
    assert_eq!(all.last_request().unwrap().by, "ana");
}
