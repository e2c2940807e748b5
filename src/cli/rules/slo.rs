//! An objective as rules and other tools know it: a share of bad events, or a level. What the spec means is
//! read by the code of the watch, so that both say the same. Pure.

use crate::{
    api::{Activation, observe::Observe},
    phase::observe::{
        question::{Named, Unusable, Wanted},
        reading::{Origin, Question},
    },
    slo::{Aim, Bound, BurnRates, Matcher, Op, Selector, Severity, Source, matcher::MatcherFault},
};

/// All objectives of an Activation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Slos {
    /// Where the Activation is.
    pub(super) namespace: String,
    /// The Activation.
    pub(super) activation: String,
    /// Windows and factors.
    pub(super) rates: BurnRates,
    /// The length of the watch. Unit: milliseconds.
    pub(super) watch: i64,
    /// The objectives, in the order of the spec.
    pub(super) all: Vec<Slo>,
}

/// One objective.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Slo {
    /// Its name.
    pub(super) name: String,
    /// What it means to people.
    pub(super) description: Option<String>,
    /// How urgent a breach is.
    pub(super) severity: Severity,
    /// Fewest events of a window that says anything.
    pub(super) min_events: u32,
    /// What is measured.
    pub(super) what: What,
}

/// What is measured, and its bound.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum What {
    /// A share of the events of a counter.
    Errors {
        /// The counter.
        metric: String,
        /// Which series count.
        of: Selector,
        /// Which of them are errors.
        bad: Selector,
        /// The share that uses up the budget, from 0 to 1.
        budget: f64,
    },
    /// The share of the events of a classic histogram above a bound.
    Slow {
        /// The histogram, without `_bucket`.
        metric: String,
        /// Which series count.
        of: Selector,
        /// The bound. Unit: that of the histogram, seconds by convention.
        below: f64,
        /// The share that uses up the budget, from 0 to 1.
        budget: f64,
    },
    /// The values of a gauge.
    Level {
        /// The gauge.
        metric: String,
        /// Which series count.
        of: Selector,
        /// The side that is right.
        bound: Bound,
    },
}

impl Slo {
    /// The share of bad events that uses up the budget; none for a gauge.
    pub(super) fn budget(&self) -> Option<f64> {
        match self.what {
            What::Errors { budget, .. } | What::Slow { budget, .. } => Some(budget),
            What::Level { .. } => None,
        }
    }

    /// The target in percent, as other tools write it: `99`, `99.5`.
    pub(super) fn target(&self) -> Option<String> {
        self.budget().map(|budget| number((1.0 - budget) * 100.0))
    }
}

/// Why an objective cannot be a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Why {
    /// Golive's own requests.
    Probes,
    /// Lines of a log.
    Lines,
    /// A format that has no such kind.
    Gauge(&'static str),
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Probes => f.write_str(
                "its figures are Golive's own requests, which no Prometheus has; \
                 the alert BudgetBurn of manifests/monitoring covers it",
            ),
            Self::Lines => f.write_str(
                "its figures are lines of Fly.io's log, which no Prometheus has; \
                 the alert BudgetBurn of manifests/monitoring covers it",
            ),
            Self::Gauge(format) => write!(
                f,
                "{format} has no objective for the value of a gauge; the format prometheus has"
            ),
        }
    }
}

/// Why there are no rules.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum Error {
    /// An objective that nothing can be made of.
    #[error("objective {name} cannot be exported: {why}. Leave it out with --except {name}")]
    Inexpressible {
        /// Its name.
        name: String,
        /// Why.
        why: Why,
    },
    /// The spec has no objective.
    #[error("Activation {0} has no objective to export; add one in spec.observe.objectives")]
    Nothing(String),
    /// A name that no objective has.
    #[error("Activation {activation} has no objective {name}; it has {names}")]
    NoSuch {
        /// The Activation.
        activation: String,
        /// What was asked for.
        name: String,
        /// What there is.
        names: String,
    },
    /// The spec is not usable.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// A label that a query cannot have.
    #[error("--match {0} cannot be used: {1}")]
    Match(String, MatcherFault),
}

/// The objectives of an Activation but for those that are left out. `given` are labels that every series has.
///
/// # Errors
/// When one cannot be expressed, or there is none.
pub(super) fn of(
    activation: &Activation,
    except: &[String],
    given: &[(String, String)],
) -> Result<Slos, Error> {
    let name = activation.metadata.name.clone().unwrap_or_default();
    let Some(observe) = &activation.spec.observe else {
        return Err(Error::Nothing(name));
    };
    are_known(&name, observe, except)?;
    let wanted = Wanted::of(observe)?;
    let mut more = Vec::new();
    for (label, value) in given {
        let matcher = Matcher::new(label, Op::Equal, value);
        more.push(matcher.map_err(|fault| Error::Match(format!("{label}={value}"), fault))?);
    }
    if wanted.asked.origin == Origin::FlyPrometheus {
        let app = Matcher::new("app", Op::Equal, &activation.spec.app);
        more.push(app.map_err(|fault| Error::Match("app".to_owned(), fault))?);
    }
    let more = Selector::new(more);
    let both = wanted.objectives.iter().zip(&wanted.asked.questions);
    let kept = both.filter(|(named, _)| !except.contains(&named.name));
    let all = kept.map(|(named, question)| slo(named, question, &more));
    let all: Vec<Slo> = all.collect::<Result<_, _>>()?;
    if all.is_empty() {
        return Err(Error::Nothing(name));
    }
    Ok(Slos {
        namespace: activation.metadata.namespace.clone().unwrap_or_default(),
        activation: name,
        rates: wanted.rates,
        watch: wanted.length(),
        all,
    })
}

