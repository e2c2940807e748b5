//! What is said of the objectives: figures and words for the status. Pure.

use jiff::Timestamp;

use super::question::{Named, Wanted, Words};
use crate::{
    api::{
        Reason,
        condition::whole_seconds,
        status::{
            BurnRateStatus, CheckResult, MAX_MESSAGE, ObjectiveStatus, ReleaseFigures, WatchState,
            one_line,
        },
    },
    pipeline::ObjectiveFigures,
    slo::{
        Aim, Alert, Bound, Judgement, Quantile, Range, Severity, Standing, Verdict,
        judge::{Burning, Doubt, Figure, Missing, PairFigure},
        objective::Value,
    },
};

/// One objective at a time.
#[derive(Clone, Debug)]
pub struct Judged<'a> {
    /// The objective.
    pub named: &'a Named,
    /// What its figures say.
    pub judgement: Judgement,
    /// The release that serves, and its own figures.
    pub release: Option<(u64, Figure)>,
    /// What could not be read at the last look, and what a person can do about it.
    pub fault: Option<(String, String)>,
    /// When the last look was, in time of the watch.
    pub at: Option<Timestamp>,
}

/// Its entry in the status, without the time of its last change.
pub fn entry(judged: &Judged<'_>) -> ObjectiveStatus {
    let Judged {
        named, judgement, ..
    } = judged;
    let whole = &judgement.whole;
    let (result, reason) = standing(judgement, named.severity);
    let passed = whole.length.max(1);
    let observed = (whole.seen.saturating_add(whole.bridged)).saturating_mul(100) / passed;
    ObjectiveStatus {
        name: named.name.clone(),
        description: named.description.clone(),
        severity: severity(named.severity).to_owned(),
        result,
        reason: reason.to_string(),
        message: one_line(&message(judged, reason), MAX_MESSAGE),
        value: value(named, whole),
        bound: bound(named),
        exact: judgement.whole.value.as_ref().is_some_and(is_exact),
        events: count(whole.events),
        observed_percent: observed.clamp(0, 100),
        budget_left: judgement.budget_left.map(percents).unwrap_or_default(),
        burning: burning(judgement, named.severity)
            .map(|burning| severity(burning).to_owned())
            .unwrap_or_default(),
        burn_rates: judgement.pairs.iter().map(pair).collect(),
        release: judged
            .release
            .as_ref()
            .map(|(number, figure)| ReleaseFigures {
                number: i64::try_from(*number).unwrap_or(i64::MAX),
                result: result_of(figure.standing),
                value: value(named, figure),
                events: count(figure.events),
            }),
        observed_at: judged.at.map(whole_seconds),
        time: None,
    }
}

/// The same as numbers, for metrics.
pub fn figures(judged: &Judged<'_>) -> ObjectiveFigures {
    let judgement = &judged.judgement;
    let (result, _) = standing(judgement, judged.named.severity);
    let middle = |range: Range| range.low + (range.high - range.low) / 2.0;
    let burn = judgement.pairs.iter().filter_map(|pair| {
        let burn = pair.long.burn?;
        Some((length(pair.pair.long), middle(burn)))
    });
    ObjectiveFigures {
        met: match result {
            CheckResult::Passed => Some(true),
            CheckResult::Failed => Some(false),
            _ => None,
        },
        budget_left: judgement.budget_left.map(middle),
        burn: burn.collect(),
    }
}

/// What is new when it changes: then the status is written at once.
pub fn standing(judgement: &Judgement, severity: Severity) -> (CheckResult, Reason) {
    if judgement.now == Standing::Breached {
        return (CheckResult::Failed, Reason::ObjectiveBreached);
    }
    if burning(judgement, severity).is_some() {
        return (CheckResult::Failed, Reason::BudgetBurning);
    }
    match judgement.now {
        Standing::Met => (CheckResult::Passed, Reason::ObjectivesMet),
        Standing::Breached => (CheckResult::Failed, Reason::ObjectiveBreached),
        Standing::Unknown(doubt) => (CheckResult::Unknown, reason_of(doubt)),
    }
}

/// How urgently its budget burns, no more urgent than the objective is.
fn burning(judgement: &Judgement, severity: Severity) -> Option<Severity> {
    match judgement.alert {
        Alert::Burning(burning) => Some(burning.min(severity)),
        Alert::Quiet | Alert::Unknown => None,
    }
}

