//! Rehearsals: an application that is made up, with machines, guests and days, through everything that reads
//! pages, adds up, judges and decides.
//!
//! `make test` takes hours of each application; `GOLIVE_CHAOS=full` (`make test-chaos`) takes the whole
//! 72 hours and judges after every look.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::json;

use super::{
    breach::{self, Follows, Releases, Suspect},
    life::About,
    question::Wanted,
    reading::{Reached, Reading},
    report,
    watch::Watch,
};
use crate::{
    api::{
        observe::Observe,
        status::{CheckResult, WatchState},
    },
    exposition::Format,
    slo::{Instance, Store, page},
    store::watch::Stored,
};

const BEGIN: i64 = 1_764_000_000_000;
const STEP: i64 = 30_000;
const HOUR: i64 = 3_600_000;

/// How often an application is made up.
const RUNS: u64 = 50;

fn is_full() -> bool {
    std::env::var("GOLIVE_CHAOS").is_ok_and(|value| value == "full")
}

/// Hours of a watch, and how many looks come before its figures are judged.
fn size() -> (i64, i64) {
    if is_full() { (72, 1) } else { (3, 10) }
}

/// SplitMix64: small, and every seed gives another series.
///
/// Source: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn falls(&mut self, chance: f64) -> bool {
        self.share() < chance
    }

    fn of<T: Copy>(&mut self, choice: &[T]) -> T {
        let at = self.next() % choice.len() as u64;
        choice[usize::try_from(at).unwrap()]
    }

    /// How many guests come when so many are expected.
    fn guests(&mut self, expected: f64) -> u32 {
        let whole = expected.floor();
        let spread = (self.share() + self.share() - 1.0) * expected.sqrt();
        let more = f64::from(u8::from(self.falls(expected - whole)));
        (whole + more + spread.round()).max(0.0) as u32
    }
}

/// How an application does.
#[derive(Clone, Copy, Debug)]
struct Health {
    /// Guests a second.
    rate: f64,
    errors: f64,
    slow_text: f64,
    slow_audio: f64,
    /// The greatest age of its calendars, in minutes.
    age: f64,
    /// It counts what it does.
    counts: bool,
    /// Its series appear with their first event, as those of many client libraries do. Until then nothing is
    /// known of them.
    is_lazy: bool,
}

impl Health {
    fn good(dice: &mut Dice) -> Self {
        Self {
            rate: dice.of(&[0.1, 0.2, 0.5, 2.0]),
            errors: dice.of(&[0.0, 0.001, 0.003]),
            slow_text: dice.of(&[0.0, 0.01, 0.02]),
            slow_audio: dice.of(&[0.0, 0.005, 0.01]),
            age: 16.0,
            counts: true,
            is_lazy: dice.falls(0.3),
        }
    }
}

const BOUNDS: [f64; 5] = [0.5, 1.0, 3.0, 15.0, 30.0];

/// One machine, and what its page shows.
#[derive(Clone, Debug, Default)]
struct Machine {
    id: String,
    start: f64,
    /// By kind (text, audio): good answers, and errors.
    answers: [[u64; 2]; 2],
    /// By kind: how many took at most each bound, and all.
    times: [[u64; 6]; 2],
    age: f64,
}

impl Machine {
    fn new(id: &str, at: i64) -> Self {
        Self {
            id: id.to_owned(),
            start: at as f64 / 1000.0,
            ..Self::default()
        }
    }

    fn serves(&mut self, dice: &mut Dice, health: &Health) {
        let kind = usize::from(dice.falls(0.1));
        let slow = dice.falls([health.slow_text, health.slow_audio][kind]);
        let (fast, late) = [(0.4, 4.0), (2.0, 20.0)][kind];
        let took = if slow { late } else { fast };
        let failed = dice.falls(health.errors);
        if !health.counts {
            return;
        }
        self.answers[kind][usize::from(failed)] += 1;
        for (count, bound) in self.times[kind].iter_mut().zip(BOUNDS) {
            *count += u64::from(took <= bound);
        }
        self.times[kind][5] += 1;
    }

