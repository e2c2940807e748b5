//! The generated cases.

use std::collections::BTreeMap;

use crate::case::{Case, Compare, Pages, Sample, Truth};

/// Time of the first page. Unit: milliseconds since 1970.
pub const T0: i64 = 1_700_000_000_000;

/// Time between two pages. Unit: milliseconds.
pub const STEP: i64 = 30_000;

/// Pages of each machine, but one.
pub const STEPS: i64 = 24;

/// The bounds of the histogram, as an application may write them.
const BOUNDS: [(&str, f64); 7] = [
    ("0.1", 0.1),
    ("0.5", 0.5),
    ("1", 1.0),
    ("2.5", 2.5),
    ("3", 3.0),
    ("15", 15.0),
    ("+Inf", f64::INFINITY),
];

/// Numbers from a seed: xorshift64*.
#[derive(Clone, Debug)]
pub struct Draw(u64);

impl Draw {
    /// From this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below this.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }
}

/// The counters of one process.
#[derive(Clone, Debug, Default)]
struct Counters {
    good: f64,
    bad: f64,
    /// Not cumulative.
    buckets: [f64; 7],
    lines: f64,
}

impl Counters {
    fn draw(draw: &mut Draw, most: u64, unit: f64) -> Self {
        let mut counters = Self::default();
        // Where most requests are, so that quantiles fall everywhere.
        let slow = draw.below(7);
        for _ in 0..draw.below(most + 1) {
            let near = draw.below(3) + slow;
            let bucket = if draw.below(4) == 0 {
                draw.below(7)
            } else {
                near.min(6)
            };
            counters.buckets[bucket as usize] += unit;
            match draw.below(20) {
                0 => counters.bad += unit,
                _ => counters.good += unit,
            }
        }
        counters.lines = draw.below(5) as f64 * unit;
        counters
    }

    fn add(&mut self, more: &Self) {
        self.good += more.good;
        self.bad += more.bad;
        self.lines += more.lines;
        for (sum, more) in self.buckets.iter_mut().zip(more.buckets) {
            *sum += more;
        }
    }

    /// Every number that a page shows.
    fn shown(&self) -> Vec<f64> {
        let sums = self.buckets.iter().scan(0.0, |sum, more| {
            *sum += more;
            Some(*sum)
        });
        sums.chain([self.good, self.bad, self.lines]).collect()
    }

    /// Whether each number that is shown is less than before, or was zero.
    fn fell_from(&self, before: &Self) -> bool {
        let pairs = self.shown().into_iter().zip(before.shown());
        pairs
            .into_iter()
            .all(|(now, before)| now < before || before == 0.0)
    }

    fn count(&self, truth: &mut Truth) {
        truth.total += self.good + self.bad;
        truth.bad += self.bad;
        truth.lines += self.lines;
        for ((_, bound), more) in BOUNDS.iter().zip(self.buckets) {
            *truth.buckets.entry(bound.to_bits()).or_default() += more;
        }
    }

    fn page(&self, look: &Look) -> Vec<Sample> {
        let sample = |name, labels: &[(&'static str, &str)], value| {
            let labels = labels.iter().map(|(n, v)| (*n, (*v).to_owned()));
            let mut labels: Vec<_> = labels.collect();
            if let Some(version) = &look.version {
                labels.push(("version", version.clone()));
            }
            Sample {
                name,
                labels,
                value,
            }
        };
        let mut page = vec![sample("requests_total", &[("status", "200")], self.good)];
        if self.bad > 0.0 || !look.hides_zero {
            page.push(sample("requests_total", &[("status", "503")], self.bad));
        }
        page.push(sample("lines_total", &[], self.lines));
        let mut sum = 0.0;
        for ((le, bound), more) in BOUNDS.iter().zip(self.buckets) {
            sum += more;
            let longer = format!("{le}.0");
            let le = match look.points && bound.fract() == 0.0 && bound.is_finite() {
                true => longer.as_str(),
                false => le,
            };
            if look.without != Some(*bound) {
                page.push(sample("seconds_bucket", &[("le", le)], sum));
            }
        }
        if let Some(start) = look.start {
            page.push(Sample {
                name: "process_start_time_seconds",
                labels: Vec::new(),
                value: start,
            });
        }
        page
    }
}

/// How a process shows its counters.
#[derive(Clone, Debug, Default)]
struct Look {
    /// `le="1.0"` instead of `le="1"`.
    points: bool,
    /// A bound that it does not have.
    without: Option<f64>,
    /// Errors are shown from the first on.
    hides_zero: bool,
    /// A label of all series.
    version: Option<String>,
    /// `process_start_time_seconds`.
    start: Option<f64>,
}

/// What happens to one machine.
#[derive(Clone, Debug, Default)]
struct Life {
    look: Look,
    /// At which steps it restarts, and counts less than before.
    restarts: Vec<i64>,
    /// At which step it restarts and has overtaken its old counters already.
    overtakes: Option<i64>,
    /// At which steps it does not answer.
    silent: Vec<i64>,
    /// At which step it comes into being.
    begins: i64,
    /// What it has counted before the first page.
    offset: u64,
    /// At which step another version is deployed, which is a restart too.
    deploys: Option<i64>,
    /// What one event counts.
    unit: f64,
    /// Most events of a step.
    most: u64,
}

impl Life {
    fn usual(draw: &mut Draw) -> Self {
        Self {
            offset: draw.below(400),
            unit: 1.0,
            most: 1 + draw.below(30),
            ..Self::default()
        }
    }

