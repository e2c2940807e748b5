//! Calendars as text (RFC 5545): strict when writing, lenient when reading.

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};
use uuid::Uuid;

use crate::fault::Faults;
use crate::mistake::Mistake;

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

/// One booking, as the export gets it.
#[derive(Clone, Debug)]
pub struct Booking {
    /// Its nights.
    pub stay: Stay,
    /// When it was made.
    pub created: Timestamp,
    /// Name of the cabin.
    pub cabin: String,
    /// The guest, whom only a mistake exports.
    pub guest: String,
    /// The guest's phone number, likewise.
    pub phone: Option<String>,
}

/// What the calendar is for, for whoever subscribes to it. Longer than a line, with octet 76 in the middle
/// of a character.
const DESCRIPTION: &str =
    "Noches vendidas en el sitio\\, cerradas en otros canales. Cabañas y refugios.";

/// Writes a calendar. It says which nights are taken and nothing about guests: whoever has the
/// address can read it. The result is UTF-8, unless `faults` cuts a character in two.
pub fn write(app: &str, bookings: &[Booking], faults: &Faults) -> Vec<u8> {
    let mut out = Writer {
        out: Vec::new(),
        end: if faults.has(Mistake::LfLines) {
            "\n"
        } else {
            "\r\n"
        },
        cuts: faults.has(Mistake::FoldsCharacters),
    };
    if faults.has(Mistake::ByteOrderMark) {
        out.out.extend("\u{feff}".as_bytes());
    }
    for text in [
        "BEGIN:VCALENDAR".to_owned(),
        "VERSION:2.0".to_owned(),
        format!("PRODID:-//{}//Cabanas//ES", escape(app)),
        "CALSCALE:GREGORIAN".to_owned(),
        "METHOD:PUBLISH".to_owned(),
        "REFRESH-INTERVAL;VALUE=DURATION:PT1H".to_owned(),
        "X-PUBLISHED-TTL:PT1H".to_owned(),
        format!("X-WR-CALDESC:{DESCRIPTION}"),
    ] {
        out.line(&text);
    }
    for booking in bookings {
        event(&mut out, booking, faults);
    }
    out.line("END:VCALENDAR");
    out.out
}

fn event(out: &mut Writer, booking: &Booking, faults: &Faults) {
    let stay = &booking.stay;
    let uid = if faults.has(Mistake::ChangingUids) {
        format!("{}-{}", Uuid::new_v4(), stay.uid)
    } else if faults.has(Mistake::DuplicateUids) {
        "reserva@cabanas".to_owned()
    } else {
        stay.uid.clone()
    };
    let end = match faults.has(Mistake::InclusiveEnd) {
        true => stay.check_out.yesterday().unwrap_or(stay.check_out),
        false => stay.check_out,
    };
    let created = booking.created.strftime("%Y%m%dT%H%M%SZ");
    out.line("BEGIN:VEVENT");
    out.line(&format!("UID:{}", escape(&uid)));
    out.line(&format!("DTSTAMP:{created}"));
    out.line(&format!(
        "DTSTART;VALUE=DATE:{}",
        stay.check_in.strftime("%Y%m%d")
    ));
    out.line(&format!("DTEND;VALUE=DATE:{}", end.strftime("%Y%m%d")));
    if faults.has(Mistake::ExportsGuests) {
        let guest = escape(&booking.guest);
        out.line(&format!("SUMMARY:{guest}"));
        let phone = escape(booking.phone.as_deref().unwrap_or("-"));
        out.line(&format!("DESCRIPTION:{guest}\\nTel. {phone}"));
    } else {
        out.line(&format!(
            "SUMMARY:{}",
            escape(&format!("Reservada: {}", booking.cabin))
        ));
    }
    out.line("TRANSP:OPAQUE");
    out.line("END:VEVENT");
}

struct Writer {
    out: Vec<u8>,
    end: &'static str,
    /// Whether lines are folded inside characters too.
    cuts: bool,
}