    fn page(&self, is_lazy: bool) -> String {
        let mut text = format!("process_start_time_seconds {}\n", self.start);
        let is_shown = |count: u64| count > 0 || !is_lazy;
        let of_kinds = self.answers.iter().zip(&self.times);
        for (kind, (answers, times)) in ["text", "audio"].iter().zip(of_kinds) {
            for (status, count) in [200, 500].iter().zip(answers) {
                if is_shown(*count) {
                    let labels = format!("status=\"{status}\",kind=\"{kind}\"");
                    let _ = writeln!(text, "http_requests_total{{{labels}}} {count}");
                }
            }
            for (bound, count) in ["0.5", "1", "3", "15", "30", "+Inf"].iter().zip(times) {
                if is_shown(times[5]) {
                    let labels = format!("kind=\"{kind}\",le=\"{bound}\"");
                    let name = "http_request_duration_seconds_bucket";
                    let _ = writeln!(text, "{name}{{{labels}}} {count}");
                }
            }
        }
        let _ = writeln!(text, "ical_last_sync_age_minutes {}", self.age);
        text
    }
}

fn wanted(on_breach: &str) -> Wanted {
    let (hours, _) = size();
    let spec: Observe = serde_json::from_value(json!({
        "window": format!("{hours}h"), "onBreach": on_breach,
        "objectives": [
            {"name": "text", "latency": {"metric": "http_request_duration_seconds", "selector": {"kind": "text"}, "below": "3s"}},
            {"name": "audio", "latency": {"metric": "http_request_duration_seconds", "selector": {"kind": "audio"}, "below": "15s"}},
            {"name": "errors", "errorRate": {"metric": "http_requests_total", "errorSelector": {"status": "5.."}, "below": "1%"}},
            {"name": "calendars", "gauge": {"metric": "ical_last_sync_age_minutes", "below": 30}},
        ],
    }))
    .unwrap();
    Wanted::of(&spec).unwrap()
}

/// A watch of an application that is made up.
struct Rehearsal {
    wanted: Wanted,
    watch: Watch,
    dice: Dice,
    machines: Vec<Machine>,
    health: Health,
    release: u64,
    at: i64,
    /// Until when there is nobody, or a crowd, and how many times as many.
    spell: (i64, f64),
}

/// What was said at a time.
#[derive(Debug)]
struct Said {
    results: Vec<(String, CheckResult, String)>,
    follows: Follows,
}

impl Said {
    fn result(&self, name: &str) -> CheckResult {
        let mut results = self.results.iter();
        results.find(|(of, ..)| of == name).unwrap().1
    }
}

