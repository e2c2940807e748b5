//! One look: what it needs, and what it finds.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    application::Application,
    fault::{Cause, Fault, Subject},
    lines::{self, Pattern},
    machines::Seen,
    pages::Pages,
    probes, series,
    server::{self, Asked},
    whom::Whom,
};
use crate::{
    api::metrics_source::MetricsSource,
    clock::watch::WatchClock,
    fly::{self, Machine},
    phase::{
        names::public_host,
        observe::reading::{self, Last, Question, Reached, Reading},
    },
    pipeline::Cx,
    slo::{Cell, Tally},
};

/// What a watch asks for, beside what the pass knows.
#[derive(Clone, Debug)]
pub struct Terms {
    /// What is asked.
    pub asked: reading::Asked,
    /// Where metrics come from, as the spec says it.
    pub source: MetricsSource,
    /// The clock of the watch.
    pub clock: WatchClock,
    /// Longest time between two looks that leaves no gap, in time of the watch.
    pub gap_after: Duration,
    /// The release that serves: part of the mark of every request.
    pub release: u64,
}

/// A look that may be made.
#[derive(Clone, Debug)]
pub struct Look {
    terms: Terms,
    application: Application,
    machines: Vec<Seen>,
    /// Whether there are machines, and none of them has a service.
    unserved: bool,
    prometheus: Result<Option<Asked>, Cause>,
    fly: fly::Client,
    app: String,
}

impl Look {
    /// A look at these machines of the application of a pass, on these terms.
    #[must_use]
    pub fn new(cx: &Cx, terms: Terms, machines: &[Machine]) -> Self {
        Self::of(&Whom::of(cx), terms, machines)
    }

    /// The same, of whom it is told.
    #[must_use]
    pub fn of(whom: &Whom, terms: Terms, machines: &[Machine]) -> Self {
        let application = Application::new(
            whom.probe.clone(),
            public_host(&whom.app),
            format!("{}/{}", whom.activation, terms.release),
        );
        let seen: Vec<Seen> = machines.iter().filter_map(Seen::of).collect();
        Self {
            application,
            unserved: seen.is_empty() && !machines.is_empty(),
            machines: seen,
            prometheus: Asked::of(whom, &terms.source),
            fly: whom.fly.clone(),
            app: whom.app.clone(),
            terms,
        }
    }

    /// Makes it. Never fails: what could not be read is in the faults.
    pub async fn make(self, last: Last) -> Reading {
        let (metrics, probed, logged) =
            tokio::join!(self.metrics(&last), self.probes(&last), self.lines(&last));
        let at = self.terms.clock.now();
        let elapsed = self.elapsed(&last, at);
        let mut reading = metrics;
        reading.at = at;
        reading.next.at = Some(at);
        if reading.reached == Reached::Asleep {
            reading.cells = self.nothing_served(elapsed);
        }
        for (objective, probed) in probed {
            let seen = if probed.holds {
                elapsed
            } else {
                Duration::ZERO
            };
            reading.cells.insert(objective, cell(seen, probed.tally));
            let at = probed.at.map(|at| (objective, at));
            reading.next.probes.extend(at);
        }
        if let Some((objectives, logged)) = logged {
            let (cells, owed) = lines::settle(&logged, last.owed.as_ref(), (last.at, at), elapsed);
            reading.next.owed = owed;
            for (objective, cell) in objectives.into_iter().zip(cells) {
                reading.cells.insert(objective, cell);
                reading.faults.extend(logged.fault.clone().map(|why| Fault {
                    of: Subject::Objective(objective),
                    why,
                }));
            }
            reading.next.log = logged.next;
        }
        reading
    }

    /// How much time since the last look counts as observed: none when it is too long ago.
    fn elapsed(&self, last: &Last, at: Timestamp) -> Duration {
        let since = last.at.map(|last| at.duration_since(last));
        let since = since.and_then(|since| Duration::try_from(since).ok());
        let since = since.filter(|since| *since <= self.terms.gap_after);
        since.unwrap_or_default()
    }

    /// The figures of the objectives on metrics.
    async fn metrics(&self, last: &Last) -> Reading {
        if !self.terms.asked.has_metrics() {
            return Reading::empty(Reached::NotAsked);
        }
        let failed = |why: &Cause| {
            let mut reading = Reading::empty(Reached::Nobody);
            reading.faults.push(Fault {
                of: Subject::Metrics,
                why: why.clone(),
            });
            reading
        };
        match &self.prometheus {
            Err(why) => failed(why),
            Ok(None) if self.unserved => failed(&Cause::NoService),
            Ok(None) => {
                let path = self.terms.source.metrics_path.as_deref();
                let pages = Pages {
                    application: &self.application,
                    path: path.unwrap_or("/metrics"),
                    sources: &self.terms.asked.sources(),
                    clock: &self.terms.clock,
                };
                pages.read(&self.machines).await
            }
            Ok(Some(asked)) => {
                let read = self.series(asked, last).await;
                read.unwrap_or_else(|why| Reading {
                    next: Last {
                        prometheus: last.prometheus,
                        ..Last::default()
                    },
                    ..failed(&why)
                })
            }
        }
    }

