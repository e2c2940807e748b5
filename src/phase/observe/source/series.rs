//! Figures of a Prometheus: what each objective asks, and what the answers count.
//!
//! Each look asks for what was added since the one before, by the clock of the Prometheus: the windows of two
//! looks neither overlap nor leave a gap, whatever the clock of this machine says. A window ends a little
//! before now, because a scrape that has begun before is not stored yet.

use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt, stream};

use super::{fault::Cause, server::Asked};
use crate::{
    phase::observe::reading::Question,
    promql::{
        Query, Request, fly,
        tally::{self, Unusable},
    },
    slo::{Bound, Buckets, Matcher, Op, Selector, Source, Tally},
};

/// Longest time of all queries of a look.
const ALL: Duration = Duration::from_secs(60);

/// Queries at once, of one application.
const AT_ONCE: usize = 4;

/// The most that a window ends before now.
///
/// Source: prometheus/prometheus, `docs/configuration/configuration.md`: `scrape_timeout` is 10 s unless it is
/// set, and samples have the time at which the scrape began.
const LAG: i64 = 15_000;

/// Longest window. What was counted in a longer time without a look is not known.
const LONGEST: i64 = 6 * 3_600_000;

/// A window in the time of a Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its end, in milliseconds since 1970.
    pub until: i64,
    /// Its length, in seconds. 0: there was no look before, so nothing is counted yet.
    pub seconds: u64,
}

/// The window since the last look, which ended at `last`; `pause` is the real time since then. None when it is
/// shorter than a second, which is added to the next one.
#[must_use]
pub fn span(last: Option<i64>, now: i64, pause: Duration) -> Option<Span> {
    let pause = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
    let until = now - LAG.min(pause / 8);
    let begins = Span { until, seconds: 0 };
    let Some(last) = last else {
        return Some(begins);
    };
    match until - last {
        // The clock of the Prometheus was set back, or nobody looked for too long.
        length if !(-LAG..=LONGEST).contains(&length) => Some(begins),
        length if length < 1000 => None,
        length => {
            let seconds = length / 1000;
            Some(Span {
                until: last + seconds * 1000,
                seconds: seconds.unsigned_abs(),
            })
        }
    }
}

/// What is counted of each objective on a metric, by its number.
pub async fn count(
    asked: &Asked,
    app: &str,
    questions: &[Question],
    span: Span,
) -> Vec<(usize, Result<Option<Tally>, Cause>)> {
    let until = Instant::now() + ALL;
    let questions = questions.iter().enumerate();
    let metrics = questions.filter_map(|(objective, question)| match question {
        Question::Metric { source, below } => Some((objective, source, *below)),
        _ => None,
    });
    let one = |(objective, source, below)| async move {
        let of = Objective {
            asked,
            app,
            span,
            until,
        };
        (objective, of.count(source, below).await)
    };
    // Boxed, because a task that makes a look must be known to be Send.
    let all: Vec<_> = metrics.map(|metric| one(metric).boxed()).collect();
    stream::iter(all).buffered(AT_ONCE).collect().await
}

/// One objective that is asked for.
struct Objective<'a> {
    asked: &'a Asked,
    app: &'a str,
    span: Span,
    until: Instant,
}

impl Objective<'_> {
    /// What is counted; nothing in a first look, unless it is a value.
    async fn count(&self, source: &Source, below: Option<f64>) -> Result<Option<Tally>, Cause> {
        let window = self.span.seconds;
        match source {
            Source::Gauge { metric, of, bound } => self.values(metric, of, *bound).await,
            Source::Summary {
                metric,
                of,
                quantile,
                bound,
            } => {
                let quantile = Matcher::new("quantile", Op::Equal, quantile.to_string());
                let quantile = quantile.map_err(|_| Unusable::Form)?;
                let of = of.and(&Selector::new(vec![quantile]));
                self.values(metric, &of, *bound).await
            }
            _ if window == 0 => Ok(None),
            Source::Counter { metric, of, bad } => {
                let of = self.scoped(of)?;
                let bad = of.and(bad);
                let of = &of;
                let all = self.ask(Query::Increase { metric, of, window }).await?;
                let of = &bad;
                let bad = self.ask(Query::Increase { metric, of, window }).await?;
                Ok(Some(tally::events(&all, &bad)?))
            }
            Source::Histogram { metric, of } => {
                let of = &self.scoped(of)?;
                let classic = self.ask(Query::Buckets { metric, of, window }).await?;
                match (tally::buckets(&classic), below) {
                    (Err(Unusable::NoSeries), Some(below)) => {
                        self.native(metric, of, below).await.map(Some)
                    }
                    (buckets, _) => Ok(Some(buckets?)),
                }
            }
            Source::Elsewhere(_) => Ok(None),
        }
    }

    async fn values(
        &self,
        metric: &str,
        of: &Selector,
        bound: Bound,
    ) -> Result<Option<Tally>, Cause> {
        let of = &self.scoped(of)?;
        let answer = self.ask(Query::Gauge { metric, of }).await?;
        Ok(Some(tally::values(&answer, bound)?))
    }

    /// A native histogram, as three buckets: up to a little less than the objective, up to a little more, and
    /// all. Prometheus interpolates inside the bucket that a bound lies in (`histogram_fraction`), so that the
    /// share at the objective itself would be an estimate: what is known is between those beside it.
    async fn native(&self, metric: &str, of: &Selector, below: f64) -> Result<Tally, Cause> {
        let window = self.span.seconds;
        let count = self.ask(Query::NativeCount { metric, of, window }).await?;
        let count = tally::number(&count)?.ok_or(Unusable::NoSeries)?;
        let mut shares = [None, None];
        for (share, below) in shares.iter_mut().zip(beside(below)) {
            let fraction = Query::Fraction {
                metric,
                of,
                below,
                window,
            };
            *share = tally::number(&self.ask(fraction).await?)?;
        }
        Ok(native_buckets(count, shares, below)?)
    }

    /// The series of the objective; at Fly.io those of the application alone.
    fn scoped(&self, of: &Selector) -> Result<Selector, Cause> {
        match self.asked {
            Asked::Own(..) => Ok(of.clone()),
            Asked::Fly(..) => {
                let app = fly::of_app(self.app).map_err(|_| Unusable::Form)?;
                Ok(app.and(of))
            }
        }
    }

    async fn ask(&self, query: Query<'_>) -> Result<crate::promql::Answer, Cause> {
        let timeout = u32::try_from(super::server::TIMEOUT.as_secs()).unwrap_or(u32::MAX);
        let request = Request::instant(&query, self.span.until, timeout);
        self.asked.ask(&request, self.until).await
    }
}

