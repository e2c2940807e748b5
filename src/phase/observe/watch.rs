//! The watch that is under way: what it has observed, and the looks in the background of the passes. A
//! journal of this process; `evidence` stores what must survive it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::{
    life::{self, About},
    question::Wanted,
    reading::{Last, Reading},
    report::{self, Judged},
    source::{
        fault::{Fault, Subject},
        look::Look,
    },
};
use crate::{
    api::{Reason, StepId, status::CheckResult},
    clock::watch::WatchClock,
    fly::{Machine, MachineState},
    pipeline::typed_map::TypedMap,
    process::{turnstile::Turnstile, waker::Waker},
    redact,
    slo::{
        Cell, Judgement, Severity, Standing, Store, Tally, judge, judge::of_release, page::Absence,
    },
    store::watch::Stored,
};

/// Longest time of one look, in real time.
const LIMIT: Duration = Duration::from_secs(120);

/// Longest fault that is shown, in bytes.
const LONGEST_FAULT: usize = 256;

/// Journal: the machines of the application, as the pass over the spec has seen them.
#[derive(Debug)]
struct SeenBySpec(Vec<Machine>);

/// Notes the machines that a pass over the spec has seen, for the watch beside it.
pub fn note_machines(journal: &TypedMap, machines: Vec<Machine>) {
    journal.set(SeenBySpec(machines));
}

/// The machines that a pass over the spec has seen last.
pub fn seen_by_spec(journal: &TypedMap) -> Option<Vec<Machine>> {
    journal.get::<SeenBySpec>().map(|seen| seen.0.clone())
}

/// A watch. Clones share one.
#[derive(Clone, Debug)]
pub struct Watch(Arc<Mutex<State>>);

/// What is known of a watch.
#[derive(Debug)]
pub struct State {
    /// What it is about.
    pub about: About,
    /// What was observed.
    pub store: Store,
    /// What is stored in Kubernetes.
    pub stored: Stored,
    /// When this process stored it last.
    pub written: Option<Instant>,
    /// Something was observed since.
    pub is_news: bool,
    /// The machines of the application, as they were seen last.
    pub machines: Vec<Machine>,
    last: Last,
    faults: Vec<Fault>,
    /// For each objective, why a page had nothing for it at the last look.
    absent: Vec<Option<Absence>>,
    job: Option<Job>,
}

/// The looks that are under way.
#[derive(Clone, Debug)]
struct Job {
    machines: Vec<Machines>,
    token: CancellationToken,
    waker: Arc<Mutex<Waker>>,
}

/// The time between two looks, in time of the watch.
pub fn look_every(wanted: &Wanted, clock: &WatchClock) -> Duration {
    let every = wanted.asked.origin.interval();
    life::look_every(every, |time| clock.takes(time), |real| clock.lasted(real))
}

/// A machine as far as looks depend on it: its id, its state, and the version of its configuration.
type Machines = (String, MachineState, String);

fn seen(machines: &[Machine]) -> Vec<Machines> {
    let machines = machines.iter();
    machines
        .map(|machine| {
            (
                machine.id.clone(),
                machine.state.clone(),
                machine.instance_id.clone(),
            )
        })
        .collect()
}

/// What the looks of one stretch of time need.
pub struct Round {
    /// The look.
    pub look: Look,
    /// What is watched.
    pub wanted: Arc<Wanted>,
    /// The clock of the watch.
    pub clock: WatchClock,
    /// Where looks take their places, and for whom.
    pub places: (Arc<Turnstile>, String),
    /// Wakes the object at the end.
    pub waker: Waker,
    /// When the looks end, in real time.
    pub until: Instant,
}

/// What is told of an objective at once when it changes.
pub type Told = (CheckResult, Reason, Option<bool>);

impl Watch {
    /// A watch that goes on with what is stored, or begins.
    pub fn new(about: About, store: Store, stored: Stored) -> Self {
        let last = match store.segments() {
            0 => Last::default(),
            _ => Timestamp::from_millisecond(store.end())
                .map_or_else(|_| Last::default(), Last::resumed),
        };
        Self(Arc::new(Mutex::new(State {
            about,
            store,
            stored,
            written: None,
            is_news: false,
            machines: Vec::new(),
            last,
            faults: Vec::new(),
            absent: Vec::new(),
            job: None,
        })))
    }

