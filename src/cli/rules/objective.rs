//! From the queries and targets of other tools to an objective of the spec. Pure; what an objective cannot say
//! is refused.

use std::collections::BTreeMap;

use super::read::{Condition, Fault, Query, Vector};
use crate::{
    api::{
        duration::Duration,
        observe::{ErrorRate, Latency, Objective, ObjectiveSeverity},
    },
    slo::{Op, objective::MIN_EVENTS},
};

/// Events of an objective, as another tool has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Events {
    /// Good ones, and all.
    Good {
        /// Good ones.
        good: Query,
        /// All.
        total: Query,
    },
    /// Bad ones, and all.
    Bad {
        /// Bad ones.
        bad: Query,
        /// All.
        total: Query,
    },
}

/// An objective of another tool.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Foreign {
    /// Its name.
    pub(super) name: String,
    /// What it means to people.
    pub(super) description: Option<String>,
    /// What is counted.
    pub(super) events: Events,
    /// The share of good events that is promised, in percent.
    pub(super) target: f64,
}

/// Why an objective cannot be one of the spec.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(super) enum Unlike {
    /// A query.
    #[error("its query cannot be read: {0}")]
    Query(#[from] Fault),
    /// The name.
    #[error(
        "its name `{0}` must be of at most 63 lowercase letters, digits and `-`, and begin and end with a letter or a digit"
    )]
    Name(String),
    /// The description.
    #[error("its description has more than 256 characters")]
    Description,
    /// Two metrics.
    #[error("it compares {0} with {1}; both must be of one counter, or of one histogram")]
    Metrics(String, String),
    /// A condition that is not the same.
    #[error(
        "the condition on `{0}` is not on all events; an objective counts a part of its own events"
    )]
    NotAPart(String),
    /// A condition that the spec cannot have.
    #[error(
        "the condition {label}{op}\"{value}\" cannot be written: a selector names what a label must match"
    )]
    Condition {
        /// The label.
        label: String,
        /// As written.
        op: &'static str,
        /// The value.
        value: String,
    },
    /// No condition that marks an error.
    #[error("nothing tells bad events from good ones")]
    Same,
    /// Two conditions of which one must not hold.
    #[error("good events have more than one condition; only one can be turned into that of errors")]
    Negation,
    /// The bound of a histogram.
    #[error(
        "the bound of its bucket, `{0}`, is not a length between 1ms and 1h in whole milliseconds"
    )]
    Bound(String),
    /// The target of a latency.
    #[error("its target {0} % is not a whole number from 1 to 99, which a quantile must be")]
    Quantile(f64),
    /// The target of a share.
    #[error(
        "its target {0} % leaves a share of errors that is not between 0 % and 99.9999 % with at most 4 decimals"
    )]
    Share(f64),
}