fn result_of(standing: Standing) -> CheckResult {
    match standing {
        Standing::Met => CheckResult::Passed,
        Standing::Breached => CheckResult::Failed,
        Standing::Unknown(_) => CheckResult::Unknown,
    }
}

fn reason_of(doubt: Doubt) -> Reason {
    match doubt {
        Doubt::NoData => Reason::NoData,
        Doubt::TooEarly { .. } => Reason::Watching,
        Doubt::Gap { .. } => Reason::ObservationGap,
        Doubt::InsufficientTraffic { .. } | Doubt::Chance { .. } => Reason::InsufficientTraffic,
        Doubt::BetweenBounds => Reason::BetweenBounds,
    }
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Page => "Page",
        Severity::Ticket => "Ticket",
    }
}

fn is_exact(value: &Value) -> bool {
    match value {
        Value::BadShare { share, .. } => share.is_exact(),
        Value::Quantile { slow, .. } => slow.is_exact(),
        Value::Level { .. } | Value::PerMinute(_) => true,
    }
}

fn count(events: f64) -> i64 {
    // Sums of many stay far below what fits; a float becomes the nearest integer that does.
    events.round() as i64
}

fn message(judged: &Judged<'_>, reason: Reason) -> String {
    let Judged {
        named, judgement, ..
    } = judged;
    let whole = &judgement.whole;
    let mut parts = vec![match (judgement.now, reason) {
        (_, Reason::BudgetBurning) => format!(
            "the budget burns: {}",
            fires(judgement).unwrap_or_else(|| "too fast".to_owned())
        ),
        (Standing::Met, _) => format!("met: {} is {}", value(named, whole), bound(named)),
        (Standing::Breached, _) => {
            format!("not met: {} is not {}", value(named, whole), bound(named))
        }
        (Standing::Unknown(doubt), _) => unknown(doubt),
    }];
    if let Some(Value::Quantile { slow, total, .. }) = whole.value {
        let within = slow.map(|slow| 1.0 - slow);
        let within = Range {
            low: within.high,
            high: within.low,
        };
        parts.push(format!(
            "{} of {} requests took at most {}",
            percents(within),
            count(total),
            limit(named)
        ));
    }
    if let Some(warning) = nearest(named, whole) {
        parts.push(warning);
    }
    if let Some((fault, action)) = &judged.fault {
        parts.push(fault.clone());
        if !action.is_empty() {
            parts.push(format!("next: {action}"));
        }
    }
    parts.join("; ")
}

/// The most urgent pair that burns.
fn fires(judgement: &Judgement) -> Option<String> {
    let mut burning = judgement.pairs.iter();
    let pair = burning.find(|pair| pair.burning == Burning::Yes)?;
    Some(format!(
        "{} times as fast as it may over {}, and still over {} (the limit is {})",
        pair.long.burn.map(range).unwrap_or_default(),
        length(pair.pair.long),
        length(pair.pair.short),
        number(pair.pair.factor)
    ))
}

fn unknown(doubt: Doubt) -> String {
    match doubt {
        Doubt::NoData => "not known: nothing was observed lately".to_owned(),
        Doubt::TooEarly { .. } => "not known yet: the watch has just begun".to_owned(),
        Doubt::Gap { seen, needed } => format!(
            "not known: {} were observed, and {} are needed",
            length(seen),
            length(needed)
        ),
        Doubt::InsufficientTraffic { events, needed } => format!(
            "not known: {} events were counted, and {needed} are needed (`minEvents`)",
            count(events)
        ),
        Doubt::Chance { bad, events } => format!(
            "not known: {} of {} events were bad, which may be chance: more of them will tell",
            count(bad),
            count(events)
        ),
        Doubt::BetweenBounds => {
            "not known: the histogram has no bucket that ends at the bound".to_owned()
        }
    }
}

/// A warning where the objective is no bound of a bucket, with the nearest ones.
fn nearest(named: &Named, figure: &Figure) -> Option<String> {
    let Some(Value::Quantile { below, above, .. }) = &figure.value else {
        return None;
    };
    if below.is_some() && below == above {
        return None;
    }
    let seconds = |bound: &Option<f64>| match bound {
        Some(bound) if bound.is_finite() => duration(*bound),
        _ => "none".to_owned(),
    };
    Some(format!(
        "the nearest buckets end at {} and {}: add one that ends at {}",
        seconds(below),
        seconds(above),
        limit(named)
    ))
}

