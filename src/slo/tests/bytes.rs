//! The bytes of a store.

use super::super::codec::{MAX_BYTES, MAX_STORED, VERSION};
use super::super::histogram::MAX_BUCKETS;
use super::super::store::HOUR;
use super::super::tally::Values;
use super::super::{Buckets, Cell, DecodeFault, Kind, Store, Tally, Tracker};
use super::{machine, requests, sources};

const BEGIN: i64 = 1_700_000_000_000;
const STEP: i64 = 30_000;
const INF: f64 = f64::INFINITY;

/// The bounds of the example application.
const BOUNDS: [f64; 16] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 30.0, INF,
];

fn histogram(step: i64, busy: i64) -> Tally {
    let counts = BOUNDS.iter().zip(1..).map(|(bound, n): (_, i64)| {
        let late = if n > 8 { step % 3 } else { 0 };
        (*bound, (busy * n * n / 16 + late) as f64)
    });
    Tally::Buckets(Buckets::new(counts).unwrap())
}

/// 72 hours of 30 s of an application with objectives for text, audio and errors.
fn three_objectives(busy: i64) -> Store {
    let kinds = vec![Kind::Buckets, Kind::Buckets, Kind::Events];
    let mut store = Store::new(BEGIN, kinds, 90_000);
    let mut tracker = Tracker::new(90_000);
    for step in 1..=72 * 120 {
        // No clock is even.
        let at = BEGIN + step * STEP + step % 7 * 11;
        let length = at - store.end();
        let of = |tally| Cell {
            seen: length,
            bridged: 0,
            tally: Some(tally),
        };
        let (total, bad) = ((busy * 13 + step % 17) as f64, (step % 3) as f64);
        let cells = vec![
            of(histogram(step, busy)),
            of(histogram(step + 3, busy / 4)),
            of(Tally::Events {
                total: total + 3.0,
                bad,
            }),
        ];
        store.push(at, cells).unwrap();
    }
    for n in 0..4 {
        let pages = vec![(
            machine(&format!("148e{n:010}")),
            requests(9_999, 8, Some(1e9)),
        )];
        tracker.observe(&sources(), BEGIN + n, 1, pages);
    }
    *store.tracker() = tracker;
    store
}

#[test]
fn seventy_two_hours_of_three_objectives_are_under_64_kb_also_in_base64() {
    for (busy, most) in [(0, 16 << 10), (100, 26 << 10), (1_000_000, 42 << 10)] {
        let bytes = three_objectives(busy).encode().len();
        assert!(bytes < most, "{busy}: {bytes} bytes");
        assert!(bytes.div_ceil(3) * 4 <= 64 << 10, "{busy}: {bytes} bytes");
    }
}

#[test]
fn what_is_read_is_what_was_written() {
    let store = three_objectives(100);
    let read = Store::decode(&store.encode()).unwrap();
    assert_eq!(read.segments, store.segments);
    assert_eq!((read.begin(), read.kinds()), (store.begin(), store.kinds()));
    assert_eq!(read.encode(), store.encode(), "and again");
}

/// A store with one of everything.
fn small() -> Store {
    let kinds = vec![Kind::Buckets, Kind::Events, Kind::Values, Kind::Lines];
    let mut store = Store::new(BEGIN, kinds, 90_000);
    store.serve(BEGIN, 3);
    let values = Values {
        samples: 1.0,
        outside: 0.0,
        low: -0.5,
        high: INF,
        last: 7.25,
    };
    let buckets = |of: &[(f64, f64)]| Tally::Buckets(Buckets::new(of.iter().copied()).unwrap());
    let cell = |seen, bridged, tally| Cell {
        seen,
        bridged,
        tally,
    };
    let (total, bad) = (10.5, 0.25);
    let fell = buckets(&[(1.0, 5.0), (2.0, 4.0), (INF, 9.0)]);
    let cells = vec![
        cell(STEP, 0, Some(fell)),
        cell(STEP / 2, 0, Some(Tally::Events { total, bad })),
        cell(STEP, 0, Some(Tally::Values(values))),
        cell(0, 0, None),
    ];
    store.push(BEGIN + STEP, cells).unwrap();
    store.serve(BEGIN + STEP, 4);
    let cells = vec![
        cell(0, HOUR, Some(buckets(&[(1.0, 5.0), (INF, 1e17)]))),
        cell(0, 0, None),
        cell(0, 0, None),
        cell(HOUR, 0, Some(Tally::Lines(3.0))),
    ];
    store.push(BEGIN + STEP + HOUR, cells).unwrap();
    for (id, start) in [("a", None), ("b", Some(1e9))] {
        let pages = vec![(machine(id), requests(9, 2, start))];
        let at = store.end() + i64::from(start.is_some());
        store.tracker().observe(&sources(), at, 2, pages);
    }
    store
}

