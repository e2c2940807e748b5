//! What is said of an objective: now, over the watch, and how fast its budget burns. Pure decisions about what
//! was observed; what was not observed is unknown.

use super::burn::{BurnRates, Pair, Severity};
use super::histogram::Range;
use super::objective::{Aim, Holds, Objective, Value};
use super::store::{MINUTE, Window};

/// The part of a window that must have been observed before it says anything.
pub const FILLED: f64 = 0.25;

/// The part of the whole watch that may be unobserved, with its sum unknown, in a verdict that every
/// objective held.
pub const MAX_LOST: f64 = 0.05;

/// The window that says how many lines of a log there are now.
///
/// Unit: milliseconds.
const LINES_NOW: i64 = 5 * MINUTE;

/// The window in which all values of a gauge must be outside its bound, and the fewest of them, before it
/// says that a release is to be rolled back.
///
/// Unit of the first: milliseconds.
const LASTING: (i64, f64) = (15 * MINUTE, 3.0);

/// How far bad events must exceed what the budget allows before a running watch speaks of a breach, in
/// standard deviations. Counts of rare events have the square root of what is expected as theirs.
///
/// Source: Google, The Site Reliability Workbook, "Low-Traffic Services and Error Budget Alerting": one bad
/// event of few is a high share and no news.
const DEVIATIONS: f64 = 3.0;

/// Why nothing is said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Doubt {
    /// Nothing was observed.
    NoData,
    /// The watch has just begun: less of the window has passed than is needed. Unit: milliseconds.
    TooEarly {
        /// What was observed.
        seen: i64,
        /// What is needed.
        needed: i64,
    },
    /// Too little of the window was observed. Unit: milliseconds.
    Gap {
        /// What was observed.
        seen: i64,
        /// What is needed.
        needed: i64,
    },
    /// There were fewer events than needed.
    InsufficientTraffic {
        /// How many.
        events: f64,
        /// How many are needed.
        needed: u32,
    },
    /// More events are bad than the budget allows, and so few that chance explains them.
    Chance {
        /// How many are bad.
        bad: f64,
        /// How many there are.
        events: f64,
    },
    /// The objective is no bound of a bucket, and the quantile lies in the bucket around it.
    BetweenBounds,
}

/// Whether an objective is met.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Standing {
    /// It is.
    Met,
    /// It is not.
    Breached,
    /// Nobody knows.
    Unknown(Doubt),
}

/// An objective in one window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// How long the window is. Unit: milliseconds.
    pub length: i64,
    /// Whether it is cut at the begin of the watch.
    pub partial: bool,
    /// How much of it was observed. Unit: milliseconds.
    pub seen: i64,
    /// How much was not observed, and has a known sum.
    pub bridged: i64,
    /// How many events there were.
    pub events: f64,
    /// What it shows; none without events.
    pub value: Option<Value>,
    /// Whether the objective is met in it.
    pub standing: Standing,
    /// How fast the budget burns in it; none if it says nothing.
    pub burn: Option<Range>,
}

/// Whether the budget burns at the rate of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Burning {
    /// In both windows.
    Yes,
    /// Not in both.
    No,
    /// One window that decides says nothing.
    Unknown,
}

/// A pair of windows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairFigure {
    /// Its windows and factor.
    pub pair: Pair,
    /// What the long window shows.
    pub long: Figure,
    /// What the short window shows.
    pub short: Figure,
    /// What follows from both.
    pub burning: Burning,
}

/// What is said of an objective at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// Whether it is met now: over the watch so far; a gauge by its last value, lines of a log over the last
    /// five minutes.
    pub now: Standing,
    /// The watch so far.
    pub whole: Figure,
    /// What is left of the budget of the events so far: 1 is all of it, less than 0 is a breach. None for a
    /// gauge, and where nothing is known.
    pub budget_left: Option<Range>,
    /// The pairs of windows; none for a gauge, which has no budget.
    pub pairs: Vec<PairFigure>,
    /// Whether the budget burns, and how urgent that is.
    pub alert: Alert,
    /// Whether what is out of bounds is no passing thing: all of several last values of a gauge, or more lines
    /// of a log over the watch than chance explains. Other objectives say that by their events.
    pub lasts: bool,
}

/// Whether the budget of an objective burns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alert {
    /// At least one pair burns; the most urgent one.
    Burning(Severity),
    /// No pair burns.
    Quiet,
    /// No pair burns by what is known, and some say nothing.
    Unknown,
}

/// The verdict on an objective at the end of a watch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// It held over the whole watch.
    Held,
    /// It did not.
    Broken,
    /// What was observed does not say it.
    Unknown(Missing),
}

/// What is missing for a verdict.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Missing {
    /// What [`Standing::Unknown`] says.
    Doubt(Doubt),
    /// The objective was met in what was observed, but too much of the watch was not. Unit: milliseconds.
    Lost {
        /// How much was neither observed nor has a known sum.
        lost: i64,
        /// How much may be.
        most: i64,
    },
}

