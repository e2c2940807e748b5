//! The value of one counter or gauge.

use super::fault::{Fault, Problem};
use super::read::{Entry, Format, Kind, Reader};

/// What a page says about one metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// The sum of the samples that match: the value of a counter, or of a gauge with one sample.
    pub sum: f64,
    /// The greatest of them; NaN if any is NaN.
    pub max: f64,
    /// How many match.
    pub samples: usize,
}

impl Found {
    fn one(value: f64) -> Self {
        Self {
            sum: value,
            max: value,
            samples: 1,
        }
    }

    fn and(self, value: f64) -> Self {
        let max = if value.is_nan() || value > self.max {
            value
        } else {
            self.max
        };
        Self {
            sum: self.sum + value,
            max,
            samples: self.samples + 1,
        }
    }
}

/// The samples of this name whose labels match the selector; none if there is none. The whole page is
/// read: one that was cut off has no value.
///
/// # Errors
/// When the page cannot be read, or when the metric is a histogram, a summary or a text.
pub fn value<N: AsRef<str>, V: AsRef<str>>(
    page: &[u8],
    format: Format,
    name: &str,
    selector: &[(N, V)],
) -> Result<Option<Found>, Problem> {
    let mut found: Option<Found> = None;
    let mut kind = Kind::Unknown;
    // The line of the entry is only needed for a fault of ours.
    let mut reader = Reader::new(page, format);
    while let Some(entry) = reader.next() {
        match entry? {
            Entry::Type { family, kind: of } if family == name => kind = of,
            Entry::Type { .. } => {}
            Entry::Sample(sample) => {
                if sample.name != name || !sample.labels.match_all(selector) {
                    continue;
                }
                if !has_single_value(kind) {
                    let fault = Fault::NoSingleValue;
                    let line = reader.line_number();
                    return Err(Problem { line, fault });
                }
                let value = sample.value;
                found = Some(found.map_or(Found::one(value), |found| found.and(value)));
            }
        }
    }
    Ok(found)
}

fn has_single_value(kind: Kind) -> bool {
    match kind {
        Kind::Counter | Kind::Gauge | Kind::Unknown => true,
        Kind::Histogram | Kind::Summary | Kind::GaugeHistogram | Kind::Info | Kind::StateSet => {
            false
        }
    }
}
