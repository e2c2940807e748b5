//! A healthy application gives no false alarm, each mistake is caught by its check, and what cannot be
//! asked is unknown.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use bytes::Bytes;
use hyper::HeaderMap;

use super::{plan::zero_for, *};
use crate::exposition::Pointer;
use crate::net::probe::{Answer, ProbeError};
use crate::phase::integrations::outcome::Ended;

/// 30 November 2026, 12:00 UTC.
const NOW: i64 = 1_796_040_000;

pub(super) fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

fn answered(status: u16, headers: &[(&'static str, &str)], body: impl Into<Vec<u8>>) -> Answer {
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| {
            let name = hyper::header::HeaderName::from_static(name);
            (name, value.parse().unwrap())
        })
        .collect();
    Answer {
        status,
        headers,
        body: Bytes::from(body.into()),
        took: Duration::from_millis(7),
    }
}

fn export(body: impl Into<Vec<u8>>) -> Answer {
    let headers = [
        ("content-type", "text/calendar; charset=utf-8"),
        ("etag", "\"1\""),
    ];
    answered(200, &headers, body)
}

/// Two stays of three nights and one of one night.
pub(super) const STAYS: [(&str, &str, &str); 3] = [
    ("a", "20261224", "20261227"),
    ("b", "20261227", "20261230"),
    ("c", "20270105", "20270106"),
];

/// A correct export with an extra line in each event.
pub(super) fn calendar_with(stays: &[(&str, &str, &str)], more: &str) -> String {
    let event = |(uid, start, end): &(&str, &str, &str)| {
        format!(
            "BEGIN:VEVENT\r\nUID:{uid}@cabanas\r\nDTSTAMP:20261101T120000Z\r\nDTSTART;VALUE=DATE:{start}\r\nDTEND;VALUE=DATE:{end}\r\nSUMMARY:Reservada: Arrayán\r\n{more}END:VEVENT\r\n"
        )
    };
    let events: String = stays.iter().map(event).collect();
    format!(
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//cabanas//Cabanas//ES\r\n{events}END:VCALENDAR\r\n"
    )
}

pub(super) fn calendar() -> String {
    calendar_with(&STAYS, "")
}

fn metrics(age: &str, events: &str) -> Answer {
    let page = format!(
        "# TYPE ical_last_sync_age_minutes gauge\nical_last_sync_age_minutes {age}\n# TYPE ical_imported_events gauge\nical_imported_events{{source=\"airbnb\"}} {events}\n"
    );
    answered(200, &[("content-type", "text/plain; version=0.0.4")], page)
}

fn metric(name: &str) -> Option<Shown> {
    let (path, name, selector) = ("/metrics".to_owned(), name.to_owned(), Vec::new());
    Some(Shown::Metric {
        path,
        name,
        selector,
    })
}

pub(super) fn plan() -> Plan {
    Plan {
        age: metric("ical_last_sync_age_minutes"),
        events: metric("ical_imported_events"),
        pause: Duration::from_millis(1),
        ..Plan::new("/export.ics".to_owned(), Duration::from_secs(30 * 60))
    }
}

/// One run against an application that answers like this.
async fn run(plan: &Plan, before: &Memory, answer: impl Fn(&Request) -> Fetched) -> Checked {
    check(plan, before, now(), |request| {
        let answer = answer(&request);
        async { answer }
    })
    .await
}

/// A run with these answers of the export and of the metrics.
async fn run_with(before: &Memory, exported: Answer, shown: Answer) -> Checked {
    run(&plan(), before, |request| {
        let is_export = request.path == "/export.ics";
        Ok(if is_export {
            exported.clone()
        } else {
            shown.clone()
        })
    })
    .await
}

/// What did not pass, as id and ending.
pub(super) fn bad(checked: &Checked) -> Vec<(&'static str, Ended)> {
    for outcome in &checked.outcomes {
        assert!(
            !outcome.forgery && !outcome.evidence.is_empty(),
            "{outcome:?}"
        );
        assert!(
            !outcome.evidence.contains('\n') && outcome.evidence.len() < 400,
            "{outcome:?}"
        );
        if outcome.ended == Ended::Failed {
            assert!(!outcome.change.is_empty(), "{outcome:?}");
        }
    }
    let outcomes = checked.outcomes.iter();
    let bad = outcomes.filter(|outcome| outcome.ended != Ended::Passed);
    bad.map(|outcome| (outcome.id, outcome.ended)).collect()
}

/// I4 needs a number that few applications show.
pub(super) const HEALTHY: [(&str, Ended); 1] = [("I4", Ended::Unproven)];

#[tokio::test]
async fn a_healthy_application_passes_again_and_again() {
    let mut memory = Memory::default();
    let mut ids = BTreeSet::new();
    for round in 0..100 {
        let age = format!("{}.25", round % 29);
        let checked = run_with(&memory, export(calendar()), metrics(&age, "4")).await;
        assert_eq!(bad(&checked), HEALTHY, "round {round}");
        assert_eq!(checked.again, None);
        ids.extend(checked.outcomes.iter().map(|outcome| outcome.id));
        memory = checked.memory;
    }
    let all = [
        "C1", "C2", "C3", "C4", "C5", "C6", "C7", "C8", "I1", "I2", "I3", "I4",
    ];
    assert_eq!(ids, all.into_iter().collect());
}

#[tokio::test]
async fn each_mistake_of_an_export_is_caught_by_its_check() {
    let text = calendar();
    let fold = text.find("án\r\n").unwrap() + 1;
    let mut folded = text.clone().into_bytes();
    folded.splice(fold..fold, *b"\r\n ");
    let inclusive = [("a", "20261224", "20261226"), ("c", "20270105", "20270105")];
    let same = [STAYS[0], ("a", "20270105", "20270106")];
    for (mistake, id, exported) in [
        (
            "guest names",
            "C6",
            calendar_with(&STAYS, "DESCRIPTION:Huésped: Ñusta Quispe\r\n").into(),
        ),
        (
            "phones",
            "C6",
            calendar_with(&STAYS, "DESCRIPTION:+54 9 294 412-3456\r\n").into(),
        ),
        (
            "e-mail",
            "C6",
            calendar_with(&STAYS, "DESCRIPTION:ana@example.org\r\n").into(),
        ),
        ("inclusive end", "C4", calendar_with(&inclusive, "").into()),
        ("LF", "C2", text.replace("\r\n", "\n").into_bytes()),
        ("fold in a character", "C2", folded),
        ("duplicate UIDs", "C4", calendar_with(&same, "").into()),
        ("BOM", "C1", format!("\u{feff}{text}").into()),
        (
            "no version",
            "C3",
            text.replace("VERSION:2.0\r\n", "").into(),
        ),
    ] {
        let checked = run_with(&Memory::default(), export(exported), metrics("3.5", "4")).await;
        assert_eq!(
            bad(&checked),
            [(id, Ended::Failed), HEALTHY[0]],
            "{mistake}"
        );
        for outcome in &checked.outcomes {
            let shown = format!("{outcome:?}");
            assert!(
                !["usta", "412-3456", "ana@"]
                    .iter()
                    .any(|s| shown.contains(s)),
                "{shown}"
            );
        }
    }
}

#[tokio::test]
async fn the_bytes_of_an_export_are_gone_once_it_is_read() {
    let fetch = async |_| Ok(export(calendar()));
    let exports = exports(&plan(), &fetch).await;
    assert!(exports.len() >= 2);
    for exported in &exports {
        assert_eq!(exported.bytes, calendar().len());
        let kept = exported.fetched.as_ref().map(|answer| answer.body.len());
        assert_eq!(kept, Ok(0));
        assert!(exported.calendar.is_some());
    }
}

#[tokio::test]
async fn the_content_type_is_that_of_a_calendar_in_utf_8() {
    for (content_type, ended) in [
        (Some("text/calendar"), Ended::Passed),
        (
            Some("Text/Calendar;method=PUBLISH; charset=\"UTF-8\""),
            Ended::Passed,
        ),
        (Some("text/plain; charset=utf-8"), Ended::Failed),
        (Some("application/octet-stream"), Ended::Failed),
        (Some("text/calendar; charset=iso-8859-1"), Ended::Failed),
        (None, Ended::Failed),
    ] {
        let headers: Vec<_> = content_type
            .map(|value| ("content-type", value))
            .into_iter()
            .collect();
        let checked = run_with(
            &Memory::default(),
            answered(200, &headers, calendar()),
            metrics("1", "4"),
        )
        .await;
        assert_eq!(checked.outcomes[0].ended, ended, "{content_type:?}");
    }
}

#[tokio::test]
async fn a_page_instead_of_a_calendar_fails_once_and_the_rest_is_unknown() {
    let page = answered(
        200,
        &[("content-type", "text/html")],
        "<!doctype html><form>login</form>",
    );
    for (answer, ended) in [
        (Ok(page), Ended::Failed),
        (Ok(answered(401, &[], "")), Ended::Failed),
        (Ok(answered(403, &[], "")), Ended::Failed),
        (Ok(answered(404, &[], "")), Ended::Failed),
        (Ok(answered(302, &[], "")), Ended::Failed),
        (Ok(answered(500, &[], "")), Ended::Failed),
        (Err(ProbeError::Redirected), Ended::Failed),
        (Err(ProbeError::TooLarge(ical::MAX_BYTES)), Ended::Failed),
        // From something in between, or not at all.
        (Ok(answered(502, &[], "")), Ended::Unknown),
        (Ok(answered(503, &[], "<html>")), Ended::Unknown),
        (Ok(answered(504, &[], "")), Ended::Unknown),
        (Ok(answered(429, &[], "")), Ended::Unknown),
        (Err(ProbeError::TimedOut(PAUSE)), Ended::Unknown),
        (Err(ProbeError::Connect("h".to_owned())), Ended::Unknown),
        (Err(ProbeError::NoResolver("h".to_owned())), Ended::Unknown),
    ] {
        let asked = AtomicU32::new(0);
        let checked = run(&plan(), &Memory::default(), |request| {
            if request.path == "/metrics" {
                return Ok(metrics("3.5", "4"));
            }
            asked.fetch_add(1, Ordering::Relaxed);
            answer.clone()
        })
        .await;
        let outcomes: Vec<Ended> = checked.outcomes.iter().map(|o| o.ended).collect();
        assert_eq!(outcomes[0], ended, "{answer:?}");
        assert!(
            outcomes[1..8].iter().all(|ended| *ended == Ended::Unknown),
            "{outcomes:?}"
        );
        assert_eq!(outcomes[8], Ended::Passed, "the import is judged by itself");
    }
}

#[tokio::test]
async fn what_does_not_answer_is_unknown_and_forgets_nothing() {
    let first = run_with(&Memory::default(), export(calendar()), metrics("3.5", "4")).await;
    for answer in [Err(ProbeError::TimedOut(PAUSE)), Ok(answered(503, &[], ""))] {
        let checked = run(&plan(), &first.memory, |_| answer.clone()).await;
        let ends: BTreeSet<_> = bad(&checked)
            .into_iter()
            .map(|(_, ended)| format!("{ended:?}"))
            .collect();
        assert_eq!(
            ends,
            ["Unknown".to_owned(), "Unproven".to_owned()]
                .into_iter()
                .collect()
        );
        assert_eq!(checked.memory.export, first.memory.export);
        assert!(checked.memory.imported.is_some());
    }
}

/// A run whose exports differ from one to the next.
async fn with_uids(exports: &[[&str; 3]], before: &Memory) -> Checked {
    let turn = Mutex::new(0);
    run(&plan(), before, |request| {
        if request.path == "/metrics" {
            return Ok(metrics("3.5", "4"));
        }
        let mut turn = turn.lock().unwrap();
        let uids = exports[*turn];
        *turn += 1;
        let stays: Vec<_> = uids
            .iter()
            .zip(STAYS)
            .map(|(uid, (_, a, b))| (*uid, a, b))
            .collect();
        Ok(export(calendar_with(&stays, "")))
    })
    .await
}

#[tokio::test]
async fn uids_that_change_are_told_from_a_booking_made_in_between() {
    let none = Memory::default();
    let changing = [["a", "b", "c"], ["d", "e", "f"], ["g", "h", "i"]];
    assert_eq!(
        bad(&with_uids(&changing, &none).await),
        [("C5", Ended::Failed), HEALTHY[0]]
    );
    // One of them is enough.
    let one = [["a", "b", "c"], ["a", "b", "d"], ["a", "b", "e"]];
    assert_eq!(
        bad(&with_uids(&one, &none).await),
        [("C5", Ended::Failed), HEALTHY[0]]
    );
    let replaced = [["a", "b", "c"], ["a", "b", "d"], ["a", "b", "d"]];
    assert_eq!(
        bad(&with_uids(&replaced, &none).await),
        [("C5", Ended::Unproven), HEALTHY[0]]
    );
    // Since the run before.
    let first = with_uids(&[["a", "b", "c"]; 2], &none).await;
    let daily = with_uids(&[["d", "e", "f"]; 2], &first.memory).await;
    assert_eq!(bad(&daily), [("C5", Ended::Failed), HEALTHY[0]]);
    let made_again = with_uids(&[["a", "b", "f"]; 2], &first.memory).await;
    assert_eq!(bad(&made_again), HEALTHY);
    let empty = run_with(&none, export(calendar_with(&[], "")), metrics("3.5", "4")).await;
    let empty = bad(&empty);
    for expected in [
        ("C3", Ended::Warned),
        ("C5", Ended::Unproven),
        ("C8", Ended::Unproven),
    ] {
        assert!(empty.contains(&expected), "{empty:?}");
    }
}

#[tokio::test]
async fn an_export_is_cheap_and_reaches_into_the_future() {
    let of = |exported: Answer, id: &'static str| async move {
        let checked = run_with(&Memory::default(), exported, metrics("3.5", "4")).await;
        checked.outcomes.iter().find(|o| o.id == id).unwrap().ended
    };
    let plain = |body: String| answered(200, &[("content-type", "text/calendar")], body);
    assert_eq!(of(plain(calendar()), "C7").await, Ended::Passed);
    let many: Vec<_> = (0..2_000).map(|n| format!("u{n}")).collect();
    let many: Vec<_> = many
        .iter()
        .map(|uid| (uid.as_str(), "20261224", "20261226"))
        .collect();
    assert_eq!(
        of(plain(calendar_with(&many, "")), "C7").await,
        Ended::Warned
    );
    assert_eq!(
        of(export(calendar_with(&many, "")), "C7").await,
        Ended::Passed
    );
    for (start, end, ended) in [
        ("20261129", "20261202", Ended::Passed),
        ("20261101", "20261103", Ended::Warned),
        ("20361101", "20361103", Ended::Warned),
    ] {
        let text = calendar_with(&[("a", start, end)], "");
        assert_eq!(of(export(text), "C8").await, ended, "{start}");
    }
    let every_week = calendar_with(&[("a", "20261101", "20261103")], "rrule:FREQ=WEEKLY\r\n");
    assert_eq!(of(export(every_week), "C8").await, Ended::Unproven);
}

