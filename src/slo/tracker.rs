//! The last readings of every instance, and what was added to them since.
//!
//! Each series of each instance is compared with itself, and only the increases are added up. So a restart of
//! one machine, a series that appears and one that vanishes change nothing of the others.

use std::collections::BTreeMap;

use super::counter::{Process, increase, is_new, process};
use super::histogram::Buckets;
use super::page::{Absence, Counter, Page, Reading, Source};
use super::tally::{Bound, Cell, Tally, Values, add};

/// Most instances whose readings are kept. The one that did not answer for the longest time goes first.
pub const MAX_INSTANCES: usize = 64;

/// Most numbers of 8 bytes in the readings that are kept, of all instances and objectives: 1 MiB. What does
/// not fit is absent, and its objective unknown.
pub const MAX_NUMBERS: usize = 1 << 17;

/// What answered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Instance {
    /// The machine of this id.
    Machine(String),
    /// Whatever is behind the edge. The start of the process tells one machine from another, if the page has
    /// it; without it two machines look like one that restarts.
    Edge,
}

/// Whose readings are kept together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Machine(String),
    /// By the start of the process, in tenths of a second since 1970.
    Process(i64),
    Edge,
}

impl Key {
    fn of_process(start: f64) -> Self {
        Self::Process((start * 10.0).round() as i64)
    }
}

/// The last readings of an instance.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Known {
    /// When. Unit: milliseconds since 1970.
    pub(super) at: i64,
    pub(super) start: Option<f64>,
    /// For each objective.
    pub(super) before: Vec<Before>,
}

impl Known {
    fn weight(&self) -> usize {
        self.before.iter().map(Before::weight).sum()
    }
}

/// The last reading for one objective.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Before {
    /// Nothing is known.
    Nothing,
    /// There was no series: all that one shows later was counted since.
    NoSeries,
    Counters(BTreeMap<u64, Counter>),
    Histograms(BTreeMap<u64, Buckets>),
    /// The sum of the series: what is left after a restart of the operator.
    Sum(Tally),
}

impl Before {
    /// How many numbers it takes, about.
    fn weight(&self) -> usize {
        match self {
            Self::Nothing | Self::NoSeries => 0,
            Self::Counters(counters) => weight_of_counters(counters),
            Self::Histograms(histograms) => weight_of_histograms(histograms),
            Self::Sum(tally) => tally.weight(),
        }
    }

    /// The sum of its series.
    pub(super) fn sum(&self) -> Option<Tally> {
        match self {
            Self::Nothing | Self::NoSeries => None,
            Self::Sum(tally) => Some(tally.clone()),
            Self::Counters(counters) => Some(sum_of_counters(counters)),
            Self::Histograms(histograms) => sum_of_histograms(histograms),
        }
    }
}

/// One observation of all instances.
#[derive(Clone, Debug, PartialEq)]
pub struct Round {
    /// When. Unit: milliseconds since 1970.
    pub at: i64,
    /// For each objective, what was added since the last round. Whoever observes an objective of
    /// [`Source::Elsewhere`] fills its cell before the round is pushed into the store.
    pub cells: Vec<Cell>,
    /// For each objective, why the last instance that had no reading had none.
    pub absent: Vec<Option<Absence>>,
    /// How many instances restarted.
    pub restarts: usize,
    /// How many instances were met for the first time.
    pub first: usize,
}

/// The last readings of every instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Tracker {
    /// Longest time between two readings that are one observation. Unit: milliseconds.
    pub(super) gap_after: i64,
    /// When the last round was.
    pub(super) last: Option<i64>,
    /// Since when every instance that answered is known.
    pub(super) since: Option<i64>,
    pub(super) instances: BTreeMap<Key, Known>,
}

/// What was added to one objective of one instance.
struct Change {
    tally: Option<Tally>,
    restarted: bool,
}

impl Tracker {
    /// Knows no instance. Two readings further apart than `gap_after` milliseconds leave a gap between them;
    /// three intervals are a good choice.
    #[must_use]
    pub fn new(gap_after: i64) -> Self {
        Self {
            gap_after: gap_after.max(1),
            last: None,
            since: None,
            instances: BTreeMap::new(),
        }
    }

