//! Classic histograms: counts of events by upper bound.
//!
//! Sources: prometheus/prometheus, `promql/quantile.go` (`bucketQuantile`) and
//! `docs/querying/functions.md` (`histogram_quantile`).

/// Most buckets of a histogram.
pub const MAX_BUCKETS: usize = 256;

/// Difference of two counts, relative to their sum, that is an error of arithmetic.
///
/// Source: `smallDeltaTolerance` of prometheus/prometheus, `promql/quantile.go`.
const TOLERANCE: f64 = 1e-12;

/// Why buckets are no histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistogramFault {
    /// No bucket has the upper bound `+Inf`.
    #[error("the histogram has no bucket with le=\"+Inf\"")]
    NoInfinity,
    /// A bound is not a number.
    #[error("a bucket of the histogram has no number as its bound")]
    Bound,
    /// A count is negative or not a number.
    #[error("a bucket of the histogram has a count that is negative or not a number")]
    Count,
    /// There are more than [`MAX_BUCKETS`].
    #[error("the histogram has more than {MAX_BUCKETS} buckets")]
    TooMany,
}

/// Counts of events at most as large as each bound. The bounds ascend and end in `+Inf`; bounds and counts
/// are as many.
#[derive(Clone, Debug, PartialEq)]
pub struct Buckets {
    bounds: Vec<f64>,
    counts: Vec<f64>,
    /// Whether bounds were left out because not all summands had them.
    narrowed: bool,
}

/// A quantile of a histogram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Quantile {
    /// There is no event.
    NoEvents,
    /// There is no bucket beside `+Inf`.
    OneBucket,
    /// The quantile asked for is not between 0 and 1. The value is Prometheus' for it.
    OutOfRange(f64),
    /// Between two bounds.
    Between {
        /// The value if events are spread evenly in the bucket, as Prometheus computes it.
        value: f64,
        /// Lower bound of the bucket; minus infinity where it is not known.
        low: f64,
        /// Upper bound of the bucket.
        high: f64,
    },
    /// Above the greatest bound, which is the value that Prometheus gives.
    AtLeast(f64),
}

impl Quantile {
    /// What `histogram_quantile` returns. Not a number where there is none.
    #[must_use]
    pub fn value(self) -> f64 {
        match self {
            Self::NoEvents | Self::OneBucket => f64::NAN,
            Self::OutOfRange(value) | Self::AtLeast(value) | Self::Between { value, .. } => value,
        }
    }
}

/// A number of which bounds are known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// It is at least this.
    pub low: f64,
    /// It is at most this.
    pub high: f64,
}

impl Range {
    /// This number.
    #[must_use]
    pub const fn exact(value: f64) -> Self {
        Self {
            low: value,
            high: value,
        }
    }

    /// Whether the number is known.
    #[must_use]
    pub fn is_exact(self) -> bool {
        self.low == self.high
    }

    /// Both bounds changed.
    #[must_use]
    pub fn map(self, change: impl Fn(f64) -> f64) -> Self {
        Self {
            low: change(self.low),
            high: change(self.high),
        }
    }
}

impl Buckets {
    /// Buckets as upper bound and cumulative count, in any order; equal bounds are added.
    ///
    /// # Errors
    /// When they are no histogram.
    pub fn new(buckets: impl IntoIterator<Item = (f64, f64)>) -> Result<Self, HistogramFault> {
        let mut buckets: Vec<(f64, f64)> = buckets.into_iter().collect();
        if buckets.len() > MAX_BUCKETS {
            return Err(HistogramFault::TooMany);
        }
        if buckets.iter().any(|(bound, _)| bound.is_nan()) {
            return Err(HistogramFault::Bound);
        }
        if !buckets.iter().all(|(_, count)| is_count(*count)) {
            return Err(HistogramFault::Count);
        }
        buckets.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let (mut bounds, mut counts) = (Vec::new(), Vec::new());
        for (bound, count) in buckets {
            // -0 and 0 are one bound.
            match (bounds.last(), counts.last_mut()) {
                (Some(last), Some(sum)) if *last == bound => *sum += count,
                _ => {
                    bounds.push(bound);
                    counts.push(count);
                }
            }
        }
        match bounds.last() {
            Some(last) if *last == f64::INFINITY => Ok(Self {
                bounds,
                counts,
                narrowed: false,
            }),
            _ => Err(HistogramFault::NoInfinity),
        }
    }

    /// The upper bounds, ascending; the last is `+Inf`.
    #[must_use]
    pub fn bounds(&self) -> &[f64] {
        &self.bounds
    }

    /// How many numbers it takes, about.
    pub(super) fn weight(&self) -> usize {
        2 * self.bounds.len() + 6
    }

    /// The cumulative counts.
    #[must_use]
    pub fn counts(&self) -> &[f64] {
        &self.counts
    }

    /// Whether bounds were left out, because the summands had different ones.
    #[must_use]
    pub fn is_narrowed(&self) -> bool {
        self.narrowed
    }

    /// The same with the mark that bounds were left out.
    #[must_use]
    pub fn narrowed(mut self, narrowed: bool) -> Self {
        self.narrowed |= narrowed;
        self
    }

