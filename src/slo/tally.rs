//! What an objective counts: events, buckets, values of a gauge, lines of a log. Tallies of two stretches of
//! time add up to the tally of both.

use super::histogram::{Buckets, is_count};

/// The side of a bound on which the values of a gauge must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// Values must be less than this.
    Below(f64),
    /// Values must be greater than this.
    Above(f64),
}

impl Bound {
    /// Whether a value is on the right side; not a number never is.
    #[must_use]
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::Below(bound) => value < bound,
            Self::Above(bound) => value > bound,
        }
    }
}

/// Which kind of tally an objective has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Events, good and bad.
    Events,
    /// Events by size.
    Buckets,
    /// Values of a gauge.
    Values,
    /// Lines of a log.
    Lines,
}

/// What was counted in a stretch of time.
#[derive(Clone, Debug, PartialEq)]
pub enum Tally {
    /// Requests and errors, probes and failures.
    Events {
        /// All of them.
        total: f64,
        /// Those that count against the objective.
        bad: f64,
    },
    /// A classic histogram.
    Buckets(Buckets),
    /// Values of a gauge, or of a quantile of a summary.
    Values(Values),
    /// Lines of a log that match.
    Lines(f64),
}

/// Values of a gauge at several times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Values {
    /// How many.
    pub samples: f64,
    /// How many of them were on the wrong side of the bound.
    pub outside: f64,
    /// The least.
    pub low: f64,
    /// The greatest.
    pub high: f64,
    /// The last; of several machines the one that is worst.
    pub last: f64,
}

impl Values {
    /// The values of one time, one for each machine. None without a value that is a number: a gauge that is
    /// NaN has none.
    #[must_use]
    pub fn at_once(values: impl IntoIterator<Item = f64>, bound: Bound) -> Option<Self> {
        let values = values.into_iter().filter(|value| !value.is_nan());
        let values: Vec<f64> = values.collect();
        let low = values.iter().copied().reduce(f64::min)?;
        let high = values.iter().copied().reduce(f64::max)?;
        let outside = values.iter().any(|value| !bound.holds(*value));
        Some(Self {
            samples: 1.0,
            outside: if outside { 1.0 } else { 0.0 },
            low,
            high,
            last: match bound {
                Bound::Below(_) => high,
                Bound::Above(_) => low,
            },
        })
    }
}

impl Tally {
    /// Nothing counted: a tally to add to. None for gauges and histograms, whose first values say what they
    /// are.
    #[must_use]
    pub fn none(kind: Kind) -> Option<Self> {
        match kind {
            Kind::Events => Some(Self::Events {
                total: 0.0,
                bad: 0.0,
            }),
            Kind::Lines => Some(Self::Lines(0.0)),
            Kind::Buckets | Kind::Values => None,
        }
    }

    /// How many numbers it takes, about.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Buckets(buckets) => buckets.weight(),
            Self::Events { .. } | Self::Values(_) | Self::Lines(_) => 0,
        }
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Events { .. } => Kind::Events,
            Self::Buckets(_) => Kind::Buckets,
            Self::Values(_) => Kind::Values,
            Self::Lines(_) => Kind::Lines,
        }
    }

    /// Whether its numbers can be counts.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        match self {
            Self::Events { total, bad } => is_count(*total) && is_count(*bad) && bad <= total,
            Self::Lines(lines) => is_count(*lines),
            Self::Buckets(buckets) => buckets.counts().iter().all(|count| is_count(*count)),
            Self::Values(values) => {
                let numbers = [values.low, values.high, values.last];
                is_count(values.samples)
                    && is_count(values.outside)
                    && values.outside <= values.samples
                    && !numbers.iter().any(|number| number.is_nan())
            }
        }
    }

    /// Adds what was counted later. Returns false, and adds nothing, if that is of another kind.
    pub fn add(&mut self, later: &Self) -> bool {
        match (self, later) {
            (
                Self::Events { total, bad },
                Self::Events {
                    total: more,
                    bad: worse,
                },
            ) => {
                *total += more;
                *bad += worse;
            }
            (Self::Buckets(buckets), Self::Buckets(more)) => buckets.add(more),
            (Self::Lines(lines), Self::Lines(more)) => *lines += more,
            (Self::Values(values), Self::Values(later)) => {
                values.samples += later.samples;
                values.outside += later.outside;
                values.low = values.low.min(later.low);
                values.high = values.high.max(later.high);
                values.last = later.last;
            }
            _ => return false,
        }
        true
    }

    /// How many events there are: what a minimum of events is compared with.
    #[must_use]
    pub fn events(&self) -> f64 {
        match self {
            Self::Events { total, .. } => *total,
            Self::Buckets(buckets) => buckets.total(),
            Self::Values(values) => values.samples,
            Self::Lines(lines) => *lines,
        }
    }
}