/// What was measured.
fn value(named: &Named, figure: &Figure) -> String {
    let Some(value) = &figure.value else {
        return String::new();
    };
    match (value, named.words) {
        (Value::BadShare { share, .. }, Words::Available) => percents(Range {
            low: 1.0 - share.high,
            high: 1.0 - share.low,
        }),
        (Value::BadShare { share, .. }, _) => percents(*share),
        (Value::Quantile { quantile, .. }, _) => quantile_in_words(named, *quantile),
        (
            Value::Level {
                low, high, last, ..
            },
            _,
        ) => {
            format!("{} ({} to {})", number(*last), number(*low), number(*high))
        }
        (Value::PerMinute(rate), _) => format!("{} a minute", number(*rate)),
    }
}

fn quantile_in_words(named: &Named, quantile: Quantile) -> String {
    let name = match named.objective.aim {
        Aim::Latency { quantile, .. } => format!("P{}", number(quantile * 100.0)),
        _ => "the quantile".to_owned(),
    };
    match quantile {
        Quantile::Between { low, high, .. } if low.is_finite() => {
            format!("{name} between {} and {}", duration(low), duration(high))
        }
        Quantile::Between { high, .. } => format!("{name} at most {}", duration(high)),
        Quantile::AtLeast(bound) => format!("{name} more than {}", duration(bound)),
        Quantile::NoEvents | Quantile::OneBucket | Quantile::OutOfRange(_) => String::new(),
    }
}

/// What it is compared with.
pub fn bound(named: &Named) -> String {
    match named.objective.aim {
        Aim::BadShare { below } if named.words == Words::Available => {
            format!("above {} %", number((1.0 - below) * 100.0))
        }
        Aim::BadShare { below } => format!("below {} %", number(below * 100.0)),
        Aim::Latency { .. } => format!("at most {}", limit(named)),
        Aim::Level(Bound::Below(bound)) => format!("below {}", number(bound)),
        Aim::Level(Bound::Above(bound)) => format!("above {}", number(bound)),
        Aim::Lines { per_minute } => format!("at most {} a minute", number(per_minute)),
    }
}

fn limit(named: &Named) -> String {
    match named.objective.aim {
        Aim::Latency { below, .. } => duration(below),
        _ => String::new(),
    }
}

fn pair(figure: &PairFigure) -> BurnRateStatus {
    let burn = |figure: &Figure| figure.burn.map(range).unwrap_or_default();
    BurnRateStatus {
        window: length(figure.pair.long),
        short_window: length(figure.pair.short),
        factor: number(figure.pair.factor),
        burn: burn(&figure.long),
        short_burn: burn(&figure.short),
        burning: figure.burning == Burning::Yes,
        partial: figure.long.partial,
    }
}

/// The verdict on all objectives and incidents at the end: its state, its reason, and what was found.
pub fn verdict(
    wanted: &Wanted,
    judged: &[Judged<'_>],
    critical: &[String],
) -> (WatchState, Reason, String) {
    let (mut broken, mut unknown, mut held) = (Vec::new(), Vec::new(), Vec::new());
    for one in judged {
        let whole = &one.judgement.whole;
        let told = format!("{}: {}", one.named.name, value(one.named, whole));
        match crate::slo::verdict(whole, wanted.length()) {
            Verdict::Held => held.push(told),
            Verdict::Broken => broken.push(format!("{told}, not {}", bound(one.named))),
            Verdict::Unknown(missing) => {
                unknown.push(format!("{}: {}", one.named.name, missing_in_words(missing)));
            }
        }
    }
    if !broken.is_empty() {
        let all: Vec<String> = broken.into_iter().chain(unknown).collect();
        return (
            WatchState::NotStabilized,
            Reason::NotStabilized,
            all.join("; "),
        );
    }
    if !critical.is_empty() {
        return (
            WatchState::NotStabilized,
            Reason::CriticalIncident,
            critical.join("; "),
        );
    }
    if !unknown.is_empty() {
        return (
            WatchState::Inconclusive,
            Reason::Inconclusive,
            unknown.join("; "),
        );
    }
    let held = match held.is_empty() {
        true => "nothing critical happened, and no objective is set".to_owned(),
        false => held.join("; "),
    };
    (WatchState::Stabilized, Reason::Stabilized, held)
}

fn missing_in_words(missing: Missing) -> String {
    match missing {
        Missing::Doubt(doubt) => unknown(doubt),
        Missing::Lost { lost, most } => format!(
            "{} of the watch were not observed, and {} may be missing",
            length(lost),
            length(most)
        ),
    }
}

/// A share, in percent.
fn percents(range: Range) -> String {
    let percent = |share: f64| number(share * 100.0);
    match range.is_exact() {
        true => format!("{} %", percent(range.low)),
        false => format!("{} % to {} %", percent(range.low), percent(range.high)),
    }
}

fn range(range: Range) -> String {
    match range.is_exact() {
        true => number(range.low),
        false => format!("{} to {}", number(range.low), number(range.high)),
    }
}

/// A number with three digits that count, and no more after the point than four.
fn number(value: f64) -> String {
    if !value.is_finite() {
        return if value > 0.0 { "infinite" } else { "-" }.to_owned();
    }
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        size if size >= 0.1 => 3,
        _ => 4,
    };
    let scale = 10_f64.powi(digits);
    // Minus zero becomes zero.
    let rounded = (value * scale).round() / scale + 0.0;
    rounded.to_string()
}

