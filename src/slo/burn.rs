//! Windows and factors of multi-window, multi-burn-rate alerts.
//!
//! Sources: Google, The Site Reliability Workbook, "Alerting on SLOs", 6: Multiwindow, Multi-Burn-Rate Alerts;
//! the table as slok/sloth has it, `internal/alert/windows/google-30d.yaml`; and pyrra-dev/pyrra,
//! `slo/rules.go` (`Windows`).

use super::store::{HOUR, MINUTE};

/// Milliseconds in a day.
const DAY: i64 = 24 * HOUR;

/// How urgent a burning budget is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Somebody looks at it in working hours.
    Ticket,
    /// Somebody looks at it now.
    Page,
}

/// A long window, which shows that much budget was used, and a short one, which shows that it still is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// Unit: milliseconds.
    pub long: i64,
    /// Unit: milliseconds.
    pub short: i64,
    /// Both windows burn at least this fast.
    pub factor: f64,
    /// What follows.
    pub severity: Severity,
}

/// Which windows and factors are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BurnRates {
    /// Those of a period of 30 days: 1 h, 6 h, 1 d and 3 d.
    #[default]
    Standard,
    /// Scaled to the length of the watch.
    Scaled,
}

impl BurnRates {
    /// The pairs for a watch of this length, in milliseconds. The most urgent comes first.
    #[must_use]
    pub fn pairs(self, watch: i64) -> [Pair; 4] {
        use Severity::{Page, Ticket};
        let pair = |long, short, factor, severity| Pair {
            long,
            short,
            factor,
            severity,
        };
        // 2 % of the budget of 30 days in an hour, 5 % in 6 hours, 10 % in a day, 10 % in 3 days.
        if self == Self::Standard {
            return [
                pair(HOUR, 5 * MINUTE, 14.4, Page),
                pair(6 * HOUR, 30 * MINUTE, 6.0, Page),
                pair(DAY, 2 * HOUR, 3.0, Ticket),
                pair(3 * DAY, 6 * HOUR, 1.0, Ticket),
            ];
        }
        // Pyrra rounds to a minute, halves up; a window of no minute has one.
        let part = |of: i64| {
            let minutes = (watch / of + MINUTE / 2) / MINUTE;
            minutes.max(1) * MINUTE
        };
        [
            pair(part(672), part(8064), 14.0, Page),
            pair(part(112), part(1344), 7.0, Page),
            pair(part(28), part(336), 2.0, Ticket),
            pair(part(7), part(112), 1.0, Ticket),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factors_of_30_days_are_their_shares_of_the_budget() {
        let pairs = BurnRates::Standard.pairs(72 * HOUR);
        for (pair, share) in pairs.iter().zip([0.02, 0.05, 0.1, 0.1]) {
            let factor = share * (30 * DAY) as f64 / pair.long as f64;
            assert!((pair.factor - factor).abs() < 1e-9, "{pair:?}");
            assert_eq!(pair.long / 12, pair.short);
        }
    }

    #[test]
    fn the_windows_of_pyrra_for_28_days_and_for_72_hours() {
        let minutes = |watch: i64| {
            let pairs = BurnRates::Scaled.pairs(watch);
            pairs.map(|pair| (pair.long / MINUTE, pair.short / MINUTE, pair.factor))
        };
        let month = [
            (60, 5, 14.0),
            (360, 30, 7.0),
            (1440, 120, 2.0),
            (5760, 360, 1.0),
        ];
        assert_eq!(minutes(28 * DAY), month);
        let watch = [(6, 1, 14.0), (39, 3, 7.0), (154, 13, 2.0), (617, 39, 1.0)];
        assert_eq!(minutes(72 * HOUR), watch);
        let shortest = minutes(HOUR);
        assert_eq!(shortest[0], (1, 1, 14.0));
    }
}