impl Foreign {
    /// The objective of the spec that says the same.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn objective(&self) -> Result<Objective, Unlike> {
        if !is_name(&self.name) {
            return Err(Unlike::Name(self.name.clone()));
        }
        let description = self.description.clone().filter(|text| !text.is_empty());
        if description
            .as_ref()
            .is_some_and(|text| text.chars().count() > 256)
        {
            return Err(Unlike::Description);
        }
        let mut objective = Objective {
            name: self.name.clone(),
            description,
            severity: ObjectiveSeverity::default(),
            min_events: MIN_EVENTS,
            latency: None,
            error_rate: None,
            gauge: None,
            availability: None,
            logs: None,
        };
        match self.within() {
            Some((within, total)) => objective.latency = Some(self.latency(within, total)?),
            None => objective.error_rate = Some(self.errors()?),
        }
        Ok(objective)
    }

    /// Events at most as large as a bound, and all, if it is that.
    fn within(&self) -> Option<(&Vector, &Vector)> {
        let (within, total) = match &self.events {
            Events::Good {
                good: Query::Sum(good),
                total: Query::Sum(total),
            } => (good, total),
            Events::Bad {
                bad: Query::Difference(all, within),
                total: Query::Sum(total),
            } if all == total => (within, total),
            _ => return None,
        };
        let has_bound = within.of.iter().any(|condition| condition.label == "le");
        has_bound.then_some((within, total))
    }

    fn latency(&self, within: &Vector, total: &Vector) -> Result<Latency, Unlike> {
        let metrics = || Unlike::Metrics(within.metric.clone(), total.metric.clone());
        let metric = within.metric.strip_suffix("_bucket").ok_or_else(metrics)?;
        let is_all = match total.metric.strip_prefix(metric) {
            Some("_count") => true,
            Some("_bucket") => total.of.iter().any(is_infinite),
            _ => false,
        };
        if !is_all {
            return Err(metrics());
        }
        let without_bound = |of: &Vector| {
            let of = of.of.iter().filter(|condition| condition.label != "le");
            of.cloned().collect::<Vec<_>>()
        };
        let (mine, theirs) = (without_bound(within), without_bound(total));
        if let Some(other) = mine.iter().find(|one| !theirs.contains(one)) {
            return Err(Unlike::NotAPart(other.label.clone()));
        }
        if let Some(other) = theirs.iter().find(|one| !mine.contains(one)) {
            return Err(Unlike::NotAPart(other.label.clone()));
        }
        let mut bounds = within.of.iter().filter(|condition| condition.label == "le");
        let bound = bounds.next().map(|condition| condition.value.as_str());
        let quantile = self.target.round();
        if (quantile - self.target).abs() > 1e-9 || !(1.0..=99.0).contains(&quantile) {
            return Err(Unlike::Quantile(self.target));
        }
        Ok(Latency {
            metric: metric.to_owned(),
            selector: selector(&mine)?,
            quantile: quantile as u32,
            below: length(bound.unwrap_or_default())?,
        })
    }

    fn errors(&self) -> Result<ErrorRate, Unlike> {
        let (part, total, is_bad) = match &self.events {
            Events::Good {
                good: Query::Sum(good),
                total: Query::Sum(total),
            } => (good, total, false),
            Events::Bad {
                bad: Query::Sum(bad),
                total: Query::Sum(total),
            } => (bad, total, true),
            _ => return Err(Unlike::Same),
        };
        if part.metric != total.metric {
            return Err(Unlike::Metrics(part.metric.clone(), total.metric.clone()));
        }
        if let Some(other) = total.of.iter().find(|one| !part.of.contains(one)) {
            return Err(Unlike::NotAPart(other.label.clone()));
        }
        let more = part.of.iter().filter(|one| !total.of.contains(one));
        let mut more: Vec<Condition> = more.cloned().collect();
        if more.is_empty() {
            return Err(Unlike::Same);
        }
        if !is_bad {
            more = vec![opposite(&more)?];
        }
        Ok(ErrorRate {
            metric: total.metric.clone(),
            selector: selector(&total.of)?,
            error_selector: selector(&more)?,
            below: self.share()?,
        })
    }

    fn share(&self) -> Result<String, Unlike> {
        let share = 100.0 - self.target;
        let rounded = (share * 1e4).round() / 1e4;
        if (share - rounded).abs() > 1e-9 || !(0.0..100.0).contains(&rounded) {
            return Err(Unlike::Share(self.target));
        }
        Ok(format!("{rounded}%"))
    }
}

fn is_infinite(condition: &Condition) -> bool {
    condition.label == "le" && condition.op == Op::Equal && condition.value == "+Inf"
}

/// What is good when this does not hold.
fn opposite(conditions: &[Condition]) -> Result<Condition, Unlike> {
    let [one] = conditions else {
        return Err(Unlike::Negation);
    };
    let op = match one.op {
        Op::NoMatch => Op::Match,
        Op::NotEqual => Op::Equal,
        Op::Match | Op::Equal => return Err(refused(one)),
    };
    Ok(Condition { op, ..one.clone() })
}

/// The conditions as labels with regular expressions. That requests of Golive's own probes do not count is
/// true of every objective.
fn selector(of: &[Condition]) -> Result<BTreeMap<String, String>, Unlike> {
    let mut labels = BTreeMap::new();
    for condition in of {
        let value = match condition.op {
            Op::Match => condition.value.clone(),
            Op::Equal => regex::escape(&condition.value),
            Op::NotEqual if condition.label == "probe" && condition.value == "true" => continue,
            Op::NotEqual | Op::NoMatch => return Err(refused(condition)),
        };
        if labels.insert(condition.label.clone(), value).is_some() {
            return Err(refused(condition));
        }
    }
    Ok(labels)
}

fn refused(condition: &Condition) -> Unlike {
    Unlike::Condition {
        label: condition.label.clone(),
        op: match condition.op {
            Op::Equal => "=",
            Op::NotEqual => "!=",
            Op::Match => "=~",
            Op::NoMatch => "!~",
        },
        value: condition.value.clone(),
    }
}

/// The bound of a bucket in seconds, as a length of time. Our own rules write `3|3\.0` for 3.
fn length(text: &str) -> Result<Duration, Unlike> {
    let refused = || Unlike::Bound(text.to_owned());
    let first = match text.split_once('|') {
        Some((first, second)) if second.strip_suffix("\\.0") == Some(first) => first.to_owned(),
        Some(_) => return Err(refused()),
        None => text.replace("\\.", "."),
    };
    let seconds: f64 = first.parse().map_err(|_| refused())?;
    let millis = seconds * 1000.0;
    if (millis - millis.round()).abs() > 1e-6 || !(1.0..=3_600_000.0).contains(&millis) {
        return Err(refused());
    }
    Ok(std::time::Duration::from_millis(millis.round() as u64).into())
}