    /// Its pages; what it counts from the first page on is added to the truth.
    fn pages(mut self, draw: &mut Draw, truth: &mut Truth) -> Pages {
        let mut pages = BTreeMap::new();
        let mut counters = Counters::draw(draw, self.offset, self.unit);
        for step in self.begins..=STEPS {
            let at = T0 + step * STEP;
            let new = Counters::draw(draw, self.most, self.unit);
            if step == self.begins {
                // A process that began inside the watch counts from zero.
                if self.begins > 0 {
                    counters = new;
                    counters.count(truth);
                }
            } else if self.overtakes == Some(step) {
                let mut more = counters.clone();
                more.add(&new);
                more.count(truth);
                counters = more;
                self.look.start = Some((at - STEP / 2) as f64 / 1000.0);
            } else if self.restarts.contains(&step) {
                let fell = (0..20).map(|_| Counters::draw(draw, self.most / 2, self.unit));
                let mut fell = fell.filter(|new| new.fell_from(&counters));
                // After a gap nobody knows what was shown last: zero is less in any case.
                let is_seen = self.silent.is_empty();
                counters = fell.next().filter(|_| is_seen).unwrap_or_default();
                counters.count(truth);
            } else if self.deploys == Some(step) {
                self.look.version = Some("2".into());
                counters = new;
                counters.count(truth);
                self.look.start = self.look.start.map(|_| (at - STEP / 2) as f64 / 1000.0);
            } else {
                // What is counted between the last page and a restart, nobody can know.
                if self.restarts.is_empty() || !self.silent.contains(&step) {
                    new.count(truth);
                }
                counters.add(&new);
            }
            if !self.silent.contains(&step) {
                pages.insert(at, counters.page(&self.look));
            }
        }
        pages
    }
}

/// Makes cases one after the other.
struct Maker {
    cases: Vec<Case>,
}

impl Maker {
    /// Cases with machines of these lives.
    fn lives(
        &mut self,
        kind: &'static str,
        compare: Compare,
        many: usize,
        lives: impl Fn(&mut Draw) -> Vec<Life>,
    ) {
        for _ in 0..many {
            let id = self.cases.len();
            let mut draw = Draw::new(id as u64 + 7);
            let mut truth = Truth::default();
            let lives = lives(&mut draw).into_iter();
            let machines = lives
                .map(|life| life.pages(&mut draw, &mut truth))
                .collect();
            self.push(kind, compare, machines, truth);
        }
    }