/// Seconds, in the unit that fits.
fn duration(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 1.0 => format!("{} ms", number(seconds * 1000.0)),
        seconds => format!("{} s", number(seconds)),
    }
}

/// Milliseconds, as `1h` or `5m`.
fn length(milliseconds: i64) -> String {
    let minutes = milliseconds / 60_000;
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{}s", milliseconds / 1000),
        (0, minutes) => format!("{minutes}m"),
        (hours, 0) => format!("{hours}h"),
        (hours, minutes) => format!("{hours}h{minutes}m"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        api::observe::Observe,
        slo::{Buckets, Cell, Store, Tally, judge},
    };

    const HOUR: i64 = 3_600_000;

    fn wanted(objective: serde_json::Value) -> Wanted {
        let spec: Observe =
            serde_json::from_value(json!({"window": "1h", "objectives": [objective]})).unwrap();
        Wanted::of(&spec).unwrap()
    }

    /// An hour in which this was counted at each of 120 looks.
    fn hour(wanted: &Wanted, tally: &Tally, looks: i64) -> Store {
        let mut store = Store::new(0, wanted.asked.kinds(), 90_000);
        for look in 1..=looks {
            let cell = Cell {
                seen: 30_000,
                bridged: 0,
                tally: Some(tally.clone()),
            };
            store.push(look * 30_000, vec![cell]).unwrap();
        }
        store
    }

    fn judged<'a>(wanted: &'a Wanted, store: &Store) -> Judged<'a> {
        let named = &wanted.objectives[0];
        let times = (0, HOUR, wanted.length());
        let judgement = judge(&named.objective, wanted.rates, times, |from| {
            store.window(0, from)
        });
        Judged {
            named,
            judgement,
            release: None,
            fault: None,
            at: None,
        }
    }

    fn errors() -> Wanted {
        wanted(json!({"name": "errors", "errorRate": {
            "metric": "r", "errorSelector": {"status": "5.."}, "below": "1%"}}))
    }

    fn events(total: f64, bad: f64) -> Tally {
        Tally::Events { total, bad }
    }

    fn buckets(of: &[(f64, f64)]) -> Tally {
        Tally::Buckets(Buckets::new(of.iter().copied()).unwrap())
    }

    #[test]
    fn an_objective_that_is_met_says_by_how_much_and_how_sure_that_is() {
        let wanted = errors();
        let store = hour(&wanted, &events(1000.0, 4.0), 120);
        let entry = entry(&judged(&wanted, &store));
        assert_eq!(
            (entry.result, entry.reason.as_str()),
            (CheckResult::Passed, "ObjectivesMet")
        );
        assert_eq!(
            (entry.value.as_str(), entry.bound.as_str()),
            ("0.4 %", "below 1 %")
        );
        assert_eq!((entry.events, entry.observed_percent), (120_000, 100));
        assert!(entry.exact && entry.burning.is_empty(), "{entry:?}");
        assert_eq!(entry.budget_left, "60 %");
        let windows: Vec<&str> = entry
            .burn_rates
            .iter()
            .map(|pair| pair.window.as_str())
            .collect();
        assert_eq!(windows, ["1h", "6h", "24h", "72h"]);
        let (state, reason, told) = verdict(&wanted, &[judged(&wanted, &store)], &[]);
        assert_eq!(
            (state, reason),
            (WatchState::Stabilized, Reason::Stabilized)
        );
        assert_eq!(told, "errors: 0.4 %");
    }

    #[test]
    fn a_breach_is_told_with_its_numbers_and_ends_in_no_stability() {
        let wanted = errors();
        let store = hour(&wanted, &events(1000.0, 200.0), 120);
        let entry = entry(&judged(&wanted, &store));
        assert_eq!(entry.reason, "ObjectiveBreached");
        assert!(
            entry.message.contains("20 % is not below 1 %"),
            "{}",
            entry.message
        );
        assert_eq!(entry.burning, "Page");
        let (state, _, told) = verdict(&wanted, &[judged(&wanted, &store)], &[]);
        assert_eq!(state, WatchState::NotStabilized);
        assert_eq!(told, "errors: 20 %, not below 1 %");
    }

    #[test]
    fn a_bound_between_two_buckets_is_told_with_the_nearest_ones() {
        let wanted = wanted(json!({"name": "text", "latency": {"metric": "d", "below": "3s"}}));
        let tally = buckets(&[(2.5, 900.0), (5.0, 990.0), (f64::INFINITY, 1000.0)]);
        let store = hour(&wanted, &tally, 120);
        let told = entry(&judged(&wanted, &store));
        assert_eq!(
            (told.result, told.reason.as_str()),
            (CheckResult::Unknown, "BetweenBounds")
        );
        assert_eq!(told.value, "P95 between 2.5 s and 5 s");
        assert!(
            !told.exact && told.message.contains("add one that ends at 3 s"),
            "{}",
            told.message
        );

        let tally = buckets(&[(3.0, 960.0), (5.0, 990.0), (f64::INFINITY, 1000.0)]);
        let store = hour(&wanted, &tally, 120);
        let told = entry(&judged(&wanted, &store));
        assert_eq!(told.result, CheckResult::Passed);
        assert!(
            told.exact && told.message.contains("96 % of 120000"),
            "{}",
            told.message
        );
    }

    #[test]
    fn what_was_not_observed_is_unknown_and_a_critical_incident_is_no_stability() {
        let wanted = errors();
        let empty = Store::new(0, wanted.asked.kinds(), 90_000);
        let told = entry(&judged(&wanted, &empty));
        assert_eq!(
            (told.result, told.reason.as_str()),
            (CheckResult::Unknown, "NoData")
        );
        let (state, reason, _) = verdict(&wanted, &[judged(&wanted, &empty)], &[]);
        assert_eq!(
            (state, reason),
            (WatchState::Inconclusive, Reason::Inconclusive)
        );
        let half = hour(&wanted, &events(1000.0, 0.0), 60);
        let (state, _, told) = verdict(&wanted, &[judged(&wanted, &half)], &[]);
        assert_eq!(state, WatchState::Inconclusive);
        assert!(
            told.contains("30m of the watch were not observed"),
            "{told}"
        );

        let good = hour(&wanted, &events(1000.0, 0.0), 120);
        let incidents = ["machine m1 ran out of memory".to_owned()];
        let (state, reason, told) = verdict(&wanted, &[judged(&wanted, &good)], &incidents);
        assert_eq!(
            (state, reason),
            (WatchState::NotStabilized, Reason::CriticalIncident)
        );
        assert!(told.contains("memory"), "{told}");
    }

    #[test]
    fn a_ticket_never_pages() {
        let mut ticket = errors();
        ticket.objectives[0].severity = Severity::Ticket;
        let store = hour(&ticket, &events(1000.0, 200.0), 120);
        assert_eq!(entry(&judged(&ticket, &store)).burning, "Ticket");
    }

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.4, "0.4"),
            (14.4, "14.4"),
            (0.0, "0"),
            (1234.4, "1234"),
            (2.5, "2.5"),
        ];
        for (value, expected) in cases {
            assert_eq!(number(value), expected);
        }
        assert_eq!(duration(0.25), "250 ms");
        assert_eq!([length(90_000), length(9_240_000)], ["1m", "2h34m"]);
    }
}
