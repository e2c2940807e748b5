//! Pyrra's ServiceLevelObjective. Pure.
//!
//! Source: pyrra-dev/pyrra, `kubernetes/api/v1alpha1/servicelevelobjective_types.go`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    expr,
    foreign::{Exported, Imported, Metadata},
    objective::{Events, Foreign},
    prometheus::length,
    read::query,
    slo::{Error, Slo, Slos, What, Why},
};
use crate::slo::BurnRates;

/// What every document of it has.
pub(super) const VERSION: &str = "pyrra.dev/v1alpha1";

/// Its only kind.
const KIND: &str = "ServiceLevelObjective";

/// The period that the windows of `burnRates: Standard` are of.
const MONTH: &str = "4w";

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    target: String,
    window: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    alerting: Value,
    indicator: Indicator,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Indicator {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ratio: Option<Ratio>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    latency: Option<Latency>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    latency_native: Option<Value>,
    #[serde(
        default,
        rename = "bool_gauge",
        alias = "boolGauge",
        skip_serializing_if = "Option::is_none"
    )]
    bool_gauge: Option<Value>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Ratio {
    errors: Metric,
    total: Metric,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    grouping: Option<Vec<String>>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Latency {
    success: Metric,
    total: Metric,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    grouping: Option<Vec<String>>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Metric {
    metric: String,
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
    exported.warn(slos, "Pyrra");
    if slos.rates == BurnRates::Standard {
        exported.warnings.push(format!(
            "burnRates: Standard is not part of Pyrra's format; it alerts by its own factors for {MONTH}: 14, 7, 2, 1"
        ));
    }
    Ok(exported)
}

fn document(slos: &Slos, slo: &Slo) -> Result<Document, Error> {
    let metric = |metric: String| Metric { metric };
    let indicator = match &slo.what {
        What::Errors {
            metric: counter,
            of,
            bad,
            ..
        } => Indicator {
            ratio: Some(Ratio {
                errors: metric(expr::errors(counter, of, bad)),
                total: metric(expr::total(slo)),
                grouping: None,
            }),
            ..Indicator::default()
        },
        What::Slow {
            metric: histogram,
            of,
            below,
            ..
        } => Indicator {
            latency: Some(Latency {
                success: metric(expr::within_exactly(histogram, of, *below)),
                total: metric(crate::promql::series(&format!("{histogram}_count"), of)),
                grouping: None,
            }),
            ..Indicator::default()
        },
        What::Level { .. } => {
            return Err(Error::Inexpressible {
                name: slo.name.clone(),
                why: Why::Gauge("Pyrra"),
            });
        }
    };
    Ok(Document {
        api_version: VERSION.to_owned(),
        kind: KIND.to_owned(),
        metadata: Metadata::of(slos, slo),
        spec: Spec {
            target: slo.target().unwrap_or_default(),
            window: match slos.rates {
                BurnRates::Scaled => length(slos.watch),
                BurnRates::Standard => MONTH.to_owned(),
            },
            description: slo.description.clone(),
            alerting: Value::Null,
            indicator,
        },
    })
}

/// Reads a document.
pub(super) fn read(document: &Value, to: &mut Imported) {
    let read: Document = match serde_json::from_value(document.clone()) {
        Ok(read) => read,
        Err(error) => return to.refuse("Pyrra's document", &error),
    };
    let (name, spec) = (read.metadata.name, read.spec);
    if read.kind != KIND {
        return to.refuse(&name, &format!("its kind is {}, not {KIND}", read.kind));
    }
    let Ok(target) = spec.target.parse::<f64>() else {
        return to.refuse(&name, &format!("its target `{}` is no number", spec.target));
    };
    let indicator = spec.indicator;
    if indicator.latency_native.is_some() || indicator.bool_gauge.is_some() {
        return to.refuse(
            &name,
            &"only the indicators ratio and latency can be imported",
        );
    }
    let (events, grouping) = match (indicator.ratio, indicator.latency) {
        (Some(ratio), None) => {
            let events = query(&ratio.errors.metric).and_then(|bad| {
                let total = query(&ratio.total.metric)?;
                Ok(Events::Bad { bad, total })
            });
            (events, ratio.grouping)
        }
        (None, Some(latency)) => {
            let events = query(&latency.success.metric).and_then(|good| {
                let total = query(&latency.total.metric)?;
                Ok(Events::Good { good, total })
            });
            (events, latency.grouping)
        }
        _ => {
            return to.refuse(
                &name,
                &"it must have exactly one of the indicators ratio and latency",
            );
        }
    };
    if grouping.is_some_and(|labels| !labels.is_empty()) {
        return to.refuse(
            &name,
            &"an objective is of an application, and cannot be grouped by labels",
        );
    }
    to.add(
        &name,
        events.map(|events| Foreign {
            name: name.clone(),
            description: spec.description,
            events,
            target,
        }),
    );
    to.leave(&format!("the window {}", spec.window));
    if !spec.alerting.is_null() {
        to.leave("alerting");
    }
}