    fn push(&mut self, kind: &'static str, compare: Compare, machines: Vec<Pages>, truth: Truth) {
        self.cases.push(Case {
            id: self.cases.len(),
            kind,
            compare,
            machines,
            truth,
            from: T0,
            to: T0 + STEPS * STEP,
        });
    }
}

/// One to three machines.
fn some(draw: &mut Draw, change: impl Fn(&mut Draw, usize, &mut Life)) -> Vec<Life> {
    let count = 1 + draw.below(3) as usize;
    let mut lives: Vec<Life> = (0..count).map(|_| Life::usual(draw)).collect();
    for (number, life) in lives.iter_mut().enumerate() {
        change(draw, number, life);
    }
    lives
}

/// A step that is neither the first nor the last.
fn middle(draw: &mut Draw) -> i64 {
    2 + draw.below(STEPS as u64 - 4) as i64
}

/// All cases but those of burn rates, which are of three days.
#[must_use]
pub fn all() -> Vec<Case> {
    let mut maker = Maker { cases: Vec::new() };
    equal(&mut maker);
    documented(&mut maker);
    histograms(&mut maker);
    maker.cases
}

/// Cases in which Prometheus has our figures.
fn equal(maker: &mut Maker) {
    let equal = Compare::Equal;
    maker.lives("steady", equal, 35, |draw| some(draw, |_, _, _| {}));
    maker.lives("resets", equal, 50, |draw| {
        some(draw, |draw, _, life| {
            life.restarts = (0..=draw.below(3)).map(|_| middle(draw)).collect();
        })
    });
    maker.lives("scrapes that fail", equal, 20, |draw| {
        some(draw, |draw, _, life| {
            life.silent = (0..draw.below(12)).map(|_| middle(draw)).collect();
        })
    });
    maker.lives("a long gap", equal, 10, |draw| {
        some(draw, |_, _, life| life.silent = (6..18).collect())
    });
    maker.lives("a restart in a gap", equal, 10, |draw| {
        some(draw, |_, _, life| {
            life.silent = (6..12).collect();
            life.restarts = vec![12];
        })
    });
    maker.lives("fractions and large numbers", equal, 15, |draw| {
        some(draw, |draw, _, life| {
            life.unit = [0.25, 1e9, 0.1][draw.below(3) as usize];
        })
    });
    maker.lives("le=\"1\" beside le=\"1.0\"", equal, 10, |draw| {
        some(draw, |_, number, life| life.look.points = number == 1)
    });
    maker.lives("no traffic", equal, 3, |draw| {
        some(draw, |_, _, life| life.most = 0)
    });
}

/// Cases in which Prometheus extrapolates, or misses what it cannot know.
fn documented(maker: &mut Maker) {
    let documented = Compare::Documented;
    maker.lives("window between scrapes", documented, 15, |draw| {
        some(draw, |_, _, _| {})
    });
    for case in maker.cases.iter_mut().rev().take(15) {
        case.from -= 7_000;
        case.to += 11_000;
    }
    maker.lives("a series that appears", documented, 12, |draw| {
        some(draw, |_, _, life| {
            life.look.hides_zero = true;
            life.offset = 0;
        })
    });
    maker.lives("another version", documented, 10, |draw| {
        some(draw, |draw, _, life| {
            life.look.version = Some("1".into());
            life.deploys = Some(middle(draw));
        })
    });
    maker.lives("a new machine", documented, 10, |draw| {
        let mut lives = vec![Life::usual(draw), Life::usual(draw)];
        lives[0].look.start = Some(T0 as f64 / 1000.0 - 5_000.0);
        lives[1].begins = middle(draw);
        lives[1].look.start = Some((T0 + lives[1].begins * STEP) as f64 / 1000.0 - 9.0);
        lives
    });
    maker.lives("a restart that overtook", documented, 8, |draw| {
        some(draw, |draw, _, life| {
            life.look.start = Some(T0 as f64 / 1000.0 - 5_000.0);
            life.overtakes = Some(middle(draw));
        })
    });
    maker.lives("layouts that differ", Compare::CommonBounds, 8, |draw| {
        let mut lives = vec![Life::usual(draw), Life::usual(draw)];
        lives[1].look.without = Some([0.5, 2.5, 15.0][draw.below(3) as usize]);
        lives
    });
    maker.lives("not a number", Compare::NoNumber, 4, |draw| {
        vec![Life::usual(draw)]
    });
    for case in maker.cases.iter_mut().rev().take(4) {
        for page in case
            .machines
            .iter_mut()
            .flat_map(|pages| pages.values_mut())
        {
            page.iter_mut().for_each(|sample| sample.value = f64::NAN);
        }
    }
}

/// Histograms that a sound application does not have.
fn histograms(maker: &mut Maker) {
    let odd: [&[(&str, f64)]; 10] = [
        // A bucket with more than the one above it.
        &[("1", 50.0), ("2", 40.0), ("3", 70.0), ("+Inf", 60.0)],
        &[("1", 10.0), ("2", 10.0), ("3", 9.0), ("+Inf", 10.0)],
        // Negative and zero bounds.
        &[("-1", 30.0), ("0", 60.0), ("1", 90.0), ("+Inf", 100.0)],
        &[("0", 80.0), ("1", 90.0), ("+Inf", 100.0)],
        // All in one bucket.
        &[("1", 0.0), ("2", 100.0), ("+Inf", 100.0)],
        &[("1", 0.0), ("2", 0.0), ("+Inf", 100.0)],
        &[("1", 100.0), ("2", 100.0), ("+Inf", 100.0)],
        // Few buckets.
        &[("+Inf", 100.0)],
        &[("5", 99.0), ("+Inf", 100.0)],
        &[("1e-9", 1.0), ("1e9", 99.0), ("+Inf", 100.0)],
    ];
    for buckets in odd {
        let mut pages = BTreeMap::new();
        for step in 0..=STEPS {
            let bucket = |(le, count): &(&str, f64)| Sample {
                name: "seconds_bucket",
                labels: vec![("le", (*le).to_owned())],
                value: count * step as f64,
            };
            let page = buckets.iter().map(bucket).collect();
            pages.insert(T0 + step * STEP, page);
        }
        let truth = Truth::default();
        maker.push("an odd histogram", Compare::Equal, vec![pages], truth);
    }
    for number in 0..15 {
        let mut draw = Draw::new(9_000 + number);
        let mut machines = Vec::new();
        for _ in 0..=draw.below(2) {
            let mut pages = BTreeMap::new();
            for step in 0..=STEPS {
                let value = draw.below(70) as f64 / 1.25 - 5.0;
                let sample = Sample {
                    name: "level",
                    labels: Vec::new(),
                    value,
                };
                pages.insert(T0 + step * STEP, vec![sample]);
            }
            machines.push(pages);
        }
        maker.push("a gauge", Compare::Equal, machines, Truth::default());
    }
}

/// Begin of the watches of three days, after all other cases. Unit: milliseconds since 1970.
pub const WATCH_BEGIN: i64 = T0 - T0 % 7_200_000 + 360_000_000;

/// Pages of the watches of three days. Unit: milliseconds.
pub const WATCH_STEP: i64 = 60_000;

/// Watches of three days, with bursts of errors and of slow requests, restarts and an hour without a scrape.
#[must_use]
pub fn watches(first_id: usize) -> Vec<Case> {
    let watch = |id: usize| {
        let mut draw = Draw::new(id as u64);
        let mut machines = Vec::new();
        for _ in 0..2 {
            let (mut good, mut bad, mut fast) = (0.0, 0.0, 0.0);
            let mut pages = BTreeMap::new();
            for step in 0..=72 * 60 {
                if draw.below(1000) == 0 {
                    (good, bad, fast) = (0.0, 0.0, 0.0);
                }
                let hour = step / 60;
                let burst = (hour as u64 + id as u64).is_multiple_of(9);
                let more = draw.below(40) as f64;
                let wrong = draw.below(if burst { 9 } else { 2 }).min(more as u64) as f64;
                good += more - wrong;
                bad += wrong;
                fast += more - draw.below(if burst { 20 } else { 3 }).min(more as u64) as f64;
                // Hours that no window begins or ends in.
                if hour == 11 || hour == 50 {
                    continue;
                }
                let sample = |name, label, value: &str, number| Sample {
                    name,
                    labels: vec![(label, value.to_owned())],
                    value: number,
                };
                let page = vec![
                    sample("requests_total", "status", "200", good),
                    sample("requests_total", "status", "503", bad),
                    sample("seconds_bucket", "le", "3", fast),
                    sample("seconds_bucket", "le", "+Inf", good + bad),
                ];
                pages.insert(WATCH_BEGIN + step * WATCH_STEP, page);
            }
            machines.push(pages);
        }
        Case {
            id,
            kind: "a watch",
            compare: Compare::Equal,
            machines,
            truth: Truth::default(),
            from: WATCH_BEGIN,
            to: WATCH_BEGIN + 72 * 60 * WATCH_STEP,
        }
    };
    (first_id..first_id + 3).map(watch).collect()
}
