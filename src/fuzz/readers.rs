//! What applications and other channels publish: calendars, metrics, JSON. A reader ends with a value or
//! with a line and a kind of mistake, and what it keeps is bounded by what it got.

use super::target;
use crate::{
    exposition::{self, Entry, Format, JsonFault, Pointer, Reader, Scalar},
    ical,
};

/// Most complaints about a calendar: one for each rule and class.
const COMPLAINTS: usize = 200;

#[test]
fn no_calendar_panics_takes_long_or_shows_itself() {
    let run = |input: &[u8]| {
        let calendar = ical::read(input);
        let lines = input.split(|byte| *byte == b'\n').count();
        assert!(calendar.complaints.len() <= COMPLAINTS);
        assert!(calendar.events.len() <= input.len() / "BEGIN:VEVENT".len());
        for complaint in &calendar.complaints {
            assert!(complaint.count > 0, "{complaint:?}");
            assert!(
                (1..=lines.max(1)).contains(&(complaint.line as usize)),
                "{complaint:?}"
            );
            assert!(complaint.text().len() < 160, "{complaint:?}");
        }
        // A line is read the same with another end, and a calendar compared with itself has kept all.
        let same = ical::changed_uids(&calendar.events, &calendar.events);
        assert_eq!(same.renamed, 0);
        let with_bom = [b"\xef\xbb\xbf", input].concat();
        if !input.starts_with(b"\xef\xbb\xbf") {
            assert_eq!(ical::read(&with_bom).events, calendar.events);
        }
    };
    target!("calendar", run);
}

#[test]
fn no_page_of_metrics_panics_or_has_a_value_that_is_not_in_it() {
    let none: &[(&str, &str)] = &[];
    let run = |input: &[u8]| {
        for format in [Format::Text, Format::OpenMetrics] {
            let mut reader = Reader::new(input, format);
            let mut first = None;
            let (mut samples, mut fault) = (0, None);
            for entry in reader.by_ref() {
                match entry {
                    Ok(Entry::Sample(sample)) => {
                        samples += 1;
                        assert!(!sample.name.is_empty());
                        let labels = sample.labels.into_iter().count();
                        assert!(labels <= exposition::MAX_LABELS);
                        first.get_or_insert(sample);
                    }
                    Ok(Entry::Type { family, .. }) => assert!(!family.is_empty()),
                    Err(problem) => fault = Some(problem),
                }
            }
            assert!(samples <= input.len());
            let Some(sample) = first else { continue };
            let found = exposition::value(input, format, &sample.name, none);
            match (fault, found) {
                (Some(_), found) => assert!(found.is_err(), "a page with a fault has no value"),
                (None, Ok(found)) => assert!(found.is_some_and(|found| found.samples > 0)),
                (None, Err(problem)) => assert_eq!(problem.fault, exposition::Fault::NoSingleValue),
            }
        }
    };
    target!("metrics", run);
}

#[test]
fn a_number_in_json_is_the_one_that_serde_json_finds() {
    let run = |input: &[u8]| {
        let end = input.iter().position(|byte| *byte == b'\n');
        let (pointer, body) = input.split_at(end.unwrap_or(0));
        let text = String::from_utf8_lossy(pointer);
        let Ok(pointer) = Pointer::parse(&text) else {
            return;
        };
        let found = pointer.scalar(body);
        let Ok(whole) = serde_json::from_slice::<serde_json::Value>(body) else {
            // Texts and numbers beside the way are skipped, not decoded.
            let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok();
            let refused = matches!(found, Err(JsonFault::Malformed | JsonFault::Deep));
            assert!(
                refused || (is_json && std::str::from_utf8(body).is_ok()),
                "{found:?}"
            );
            return;
        };
        match (whole.pointer(&text), found) {
            // `Value` keeps the last of equal keys.
            (_, Err(JsonFault::Ambiguous | JsonFault::Deep)) => {}
            (Some(value), Ok(Scalar::Number(number))) => assert_eq!(value.as_f64(), Some(number)),
            (Some(value), Ok(Scalar::Text(text))) => assert_eq!(value.as_str(), Some(&*text)),
            (Some(value), Err(JsonFault::NotANumber)) => {
                assert!(!value.is_number() && !value.is_string(), "{value}");
            }
            (None, Err(JsonFault::Missing)) => {}
            (value, found) => unreachable!("{value:?} {found:?}"),
        }
    };
    target!("json", run);
}

#[test]
fn no_list_of_feeds_panics_or_leads_elsewhere() {
    use crate::phase::integrations::calendar::parse_feeds;
    let run = |input: &[u8]| {
        let text = String::from_utf8_lossy(input);
        let Ok(feeds) = parse_feeds(&text) else {
            return;
        };
        for feed in feeds.into_iter().flatten() {
            let url = url::Url::parse(&format!("https://{}/", feed.host)).unwrap();
            assert_eq!(url.host_str(), Some(feed.host.as_str()));
            assert!(matches!(url.host(), Some(url::Host::Domain(_))));
            assert!(feed.name.len() <= 32);
        }
    };
    target!("feeds", run);
}