impl Rehearsal {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x1000_0001) + 7);
        let health = Health::good(&mut dice);
        let wanted = wanted("RollBack");
        let about = About {
            begin: BEGIN,
            ..About::default()
        };
        let store = Store::new(BEGIN, wanted.asked.kinds(), STEP * 3);
        let watch = Watch::new(about, store, Stored::default());
        watch.state().store.serve(BEGIN, 1);
        Self {
            wanted,
            watch,
            dice,
            machines: ["m1", "m2"].map(|id| Machine::new(id, BEGIN - HOUR)).into(),
            health,
            release: 1,
            at: BEGIN,
            spell: (BEGIN, 1.0),
        }
    }

    /// Guests come, and one look is made. What can happen to a healthy application happens meanwhile.
    fn look(&mut self) {
        self.at += STEP;
        if self.at >= self.spell.0 {
            let (length, times) = match self.dice.next() % 400 {
                0 => (HOUR / 4, 10.0),
                1 => (HOUR * 2, 0.0),
                _ => (0, 1.0),
            };
            self.spell = (self.at + length, times);
        }
        let guests = self.dice.guests(self.health.rate * 30.0 * self.spell.1);
        for _ in 0..guests {
            let machine = usize::from(self.dice.falls(0.5)) % self.machines.len();
            self.machines[machine].serves(&mut self.dice, &self.health);
        }
        for machine in &mut self.machines {
            let age = machine.age + 0.5;
            machine.age = if age >= self.health.age { 0.0 } else { age };
            if self.health.age > 30.0 {
                machine.age = self.health.age;
            }
        }
        match self.dice.next() % 2000 {
            // A machine restarts: its counters begin at zero.
            0 => self.machines[0] = Machine::new("m1", self.at),
            // Another one takes its place.
            1 => {
                let id = format!("m{}", self.at);
                self.machines[1] = Machine::new(&id, self.at);
            }
            // The operator restarts.
            2 => self.restart(),
            _ => {}
        }
        let sources = self.wanted.asked.sources();
        let format = Format::of(Some("text/plain; version=0.0.4")).unwrap();
        let mut reading = Reading::empty(Reached::EachMachine);
        reading.at = Timestamp::from_millisecond(self.at).unwrap();
        reading.expected = self.machines.len();
        for machine in &self.machines {
            // One scrape of a hundred fails.
            if !self.dice.falls(0.01) {
                let page = page::read(
                    machine.page(self.health.is_lazy).as_bytes(),
                    format,
                    &sources,
                )
                .unwrap();
                let instance = Instance::Machine(machine.id.clone());
                reading.pages.push((instance, page));
            }
        }
        self.watch.take(&self.wanted, reading);
    }

    /// What another process reads of what this one has stored.
    fn restart(&mut self) {
        let (about, bytes) = {
            let state = self.watch.state();
            (state.about.clone(), state.store.encode())
        };
        let store = Store::decode(&bytes).unwrap();
        self.watch = Watch::new(about, store, Stored::default());
        // Nobody looks for two minutes.
        self.at += 4 * STEP;
    }

    /// Another release serves from now on, on machines of its own.
    fn deploy(&mut self, health: Health) {
        self.release += 1;
        self.health = health;
        let number = u32::try_from(self.release).unwrap();
        self.watch.state().store.serve(self.at, number);
        let at = self.at;
        let ids = ["a", "b"].map(|id| format!("{id}{}", self.release));
        self.machines = ids.map(|id| Machine::new(&id, at)).into();
    }

    fn says(&self) -> Said {
        let now = Timestamp::from_millisecond(self.at).unwrap();
        let state = self.watch.state();
        let judged = state.judged(&self.wanted, self.release, now);
        let suspects = judged.iter().map(|judged| {
            let (_, figure) = judged.release.as_ref().unwrap();
            let named = judged.named;
            Suspect::of(
                &named.name,
                named.severity,
                &judged.judgement,
                figure.standing,
            )
        });
        let suspects: Vec<Suspect<'_>> = suspects.collect();
        let releases = Releases {
            serving: self.release,
            is_of_watch: self.release > 1,
            before: (self.release > 1).then(|| self.release - 1),
            was_asked: false,
        };
        let results = judged
            .iter()
            .map(report::entry)
            .map(|entry| (entry.name, entry.result, entry.message));
        Said {
            results: results.collect(),
            follows: breach::follows(&suspects, self.wanted.on_breach, releases),
        }
    }

    fn verdict(&self) -> (WatchState, String) {
        let now = Timestamp::from_millisecond(BEGIN + self.wanted.length()).unwrap();
        let state = self.watch.state();
        let judged = state.judged(&self.wanted, self.release, now);
        let (verdict, _, told) = report::verdict(&self.wanted, &judged, &[]);
        (verdict, told)
    }

    /// Until so much of the watch has passed, with what is said meanwhile.
    fn until(&mut self, part: f64, mut said: impl FnMut(Said)) {
        let (_, every) = size();
        let end = BEGIN + (self.wanted.length() as f64 * part) as i64;
        let mut looks = 0;
        while self.at < end {
            self.look();
            looks += 1;
            if looks % every == 0 {
                said(self.says());
            }
        }
    }
}

