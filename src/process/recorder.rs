//! Writes events of `events.k8s.io/v1`. Repeats of the same news become one series; different news
//! never does: the note is part of the key. (kube's own `Recorder` leaves the note out, so that the
//! first message stays for ever.) Another time in a note is no news: the last lines of a program that ends
//! again and again differ by it alone. What one object repeats is limited, whatever happens to it.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::{
        core::v1::ObjectReference,
        events::v1::{Event as Written, EventSeries},
    },
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    core::ObjectMeta,
    runtime::events::{Event, EventType, Reporter},
};

use crate::clock::ServerClock;

/// A repeat after this time is an event of its own.
const SERIES: Duration = Duration::from_secs(6 * 60);

/// Events of one reason and action that one object may have at once.
const BURST: f64 = 10.0;

/// After that, one more in this time: ten an hour.
const ONE_IN: Duration = Duration::from_secs(6 * 60);

/// Events of one reason and action of one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    object: String,
    warning: bool,
    reason: String,
    action: String,
}

/// How many more events of one kind there may be.
#[derive(Debug)]
struct Budget {
    left: f64,
    at: Instant,
    exhausted: bool,
}

/// Whether an event may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Allowed {
    Yes,
    /// It is the first one that may not.
    NoMore,
    No,
}

impl Budget {
    fn full(now: Instant) -> Self {
        Self {
            left: BURST,
            at: now,
            exhausted: false,
        }
    }

    fn take(&mut self, now: Instant) -> Allowed {
        let passed = now.saturating_duration_since(self.at);
        self.at = now;
        self.left = (self.left + passed.as_secs_f64() / ONE_IN.as_secs_f64()).min(BURST);
        if self.left >= 1.0 {
            self.left -= 1.0;
            self.exhausted = false;
            return Allowed::Yes;
        }
        if std::mem::replace(&mut self.exhausted, true) {
            return Allowed::No;
        }
        Allowed::NoMore
    }

    /// Nothing is remembered of a kind whose budget is full again.
    fn is_full(&self, now: Instant) -> bool {
        let missing = ONE_IN.mul_f64(BURST - self.left);
        now.saturating_duration_since(self.at) >= missing
    }
}

/// The last event of each news, and the budgets.
#[derive(Debug, Default)]
struct Memory {
    series: HashMap<(Kind, String), (Instant, Written)>,
    budgets: HashMap<Kind, Budget>,
}

impl Memory {
    fn forget_old(&mut self, now: Instant) {
        let recent = |at: &Instant| now.saturating_duration_since(*at) < SERIES;
        self.series.retain(|_, (at, _)| recent(at));
        self.budgets.retain(|_, budget| !budget.is_full(now));
    }
}

/// The note with the same word in the place of each time of day, with or without a date.
fn without_times(note: &str) -> String {
    let is_part = |c: char| c.is_ascii_digit() || matches!(c, ':' | '.' | '-' | '+' | 'T' | 'Z');
    let mut news = String::with_capacity(note.len());
    let mut rest = note;
    while let Some(begin) = rest.find(is_part) {
        let (before, from) = rest.split_at(begin);
        let (part, after) = from.split_at(from.find(|c| !is_part(c)).unwrap_or(from.len()));
        news.push_str(before);
        news.push_str(if is_time(part) { "TIME" } else { part });
        rest = after;
    }
    news + rest
}

/// Whether there is a time of day in it, as in `17:04:05`.
fn is_time(text: &str) -> bool {
    let is_digit = |at: usize, part: &[u8]| part.get(at).is_some_and(u8::is_ascii_digit);
    text.as_bytes().windows(8).any(|part| {
        let colons = part.get(2) == Some(&b':') && part.get(5) == Some(&b':');
        colons && [0, 1, 3, 4, 6, 7].iter().all(|at| is_digit(*at, part))
    })
}

/// Writes events.
pub struct Recorder {
    client: Client,
    reporter: Reporter,
    clock: ServerClock,
    memory: Mutex<Memory>,
}

impl Recorder {
    /// A recorder that has written nothing yet. Events have the time of this clock.
    pub fn new(client: Client, reporter: Reporter, clock: ServerClock) -> Self {
        Self {
            client,
            reporter,
            clock,
            memory: Mutex::default(),
        }
    }

