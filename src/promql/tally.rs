//! What an answer counts, in the same form as a scrape.

use super::answer::{Answer, Data, NativeHistogram, Series};
use crate::slo::histogram::{Buckets, HistogramFault, Range};
use crate::slo::tally::{Bound, Tally, Values};

/// Why an answer counts nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// No series has the name and the labels, or none has two samples in the window.
    #[error("Prometheus has no such series in this window")]
    NoSeries,
    /// There are warnings, or parts of the data could not be read: the result may lack series.
    #[error("the answer of Prometheus is not complete")]
    Incomplete,
    /// It is the answer to another question.
    #[error("the answer of Prometheus has another form than was asked for")]
    Form,
    /// The buckets are no histogram.
    #[error(transparent)]
    NoHistogram(#[from] HistogramFault),
}

/// The number that an answer of one series without labels has. None for no series: of nothing there is no sum.
///
/// # Errors
/// When the answer is not complete, or has more than one series.
pub fn number(answer: &Answer) -> Result<Option<f64>, Unusable> {
    if !answer.is_complete() {
        return Err(Unusable::Incomplete);
    }
    match &answer.data {
        Data::Scalar(point) => Ok(Some(point.value)),
        Data::Vector(series) => match series.as_slice() {
            [] => Ok(None),
            [one] => value(one).map(Some).ok_or(Unusable::Form),
            _ => Err(Unusable::Form),
        },
        Data::Matrix(_) => Err(Unusable::Form),
    }
}

/// Events, from the increase of all and of the bad ones. Where there is no bad series, no event was bad: a
/// client shows a series from its first event on.
///
/// # Errors
/// When an answer is not complete, or there is no series at all.
pub fn events(all: &Answer, bad: &Answer) -> Result<Tally, Unusable> {
    let total = number(all)?.ok_or(Unusable::NoSeries)?;
    let bad = number(bad)?.unwrap_or_default();
    // Extrapolation to the ends of the window is not the same for both.
    let bad = bad.min(total);
    let tally = Tally::Events { total, bad };
    match tally.is_sound() {
        true => Ok(tally),
        false => Err(Unusable::Form),
    }
}

/// Buckets, from `sum by (le) (increase(…))`.
///
/// # Errors
/// When the answer is not complete, or its series are no histogram.
pub fn buckets(answer: &Answer) -> Result<Tally, Unusable> {
    if !answer.is_complete() {
        return Err(Unusable::Incomplete);
    }
    let Data::Vector(series) = &answer.data else {
        return Err(Unusable::Form);
    };
    if series.is_empty() {
        return Err(Unusable::NoSeries);
    }
    let bucket = |series: &Series| {
        let bound = series.labels.get("le")?.parse().ok()?;
        Some((bound, value(series)?))
    };
    let buckets = series.iter().map(bucket).collect::<Option<Vec<_>>>();
    let buckets = buckets.ok_or(Unusable::Form)?;
    Ok(Tally::Buckets(Buckets::new(buckets)?))
}

/// Values of a gauge at one time.
///
/// # Errors
/// When the answer is not complete, or has no number.
pub fn values(answer: &Answer, bound: Bound) -> Result<Tally, Unusable> {
    if !answer.is_complete() {
        return Err(Unusable::Incomplete);
    }
    let Data::Vector(series) = &answer.data else {
        return Err(Unusable::Form);
    };
    let numbers = series.iter().map(value).collect::<Option<Vec<f64>>>();
    let numbers = numbers.ok_or(Unusable::Form)?;
    let values = Values::at_once(numbers, bound).ok_or(Unusable::NoSeries)?;
    Ok(Tally::Values(values))
}

/// The one number of a series.
fn value(series: &Series) -> Option<f64> {
    match series.values.as_slice() {
        [point] => Some(point.value),
        _ => None,
    }
}

impl NativeHistogram {
    /// How many observations are at most as large as this: exact where it is the upper bound of a bucket, else
    /// between the counts of both ends of the bucket around it. Observations of NaN are not.
    #[must_use]
    pub fn at_most(&self, limit: f64) -> Range {
        let (mut low, mut high) = (0.0, 0.0);
        for bucket in &self.buckets {
            if bucket.high <= limit {
                low += bucket.count;
            }
            if bucket.low < limit || bucket.high <= limit {
                high += bucket.count;
            }
        }
        Range { low, high }
    }
}
