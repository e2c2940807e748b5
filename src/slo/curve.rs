//! What a watch shows of an objective over time, in few stretches: for plots.

use super::store::Store;
use super::tally::Cell;

/// A stretch of time of a watch, and what was counted in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stretch {
    /// After this. Unit: milliseconds since 1970.
    pub from: i64,
    /// Up to and with this.
    pub to: i64,
    /// What was counted, and how much of the time was observed.
    pub cell: Cell,
}

impl Stretch {
    /// Whether nothing is known of it.
    #[must_use]
    pub fn is_gap(&self) -> bool {
        self.cell.seen + self.cell.bridged == 0
    }
}

impl Store {
    /// What an objective shows over the whole watch so far, in about this many stretches of equal length. What
    /// was not observed is never joined with what was. Empty for an objective that does not exist.
    #[must_use]
    pub fn stretches(&self, objective: usize, most: usize) -> Vec<Stretch> {
        let parts = i64::try_from(most.max(1)).unwrap_or(i64::MAX);
        let width = ((self.end() - self.begin()) / parts).max(1);
        let part = |from: i64, to: i64| (i64::midpoint(from, to) - self.begin()) / width;
        let mut stretches: Vec<Stretch> = Vec::new();
        for segment in &self.segments {
            let Some(cell) = segment.cells.get(objective) else {
                return Vec::new();
            };
            let next = Stretch {
                from: segment.from,
                to: segment.to,
                cell: cell.clone(),
            };
            match stretches.last_mut() {
                Some(last)
                    if last.is_gap() == next.is_gap()
                        && part(last.from, last.from) == part(next.from, next.to) =>
                {
                    last.to = next.to;
                    last.cell.add(&next.cell);
                }
                _ => stretches.push(next),
            }
        }
        stretches
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::slo::{Kind, Tally};

    fn cell(bad: f64) -> Cell {
        Cell {
            seen: 30_000,
            bridged: 0,
            tally: Some(Tally::Events { total: 10.0, bad }),
        }
    }

    #[test]
    fn stretches_add_up_to_the_watch_and_a_gap_stays_one() {
        let mut store = Store::new(0, vec![Kind::Events], 60_000);
        for look in 1..=20 {
            let cell = match look {
                8..=10 => Cell::default(),
                _ => cell(1.0),
            };
            store.push(look * 30_000, vec![cell]).unwrap();
        }
        let stretches = store.stretches(0, 5);
        assert!(stretches.len() <= 10, "{stretches:?}");
        assert_eq!(
            (stretches[0].from, stretches.last().unwrap().to),
            (0, 600_000)
        );
        for (one, next) in stretches.iter().zip(&stretches[1..]) {
            assert_eq!(one.to, next.from);
        }
        let gaps = stretches.iter().filter(|stretch| stretch.is_gap());
        assert_eq!(gaps.map(|gap| gap.to - gap.from).sum::<i64>(), 90_000);
        let events = stretches.iter().filter_map(|s| s.cell.tally.as_ref());
        let events: f64 = events.map(Tally::events).sum();
        assert!((events - 170.0).abs() < 1e-9, "{events}");
        assert_eq!(store.stretches(1, 5), []);
    }
}
