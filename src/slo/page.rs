//! One page of an application's metrics, read for all objectives of a watch at once.

use std::collections::BTreeMap;

use super::histogram::{Buckets, HistogramFault, MAX_BUCKETS};
use super::matcher::Selector;
use super::tally::{Bound, Kind};
use crate::exposition::{Entry, Format, Labels, Problem, Reader, Sample};

/// Most series of one objective in a page.
pub const MAX_SERIES: usize = 2048;

/// Seconds since 1970 at which the process started: a metric of the official client libraries.
const START: &str = "process_start_time_seconds";

/// What an objective needs of a page.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A counter of events.
    Counter {
        /// Its name.
        metric: String,
        /// Which series count at all.
        of: Selector,
        /// Which of them count against the objective.
        bad: Selector,
    },
    /// A classic histogram.
    Histogram {
        /// Its name, without `_bucket`.
        metric: String,
        /// Which series count.
        of: Selector,
    },
    /// A quantile of a summary. Quantiles of several instances have no common one.
    Summary {
        /// Its name.
        metric: String,
        /// Which series counts.
        of: Selector,
        /// The quantile, from 0 to 1.
        quantile: f64,
        /// Where it must be.
        bound: Bound,
    },
    /// A gauge.
    Gauge {
        /// Its name.
        metric: String,
        /// Which series count.
        of: Selector,
        /// Where all values must be.
        bound: Bound,
    },
    /// Nothing: the objective is observed in another way, as a probe from outside or lines of a log.
    Elsewhere(Kind),
}

impl Source {
    /// The kind of its tallies.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Counter { .. } => Kind::Events,
            Self::Histogram { .. } => Kind::Buckets,
            Self::Summary { .. } | Self::Gauge { .. } => Kind::Values,
            Self::Elsewhere(kind) => *kind,
        }
    }
}

/// Why a page has no reading for an objective.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Absence {
    /// No sample has the name and the labels.
    #[error("no sample has the name and the labels")]
    NoSeries,
    /// There are more than [`MAX_SERIES`].
    #[error("more than {MAX_SERIES} series have the name and the labels")]
    TooMany,
    /// The readings of all instances and objectives would take more memory than one watch may have.
    #[error("the series of all objectives and machines are more than a watch may keep")]
    TooMuch,
    /// A counter is negative, infinite or not a number.
    #[error("a counter is negative, infinite or not a number")]
    NoCount,
    /// The buckets are no histogram.
    #[error(transparent)]
    NoHistogram(#[from] HistogramFault),
    /// Several series of a summary have the quantile: they have no common one.
    #[error("several series have this quantile, and quantiles cannot be averaged")]
    SeveralQuantiles,
}

/// What a page says for one objective.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// Series of a counter by a hash of their labels.
    Counters(BTreeMap<u64, Counter>),
    /// Series of a histogram by a hash of their labels but `le`.
    Histograms(BTreeMap<u64, Buckets>),
    /// Values of a gauge or summary.
    Values(Vec<f64>),
    /// Nothing.
    Absent(Absence),
    /// The objective does not use pages.
    Elsewhere,
}

/// One series of a counter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counter {
    /// Its value.
    pub value: f64,
    /// Whether it counts against the objective.
    pub bad: bool,
}

/// What a page says.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// When the process started. Unit: seconds since 1970.
    pub start: Option<f64>,
    /// For each objective, in their order.
    pub readings: Vec<Reading>,
}

/// Reads a page for these objectives.
///
/// # Errors
/// When the page cannot be read as a whole: one that was cut off says nothing.
pub fn read(page: &[u8], format: Format, sources: &[Source]) -> Result<Page, Problem> {
    let mut parts: Vec<Part<'_>> = sources.iter().map(Part::new).collect();
    let mut start = None;
    for entry in Reader::new(page, format) {
        let Entry::Sample(sample) = entry? else {
            continue;
        };
        if sample.name == START && sample.value.is_finite() {
            start = Some(sample.value);
        }
        for part in &mut parts {
            part.take(&sample);
        }
    }
    Ok(Page {
        start,
        readings: parts.into_iter().map(Part::reading).collect(),
    })
}

/// The reading of one objective while the page is read.
struct Part<'s> {
    source: &'s Source,
    counters: BTreeMap<u64, Counter>,
    buckets: BTreeMap<u64, Vec<(f64, f64)>>,
    values: Vec<f64>,
    absence: Option<Absence>,
}

impl<'s> Part<'s> {
    fn new(source: &'s Source) -> Self {
        Self {
            source,
            counters: BTreeMap::new(),
            buckets: BTreeMap::new(),
            values: Vec::new(),
            absence: None,
        }
    }

