//! From the spec to what is asked and how it is judged. Pure.

use std::{collections::BTreeMap, time::Duration};

use sha2::{Digest, Sha256};

use super::{
    reading::{Asked, Origin, ProbePage, Question},
    source::lines::Pattern,
};
use crate::{
    api::{
        metrics_source::MetricsSource,
        observe::{
            Availability, BurnRates, ErrorRate, GaugeBound, Latency, LogLines, Objective,
            ObjectiveSeverity, Observe, OnBreach,
        },
    },
    slo::{self, Aim, Bound, Matcher, Op, Selector, Severity, Source, matcher::MatcherFault},
};

/// The label that marks requests of Golive's own probes, for applications that count them among others.
const PROBE: (&str, &str) = ("probe", "true");

/// What a watch is to watch.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What is asked in each look.
    pub asked: Asked,
    /// Where metrics come from.
    pub source: MetricsSource,
    /// The objectives, in the order of the spec.
    pub objectives: Vec<Named>,
    /// Windows and factors.
    pub rates: slo::BurnRates,
    /// How long the watch lasts.
    pub window: Duration,
    /// What follows from a breach.
    pub on_breach: OnBreach,
    /// Hash of what the observations are about: with another one they say nothing.
    pub digest: String,
}

/// An objective with its name.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// What it means to people.
    pub description: Option<String>,
    /// How urgent a breach is.
    pub severity: Severity,
    /// What must hold.
    pub objective: slo::Objective,
    /// What it is in words.
    pub words: Words,
}

/// What an objective is about, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    /// A quantile of a length of time.
    Latency,
    /// A share of errors.
    Errors,
    /// A gauge.
    Gauge,
    /// A share of good answers.
    Available,
    /// Lines of a log.
    Lines,
}

/// Why an objective cannot be watched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("spec.observe.objectives[{name}]: {why}")]
pub struct Unusable {
    /// Its name.
    pub name: String,
    /// Why.
    pub why: String,
}

impl Wanted {
    /// What the spec says.
    ///
    /// # Errors
    /// When a regular expression cannot be used.
    pub fn of(spec: &Observe) -> Result<Self, Unusable> {
        let (mut questions, mut objectives) = (Vec::new(), Vec::new());
        for objective in &spec.objectives {
            let unusable = |why| Unusable {
                name: objective.name.clone(),
                why,
            };
            let (question, aim, words) = question(objective).map_err(unusable)?;
            questions.push(question);
            objectives.push(Named {
                name: objective.name.clone(),
                description: objective.description.clone(),
                severity: match objective.severity {
                    ObjectiveSeverity::Page => Severity::Page,
                    ObjectiveSeverity::Ticket => Severity::Ticket,
                },
                objective: slo::Objective {
                    aim,
                    min_events: objective.min_events,
                },
                words,
            });
        }
        Ok(Self {
            asked: Asked {
                origin: Origin::of(&spec.source),
                questions,
            },
            source: spec.source.clone(),
            objectives,
            rates: match spec.burn_rates {
                BurnRates::Standard => slo::BurnRates::Standard,
                BurnRates::Scaled => slo::BurnRates::Scaled,
            },
            window: spec.window.get(),
            on_breach: spec.on_breach,
            digest: digest(spec),
        })
    }

    /// The length of the watch, in milliseconds.
    pub fn length(&self) -> i64 {
        i64::try_from(self.window.as_millis()).unwrap_or(i64::MAX)
    }
}

/// Hash of what decides what observations mean. Names for people, urgency and the fewest events do not.
fn digest(spec: &Observe) -> String {
    let objectives = spec.objectives.iter().map(|objective| Objective {
        description: None,
        severity: ObjectiveSeverity::default(),
        min_events: 0,
        ..objective.clone()
    });
    let about = serde_json::json!({
        "objectives": objectives.collect::<Vec<_>>(), "source": spec.source,
    });
    let hash = Sha256::digest(about.to_string());
    data_encoding::HEXLOWER.encode(&hash[..12])
}

fn question(objective: &Objective) -> Result<(Question, Aim, Words), String> {
    if let Some(latency) = &objective.latency {
        return of_latency(latency);
    }
    if let Some(rate) = &objective.error_rate {
        return of_errors(rate);
    }
    if let Some(gauge) = &objective.gauge {
        return of_gauge(gauge);
    }
    if let Some(availability) = &objective.availability {
        return of_availability(availability);
    }
    match &objective.logs {
        Some(logs) => of_logs(logs),
        None => Err("it says nothing that could be watched".to_owned()),
    }
}

fn selector(labels: &BTreeMap<String, String>) -> Result<Selector, MatcherFault> {
    let labels = labels.iter();
    Selector::of(labels.map(|(name, value)| (name.as_str(), value.as_str())))
}

/// Without requests that are marked as probes, where the application marks them.
fn of_guests(labels: &BTreeMap<String, String>) -> Result<Selector, String> {
    let selector = selector(labels).map_err(|fault| fault.to_string())?;
    if labels.contains_key(PROBE.0) {
        return Ok(selector);
    }
    let probes = Matcher::new(PROBE.0, Op::NotEqual, PROBE.1);
    let probes = probes.map_err(|fault| fault.to_string())?;
    Ok(selector.and(&Selector::new(vec![probes])))
}

