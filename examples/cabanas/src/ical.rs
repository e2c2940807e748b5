//! Calendars as text (RFC 5545): strict when writing, lenient when reading.

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};

/// Longest line that we write, without its end. RFC 5545 section 3.1.
///
/// Unit: octets.
pub const LINE_OCTETS: usize = 75;

/// Most events that are read from one calendar; a cabin has at most one booking a night.
pub const MAX_EVENTS: usize = 10_000;

/// One booked stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stay {
    /// The same in every export of the same stay.
    pub uid: String,
    /// First night.
    pub check_in: Date,
    /// First day on which the cabin is free again: `DTEND` is exclusive.
    pub check_out: Date,
}

/// Why a text is not a calendar.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum IcalError {
    /// Usually an HTML page: the address has expired.
    #[error(
        "the text does not begin with BEGIN:VCALENDAR; the address of the feed may have expired"
    )]
    NotACalendar,
    /// The text was cut off.
    #[error("the text ends before END:VCALENDAR")]
    Truncated,
    /// More than [`MAX_EVENTS`].
    #[error("the calendar has more than {MAX_EVENTS} events")]
    TooManyEvents,
    /// An event without usable dates: skipping it could sell a night twice.
    #[error("event number {0} has no dates that can be read")]
    Dates(usize),
}

/// Writes a calendar. It says which nights are taken and nothing about guests: whoever has the
/// address can read it.
pub fn write(app: &str, stays: &[(Stay, Timestamp, String)]) -> String {
    let mut out = String::new();
    for text in [
        "BEGIN:VCALENDAR".to_owned(),
        "VERSION:2.0".to_owned(),
        format!("PRODID:-//{}//Cabanas//ES", escape(app)),
        "CALSCALE:GREGORIAN".to_owned(),
        "METHOD:PUBLISH".to_owned(),
        "REFRESH-INTERVAL;VALUE=DURATION:PT1H".to_owned(),
        "X-PUBLISHED-TTL:PT1H".to_owned(),
    ] {
        line(&mut out, &text);
    }
    for (stay, created, cabin) in stays {
        line(&mut out, "BEGIN:VEVENT");
        line(&mut out, &format!("UID:{}", escape(&stay.uid)));
        line(
            &mut out,
            &format!("DTSTAMP:{}", created.strftime("%Y%m%dT%H%M%SZ")),
        );
        line(
            &mut out,
            &format!("DTSTART;VALUE=DATE:{}", stay.check_in.strftime("%Y%m%d")),
        );
        line(
            &mut out,
            &format!("DTEND;VALUE=DATE:{}", stay.check_out.strftime("%Y%m%d")),
        );
        line(
            &mut out,
            &format!("SUMMARY:{}", escape(&format!("Reservada: {cabin}"))),
        );
        line(&mut out, "TRANSP:OPAQUE");
        line(&mut out, "END:VEVENT");
    }
    line(&mut out, "END:VCALENDAR");
    out
}

/// Appends one line, folded so that no part is longer than [`LINE_OCTETS`] and no character is cut.
fn line(out: &mut String, text: &str) {
    let mut room = LINE_OCTETS;
    for c in text.chars() {
        if c.len_utf8() > room {
            out.push_str("\r\n ");
            room = LINE_OCTETS - 1;
        }
        out.push(c);
        room -= c.len_utf8();
    }
    out.push_str("\r\n");
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace(';', "\\;")
        .replace(',', "\\,")
        .replace("\r\n", "\\n")
        .replace(['\r', '\n'], "\\n")
}