    /// Notes one round: the pages that were read at this time, of `expected` instances. An instance that did
    /// not answer has no page here; what it counts meanwhile is added when it answers again.
    ///
    /// None when the time is not later than that of the last round: a clock was set back. Nothing is lost, the
    /// next round adds it.
    pub fn observe(
        &mut self,
        sources: &[Source],
        at: i64,
        expected: usize,
        pages: Vec<(Instance, Page)>,
    ) -> Option<Round> {
        if self.last.is_some_and(|last| at <= last) {
            return None;
        }
        let since = *self.since.get_or_insert(at);
        let elapsed = self.last.map_or(0, |last| at - last);
        self.last = Some(at);
        let mut sums: Vec<Sum> = sources.iter().map(|_| Sum::default()).collect();
        let (mut restarts, mut first) = (0, 0);
        let expected = expected.max(pages.len()).max(1);
        let mut room = MAX_NUMBERS.saturating_sub(self.numbers());
        for (instance, page) in pages {
            let Some((key, known)) = self.whose(instance, page.start, at) else {
                // What it counts is added when its machine answers again.
                continue;
            };
            first += usize::from(known.is_none());
            let whose = match &known {
                Some(known) => process(known.start, page.start),
                None => Process::Same,
            };
            // All that a process shows is new if it started since all instances are known.
            let is_new = known.is_none() && is_new(page.start, since, at);
            let is_near = known.as_ref().map_or(elapsed, |known| at - known.at) <= self.gap_after;
            let mut before = known.map_or_else(Vec::new, |known| known.before);
            before.resize(sources.len(), Before::Nothing);
            let mut restarted = whose == Process::Restarted;
            for ((sum, before), reading) in sums.iter_mut().zip(&mut before).zip(page.readings) {
                let reading = fitting(reading, before, &mut room);
                restarted |= sum.take(before, reading, whose, is_new, is_near);
            }
            restarts += usize::from(restarted);
            if key == Key::Edge {
                // The next page may be of another machine, which had the series all the time.
                let absent = before
                    .iter_mut()
                    .filter(|before| **before == Before::NoSeries);
                absent.for_each(|before| *before = Before::Nothing);
            }
            let start = page.start;
            self.instances.insert(key, Known { at, start, before });
        }
        self.forget();
        let cells = sums.iter_mut().zip(sources);
        let cells = cells.map(|(sum, source)| sum.cell(source, elapsed, expected, self.gap_after));
        Some(Round {
            at,
            cells: cells.collect(),
            absent: sums.iter().map(|sum| sum.absent).collect(),
            restarts,
            first,
        })
    }

    /// Whose page this is, and its last readings, which are taken out. None for a page of the edge of which
    /// nobody can say whose it is, while machines answer by themselves: it must not be counted twice.
    ///
    /// The edge is asked when no machine can be asked by itself, which may change from one look to the next.
    fn whose(
        &mut self,
        instance: Instance,
        start: Option<f64>,
        at: i64,
    ) -> Option<(Key, Option<Known>)> {
        match (instance, start) {
            (Instance::Machine(id), start) => {
                let key = Key::Machine(id);
                let known = self.instances.remove(&key);
                // Which machine was behind the edge, nobody knows.
                self.drop_where(|key, _| *key == Key::Edge);
                let shown = start.map(Key::of_process);
                let shown = shown.and_then(|key| self.instances.remove(&key));
                let later = [known, shown].into_iter().flatten();
                Some((key, later.max_by_key(|known| known.at)))
            }
            (Instance::Edge, Some(start)) => {
                let is_its = |(key, known): &(&Key, &Known)| {
                    matches!(key, Key::Machine(_))
                        && known.start.is_some()
                        && process(known.start, Some(start)) == Process::Same
                };
                let mut machines = self.instances.iter().filter(is_its);
                let key = machines.next().map(|(key, _)| key.clone());
                if machines.next().is_some() {
                    return None;
                }
                let key = key.unwrap_or_else(|| Key::of_process(start));
                let known = self.instances.remove(&key);
                Some((key, known))
            }
            (Instance::Edge, None) => {
                let is_machine = |key: &Key| matches!(key, Key::Machine(_));
                let machines = self.instances.iter().filter(|(key, _)| is_machine(key));
                let last = machines.map(|(_, known)| known.at).max();
                if last.is_some_and(|last| at - last <= self.gap_after) {
                    return None;
                }
                self.drop_where(|key, _| is_machine(key));
                let known = self.instances.remove(&Key::Edge);
                Some((Key::Edge, known))
            }
        }
    }

    /// Drops readings. One that answers again may be one of those: its base is what it shows then, unless it
    /// has started since.
    fn drop_where(&mut self, is_dropped: impl Fn(&Key, &Known) -> bool) {
        let dropped = self.instances.iter();
        let dropped = dropped.filter(|(key, known)| is_dropped(key, known));
        let last = dropped.map(|(_, known)| known.at).max();
        self.instances.retain(|key, known| !is_dropped(key, known));
        self.since = self.since.max(last);
    }

    /// Forgets every instance: what each shows next is its base.
    pub(super) fn forget_all(&mut self) {
        self.drop_where(|_, _| true);
    }

