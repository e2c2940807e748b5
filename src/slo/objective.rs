//! An objective, and what a tally says about it.

use super::histogram::{Buckets, Quantile, Range};
use super::tally::{Bound, Kind, Tally};

/// Fewest events of a window, unless an objective says otherwise.
///
/// Source: Google, The Site Reliability Workbook, "Low-Traffic Services and Error Budget Alerting": a single
/// failure of few requests says nothing about a rate.
pub const MIN_EVENTS: u32 = 20;

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Aim {
    /// The share of bad events must be less than this: `errorRate`, `availability`.
    BadShare {
        /// From 0 to 1.
        below: f64,
    },
    /// The quantile of a histogram must be at most this.
    Latency {
        /// From 0 to 1.
        quantile: f64,
        /// Unit: that of the histogram, seconds by convention.
        below: f64,
    },
    /// Every value of a gauge, or of a quantile of a summary, must be on this side.
    Level(Bound),
    /// Matching lines of a log must be at most this many a minute.
    Lines {
        /// Lines a minute.
        per_minute: f64,
    },
}

impl Aim {
    /// The kind of its tallies.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::BadShare { .. } => Kind::Events,
            Self::Latency { .. } => Kind::Buckets,
            Self::Level(_) => Kind::Values,
            Self::Lines { .. } => Kind::Lines,
        }
    }

    /// The share of bad events that uses up the budget. A level and lines of a log have none.
    #[must_use]
    pub fn budget(self) -> Option<f64> {
        match self {
            Self::BadShare { below } => Some(below),
            Self::Latency { quantile, .. } => Some(1.0 - quantile),
            Self::Level(_) | Self::Lines { .. } => None,
        }
    }
}

/// An objective.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective {
    /// What must hold.
    pub aim: Aim,
    /// Fewest events of a window that says anything. Lines of a log have no minimum: none is the best.
    pub min_events: u32,
}

/// The value of an objective in a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A share of bad events.
    BadShare {
        /// The share, from 0 to 1.
        share: Range,
        /// How many events are bad.
        bad: Range,
        /// How many events there are.
        total: f64,
    },
    /// A quantile of a histogram.
    Quantile {
        /// The quantile.
        quantile: Quantile,
        /// The share of events above the bound, from 0 to 1.
        slow: Range,
        /// How many events there are.
        total: f64,
        /// The greatest bound of a bucket that is not above the objective.
        below: Option<f64>,
        /// The least bound of a bucket that is not below the objective.
        above: Option<f64>,
    },
    /// Values of a gauge.
    Level {
        /// The least.
        low: f64,
        /// The greatest.
        high: f64,
        /// The last.
        last: f64,
        /// How many observations were outside.
        outside: f64,
        /// How many observations there are.
        total: f64,
    },
    /// Lines a minute.
    PerMinute(f64),
}

/// Whether the objective holds by a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// The objective lies between two bounds of the histogram, and so does the quantile.
    BetweenBounds,
}

impl Objective {
    /// What a tally says. `time` is how long it was counted, in milliseconds: observed, or bridged. None
    /// without events, and for a tally of another kind.
    #[must_use]
    pub fn value(&self, tally: &Tally, time: i64) -> Option<Value> {
        match (self.aim, tally) {
            (Aim::BadShare { .. }, Tally::Events { total, bad }) => (*total > 0.0).then(|| {
                let (share, bad) = (Range::exact(bad / total), Range::exact(*bad));
                let total = *total;
                Value::BadShare { share, bad, total }
            }),
            (Aim::Latency { quantile, below }, Tally::Buckets(buckets)) => {
                latency(buckets, quantile, below)
            }
            (Aim::Level(_), Tally::Values(values)) => Some(Value::Level {
                low: values.low,
                high: values.high,
                last: values.last,
                outside: values.outside,
                total: values.samples,
            }),
            (Aim::Lines { .. }, Tally::Lines(lines)) => {
                let minutes = time as f64 / 60_000.0;
                (minutes > 0.0).then(|| Value::PerMinute(lines / minutes))
            }
            _ => None,
        }
    }

