//! The switches that break the service on purpose, each in one way.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;

use crate::mistake::{LATE, Mistake};

/// What `CABANAS_FAULT` asks for. The default breaks nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// `does-not-start`: `serve` ends at once with exit code 1 and never listens.
    pub does_not_start: bool,
    /// `exits-after=SECONDS`: `serve` ends with exit code 1 that long after it began to listen.
    pub exits_after: Option<Duration>,
    /// `never-healthy`: `/api/v1/healthz` answers 503 for ever.
    pub never_healthy: bool,
    /// `migration-fails`: `migrate` sends SQL that PostgreSQL refuses and ends with exit code 1.
    pub migration_fails: bool,
    /// `wrong-homepage[=STATUS]`: `/` answers with somebody else's page; 200 when no status is given.
    pub wrong_homepage: Option<StatusCode>,
    /// `no-metrics`: `/metrics` answers 404.
    pub no_metrics: bool,
    /// `slow=MILLISECONDS`: every request except probes takes at least that long.
    pub slow: Option<Duration>,
    /// `slow-text=MILLISECONDS`: every request but voice messages and probes takes that much longer.
    pub slow_text: Option<Duration>,
    /// `slow-audio=MILLISECONDS`: every voice message takes that much longer.
    pub slow_audio: Option<Duration>,
    /// `silence`: requests are answered, and the metrics do not count them.
    pub silence: bool,
    /// `errors=PERCENT`: exactly that share of the requests except probes answers 500.
    pub errors_percent: u64,
    /// `oom[=SECONDS]`: `serve` ends with exit code 137 that long after it began to listen (0 when
    /// not given), and its last line is `Out of memory`.
    pub out_of_memory: Option<Duration>,
    /// `no-database`: `serve` and `db-check` behave as if the database could not be reached.
    pub no_database: bool,
    /// `ical-stale=MINUTES`: the gauge of the calendars says at least that age.
    pub ical_stale_minutes: Option<u32>,
    /// The switches of [`Mistake`].
    pub mistakes: BTreeSet<Mistake>,
    /// `answers-late[=SECONDS]`: time until a webhook is answered.
    pub late: Option<Duration>,
}

impl Faults {
    /// Whether the service makes this mistake.
    pub fn has(&self, mistake: Mistake) -> bool {
        self.mistakes.contains(&mistake)
    }
}

/// Why `CABANAS_FAULT` cannot be understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// A name that is not in the list.
    #[error("CABANAS_FAULT has an unknown switch '{0}'; the README of the service lists them all")]
    Unknown(String),
    /// A value is missing, not a number, or out of range.
    #[error("CABANAS_FAULT needs {switch}={wanted}, found '{found}'")]
    Value {
        /// The switch as written.
        switch: &'static str,
        /// What should stand after the equals sign.
        wanted: &'static str,
        /// What stands there.
        found: String,
    },
}

impl FromStr for Faults {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let mut faults = Self::default();
        for item in text.split(',').map(str::trim).filter(|s| !s.is_empty()) {
            let (name, value) = match item.split_once('=') {
                Some((name, value)) => (name.trim(), Some(value.trim())),
                None => (item, None),
            };
            match (name, value) {
                ("does-not-start", None) => faults.does_not_start = true,
                ("exits-after", v) => {
                    faults.exits_after =
                        Some(Duration::from_secs(number("exits-after", "SECONDS", v)?));
                }
                ("never-healthy", None) => faults.never_healthy = true,
                ("migration-fails", None) => faults.migration_fails = true,
                ("wrong-homepage", None) => faults.wrong_homepage = Some(StatusCode::OK),
                ("wrong-homepage", v) => faults.wrong_homepage = Some(status("wrong-homepage", v)?),
                ("no-metrics", None) => faults.no_metrics = true,
                ("slow", v) => {
                    faults.slow = Some(Duration::from_millis(number("slow", "MILLISECONDS", v)?));
                }
                ("slow-text", v) => {
                    let pause = number("slow-text", "MILLISECONDS", v)?;
                    faults.slow_text = Some(Duration::from_millis(pause));
                }
                ("slow-audio", v) => {
                    let pause = number("slow-audio", "MILLISECONDS", v)?;
                    faults.slow_audio = Some(Duration::from_millis(pause));
                }
                ("silence", None) => faults.silence = true,
                ("errors", v) => faults.errors_percent = percent("errors", v)?,
                ("oom", None) => faults.out_of_memory = Some(Duration::ZERO),
                ("oom", v) => {
                    faults.out_of_memory = Some(Duration::from_secs(number("oom", "SECONDS", v)?));
                }
                ("no-database", None) => faults.no_database = true,
                ("ical-stale", v) => {
                    faults.ical_stale_minutes = Some(number("ical-stale", "MINUTES", v)?);
                }
                ("answers-late", v) => {
                    let seconds =
                        v.map_or(Ok(LATE), |v| number("answers-late", "SECONDS", Some(v)))?;
                    faults.late = Some(Duration::from_secs(seconds));
                    faults.mistakes.insert(Mistake::AnswersLate);
                }
                (name, None) => match Mistake::named(name) {
                    Some(mistake) => {
                        faults.mistakes.insert(mistake);
                    }
                    None => return Err(FaultError::Unknown(item.to_owned())),
                },
                _ => return Err(FaultError::Unknown(item.to_owned())),
            }
        }
        Ok(faults)
    }
}

fn number<T: FromStr>(
    switch: &'static str,
    wanted: &'static str,
    value: Option<&str>,
) -> Result<T, FaultError> {
    let found = value.unwrap_or_default();
    found.parse().map_err(|_| FaultError::Value {
        switch,
        wanted,
        found: found.to_owned(),
    })
}