#[tokio::test]
async fn the_age_of_the_last_import_is_held_to_its_limit() {
    for (age, ended) in [
        ("0.05", Ended::Passed),
        ("30", Ended::Passed),
        ("30.01", Ended::Failed),
        ("90000", Ended::Failed),
        ("-0.2", Ended::Passed),
        ("-5", Ended::Failed),
        ("NaN", Ended::Failed),
        ("+Inf", Ended::Failed),
    ] {
        let checked = run_with(&Memory::default(), export(calendar()), metrics(age, "4")).await;
        assert_eq!(checked.outcomes[8].ended, ended, "{age}");
        assert_eq!(checked.outcomes[8].id, "I1");
    }
    let page =
        |content_type: &str, body: &str| answered(200, &[("content-type", content_type)], body);
    for (shown, ended) in [
        (page("text/plain", "up 1\n"), Ended::Unproven),
        (page("text/plain", "up one\n"), Ended::Failed),
        (page("text/html", "<html>"), Ended::Failed),
        (
            page(
                "application/openmetrics-text",
                "ical_last_sync_age_minutes 3\n# EOF\n",
            ),
            Ended::Passed,
        ),
        (
            page(
                "application/openmetrics-text",
                "ical_last_sync_age_minutes 3\n",
            ),
            Ended::Failed,
        ),
        (
            page(
                "text/plain",
                "ical_last_sync_age_minutes{s=\"a\"} 3\nical_last_sync_age_minutes{s=\"b\"} 99\n",
            ),
            Ended::Failed,
        ),
        (answered(404, &[], ""), Ended::Unproven),
        (answered(401, &[], ""), Ended::Unproven),
        (answered(503, &[], ""), Ended::Unknown),
        (answered(500, &[], ""), Ended::Unknown),
    ] {
        let checked = run_with(&Memory::default(), export(calendar()), shown.clone()).await;
        assert_eq!(checked.outcomes[8].ended, ended, "{shown:?}");
    }
    let nothing = Plan::new("/export.ics".to_owned(), Duration::from_secs(60));
    let checked = run(&nothing, &Memory::default(), |_| Ok(export(calendar()))).await;
    assert_eq!(checked.outcomes[8].ended, Ended::Unproven);
}

