//! What was observed in one watch, bounded: fine for the last hour, coarse for the days before.
//!
//! Time is cut into segments without holes. Each says how much of it was observed, and what was counted. A
//! segment that nobody observed is a gap and stays one.

use super::tally::{Cell, Kind, Tally, add};
use super::tracker::Tracker;

/// Milliseconds in a minute.
pub(super) const MINUTE: i64 = 60_000;

/// Milliseconds in an hour.
pub(super) const HOUR: i64 = 60 * MINUTE;

/// How wide segments are once they are this old: (age, width). Unit: milliseconds.
///
/// The start of a window is as near to what is asked for as half a width: 15 s up to an hour, 2.5 minutes up to
/// six hours, 7.5 minutes up to a day, 30 minutes up to five.
pub const WIDTHS: [(i64, i64); 5] = [
    (0, 30_000),
    (65 * MINUTE, 5 * MINUTE),
    (6 * HOUR + 10 * MINUTE, 15 * MINUTE),
    (25 * HOUR, HOUR),
    (122 * HOUR, 6 * HOUR),
];

/// Most segments. The two oldest that may be joined are joined first.
pub const MAX_SEGMENTS: usize = 640;

/// Most numbers of 8 bytes in all segments: 2 MiB. Above it the oldest segments are joined.
pub const MAX_NUMBERS: usize = 1 << 18;

/// Most releases of which a watch keeps figures of their own.
pub const MAX_RELEASES: usize = 16;

/// Most events of one observation: sums of many stay numbers.
const MAX_COUNT: f64 = 1e100;

/// Most objectives.
pub const MAX_OBJECTIVES: usize = 16;

/// A stretch of time.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Segment {
    /// After this, up to and with `to`. Unit: milliseconds since 1970.
    pub(super) from: i64,
    pub(super) to: i64,
    /// For each objective.
    pub(super) cells: Vec<Cell>,
}

impl Segment {
    fn middle(&self) -> i64 {
        i64::midpoint(self.from, self.to)
    }

    /// How many numbers it takes, about.
    fn weight(&self) -> usize {
        let tallies = self.cells.iter().filter_map(|cell| cell.tally.as_ref());
        // A cell itself has about a dozen.
        tallies.map(Tally::weight).sum::<usize>() + 12 * self.cells.len()
    }
}

/// Since when a release serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Unit: milliseconds since 1970.
    pub since: i64,
    /// Its number.
    pub release: u32,
}

/// What a window shows of one objective.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Where it begins: the start of a segment, as near to what was asked for as there is one.
    /// Unit: milliseconds since 1970.
    pub from: i64,
    /// Where it ends.
    pub to: i64,
    /// See [`Cell::seen`].
    pub seen: i64,
    /// See [`Cell::bridged`].
    pub bridged: i64,
    /// What was counted; none if nothing was observed.
    pub tally: Option<Tally>,
    /// The segment that the start asked for cuts in two: what the counts may be wrong by.
    pub cut: Option<Tally>,
    /// Whether that segment is part of the window.
    pub cut_inside: bool,
}

/// Why an observation was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushFault {
    /// It is not later than the last one.
    #[error("the observation is not later than the last one")]
    NotLater,
    /// It has not one cell for each objective, or one of another kind.
    #[error("the observation is of other objectives")]
    OtherObjectives,
    /// A count is negative or not a number, or more time was observed than passed.
    #[error("the observation has a count or a time that cannot be")]
    Unsound,
}

/// Everything that one watch has observed.
#[derive(Clone, Debug, PartialEq)]
pub struct Store {
    /// When the watch began: at Go-Live. Unit: milliseconds since 1970.
    pub(super) begin: i64,
    /// The kind of each objective.
    pub(super) kinds: Vec<Kind>,
    pub(super) segments: Vec<Segment>,
    pub(super) served: Vec<Served>,
    /// The last readings, so that what is counted while nobody reads is not lost.
    pub(super) tracker: Tracker,
}

impl Store {
    /// A watch that begins at this time, in milliseconds since 1970, with these objectives; more than
    /// [`MAX_OBJECTIVES`] are left out. `gap_after` is explained at [`Tracker::new`].
    #[must_use]
    pub fn new(begin: i64, mut kinds: Vec<Kind>, gap_after: i64) -> Self {
        kinds.truncate(MAX_OBJECTIVES);
        Self {
            begin,
            kinds,
            segments: Vec::new(),
            served: Vec::new(),
            tracker: Tracker::new(gap_after),
        }
    }

    /// When the watch began.
    #[must_use]
    pub fn begin(&self) -> i64 {
        self.begin
    }

    /// When the last observation was; the begin before the first one.
    #[must_use]
    pub fn end(&self) -> i64 {
        self.segments.last().map_or(self.begin, |last| last.to)
    }

    /// The kinds of the objectives.
    #[must_use]
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// The last readings of the instances, for [`Tracker::observe`].
    pub fn tracker(&mut self) -> &mut Tracker {
        &mut self.tracker
    }