    /// The figures that a Prometheus has since the last look.
    async fn series(&self, asked: &Asked, last: &Last) -> Result<Reading, Cause> {
        let begun = Instant::now();
        let now = asked.now(begun + server::TIMEOUT).await?;
        let clock = &self.terms.clock;
        let since = last.at.map(|last| clock.now().duration_since(last));
        let since = since.and_then(|since| Duration::try_from(since).ok());
        let pause = clock.takes(since.unwrap_or_default());
        let ago = i64::try_from(pause.as_millis()).ok();
        let before = last.prometheus.or(since.and(ago).map(|ago| now - ago));
        let mut reading = Reading::empty(match asked {
            Asked::Own(..) => Reached::Prometheus,
            Asked::Fly(..) => Reached::FlyPrometheus,
        });
        let Some(span) = series::span(before, now, pause) else {
            reading.next.prometheus = before;
            return Ok(reading);
        };
        reading.next.prometheus = Some(span.until);
        let questions = &self.terms.asked.questions;
        let counted = series::count(asked, &self.app, questions, span).await;
        let at = clock.now();
        for (objective, counted) in counted {
            match counted {
                Ok(Some(tally)) => {
                    let cell = self.cell_of(tally, last, at);
                    reading.cells.insert(objective, cell);
                }
                Ok(None) => {}
                Err(why) => reading.faults.push(Fault {
                    of: Subject::Objective(objective),
                    why,
                }),
            }
        }
        Ok(reading)
    }

    /// What a Prometheus has counted since the last look. It also counted while nobody looked.
    fn cell_of(&self, tally: Tally, last: &Last, at: Timestamp) -> Cell {
        let since = last.at.map(|last| at.duration_since(last));
        let since = since.and_then(|since| Duration::try_from(since).ok());
        let since = since.unwrap_or_default();
        let is_near = since <= self.terms.gap_after;
        let is_value = matches!(tally, Tally::Values(_));
        let near = cell(if is_near { since } else { Duration::ZERO }, Some(tally));
        Cell {
            bridged: match is_near || is_value {
                true => 0,
                false => millis(since),
            },
            ..near
        }
    }

    /// The probes of the objectives on availability.
    async fn probes(&self, last: &Last) -> BTreeMap<usize, probes::Probed> {
        let mut probed = BTreeMap::new();
        for (objective, question) in self.terms.asked.questions.iter().enumerate() {
            if let Question::Probe(page) = question {
                let before = last.probes.get(&objective).copied();
                let clock = &self.terms.clock;
                let probe = probes::probe(&self.application, (page, before), clock, &self.machines);
                probed.insert(objective, probe.await);
            }
        }
        probed
    }

    /// The lines of the objectives on the log, with the numbers of the objectives.
    async fn lines(&self, last: &Last) -> Option<(Vec<usize>, lines::Logged)> {
        let questions = self.terms.asked.questions.iter().enumerate();
        let patterns = questions.filter_map(|(objective, question)| match question {
            Question::Lines(pattern) => Some((objective, pattern)),
            _ => None,
        });
        let (objectives, patterns): (Vec<usize>, Vec<&Pattern>) = patterns.unzip();
        if objectives.is_empty() {
            return None;
        }
        let clock = &self.terms.clock;
        let now = self.fly.now();
        let owed = last.owed.as_ref().and_then(|owed| owed.since);
        let ago = owed
            .or(last.at)
            .map(|last| clock.now().duration_since(last));
        let ago = ago.and_then(|ago| Duration::try_from(ago).ok());
        let since = now.checked_sub(clock.takes(ago.unwrap_or_default()));
        let from = (last.log.as_deref(), since.unwrap_or(now));
        let logged = lines::count(&self.fly, &self.app, &patterns, from).await;
        Some((objectives, logged))
    }

    /// Cells that say that nothing was counted, because nothing was served.
    fn nothing_served(&self, elapsed: Duration) -> BTreeMap<usize, Cell> {
        let questions = self.terms.asked.questions.iter().enumerate();
        let metrics = questions.filter(|(_, of)| matches!(of, Question::Metric { .. }));
        metrics
            .map(|(objective, of)| (objective, cell(elapsed, Tally::none(of.kind()))))
            .collect()
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn cell(seen: Duration, tally: Option<Tally>) -> Cell {
    Cell {
        seen: millis(seen),
        bridged: 0,
        tally,
    }
}