    /// Whether the objective holds by this value, over the whole time that it is of.
    #[must_use]
    pub fn holds(&self, value: &Value) -> Holds {
        let certain = |holds: bool| if holds { Holds::Yes } else { Holds::No };
        match (self.aim, value) {
            (Aim::BadShare { below }, Value::BadShare { share, .. }) => {
                // Less than nothing cannot be: a budget of nothing allows no bad event.
                let is_clean = below <= 0.0 && share.high <= 0.0;
                between(
                    share.high < below || is_clean,
                    share.low >= below && !is_clean,
                )
            }
            // The share at a bound is the exact question: the quantile is at most the bound if and only if
            // the share of events above it is at most what the quantile leaves.
            (Aim::Latency { quantile, .. }, Value::Quantile { slow, total, .. }) => {
                let rank = quantile * total;
                let (least, most) = (total - slow.high * total, total - slow.low * total);
                between(is_at_least(least, rank), !is_at_least(most, rank))
            }
            (Aim::Level(_), Value::Level { outside, .. }) => certain(*outside == 0.0),
            (Aim::Lines { per_minute }, Value::PerMinute(rate)) => certain(*rate <= per_minute),
            _ => Holds::BetweenBounds,
        }
    }

    /// How fast the budget burns: 1 uses it up exactly. A budget of nothing burns infinitely fast with the
    /// first bad event.
    #[must_use]
    pub fn burn(&self, value: &Value) -> Option<Range> {
        let over = |share: f64, budget: f64| match share == 0.0 {
            true => 0.0,
            false => share / budget,
        };
        match (self.aim, value) {
            (Aim::BadShare { below }, Value::BadShare { share, .. }) => {
                Some(share.map(|share| over(share, below)))
            }
            (Aim::Latency { quantile, .. }, Value::Quantile { slow, .. }) => {
                Some(slow.map(|slow| over(slow, 1.0 - quantile)))
            }
            (Aim::Lines { per_minute }, Value::PerMinute(rate)) => {
                Some(Range::exact(over(*rate, per_minute)))
            }
            _ => None,
        }
    }
}

fn between(yes: bool, no: bool) -> Holds {
    match (yes, no) {
        (true, _) => Holds::Yes,
        (false, true) => Holds::No,
        (false, false) => Holds::BetweenBounds,
    }
}

/// Whether a count reaches a rank, but for an error of arithmetic.
fn is_at_least(count: f64, rank: f64) -> bool {
    count >= rank - rank.abs() * 1e-12
}

