//! Dates, times and durations (RFC 5545 sections 3.3.4 to 3.3.6).

use super::property::Property;

/// Seconds in a day.
const DAY: i64 = 86_400;

/// What the time of an event means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A day.
    Date,
    /// A time in UTC.
    Utc,
    /// A time without a zone.
    Floating,
    /// A time in the zone with this hash of its name.
    Zone(u64),
}

/// A date or time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Time {
    pub(super) kind: Kind,
    /// Seconds since 1970, on the clock of its zone.
    pub(super) seconds: i64,
    /// Whether it is written as the standard demands: a date is marked `VALUE=DATE`, a time is not.
    pub(super) is_marked: bool,
}

impl Time {
    /// The time of a property.
    pub(super) fn of(property: &Property<'_>) -> Option<Self> {
        let value = property.value;
        let marked = property.parameter(b"VALUE");
        let as_date = marked.is_some_and(|value| value.eq_ignore_ascii_case(b"DATE"));
        let days = date(value.get(..8)?)?;
        match &value[8..] {
            [] => Some(Self {
                kind: Kind::Date,
                seconds: days * DAY,
                is_marked: as_date,
            }),
            [b'T', clock @ ..] => {
                let (clock, kind) = match (clock, property.parameter(b"TZID")) {
                    ([clock @ .., b'Z'], _) => (clock, Kind::Utc),
                    (clock, None) => (clock, Kind::Floating),
                    (clock, Some(zone)) => (clock, Kind::Zone(super::hash::hash(&zone))),
                };
                Some(Self {
                    kind,
                    seconds: days * DAY + time_of_day(clock)?,
                    is_marked: !as_date,
                })
            }
            _ => None,
        }
    }

    /// Whether it is a day.
    pub(super) fn is_date(self) -> bool {
        self.kind == Kind::Date
    }
}

/// The number that these digits are.
fn digits(text: &[u8]) -> Option<i64> {
    let add = |sum: i64, byte: &u8| {
        byte.is_ascii_digit()
            .then(|| sum * 10 + i64::from(byte - b'0'))
    };
    text.iter().try_fold(0, add)
}

/// Days since 1970 of `YYYYMMDD`.
fn date(text: &[u8]) -> Option<i64> {
    let (year, month, day) = (
        digits(text.get(..4)?)?,
        digits(text.get(4..6)?)?,
        digits(text.get(6..8)?)?,
    );
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if year == 0 || !(1..=last).contains(&day) {
        return None;
    }
    // Howard Hinnant, `chrono`-Compatible Low-Level Date Algorithms, `days_from_civil`: the year begins in
    // March.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let of_era = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    Some(era * 146_097 + of_era - 719_468)
}

/// Seconds of `HHMMSS`. A second may be 60.
fn time_of_day(text: &[u8]) -> Option<i64> {
    if text.len() != 6 {
        return None;
    }
    let (hour, minute, second) = (
        digits(&text[..2])?,
        digits(&text[2..4])?,
        digits(&text[4..])?,
    );
    let fits = hour < 24 && minute < 60 && second <= 60;
    fits.then_some(hour * 3_600 + minute * 60 + second)
}

/// Most digits of a number in a duration.
const DURATION_DIGITS: usize = 9;

/// Seconds of a duration, such as `P3D`, `PT1H30M`, `P1W` or `-P1D`.
pub(super) fn duration(text: &[u8]) -> Option<i64> {
    let (sign, text) = match text {
        [b'-', rest @ ..] => (-1, rest),
        [b'+', rest @ ..] => (1, rest),
        _ => (1, text),
    };
    let mut rest = text.strip_prefix(b"P")?;
    let (mut total, mut in_time, mut any) = (0_i64, false, false);
    while let Some((first, after)) = rest.split_first() {
        if *first == b'T' && !in_time {
            in_time = true;
            rest = after;
            continue;
        }
        let end = rest.iter().position(|byte| !byte.is_ascii_digit())?;
        if end == 0 || end > DURATION_DIGITS {
            return None;
        }
        let unit = match (rest[end], in_time) {
            (b'W', false) => 7 * DAY,
            (b'D', false) => DAY,
            (b'H', true) => 3_600,
            (b'M', true) => 60,
            (b'S', true) => 1,
            _ => return None,
        };
        total = total.checked_add(digits(&rest[..end])?.checked_mul(unit)?)?;
        any = true;
        rest = &rest[end + 1..];
    }
    any.then_some(sign * total)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn time(line: &str) -> Option<Time> {
        Time::of(&Property::of(line.as_bytes()).unwrap())
    }

    #[test]
    fn days_count_from_1970_and_must_exist() {
        for (text, days) in [
            ("19700101", Some(0)),
            ("20000229", Some(11_016)),
            ("20261130", Some(20_787)),
            ("19691231", Some(-1)),
            ("99991231", Some(2_932_896)),
            ("00010101", Some(-719_162)),
            ("20260229", None),
            ("20261301", None),
            ("20260431", None),
            ("20260100", None),
            ("00000101", None),
            ("2026-1-1", None),
        ] {
            assert_eq!(date(text.as_bytes()), days, "{text}");
        }
    }

    #[test]
    fn a_time_is_a_day_in_utc_in_a_zone_or_floating() {
        let kind = |line: &str| time(line).map(|time| time.kind);
        assert_eq!(kind("DTSTART;VALUE=DATE:20261224"), Some(Kind::Date));
        assert_eq!(kind("DTSTART:20261224T150000Z"), Some(Kind::Utc));
        assert_eq!(kind("DTSTART:20261224T150000"), Some(Kind::Floating));
        let zone = kind("DTSTART;TZID=\"America/Argentina:Salta\":20261224T150000");
        assert!(matches!(zone, Some(Kind::Zone(_))));
        for bad in [
            "2026",
            "20261224T",
            "20261224T1500",
            "20261224T250000Z",
            "20261224 150000",
        ] {
            assert_eq!(kind(&format!("DTSTART:{bad}")), None, "{bad}");
        }
        assert!(!time("DTSTART:20261224").unwrap().is_marked);
        assert!(
            !time("DTSTART;VALUE=DATE:20261224T150000Z")
                .unwrap()
                .is_marked
        );
        assert!(
            time("DTSTART;value=date-time:20261224T150000Z")
                .unwrap()
                .is_marked
        );
    }

    #[test]
    fn a_duration_has_units_in_their_place() {
        for (text, seconds) in [
            ("P3D", Some(3 * DAY)),
            ("P1W", Some(7 * DAY)),
            ("PT1H30M", Some(5_400)),
            ("P1DT1S", Some(DAY + 1)),
            ("-P1D", Some(-DAY)),
            ("P", None),
            ("PT", None),
            ("P1H", None),
            ("P1", None),
            ("3D", None),
            ("P99999999999999999999D", None),
        ] {
            assert_eq!(duration(text.as_bytes()), seconds, "{text}");
        }
    }
}
