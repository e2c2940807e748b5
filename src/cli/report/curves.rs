//! The curves of objectives, from what a watch has stored. Pure.

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    api::observe::Observe,
    phase::observe::{
        life::About,
        question::{Named, Wanted, Words},
    },
    slo::{Aim, Bound, Store, curve::Stretch, objective::Value},
    store::watch::Stored,
};

/// About how many points a curve has.
const POINTS: usize = 144;

/// An objective over time.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Curve {
    /// What is plotted, for people.
    pub(super) what: String,
    /// The unit of the values: `%`, `a minute`, or none.
    pub(super) unit: &'static str,
    /// The bound that values are compared with.
    pub(super) bound: f64,
    /// Whether values must be below it; otherwise above.
    pub(super) below: bool,
    /// When the watch began.
    pub(super) begin: Timestamp,
    /// When it ends.
    pub(super) end: Timestamp,
    /// Releases, and since when they serve.
    pub(super) releases: Vec<Release>,
    /// The points, without holes: time that nobody observed has a point without a value.
    pub(super) points: Vec<Point>,
}

/// Since when a release serves.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Release {
    /// Its number.
    pub(super) number: u32,
    /// Since when.
    pub(super) since: Timestamp,
}

/// A stretch of time.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Point {
    /// Its begin.
    pub(super) from: Timestamp,
    /// Its end.
    pub(super) to: Timestamp,
    /// Whether nobody observed it. Otherwise a point without a value had no events.
    pub(super) gap: bool,
    /// The least that the value can be.
    pub(super) low: Option<f64>,
    /// The most.
    pub(super) high: Option<f64>,
}

/// Why there are no curves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoCurves {
    /// Nothing is stored.
    #[error(
        "nothing that the watch has observed is stored in namespace {0}; name the operator's with --operator-namespace"
    )]
    Nothing(String),
    /// What is stored cannot be read.
    #[error("what the watch has stored cannot be read: {0}")]
    Damaged(String),
    /// What is stored is of other objectives.
    #[error("what the watch has stored is about other objectives than the spec's")]
    Others,
}

