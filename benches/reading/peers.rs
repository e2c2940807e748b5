//! Prometheus text beside two crates that read it, in turns: MB/s, and the ratios. `make bench`.
//!
//! All three read the same bytes and must find the same samples. What they give differs, and is part of the
//! comparison as it is part of their use: ours borrows from the page and hands out sample by sample, both
//! crates build the whole page in memory; `prometheus-parse` also wants each line as a `String` of its own.
//!
//! Other crates were looked at and left out: `openmetrics-parser` is under the LGPL, `prometheus-parser` reads
//! queries and no pages. `nom-openmetrics` (MIT) had its last release with nom 8; `prometheus-parse`
//! (Apache-2.0) is what most who need one use, and knows no OpenMetrics.
//!
//! `BENCH_ROUNDS`: rounds that count (15). Ends with 1 when ours is below 200 MB/s.

#![allow(clippy::unwrap_used, reason = "a bench ends with a panic")]

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use reading::exposition::{Entry, Format, Reader};

#[path = "../stats.rs"]
mod stats;

/// The least that ours has to read, in MB/s.
const LEAST: f64 = 200.0;

/// Rounds before those that count.
const WARM_UPS: usize = 2;

/// Who reads.
type Reads = fn(&str) -> usize;

const READERS: [(&str, Reads); 3] = [
    ("golive", ours),
    ("prometheus-parse", prometheus_parse),
    ("nom-openmetrics", nom_openmetrics),
];

fn main() -> ExitCode {
    let rounds = std::env::var("BENCH_ROUNDS").map_or(15, |rounds| rounds.parse().unwrap());
    let mut met = true;
    println!("\nReading Prometheus text, {rounds} rounds in turns (target: at least {LEAST} MB/s)");
    println!(
        "  {:<22} {:<18} {:>8}  ratio to ours [95 %]",
        "page", "reader", "MB/s"
    );
    for (page, text) in [
        ("counters and gauges", gauges()),
        ("a page with help", helped()),
    ] {
        let speeds = measure(&text, rounds);
        for ((name, _), theirs) in READERS.iter().zip(&speeds) {
            let ratio = match *name {
                "golive" => String::new(),
                _ => stats::ratio(&speeds[0], theirs).to_string(),
            };
            println!(
                "  {page:<22} {name:<18} {:>8.0}  {ratio}",
                stats::median(theirs)
            );
        }
        met &= stats::median(&speeds[0]) >= LEAST;
    }
    if met {
        ExitCode::SUCCESS
    } else {
        eprintln!("missed: Prometheus text is read at less than {LEAST} MB/s");
        ExitCode::FAILURE
    }
}

/// MB/s of each reader in each round. Who begins changes from round to round.
fn measure(text: &str, rounds: usize) -> [Vec<f64>; 3] {
    let wanted = ours(text);
    let mut speeds = [const { Vec::new() }; 3];
    for round in 0..WARM_UPS + rounds {
        for turn in 0..READERS.len() {
            let at = (round + turn) % READERS.len();
            let (name, read) = READERS[at];
            let began = Instant::now();
            let found = read(black_box(text));
            let took = began.elapsed().as_secs_f64();
            assert_eq!(found, wanted, "{name} finds other samples");
            if round >= WARM_UPS {
                speeds[at].push(text.len() as f64 / 1e6 / took);
            }
        }
    }
    speeds
}

fn ours(text: &str) -> usize {
    let entries = Reader::new(text.as_bytes(), Format::Text);
    let mut samples = 0;
    for entry in entries {
        if let Entry::Sample(sample) = entry.unwrap() {
            black_box(&sample);
            samples += 1;
        }
    }
    samples
}

fn prometheus_parse(text: &str) -> usize {
    let lines = text.lines().map(|line| Ok(line.to_owned()));
    let page = prometheus_parse::Scrape::parse(lines).unwrap();
    black_box(&page).samples.len()
}

fn nom_openmetrics(text: &str) -> usize {
    let (rest, families) = nom_openmetrics::parser::prometheus(text).unwrap();
    assert!(rest.is_empty(), "nom-openmetrics stops early");
    black_box(&families)
        .iter()
        .map(|family| family.samples.len())
        .sum()
}

/// 40,000 samples of two families.
fn gauges() -> String {
    let counters = (0..20_000).map(|n| {
        format!("http_requests_total{{status=\"200\",route=\"/api/v1/{n}\",kind=\"Text\"}} {n}\n")
    });
    let gauges =
        (0..20_000).map(|n| format!("queue_length{{kind=\"Text\",route=\"/{n}\"}} {n}.5e-3\n"));
    format!(
        "# TYPE http_requests_total counter\n{}# TYPE queue_length gauge\n{}",
        counters.collect::<String>(),
        gauges.collect::<String>()
    )
}

/// 2,000 families of five samples, each with its help, as exporters of many metrics write.
fn helped() -> String {
    let family = |n: usize| {
        let samples = (0..5).map(|cpu| {
            format!("node_figure_{n}_total{{cpu=\"{cpu}\",mode=\"idle\"}} {n}{cpu}.25\n")
        });
        format!(
            "# HELP node_figure_{n}_total Seconds that the processor spent in mode {n}.\n\
             # TYPE node_figure_{n}_total counter\n{}",
            samples.collect::<String>()
        )
    };
    (0..2_000).map(family).collect()
}