    /// The releases that served, with the time since when.
    #[must_use]
    pub fn served(&self) -> &[Served] {
        &self.served
    }

    /// How many segments there are.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// Takes what was observed since the last observation.
    ///
    /// # Errors
    /// When it is not later, or not of the objectives of this watch.
    pub fn push(&mut self, at: i64, cells: Vec<Cell>) -> Result<(), PushFault> {
        let from = self.end();
        if at <= from {
            return Err(PushFault::NotLater);
        }
        let is_kind = |(cell, kind): (&Cell, &Kind)| {
            let tally = cell.tally.as_ref();
            tally.is_none_or(|tally| tally.kind() == *kind)
        };
        if cells.len() != self.kinds.len() || !cells.iter().zip(&self.kinds).all(is_kind) {
            return Err(PushFault::OtherObjectives);
        }
        let is_small = |cell: &Cell| {
            let tally = cell.tally.as_ref();
            tally.is_none_or(|tally| tally.events() < MAX_COUNT)
        };
        let is_possible = |cell: &Cell| is_small(cell) && is_sound(cell, at - from);
        if !cells.iter().all(is_possible) {
            return Err(PushFault::Unsound);
        }
        self.segments.push(Segment {
            from,
            to: at,
            cells,
        });
        self.compact(from);
        Ok(())
    }

    /// Notes that a release serves from this time on. The figures of releases do not mix. Of more than
    /// [`MAX_RELEASES`] the oldest are one.
    pub fn serve(&mut self, since: i64, release: u32) {
        let since = since.max(self.begin);
        if self
            .served
            .last()
            .is_some_and(|last| last.release == release)
        {
            return;
        }
        self.served.retain(|served| served.since < since);
        self.served.push(Served { since, release });
        if self.served.len() > MAX_RELEASES {
            self.served.remove(0);
        }
    }

    /// What an objective shows from this time to the last observation. None for an objective that does not
    /// exist.
    #[must_use]
    pub fn window(&self, objective: usize, from: i64) -> Option<Window> {
        self.between(objective, from, self.end())
    }

    /// What an objective shows while a release served: the last time it began to. None for a release that is
    /// not known.
    #[must_use]
    pub fn of_release(&self, objective: usize, release: u32) -> Option<Window> {
        let at = self
            .served
            .iter()
            .rposition(|served| served.release == release)?;
        let to = self
            .served
            .get(at + 1)
            .map_or(self.end(), |next| next.since);
        self.between(objective, self.served[at].since, to.min(self.end()))
    }

    /// What an objective shows between two times.
    fn between(&self, objective: usize, from: i64, to: i64) -> Option<Window> {
        self.kinds.get(objective)?;
        let mut window = Window {
            from: from.max(self.begin).min(to),
            to,
            seen: 0,
            bridged: 0,
            tally: None,
            cut: None,
            cut_inside: false,
        };
        let first = self
            .segments
            .partition_point(|segment| segment.to <= window.from);
        for (at, segment) in (first..).zip(&self.segments[first..]) {
            // A release begins inside a segment: that one belongs to where most of it is.
            if segment.middle() >= to {
                break;
            }
            let cell = &segment.cells[objective];
            if at == first && segment.from < window.from {
                window.cut.clone_from(&cell.tally);
                window.cut_inside = segment.middle() >= window.from;
                if !window.cut_inside {
                    window.from = segment.to;
                    continue;
                }
                window.from = segment.from;
            }
            window.seen += cell.seen;
            window.bridged += cell.bridged;
            add(&mut window.tally, cell.tally.as_ref());
        }
        window.from = window.from.min(window.to);
        Some(window)
    }

    /// The stretches of time of at least this length, in milliseconds, in which an objective was not
    /// observed.
    #[must_use]
    pub fn gaps(&self, objective: usize, least: i64) -> Vec<(i64, i64)> {
        let mut gaps: Vec<(i64, i64)> = Vec::new();
        for segment in &self.segments {
            if segment
                .cells
                .get(objective)
                .is_none_or(|cell| cell.seen > 0)
            {
                continue;
            }
            match gaps.last_mut() {
                Some(last) if last.1 == segment.from => last.1 = segment.to,
                _ => gaps.push((segment.from, segment.to)),
            }
        }
        gaps.retain(|(from, to)| to - from >= least);
        gaps
    }

    /// Takes over what another store of the same watch has observed: a process that ended, and the one that
    /// followed it. The one that observed first is continued by the other; where both observed, the first is
    /// believed, and what lies between them is a gap. Returns whether both are of one watch.
    pub fn merge(&mut self, other: Self) -> bool {
        if other.begin != self.begin || other.kinds != self.kinds {
            return false;
        }
        let others_first = match (self.first_seen(), other.first_seen()) {
            (Some(own), Some(others)) => others < own,
            (own, _) => own.is_none(),
        };
        let late = match others_first {
            true => std::mem::replace(self, other),
            false => other,
        };
        let end = self.end();
        let rest = late
            .segments
            .into_iter()
            .filter(|segment| segment.from >= end);
        let rest: Vec<Segment> = rest.collect();
        let Some(first) = rest.first().map(|first| first.from) else {
            return true;
        };
        if first > end {
            let (from, to) = (end, first);
            let cells = vec![Cell::default(); self.kinds.len()];
            self.segments.push(Segment { from, to, cells });
        }
        self.segments.extend(rest);
        self.tracker = late.tracker;
        for served in late.served {
            if self
                .served
                .last()
                .is_none_or(|last| last.since < served.since)
            {
                self.serve(served.since, served.release);
            }
        }
        self.compact(i64::MIN);
        true
    }