fn are_known(activation: &str, observe: &Observe, except: &[String]) -> Result<(), Error> {
    let names: Vec<&str> = observe.objectives.iter().map(|o| o.name.as_str()).collect();
    match except.iter().find(|name| !names.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(Error::NoSuch {
            activation: activation.to_owned(),
            name: name.clone(),
            names: names.join(", "),
        }),
    }
}

fn slo(named: &Named, question: &Question, more: &Selector) -> Result<Slo, Error> {
    let refuse = |why| Error::Inexpressible {
        name: named.name.clone(),
        why,
    };
    let source = match question {
        Question::Metric { source, .. } => source,
        Question::Probe(_) => return Err(refuse(Why::Probes)),
        Question::Lines(_) => return Err(refuse(Why::Lines)),
    };
    let budget = named.objective.aim.budget().unwrap_or_default();
    let what = match (source, named.objective.aim) {
        (Source::Counter { metric, of, bad }, _) => What::Errors {
            metric: metric.clone(),
            of: of.and(more),
            bad: bad.clone(),
            budget,
        },
        (Source::Histogram { metric, of }, Aim::Latency { below, .. }) => What::Slow {
            metric: metric.clone(),
            of: of.and(more),
            below,
            budget,
        },
        (Source::Gauge { metric, of, bound }, _) => What::Level {
            metric: metric.clone(),
            of: of.and(more),
            bound: *bound,
        },
        _ => return Err(refuse(Why::Probes)),
    };
    Ok(Slo {
        name: named.name.clone(),
        description: named.description.clone(),
        severity: named.severity,
        min_events: named.objective.min_events,
        what,
    })
}

/// A number without an error of arithmetic in its last digits: `0.05`, not `0.050000000000000044`.
pub(super) fn number(value: f64) -> String {
    let rounded = (value * 1e10).round() / 1e10;
    rounded.to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// An Activation with this phase Observe.
    pub(in crate::cli::rules) fn activation(observe: Value) -> Activation {
        let object = json!({
            "apiVersion": "golive.dev/v1alpha1", "kind": "Activation",
            "metadata": {"name": "shop", "namespace": "prod"},
            "spec": {"organization": "acme", "app": "shop-app", "region": "eze",
                "deploy": {"image": "x:1"}, "observe": observe},
        });
        serde_json::from_value(object).unwrap()
    }

    /// The objectives of the plan, with a gauge.
    pub(in crate::cli::rules) fn plan() -> Value {
        json!({"objectives": [
            {"name": "text-p95", "description": "a guest who writes gets an answer {{ at once }}",
             "latency": {"metric": "http_request_duration_seconds", "selector": {"kind": "text"},
                         "quantile": 95, "below": "3s"}},
            {"name": "errors", "minEvents": 10, "errorRate": {"metric": "http_requests_total",
                         "errorSelector": {"status": "5.."}, "below": "1%"}},
            {"name": "calendars", "severity": "Ticket",
             "gauge": {"metric": "ical_last_sync_age_minutes", "below": 30}},
        ]})
    }

    pub(in crate::cli::rules) fn slos() -> Slos {
        of(&activation(plan()), &[], &[]).unwrap()
    }

    #[test]
    fn objectives_are_read_as_the_watch_reads_them() {
        let slos = slos();
        assert_eq!(slos.watch, 72 * 3_600_000);
        assert_eq!(slos.all[0].target().as_deref(), Some("95"));
        assert_eq!(slos.all[1].target().as_deref(), Some("99"));
        assert_eq!(
            (slos.all[2].target(), slos.all[2].severity),
            (None, Severity::Ticket)
        );
        let What::Slow { of, budget, .. } = &slos.all[0].what else {
            unreachable!()
        };
        assert_eq!(number(*budget), "0.05");
        assert_eq!(of.matchers().len(), 2, "probes do not count");
    }

    #[test]
    fn what_no_prometheus_has_is_refused_unless_it_is_left_out() {
        let mut observe = plan();
        let objectives = observe["objectives"].as_array_mut().unwrap();
        objectives.push(json!({"name": "up", "availability": {"above": "99%"}}));
        objectives.push(json!({"name": "panics", "logs": {"pattern": "panic", "perMinute": 1}}));
        let activation = activation(observe);
        let refused = |except: &[&str]| {
            let except: Vec<String> = except.iter().map(|name| (*name).to_owned()).collect();
            of(&activation, &except, &[]).map_err(|error| error.to_string())
        };
        assert!(
            refused(&[])
                .unwrap_err()
                .contains("Leave it out with --except up")
        );
        assert!(
            refused(&["up"])
                .unwrap_err()
                .contains("lines of Fly.io's log")
        );
        assert_eq!(refused(&["up", "panics"]).unwrap().all.len(), 3);
        assert!(
            refused(&["down"])
                .unwrap_err()
                .contains("it has text-p95, errors")
        );
    }

    #[test]
    fn given_labels_and_the_app_of_flys_prometheus_are_conditions() {
        let mut observe = plan();
        observe["source"] = json!({"flyPrometheus": {}});
        let given = [("job".to_owned(), "web".to_owned())];
        let slos = of(&activation(observe), &[], &given).unwrap();
        let What::Level { of, .. } = &slos.all[2].what else {
            unreachable!()
        };
        let found: Vec<_> = of
            .matchers()
            .iter()
            .map(|m| (m.name(), m.value()))
            .collect();
        assert_eq!(found, [("job", "web"), ("app", "shop-app")]);
    }
}
