//! I1 to I4: what the application imports, as far as it shows it. Pure.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{
    answer::{Gap, header, of_page, outcome},
    plan::{Fetched, Plan, Shown},
};
use crate::{
    exposition::{self, Format, JsonFault, Scalar},
    ical::Event,
    phase::integrations::outcome::{Ended, Outcome},
};

/// A number that a page shows, or why there is none.
pub(super) type Number = Result<f64, Gap>;

/// The checks of an import, with their plain names.
pub(super) const CHECKS: [(&str, &str); 4] = [
    ("I1", "the last import is recent"),
    ("I2", "imports do not empty the calendar"),
    ("I3", "the imported calendars can be read"),
    ("I4", "no booking overlaps an imported one"),
];

/// An age below this is one of clocks that differ a little.
///
/// Unit: minutes.
const EARLIEST: f64 = -1.0;

/// Two readings of different clocks that are this close are of the same instant.
///
/// Unit: seconds.
const SAME_INSTANT: f64 = 2.0;

/// Readings of exactly 0 from which on an age may count as one that nothing updates.
const ZERO_READINGS: u32 = 3;

/// For so long a count that dropped to 0 is compared with what it was; then it counts as intended.
const DROP: Duration = Duration::from_secs(86_400);

/// The number on a page. Of several samples the greatest counts: the age of the calendar that was imported
/// longest ago.
pub(super) fn number(shown: &Shown, page: &Fetched) -> Number {
    let answer = of_page(page)?;
    match shown {
        Shown::Metric { name, selector, .. } => {
            let unreadable = |evidence: String| {
                let change = "answer with metrics in Prometheus' text format or OpenMetrics";
                Gap::new(Ended::Failed, evidence, change)
            };
            let Some(format) = Format::of(header(answer, "content-type")) else {
                let evidence = "the page of metrics has a Content-Type of something else";
                return Err(unreadable(evidence.to_owned()));
            };
            match exposition::value(&answer.body, format, name, selector) {
                Ok(Some(found)) => Ok(found.max),
                Ok(None) => Err(Gap::new(
                    Ended::Unproven,
                    format!("the page of metrics does not have the metric {name}"),
                    "publish the metric, or name another one in spec.integrations.ical",
                )),
                Err(problem) => Err(unreadable(format!("the page of metrics, {problem}"))),
            }
        }
        Shown::Status { pointer, .. } => match pointer.number(&answer.body) {
            Ok(number) => Ok(number),
            Err(fault) => Err(no_number(fault)),
        },
    }
}

/// The age on a page, in minutes. A JSON document may have the time of the import in its place.
pub(super) fn age_shown(shown: &Shown, page: &Fetched, now: Timestamp) -> Number {
    let Shown::Status { pointer, .. } = shown else {
        return number(shown, page);
    };
    let answer = of_page(page)?;
    match pointer.scalar(&answer.body).map_err(no_number)? {
        Scalar::Number(minutes) => Ok(minutes),
        Scalar::Text(text) => match text.parse::<Timestamp>() {
            Ok(at) => Ok(minutes_since(at, now)),
            Err(_) => Err(no_number(JsonFault::NotANumber)),
        },
    }
}

/// An application that shows the present as the time of its last import says that it is 0 for ever, up to the
/// difference of two clocks.
fn minutes_since(at: Timestamp, now: Timestamp) -> f64 {
    let seconds = now.duration_since(at).as_secs_f64();
    match seconds.abs() < SAME_INSTANT {
        true => 0.0,
        false => seconds / 60.0,
    }
}

fn no_number(fault: JsonFault) -> Gap {
    let change = "show a number at the JSON pointer, or name another one in spec.integrations.ical";
    let ended = match fault {
        JsonFault::Missing | JsonFault::NotANumber => Ended::Unproven,
        JsonFault::Malformed | JsonFault::Deep | JsonFault::Ambiguous => Ended::Failed,
    };
    Gap::new(ended, fault.to_string(), change)
}

/// Whether a reading of an age decides nothing: exactly 0, which may be right, or no age, which may change
/// while the application starts.
pub(super) fn proves_nothing(age: &Number) -> bool {
    matches!(age, Ok(minutes) if *minutes == 0.0 || minutes.is_nan())
}

/// I1, and since when the age has been exactly 0 at every reading.
pub(super) fn age(
    plan: &Plan,
    ages: &[Number],
    zero: Option<(Instant, u32)>,
    at: Instant,
) -> (Outcome, Option<(Instant, u32)>) {
    let (id, name) = CHECKS[0];
    let limit = plan.max_sync_age.as_secs_f64() / 60.0;
    let with = |ended, evidence: String, change: &str| {
        outcome(id, name, ended, None, evidence, change.to_owned())
    };
    let minutes = match ages.last() {
        None => {
            let evidence = "nothing shows the age of the last import".to_owned();
            let change = "publish the gauge ical_last_sync_age_minutes, or name a statusPath";
            return (with(Ended::Unproven, evidence, change), None);
        }
        // What was seen before still holds.
        Some(Err(gap)) => return (gap.clone().outcome(id, name), zero),
        Some(Ok(minutes)) => *minutes,
    };
    if minutes == 0.0 {
        return zeros(plan, ages.len(), zero, at);
    }
    let import =
        "import the calendars again: look for errors of the import in the application's log";
    let outcome = if minutes.is_nan() {
        with(
            Ended::Failed,
            "no import has succeeded yet: the age is NaN".to_owned(),
            import,
        )
    } else if minutes < EARLIEST {
        let evidence = "the last import is in the future: the age is negative".to_owned();
        with(
            Ended::Failed,
            evidence,
            "publish the minutes since the last import that succeeded",
        )
    } else if minutes > limit {
        let evidence =
            format!("the last import is {minutes:.1} min old, and {limit:.0} min are allowed");
        with(Ended::Failed, evidence, import)
    } else {
        let evidence = format!(
            "the last import is {:.1} min old, and {limit:.0} min are allowed",
            minutes.max(0.0)
        );
        with(Ended::Passed, evidence, "")
    };
    (outcome, None)
}