/// Reads the stays of a calendar. Cancelled events are left out; an event without `UID` gets one
/// from its dates; times count as their day.
pub fn read(text: &str) -> Result<Vec<Stay>, IcalError> {
    let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n");
    let unfolded = text.replace("\n ", "").replace("\n\t", "");
    let mut lines = unfolded
        .lines()
        .map(str::trim_end)
        .filter(|l| !l.is_empty());
    if !lines
        .next()
        .is_some_and(|l| l.eq_ignore_ascii_case("BEGIN:VCALENDAR"))
    {
        return Err(IcalError::NotACalendar);
    }
    let mut stays = Vec::new();
    let mut event: Option<Event> = None;
    // Depth inside an event's own components, for example an alarm, whose properties are not ours.
    let mut nested = 0usize;
    let mut number = 0;
    for raw in lines {
        let Some((name, parameters, value)) = property(raw) else {
            continue;
        };
        match (name.as_str(), value.to_ascii_uppercase().as_str()) {
            ("END", "VCALENDAR") => return Ok(stays),
            ("BEGIN", "VEVENT") => {
                number += 1;
                if number > MAX_EVENTS {
                    return Err(IcalError::TooManyEvents);
                }
                event = Some(Event::default());
            }
            ("END", "VEVENT") => {
                let ended = event.take().unwrap_or_default();
                if !ended.cancelled {
                    stays.push(ended.stay().ok_or(IcalError::Dates(number))?);
                }
            }
            ("BEGIN", _) if event.is_some() => nested += 1,
            ("END", _) if event.is_some() => nested = nested.saturating_sub(1),
            _ if nested > 0 => {}
            (_, upper) => {
                if let Some(event) = &mut event {
                    event.take(&name, &parameters, value, upper);
                }
            }
        }
    }
    Err(IcalError::Truncated)
}

#[derive(Default)]
struct Event {
    uid: Option<String>,
    start: Option<Date>,
    end: Option<Date>,
    days: Option<i64>,
    cancelled: bool,
}

impl Event {
    fn take(&mut self, name: &str, _parameters: &str, value: &str, upper: &str) {
        match name {
            "UID" => self.uid = Some(value.to_owned()),
            "DTSTART" => self.start = day(value),
            "DTEND" => self.end = day(value),
            "DURATION" => self.days = days(upper),
            "STATUS" => self.cancelled = upper == "CANCELLED",
            _ => {}
        }
    }

    fn stay(self) -> Option<Stay> {
        let check_in = self.start?;
        let check_out = match (self.end, self.days) {
            (Some(end), _) => end,
            (None, days) => check_in.checked_add(days.unwrap_or(1).days()).ok()?,
        };
        // A block of some hours on one day takes that night.
        let check_out = if check_out == check_in {
            check_in.tomorrow().ok()?
        } else {
            check_out
        };
        (check_out > check_in).then(|| Stay {
            uid: self
                .uid
                .unwrap_or_else(|| format!("{check_in}/{check_out}")),
            check_in,
            check_out,
        })
    }
}

/// `NAME;PARAM=x;PARAM="a:b":VALUE`; the name comes back in upper case.
fn property(line: &str) -> Option<(String, String, &str)> {
    let mut quoted = false;
    let colon = line.char_indices().find_map(|(at, c)| {
        quoted ^= c == '"';
        (c == ':' && !quoted).then_some(at)
    })?;
    let (head, value) = (&line[..colon], &line[colon + 1..]);
    let (name, parameters) = head.split_once(';').unwrap_or((head, ""));
    Some((
        name.trim().to_ascii_uppercase(),
        parameters.to_owned(),
        value.trim(),
    ))
}

/// The day in `20261224` or `20261224T140000Z`.
fn day(value: &str) -> Option<Date> {
    let digits = value.get(..8)?;
    let rest = value.get(8..)?;
    if !(rest.is_empty() || rest.starts_with('T')) {
        return None;
    }
    Date::strptime("%Y%m%d", digits).ok()
}

