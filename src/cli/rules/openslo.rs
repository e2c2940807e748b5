//! OpenSLO v1. Pure.
//!
//! Source: OpenSLO/OpenSLO, `README.md`, "SLO" and "SLI" of `openslo/v1`. Its time windows are lengths with one
//! unit, and queries of a ratio are counters when `counter` is true.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    expr::{self, Over},
    foreign::{Exported, Imported, Metadata, number_of},
    objective::{Events, Foreign},
    read::query,
    slo::{Error, Slo, Slos, What, Why, number},
};

/// What every document of it has.
pub(super) const VERSION: &str = "openslo/v1";

/// The only kind that is read.
const KIND: &str = "SLO";

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    service: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    indicator: Option<Indicator>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    indicator_ref: Option<String>,
    #[serde(default)]
    time_window: Vec<Window>,
    budgeting_method: String,
    objectives: Vec<Target>,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    alert_policies: Value,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Indicator {
    metadata: Value,
    spec: IndicatorSpec,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct IndicatorSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ratio_metric: Option<Ratio>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    threshold_metric: Option<Value>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Ratio {
    counter: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    good: Option<Metric>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bad: Option<Metric>,
    total: Metric,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Metric {
    metric_source: MetricSource,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MetricSource {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metric_source_ref: Option<String>,
    #[serde(default, rename = "type", skip_serializing_if = "String::is_empty")]
    kind: String,
    spec: MetricSpec,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct MetricSpec {
    query: String,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Window {
    duration: String,
    is_rolling: bool,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Target {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    display_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target_percent: Option<f64>,
}

/// Writes the objectives.
///
/// # Errors
/// When one is of a gauge.
pub(super) fn write(slos: &Slos) -> Result<Exported, Error> {
    let mut exported = Exported::default();
    for slo in &slos.all {
        exported.add(&document(slos, slo)?);
    }
    exported.warn(slos, "OpenSLO");
    exported
        .warnings
        .push("burnRates is not part of an SLO of OpenSLO; no alert policy is written".to_owned());
    Ok(exported)
}

fn document(slos: &Slos, slo: &Slo) -> Result<Document, Error> {
    let metric = |query: String| Metric {
        metric_source: MetricSource {
            metric_source_ref: None,
            kind: "Prometheus".to_owned(),
            spec: MetricSpec { query },
        },
    };
    let total = metric(expr::all(slo, Over::Counter));
    let (good, bad) = match &slo.what {
        What::Errors {
            metric: counter,
            of,
            bad,
            ..
        } => {
            let errors = expr::errors(counter, of, bad);
            (None, Some(metric(format!("sum({errors})"))))
        }
        What::Slow {
            metric: histogram,
            of,
            below,
            ..
        } => {
            let within = expr::within(histogram, of, *below);
            (Some(metric(format!("sum({within})"))), None)
        }
        What::Level { .. } => {
            return Err(Error::Inexpressible {
                name: slo.name.clone(),
                why: Why::Gauge("OpenSLO"),
            });
        }
    };
    let budget = slo.budget().unwrap_or_default();
    Ok(Document {
        api_version: VERSION.to_owned(),
        kind: KIND.to_owned(),
        metadata: Metadata {
            // An OpenSLO object has no namespace.
            namespace: None,
            ..Metadata::of(slos, slo)
        },
        spec: Spec {
            description: slo.description.clone(),
            service: slos.activation.clone(),
            indicator: Some(Indicator {
                metadata: serde_json::json!({"name": format!("{}-indicator", slo.name)}),
                spec: IndicatorSpec {
                    description: None,
                    ratio_metric: Some(Ratio {
                        counter: true,
                        good,
                        bad,
                        total,
                    }),
                    threshold_metric: None,
                },
            }),
            indicator_ref: None,
            time_window: vec![Window {
                duration: format!("{}m", slos.watch / 60_000),
                is_rolling: true,
            }],
            budgeting_method: "Occurrences".to_owned(),
            objectives: vec![Target {
                display_name: None,
                target: number(1.0 - budget).parse().ok(),
                target_percent: None,
            }],
            alert_policies: Value::Null,
        },
    })
}

/// Reads a document.
pub(super) fn read(document: &Value, to: &mut Imported) {
    let read: Document = match serde_json::from_value(document.clone()) {
        Ok(read) => read,
        Err(error) => return to.refuse("OpenSLO's document", &error),
    };
    let name = read.metadata.name.clone();
    match foreign(read) {
        Ok(foreign) => {
            to.add(&name, foreign);
            to.leave("the time window");
        }
        Err(why) => to.refuse(&name, &why),
    }
}

type Read = Result<Foreign, super::read::Fault>;

fn foreign(read: Document) -> Result<Read, String> {
    let spec = read.spec;
    if read.kind != KIND {
        return Err(format!(
            "its kind is {}, and only {KIND} can be imported",
            read.kind
        ));
    }
    if spec.budgeting_method != "Occurrences" {
        return Err(format!(
            "its budgetingMethod is {}, and an objective counts occurrences",
            spec.budgeting_method
        ));
    }
    let [target] = &spec.objectives[..] else {
        return Err("it must have exactly one objective".to_owned());
    };
    let target = match (target.target, target.target_percent) {
        (Some(share), None) => number_of(share * 100.0),
        (None, Some(percent)) => number_of(percent),
        _ => return Err("its objective needs exactly one of target and targetPercent".to_owned()),
    };
    let indicator = spec
        .indicator
        .ok_or("its indicator must stand in it, not in another object")?;
    let ratio = indicator.spec.ratio_metric;
    let ratio = ratio.ok_or("only a ratioMetric can be imported, not a thresholdMetric")?;
    if !ratio.counter {
        return Err("its ratioMetric must be of counters (`counter: true`)".to_owned());
    }
    let text = |metric: &Metric| metric.metric_source.spec.query.clone();
    let total = text(&ratio.total);
    let events = match (&ratio.good, &ratio.bad) {
        (Some(good), None) => query(&text(good)).and_then(|good| {
            let total = query(&total)?;
            Ok(Events::Good { good, total })
        }),
        (None, Some(bad)) => query(&text(bad)).and_then(|bad| {
            let total = query(&total)?;
            Ok(Events::Bad { bad, total })
        }),
        _ => return Err("its ratioMetric needs exactly one of good and bad".to_owned()),
    };
    Ok(events.map(|events| Foreign {
        name: read.metadata.name,
        description: spec.description,
        events,
        target,
    }))
}
