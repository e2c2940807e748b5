//! The PromQL of an objective, and the parameters of a call.
//!
//! Source: prometheus/prometheus, `docs/querying/basics.md` (string literals, matchers, durations) and
//! `docs/querying/api.md` (instant and range queries).

use std::fmt::Write as _;

use crate::slo::{Op, Selector};

/// How a histogram is exposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Series with `_bucket` and `le`.
    Classic,
    /// One series whose samples are histograms.
    Native,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Query<'a> {
    /// How many events there were in a window.
    Increase {
        /// Name of the counter.
        metric: &'a str,
        /// Which series count.
        of: &'a Selector,
        /// Unit: seconds.
        window: u64,
    },
    /// How many events there were in a window at most as large as each bound: what an exact share, a quantile
    /// and its bounds are computed from.
    Buckets {
        /// Name of the histogram, without `_bucket`.
        metric: &'a str,
        /// Which series count.
        of: &'a Selector,
        /// Unit: seconds.
        window: u64,
    },
    /// A quantile of a histogram in a window.
    Quantile {
        /// Name of the histogram, without `_bucket`.
        metric: &'a str,
        /// Which series count.
        of: &'a Selector,
        /// From 0 to 1.
        quantile: f64,
        /// Unit: seconds.
        window: u64,
        /// How it is exposed.
        shape: Shape,
    },
    /// The share of events of a native histogram at most as large as a bound. Prometheus interpolates inside
    /// a bucket.
    Fraction {
        /// Name of the histogram.
        metric: &'a str,
        /// Which series count.
        of: &'a Selector,
        /// The bound.
        below: f64,
        /// Unit: seconds.
        window: u64,
    },
    /// How many observations of a native histogram there were in a window.
    NativeCount {
        /// Name of the histogram.
        metric: &'a str,
        /// Which series count.
        of: &'a Selector,
        /// Unit: seconds.
        window: u64,
    },
    /// The values of a gauge.
    Gauge {
        /// Its name.
        metric: &'a str,
        /// Which series count.
        of: &'a Selector,
    },
}

impl Query<'_> {
    /// The query as PromQL.
    #[must_use]
    pub fn promql(&self) -> String {
        match *self {
            Self::Increase { metric, of, window } => {
                format!("sum(increase({}[{window}s]))", series(metric, of))
            }
            Self::Buckets { metric, of, window } => {
                let metric = format!("{metric}_bucket");
                format!("sum by (le) (increase({}[{window}s]))", series(&metric, of))
            }
            Self::Quantile {
                metric,
                of,
                quantile,
                window,
                shape: Shape::Classic,
            } => {
                let series = series(&format!("{metric}_bucket"), of);
                format!("histogram_quantile({quantile}, sum by (le) (rate({series}[{window}s])))")
            }
            Self::Quantile {
                metric,
                of,
                quantile,
                window,
                shape: Shape::Native,
            } => {
                let series = series(metric, of);
                format!("histogram_quantile({quantile}, sum(rate({series}[{window}s])))")
            }
            Self::Fraction {
                metric,
                of,
                below,
                window,
            } => {
                let series = series(metric, of);
                format!("histogram_fraction(-Inf, {below}, sum(rate({series}[{window}s])))")
            }
            Self::NativeCount { metric, of, window } => {
                let series = series(metric, of);
                format!("histogram_count(sum(increase({series}[{window}s])))")
            }
            Self::Gauge { metric, of } => series(metric, of),
        }
    }
}

/// A metric with its conditions, as PromQL. A name that PromQL cannot write is a condition too.
#[must_use]
pub fn series(metric: &str, of: &Selector) -> String {
    let is_plain = is_name(metric, true);
    let mut out = String::new();
    if is_plain {
        out.push_str(metric);
    }
    out.push('{');
    if !is_plain {
        // Since Prometheus 3; before, no such name exists.
        out.push_str(&literal(metric));
    }
    for (at, matcher) in of.matchers().iter().enumerate() {
        if at > 0 || !is_plain {
            out.push(',');
        }
        let op = match matcher.op() {
            Op::Equal => "=",
            Op::NotEqual => "!=",
            Op::Match => "=~",
            Op::NoMatch => "!~",
        };
        match is_name(matcher.name(), false) {
            true => out.push_str(matcher.name()),
            false => out.push_str(&literal(matcher.name())),
        }
        out.push_str(op);
        out.push_str(&literal(matcher.value()));
    }
    out.push('}');
    out
}

/// Whether a text can be the name of a metric, or of a label, as it is.
fn is_name(text: &str, metric: bool) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || (metric && c == ':');
    text.starts_with(|c| is_part(c) && !c.is_ascii_digit()) && text.chars().all(is_part)
}

/// A text between double quotes, which PromQL reads as Go does.
fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => {
                // Writing to a text cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A call of the HTTP API: a path below the server's address, and the fields of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Path below the address of the server.
    pub path: &'static str,
    /// Fields, to be sent as `application/x-www-form-urlencoded` by POST, or as the query of a GET. Not encoded.
    pub fields: Vec<(&'static str, String)>,
}

impl Request {
    /// The value of a query at a time, in milliseconds since 1970. The server gives up after `timeout` seconds.
    #[must_use]
    pub fn instant(query: &Query<'_>, at: i64, timeout: u32) -> Self {
        Self {
            path: "/api/v1/query",
            fields: vec![
                ("query", query.promql()),
                ("time", seconds(at)),
                ("timeout", format!("{timeout}s")),
            ],
        }
    }

    /// The values of a query from one time to another, in milliseconds since 1970, every `step` milliseconds.
    #[must_use]
    pub fn range(query: &Query<'_>, from: i64, to: i64, step: i64, timeout: u32) -> Self {
        // Prometheus refuses more points than this.
        let least = (to - from) / (super::answer::MAX_POINTS as i64 - 1) + 1;
        Self {
            path: "/api/v1/query_range",
            fields: vec![
                ("query", query.promql()),
                ("start", seconds(from)),
                ("end", seconds(to)),
                ("step", seconds(step.max(least).max(1))),
                ("timeout", format!("{timeout}s")),
            ],
        }
    }
}

/// Milliseconds as seconds, without an error of arithmetic.
fn seconds(millis: i64) -> String {
    let sign = if millis < 0 { "-" } else { "" };
    let millis = millis.unsigned_abs();
    format!("{sign}{}.{:03}", millis / 1000, millis % 1000)
}
