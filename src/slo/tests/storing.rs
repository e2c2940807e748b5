//! Windows, gaps, releases and merges of a store.

use super::super::store::{HOUR, MAX_SEGMENTS, MINUTE, PushFault};
use super::super::{Cell, Kind, Store, Tally, Window};
use super::{machine, requests, sources};

const DAY: i64 = 24 * HOUR;
const BEGIN: i64 = 1_700_000_000_000;
const STEP: i64 = 30_000;

/// Observed in full, with this many events.
fn cell(length: i64, total: f64, bad: f64) -> Cell {
    Cell {
        seen: length,
        bridged: 0,
        tally: Some(Tally::Events { total, bad }),
    }
}

fn store() -> Store {
    Store::new(BEGIN, vec![Kind::Events], 90_000)
}

/// One event each 30 s from step `from` to step `to`.
fn fill(store: &mut Store, from: i64, to: i64) {
    for step in from + 1..=to {
        let at = BEGIN + step * STEP;
        let length = at - store.end();
        store.push(at, vec![cell(length, 1.0, 0.0)]).unwrap();
    }
}

fn total(window: &Window) -> f64 {
    window.tally.as_ref().map_or(0.0, Tally::events)
}

#[test]
fn every_window_of_72_hours_is_answered_within_half_a_segment() {
    let mut store = store();
    fill(&mut store, 0, 72 * 120);
    assert!(store.segments() < 420, "{}", store.segments());
    for (length, error) in [
        (MINUTE, 0.25),
        (5 * MINUTE, 0.05),
        (6 * MINUTE, 0.05),
        (30 * MINUTE, 0.01),
        (HOUR, 0.005),
        (2 * HOUR, 0.025),
        (154 * MINUTE, 0.02),
        (6 * HOUR, 0.01),
        (617 * MINUTE, 0.015),
        (DAY, 0.01),
        (3 * DAY, 0.0),
    ] {
        let window = store.window(0, store.end() - length).unwrap();
        let wanted = (length / STEP) as f64;
        let off = (total(&window) - wanted).abs() / wanted;
        assert!(off <= error, "{} min: {off}", length / MINUTE);
        // The counts are those of the window that it says it is.
        let covered = ((window.to - window.from) / STEP) as f64;
        assert_eq!(total(&window), covered);
        assert_eq!(window.seen, window.to - window.from);
        // What is cut bounds the error.
        let cut = window.cut.as_ref().map_or(0.0, Tally::events);
        let (least, most) = match window.cut_inside {
            true => (total(&window) - cut, total(&window)),
            false => (total(&window), total(&window) + cut),
        };
        assert!((least..=most).contains(&wanted), "{}", length / MINUTE);
    }
}

#[test]
fn a_watch_of_30_days_stays_bounded_too_also_at_an_uneven_pace() {
    let mut store = store();
    let mut pace = 7_i64;
    while store.end() < BEGIN + 30 * DAY {
        pace = (pace * 1_103 + 12_345) % 20_011;
        let length = 22_000 + pace;
        let at = store.end() + length;
        store.push(at, vec![cell(length, 1.0, 0.0)]).unwrap();
    }
    assert!(store.segments() < MAX_SEGMENTS, "{}", store.segments());
    let window = store.window(0, store.end() - DAY).unwrap();
    let length = (window.to - window.from) as f64;
    assert!((length / DAY as f64 - 1.0).abs() < 0.01);
}

#[test]
fn a_gap_stays_a_gap() {
    let mut store = store();
    fill(&mut store, 0, 120);
    let at = BEGIN + 4 * HOUR;
    store.push(at, vec![Cell::default()]).unwrap();
    fill(&mut store, 480, 72 * 120);
    assert_eq!(store.gaps(0, MINUTE), [(BEGIN + HOUR, at)]);
    let whole = store.window(0, BEGIN).unwrap();
    assert_eq!(whole.seen, 69 * HOUR);
    assert_eq!(total(&whole), f64::from(69 * 120));
}

