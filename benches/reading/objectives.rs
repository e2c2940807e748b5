//! What a watch costs: reading a page for three objectives, taking a scrape, answering every window, and the
//! bytes of 72 hours. `make bench`.
//!
//! A watch of 72 hours is scraped 8,640 times.

#![allow(clippy::unwrap_used, reason = "a bench ends with a panic")]

use divan::{AllocProfiler, Bencher, black_box, counter::BytesCount};
use reading::exposition::Format;
use reading::slo::burn::BurnRates;
use reading::slo::page::{Page, Source, read};
use reading::slo::{Aim, Instance, Kind, Objective, Selector, Store, judge};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

const BEGIN: i64 = 1_700_000_000_000;
const STEP: i64 = 30_000;
const WATCH: i64 = 72 * 3_600_000;

/// The bounds of the example application.
const BOUNDS: [&str; 16] = [
    "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2", "3", "5", "7.5", "10", "15",
    "30", "+Inf",
];

fn main() {
    for (what, requests) in [("idle", 0), ("busy", 100), ("very busy", 100_000)] {
        let bytes = watch(requests, 72 * 120).encode().len();
        println!("72 h of three objectives, {what}: {bytes} bytes");
    }
    divan::main();
}

/// Latency of texts and of audio, and errors.
fn sources() -> Vec<Source> {
    let kind = |kind: &str| Source::Histogram {
        metric: "http_request_duration_seconds".into(),
        of: Selector::of([("kind", kind)]).unwrap(),
    };
    vec![
        kind("text"),
        kind("audio"),
        Source::Counter {
            metric: "http_requests_total".into(),
            of: Selector::default(),
            bad: Selector::of([("status", "5..")]).unwrap(),
        },
    ]
}

fn objectives() -> [Objective; 3] {
    let latency = |below| Aim::Latency {
        quantile: 0.95,
        below,
    };
    let aims = [latency(3.0), latency(15.0), Aim::BadShare { below: 0.01 }];
    aims.map(|aim| Objective {
        aim,
        min_events: 20,
    })
}

/// The page of an application with five routes.
fn page(requests: usize) -> String {
    let mut out = String::new();
    for route in 0..5 {
        for kind in ["text", "audio"] {
            for status in [200, 404, 500] {
                let count = requests / status * 40;
                out += &format!(
                    "http_requests_total{{status=\"{status}\",route=\"/{route}\",kind=\"{kind}\"}} {count}\n"
                );
            }
            for (n, le) in BOUNDS.iter().enumerate() {
                let count = requests * (n + 1);
                out += &format!(
                    "http_request_duration_seconds_bucket{{kind=\"{kind}\",route=\"/{route}\",le=\"{le}\"}} {count}\n"
                );
            }
        }
    }
    out
}

/// A watch after so many scrapes of two machines.
fn watch(requests: usize, steps: i64) -> Store {
    let sources = sources();
    let kinds: Vec<Kind> = sources.iter().map(Source::kind).collect();
    let mut store = Store::new(BEGIN, kinds, 90_000);
    for step in 1..=steps {
        take(&mut store, &sources, step, pages(&sources, requests, step));
    }
    store
}

fn pages(sources: &[Source], requests: usize, step: i64) -> Vec<(Instance, Page)> {
    // Uneven, and more from step to step.
    let count = requests * step as usize + (requests / 7) * (step as usize % 5);
    let text = page(count);
    let page = read(text.as_bytes(), Format::Text, sources).unwrap();
    let machine = |id: &str| (Instance::Machine(id.into()), page.clone());
    vec![machine("148e1234567890"), machine("148e0987654321")]
}

fn take(store: &mut Store, sources: &[Source], step: i64, pages: Vec<(Instance, Page)>) {
    let at = BEGIN + step * STEP + step % 7;
    let round = store.tracker().observe(sources, at, 2, pages).unwrap();
    store.push(at, round.cells).unwrap();
}

#[divan::bench]
fn page_for_three_objectives(bencher: Bencher<'_, '_>) {
    let (page, sources) = (page(100_000), sources());
    let bencher = bencher.counter(BytesCount::of_str(&page));
    bencher.bench_local(|| read(black_box(page.as_bytes()), Format::Text, &sources).unwrap());
}

#[divan::bench]
fn scrape_of_two_machines_into_a_watch_of_three_days(bencher: Bencher<'_, '_>) {
    let sources = sources();
    let store = watch(100, 72 * 120);
    let next = || (store.clone(), pages(&sources, 100, 72 * 120 + 1));
    bencher
        .with_inputs(next)
        .bench_local_values(|(mut store, pages)| {
            take(&mut store, &sources, 72 * 120 + 1, pages);
            store
        });
}

#[divan::bench]
fn all_windows_of_three_objectives(bencher: Bencher<'_, '_>) {
    let store = watch(100, 72 * 120);
    let now = store.end();
    bencher.bench_local(|| {
        objectives().map(|objective| {
            let at = match objective.aim {
                Aim::BadShare { .. } => 2,
                _ => 0,
            };
            judge(
                black_box(&objective),
                BurnRates::Standard,
                (BEGIN, now, WATCH),
                |from| store.window(at, from),
            )
        })
    });
}

#[divan::bench]
fn encode_72_hours(bencher: Bencher<'_, '_>) {
    let store = watch(100, 72 * 120);
    bencher.bench_local(|| black_box(&store).encode());
}

#[divan::bench]
fn decode_72_hours(bencher: Bencher<'_, '_>) {
    let bytes = watch(100, 72 * 120).encode();
    let bencher = bencher.counter(BytesCount::of_slice(&bytes));
    bencher.bench_local(|| Store::decode(black_box(&bytes)).unwrap());
}