/// The curves of all objectives, in the order of the spec, as far as they are stored.
///
/// # Errors
/// When nothing is stored, or it is not about these objectives.
pub(super) fn curves(
    observe: &Observe,
    stored: &Stored,
    namespace: &str,
) -> Result<Vec<(String, Curve)>, NoCurves> {
    if !stored.exists() {
        return Err(NoCurves::Nothing(namespace.to_owned()));
    }
    let damaged = |error: &dyn std::fmt::Display| NoCurves::Damaged(error.to_string());
    let about: About = serde_json::from_str(&stored.about).map_err(|error| damaged(&error))?;
    let store = Store::decode(&stored.evidence).map_err(|fault| damaged(&fault))?;
    let wanted = Wanted::of(observe).map_err(|_| NoCurves::Others)?;
    let kinds: Vec<_> = wanted.asked.questions.iter().map(|q| q.kind()).collect();
    if about.digest != wanted.digest || store.kinds() != kinds {
        return Err(NoCurves::Others);
    }
    // Once it has ended, the time that the verdict is about.
    let length = about
        .until(wanted.length())
        .saturating_sub(about.begin)
        .max(0);
    let numbered = wanted.objectives.iter().enumerate();
    let curves = numbered.map(|(number, named)| {
        let curve = curve(named, &store, number, length);
        (named.name.clone(), curve)
    });
    Ok(curves.collect())
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn curve(named: &Named, store: &Store, number: usize, length: i64) -> Curve {
    let (what, unit, bound, below) = about(named);
    let stretches = store.stretches(number, POINTS);
    let served = store.served().iter();
    Curve {
        what,
        unit,
        bound,
        below,
        begin: at(store.begin()),
        end: at(store.begin().saturating_add(length).max(store.end())),
        releases: served
            .map(|served| Release {
                number: served.release,
                since: at(served.since),
            })
            .collect(),
        points: stretches.iter().map(|one| point(named, one)).collect(),
    }
}

/// What is plotted, its unit and its bound.
fn about(named: &Named) -> (String, &'static str, f64, bool) {
    let percent = |share: f64| (share * 1e10).round() / 1e8;
    match named.objective.aim {
        Aim::BadShare { below } if named.words == Words::Available => {
            let what = "share of probes without a good answer".to_owned();
            (what, "%", percent(below), true)
        }
        Aim::BadShare { below } => ("share of errors".to_owned(), "%", percent(below), true),
        Aim::Latency { quantile, below } => {
            let what = format!("share of requests that took more than {below} s");
            (what, "%", percent(1.0 - quantile), true)
        }
        Aim::Level(Bound::Below(bound)) => ("values of the gauge".to_owned(), "", bound, true),
        Aim::Level(Bound::Above(bound)) => ("values of the gauge".to_owned(), "", bound, false),
        Aim::Lines { per_minute } => {
            let what = "lines of the log that match".to_owned();
            (what, "a minute", per_minute, true)
        }
    }
}

fn point(named: &Named, stretch: &Stretch) -> Point {
    let tally = stretch.cell.tally.as_ref();
    let time = stretch.cell.seen.saturating_add(stretch.cell.bridged);
    let value = tally.and_then(|tally| named.objective.value(tally, time));
    let range = value.map(|value| match value {
        Value::BadShare { share, .. } => (share.low * 100.0, share.high * 100.0),
        Value::Quantile { slow, .. } => (slow.low * 100.0, slow.high * 100.0),
        Value::Level { low, high, .. } => (low, high),
        Value::PerMinute(rate) => (rate, rate),
    });
    let range = range.filter(|(low, high)| low.is_finite() && high.is_finite());
    Point {
        from: at(stretch.from),
        to: at(stretch.to),
        gap: stretch.is_gap(),
        low: range.map(|(low, _)| low),
        high: range.map(|(_, high)| high),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        phase::observe::life::Begin,
        slo::{Cell, Tally},
    };

    pub(in crate::cli::report) fn observe() -> Observe {
        let spec = json!({"objectives": [{"name": "errors", "errorRate": {
            "metric": "r", "errorSelector": {"status": "5.."}, "below": "1%"}}]});
        serde_json::from_value(spec).unwrap()
    }

    /// Errors in an hour, with a gap in its middle.
    pub(in crate::cli::report) fn curve_of_an_hour() -> Curve {
        let (about, store) = stored(&observe());
        let wanted = Wanted::of(&observe()).unwrap();
        assert_eq!(about.digest, wanted.digest);
        curve(&wanted.objectives[0], &store, 0, 3_600_000)
    }

    fn stored(observe: &Observe) -> (About, Store) {
        let wanted = Wanted::of(observe).unwrap();
        let kinds = wanted
            .asked
            .questions
            .iter()
            .map(|question| question.kind());
        let begin = 1_767_225_600_000;
        let mut store = Store::new(begin, kinds.collect(), 60_000);
        store.serve(begin, 3);
        for look in 1..=120 {
            let bad = if look > 100 { 4.0 } else { 0.0 };
            let tally = Some(Tally::Events { total: 50.0, bad });
            let cell = match look {
                50..=60 => Cell::default(),
                _ => Cell {
                    seen: 30_000,
                    bridged: 0,
                    tally,
                },
            };
            store.push(begin + look * 30_000, vec![cell]).unwrap();
        }
        (
            About::begun(Begin::First, None, begin, &wanted.digest),
            store,
        )
    }

    #[test]
    fn a_curve_has_the_bound_the_release_the_gap_and_the_errors() {
        let curve = curve_of_an_hour();
        assert_eq!((curve.unit, curve.bound, curve.below), ("%", 1.0, true));
        assert_eq!(curve.releases[0].number, 3);
        assert!(
            curve
                .points
                .iter()
                .any(|point| point.gap && point.high.is_none())
        );
        assert_eq!(curve.points.last().unwrap().high, Some(8.0));
        assert_eq!(curve.points[0].high, Some(0.0));
    }

    #[test]
    fn without_a_store_or_with_one_of_other_objectives_the_reason_is_said() {
        let nothing = curves(&observe(), &Stored::default(), "golive-system");
        let said = nothing.unwrap_err().to_string();
        assert!(said.contains("namespace golive-system"), "{said}");
    }
}