/// I1 of an age that is exactly 0: right for an instant after an import, and what a gauge says that nothing
/// updates.
fn zeros(
    plan: &Plan,
    readings: usize,
    zero: Option<(Instant, u32)>,
    at: Instant,
) -> (Outcome, Option<(Instant, u32)>) {
    let (id, name) = CHECKS[0];
    let (since, before) = zero.unwrap_or((at, 0));
    let readings = before.saturating_add(u32::try_from(readings).unwrap_or(u32::MAX));
    let lasted = at.saturating_duration_since(since);
    let seconds = lasted.as_secs();
    let is_dead = lasted >= plan.zero_for && readings >= ZERO_READINGS;
    let (ended, evidence, change) = match is_dead {
        true => (
            Ended::Failed,
            format!(
                "the age was exactly 0 at all {readings} readings of {seconds} s: nothing updates it"
            ),
            "compute the age when it is read, in minutes with fractions, from the time of the last import that succeeded",
        ),
        false => (
            Ended::Unproven,
            format!(
                "the age was exactly 0 at all {readings} readings of {seconds} s, which an age that nothing updates is too"
            ),
            "",
        ),
    };
    let outcome = outcome(id, name, ended, None, evidence, change.to_owned());
    (outcome, Some((since, readings)))
}

/// I2: from the number of imported events and what it was, if the application shows it; otherwise from the
/// export of the run before and that of this one.
pub(super) fn emptied(
    imported: Option<&Number>,
    before: Option<(f64, Duration)>,
    exports: Option<(&[Event], &[Event])>,
    now: Timestamp,
) -> Outcome {
    let (id, name) = CHECKS[1];
    let with = |ended, evidence: String| {
        let change = match ended {
            Ended::Failed | Ended::Warned => {
                "keep what was imported when a calendar cannot be read, and replace it only by one that can"
            }
            _ => "",
        };
        outcome(id, name, ended, None, evidence, change.to_owned())
    };
    // One event that is gone may have been cancelled.
    let dropped = |count: usize| match count {
        0 | 1 => Ended::Warned,
        _ => Ended::Failed,
    };
    match (imported, before) {
        (Some(Ok(count)), Some((was, since))) if *count == 0.0 && since < DROP => {
            return with(
                dropped(was as usize),
                format!("the number of imported events dropped from {was} to 0"),
            );
        }
        (Some(Ok(count)), _) if *count > 0.0 => {
            return with(Ended::Passed, format!("{count} imported events"));
        }
        _ => {}
    }
    let future = |event: &&Event| event.end.is_some_and(|end| end > now.as_second());
    if let Some((before, [])) = exports {
        let lost = before.iter().filter(future).count();
        if lost > 0 {
            return with(
                dropped(lost),
                format!(
                    "the export is empty, and had {lost} events at the last check that have not ended"
                ),
            );
        }
    }
    match imported {
        Some(Err(gap)) => gap.clone().outcome(id, name),
        Some(Ok(_)) => with(Ended::Unproven, "no event was imported yet".to_owned()),
        None => with(
            Ended::Unproven,
            "nothing shows how many events were imported".to_owned(),
        ),
    }
}

/// I3. The addresses of the imported calendars are secrets of the application: what it has read from them
/// is the evidence.
pub(super) fn readable(imported: Option<&Number>) -> Outcome {
    let (id, name) = CHECKS[2];
    match imported {
        Some(Ok(count)) if *count > 0.0 => {
            let evidence = format!("the application has read {count} events");
            outcome(id, name, Ended::Passed, None, evidence, String::new())
        }
        Some(Err(gap)) => gap.clone().outcome(id, name),
        _ => {
            let evidence = "nothing shows an event that was imported".to_owned();
            Gap::new(Ended::Unproven, evidence, "").outcome(id, name)
        }
    }
}

/// I4.
pub(super) fn conflicts(shown: Option<&Number>) -> Outcome {
    let (id, name) = CHECKS[3];
    match shown {
        Some(Ok(count)) if *count > 0.0 => {
            let evidence = format!("the application shows {count} overlaps");
            let change = "move or cancel one booking of each overlap, and import more often";
            outcome(id, name, Ended::Failed, None, evidence, change.to_owned())
        }
        Some(Ok(count)) if *count == 0.0 => {
            let evidence = "the application shows none".to_owned();
            outcome(id, name, Ended::Passed, None, evidence, String::new())
        }
        Some(Err(gap)) => gap.clone().outcome(id, name),
        Some(Ok(_)) => {
            let evidence = "the number of overlaps is negative or NaN".to_owned();
            Gap::new(Ended::Unproven, evidence, "").outcome(id, name)
        }
        None => {
            let evidence = "nothing shows whether bookings overlap".to_owned();
            Gap::new(Ended::Unproven, evidence, "").outcome(id, name)
        }
    }
}
