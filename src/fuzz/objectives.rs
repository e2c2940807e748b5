//! What a watch reads: answers of a Prometheus, the bytes of its own store, and pages of metrics one after the
//! other. Whatever they are, figures are possible ones, and what was read is written the same.

use super::target;
use crate::{
    exposition::Format,
    promql::{self, Data, answer},
    slo::{
        Aim, BurnRates, Instance, Kind, Objective, Selector, Source, Store, Tally, codec, judge,
        page,
    },
};

#[test]
fn no_answer_of_a_prometheus_panics_or_is_more_than_it_says() {
    let run = |input: &[u8]| {
        let Ok(found) = promql::read(input) else {
            return;
        };
        // Whatever is taken for an answer is JSON.
        assert!(serde_json::from_slice::<serde::de::IgnoredAny>(input).is_ok());
        let series = found.data.series();
        assert!(series.len() <= input.len() / 2);
        for series in series {
            let points = series.values.len() + series.histograms.len();
            assert!(points > 0 && points <= answer::MAX_POINTS);
            assert!(series.labels.len() <= answer::MAX_LABELS);
            for point in &series.histograms {
                let limits = point.value.buckets.iter().flat_map(|b| [b.low, b.high]);
                for limit in limits.chain([0.0, 3.0]) {
                    let at_most = point.value.at_most(limit);
                    assert!(at_most.low <= at_most.high, "{limit}: {point:?}");
                }
            }
        }
        if let Data::Vector(series) = &found.data {
            assert!(series.iter().all(|series| series.values.len() <= 1));
        }
        if let Ok(Tally::Buckets(buckets)) = promql::tally::buckets(&found) {
            assert_eq!(buckets.bounds().last(), Some(&f64::INFINITY));
            let median = buckets.quantile(0.5).value();
            assert!(median.is_nan() || buckets.total() > 0.0);
        }
        if let Ok(tally) = promql::tally::events(&found, &found) {
            assert!(tally.is_sound());
        }
    };
    target!("promql", run);
}

fn objective(kind: Kind) -> Objective {
    let aim = match kind {
        Kind::Events => Aim::BadShare { below: 0.01 },
        Kind::Buckets => Aim::Latency {
            quantile: 0.95,
            below: 3.0,
        },
        Kind::Values => Aim::Level(crate::slo::Bound::Below(30.0)),
        Kind::Lines => Aim::Lines { per_minute: 1.0 },
    };
    let min_events = 20;
    Objective { aim, min_events }
}

/// Every figure of a store can be asked for, and its counts are possible.
fn ask_everything(store: &Store) {
    let (begin, end) = (store.begin(), store.end());
    for (at, kind) in store.kinds().iter().enumerate() {
        for length in [1, 300_000, 3_600_000, 86_400_000, i64::MAX / 2] {
            let window = store.window(at, end.saturating_sub(length)).unwrap();
            assert!(window.from <= window.to && window.from >= begin);
            assert!(window.seen >= 0 && window.bridged >= 0);
        }
        for served in store.served() {
            assert!(store.of_release(at, served.release).is_some());
        }
        for rates in [BurnRates::Standard, BurnRates::Scaled] {
            let times = (begin, end, 259_200_000);
            let judged = judge(&objective(*kind), rates, times, |from| {
                store.window(at, from)
            });
            let burns = judged.pairs.iter().filter_map(|pair| pair.long.burn);
            for burn in burns {
                assert!(burn.low >= 0.0 && burn.low <= burn.high, "{burn:?}");
            }
        }
        let gaps = store.gaps(at, 1);
        assert!(
            gaps.windows(2).all(|pair| pair[0].1 < pair[1].0),
            "{gaps:?}"
        );
    }
}

#[test]
fn no_bytes_of_a_store_panic_and_what_is_read_is_written_the_same() {
    let run = |input: &[u8]| {
        // As they are, and as the content below a checksum that is right.
        let sealed = codec::seal(input);
        // A file of the corpus is a whole store: what was changed of its content is sealed again.
        let content = input.get(5..input.len().saturating_sub(4));
        let again = content.map(codec::seal).unwrap_or_default();
        for bytes in [input, &sealed, &again] {
            let Ok(mut store) = Store::decode(bytes) else {
                continue;
            };
            let written = store.encode();
            let read = Store::decode(&written).unwrap();
            assert_eq!(read.encode(), written);
            ask_everything(&store);
            store.merge(read);
            store.serve(store.end(), 7);
            let cells = vec![crate::slo::Cell::default(); store.kinds().len()];
            store.push(store.end() + 30_000, cells).unwrap();
            ask_everything(&store);
            assert!(Store::decode(&store.encode()).is_ok());
        }
    };
    target!("watch", run);
}

#[test]
fn no_pages_of_metrics_add_what_they_do_not_show() {
    let of = Selector::default;
    let sources = [
        Source::Counter {
            metric: "http_requests_total".into(),
            of: of(),
            bad: Selector::of([("status", "5..")]).unwrap(),
        },
        Source::Histogram {
            metric: "http_request_duration_seconds".into(),
            of: of(),
        },
    ];
    let run = |input: &[u8]| {
        // Each page is one scrape: pages are divided by an empty line.
        let text = String::from_utf8_lossy(input);
        let mut store = Store::new(0, sources.iter().map(Source::kind).collect(), 90_000);
        for (number, text) in (1..).zip(text.split("\n\n").take(20)) {
            let Ok(page) = page::read(text.as_bytes(), Format::Text, &sources) else {
                continue;
            };
            let at = number * 30_000;
            let pages = vec![(Instance::Machine("a".into()), page)];
            let round = store.tracker().observe(&sources, at, 1, pages).unwrap();
            for tally in round.cells.iter().filter_map(|cell| cell.tally.as_ref()) {
                assert!(tally.is_sound(), "{tally:?}");
            }
            // What no application counts is refused, and the rest goes on.
            let _ = store.push(at, round.cells);
        }
        ask_everything(&store);
    };
    target!("scrapes", run);
}
