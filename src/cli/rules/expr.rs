//! The PromQL of an objective. Pure.
//!
//! A share is that of `increase()` over a window, as Prometheus extrapolates it; a window with fewer events
//! than the objective needs has no value, so that nothing is concluded from it.

use super::slo::{Slo, What, number};
use crate::{
    promql::series,
    slo::{Bound, Matcher, Op, Selector},
};

/// Which function gives the events of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over<'a> {
    /// How many there were in this window.
    Increase(&'a str),
    /// How many there were a second in this window.
    Rate(&'a str),
    /// The counter itself.
    Counter,
}

impl Over<'_> {
    /// The sum of a series.
    fn sum(self, series: &str) -> String {
        match self {
            Self::Increase(window) => format!("sum(increase({series}[{window}]))"),
            Self::Rate(window) => format!("sum(rate({series}[{window}]))"),
            Self::Counter => format!("sum({series})"),
        }
    }
}

/// The series of all events; of a gauge those of its values.
pub(super) fn total(slo: &Slo) -> String {
    match &slo.what {
        What::Errors { metric, of, .. } | What::Level { metric, of, .. } => series(metric, of),
        What::Slow { metric, of, .. } => bucket(metric, of, Op::Equal, "+Inf"),
    }
}

/// The series of bad events of a counter.
pub(super) fn errors(metric: &str, of: &Selector, bad: &Selector) -> String {
    series(metric, &of.and(bad))
}

/// The series of the events at most as large as a bound. Clients write the bound 3 as `3` or as `3.0`.
pub(super) fn within(metric: &str, of: &Selector, below: f64) -> String {
    let plain = regex::escape(&below.to_string());
    let text = match plain.contains('.') {
        true => plain,
        false => format!("{plain}|{plain}\\.0"),
    };
    bucket(metric, of, Op::Match, &text)
}

/// The same with the bound as most clients write it, for tools that compare it as a text.
pub(super) fn within_exactly(metric: &str, of: &Selector, below: f64) -> String {
    bucket(metric, of, Op::Equal, &below.to_string())
}

fn bucket(metric: &str, of: &Selector, op: Op, le: &str) -> String {
    // A name and a text as short as these are always a condition.
    let le: Vec<Matcher> = Matcher::new("le", op, le).into_iter().collect();
    series(&format!("{metric}_bucket"), &of.and(&Selector::new(le)))
}

/// All events.
pub(super) fn all(slo: &Slo, over: Over<'_>) -> String {
    over.sum(&total(slo))
}

/// Bad events; none for a gauge. Without an error there is no series of errors, and there are none of them.
pub(super) fn bad(slo: &Slo, over: Over<'_>) -> Option<String> {
    match &slo.what {
        What::Errors {
            metric, of, bad, ..
        } => {
            let sum = over.sum(&errors(metric, of, bad));
            Some(format!("({sum} or vector(0))"))
        }
        What::Slow {
            metric, of, below, ..
        } => {
            let within = over.sum(&within(metric, of, *below));
            Some(format!("({} - {within})", all(slo, over)))
        }
        What::Level { .. } => None,
    }
}

/// The share of bad events in a window, where there are enough events; none for a gauge.
pub(super) fn share(slo: &Slo, window: &str) -> Option<String> {
    let over = Over::Increase(window);
    let bad = bad(slo, over)?;
    Some(format!(
        "{bad} / ({} >= {})",
        all(slo, over),
        slo.min_events
    ))
}

/// The worst value of a gauge, and the comparison that says that it is on the wrong side; none for a share.
pub(super) fn worst(slo: &Slo) -> Option<(String, String)> {
    let What::Level { metric, of, bound } = &slo.what else {
        return None;
    };
    let series = series(metric, of);
    Some(match bound {
        Bound::Below(bound) => (format!("max({series})"), format!(">= {}", number(*bound))),
        Bound::Above(bound) => (format!("min({series})"), format!("<= {}", number(*bound))),
    })
}

/// The series without which nothing is known.
pub(super) fn needed(slo: &Slo) -> String {
    match &slo.what {
        What::Slow {
            metric, of, below, ..
        } => within(metric, of, *below),
        What::Errors { .. } | What::Level { .. } => total(slo),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::slo::tests::slos;
    use super::*;

    #[test]
    fn a_share_needs_enough_events_and_no_error_is_a_share_of_zero() {
        let slos = slos();
        assert_eq!(
            share(&slos.all[1], "5m").unwrap(),
            "(sum(increase(http_requests_total{probe!=\"true\",status=~\"5..\"}[5m])) or vector(0)) \
             / (sum(increase(http_requests_total{probe!=\"true\"}[5m])) >= 10)"
        );
        let slow = share(&slos.all[0], "1h").unwrap();
        assert!(
            slow.contains("le=\"+Inf\"") && slow.contains(r#"le=~"3|3\\.0""#),
            "{slow}"
        );
        assert_eq!(share(&slos.all[2], "5m"), None);
    }

    #[test]
    fn a_gauge_is_on_the_wrong_side_by_its_worst_value() {
        let (worst, wrong) = worst(&slos().all[2]).unwrap();
        assert_eq!(worst, "max(ical_last_sync_age_minutes{})");
        assert_eq!(wrong, ">= 30");
    }
}