/// How much wider the upper bound of a bucket of a native histogram is than its lower one: 2^(1/8), schema 3.
///
/// Source: prometheus/client_golang, `prometheus/histogram.go`, `NativeHistogramBucketFactor`: 1.1 is the usual
/// factor, for which schema 3 is chosen.
const WIDTH: f64 = 1.090_507_732_665_257_7;

/// Bounds below and above the objective, with at least one bound of a bucket between each and the objective
/// (or on one): the share up to the lower one is at most what it is at the objective, and the share up to the
/// upper one at least that, wherever Prometheus puts the events of a bucket.
fn beside(below: f64) -> [f64; 2] {
    [below / WIDTH, below * WIDTH]
}

/// The buckets of a native histogram around the objective. Of no events there is no share.
fn native_buckets(count: f64, shares: [Option<f64>; 2], below: f64) -> Result<Tally, Unusable> {
    let share = |share: Option<f64>| match share {
        Some(share) if (0.0..=1.0).contains(&share) => Ok(share * count),
        _ if count == 0.0 => Ok(0.0),
        _ => Err(Unusable::Form),
    };
    let [low, high] = beside(below);
    let buckets = [
        (low, share(shares[0])?),
        (high, share(shares[1])?),
        (f64::INFINITY, count),
    ];
    Ok(Tally::Buckets(Buckets::new(buckets)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const NOW: i64 = 1_800_000_000_000;

    #[test]
    fn windows_of_two_looks_neither_overlap_nor_leave_a_gap() {
        let first = span(None, NOW, MINUTE).unwrap();
        assert_eq!(first.seconds, 0, "nothing is counted yet");
        let mut last = first.until;
        let mut total = 0;
        for look in 1..100 {
            let now = NOW + look * 60_437;
            let span = span(Some(last), now, MINUTE).unwrap();
            let length = i64::try_from(span.seconds).unwrap() * 1000;
            assert_eq!(span.until - length, last);
            assert!(span.until <= now);
            total += length;
            last = span.until;
        }
        assert_eq!(total, last - first.until);
    }

    #[test]
    fn a_clock_that_was_set_back_and_a_long_silence_begin_anew() {
        for now in [NOW - 3_600_000, NOW + LONGEST + 60_000] {
            assert_eq!(span(Some(NOW), now, MINUTE).unwrap().seconds, 0, "{now}");
        }
        assert_eq!(
            span(Some(NOW), NOW + 500, Duration::ZERO),
            None,
            "too short"
        );
        assert_eq!(span(Some(NOW), NOW - 500, Duration::ZERO), None);
    }

    #[test]
    fn a_native_histogram_has_a_share_only_of_events() {
        let both = |share| [share, share];
        assert!(native_buckets(0.0, both(Some(f64::NAN)), 3.0).is_ok());
        assert!(native_buckets(200.0, both(Some(f64::NAN)), 3.0).is_err());
        assert!(native_buckets(200.0, both(None), 3.0).is_err());
    }

    #[test]
    fn the_share_of_a_native_histogram_at_the_objective_is_between_two_and_never_exact() {
        let shares = [Some(0.94), Some(0.96)];
        let Tally::Buckets(buckets) = native_buckets(200.0, shares, 3.0).unwrap() else {
            unreachable!();
        };
        assert_eq!(buckets.counts(), [188.0, 192.0, 200.0]);
        let share = buckets.at_most(3.0);
        assert_eq!((share.low, share.high), (188.0, 192.0));
        assert!(!share.is_exact());
        // Bounds of buckets of schema 3 are powers of 2^(1/8): one lies between, wherever the objective is.
        for below in [0.3, 1.0, 2.5, 3.0, 15.0] {
            let [low, high] = beside(below);
            let place = |bound: f64| bound.log2() * 8.0;
            let least = place(below).floor() + 1e-9 >= place(low);
            assert!(
                least && place(below).ceil() - 1e-9 <= place(high),
                "{below}"
            );
        }
    }
}