    /// Writes an event about an object, or adds it to the series of the same news.
    ///
    /// # Errors
    /// When the API server refuses or cannot be reached.
    pub async fn publish(&self, event: &Event, about: &ObjectReference) -> Result<(), kube::Error> {
        let kind = kind(event, about);
        let news = (
            kind.clone(),
            without_times(event.note.as_deref().unwrap_or_default()),
        );
        let now = Instant::now();
        let known = {
            let mut memory = self.lock();
            memory.forget_old(now);
            let budget = memory.budgets.entry(kind);
            match budget.or_insert_with(|| Budget::full(now)).take(now) {
                Allowed::Yes => {}
                Allowed::No => return Ok(()),
                Allowed::NoMore => {
                    tracing::warn!(
                        object = %news.0.object, reason = %event.reason,
                        "too many events of this reason; the next ones are not published"
                    );
                    return Ok(());
                }
            }
            memory.series.get(&news).map(|(_, written)| written.clone())
        };
        let time = MicroTime(self.clock.now());
        let namespace = about.namespace.as_deref().unwrap_or("default");
        let api: Api<Written> = Api::namespaced(self.client.clone(), namespace);
        let written = match known {
            Some(mut written) => {
                let count = written.series.map_or(2, |series| series.count + 1);
                written.series = Some(EventSeries {
                    count,
                    last_observed_time: time.clone(),
                });
                let params = PatchParams::default();
                let patch = Patch::Merge(&written);
                match api.patch(&written.name_any(), &params, &patch).await {
                    Ok(_) => written,
                    // It has expired, or somebody deleted it.
                    Err(kube::Error::Api(status)) if status.is_not_found() => {
                        self.create(&api, event, about, time).await?
                    }
                    Err(error) => return Err(error),
                }
            }
            None => self.create(&api, event, about, time).await?,
        };
        self.lock().series.insert(news, (now, written));
        Ok(())
    }

    async fn create(
        &self,
        api: &Api<Written>,
        event: &Event,
        about: &ObjectReference,
        time: MicroTime,
    ) -> Result<Written, kube::Error> {
        let controller = &self.reporter.controller;
        let name = about.name.as_ref().unwrap_or(controller);
        let instance = self.reporter.instance.as_ref().unwrap_or(controller);
        let written = Written {
            action: Some(event.action.clone()),
            reason: Some(event.reason.clone()),
            event_time: Some(time.clone()),
            regarding: Some(about.clone()),
            note: event.note.clone(),
            metadata: ObjectMeta {
                namespace: about.namespace.clone(),
                name: Some(format!("{name}.{:x}", time.0.as_nanosecond())),
                ..ObjectMeta::default()
            },
            reporting_controller: Some(controller.clone()),
            reporting_instance: Some(instance.clone()),
            type_: Some(
                if is_warning(event) {
                    "Warning"
                } else {
                    "Normal"
                }
                .to_owned(),
            ),
            related: event.secondary.clone(),
            ..Written::default()
        };
        api.create(&PostParams::default(), &written).await?;
        Ok(written)
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_warning(event: &Event) -> bool {
    matches!(event.type_, EventType::Warning)
}

fn kind(event: &Event, about: &ObjectReference) -> Kind {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    Kind {
        object: format!(
            "{} {}/{} {}",
            text(&about.kind),
            text(&about.namespace),
            text(&about.name),
            text(&about.uid)
        ),
        warning: is_warning(event),
        reason: event.reason.clone(),
        action: event.action.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_object_has_ten_events_of_a_reason_at_once_and_then_ten_an_hour() {
        let start = Instant::now();
        let mut budget = Budget::full(start);
        let taken = (0..12).map(|_| budget.take(start)).collect::<Vec<_>>();
        assert!(taken[..10].iter().all(|taken| *taken == Allowed::Yes));
        assert_eq!(taken[10..], [Allowed::NoMore, Allowed::No]);
        assert!(!budget.is_full(start + ONE_IN));
        let hour = start + Duration::from_secs(3600);
        let taken = (0..11).map(|_| budget.take(hour)).collect::<Vec<_>>();
        assert_eq!(taken.iter().filter(|t| **t == Allowed::Yes).count(), 10);
        assert!(budget.is_full(hour + Duration::from_secs(3600)));
    }

    #[test]
    fn the_time_in_a_line_of_a_log_is_no_news_and_everything_else_is() {
        let lines = |time: &str, code: i32| {
            format!(
                "golive-app-0 exited with code {code}; its last lines: {{\"timestamp\":\"{time}\"}} bye"
            )
        };
        let news = without_times(&lines("2026-11-30T17:04:05.123456Z", 1));
        assert_eq!(news, lines("TIME", 1));
        assert_eq!(news, without_times(&lines("18:05:06", 1)));
        assert_ne!(news, without_times(&lines("17:04:05", 2)));
        let kept = "release 3 (r/a:1.2.3) in 2001:db8::17:4, 10:20 of 2026-11-30";
        assert_eq!(without_times(kept), kept);
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let now = Instant::now();
        let mut memory = Memory::default();
        let kind = Kind {
            object: String::new(),
            warning: false,
            reason: String::new(),
            action: String::new(),
        };
        let news = (kind.clone(), String::new());
        memory.series.insert(news, (now, Written::default()));
        let mut budget = Budget::full(now);
        budget.take(now);
        memory.budgets.insert(kind, budget);
        memory.forget_old(now);
        assert_eq!((memory.series.len(), memory.budgets.len()), (1, 1));
        memory.forget_old(now + SERIES);
        assert_eq!((memory.series.len(), memory.budgets.len()), (0, 0));
    }
}