    /// Takes a sample, if it is of this objective.
    fn take(&mut self, sample: &Sample<'_>) {
        if self.absence.is_some() {
            return;
        }
        let series = self.counters.len().max(self.buckets.len());
        if series.max(self.values.len()) > MAX_SERIES {
            self.absence = Some(Absence::TooMany);
            return;
        }
        match self.source {
            Source::Counter { metric, of, bad } => {
                if is_counter(&sample.name, metric)
                    && let Some(series) = scan(sample.labels, of, "")
                {
                    let bad = bad.holds(sample.labels);
                    self.counter(series.key, sample.value, bad);
                }
            }
            Source::Histogram { metric, of } => {
                if sample.name.strip_suffix("_bucket") == Some(metric)
                    && let Some(series) = scan(sample.labels, of, "le")
                {
                    self.bucket(series, sample.value);
                }
            }
            Source::Summary {
                metric,
                of,
                quantile,
                ..
            } => {
                if sample.name == *metric
                    && let Some(series) = scan(sample.labels, of, "quantile")
                    && series.number == Some(*quantile)
                {
                    self.values.push(sample.value);
                }
            }
            Source::Gauge { metric, of, .. } => {
                if sample.name == *metric && of.holds(sample.labels) {
                    self.values.push(sample.value);
                }
            }
            Source::Elsewhere(_) => {}
        }
    }

    fn counter(&mut self, key: u64, value: f64, bad: bool) {
        if !super::histogram::is_count(value) {
            self.absence = Some(Absence::NoCount);
            return;
        }
        self.counters.insert(key, Counter { value, bad });
    }

    fn bucket(&mut self, series: Scanned, count: f64) {
        let Some(bound) = series.number else {
            self.absence = Some(HistogramFault::Bound.into());
            return;
        };
        let buckets = self.buckets.entry(series.key).or_default();
        if buckets.len() == MAX_BUCKETS {
            self.absence = Some(HistogramFault::TooMany.into());
            return;
        }
        buckets.push((bound, count));
    }

    fn reading(self) -> Reading {
        if let Some(absence) = self.absence {
            return Reading::Absent(absence);
        }
        match self.source {
            Source::Elsewhere(_) => Reading::Elsewhere,
            Source::Counter { .. } if !self.counters.is_empty() => Reading::Counters(self.counters),
            Source::Histogram { .. } if !self.buckets.is_empty() => {
                let series = self.buckets.into_iter();
                let series = series.map(|(key, of)| Ok((key, Buckets::new(of)?)));
                match series.collect::<Result<_, HistogramFault>>() {
                    Ok(series) => Reading::Histograms(series),
                    Err(fault) => Reading::Absent(fault.into()),
                }
            }
            Source::Summary { .. } if self.values.len() > 1 => {
                Reading::Absent(Absence::SeveralQuantiles)
            }
            Source::Summary { .. } | Source::Gauge { .. } if !self.values.is_empty() => {
                Reading::Values(self.values)
            }
            _ => Reading::Absent(Absence::NoSeries),
        }
    }
}

/// Whether a sample is of the counter. In OpenMetrics the samples of the counter `x` are named `x_total`, and
/// people may name either.
fn is_counter(sample: &str, metric: &str) -> bool {
    sample == metric || sample.strip_suffix("_total") == Some(metric)
}

/// What the labels of a sample say.
#[derive(Clone, Copy, Debug)]
struct Scanned {
    /// A hash of the labels in any order, but for the one with the number.
    key: u64,
    /// The value of that one.
    number: Option<f64>,
}

/// Goes through the labels once; none if they are not those of the selector.
fn scan(labels: Labels<'_>, of: &Selector, number: &str) -> Option<Scanned> {
    let mut scanned = Scanned {
        key: 0,
        number: None,
    };
    // Conditions that a label fulfilled, one bit each.
    let mut found = 0_u64;
    for label in labels {
        for (bit, matcher) in (0..).zip(of.matchers()) {
            if matcher.name() == label.name {
                if !matcher.holds(&label.value) {
                    return None;
                }
                found |= 1_u64.checked_shl(bit).unwrap_or_default();
            }
        }
        if label.name == number {
            let value = label.value.parse().ok();
            scanned.number = value.filter(|number: &f64| !number.is_nan());
        } else {
            // Of each label alone, then added: pages may change the order.
            let hash = hash(&label.name, &label.value);
            scanned.key = scanned.key.wrapping_add(hash);
        }
    }
    // A label that is not there is empty.
    let is_all = found.count_ones() as usize == of.matchers().len() || of.holds(labels);
    is_all.then_some(scanned)
}