impl Judgement {
    /// Whether the breach is beyond doubt: the objective is not met over the watch so far, by a count and not
    /// by an estimate. Together with a page it is what a rollback may follow from.
    #[must_use]
    pub fn is_exact_breach(&self) -> bool {
        let is_exact = match &self.whole.value {
            Some(Value::BadShare { share, .. }) => share.is_exact(),
            Some(Value::Quantile { slow, .. }) => slow.is_exact(),
            Some(Value::Level { .. } | Value::PerMinute(_)) => self.lasts,
            None => false,
        };
        is_exact && self.whole.standing == Standing::Breached && self.now == Standing::Breached
    }

    /// Whether a rollback may follow: a breach beyond doubt, or a budget that burns so fast that somebody is
    /// paged. Never what is unknown.
    #[must_use]
    pub fn may_roll_back(&self) -> bool {
        self.is_exact_breach() || self.alert == Alert::Burning(Severity::Page)
    }
}

/// Judges an objective.
///
/// `window` is what the store shows from a time on; `begin` is when the watch began, `now` is the time, and
/// `watch` its length, all in milliseconds.
#[must_use]
pub fn judge(
    objective: &Objective,
    rates: BurnRates,
    (begin, now, watch): (i64, i64, i64),
    window: impl Fn(i64) -> Option<Window>,
) -> Judgement {
    let figure = |length: i64| {
        let from = now.saturating_sub(length);
        let shown = window(from.max(begin));
        figure(objective, shown.as_ref(), length, from < begin)
    };
    let passed = now.saturating_sub(begin).max(0);
    // The watch so far is complete by what it is: it is not cut, it has just not ended.
    let whole = whole(objective, window(begin).as_ref(), passed);
    let standing = match (objective.aim, &whole.value) {
        (Aim::Level(bound), Some(Value::Level { last, .. })) if is_fresh(&figure(LINES_NOW)) => {
            match bound.holds(*last) {
                true => Standing::Met,
                false => Standing::Breached,
            }
        }
        (Aim::Level(_), _) => Standing::Unknown(Doubt::NoData),
        (Aim::Lines { .. }, _) => figure(LINES_NOW).standing,
        // Its end decides by the numbers alone.
        _ if passed >= watch => whole.standing,
        _ => so_far(objective, &whole),
    };
    let has_budget = !matches!(objective.aim, Aim::Level(_));
    let pairs = rates.pairs(watch).into_iter().filter(|_| has_budget);
    let pairs = pairs.map(|pair| {
        let (long, short) = (figure(pair.long), figure(pair.short));
        PairFigure {
            pair,
            long,
            short,
            burning: burning(objective, &pair, &long, &short),
        }
    });
    let pairs: Vec<PairFigure> = pairs.collect();
    Judgement {
        now: standing,
        budget_left: budget_left(objective, &whole),
        alert: alert(&pairs),
        lasts: lasts(objective, &whole, &figure(LASTING.0)),
        whole,
        pairs,
    }
}

/// The verdict at the end of a watch of this length.
#[must_use]
pub fn verdict(whole: &Figure, watch: i64) -> Verdict {
    match whole.standing {
        Standing::Breached => Verdict::Broken,
        Standing::Unknown(doubt) => Verdict::Unknown(Missing::Doubt(doubt)),
        Standing::Met => {
            let lost = (watch - whole.seen - whole.bridged).max(0);
            let most = (watch as f64 * MAX_LOST) as i64;
            match lost <= most {
                true => Verdict::Held,
                false => Verdict::Unknown(Missing::Lost { lost, most }),
            }
        }
    }
}

/// An objective while one release served: its own figures, beside those of the watch.
#[must_use]
pub fn of_release(objective: &Objective, shown: Option<&Window>) -> Figure {
    let length = shown.map_or(0, |shown| shown.to - shown.from);
    let figure = whole(objective, shown, length);
    Figure {
        standing: so_far(objective, &figure),
        ..figure
    }
}

/// What a figure says while more events are to come: a breach that may be chance is none yet.
fn so_far(objective: &Objective, figure: &Figure) -> Standing {
    let chance = figure.value.as_ref();
    match chance.and_then(|value| chance_of(objective, value)) {
        Some(doubt) if figure.standing == Standing::Breached => Standing::Unknown(doubt),
        _ => figure.standing,
    }
}

/// The doubt that so few events are bad by chance; none where they are too many for it, and where there is
/// no budget.
fn chance_of(objective: &Objective, value: &Value) -> Option<Doubt> {
    let budget = objective.aim.budget().filter(|budget| *budget > 0.0)?;
    let (bad, events) = match value {
        Value::BadShare { bad, total, .. } => (bad.low, *total),
        Value::Quantile { slow, total, .. } => (slow.low * total, *total),
        Value::Level { .. } | Value::PerMinute(_) => return None,
    };
    (bad <= explained(budget * events)).then_some(Doubt::Chance { bad, events })
}

