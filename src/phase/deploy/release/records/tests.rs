#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::plan::testing::target;

/// A record as it would be read.
pub fn record(number: u64, key: &str, outcome: Outcome) -> Record {
    Record {
        number,
        key: key.to_owned(),
        image: "registry.fly.io/a:1".to_owned(),
        pinned: "registry.fly.io/a@sha256:1".to_owned(),
        digest: "sha256:0123456789abcdef".to_owned(),
        config: Some("app = 'a'".to_owned()),
        port: 8080,
        config_hash: String::new(),
        env: Vec::new(),
        secrets: BTreeMap::new(),
        outcome,
        reason: String::new(),
        target: target("").digest().to_owned(),
        retry: BTreeSet::new(),
        restores: None,
        by: String::new(),
        why: String::new(),
        changes: String::new(),
        migrated: false,
        reversible: false,
        requests: Vec::new(),
        fly_version: None,
        time: Timestamp::UNIX_EPOCH,
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
        versions: BTreeMap::new(),
    }
}

/// The same, and the last of them failed and was left as it is.
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
fn a_release_that_failed_and_was_left_holds_nothing_and_keeps_its_number_until_it_is_well() {
    let same = target("");
    let mut records = with_left(&[("a", Outcome::Succeeded)], "b");
    assert!(records.held("b", &same).is_none() && !records.is_good("b"));
    assert_eq!(records.last_good().unwrap().number, 1);
    assert_eq!(records.number("b", &same), 2, "its own");
    assert_eq!(records.number("c", &same), 3);
    assert_eq!(records.history()[0].outcome, HistoryOutcome::Failed);
    assert!(records.tells_failure("b", &same) && !records.tells_failure("c", &same));
    let undone = target("deploy: {migrations: {reversible: true}}");
    assert!(!records.tells_failure("b", &undone), "that is written down");

    let mut well = record(2, "b", Outcome::Succeeded);
    records.list[1].fly_version = Some(7);
    well.follow(&records.list[1]);
    records = records.with(well);
    assert!(records.is_good("b"));
    assert_eq!(
        (records.list.len(), records.list[1].fly_version),
        (2, Some(7))
    );
}

#[test]
fn a_release_that_was_begun_serves_nobody_and_its_migration_counts() {
    let same = target("");
    let mut records = records(&[("a", Outcome::Succeeded), ("b", Outcome::Begun)]);
    records.list[1].migrated = true;
    assert_eq!(records.last_good().unwrap().number, 1);
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
fn a_migration_counts_from_the_release_with_which_the_good_one_began_to_serve() {
    let mut records = records(&[("a", Outcome::Succeeded), ("b", Outcome::Failed)]);
    records.list[1].migrated = true;
    let (good, since) = records.serving().unwrap();
    assert_eq!((good.number, since), (1, 2));
    assert!(
        records.irreversible_after(since, "").is_none(),
        "it was decided on then"
    );
    records.list[1].restores = None;
    let (_, since) = records.serving().unwrap();
    assert_eq!(records.irreversible_after(since, "").unwrap().number, 2);
    assert!(records.irreversible_after(since, "b").is_none());
    records.list[1].reversible = true;
    assert!(records.irreversible_after(since, "").is_none());
}

#[test]
fn a_migration_is_on_record_for_as_long_as_it_keeps_the_good_release_from_being_restored() {
    let mut all = with_left(&[("good", Outcome::Succeeded)], "migrates");
    all.list[1].migrated = true;
    for number in 3..30 {
        all = all.with(record(number, "bad", Outcome::Failed));
        for number in all.superfluous() {
            all = all.without(number);
        }
    }
    assert_eq!(all.list.len(), KEPT);
    let (good, since) = all.serving().unwrap();
    assert_eq!(good.key, "good");
    assert_eq!(all.irreversible_after(since, "bad").unwrap().number, 2);
}

#[test]
fn a_new_word_that_asks_to_try_again_lifts_the_hold_once() {
    let mut records = records(&[("a", Outcome::Succeeded), ("b", Outcome::Failed)]);
    let mut target = target("");
    target.retry = BTreeSet::from(["now".to_owned()]);
    assert!(records.held("b", &target).is_none());
    assert_eq!(records.number("b", &target), 3);
    records.list[1].retry = target.retry.clone();
    assert!(
        records.held("b", &target).is_some(),
        "it failed with this word"
    );
    target.retry.clear();
    assert!(
        records.held("b", &target).is_some(),
        "a word that is taken away asks for nothing"
    );
}

#[test]
fn what_served_last_is_what_was_restored_last() {
    let mut records = records(&[
        ("a", Outcome::Succeeded),
        ("b", Outcome::Succeeded),
        ("c", Outcome::Failed),
    ]);
    records.list[2].restores = Some(1);
    assert_eq!(records.last_good().unwrap().number, 1);
    records.list[2].restores = None;
    assert_eq!(records.last_good().unwrap().number, 2);
    records.list[2].outcome = Outcome::Succeeded;
    assert_eq!(records.last_good().unwrap().number, 3);
}

#[test]
fn ten_releases_are_kept_and_the_last_good_one_always() {
    let mut all = records(&[("good", Outcome::Succeeded)]);
    for number in 2..30 {
        all = all.with(record(number, "bad", Outcome::Failed));
        for number in all.superfluous() {
            all = all.without(number);
        }
    }
    assert_eq!(all.list.len(), KEPT);
    assert_eq!(all.last_good().unwrap().key, "good");
    assert_eq!(all.latest().unwrap().number, 29);
    assert_eq!(all.history().len(), KEPT);
    assert_eq!(all.history().first().unwrap().version, Some(29));
}

#[test]
fn a_request_is_remembered_by_the_record_that_it_was_decided_on() {
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