    /// What is known now.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether looks at these machines are under way; then their end wakes this one. Those at other machines
    /// end.
    pub fn is_looking(&self, waker: &Waker) -> bool {
        let mut state = self.state();
        let seen = seen(&state.machines);
        let Some(job) = &state.job else {
            return false;
        };
        if job.machines != seen {
            job.token.cancel();
        }
        *job.waker.lock().unwrap_or_else(PoisonError::into_inner) = waker.clone();
        if job.token.is_cancelled() {
            state.job = None;
            return false;
        }
        true
    }

    /// Ends the looks.
    pub fn stop(&self) {
        if let Some(job) = self.state().job.take() {
            job.token.cancel();
        }
    }

    /// Looks at the application again and again, until something is news or the time is over.
    pub fn look(&self, round: Round) {
        let job = Job {
            machines: seen(&self.state().machines),
            token: CancellationToken::new(),
            waker: Arc::new(Mutex::new(round.waker.clone())),
        };
        self.state().job = Some(job.clone());
        let watch = self.clone();
        tokio::spawn(redact::carry(async move {
            tokio::select! {
                () = job.token.cancelled() => return,
                () = watch.looks(&round) => {}
            }
            job.token.cancel();
            let waker = job
                .waker
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            waker.wake(Some(StepId::Objectives));
        }));
    }

    async fn looks(&self, round: &Round) {
        let clock = &round.clock;
        let every = look_every(&round.wanted, clock);
        let told = self.told(&round.wanted, clock.now());
        let end = self.state().about.begin;
        let end = end.saturating_add(round.wanted.length());
        loop {
            let last = self.state().last.clone();
            let next = last.at.and_then(|at| at.checked_add(every).ok());
            let pause = next.map_or(Duration::ZERO, |next| clock.until(next));
            clock.sleep(pause.min(every)).await;
            let place = round.places.0.enter(&round.places.1).await;
            let look = round.look.clone().make(last);
            let found = tokio::time::timeout(LIMIT, Box::pin(look)).await;
            drop(place);
            if let Ok(reading) = found {
                self.take(&round.wanted, reading);
            }
            let now = clock.now();
            let is_over = now.as_millisecond() >= end || Instant::now() >= round.until;
            if is_over || self.told(&round.wanted, now) != told {
                return;
            }
        }
    }

    /// Adds what a look found.
    pub fn take(&self, wanted: &Wanted, reading: Reading) {
        let mut state = self.state();
        let at = reading.at.as_millisecond();
        let from = state.store.end();
        let sources = wanted.asked.sources();
        let tracker = state.store.tracker();
        let round = tracker.observe(&sources, at, reading.expected, reading.pages);
        let Some(mut round) = round else {
            return;
        };
        for (objective, mut cell) in reading.cells {
            fit(&mut cell, at.saturating_sub(from));
            if let Some(slot) = round.cells.get_mut(objective) {
                *slot = cell;
            }
        }
        if let Err(fault) = state.store.push(at, std::mem::take(&mut round.cells)) {
            tracing::debug!(%fault, "a look of the watch is left out");
        }
        state.last = reading.next;
        state.faults = reading.faults;
        state.absent = round.absent;
        state.is_news = true;
    }

    /// What is said of the objectives at this time of the watch.
    pub fn told(&self, wanted: &Wanted, now: Timestamp) -> Vec<Told> {
        let state = self.state();
        let numbered = wanted.objectives.iter().enumerate();
        let told = numbered.map(|(number, named)| {
            let judgement = state.judgement(wanted, number, now);
            let (result, reason) = report::standing(&judgement, named.severity);
            let convicts = named.severity == Severity::Page && judgement.may_roll_back();
            (result, reason, convicts.then_some(true))
        });
        told.collect()
    }
}