    /// How many events there are.
    #[must_use]
    pub fn total(&self) -> f64 {
        // A lower bucket with more events is believed, as Prometheus does.
        self.counts.iter().copied().fold(0.0, f64::max)
    }

    /// Adds counts. Where the bounds differ, those that both have are kept: a cumulative count at a common
    /// bound is exact whatever the others are.
    pub fn add(&mut self, other: &Self) {
        if self.bounds == other.bounds {
            for (count, more) in self.counts.iter_mut().zip(&other.counts) {
                *count += more;
            }
            self.narrowed |= other.narrowed;
            return;
        }
        let mut sums = Vec::new();
        for (bound, count) in self.bounds.iter().zip(&self.counts) {
            if let Some(at) = other.bounds.iter().position(|other| other == bound) {
                sums.push((*bound, count + other.counts[at]));
            }
        }
        (self.bounds, self.counts) = sums.into_iter().unzip();
        self.narrowed = true;
    }

    /// The counts with every decrease raised to the count before it, and whether there was one that is not
    /// an error of arithmetic.
    #[must_use]
    pub fn monotone(&self) -> (Vec<f64>, bool) {
        let mut counts = self.counts.clone();
        let (mut before, mut forced) = (counts.first().copied().unwrap_or_default(), false);
        for count in counts.iter_mut().skip(1) {
            if *count == before {
                continue;
            }
            let is_error = is_near(before, *count);
            if is_error || *count < before {
                forced |= !is_error;
                *count = before;
            } else {
                before = *count;
            }
        }
        (counts, forced)
    }

    /// The quantile, as `histogram_quantile` computes it, with the bounds of its bucket.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Quantile {
        if q.is_nan() {
            return Quantile::OutOfRange(f64::NAN);
        }
        if q < 0.0 {
            return Quantile::OutOfRange(f64::NEG_INFINITY);
        }
        if q > 1.0 {
            return Quantile::OutOfRange(f64::INFINITY);
        }
        let (counts, _) = self.monotone();
        let [.., greatest, _] = self.bounds.as_slice() else {
            return Quantile::OneBucket;
        };
        let total = counts.last().copied().unwrap_or_default();
        if total == 0.0 {
            return Quantile::NoEvents;
        }
        let rank = q * total;
        let at = counts.partition_point(|count| *count < rank);
        if at + 1 >= counts.len() {
            return Quantile::AtLeast(*greatest);
        }
        let high = self.bounds[at];
        let (low, before) = match at.checked_sub(1) {
            Some(before) => (self.bounds[before], counts[before]),
            None if high <= 0.0 => {
                let (value, low) = (high, f64::NEG_INFINITY);
                return Quantile::Between { value, low, high };
            }
            None => (0.0, 0.0),
        };
        let value = low + (high - low) * ((rank - before) / (counts[at] - before));
        Quantile::Between { value, low, high }
    }

    /// How many events are at most as large as this: exact if it is the bound of a bucket, otherwise between
    /// the counts of the bounds beside it.
    #[must_use]
    pub fn at_most(&self, limit: f64) -> Range {
        let (counts, _) = self.monotone();
        let above = self.bounds.partition_point(|bound| *bound < limit);
        let high = counts.get(above).copied().unwrap_or_default();
        if self.bounds.get(above) == Some(&limit) {
            return Range::exact(high);
        }
        let low = above.checked_sub(1).map_or(0.0, |below| counts[below]);
        Range { low, high }
    }

    /// The greatest bound below this and the least above it: what an objective can be set to, to be judged
    /// exactly. Both are the limit itself if it is a bound.
    #[must_use]
    pub fn nearest(&self, limit: f64) -> (Option<f64>, Option<f64>) {
        let finite = || {
            self.bounds
                .iter()
                .copied()
                .filter(|bound| bound.is_finite())
        };
        (
            finite().rfind(|bound| *bound <= limit),
            finite().find(|bound| *bound >= limit),
        )
    }
}

/// Whether a number can be a count.
pub(super) fn is_count(count: f64) -> bool {
    count.is_finite() && count >= 0.0
}

/// Whether two counts differ by an error of arithmetic at most.
fn is_near(a: f64, b: f64) -> bool {
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < TOLERANCE * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < TOLERANCE
}

#[cfg(test)]
mod tests {
    use super::*;

    const INF: f64 = f64::INFINITY;

    fn buckets(of: &[(f64, f64)]) -> Buckets {
        Buckets::new(of.iter().copied()).unwrap()
    }

    /// The sample of prometheus/docs, `exposition_formats.md`.
    fn sample() -> Buckets {
        buckets(&[
            (0.05, 24_054.0),
            (0.1, 33_444.0),
            (0.2, 100_392.0),
            (0.5, 129_389.0),
            (1.0, 133_988.0),
            (INF, 144_320.0),
        ])
    }