/// What one objective has in a stretch of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cell {
    /// How much of the time was observed; an observation of half of the machines is half of the time.
    /// Unit: milliseconds.
    pub seen: i64,
    /// How much of the time was not observed although its sum is known: counters went on while nobody read
    /// them. Unit: milliseconds.
    pub bridged: i64,
    /// What was counted.
    pub tally: Option<Tally>,
}

impl Cell {
    pub(super) fn add(&mut self, later: &Self) {
        self.seen += later.seen;
        self.bridged += later.bridged;
        add(&mut self.tally, later.tally.as_ref());
    }
}

/// Adds a tally that may be missing on either side.
pub(super) fn add(sum: &mut Option<Tally>, more: Option<&Tally>) {
    match (sum.as_mut(), more) {
        (Some(sum), Some(more)) => {
            sum.add(more);
        }
        (None, Some(more)) => *sum = Some(more.clone()),
        (_, None) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_several_machines_is_the_value_of_a_gauge() {
        let below = Values::at_once([3.0, 31.0, f64::NAN], Bound::Below(30.0)).unwrap();
        assert_eq!((below.last, below.outside), (31.0, 1.0));
        let above = Values::at_once([3.0, 31.0], Bound::Above(2.0)).unwrap();
        assert_eq!((above.last, above.outside), (3.0, 0.0));
        assert_eq!(Values::at_once([f64::NAN], Bound::Below(30.0)), None);
        let infinite = Values::at_once([f64::INFINITY], Bound::Below(30.0)).unwrap();
        assert_eq!(infinite.outside, 1.0);
        assert!(!Bound::Below(30.0).holds(30.0));
        assert!(!Bound::Below(30.0).holds(f64::NAN));
    }

    #[test]
    fn tallies_add_up_and_kinds_do_not_mix() {
        let mut events = Tally::none(Kind::Events).unwrap();
        let some = Tally::Events {
            total: 10.0,
            bad: 1.0,
        };
        assert!(events.add(&some));
        assert!(events.add(&some));
        assert_eq!(
            events,
            Tally::Events {
                total: 20.0,
                bad: 2.0
            }
        );
        assert!(!events.add(&Tally::Lines(3.0)));
        assert_eq!(events.events(), 20.0);
        let mut gauge = Tally::Values(Values::at_once([5.0], Bound::Below(4.0)).unwrap());
        let later = Tally::Values(Values::at_once([1.0], Bound::Below(4.0)).unwrap());
        assert!(gauge.add(&later));
        let expected = Values {
            samples: 2.0,
            outside: 1.0,
            low: 1.0,
            high: 5.0,
            last: 1.0,
        };
        assert_eq!(gauge, Tally::Values(expected));
    }

    #[test]
    fn what_cannot_be_a_count_is_not_sound() {
        let (total, bad) = (1.0, 2.0);
        assert!(!Tally::Events { total, bad }.is_sound());
        assert!(!Tally::Lines(f64::NAN).is_sound());
        assert!(!Tally::Lines(-1.0).is_sound());
        assert!(Tally::Lines(0.0).is_sound());
    }
}