    /// Drops readings until there are at most [`MAX_INSTANCES`].
    fn forget(&mut self) {
        while self.instances.len() > MAX_INSTANCES {
            let oldest = self.instances.iter().min_by_key(|(_, known)| known.at);
            let Some((key, at)) = oldest.map(|(key, known)| (key.clone(), known.at)) else {
                return;
            };
            self.instances.remove(&key);
            // One that answers again may be that one.
            self.since = self.since.max(Some(at));
        }
    }

    /// How many numbers their readings take, about.
    #[must_use]
    pub fn numbers(&self) -> usize {
        self.instances.values().map(Known::weight).sum()
    }

    /// How many instances are known.
    #[must_use]
    pub fn instances(&self) -> usize {
        self.instances.len()
    }
}

/// The reading, if it fits in the place of the one before it; then it takes its part of the room.
fn fitting(reading: Reading, before: &Before, room: &mut usize) -> Reading {
    let weight = weight_of(&reading);
    if weight == 0 {
        return reading;
    }
    let free = *room + before.weight();
    match free.checked_sub(weight) {
        Some(left) => {
            *room = left;
            reading
        }
        None => Reading::Absent(Absence::TooMuch),
    }
}

/// What was added to one objective in a round.
#[derive(Default)]
struct Sum {
    tally: Option<Tally>,
    values: Vec<f64>,
    /// Instances whose increase is known, and whose last reading is near or far.
    near: usize,
    far: usize,
    absent: Option<Absence>,
}

impl Sum {
    /// Adds one instance. Returns whether its process restarted.
    fn take(
        &mut self,
        before: &mut Before,
        reading: Reading,
        whose: Process,
        is_new: bool,
        is_near: bool,
    ) -> bool {
        let (change, now) = match reading {
            Reading::Elsewhere => return false,
            Reading::Absent(absence) => {
                // The last reading stays: what is counted meanwhile is added when there is one again.
                self.absent = Some(absence);
                if absence == Absence::NoSeries && *before == Before::Nothing {
                    *before = Before::NoSeries;
                }
                return false;
            }
            Reading::Values(values) => {
                self.values.extend(values);
                self.near += 1;
                return false;
            }
            Reading::Counters(now) => {
                (counters(before, &now, whose, is_new), Before::Counters(now))
            }
            Reading::Histograms(now) => (
                histograms(before, &now, whose, is_new),
                Before::Histograms(now),
            ),
        };
        *before = now;
        if change.tally.is_some() {
            if is_near {
                self.near += 1;
            } else {
                self.far += 1;
            }
        }
        add(&mut self.tally, change.tally.as_ref());
        change.restarted
    }

    fn cell(&mut self, source: &Source, elapsed: i64, expected: usize, gap_after: i64) -> Cell {
        let share = |instances: usize| {
            let (instances, expected) = (instances as f64, expected as f64);
            (elapsed as f64 * (instances / expected).min(1.0)).round() as i64
        };
        let values = std::mem::take(&mut self.values);
        let bound = match source {
            Source::Gauge { bound, .. } | Source::Summary { bound, .. } => Some(*bound),
            _ => None,
        };
        if let Some(bound) = bound {
            return self.cell_of_values(
                source,
                values,
                bound,
                share(self.near),
                elapsed <= gap_after,
            );
        }
        let seen = share(self.near);
        // Both are rounded.
        let bridged = share(self.far).min(elapsed - seen);
        Cell {
            seen,
            bridged,
            tally: self.tally.take(),
        }
    }

    fn cell_of_values(
        &mut self,
        source: &Source,
        values: Vec<f64>,
        bound: Bound,
        seen: i64,
        is_near: bool,
    ) -> Cell {
        let is_summary = matches!(source, Source::Summary { .. });
        if is_summary && values.len() > 1 {
            self.absent = Some(Absence::SeveralQuantiles);
            return Cell::default();
        }
        let tally = Values::at_once(values, bound).map(Tally::Values);
        Cell {
            seen: if is_near && tally.is_some() { seen } else { 0 },
            bridged: 0,
            tally,
        }
    }
}

/// A key, a value, a mark, and the tree around them.
fn weight_of_counters(counters: &BTreeMap<u64, Counter>) -> usize {
    4 * counters.len()
}

fn weight_of_histograms(histograms: &BTreeMap<u64, Buckets>) -> usize {
    let weights = histograms.values().map(Buckets::weight);
    weights.sum::<usize>() + 2 * histograms.len()
}

fn weight_of(reading: &Reading) -> usize {
    match reading {
        Reading::Counters(counters) => weight_of_counters(counters),
        Reading::Histograms(histograms) => weight_of_histograms(histograms),
        Reading::Values(_) | Reading::Absent(_) | Reading::Elsewhere => 0,
    }
}

