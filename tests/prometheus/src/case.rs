//! One case: machines with pages at certain times.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A sample of a page: name, labels, value.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its name.
    pub name: &'static str,
    /// Its labels, without those of the case.
    pub labels: Vec<(&'static str, String)>,
    /// Its value.
    pub value: f64,
}

/// The pages of one machine by time, in milliseconds since 1970.
pub type Pages = BTreeMap<i64, Vec<Sample>>;

/// What was counted in truth, between the first and the last page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Truth {
    /// Requests.
    pub total: f64,
    /// Requests that failed.
    pub bad: f64,
    /// Requests by upper bound, not cumulative.
    pub buckets: BTreeMap<u64, f64>,
    /// Lines of a log.
    pub lines: f64,
}

/// What Prometheus' figures are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// Ours are the same.
    Equal,
    /// They differ in a way that is documented, which [`crate::model`] computes.
    Documented,
    /// Ours are the same at the bounds that all machines have.
    CommonBounds,
    /// Prometheus has no number, and ours is unknown.
    NoNumber,
}

/// A case.
#[derive(Clone, Debug)]
pub struct Case {
    /// Value of the label `case`.
    pub id: usize,
    /// What is special about it.
    pub kind: &'static str,
    /// How the figures are compared.
    pub compare: Compare,
    /// The pages of each machine.
    pub machines: Vec<Pages>,
    /// What was counted.
    pub truth: Truth,
    /// Where the window begins and ends. Unit: milliseconds since 1970.
    pub from: i64,
    /// See `from`.
    pub to: i64,
}

impl Case {
    /// The samples with their times in OpenMetrics, without the end.
    pub fn openmetrics(&self, out: &mut String) {
        for (number, pages) in self.machines.iter().enumerate() {
            for (at, page) in pages {
                for sample in page {
                    let (id, at) = (self.id, *at as f64 / 1000.0);
                    write!(out, "{}{{case=\"{id}\",instance=\"{number}\"", sample.name).unwrap();
                    for (name, value) in &sample.labels {
                        write!(out, ",{name}=\"{value}\"").unwrap();
                    }
                    let value = number_text(sample.value);
                    writeln!(out, "}} {value} {at}").unwrap();
                }
            }
        }
    }

    /// The samples of a series by time: one list for each machine and set of labels.
    #[must_use]
    pub fn series(&self, name: &str, has: &dyn Fn(&Sample) -> bool) -> Vec<Vec<(i64, f64)>> {
        let mut found: BTreeMap<_, Vec<(i64, f64)>> = BTreeMap::new();
        for (number, pages) in self.machines.iter().enumerate() {
            for (at, page) in pages {
                for sample in page
                    .iter()
                    .filter(|sample| sample.name == name && has(sample))
                {
                    let key = (number, sample.labels.clone());
                    found.entry(key).or_default().push((*at, sample.value));
                }
            }
        }
        found.into_values().collect()
    }
}

/// The page of a machine as the application shows it.
#[must_use]
pub fn text(page: &[Sample]) -> String {
    let mut out = String::new();
    for sample in page {
        let labels = sample.labels.iter();
        let labels: Vec<String> = labels.map(|(n, v)| format!("{n}=\"{v}\"")).collect();
        let (name, value) = (sample.name, number_text(sample.value));
        writeln!(out, "{name}{{{}}} {value}", labels.join(",")).unwrap();
    }
    out
}

/// A number as Prometheus reads it.
fn number_text(value: f64) -> String {
    match value {
        value if value.is_nan() => "NaN".into(),
        f64::INFINITY => "+Inf".into(),
        f64::NEG_INFINITY => "-Inf".into(),
        value => format!("{value:?}"),
    }
}