fn percent(switch: &'static str, value: Option<&str>) -> Result<u64, FaultError> {
    let share: u64 = number(switch, "PERCENT", value)?;
    if share > 100 {
        return Err(FaultError::Value {
            switch,
            wanted: "PERCENT from 0 to 100",
            found: share.to_string(),
        });
    }
    Ok(share)
}

fn status(switch: &'static str, value: Option<&str>) -> Result<StatusCode, FaultError> {
    let wanted = "STATUS from 200 to 599";
    let code: u16 = number(switch, wanted, value)?;
    StatusCode::from_u16(code)
        .ok()
        .filter(|_| (200..600).contains(&code))
        .ok_or_else(|| FaultError::Value {
            switch,
            wanted,
            found: code.to_string(),
        })
}

/// Says which requests fail so that the share is exact and the order always the same.
///
/// Chance would make a test of "1 % errors" fail now and then; this spreads the failures evenly.
#[derive(Debug)]
pub struct ErrorShare {
    part: u64,
    of: u64,
    requests: AtomicU64,
}

impl ErrorShare {
    /// `percent` of the requests fail; more than 100 counts as 100.
    pub fn new(percent: u64) -> Self {
        Self::of(percent, 100)
    }

    /// `part` of every `of` requests fail; more than all counts as all.
    pub fn of(part: u64, of: u64) -> Self {
        Self {
            part: part.min(of),
            of: of.max(1),
            requests: AtomicU64::new(0),
        }
    }

    /// Counts one request and says whether it is one of those that fail.
    pub fn next_fails(&self) -> bool {
        if self.part == 0 {
            return false;
        }
        let before = self.requests.fetch_add(1, Ordering::Relaxed);
        (before + 1) * self.part / self.of > before * self.part / self.of
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_empty_list_breaks_nothing() {
        assert_eq!("".parse(), Ok(Faults::default()));
        assert_eq!(" , ".parse(), Ok(Faults::default()));
    }

    #[test]
    fn every_switch_sets_its_own_field_and_no_other() {
        let none = Faults::default;
        let cases = [
            (
                "does-not-start",
                Faults {
                    does_not_start: true,
                    ..none()
                },
            ),
            (
                "exits-after=3",
                Faults {
                    exits_after: Some(Duration::from_secs(3)),
                    ..none()
                },
            ),
            (
                "never-healthy",
                Faults {
                    never_healthy: true,
                    ..none()
                },
            ),
            (
                "migration-fails",
                Faults {
                    migration_fails: true,
                    ..none()
                },
            ),
            (
                "wrong-homepage",
                Faults {
                    wrong_homepage: Some(StatusCode::OK),
                    ..none()
                },
            ),
            (
                "wrong-homepage=404",
                Faults {
                    wrong_homepage: Some(StatusCode::NOT_FOUND),
                    ..none()
                },
            ),
            (
                "no-metrics",
                Faults {
                    no_metrics: true,
                    ..none()
                },
            ),
            (
                "slow=250",
                Faults {
                    slow: Some(Duration::from_millis(250)),
                    ..none()
                },
            ),
            (
                "slow-text=4000",
                Faults {
                    slow_text: Some(Duration::from_secs(4)),
                    ..none()
                },
            ),
            (
                "slow-audio=20000",
                Faults {
                    slow_audio: Some(Duration::from_secs(20)),
                    ..none()
                },
            ),
            (
                "silence",
                Faults {
                    silence: true,
                    ..none()
                },
            ),
            (
                "errors=5",
                Faults {
                    errors_percent: 5,
                    ..none()
                },
            ),
            (
                "oom",
                Faults {
                    out_of_memory: Some(Duration::ZERO),
                    ..none()
                },
            ),
            (
                "oom=2",
                Faults {
                    out_of_memory: Some(Duration::from_secs(2)),
                    ..none()
                },
            ),
            (
                "no-database",
                Faults {
                    no_database: true,
                    ..none()
                },
            ),
            (
                "ical-stale=90",
                Faults {
                    ical_stale_minutes: Some(90),
                    ..none()
                },
            ),
            (
                "answers-late=3",
                Faults {
                    mistakes: BTreeSet::from([Mistake::AnswersLate]),
                    late: Some(Duration::from_secs(3)),
                    ..none()
                },
            ),
        ];
        for (text, wanted) in cases {
            assert_eq!(text.parse::<Faults>(), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn every_mistake_is_a_switch_of_its_own() {
        for mistake in Mistake::ALL {
            let faults: Faults = mistake.name().parse().unwrap();
            assert_eq!(faults.mistakes, BTreeSet::from([mistake]));
            assert!(faults.has(mistake));
            let late = (mistake == Mistake::AnswersLate).then_some(Duration::from_secs(LATE));
            assert_eq!(faults.late, late);
        }
    }

    #[test]
    fn a_list_sets_all_its_switches() {
        let faults: Faults = "slow=10, errors=50,no-metrics".parse().unwrap();
        assert_eq!(faults.slow, Some(Duration::from_millis(10)));
        assert_eq!(faults.errors_percent, 50);
        assert!(faults.no_metrics);
    }

    #[test]
    fn a_typo_is_refused_so_that_no_test_passes_for_nothing() {
        for text in [
            "nevr-healthy",
            "never-healthy=1",
            "slow",
            "slow=fast",
            "errors=101",
            "wrong-homepage=20",
            "sha1-only=1",
            "answers-late=soon",
        ] {
            assert!(text.parse::<Faults>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_share_of_errors_is_exact() {
        for percent in [0, 1, 7, 50, 99, 100] {
            let share = ErrorShare::new(percent);
            let failed = (0..1000).filter(|_| share.next_fails()).count();
            assert_eq!(failed as u64, percent * 10, "{percent} %");
        }
    }
}