#[tokio::test]
async fn a_number_may_come_from_a_json_document() {
    let shown = |pointer: &str| {
        let (path, pointer) = ("/status".to_owned(), Pointer::parse(pointer).unwrap());
        Some(Shown::Status { path, pointer })
    };
    let plan = Plan {
        age: shown("/ical/ageMinutes"),
        events: shown("/ical/sources/0/events"),
        conflicts: shown("/ical/conflicts"),
        ..plan()
    };
    let asked = AtomicU32::new(0);
    let with = async |body: &str| {
        asked.store(0, Ordering::Relaxed);
        run(&plan, &Memory::default(), |request| {
            if request.path == "/export.ics" {
                return Ok(export(calendar()));
            }
            asked.fetch_add(1, Ordering::Relaxed);
            Ok(answered(200, &[], body))
        })
        .await
    };
    let healthy = r#"{"ical":{"ageMinutes":3,"conflicts":0,"sources":[{"events":7}]}}"#;
    assert_eq!(bad(&with(healthy).await), []);
    assert_eq!(
        asked.load(Ordering::Relaxed),
        1,
        "one page is asked for once"
    );
    let overlaps = healthy.replace("\"conflicts\":0", "\"conflicts\":2");
    assert_eq!(bad(&with(&overlaps).await), [("I4", Ended::Failed)]);
    let old = healthy.replace(":3", ":31");
    assert_eq!(bad(&with(&old).await), [("I1", Ended::Failed)]);
    let at = |text: &str| healthy.replace(":3,", &format!(":\"{text}\","));
    assert_eq!(bad(&with(&at("2026-11-30T11:40:00Z")).await), []);
    assert_eq!(
        bad(&with(&at("2026-11-30T08:29:59-03:00")).await),
        [("I1", Ended::Failed)]
    );
    assert_eq!(
        bad(&with(&at("yesterday")).await),
        [("I1", Ended::Unproven)]
    );
    let ends = |checked: Checked| checked.outcomes[8].ended;
    assert_eq!(ends(with("{}").await), Ended::Unproven);
    assert_eq!(ends(with("no").await), Ended::Failed);
}