    /// When the first observation began.
    fn first_seen(&self) -> Option<i64> {
        let is_seen = |segment: &&Segment| segment.cells.iter().any(|cell| cell.seen > 0);
        let first = self.segments.iter().find(is_seen);
        first.map(|segment| segment.from)
    }

    /// Joins segments that became old enough to be coarser since the end was at `before`. Each is joined with
    /// the older one beside it when it passes a border of age, so that only the borders are looked at.
    fn compact(&mut self, before: i64) {
        let end = self.end();
        for (border, _) in WIDTHS {
            let older_than = |store: &Self, time: i64| {
                store.segments.partition_point(|segment| segment.to <= time)
            };
            let mut at = older_than(self, before.saturating_sub(border)).max(1);
            let mut stop = older_than(self, end.saturating_sub(border));
            while at < stop {
                let (a, b) = (&self.segments[at - 1], &self.segments[at]);
                if self.may_join(a, b) && self.is_one_cell(a, b, width(end - b.to)) {
                    self.join(at - 1);
                    stop -= 1;
                } else {
                    at += 1;
                }
            }
        }
        let mut weight: usize = self.segments.iter().map(Segment::weight).sum();
        while self.segments.len() > MAX_SEGMENTS || weight > MAX_NUMBERS {
            let pairs = self.segments.windows(2);
            let mut pairs = pairs.map(|pair| self.may_join(&pair[0], &pair[1]));
            let Some(at) = pairs.position(|may| may) else {
                return;
            };
            let two = self.segments[at].weight() + self.segments[at + 1].weight();
            self.join(at);
            weight = (weight + self.segments[at].weight()).saturating_sub(two);
        }
    }

    /// Joins the older half of the segments in pairs. Returns whether there were any that may be joined.
    fn coarsen(&mut self) -> bool {
        let (before, mut at) = (self.segments.len(), 0);
        while at < before.div_ceil(2) && at + 1 < self.segments.len() {
            if self.may_join(&self.segments[at], &self.segments[at + 1]) {
                self.join(at);
            }
            at += 1;
        }
        self.segments.len() < before
    }

    /// The store as bytes, at most `most` of them: coarser if it must be; then without the last readings, so
    /// that a restart leaves a gap; then with all that was counted as a gap. Returns whether it is all there.
    #[must_use]
    pub fn encode_within(&self, most: usize) -> (Vec<u8>, bool) {
        let bytes = self.encode();
        if bytes.len() <= most {
            return (bytes, true);
        }
        let mut small = self.clone();
        loop {
            let joined = small.coarsen();
            let bytes = small.encode();
            if bytes.len() <= most {
                return (bytes, false);
            }
            if !joined {
                break;
            }
        }
        small.tracker.forget_all();
        let bytes = small.encode();
        if bytes.len() <= most {
            return (bytes, false);
        }
        for segment in &mut small.segments {
            segment.cells.fill(Cell::default());
        }
        (small.encode(), false)
    }

    /// Whether two segments are of one release.
    fn may_join(&self, a: &Segment, b: &Segment) -> bool {
        let is_between = |served: &Served| a.middle() < served.since && served.since <= b.middle();
        !self.served.iter().any(is_between)
    }

    /// Whether two segments end between the same two multiples of the width. A gap is wider, and stays.
    fn is_one_cell(&self, a: &Segment, b: &Segment, width: i64) -> bool {
        let cell = |segment: &Segment| (segment.to - 1 - self.begin).div_euclid(width);
        cell(a) == cell(b) && b.to - a.from <= width + self.tracker.gap_after
    }

    fn join(&mut self, at: usize) {
        let later = self.segments.remove(at + 1);
        let first = &mut self.segments[at];
        first.to = later.to;
        for (cell, more) in first.cells.iter_mut().zip(&later.cells) {
            cell.add(more);
        }
    }
}

/// How wide a segment of this age is at most.
fn width(age: i64) -> i64 {
    let fits = WIDTHS.iter().rev().find(|(from, _)| age >= *from);
    fits.map_or(WIDTHS[0].1, |(_, width)| *width)
}

/// Whether a cell can be of a stretch of time of this length.
pub(super) fn is_sound(cell: &Cell, length: i64) -> bool {
    let is_time = |time: i64| (0..=length).contains(&time);
    let is_time = is_time(cell.seen) && is_time(cell.bridged) && cell.seen + cell.bridged <= length;
    is_time && cell.tally.as_ref().is_none_or(Tally::is_sound)
}
