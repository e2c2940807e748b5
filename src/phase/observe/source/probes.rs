//! Probes from outside: whether the application answers through the edge, as its users see it.
//!
//! Every probe is marked, so that the application can leave it out of its own figures; here it is counted
//! apart from them. While every machine sleeps no probe is made: it would wake one, and each start is billed.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    application::Application,
    machines::{Seen, all_sleep},
};
use crate::{
    clock::watch::WatchClock, net::probe::ProbeError, phase::observe::reading::ProbePage,
    slo::Tally,
};

/// Limit of an answer, in bytes.
const LIMIT: usize = 1 << 20;

/// What a probe showed since the last look.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Probed {
    /// What is counted; nothing between two probes.
    pub tally: Option<Tally>,
    /// When the last probe was.
    pub at: Option<Timestamp>,
    /// Whether the time since the last look is covered by probes.
    pub holds: bool,
}

/// Whether a probe is due.
fn is_due(last: Option<Timestamp>, now: Timestamp, interval: Duration) -> bool {
    let Some(last) = last else {
        return true;
    };
    Duration::try_from(now.duration_since(last)).is_ok_and(|since| since >= interval)
}

/// Whether an answer counts as good; none when there was none for a reason that is ours.
fn is_good(page: &ProbePage, answer: &Result<u16, ProbeError>) -> Option<bool> {
    match answer {
        Ok(status) => Some(page.good.contains(status)),
        Err(error) if error.is_ours() => None,
        Err(_) => Some(false),
    }
}

/// Makes the probe of a page if it is due. `before` is when the last one was.
pub async fn probe(
    application: &Application,
    (page, before): (&ProbePage, Option<Timestamp>),
    clock: &WatchClock,
    machines: &[Seen],
) -> Probed {
    let at = clock.now();
    if all_sleep(machines) || !is_due(before, at, page.interval) {
        return Probed {
            tally: Some(events(0.0, 0.0)),
            at: before,
            holds: true,
        };
    }
    let answer = application.get(&page.path, None, ("*/*", LIMIT), page.within);
    let answer = answer.await.map(|answer| answer.status);
    match is_good(page, &answer) {
        Some(good) => Probed {
            tally: Some(events(1.0, if good { 0.0 } else { 1.0 })),
            at: Some(at),
            holds: true,
        },
        None => Probed {
            at: before,
            ..Probed::default()
        },
    }
}

fn events(total: f64, bad: f64) -> Tally {
    Tally::Events { total, bad }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_probe_is_due_once_in_an_interval_also_when_a_clock_was_set_back() {
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        let minute = Duration::from_secs(60);
        assert!(is_due(None, at(0), minute));
        assert!(!is_due(Some(at(0)), at(59), minute));
        assert!(is_due(Some(at(0)), at(60), minute));
        assert!(!is_due(Some(at(10)), at(0), minute));
    }

    #[test]
    fn what_this_process_could_not_ask_says_nothing_of_the_application() {
        let page = ProbePage {
            path: "/".to_owned(),
            good: vec![200, 204],
            within: Duration::from_secs(5),
            interval: Duration::from_secs(60),
        };
        let host = || "shop.fly.dev".to_owned();
        assert_eq!(is_good(&page, &Ok(204)), Some(true));
        assert_eq!(is_good(&page, &Ok(503)), Some(false));
        let silent = ProbeError::TimedOut(Duration::from_secs(5));
        assert_eq!(is_good(&page, &Err(silent)), Some(false));
        assert_eq!(
            is_good(&page, &Err(ProbeError::Connect(host()))),
            Some(false)
        );
        assert_eq!(is_good(&page, &Err(ProbeError::NoResolver(host()))), None);
    }
}