/// Fits what was seen elsewhere into the time since the last segment: it counts from an earlier look, and the
/// time between them is a gap already. Of lines, those that came in it go with it.
fn fit(cell: &mut Cell, length: i64) {
    let length = length.max(0);
    let time = cell.seen.saturating_add(cell.bridged);
    if time <= length {
        return;
    }
    if let Some(Tally::Lines(lines)) = &mut cell.tally {
        *lines *= length as f64 / time as f64;
    }
    cell.seen = cell.seen.min(length);
    cell.bridged = cell.bridged.min(length - cell.seen);
}

impl State {
    /// What the figures of an objective say at this time of the watch.
    fn judgement(&self, wanted: &Wanted, number: usize, now: Timestamp) -> Judgement {
        let objective = &wanted.objectives[number].objective;
        let times = (self.store.begin(), now.as_millisecond(), wanted.length());
        judge(objective, wanted.rates, times, |from| {
            self.store.window(number, from)
        })
    }

    /// All objectives at this time of the watch, with the figures of the release that serves.
    pub fn judged<'a>(&self, wanted: &'a Wanted, release: u64, now: Timestamp) -> Vec<Judged<'a>> {
        let serves = u32::try_from(release).unwrap_or(u32::MAX);
        let numbered = wanted.objectives.iter().enumerate();
        let judged = numbered.map(|(number, named)| {
            let window = self.store.of_release(number, serves);
            let judgement = self.judgement(wanted, number, now);
            let fault = self.fault(wanted, number);
            Judged {
                named,
                fault: fault.or_else(|| self.absence(number, judgement.now)),
                judgement,
                release: Some((release, of_release(&named.objective, window.as_ref()))),
                at: self.looked_at(),
            }
        });
        judged.collect()
    }

    /// Why the pages have nothing for this objective, if that is why nothing is known.
    fn absence(&self, number: usize, now: Standing) -> Option<(String, String)> {
        let absence = self.absent.get(number).copied().flatten();
        let absence = absence.filter(|_| matches!(now, Standing::Unknown(_)))?;
        let action = match absence {
            Absence::NoSeries => "compare `metric` and `selector` with the page of metrics",
            Absence::TooMany | Absence::TooMuch => "choose fewer series by `selector`",
            Absence::SeveralQuantiles => "choose one series by `selector`, or use a histogram",
            Absence::NoCount | Absence::NoHistogram(_) => "correct what the application counts",
        };
        let text = format!("the page of metrics: {absence}");
        Some((text, action.to_owned()))
    }

    /// When the last look was.
    fn looked_at(&self) -> Option<Timestamp> {
        let is_any = self.store.segments() > 0;
        let at = Timestamp::from_millisecond(self.store.end()).ok();
        at.filter(|_| is_any)
    }

    /// What could not be read of this objective at the last look, and what to do about it.
    fn fault(&self, wanted: &Wanted, number: usize) -> Option<(String, String)> {
        let has_metric = matches!(
            wanted.asked.questions.get(number),
            Some(super::reading::Question::Metric { .. })
        );
        let mut faults = self.faults.iter();
        let fault = faults.find(|fault| match &fault.of {
            Subject::Objective(of) => *of == number,
            Subject::Machine(_) | Subject::Edge | Subject::Metrics => has_metric,
        })?;
        let text = crate::api::status::one_line(&fault.to_string(), LONGEST_FAULT);
        Some((text, fault.why.action().to_owned()))
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if let Some(job) = &self.job {
            job.token.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_time_that_is_a_gap_already_do_not_count_for_the_time_after_it() {
        let mut cell = Cell {
            seen: 30_000,
            bridged: 90_000,
            tally: Some(Tally::Lines(8.0)),
        };
        fit(&mut cell, 30_000);
        assert_eq!((cell.seen, cell.bridged), (30_000, 0));
        assert_eq!(cell.tally, Some(Tally::Lines(2.0)));
        let whole = cell.clone();
        fit(&mut cell, 60_000);
        assert_eq!(cell, whole);
    }
}