/// An objective in all of a stretch of time.
fn whole(objective: &Objective, shown: Option<&Window>, length: i64) -> Figure {
    figure(objective, shown, length, false)
}

/// See [`Judgement::lasts`]; `recent` is what the last minutes show.
fn lasts(objective: &Objective, whole: &Figure, recent: &Figure) -> bool {
    match (objective.aim, &recent.value) {
        (Aim::Level(_), Some(Value::Level { outside, total, .. })) => {
            outside == total && *total >= LASTING.1
        }
        (Aim::Level(_), _) => false,
        (Aim::Lines { per_minute }, _) => {
            let minutes = whole.seen.saturating_add(whole.bridged) as f64 / MINUTE as f64;
            whole.events > explained(per_minute * minutes)
        }
        _ => true,
    }
}

/// How many bad events chance explains where so many are allowed. A budget of nothing allows none.
fn explained(allowed: f64) -> f64 {
    match allowed > 0.0 {
        // One more, because there is no half of a bad event.
        true => allowed + DEVIATIONS * allowed.sqrt() + 1.0,
        false => 0.0,
    }
}

/// Whether something was observed in the last minutes.
fn is_fresh(recent: &Figure) -> bool {
    recent.seen > 0
}

/// An objective in a window of this length.
fn figure(objective: &Objective, shown: Option<&Window>, length: i64, partial: bool) -> Figure {
    let (seen, bridged) = shown.map_or((0, 0), |shown| (shown.seen, shown.bridged));
    let tally = shown.and_then(|shown| shown.tally.as_ref());
    let events = tally.map_or(0.0, super::tally::Tally::events);
    // Lines that came while nobody looked came over the time that is bridged.
    let time = seen.saturating_add(bridged);
    let value = tally.and_then(|tally| objective.value(tally, time));
    let needed = (length as f64 * FILLED) as i64;
    let is_short = seen + bridged < needed;
    let has_minimum = objective.aim.kind() != super::tally::Kind::Lines;
    let standing = if seen + bridged == 0 {
        Standing::Unknown(Doubt::NoData)
    } else if is_short && partial {
        Standing::Unknown(Doubt::TooEarly { seen, needed })
    } else if is_short {
        Standing::Unknown(Doubt::Gap { seen, needed })
    } else if has_minimum && events < f64::from(objective.min_events) {
        let needed = objective.min_events;
        Standing::Unknown(Doubt::InsufficientTraffic { events, needed })
    } else {
        match value.as_ref().map(|value| objective.holds(value)) {
            None => Standing::Unknown(Doubt::NoData),
            Some(Holds::Yes) => Standing::Met,
            Some(Holds::No) => Standing::Breached,
            Some(Holds::BetweenBounds) => Standing::Unknown(Doubt::BetweenBounds),
        }
    };
    let says_something = match standing {
        Standing::Met | Standing::Breached | Standing::Unknown(Doubt::BetweenBounds) => true,
        Standing::Unknown(_) => false,
    };
    let burn = value.filter(|_| says_something);
    Figure {
        length,
        partial,
        seen,
        bridged,
        events,
        value,
        standing,
        burn: burn.and_then(|value| objective.burn(&value)),
    }
}

/// Both windows must burn; one that surely does not decides alone.
fn burning(objective: &Objective, pair: &Pair, long: &Figure, short: &Figure) -> Burning {
    let is_chance = |figure: &Figure| {
        let value = figure.value.as_ref();
        value.is_some_and(|value| chance_of(objective, value).is_some())
    };
    let burns = |figure: &Figure| match figure.burn {
        Some(burn) if burn.low >= pair.factor && is_chance(figure) => Burning::Unknown,
        Some(burn) if burn.low >= pair.factor => Burning::Yes,
        Some(burn) if burn.high < pair.factor => Burning::No,
        _ => Burning::Unknown,
    };
    match (burns(long), burns(short)) {
        (Burning::Yes, Burning::Yes) => Burning::Yes,
        (Burning::No, _) | (_, Burning::No) => Burning::No,
        _ => Burning::Unknown,
    }
}

fn alert(pairs: &[PairFigure]) -> Alert {
    let burning = pairs.iter().filter(|pair| pair.burning == Burning::Yes);
    if let Some(severity) = burning.map(|pair| pair.pair.severity).max() {
        return Alert::Burning(severity);
    }
    let is_known = pairs.iter().all(|pair| pair.burning == Burning::No);
    match is_known {
        true => Alert::Quiet,
        false => Alert::Unknown,
    }
}

/// What is left of the budget of the events so far.
fn budget_left(objective: &Objective, whole: &Figure) -> Option<Range> {
    objective.aim.budget()?;
    let burn = whole.burn?;
    Some(Range {
        low: 1.0 - burn.high,
        high: 1.0 - burn.low,
    })
}