#[tokio::test]
async fn an_age_that_is_zero_for_ever_fails_and_one_that_is_zero_now_and_then_does_not() {
    let plan = Plan {
        zero_for: Duration::from_millis(30),
        ..plan()
    };
    let with = async |before: &Memory, ages: &[&str]| {
        let turn = AtomicU32::new(0);
        run(&plan, before, |request| {
            if request.path == "/export.ics" {
                return Ok(export(calendar()));
            }
            let turn = turn.fetch_add(1, Ordering::Relaxed) as usize;
            Ok(metrics(ages[turn.min(ages.len() - 1)], "4"))
        })
        .await
    };
    let ended = |checked: &Checked| checked.outcomes[8].ended;
    let none = Memory::default();
    // It moves at the next reading.
    let moves = with(&none, &["0", "0.025"]).await;
    assert_eq!((ended(&moves), moves.again), (Ended::Passed, None));
    let first = with(&none, &["0"]).await;
    assert_eq!((ended(&first), first.again), (Ended::Unproven, Some(AGAIN)));
    let limit = Instant::now() + Duration::from_secs(10);
    let mut memory = first.memory.clone();
    let last = loop {
        let next = with(&memory, &["0"]).await;
        if ended(&next) == Ended::Failed || Instant::now() > limit {
            break next;
        }
        assert_eq!(ended(&next), Ended::Unproven);
        memory = next.memory;
    };
    assert_eq!(bad(&last), [("I1", Ended::Failed), HEALTHY[0]]);
    // It stays failed, and recovers once it moves.
    let still = with(&last.memory, &["0"]).await;
    assert_eq!(ended(&still), Ended::Failed);
    let moved = with(&still.memory, &["1"]).await;
    assert_eq!((ended(&moved), moved.again), (Ended::Passed, None));
    assert_eq!(ended(&with(&moved.memory, &["0"]).await), Ended::Unproven);
    assert_eq!(zero_for(Duration::from_secs(60)), Duration::from_secs(120));
    assert_eq!(
        zero_for(Duration::from_secs(1_800)),
        Duration::from_secs(900)
    );
}