fn of_latency(latency: &Latency) -> Result<(Question, Aim, Words), String> {
    let below = latency.below.get().as_secs_f64();
    let source = Source::Histogram {
        metric: latency.metric.clone(),
        of: of_guests(&latency.selector)?,
    };
    let question = Question::Metric {
        source,
        below: Some(below),
    };
    let aim = Aim::Latency {
        quantile: f64::from(latency.quantile) / 100.0,
        below,
    };
    Ok((question, aim, Words::Latency))
}

fn of_errors(rate: &ErrorRate) -> Result<(Question, Aim, Words), String> {
    let source = Source::Counter {
        metric: rate.metric.clone(),
        of: of_guests(&rate.selector)?,
        bad: selector(&rate.error_selector).map_err(|fault| fault.to_string())?,
    };
    let question = Question::Metric {
        source,
        below: None,
    };
    let below = percent(&rate.below)?;
    Ok((question, Aim::BadShare { below }, Words::Errors))
}

fn of_gauge(gauge: &GaugeBound) -> Result<(Question, Aim, Words), String> {
    let bound = match (gauge.below, gauge.above) {
        (Some(below), _) => Bound::Below(below),
        (None, Some(above)) => Bound::Above(above),
        (None, None) => return Err("it has neither `below` nor `above`".to_owned()),
    };
    let source = Source::Gauge {
        metric: gauge.metric.clone(),
        of: selector(&gauge.selector).map_err(|fault| fault.to_string())?,
        bound,
    };
    let question = Question::Metric {
        source,
        below: None,
    };
    Ok((question, Aim::Level(bound), Words::Gauge))
}

fn of_availability(availability: &Availability) -> Result<(Question, Aim, Words), String> {
    let question = Question::Probe(ProbePage {
        path: availability.path.clone(),
        good: availability.good.clone(),
        within: availability.within.get(),
        interval: availability.interval.get(),
    });
    let below = 1.0 - percent(&availability.above)?;
    Ok((question, Aim::BadShare { below }, Words::Available))
}

fn of_logs(logs: &LogLines) -> Result<(Question, Aim, Words), String> {
    let pattern = Pattern::new(&logs.pattern).map_err(|why| format!("`pattern`: {why}"))?;
    let aim = Aim::Lines {
        per_minute: f64::from(logs.per_minute),
    };
    Ok((Question::Lines(pattern), aim, Words::Lines))
}

/// `1%` is 0.01.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').and_then(|text| text.parse().ok());
    let number: f64 = number.ok_or_else(|| format!("`{text}` is no percentage"))?;
    Ok(number / 100.0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wanted(objectives: serde_json::Value) -> Result<Wanted, Unusable> {
        let spec: Observe = serde_json::from_value(json!({ "objectives": objectives })).unwrap();
        Wanted::of(&spec)
    }

    #[test]
    fn every_kind_of_objective_is_asked_and_judged_as_it_says() {
        let wanted = wanted(json!([
            {"name": "text", "latency": {"metric": "d", "selector": {"kind": "text"}, "below": "3s"}},
            {"name": "errors", "minEvents": 5, "severity": "Ticket",
             "errorRate": {"metric": "r", "errorSelector": {"status": "5.."}, "below": "1%"}},
            {"name": "age", "gauge": {"metric": "age", "below": 30}},
            {"name": "up", "availability": {"above": "99.5%"}},
            {"name": "panics", "logs": {"pattern": "panicked", "perMinute": 2}},
        ]))
        .unwrap();
        let aims: Vec<Aim> = wanted.objectives.iter().map(|o| o.objective.aim).collect();
        let Aim::BadShare { below } = aims[3] else {
            unreachable!("{aims:?}")
        };
        assert!((below - 0.005).abs() < 1e-12);
        let quantile = 0.95;
        assert_eq!(
            aims[0],
            Aim::Latency {
                quantile,
                below: 3.0
            }
        );
        assert_eq!(aims[1], Aim::BadShare { below: 0.01 });
        assert_eq!(aims[2], Aim::Level(Bound::Below(30.0)));
        assert_eq!(aims[4], Aim::Lines { per_minute: 2.0 });
        let second = &wanted.objectives[1];
        assert_eq!(
            (second.severity, second.objective.min_events),
            (Severity::Ticket, 5)
        );
        for (question, named) in wanted.asked.questions.iter().zip(&wanted.objectives) {
            assert_eq!(
                question.kind(),
                named.objective.aim.kind(),
                "{}",
                named.name
            );
        }
        assert_eq!(wanted.source.metrics_path.as_deref(), Some("/metrics"));
        assert_eq!(wanted.length(), 72 * 3_600_000);
    }

    #[test]
    fn what_is_no_regular_expression_is_told_with_the_name_of_its_objective() {
        let logs = wanted(json!([{"name": "p", "logs": {"pattern": "(", "perMinute": 1}}]));
        assert!(logs.unwrap_err().to_string().contains("objectives[p]"));
        let labels = json!([{"name": "e", "errorRate": {
            "metric": "r", "errorSelector": {"status": "("}, "below": "1%"}}]);
        assert!(wanted(labels).is_err());
    }

    #[test]
    fn only_what_observations_mean_makes_them_those_of_another_watch() {
        let digest = |objective: serde_json::Value| wanted(json!([objective])).unwrap().digest;
        let age = |bound: u32| json!({"name": "age", "gauge": {"metric": "age", "below": bound}});
        let first = digest(age(30));
        let mut told = age(30);
        told["description"] = "calendars are fresh".into();
        told["minEvents"] = 3.into();
        told["severity"] = "Ticket".into();
        assert_eq!(digest(told), first);
        assert_ne!(digest(age(31)), first);
    }
}
