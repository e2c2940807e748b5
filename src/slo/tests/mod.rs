//! Tests of what the files of this layer do together.

mod bytes;
mod judging;
mod storing;
mod tracking;

use super::page::{Source, read};
use super::{Cell, Instance, Page, Selector, Tally};
use crate::exposition::Format;

/// A counter of requests with the errors among them, and a histogram.
fn sources() -> Vec<Source> {
    vec![
        Source::Counter {
            metric: "requests_total".into(),
            of: Selector::default(),
            bad: Selector::of([("status", "5..")]).unwrap(),
        },
        Source::Histogram {
            metric: "seconds".into(),
            of: Selector::default(),
        },
    ]
}

fn page(text: &str) -> Page {
    read(text.as_bytes(), Format::Text, &sources()).unwrap()
}

fn machine(id: &str) -> Instance {
    Instance::Machine(id.into())
}

/// A page with this many good and bad requests, and the same number of fast and slow ones.
fn requests(good: u32, bad: u32, start: Option<f64>) -> Page {
    let all = good + bad;
    let start = start.map_or_else(String::new, |start| {
        format!("process_start_time_seconds {start}\n")
    });
    page(&format!(
        "requests_total{{status=\"200\"}} {good}\nrequests_total{{status=\"500\"}} {bad}\n\
         seconds_bucket{{le=\"3\"}} {good}\nseconds_bucket{{le=\"+Inf\"}} {all}\n{start}"
    ))
}

fn events(cell: &Cell) -> Option<(f64, f64)> {
    match cell.tally {
        Some(Tally::Events { total, bad }) => Some((total, bad)),
        _ => None,
    }
}

/// The counts of the buckets of a cell.
fn counts(cell: &Cell) -> Option<Vec<f64>> {
    match &cell.tally {
        Some(Tally::Buckets(buckets)) => Some(buckets.counts().to_vec()),
        _ => None,
    }
}