#[tokio::test]
async fn an_import_that_empties_the_calendar_fails_until_it_is_full_again() {
    let first = run_with(&Memory::default(), export(calendar()), metrics("3.5", "4")).await;
    let emptied = run_with(&first.memory, export(calendar()), metrics("0.5", "0")).await;
    assert_eq!(
        bad(&emptied),
        [("I2", Ended::Failed), ("I3", Ended::Unproven), HEALTHY[0]]
    );
    let still = run_with(&emptied.memory, export(calendar()), metrics("0.5", "0")).await;
    assert_eq!(bad(&still), bad(&emptied));
    let full = run_with(&still.memory, export(calendar()), metrics("0.5", "1")).await;
    assert_eq!(bad(&full), HEALTHY);
    // One event may have been cancelled.
    let gone = run_with(&full.memory, export(calendar()), metrics("0.5", "0")).await;
    assert!(bad(&gone).contains(&("I2", Ended::Warned)));
    let never = run_with(
        &Memory::default(),
        export(calendar_with(&[], "")),
        metrics("0.5", "0"),
    )
    .await;
    assert!(bad(&never).contains(&("I2", Ended::Unproven)));
}

#[tokio::test]
async fn an_export_that_loses_its_future_events_fails_and_one_whose_events_ended_does_not() {
    let without = Plan {
        events: None,
        ..plan()
    };
    let with = async |before: &Memory, text: String| {
        run(&without, before, |request| {
            let is_export = request.path == "/export.ics";
            Ok(if is_export {
                export(text.clone())
            } else {
                metrics("3.5", "4")
            })
        })
        .await
    };
    let i2 = |checked: &Checked| checked.outcomes[9].ended;
    let first = with(&Memory::default(), calendar()).await;
    assert_eq!(
        i2(&first),
        Ended::Unproven,
        "nothing shows what was imported"
    );
    let lost = with(&first.memory, calendar_with(&[], "")).await;
    assert_eq!(i2(&lost), Ended::Failed);
    assert_eq!(
        i2(&with(&lost.memory, calendar_with(&[], "")).await),
        Ended::Failed
    );
    assert_eq!(i2(&with(&lost.memory, calendar()).await), Ended::Unproven);
    let past = with(
        &Memory::default(),
        calendar_with(
            &[("a", "20261101", "20261103"), ("b", "20261103", "20261104")],
            "",
        ),
    )
    .await;
    assert_eq!(
        i2(&with(&past.memory, calendar_with(&[], "")).await),
        Ended::Unproven
    );
}
