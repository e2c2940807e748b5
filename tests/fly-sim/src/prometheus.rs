//! Fly's hosted Prometheus: `GET|POST /prometheus/{org}/api/v1/query` on the GraphQL host.
//!
//! Source: fly.io/docs/monitoring/metrics: the metrics of all apps of an organization, scraped every 15 s,
//! kept in a VictoriaMetrics. It answers instant queries of these forms, and refuses others as VictoriaMetrics
//! refuses what it cannot read: `time()`, `m{…}`, `sum(m{…})`, `sum(increase(m{…}[Ns]))` and
//! `sum by (le) (increase(m{…}[Ns]))`. `increase` is VictoriaMetrics': it takes the sample before the window
//! into account, begins a new counter at 0, and extrapolates nothing (docs.victoriametrics.com, MetricsQL).

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use http::StatusCode;
use jiff::Timestamp;
use regex::Regex;
use serde_json::{Value, json};

use crate::core::{Core, Shared};
use crate::error::FlyResult;
use crate::state::Caller;

/// Time between two scrapes.
const SCRAPE: Duration = Duration::from_secs(15);

/// Most scrapes that are kept.
const KEPT: usize = 4_096;

/// How old the last sample of a series may be. Source: VictoriaMetrics, `-search.maxStalenessInterval`; here
/// that of Prometheus.
const STALE: i64 = 300_000;

type Labels = BTreeMap<String, String>;
type Key = (String, Labels);

/// What was scraped, oldest first, by the time in milliseconds since 1970.
#[derive(Debug, Default)]
pub struct History(Mutex<VecDeque<(i64, BTreeMap<Key, f64>)>>);

impl History {
    /// Scrapes now.
    pub fn scrape(&self, core: &Core) {
        let samples = core.edge.samples(|_| true).into_iter();
        let samples = samples.map(|(name, labels, value)| ((name, labels), value));
        let at = Timestamp::now().as_millisecond();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back((at, samples.collect()));
        if kept.len() > KEPT {
            kept.pop_front();
        }
    }

    /// The samples of the series that match, up to a time.
    fn series(&self, selector: &Selector, until: i64) -> BTreeMap<Key, Vec<(i64, f64)>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut series: BTreeMap<Key, Vec<(i64, f64)>> = BTreeMap::new();
        for (at, samples) in kept.iter().filter(|(at, _)| *at <= until) {
            for (key, value) in samples.iter().filter(|(key, _)| selector.matches(key)) {
                series.entry(key.clone()).or_default().push((*at, *value));
            }
        }
        series
    }
}

/// Scrapes until the simulator ends.
pub async fn run(core: Shared) {
    let pause = SCRAPE
        .mul_f64(core.options.timer_scale)
        .max(Duration::from_millis(100));
    loop {
        core.history.scrape(&core);
        tokio::time::sleep(pause).await;
    }
}

/// The routes of the hosted Prometheus.
pub fn router() -> Router<Shared> {
    Router::new().route("/prometheus/{org}/api/v1/query", get(by_url).post(by_form))
}

async fn by_url(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(org): Path<String>,
    RawQuery(query): RawQuery,
) -> FlyResult<Response> {
    answer(&core, &caller, &org, query.unwrap_or_default().as_bytes())
}

async fn by_form(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(org): Path<String>,
    body: Bytes,
) -> FlyResult<Response> {
    answer(&core, &caller, &org, &body)
}