fn is_name(name: &str) -> bool {
    let is_end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_part = |c: char| is_end(c) || c == '-';
    (1..=63).contains(&name.len())
        && name.chars().all(is_part)
        && name.starts_with(is_end)
        && name.ends_with(is_end)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::read::query;
    use super::*;

    fn bad(bad: &str, total: &str, target: f64) -> Result<Objective, Unlike> {
        Foreign {
            name: "x".to_owned(),
            description: None,
            events: Events::Bad {
                bad: query(bad)?,
                total: query(total)?,
            },
            target,
        }
        .objective()
    }

    fn good(good: &str, total: &str, target: f64) -> Result<Objective, Unlike> {
        Foreign {
            name: "x".to_owned(),
            description: None,
            events: Events::Good {
                good: query(good)?,
                total: query(total)?,
            },
            target,
        }
        .objective()
    }

    #[test]
    fn a_share_of_a_counter_is_an_error_rate() {
        let by_errors = bad("r{job=\"a.b\",code=~\"5..\"}", "r{job=\"a.b\"}", 99.9).unwrap();
        let by_good = good("r{job=\"a.b\",code!~\"5..\"}", "r{job=\"a.b\"}", 99.9).unwrap();
        assert_eq!(by_errors, by_good);
        let rate = by_errors.error_rate.unwrap();
        assert_eq!(rate.selector["job"], "a\\.b");
        assert_eq!(rate.error_selector["code"], "5..");
        assert_eq!(rate.below, "0.1%");
    }

    #[test]
    fn a_bucket_and_all_events_are_a_latency() {
        for (within, total) in [
            ("m_bucket{k=\"t\",le=\"2.5\"}", "m_count{k=\"t\"}"),
            (
                "sum(rate(m_bucket{le=\"2.5\",k=\"t\"}[5m]))",
                "sum(rate(m_bucket{k=\"t\",le=\"+Inf\"}[5m]))",
            ),
        ] {
            let latency = good(within, total, 95.0).unwrap().latency.unwrap();
            assert_eq!((latency.metric.as_str(), latency.quantile), ("m", 95));
            assert_eq!(latency.below.to_string(), "2s500ms");
            assert_eq!(latency.selector["k"], "t");
        }
        let slow = "sum(rate(m_count[5m])) - sum(rate(m_bucket{le=\"3.0\"}[5m]))";
        let latency = bad(slow, "sum(rate(m_count[5m]))", 90.0).unwrap().latency;
        assert_eq!(latency.unwrap().below, Duration::from_secs(3));
    }

    #[test]
    fn what_an_objective_cannot_say_is_refused_in_words() {
        for (found, says) in [
            (bad("a{c=\"5\"}", "b", 99.0), "it compares a with b"),
            (bad("a{c=\"5\"}", "a{d=\"1\"}", 99.0), "condition on `d`"),
            (bad("a", "a", 99.0), "nothing tells bad events"),
            (bad("a{c!=\"2\"}", "a", 99.0), "c!=\"2\""),
            (good("a{c=\"2\"}", "a", 99.0), "c=\"2\""),
            (
                good("a{c!=\"2\",d!=\"3\"}", "a", 99.0),
                "more than one condition",
            ),
            (
                good("a_bucket{le=\"1\"}", "a_count", 99.9),
                "99.9 % is not a whole number",
            ),
            (
                good("a_bucket{le=\"1\"}", "b_count", 99.0),
                "it compares a_bucket with b_count",
            ),
            (
                good("a_bucket{le=\"1\"}", "a_bucket", 99.0),
                "it compares a_bucket with a_bucket",
            ),
            (
                good("a_bucket{le=\"1\",k=\"t\"}", "a_count", 99.0),
                "condition on `k`",
            ),
            (
                good("a_bucket{le=\"+Inf\"}", "a_count", 99.0),
                "the bound of its bucket",
            ),
            (
                good("a_bucket{le=\"0.0001\"}", "a_count", 99.0),
                "the bound of its bucket",
            ),
            (bad("a{c=\"5\"}", "a", 99.999_99), "at most 4 decimals"),
            (bad("a{c=\"5\"}", "a", -1.0), "at most 4 decimals"),
        ] {
            let said = found.unwrap_err().to_string();
            assert!(said.contains(says), "{said}\nmust say {says}");
        }
        for name in ["", "A", "-a", "a-", "a_b", &"a".repeat(64)] {
            assert!(!is_name(name), "{name}");
        }
    }
}