/// What the first version wrote for [`small`], in hexadecimal.
const VERSION_1: &str = include_str!("version-1.hex");

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().filter(|c| c.is_ascii_hexdigit()).collect();
    let pairs = digits.chunks(2);
    let pairs = pairs.map(|pair| u8::from_str_radix(&String::from_iter(pair), 16).unwrap());
    pairs.collect()
}

#[test]
fn every_version_that_was_ever_written_is_read() {
    assert_eq!(
        VERSION, 1,
        "keep what version 1 wrote, and add what the new one writes"
    );
    let store = Store::decode(&bytes(VERSION_1)).unwrap();
    let small = small();
    assert_eq!(store.segments, small.segments);
    assert_eq!(store.served, small.served);
    assert_eq!(store.tracker.last, small.tracker.last);
    assert_eq!(store.tracker.instances(), 2);
    let hex: String = small
        .encode()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(store.encode(), small.encode(), "{hex}");
}

#[test]
fn what_is_damaged_newer_or_something_else_is_refused() {
    let good = small().encode();
    for cut in 0..good.len() {
        assert!(Store::decode(&good[..cut]).is_err(), "cut at {cut}");
    }
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 0x10;
        assert!(Store::decode(&changed).is_err(), "changed at {at}");
    }
    assert_eq!(Store::decode(b"{}"), Err(DecodeFault::Other));
    assert_eq!(Store::decode(&[]), Err(DecodeFault::Other));
    let mut newer = good.clone();
    newer[4] = 9;
    assert_eq!(Store::decode(&newer), Err(DecodeFault::Version(9)));
    let long = vec![0; MAX_BYTES + 1];
    assert_eq!(Store::decode(&long), Err(DecodeFault::Long));
}

#[test]
fn a_time_that_no_sum_can_hold_is_refused() {
    // The least number, as LEB128 of its zigzag form.
    let mut least = vec![0xff; 9];
    least.push(1);
    let store = super::super::codec::seal(&least);
    assert_eq!(Store::decode(&store), Err(DecodeFault::Content));
}

/// Objectives with as many buckets as there may be, of other bounds in each look.
fn heavy(looks: i64) -> Store {
    let mut store = Store::new(BEGIN, vec![Kind::Buckets; 16], 90_000);
    for look in 1..=looks {
        let of = |objective: i64| {
            let bounds = (0..MAX_BUCKETS - 1).map(|n| n as f64 + (look % 300) as f64 / 301.0);
            let bounds = bounds.chain([INF]);
            let counts = bounds
                .zip(1..)
                .map(|(bound, n): (_, i64)| (bound, (n * 1_000_003 + objective) as f64 + 0.5));
            Cell {
                seen: STEP,
                bridged: 0,
                tally: Some(Tally::Buckets(Buckets::new(counts).unwrap())),
            }
        };
        store
            .push(BEGIN + look * STEP, (0..16).map(of).collect())
            .unwrap();
    }
    store
}

#[test]
fn whatever_an_application_counts_a_watch_stays_bounded_in_memory_and_as_bytes() {
    let store = heavy(100);
    assert!(store.segments() < 40, "{} segments", store.segments());
    for most in [MAX_STORED, 64 << 10, 4 << 10] {
        let (bytes, is_all) = store.encode_within(most);
        assert!(bytes.len() <= most && !is_all, "{} bytes", bytes.len());
        let read = Store::decode(&bytes).unwrap();
        assert_eq!((read.begin(), read.end()), (store.begin(), store.end()));
    }
    let usual = three_objectives(100);
    assert_eq!(usual.encode_within(MAX_STORED), (usual.encode(), true));
}