fn answer(core: &Shared, caller: &Caller, org: &str, form: &[u8]) -> FlyResult<Response> {
    core.read(|world| world.org(caller, org).map(|_| ()))?;
    let fields: BTreeMap<String, String> = url::form_urlencoded::parse(form).into_owned().collect();
    let known = ["query", "time", "timeout", "step"];
    if let Some(other) = fields.keys().find(|name| !known.contains(&name.as_str())) {
        return Ok(refused(400, &format!("unknown parameter {other:?}")));
    }
    let Some(query) = fields.get("query") else {
        return Ok(refused(400, "missing `query` arg"));
    };
    let now = Timestamp::now().as_millisecond();
    let at = match fields.get("time").map(|time| time.parse::<f64>()) {
        None => now,
        Some(Ok(seconds)) => (seconds * 1000.0) as i64,
        Some(Err(_)) => return Ok(refused(400, "cannot parse time")),
    };
    let Some(expression) = Expression::parse(query) else {
        return Ok(refused(422, "error when parsing the query"));
    };
    let apps = core.read(|world| {
        let apps = world.apps.values().filter(|app| app.org_slug == org);
        apps.map(|app| app.name.clone()).collect::<Vec<_>>()
    });
    let result: Vec<Value> = expression
        .value(&core.history, at, &apps)
        .into_iter()
        .map(|(labels, value)| {
            let time = at as f64 / 1000.0;
            json!({"metric": labels, "value": [time, value.to_string()]})
        })
        .collect();
    let data = json!({"resultType": "vector", "result": result});
    let body = json!({"status": "success", "isPartial": false, "data": data});
    Ok(Json(body).into_response())
}

fn refused(status: u16, why: &str) -> Response {
    let body = json!({"status": "error", "errorType": status.to_string(), "error": why});
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    (status, Json(body)).into_response()
}

/// What is asked.
enum Expression {
    Time,
    Values(Selector),
    Sum {
        of: Selector,
        window: Option<i64>,
        by_le: bool,
    },
}

impl Expression {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text == "time()" {
            return Some(Self::Time);
        }
        let (inner, by_le) = match (
            text.strip_prefix("sum("),
            text.strip_prefix("sum by (le) ("),
        ) {
            (Some(rest), _) => (rest.strip_suffix(')')?, false),
            (None, Some(rest)) => (rest.strip_suffix(')')?, true),
            (None, None) => return Selector::parse(text).map(Self::Values),
        };
        let Some(range) = inner.strip_prefix("increase(") else {
            let of = Selector::parse(inner)?;
            return Some(Self::Sum {
                of,
                window: None,
                by_le,
            });
        };
        let (selector, window) = range.strip_suffix("s])")?.rsplit_once('[')?;
        let window: i64 = window.parse().ok().filter(|seconds| *seconds > 0)?;
        Some(Self::Sum {
            of: Selector::parse(selector)?,
            window: Some(window * 1000),
            by_le,
        })
    }

    fn value(&self, history: &History, at: i64, apps: &[String]) -> Vec<(Labels, f64)> {
        let of_org = |key: &Key| key.1.get("app").is_some_and(|app| apps.contains(app));
        match self {
            Self::Time => vec![(Labels::new(), at as f64 / 1000.0)],
            Self::Values(of) => {
                let series = history
                    .series(of, at)
                    .into_iter()
                    .filter(|(key, _)| of_org(key));
                series
                    .filter_map(|((name, mut labels), samples)| {
                        labels.insert("__name__".to_owned(), name);
                        Some((labels, last(&samples, at)?))
                    })
                    .collect()
            }
            Self::Sum { of, window, by_le } => {
                let series = history
                    .series(of, at)
                    .into_iter()
                    .filter(|(key, _)| of_org(key));
                let mut sums: BTreeMap<Labels, f64> = BTreeMap::new();
                for ((_, labels), samples) in series {
                    let value = match window {
                        Some(window) => increase(&samples, at - window),
                        None => last(&samples, at),
                    };
                    let labels = labels
                        .into_iter()
                        .filter(|(name, _)| *by_le && name == "le");
                    if let Some(value) = value {
                        *sums.entry(labels.collect()).or_default() += value;
                    }
                }
                sums.into_iter().collect()
            }
        }
    }
}

/// The last sample, if it is not stale.
fn last(samples: &[(i64, f64)], at: i64) -> Option<f64> {
    let (time, value) = samples.last()?;
    (at - time <= STALE).then_some(*value)
}