/// A hash of a label: FNV-1a, mixed as SplitMix64 does so that sums of hashes differ too.
fn hash(name: &str, value: &str) -> u64 {
    let bytes = name.bytes().chain([0xff]).chain(value.bytes());
    let fnv = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (fnv ^ (fnv >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"
# TYPE http_requests_total counter
http_requests_total{status="200",kind="text"} 90
http_requests_total{kind="text",status="503"} 4
http_requests_total{status="200",kind="audio"} 7
# TYPE d histogram
d_bucket{kind="text",le="1"} 3
d_bucket{kind="text",le="3.0"} 5
d_bucket{le="+Inf",kind="text"} 6
d_sum{kind="text"} 10
d_count{kind="text"} 6
# TYPE s summary
s{quantile="0.5"} 0.2
s{quantile="0.95"} 1.5
age 12
age{feed="b"} 31
process_start_time_seconds 1.7e9
"#;

    fn counter(of: &[(&str, &str)], bad: &[(&str, &str)]) -> Source {
        Source::Counter {
            metric: "http_requests_total".into(),
            of: Selector::of(of.iter().copied()).unwrap(),
            bad: Selector::of(bad.iter().copied()).unwrap(),
        }
    }

    fn histogram(metric: &str) -> Source {
        Source::Histogram {
            metric: metric.into(),
            of: Selector::default(),
        }
    }

    #[test]
    fn one_pass_reads_all_objectives() {
        let sources = [
            counter(&[("kind", "text")], &[("status", "5..")]),
            histogram("d"),
            Source::Summary {
                metric: "s".into(),
                of: Selector::default(),
                quantile: 0.95,
                bound: Bound::Below(3.0),
            },
            Source::Gauge {
                metric: "age".into(),
                of: Selector::default(),
                bound: Bound::Below(30.0),
            },
            Source::Elsewhere(Kind::Lines),
            histogram("absent"),
        ];
        let page = read(PAGE.as_bytes(), Format::Text, &sources).unwrap();
        assert_eq!(page.start, Some(1.7e9));
        let Reading::Counters(counters) = &page.readings[0] else {
            panic!("{page:?}");
        };
        let values: f64 = counters.values().map(|counter| counter.value).sum();
        let bad = counters.values().filter(|counter| counter.bad);
        assert_eq!((values, bad.map(|c| c.value).sum::<f64>()), (94.0, 4.0));
        let Reading::Histograms(histograms) = &page.readings[1] else {
            panic!("{page:?}");
        };
        let buckets = histograms.values().next().unwrap();
        assert_eq!(buckets.bounds(), [1.0, 3.0, f64::INFINITY]);
        assert_eq!(buckets.counts(), [3.0, 5.0, 6.0]);
        assert_eq!(page.readings[2], Reading::Values(vec![1.5]));
        assert_eq!(page.readings[3], Reading::Values(vec![12.0, 31.0]));
        assert_eq!(page.readings[4], Reading::Elsewhere);
        assert_eq!(page.readings[5], Reading::Absent(Absence::NoSeries));
    }

    #[test]
    fn what_is_no_number_no_histogram_or_too_much_is_absent_with_its_reason() {
        let read = |text: &str, source: Source| {
            let page = read(text.as_bytes(), Format::Text, &[source]).unwrap();
            page.readings.into_iter().next().unwrap()
        };
        let all = || counter(&[], &[("status", "5..")]);
        assert_eq!(
            read("http_requests_total NaN\n", all()),
            Reading::Absent(Absence::NoCount)
        );
        assert_eq!(
            read("d_bucket{le=\"1\"} 1\n", histogram("d")),
            Reading::Absent(HistogramFault::NoInfinity.into())
        );
        assert_eq!(
            read("d_bucket{le=\"x\"} 1\n", histogram("d")),
            Reading::Absent(HistogramFault::Bound.into())
        );
        assert_eq!(
            read("d_bucket 1\n", histogram("d")),
            Reading::Absent(HistogramFault::Bound.into())
        );
        let many: String = (0..MAX_SERIES + 2)
            .map(|n| format!("http_requests_total{{route=\"{n}\"}} 1\n"))
            .collect();
        assert_eq!(read(&many, all()), Reading::Absent(Absence::TooMany));
        let two = "s{quantile=\"0.95\",a=\"1\"} 1\ns{quantile=\"0.95\",a=\"2\"} 3\n";
        let summary = Source::Summary {
            metric: "s".into(),
            of: Selector::default(),
            quantile: 0.95,
            bound: Bound::Below(3.0),
        };
        assert_eq!(
            read(two, summary),
            Reading::Absent(Absence::SeveralQuantiles)
        );
    }

    #[test]
    fn the_order_of_labels_is_no_other_series_and_openmetrics_names_its_family() {
        let key_of = |line: &str| {
            let mut reader = Reader::new(line.as_bytes(), Format::Text);
            match reader.next() {
                Some(Ok(Entry::Sample(sample))) => {
                    let scanned = scan(sample.labels, &Selector::default(), "le");
                    scanned.unwrap().key
                }
                other => panic!("{other:?}"),
            }
        };
        let one = key_of("x{a=\"1\",b=\"2\",le=\"3\"} 1\n");
        assert_eq!(one, key_of("x{le=\"+Inf\",b=\"2\",a=\"1\"} 1\n"));
        assert_ne!(one, key_of("x{a=\"2\",b=\"1\"} 1\n"));
        assert!(is_counter("http_requests_total", "http_requests"));
        assert!(is_counter("http_requests_total", "http_requests_total"));
        assert!(!is_counter("http_requests_created", "http_requests"));
    }

    #[test]
    fn a_page_that_was_cut_off_says_nothing() {
        let cut = "# TYPE http_requests counter\nhttp_requests_total 4\n";
        let source = counter(&[], &[]);
        assert!(read(cut.as_bytes(), Format::OpenMetrics, &[source]).is_err());
    }
}
