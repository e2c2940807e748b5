//! A case on the way that a page takes in the operator: reader, tracker, store, window.

use reading::exposition::Format;
use reading::slo::{Bound, Instance, Selector, Source, Store, Window, page};

use crate::case::{Case, text};

/// The bound of the gauge of the cases.
pub const BOUND: Bound = Bound::Below(50.0);

/// What an objective for errors, for latency, for a gauge and for lines needs of a page.
#[must_use]
pub fn sources() -> Vec<Source> {
    let of = Selector::default;
    let counter = |metric: &str, bad: &str| Source::Counter {
        metric: metric.into(),
        of: of(),
        bad: Selector::of([("status", bad)]).unwrap(),
    };
    vec![
        counter("requests_total", "5.."),
        Source::Histogram {
            metric: "seconds".into(),
            of: of(),
        },
        Source::Gauge {
            metric: "level".into(),
            of: of(),
            bound: BOUND,
        },
        counter("lines_total", "none"),
    ]
}

/// The store after all pages of the case up to a time. A watch begins at the first page.
#[must_use]
pub fn store(case: &Case, until: i64, gap_after: i64) -> Store {
    let sources = sources();
    let kinds = sources.iter().map(Source::kind).collect();
    let mut times: Vec<i64> = case
        .machines
        .iter()
        .flat_map(|m| m.keys().copied())
        .collect();
    times.sort_unstable();
    times.dedup();
    times.retain(|at| *at <= until);
    let begin = times[0];
    let mut store = Store::new(begin, kinds, gap_after);
    for at in times {
        let answered = case
            .machines
            .iter()
            .enumerate()
            .filter_map(|(number, pages)| {
                let text = text(pages.get(&at)?);
                let page = page::read(text.as_bytes(), Format::Text, &sources).unwrap();
                Some((Instance::Machine(number.to_string()), page))
            });
        let answered: Vec<_> = answered.collect();
        let expected = case.machines.len();
        let round = store.tracker().observe(&sources, at, expected, answered);
        if at > begin {
            store.push(at, round.unwrap().cells).unwrap();
        }
    }
    store
}

/// What the whole case shows of an objective.
#[must_use]
pub fn window(case: &Case, objective: usize) -> Window {
    let store = store(case, i64::MAX, 90_000);
    store.window(objective, store.begin()).unwrap()
}