/// What was added after `from`; none without a sample after it.
fn increase(samples: &[(i64, f64)], from: i64) -> Option<f64> {
    let within = samples.iter().position(|(at, _)| *at > from)?;
    let mut before = match within {
        0 => 0.0,
        within => samples[within - 1].1,
    };
    let mut sum = 0.0;
    for (_, value) in &samples[within..] {
        sum += if *value < before {
            *value
        } else {
            value - before
        };
        before = *value;
    }
    Some(sum)
}

/// `name{label="value",…}`.
struct Selector {
    name: String,
    matchers: Vec<(String, Matcher)>,
}

enum Matcher {
    Is(bool, String),
    Matches(bool, Regex),
}

impl Selector {
    fn parse(text: &str) -> Option<Self> {
        let (name, rest) = text.split_once('{')?;
        let mut rest = rest.strip_suffix('}')?;
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        if name.is_empty() || !name.chars().all(is_part) {
            return None;
        }
        let mut matchers = Vec::new();
        while !rest.is_empty() {
            let end = rest.find(|c: char| !is_part(c))?;
            let (label, after) = rest.split_at(end);
            let (op, after) = ["=~", "!~", "!=", "="]
                .into_iter()
                .find_map(|op| Some((op, after.strip_prefix(op)?)))?;
            let (value, after) = quoted(after)?;
            let matcher = match op {
                "=" => Matcher::Is(true, value),
                "!=" => Matcher::Is(false, value),
                _ => {
                    let regex = Regex::new(&format!("^(?:{value})$")).ok()?;
                    Matcher::Matches(op == "=~", regex)
                }
            };
            matchers.push((label.to_owned(), matcher));
            rest = match after.strip_prefix(',') {
                Some(after) => after,
                None if after.is_empty() => after,
                None => return None,
            };
        }
        Some(Self {
            name: name.to_owned(),
            matchers,
        })
    }

    fn matches(&self, (name, labels): &Key) -> bool {
        let holds = |(label, matcher): &(String, Matcher)| {
            let value = labels.get(label).map_or("", String::as_str);
            match matcher {
                Matcher::Is(wanted, text) => (value == text) == *wanted,
                Matcher::Matches(wanted, regex) => regex.is_match(value) == *wanted,
            }
        };
        *name == self.name && self.matchers.iter().all(holds)
    }
}

/// A text between double quotes, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let rest = text.strip_prefix('"')?;
    let mut value = String::new();
    let mut chars = rest.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &rest[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                c @ ('\\' | '"') => value.push(c),
                _ => return None,
            },
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn increase_takes_the_sample_before_the_window_and_counts_a_reset_anew() {
        let samples = [(0, 5.0), (10, 7.0), (20, 2.0), (30, 4.0)];
        assert_eq!(increase(&samples, 0), Some(2.0 + 2.0 + 2.0));
        assert_eq!(increase(&samples, 20), Some(2.0));
        assert_eq!(increase(&samples, 30), None);
        assert_eq!(increase(&samples, -1), Some(5.0 + 2.0 + 2.0 + 2.0), "new");
    }

    #[test]
    fn what_is_not_of_the_forms_is_refused() {
        for fine in [
            "time()",
            "up{}",
            r#"sum(increase(a_total{app="x",status=~"5..",k!="\"q\\"}[120s]))"#,
            r#"sum by (le) (increase(a_bucket{app="x"}[60s]))"#,
        ] {
            assert!(Expression::parse(fine).is_some(), "{fine}");
        }
        for wrong in [
            "",
            "up",
            "sum(increase(a{}[0s]))",
            "sum(increase(a{}[5m]))",
            r#"a{b="c""#,
            r#"a{b="c" or vector(1)}"#,
            r#"a{b="c"} or vector(1)"#,
        ] {
            assert!(Expression::parse(wrong).is_none(), "{wrong}");
        }
    }
}
