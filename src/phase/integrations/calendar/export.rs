//! C1 to C8: what the application exports. Pure.

use jiff::Timestamp;

use super::{
    answer::{Gap, header, of_export, outcome},
    plan::Exported,
};
use crate::{
    ical::{Calendar, Check, Complaint, Event, Rule, Weight, changed_uids},
    net::probe::Answer,
    phase::integrations::outcome::{Ended, Outcome},
};

/// The checks of an export, with their plain names.
pub(super) const CHECKS: [(&str, &str); 8] = [
    (
        "C1",
        "the export is a calendar in UTF-8 that anybody with its address can read",
    ),
    (
        "C2",
        "lines of the export end with CRLF and are folded between characters",
    ),
    (
        "C3",
        "the export is one calendar with PRODID and VERSION:2.0",
    ),
    (
        "C4",
        "events have a unique UID, a DTSTAMP and an exclusive end after their start",
    ),
    ("C5", "events keep their UID from one export to the next"),
    (
        "C6",
        "the export has no names, telephone numbers or e-mail addresses",
    ),
    ("C7", "the export is cheap to ask for again"),
    ("C8", "the export reaches into the future"),
];

/// An export without `ETag` and `Last-Modified` up to this size costs little.
///
/// Unit: bytes.
const SMALL: usize = 64 << 10;

/// The farthest end of an event that is plausible.
///
/// Unit: seconds.
const FAR: i64 = 5 * 366 * 86_400;

/// Complaints that are named in an outcome; the rest is counted.
const NAMED: usize = 3;

/// From so many events on, a `UID` that changed since the run before is more than a booking that was
/// cancelled and made again.
const MANY: usize = 3;

/// What the exports of a run showed.
pub(super) struct Export {
    /// C1 to C8.
    pub(super) outcomes: Vec<Outcome>,
    /// The events of the last one; none if there was no calendar.
    pub(super) events: Option<Vec<Event>>,
}

/// Judges the exports of one run, and compares them with the events of the run before.
pub(super) fn judge(exports: &[Exported], before: &[Event], now: Timestamp) -> Export {
    let [(c1, c1_name), rest @ ..] = CHECKS;
    let first = exports.first().ok_or_else(nothing_asked);
    let read_first = |exported| read(exported).map(|read| (exported, read));
    let (exported, (answer, calendar)) = match first.and_then(read_first) {
        Ok(read) => read,
        Err(gap) => {
            let mut outcomes = vec![gap.outcome(c1, c1_name)];
            outcomes.extend(rest.map(|(id, name)| no_calendar().outcome(id, name)));
            let events = None;
            return Export { outcomes, events };
        }
    };
    let form = form(exported, answer, calendar);
    if !is_calendar(calendar) {
        let mut outcomes = vec![form];
        outcomes.extend(rest.map(|(id, name)| no_calendar().outcome(id, name)));
        let events = None;
        return Export { outcomes, events };
    }
    let later: Vec<Result<&Calendar, Gap>> = exports[1..]
        .iter()
        .map(|exported| read(exported).map(|(_, calendar)| calendar))
        .collect();
    let outcomes = vec![
        form,
        complained(1, calendar, Check::Lines),
        complained(2, calendar, Check::Frame),
        complained(3, calendar, Check::Events),
        stable(calendar, &later, before),
        complained(5, calendar, Check::Privacy),
        cheap(answer, exported.bytes),
        horizon(calendar, now),
    ];
    Export {
        outcomes,
        events: Some(calendar.events.clone()),
    }
}

/// The answer and the calendar in it, or why there is none.
fn read(exported: &Exported) -> Result<(&Answer, &Calendar), Gap> {
    let answer = of_export(&exported.fetched)?;
    let calendar = exported.calendar.as_ref();
    let unread = || {
        Gap::new(
            Ended::Unknown,
            "the export was not read to its end".to_owned(),
            "",
        )
    };
    Ok((answer, calendar.ok_or_else(unread)?))
}

/// Whether an event of the first export seems to have another `UID` in the second one.
pub(super) fn may_have_renamed(exports: &[Exported]) -> bool {
    match exports {
        [first, second, ..] => match (&first.calendar, &second.calendar) {
            (Some(first), Some(second)) => changed_uids(&first.events, &second.events).renamed > 0,
            _ => false,
        },
        _ => false,
    }
}