/// A quantile, and the share of events above a bound.
fn latency(buckets: &Buckets, quantile: f64, limit: f64) -> Option<Value> {
    let total = buckets.total();
    if total <= 0.0 {
        return None;
    }
    let at_most = buckets.at_most(limit);
    let (below, above) = buckets.nearest(limit);
    Some(Value::Quantile {
        quantile: buckets.quantile(quantile),
        slow: Range {
            low: (total - at_most.high) / total,
            high: (total - at_most.low) / total,
        },
        total,
        below,
        above,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slo::tally::Values;

    fn objective(aim: Aim) -> Objective {
        let min_events = MIN_EVENTS;
        Objective { aim, min_events }
    }

    fn judged(aim: Aim, tally: &Tally) -> (Holds, Option<Range>) {
        let objective = objective(aim);
        let value = objective.value(tally, 60_000).unwrap();
        (objective.holds(&value), objective.burn(&value))
    }

    fn buckets(of: &[(f64, f64)]) -> Tally {
        Tally::Buckets(Buckets::new(of.iter().copied()).unwrap())
    }

    #[test]
    fn a_share_must_be_less_than_its_bound() {
        let aim = Aim::BadShare { below: 0.01 };
        for (total, bad, holds, burn) in [
            (1000.0, 9.0, Holds::Yes, 0.9),
            (1000.0, 10.0, Holds::No, 1.0),
            (1000.0, 144.0, Holds::No, 14.4),
            (1000.0, 1000.0, Holds::No, 100.0),
            (1000.0, 0.0, Holds::Yes, 0.0),
        ] {
            let (found, range) = judged(aim, &Tally::Events { total, bad });
            assert_eq!(found, holds, "{bad}");
            let range = range.unwrap();
            assert!(range.is_exact() && (range.low - burn).abs() < 1e-9, "{bad}");
        }
    }

    #[test]
    fn a_quantile_is_judged_exactly_at_a_bound_of_a_bucket() {
        let aim = Aim::Latency {
            quantile: 0.95,
            below: 3.0,
        };
        let at = |fast: f64| buckets(&[(1.0, 0.0), (3.0, fast), (f64::INFINITY, 1000.0)]);
        assert_eq!(judged(aim, &at(950.0)).0, Holds::Yes);
        assert_eq!(judged(aim, &at(949.0)).0, Holds::No);
        let burn = judged(aim, &at(900.0)).1.unwrap();
        assert!(burn.is_exact() && (burn.low - 2.0).abs() < 1e-9, "{burn:?}");
    }

    #[test]
    fn between_two_bounds_only_what_is_certain_is_said() {
        let aim = Aim::Latency {
            quantile: 0.95,
            below: 3.0,
        };
        let at = |low: f64, high: f64| buckets(&[(2.5, low), (5.0, high), (f64::INFINITY, 1000.0)]);
        assert_eq!(judged(aim, &at(960.0, 990.0)).0, Holds::Yes, "P95 <= 2.5");
        assert_eq!(judged(aim, &at(900.0, 940.0)).0, Holds::No, "P95 > 5");
        let (holds, burn) = judged(aim, &at(900.0, 990.0));
        assert_eq!(holds, Holds::BetweenBounds);
        let burn = burn.unwrap();
        assert!((burn.low - 0.2).abs() < 1e-9 && (burn.high - 2.0).abs() < 1e-9);
        let value = objective(aim).value(&at(900.0, 990.0), 1);
        let Some(Value::Quantile { below, above, .. }) = value else {
            panic!("{value:?}");
        };
        assert_eq!((below, above), (Some(2.5), Some(5.0)));
    }

    #[test]
    fn a_level_and_lines_are_judged_as_they_are() {
        let aim = Aim::Level(Bound::Below(30.0));
        let values = |outside| {
            Tally::Values(Values {
                samples: 10.0,
                outside,
                low: 1.0,
                high: 40.0,
                last: 2.0,
            })
        };
        assert_eq!(judged(aim, &values(0.0)), (Holds::Yes, None));
        assert_eq!(judged(aim, &values(1.0)), (Holds::No, None));
        let lines = Aim::Lines { per_minute: 4.0 };
        assert_eq!(judged(lines, &Tally::Lines(4.0)).0, Holds::Yes);
        assert_eq!(judged(lines, &Tally::Lines(5.0)).0, Holds::No);
        assert_eq!(judged(lines, &Tally::Lines(8.0)).1, Some(Range::exact(2.0)));
    }

    #[test]
    fn nothing_is_said_without_events_or_with_another_kind() {
        let share = objective(Aim::BadShare { below: 0.01 });
        let (total, bad) = (0.0, 0.0);
        assert_eq!(share.value(&Tally::Events { total, bad }, 60_000), None);
        assert_eq!(share.value(&Tally::Lines(3.0), 60_000), None);
        let lines = objective(Aim::Lines { per_minute: 1.0 });
        assert_eq!(lines.value(&Tally::Lines(0.0), 0), None, "nobody looked");
    }

    #[test]
    fn a_budget_of_nothing_burns_with_the_first_bad_event() {
        let none = Aim::BadShare { below: 0.0 };
        let (total, bad) = (10.0, 1.0);
        let burn = judged(none, &Tally::Events { total, bad }).1;
        assert_eq!(burn, Some(Range::exact(f64::INFINITY)));
        let bad = 0.0;
        let burn = judged(none, &Tally::Events { total, bad }).1;
        assert_eq!(burn, Some(Range::exact(0.0)));
    }
}