fn sum_of_counters(counters: &BTreeMap<u64, Counter>) -> Tally {
    let (mut total, mut bad) = (0.0, 0.0);
    for counter in counters.values() {
        total += counter.value;
        if counter.bad {
            bad += counter.value;
        }
    }
    Tally::Events { total, bad }
}

fn sum_of_histograms(histograms: &BTreeMap<u64, Buckets>) -> Option<Tally> {
    let mut sum: Option<Buckets> = None;
    for buckets in histograms.values() {
        match &mut sum {
            Some(sum) => sum.add(buckets),
            None => sum = Some(buckets.clone()),
        }
    }
    sum.map(Tally::Buckets)
}

/// What was added to the counters of an instance.
fn counters(before: &Before, now: &BTreeMap<u64, Counter>, whose: Process, is_new: bool) -> Change {
    let known = match before {
        Before::Counters(known) => known,
        Before::Sum(sum) => return after_sum(sum, Some(sum_of_counters(now)), whose),
        before => {
            let is_new = is_new || *before == Before::NoSeries;
            return Change {
                tally: is_new.then(|| sum_of_counters(now)),
                restarted: false,
            };
        }
    };
    let fell = |(key, now): (&u64, &Counter)| {
        known
            .get(key)
            .is_some_and(|before| now.value < before.value)
    };
    let restarted = whose == Process::Restarted || now.iter().any(fell);
    let whose = match restarted {
        true => Process::Restarted,
        false => Process::Same,
    };
    let (mut total, mut bad) = (0.0, 0.0);
    for (key, counter) in now {
        // A series that was not there began at zero since.
        let before = known.get(key).map_or(0.0, |before| before.value);
        let more = increase(before, counter.value, whose).unwrap_or_default();
        total += more;
        if counter.bad {
            bad += more;
        }
    }
    let tally = Some(Tally::Events { total, bad });
    Change { tally, restarted }
}

/// What was added to the histograms of an instance.
fn histograms(
    before: &Before,
    now: &BTreeMap<u64, Buckets>,
    whose: Process,
    is_new: bool,
) -> Change {
    let known = match before {
        Before::Histograms(known) => known,
        Before::Sum(sum) => return after_sum(sum, sum_of_histograms(now), whose),
        before => {
            let is_new = is_new || *before == Before::NoSeries;
            let tally = is_new.then(|| sum_of_histograms(now)).flatten();
            return Change {
                tally,
                restarted: false,
            };
        }
    };
    // Other bounds are those of another program.
    let fell = |(key, now): (&u64, &Buckets)| {
        known.get(key).is_some_and(|before| {
            let mut pairs = before.counts().iter().zip(now.counts());
            before.bounds() != now.bounds() || pairs.any(|(before, now)| now < before)
        })
    };
    let restarted = whose == Process::Restarted || now.iter().any(fell);
    let mut sum: Option<Tally> = None;
    for (key, buckets) in now {
        let added = match known.get(key) {
            Some(before) if !restarted => difference(before, buckets),
            _ => Some(buckets.clone()),
        };
        add(&mut sum, added.map(Tally::Buckets).as_ref());
    }
    Change {
        tally: sum,
        restarted,
    }
}

/// What was added to each bucket of one process. None when the bounds differ or a bucket fell.
fn difference(before: &Buckets, now: &Buckets) -> Option<Buckets> {
    if before.bounds() != now.bounds() {
        return None;
    }
    let pairs = before.counts().iter().zip(now.counts());
    let pairs = now
        .bounds()
        .iter()
        .zip(pairs)
        .map(|(bound, (before, now))| (*bound, now - before));
    // A negative difference is no count.
    Buckets::new(pairs).ok()
}

/// What was added since the sum of the series was recorded. Which series there were is not known any more.
fn after_sum(before: &Tally, now: Option<Tally>, whose: Process) -> Change {
    let Some(now) = now else {
        return Change {
            tally: None,
            restarted: false,
        };
    };
    if whose == Process::Restarted {
        return Change {
            tally: Some(now),
            restarted: true,
        };
    }
    let added = match (before, &now) {
        (
            Tally::Events { total, bad },
            Tally::Events {
                total: now,
                bad: worse,
            },
        ) if now >= total && worse >= bad && worse - bad <= now - total => Some(Tally::Events {
            total: now - total,
            bad: worse - bad,
        }),
        (Tally::Buckets(before), Tally::Buckets(now)) => {
            difference(before, now).map(Tally::Buckets)
        }
        _ => None,
    };
    // What fell was a restart or a series that vanished. Which one, nobody knows: nothing is added.
    Change {
        restarted: false,
        tally: added,
    }
}