fn nothing_asked() -> Gap {
    Gap::new(
        Ended::Unknown,
        "the export was not asked for".to_owned(),
        "",
    )
}

fn no_calendar() -> Gap {
    Gap::new(
        Ended::Unknown,
        "there was no calendar to look at, see C1".to_owned(),
        "",
    )
}

fn is_calendar(calendar: &Calendar) -> bool {
    let is_other = |complaint: &Complaint| complaint.rule == Rule::NotACalendar;
    !calendar.events.is_empty() || !calendar.complaints.iter().any(is_other)
}

/// C1.
fn form(exported: &Exported, answer: &Answer, calendar: &Calendar) -> Outcome {
    let (id, name) = CHECKS[0];
    let content_type = header(answer, "content-type");
    let mut parts = content_type.unwrap_or_default().split(';').map(str::trim);
    let is_calendar_type = parts
        .next()
        .is_some_and(|media| media.eq_ignore_ascii_case("text/calendar"));
    let charset = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("charset")
            .then(|| value.trim().trim_matches('"'))
    });
    let is_utf8 = charset.is_none_or(|charset| charset.eq_ignore_ascii_case("utf-8"));
    let (mut found, mut changes) = (Vec::new(), Vec::new());
    let mut add = |what: String, change: &str| {
        found.push(what);
        changes.push(change.to_owned());
    };
    if exported.is_page {
        add(
            "is a page of HTML or XML, perhaps a login".to_owned(),
            "answer the calendar itself, without a login",
        );
    } else if !is_calendar(calendar) {
        add("is no calendar".to_owned(), Rule::NotACalendar.change());
    }
    if !is_calendar_type {
        let class = match content_type {
            None => "has no Content-Type",
            Some(_) => "has another Content-Type than text/calendar",
        };
        add(
            class.to_owned(),
            "answer with Content-Type: text/calendar; charset=utf-8",
        );
    }
    if !is_utf8 {
        add(
            "has another charset than utf-8".to_owned(),
            "answer with Content-Type: text/calendar; charset=utf-8",
        );
    }
    for complaint in of_check(calendar, Check::Bytes) {
        add(complaint.text(), complaint.rule.change());
    }
    let ended = match found.is_empty() {
        true => Ended::Passed,
        false => Ended::Failed,
    };
    if found.is_empty() {
        let (events, bytes) = (calendar.events.len(), exported.bytes);
        found.push(format!("a calendar of {events} events in {bytes} bytes"));
    }
    changes.dedup();
    let evidence = format!("answered 200: {}", found.join("; "));
    outcome(
        id,
        name,
        ended,
        Some(answer.took),
        evidence,
        changes.join("; "),
    )
}

fn of_check(calendar: &Calendar, check: Check) -> impl Iterator<Item = &Complaint> {
    let complaints = calendar.complaints.iter();
    complaints.filter(move |complaint| complaint.check() == check)
}

/// The outcome of a check that consists of rules of the text.
fn complained(at: usize, calendar: &Calendar, check: Check) -> Outcome {
    let (id, name) = CHECKS[at];
    let mut complaints: Vec<&Complaint> = of_check(calendar, check).collect();
    // What fails comes first; the order of lines stays.
    complaints.sort_by_key(|complaint| std::cmp::Reverse(complaint.rule.weight()));
    let Some(worst) = complaints.first() else {
        let evidence = match check {
            Check::Events => format!("{} events", calendar.events.len()),
            _ => "nothing found".to_owned(),
        };
        return outcome(id, name, Ended::Passed, None, evidence, String::new());
    };
    let ended = match worst.rule.weight() {
        Weight::Failure => Ended::Failed,
        Weight::Warning => Ended::Warned,
    };
    let named = || complaints.iter().take(NAMED);
    let texts: Vec<String> = named().map(|complaint| complaint.text()).collect();
    let mut evidence = texts.join("; ");
    if complaints.len() > NAMED {
        evidence.push_str(&format!("; and {} more", complaints.len() - NAMED));
    }
    let mut changes: Vec<&str> = named().map(|complaint| complaint.rule.change()).collect();
    changes.dedup();
    outcome(id, name, ended, None, evidence, changes.join("; "))
}