#[test]
fn a_healthy_application_under_bursts_and_silence_gives_no_false_alarm_in_fifty_runs() {
    let mut others = Vec::new();
    for seed in 0..RUNS {
        let mut rehearsal = Rehearsal::new(seed);
        let health = rehearsal.health;
        let quiet = |said: Said| {
            let alarms = said.results.iter();
            let alarms = alarms.filter(|(_, result, _)| *result == CheckResult::Failed);
            let alarms: Vec<_> = alarms.collect();
            assert!(alarms.is_empty(), "seed {seed}: {health:?}: {alarms:#?}");
            assert_eq!(said.follows, Follows::Nothing, "seed {seed}: {health:?}");
        };
        rehearsal.until(0.3, quiet);
        // A healthy release has the same guests.
        rehearsal.deploy(health);
        rehearsal.until(1.0, quiet);
        let (state, told) = rehearsal.verdict();
        assert_ne!(state, WatchState::NotStabilized, "seed {seed}: {told}");
        if state != WatchState::Stabilized {
            others.push(format!("seed {seed}: {told}"));
        }
    }
    // They had too few guests, or a hole: a series that is not there yet is not observed.
    let most = usize::try_from(RUNS / 2).unwrap();
    assert!(others.len() < most, "not stable: {others:#?}");
}

/// An objective, and what breaks it.
type Fault = (&'static str, fn(&mut Health));

#[test]
fn each_fault_that_shows_in_figures_breaches_its_objective_and_no_other_and_is_rolled_back() {
    let faults: [Fault; 4] = [
        ("text", |health| health.slow_text = 0.4),
        ("audio", |health| health.slow_audio = 0.6),
        ("errors", |health| health.errors = 0.1),
        ("calendars", |health| health.age = 90.0),
    ];
    for (seed, (objective, breaks)) in (0..RUNS / 5).flat_map(|seed| faults.map(|f| (seed, f))) {
        let mut rehearsal = Rehearsal::new(seed);
        rehearsal.health.rate = rehearsal.dice.of(&[0.5, 1.0, 2.0]);
        let mut health = rehearsal.health;
        rehearsal.until(0.2, drop);
        breaks(&mut health);
        rehearsal.deploy(health);
        let mut found = None;
        rehearsal.until(1.0, |said| {
            let (bad, right) = (said.result(objective), CheckResult::Failed);
            let others = said.results.iter().filter(|(name, ..)| name != objective);
            let others: Vec<_> = others.filter(|(_, result, _)| *result == right).collect();
            assert!(others.is_empty(), "seed {seed} {objective}: {others:#?}");
            if found.is_none() && said.follows != Follows::Nothing {
                assert_eq!(bad, right, "seed {seed} {objective}");
                found = Some(said.follows);
            }
        });
        let to = 1;
        let objective = objective.to_owned();
        let expected = Follows::RollBack { to, objective };
        assert_eq!(found, Some(expected), "seed {seed}");
    }
}

#[test]
fn a_release_that_counts_nothing_is_neither_good_nor_bad_and_is_never_rolled_back() {
    for seed in 0..RUNS / 5 {
        let mut rehearsal = Rehearsal::new(seed);
        rehearsal.until(0.2, drop);
        let counts = false;
        let health = Health {
            counts,
            is_lazy: true,
            errors: 0.5,
            ..rehearsal.health
        };
        rehearsal.deploy(health);
        rehearsal.until(1.0, |said| {
            assert_eq!(said.follows, Follows::Nothing, "seed {seed}");
            for (name, result, message) in said.results {
                assert_ne!(result, CheckResult::Failed, "seed {seed} {name}: {message}");
            }
        });
        let state = rehearsal.watch.state();
        let window = state.store.of_release(2, 2);
        let events = window.and_then(|window| window.tally);
        let events = events.map_or(0.0, |tally| tally.events());
        assert!(
            events.abs() < 1e-9,
            "seed {seed}: {events} events of nobody"
        );
    }
}