/// Whole days in `P3D` or `P1W`; a part of a day counts as one.
fn days(value: &str) -> Option<i64> {
    let rest = value.strip_prefix('P')?;
    let (date, time) = rest.split_once('T').map_or((rest, ""), |(d, t)| (d, t));
    let mut total = 0i64;
    let mut number = String::new();
    for c in date.chars() {
        match c {
            '0'..='9' => number.push(c),
            'D' => total = total.checked_add(std::mem::take(&mut number).parse::<i64>().ok()?)?,
            'W' => {
                let weeks = std::mem::take(&mut number).parse::<i64>().ok()?;
                total = total.checked_add(weeks.checked_mul(7)?)?;
            }
            _ => return None,
        }
    }
    if !time.is_empty() {
        total = total.max(1);
    }
    (1..=3660).contains(&total).then_some(total)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use jiff::civil::date;

    fn stay(uid: &str) -> (Stay, Timestamp, String) {
        let stay = Stay {
            uid: uid.to_owned(),
            check_in: date(2026, 12, 24),
            check_out: date(2026, 12, 27),
        };
        (
            stay,
            Timestamp::from_second(1_782_000_000).unwrap(),
            "Arrayán".to_owned(),
        )
    }

    #[test]
    fn what_is_written_has_the_required_lines_and_ends_them_with_crlf() {
        let text = write("cabanas", &[stay("a@cabanas")]);
        assert!(text.starts_with("BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:"));
        assert!(text.ends_with("END:VCALENDAR\r\n"));
        assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
        assert!(text.contains("DTSTART;VALUE=DATE:20261224\r\nDTEND;VALUE=DATE:20261227\r\n"));
    }

    #[test]
    fn lines_are_folded_at_75_octets_and_never_inside_a_character() {
        let text = write("cabanas", &[stay(&"ñ".repeat(120))]);
        for line in text.split("\r\n") {
            assert!(line.len() <= LINE_OCTETS, "{} octets: {line}", line.len());
        }
        assert_eq!(read(&text).unwrap()[0].uid, "ñ".repeat(120));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let text = write("cabanas", &[stay("a@cabanas"), stay("b@cabanas")]);
        assert_eq!(
            read(&text).unwrap(),
            [stay("a@cabanas").0, stay("b@cabanas").0]
        );
    }

    #[test]
    fn a_calendar_as_airbnb_sends_it_is_read() {
        let text = "BEGIN:VCALENDAR\r\nPRODID:-//Airbnb Inc//Hosting Calendar 1.0//EN\r\nCALSCALE:GREGORIAN\r\nVERSION:2.0\r\nBEGIN:VEVENT\r\nDTEND;VALUE=DATE:20261003\r\nDTSTART;VALUE=DATE:20261001\r\nUID:1418fb94e984@airbnb.com\r\nDESCRIPTION:Reservation URL: https://www.airbnb.com/hosting/reservations/de\r\n tails/HM4711\\nPhone Number (Last 4 Digits): 1234\r\nSUMMARY:Reserved\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n";
        let stays = read(text).unwrap();
        assert_eq!(stays.len(), 1);
        assert_eq!(stays[0].check_in, date(2026, 10, 1));
        assert_eq!(stays[0].check_out, date(2026, 10, 3));
    }

    #[test]
    fn cancelled_events_are_left_out_and_a_missing_end_means_one_night() {
        let text = "begin:vcalendar\nBEGIN:VEVENT\nDTSTART:20261001T150000Z\nSTATUS:CANCELLED\nEND:VEVENT\nBEGIN:VEVENT\nDTSTART;TZID=\"a:b\":20261001T150000\nBEGIN:VALARM\nDURATION:P9D\nEND:VALARM\nEND:VEVENT\nEND:VCALENDAR\n";
        let stays = read(text).unwrap();
        assert_eq!(stays.len(), 1);
        assert_eq!(stays[0].check_out, date(2026, 10, 2));
    }

    #[test]
    fn a_duration_counts_days_and_weeks() {
        assert_eq!(days("P3D"), Some(3));
        assert_eq!(days("P1W"), Some(7));
        assert_eq!(days("PT4H"), Some(1));
        assert_eq!(days("P"), None);
        assert_eq!(days("P99999999999999999999D"), None);
    }

    #[test]
    fn an_html_page_a_cut_text_and_an_event_without_dates_are_refused() {
        assert_eq!(read("<html>"), Err(IcalError::NotACalendar));
        assert_eq!(
            read("BEGIN:VCALENDAR\nVERSION:2.0\n"),
            Err(IcalError::Truncated)
        );
        let text = "BEGIN:VCALENDAR\nBEGIN:VEVENT\nUID:x\nEND:VEVENT\nEND:VCALENDAR\n";
        assert_eq!(read(text), Err(IcalError::Dates(1)));
    }
}