/// C5.
fn stable(first: &Calendar, later: &[Result<&Calendar, Gap>], before: &[Event]) -> Outcome {
    let (id, name) = CHECKS[4];
    let change =
        "derive the UID from the booking, for example from its id, and never make a new one";
    let with = |ended, evidence: String| {
        let change = match ended {
            Ended::Failed => change,
            _ => "",
        };
        outcome(id, name, ended, None, evidence, change.to_owned())
    };
    if !first.events.iter().any(|event| event.uid.is_some()) {
        return with(
            Ended::Unproven,
            "the export has no event with a UID".to_owned(),
        );
    }
    let second = match later.first() {
        Some(Ok(second)) => second,
        Some(Err(gap)) => return with(Ended::Unknown, format!("second export: {}", gap.evidence)),
        None => return with(Ended::Unknown, "the export was asked for once".to_owned()),
    };
    let changed = changed_uids(&first.events, &second.events);
    if changed.renamed > 0 {
        // One booking may be cancelled and made again just now; that does not happen twice.
        return match later.get(1) {
            Some(Ok(third)) => {
                let again = changed_uids(&second.events, &third.events).renamed;
                match again {
                    0 => with(
                        Ended::Unproven,
                        "an event was replaced between two exports".to_owned(),
                    ),
                    again => with(
                        Ended::Failed,
                        format!(
                            "{again} events of the same dates and text had another UID in each export"
                        ),
                    ),
                }
            }
            Some(Err(gap)) => with(Ended::Unknown, format!("third export: {}", gap.evidence)),
            None => with(Ended::Unknown, "the export was asked for twice".to_owned()),
        };
    }
    let since = changed_uids(before, &first.events);
    if since.renamed >= MANY && since.kept == 0 {
        let renamed = since.renamed;
        return with(
            Ended::Failed,
            format!(
                "all {renamed} events that kept dates and text since the last check have another UID"
            ),
        );
    }
    match changed.kept {
        0 => with(
            Ended::Unproven,
            "two exports have no event in common".to_owned(),
        ),
        kept => with(
            Ended::Passed,
            format!("{kept} UIDs are the same in two exports"),
        ),
    }
}

/// C7.
fn cheap(answer: &Answer, bytes: usize) -> Outcome {
    let (id, name) = CHECKS[6];
    let known = ["etag", "last-modified"]
        .into_iter()
        .find(|name| answer.headers.contains_key(*name));
    let (ended, evidence, change) = match known {
        Some(name) => (Ended::Passed, format!("{bytes} bytes with {name}"), ""),
        None if bytes <= SMALL => (Ended::Passed, format!("{bytes} bytes"), ""),
        None => (
            Ended::Warned,
            format!("{bytes} bytes without ETag and Last-Modified"),
            "answer with an ETag, and 304 to If-None-Match; or leave out events of the past",
        ),
    };
    outcome(id, name, ended, None, evidence, change.to_owned())
}

/// C8.
fn horizon(calendar: &Calendar, now: Timestamp) -> Outcome {
    let (id, name) = CHECKS[7];
    let now = now.as_second();
    let last = calendar.events.iter().filter_map(|event| event.end).max();
    let days = |seconds: i64| seconds / 86_400;
    let (ended, evidence, change) = match last {
        None => (Ended::Unproven, "no event has an end".to_owned(), ""),
        Some(last) if last <= now && calendar.events.iter().any(|event| event.recurs) => (
            Ended::Unproven,
            "the last event has ended, and some recur".to_owned(),
            "",
        ),
        Some(last) if last <= now => (
            Ended::Warned,
            format!(
                "the last event ended {} days ago",
                days(now.saturating_sub(last))
            ),
            "export the bookings of the future; nothing, if there are none",
        ),
        Some(last) if last - now > FAR => (
            Ended::Warned,
            format!("the last event ends in {} days", days(last - now)),
            "correct the year of that event",
        ),
        Some(last) => (
            Ended::Passed,
            format!("the last event ends in {} days", days(last - now)),
            "",
        ),
    };
    outcome(id, name, ended, None, evidence, change.to_owned())
}
