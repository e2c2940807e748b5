//! What one look at an application finds: figures, and why some are missing. Plain data.
//!
//! [`super::source::look::Look::make`] makes one, in the background of the passes. Whoever watches puts it into a
//! [`crate::slo::Store`]:
//!
//! ```text
//! let round = store.tracker().observe(&asked.sources(), at, reading.expected, reading.pages);
//! for (objective, cell) in reading.cells { round.cells[objective] = cell; }
//! store.push(at, round.cells)
//! ```
//!
//! An objective that has neither a page nor a cell was not observed: nothing is known of it, and a fault
//! says why.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::source::{
    fault::Fault,
    lines::{Owed, Pattern},
};
use crate::{
    api::metrics_source::MetricsSource,
    slo::{Cell, Instance, Kind, Page, Source},
};

/// What is asked for one objective.
#[derive(Clone, Debug)]
pub enum Question {
    /// A metric: of the application's pages, or of a Prometheus.
    Metric {
        /// What is read. Never [`Source::Elsewhere`].
        source: Source,
        /// The objective of a histogram: native histograms, which only a Prometheus has, are asked at this
        /// bound.
        below: Option<f64>,
    },
    /// Whether the edge gives a good answer: the share of bad ones counts.
    Probe(ProbePage),
    /// How many lines of the log match.
    Lines(Pattern),
}

impl Question {
    /// The kind of its tallies.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Metric { source, .. } => source.kind(),
            Self::Probe(_) => Kind::Events,
            Self::Lines(_) => Kind::Lines,
        }
    }
}

/// A page that is requested from outside to see whether the application is available.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbePage {
    /// Path and query.
    pub path: String,
    /// Statuses of a good answer.
    pub good: Vec<u16>,
    /// Longest time of a good answer.
    pub within: Duration,
    /// Time between two probes, in time of the watch. A probe is made at the first look after it.
    pub interval: Duration,
}

/// Where metrics come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The application's own pages.
    Pages,
    /// A Prometheus.
    Prometheus,
    /// Fly.io's own Prometheus.
    FlyPrometheus,
}

impl Origin {
    /// That of a source.
    #[must_use]
    pub fn of(source: &MetricsSource) -> Self {
        match (&source.prometheus, &source.fly_prometheus) {
            (Some(_), _) => Self::Prometheus,
            (None, Some(_)) => Self::FlyPrometheus,
            (None, None) => Self::Pages,
        }
    }

    /// The time between two looks. Pages are read twice a minute. Of a Prometheus a window must have two
    /// scrapes at least, which are usually a minute apart; Fly.io's scrapes every 15 s.
    #[must_use]
    pub fn interval(self) -> Duration {
        match self {
            Self::Pages => Duration::from_secs(30),
            Self::Prometheus => Duration::from_secs(120),
            Self::FlyPrometheus => Duration::from_secs(60),
        }
    }
}

/// Everything that is asked in one look: the objectives in their order.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Where metrics come from.
    pub origin: Origin,
    /// For each objective.
    pub questions: Vec<Question>,
}

impl Asked {
    /// What the tracker reads of pages: only metrics, and only if pages are read.
    #[must_use]
    pub fn sources(&self) -> Vec<Source> {
        let source = |question: &Question| match (self.origin, question) {
            (Origin::Pages, Question::Metric { source, .. }) => source.clone(),
            _ => Source::Elsewhere(question.kind()),
        };
        self.questions.iter().map(source).collect()
    }

    /// Whether an objective asks for a metric.
    #[must_use]
    pub fn has_metrics(&self) -> bool {
        let mut questions = self.questions.iter();
        questions.any(|question| matches!(question, Question::Metric { .. }))
    }

    /// The kinds of the objectives' tallies.
    #[must_use]
    pub fn kinds(&self) -> Vec<Kind> {
        self.questions.iter().map(Question::kind).collect()
    }
}

/// How the figures of the metrics were reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// Each machine by itself.
    EachMachine,
    /// The edge gave one page, of whichever machine it chose. With several machines a look sees one of
    /// them, and [`Instance`] tells them apart only as far as the pages do.
    EdgeOnly,
    /// Every machine sleeps until the next request, and none was woken: nothing is served, so nothing is
    /// counted. Each objective on metrics has a cell that says so.
    Asleep,
    /// By a Prometheus.
    Prometheus,
    /// By Fly.io's own Prometheus.
    FlyPrometheus,
    /// Not at all; the faults say why.
    Nobody,
    /// No objective asks for a metric.
    NotAsked,
}

/// What one look found.
#[derive(Clone, Debug)]
pub struct Reading {
    /// When, by the clock of the watch.
    pub at: Timestamp,
    /// How the figures of the metrics were reached.
    pub reached: Reached,
    /// How many machines should have given a page: those that run. At least 1 unless pages are not read.
    pub expected: usize,
    /// How many machines sleep. They are not woken.
    pub asleep: usize,
    /// The pages that were read.
    pub pages: Vec<(Instance, Page)>,
    /// By the number of the objective, what was counted since the last look where it does not come from a
    /// page: it replaces the tracker's cell.
    pub cells: BTreeMap<usize, Cell>,
    /// What could not be read, and why.
    pub faults: Vec<Fault>,
    /// What the next look needs to know.
    pub next: Last,
}

/// What a look must know of the one before it. Held in memory: after a restart [`Last::resumed`] has what is
/// known from the stored evidence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Last {
    /// When it was, by the clock of the watch.
    pub at: Option<Timestamp>,
    /// Time of the last query by the clock of the Prometheus, in milliseconds since 1970.
    pub prometheus: Option<i64>,
    /// Where Fly.io's log was read up to: its token for the next page.
    pub log: Option<String>,
    /// Lines of the log that were read without the rest of their time.
    pub owed: Option<Owed>,
    /// For each objective on a probe, when the last one was, by the clock of the watch.
    pub probes: BTreeMap<usize, Timestamp>,
}

impl Last {
    /// After a restart: the last look was at this time, by the clock of the watch.
    #[must_use]
    pub fn resumed(at: Timestamp) -> Self {
        Self {
            at: Some(at),
            ..Self::default()
        }
    }
}

impl Reading {
    /// One that has found nothing yet.
    #[must_use]
    pub fn empty(reached: Reached) -> Self {
        Self {
            at: Timestamp::UNIX_EPOCH,
            reached,
            expected: 1,
            asleep: 0,
            pages: Vec::new(),
            cells: BTreeMap::new(),
            faults: Vec::new(),
            next: Last::default(),
        }
    }
}