impl Writer {
    /// Appends one line, folded so that no part is longer than [`LINE_OCTETS`] and no character is cut.
    fn line(&mut self, text: &str) {
        let mut room = LINE_OCTETS;
        for c in text.chars() {
            let mut buffer = [0; 4];
            let octets = c.encode_utf8(&mut buffer).as_bytes();
            if octets.len() > room {
                let (before, after) = octets.split_at(if self.cuts { room } else { 0 });
                self.out.extend(before);
                self.out.extend(self.end.as_bytes());
                self.out.push(b' ');
                self.out.extend(after);
                room = LINE_OCTETS - 1 - after.len();
            } else {
                self.out.extend(octets);
                room -= octets.len();
            }
        }
        self.out.extend(self.end.as_bytes());
    }
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

    fn booking(uid: &str) -> Booking {
        Booking {
            stay: Stay {
                uid: uid.to_owned(),
                check_in: date(2026, 12, 24),
                check_out: date(2026, 12, 27),
            },
            created: Timestamp::from_second(1_782_000_000).unwrap(),
            cabin: "Arrayán".to_owned(),
            guest: "Ana Núñez".to_owned(),
            phone: Some("+54 9 294 400".to_owned()),
        }
    }

    fn written(switch: &str, bookings: &[Booking]) -> Vec<u8> {
        write("cabanas", bookings, &switch.parse().unwrap())
    }

    fn well(bookings: &[Booking]) -> String {
        String::from_utf8(written("", bookings)).unwrap()
    }

    #[test]
    fn what_is_written_has_the_required_lines_and_ends_them_with_crlf() {
        let text = well(&[booking("a@cabanas")]);
        assert!(text.starts_with("BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:"));
        assert!(text.ends_with("END:VCALENDAR\r\n"));
        assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
        assert!(text.contains("DTSTART;VALUE=DATE:20261224\r\nDTEND;VALUE=DATE:20261227\r\n"));
        assert!(!text.contains("Ana") && !text.contains("+54"));
    }

    #[test]
    fn lines_are_folded_at_75_octets_and_never_inside_a_character() {
        let text = well(&[booking(&"ñ".repeat(120))]);
        for line in text.split("\r\n") {
            assert!(line.len() <= LINE_OCTETS, "{} octets: {line}", line.len());
        }
        assert_eq!(read(&text).unwrap()[0].uid, "ñ".repeat(120));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let bookings = [booking("a@cabanas"), booking("b@cabanas")];
        let stays = bookings.clone().map(|b| b.stay);
        assert_eq!(read(&well(&bookings)).unwrap(), stays);
    }

    #[test]
    fn each_mistake_of_the_export_is_the_one_that_it_says() {
        let bookings = [booking("a@cabanas"), booking("b@cabanas")];
        let right = well(&bookings);
        let wrong = |switch| String::from_utf8(written(switch, &bookings)).unwrap();
        assert_eq!(wrong("lf-lines"), right.replace("\r\n", "\n"));
        assert_eq!(wrong("byte-order-mark"), format!("\u{feff}{right}"));
        let inclusive = right.replace("DTEND;VALUE=DATE:20261227", "DTEND;VALUE=DATE:20261226");
        assert_eq!(wrong("inclusive-end"), inclusive);
        assert_eq!(
            wrong("duplicate-uids")
                .matches("UID:reserva@cabanas\r\n")
                .count(),
            2
        );
        assert_ne!(wrong("changing-uids"), wrong("changing-uids"));
        let guests = wrong("exports-guests");
        assert!(guests.contains("SUMMARY:Ana Núñez") && guests.contains("+54 9 294 400"));
        // Whoever unfolds the octets gets the same text; whoever reads line by line gets no text.
        let cut = written("folds-characters", &bookings);
        assert!(std::str::from_utf8(&cut).is_err());
        let lines = cut.split(|b| *b == b'\n');
        assert!(
            lines
                .map(<[u8]>::len)
                .all(|octets| octets <= LINE_OCTETS + 1)
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