#[test]
fn an_observation_must_be_later_of_the_objectives_and_possible() {
    let mut store = store();
    fill(&mut store, 0, 2);
    let end = store.end();
    let one = || vec![cell(1, 1.0, 0.0)];
    assert_eq!(store.push(end, one()), Err(PushFault::NotLater));
    assert_eq!(store.push(end - 1, one()), Err(PushFault::NotLater));
    assert_eq!(store.push(end + 1, vec![]), Err(PushFault::OtherObjectives));
    let lines = Cell {
        tally: Some(Tally::Lines(1.0)),
        ..Cell::default()
    };
    assert_eq!(
        store.push(end + 1, vec![lines]),
        Err(PushFault::OtherObjectives)
    );
    let worse = vec![cell(1, 1.0, 2.0)];
    assert_eq!(store.push(end + 1, worse), Err(PushFault::Unsound));
    let huge = vec![cell(1, 1e300, 0.0)];
    assert_eq!(store.push(end + 1, huge), Err(PushFault::Unsound));
    let longer = vec![cell(90, 1.0, 0.0)];
    assert_eq!(store.push(end + 1, longer), Err(PushFault::Unsound));
}

#[test]
fn each_release_has_its_own_figures_and_the_watch_has_all() {
    let mut store = store();
    store.serve(BEGIN, 1);
    fill(&mut store, 0, 1000);
    store.serve(BEGIN + 1000 * STEP, 2);
    store.serve(BEGIN + 1001 * STEP, 2);
    fill(&mut store, 1000, 1500);
    // The first one is restored.
    store.serve(BEGIN + 1500 * STEP, 1);
    fill(&mut store, 1500, 72 * 120);
    let of = |release| store.of_release(0, release).map(|window| total(&window));
    assert_eq!(of(2), Some(500.0));
    assert_eq!(of(1), Some(f64::from(72 * 120 - 1500)), "since it is back");
    assert_eq!(of(3), None);
    assert_eq!(total(&store.window(0, BEGIN).unwrap()), f64::from(72 * 120));
}

#[test]
fn the_store_of_a_process_that_ended_is_continued() {
    let (mut old, mut new, mut one) = (store(), store(), store());
    fill(&mut old, 0, 100);
    new.push(BEGIN + 110 * STEP, vec![Cell::default()]).unwrap();
    fill(&mut new, 110, 200);
    fill(&mut one, 0, 100);
    one.push(BEGIN + 110 * STEP, vec![Cell::default()]).unwrap();
    fill(&mut one, 110, 200);
    let mut merged = new.clone();
    assert!(merged.merge(old.clone()));
    let whole = merged.window(0, BEGIN).unwrap();
    assert_eq!((total(&whole), whole.seen), (190.0, 190 * STEP));
    assert_eq!(
        merged.gaps(0, 1),
        [(BEGIN + 100 * STEP, BEGIN + 110 * STEP)]
    );
    assert!(old.merge(new));
    assert_eq!(old.segments, merged.segments);
    assert_eq!(old.segments, one.segments);
}

#[test]
fn a_merge_with_itself_with_nothing_or_with_another_watch_changes_nothing() {
    let mut full = store();
    fill(&mut full, 0, 500);
    let before = full.clone();
    assert!(full.merge(before.clone()));
    assert!(full.merge(store()));
    let mut empty = store();
    assert!(empty.merge(before.clone()));
    assert_eq!((&full, &empty), (&before, &before));
    let other = Store::new(BEGIN + 1, vec![Kind::Events], 90_000);
    assert!(!full.merge(other));
    assert_eq!(full, before);
}

#[test]
fn what_was_counted_while_the_operator_restarted_is_not_lost() {
    let mut store = Store::new(BEGIN, vec![Kind::Events, Kind::Buckets], 90_000);
    let round = |store: &mut Store, step: i64, page| {
        let at = BEGIN + step * STEP;
        let pages = vec![(machine("a"), page)];
        let round = store.tracker().observe(&sources(), at, 1, pages).unwrap();
        store.push(at, round.cells).unwrap();
    };
    round(&mut store, 1, requests(10, 0, Some(1e9)));
    round(&mut store, 2, requests(20, 1, Some(1e9)));
    let mut store = Store::decode(&store.encode()).unwrap();
    round(&mut store, 12, requests(120, 3, Some(1e9)));
    let window = store.window(0, BEGIN).unwrap();
    let (total, bad) = (113.0, 3.0);
    assert_eq!(window.tally, Some(Tally::Events { total, bad }));
    assert_eq!((window.seen, window.bridged), (STEP, 10 * STEP));
    // A process that restarted meanwhile began at zero.
    let mut store = Store::decode(&store.encode()).unwrap();
    round(&mut store, 14, requests(7, 0, Some(1_700_000_400.0)));
    let (total, bad) = (120.0, 3.0);
    let window = store.window(0, BEGIN).unwrap();
    assert_eq!(window.tally, Some(Tally::Events { total, bad }));
}