    #[test]
    fn quantiles_of_the_documented_sample() {
        let sample = sample();
        for (q, expected) in [(0.5, 0.157_83), (0.9, 0.554_25), (0.92, 0.868_06)] {
            let value = sample.quantile(q).value();
            assert!((value - expected).abs() < 5e-6, "{q}: {value}");
        }
        assert_eq!(sample.quantile(0.95), Quantile::AtLeast(1.0));
        assert_eq!(sample.quantile(1.0), Quantile::AtLeast(1.0));
        let Quantile::Between { low, high, .. } = sample.quantile(0.9) else {
            panic!("it is between two bounds");
        };
        assert_eq!((low, high), (0.5, 1.0));
    }

    #[test]
    fn what_has_no_quantile_says_why() {
        let sample = sample();
        assert!(sample.quantile(f64::NAN).value().is_nan());
        assert_eq!(sample.quantile(-0.1).value(), f64::NEG_INFINITY);
        assert_eq!(sample.quantile(1.1).value(), INF);
        assert_eq!(buckets(&[(INF, 3.0)]).quantile(0.5), Quantile::OneBucket);
        let empty = buckets(&[(1.0, 0.0), (INF, 0.0)]);
        assert_eq!(empty.quantile(0.5), Quantile::NoEvents);
        assert!(empty.quantile(0.5).value().is_nan());
        assert_eq!(Buckets::new([(1.0, 1.0)]), Err(HistogramFault::NoInfinity));
        assert_eq!(Buckets::new([]), Err(HistogramFault::NoInfinity));
        assert_eq!(
            Buckets::new([(f64::NAN, 1.0), (INF, 1.0)]),
            Err(HistogramFault::Bound)
        );
        for count in [f64::NAN, -1.0, INF] {
            let broken = Buckets::new([(1.0, count), (INF, 1.0)]);
            assert_eq!(broken, Err(HistogramFault::Count));
        }
        let many = (0..=MAX_BUCKETS).map(|n| (n as f64, 1.0));
        assert_eq!(Buckets::new(many), Err(HistogramFault::TooMany));
    }

    #[test]
    fn the_lowest_bucket_begins_at_zero_or_is_its_own_bound() {
        let positive = buckets(&[(2.0, 10.0), (INF, 10.0)]);
        assert_eq!(
            positive.quantile(0.5),
            Quantile::Between {
                value: 1.0,
                low: 0.0,
                high: 2.0
            }
        );
        let negative = buckets(&[(-2.0, 10.0), (INF, 10.0)]);
        assert_eq!(
            negative.quantile(0.5),
            Quantile::Between {
                value: -2.0,
                low: f64::NEG_INFINITY,
                high: -2.0
            }
        );
    }

    #[test]
    fn a_decrease_is_raised_and_marked_unless_it_is_an_error_of_arithmetic() {
        let falling = buckets(&[(1.0, 10.0), (2.0, 8.0), (3.0, 12.0), (INF, 11.0)]);
        assert_eq!(falling.monotone(), (vec![10.0, 10.0, 12.0, 12.0], true));
        assert_eq!(falling.total(), 12.0);
        let near = buckets(&[(1.0, 10.0), (2.0, 10.0 - 1e-13), (INF, 10.0 + 1e-13)]);
        assert_eq!(near.monotone(), (vec![10.0; 3], false));
    }

    #[test]
    fn a_share_is_exact_at_a_bound_and_between_two_counts_elsewhere() {
        let sample = sample();
        assert_eq!(sample.at_most(0.5), Range::exact(129_389.0));
        let between = Range {
            low: 129_389.0,
            high: 133_988.0,
        };
        assert_eq!(sample.at_most(0.75), between);
        let above = Range {
            low: 133_988.0,
            high: 144_320.0,
        };
        assert_eq!(sample.at_most(7.0), above);
        let below = Range {
            low: 0.0,
            high: 24_054.0,
        };
        assert_eq!(sample.at_most(0.01), below);
        assert_eq!(sample.nearest(0.75), (Some(0.5), Some(1.0)));
        assert_eq!(sample.nearest(0.5), (Some(0.5), Some(0.5)));
        assert_eq!(sample.nearest(0.01), (None, Some(0.05)));
        assert_eq!(sample.nearest(7.0), (Some(1.0), None));
    }

    #[test]
    fn histograms_with_other_bounds_are_added_at_the_bounds_that_both_have() {
        let mut sum = buckets(&[(1.0, 1.0), (2.0, 3.0), (5.0, 6.0), (INF, 7.0)]);
        sum.add(&buckets(&[(1.0, 1.0), (2.0, 1.0), (5.0, 1.0), (INF, 1.0)]));
        assert!(!sum.is_narrowed());
        sum.add(&buckets(&[(2.0, 10.0), (3.0, 11.0), (INF, 12.0)]));
        assert_eq!(sum.bounds(), [2.0, INF]);
        assert_eq!(sum.counts(), [14.0, 20.0]);
        assert!(sum.is_narrowed());
    }

    #[test]
    fn equal_bounds_are_one_bucket_whatever_their_text_was() {
        let twice = buckets(&[(INF, 4.0), (1.0, 1.0), (1.0, 2.0), (-0.0, 0.0), (0.0, 1.0)]);
        assert_eq!(twice.bounds(), [0.0, 1.0, INF]);
        assert_eq!(twice.counts(), [1.0, 3.0, 4.0]);
    }
}
