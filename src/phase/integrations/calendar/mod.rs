//! The checks of calendars: C1 to C8 of what the application exports, I1 to I4 of what it imports.
//!
//! [`check`] asks through a function that it is given, at most three times for the export and three times
//! for each page that shows the import, and returns an outcome for each check. It decides nothing about when
//! it runs. What one run must remember for the next is a [`Memory`]: without it, as after a restart, a run
//! proves a little less and fails nothing that works.
//!
//! The judges are pure: `export.rs` and `import.rs`. `answer.rs` says which answer means what.

mod answer;
mod export;
mod feeds;
mod import;
mod plan;
#[cfg(test)]
mod served;
#[cfg(test)]
mod tests;

pub use feeds::{Feed, FeedsFault, feeds, parse_feeds, unreadable};
pub use plan::{Fetched, PAUSE, Plan, Request, Shown};

use std::{collections::BTreeMap, time::Duration, time::Instant};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::Semaphore;

use self::plan::Exported;
use super::outcome::Outcome;
use crate::ical::{self, Calendar, Event};

/// Most readings of an age in one run.
const READINGS: usize = 3;

/// Most events of the last export that are remembered.
const MAX_REMEMBERED: usize = 2_000;

/// When to run again if the age of the last import has been exactly 0 at every reading.
const AGAIN: Duration = Duration::from_secs(60);

/// What a run remembers for the next one. It belongs to one application and one plan.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Events of the last export, unless there were too many.
    export: Vec<Event>,
    /// The last number of imported events above 0, and when it was read.
    imported: Option<(f64, Instant)>,
    /// Since when the age has been exactly 0 at every reading, and at how many.
    zero: Option<(Instant, u32)>,
}

/// What a run found.
#[derive(Clone, Debug)]
pub struct Checked {
    /// One for each check, in the order of their ids.
    pub outcomes: Vec<Outcome>,
    /// For the next run.
    pub memory: Memory,
    /// When to run again, if something is not decided yet.
    pub again: Option<Duration>,
}

impl Checked {
    /// Takes what [`feeds`] found in the place of what the application shows.
    pub fn replace(&mut self, outcome: Outcome) {
        let outcomes = self.outcomes.iter_mut();
        for known in outcomes.filter(|known| known.id == outcome.id) {
            *known = outcome.clone();
        }
    }
}

/// Runs all checks. `now` is the present by the clock that dates are compared with.
pub async fn check<F, A>(plan: &Plan, before: &Memory, now: Timestamp, fetch: F) -> Checked
where
    F: Fn(Request) -> A,
    A: Future<Output = Fetched>,
{
    let exports = exports(plan, &fetch).await;
    let export = export::judge(&exports, &before.export, now);
    let mut memory = before.clone();
    let events = export.events;
    if let Some(events) = &events
        && (!events.is_empty() || before.export.is_empty())
    {
        memory.export = match events.len() <= MAX_REMEMBERED {
            true => events.clone(),
            false => Vec::new(),
        };
    }
    let import = import(plan, before, now, &fetch).await;
    let began = Instant::now();
    let (age, zero) = import::age(plan, &import.ages, before.zero, began);
    memory.zero = zero;
    let emptied = import::emptied(
        import.events.as_ref(),
        before
            .imported
            .map(|(count, since)| (count, began.saturating_duration_since(since))),
        events
            .as_deref()
            .map(|after| (before.export.as_slice(), after)),
        now,
    );
    if let Some(Ok(count @ 1.0..)) = import.events {
        memory.imported = Some((count, began));
    }
    let mut outcomes = export.outcomes;
    outcomes.extend([
        age,
        emptied,
        import::readable(import.events.as_ref()),
        import::conflicts(import.conflicts.as_ref()),
    ]);
    Checked {
        outcomes,
        memory,
        again: zero.map(|_| AGAIN),
    }
}

/// The export, twice; a third time if an event seems to have another `UID` in the second one.
async fn exports<F, A>(plan: &Plan, fetch: &F) -> Vec<Exported>
where
    F: Fn(Request) -> A,
    A: Future<Output = Fetched>,
{
    let once = async |check| {
        let request = Request {
            check,
            path: plan.export_path.clone(),
            accept: "text/calendar",
            limit: ical::MAX_BYTES,
        };
        let mut fetched = fetch(request).await;
        let body = fetched.as_mut().ok();
        let body = body.map_or_else(Bytes::new, |answer| std::mem::take(&mut answer.body));
        let (bytes, is_page) = (body.len(), body.trim_ascii_start().first() == Some(&b'<'));
        let calendar = match answer::of_export(&fetched) {
            Ok(_) => read(body).await,
            Err(_) => None,
        };
        Exported {
            fetched,
            bytes,
            is_page,
            calendar,
        }
    };
    let mut exports = vec![once("C1").await];
    if exports[0].calendar.is_none() {
        return exports;
    }
    exports.push(once("C5").await);
    if export::may_have_renamed(&exports) {
        exports.push(once("C5").await);
    }
    exports
}

/// Calendars that are read at the same time in this process: each may take several times its length in
/// memory.
static READING: Semaphore = Semaphore::const_new(2);

/// Reads a calendar beside the work of others: a large one takes a tenth of a second. None if that
/// failed.
async fn read(body: Bytes) -> Option<Calendar> {
    let place = READING.acquire().await.ok()?;
    let reading = tokio::task::spawn_blocking(move || {
        let calendar = ical::read(&body);
        drop((body, place));
        calendar
    });
    reading.await.ok()
}

/// Numbers that the application shows about its import.
struct Import {
    ages: Vec<import::Number>,
    events: Option<import::Number>,
    conflicts: Option<import::Number>,
}

/// Reads the numbers. Each page is asked for once; that with the age again while it proves nothing.
async fn import<F, A>(plan: &Plan, before: &Memory, now: Timestamp, fetch: &F) -> Import
where
    F: Fn(Request) -> A,
    A: Future<Output = Fetched>,
{
    let mut pages: BTreeMap<String, Fetched> = BTreeMap::new();
    let mut numbers = [None, None, None];
    let shown = [
        ("I1", &plan.age),
        ("I2", &plan.events),
        ("I4", &plan.conflicts),
    ];
    for ((check, shown), number) in shown.into_iter().zip(&mut numbers) {
        let Some(shown) = shown else { continue };
        let request = shown.request(check);
        let key = format!("{} {}", request.accept, request.path);
        if !pages.contains_key(&key) {
            pages.insert(key.clone(), fetch(request).await);
        }
        *number = pages.get(&key).map(|page| match check {
            "I1" => import::age_shown(shown, page, now),
            _ => import::number(shown, page),
        });
    }
    let [age, events, conflicts] = numbers;
    let mut ages: Vec<import::Number> = age.into_iter().collect();
    if let Some(shown) = &plan.age {
        // An age that was 0 in the run before is judged by time: more readings now add nothing.
        let readings = if before.zero.is_some() { 1 } else { READINGS };
        while ages.len() < readings && ages.last().is_some_and(import::proves_nothing) {
            tokio::time::sleep(plan.pause).await;
            let page = fetch(shown.request("I1")).await;
            ages.push(import::age_shown(shown, &page, now));
        }
    }
    Import {
        ages,
        events,
        conflicts,
    }
}
