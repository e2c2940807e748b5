//! Sloth's format `prometheus/v1`. Pure.
//!
//! Source: slok/sloth, `pkg/prometheus/api/v1/v1.go`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    expr::{self, Over},
    foreign::{Exported, Imported, number_of},
    objective::{Events, Foreign},
    read::query,
    slo::{Error, Slo, Slos, Why, number},
};
use crate::slo::{BurnRates, Severity};

/// What every document of it has.
pub(super) const VERSION: &str = "prometheus/v1";

/// What Sloth fills in for each window.
const WINDOW: &str = "{{.window}}";

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: String,
    service: String,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    labels: Value,
    slos: Vec<Entry>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    objective: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    labels: Value,
    sli: Sli,
    #[serde(default)]
    alerting: Alerting,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Sli {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    events: Option<EventQueries>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    raw: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    plugin: Option<Value>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct EventQueries {
    error_query: String,
    total_query: String,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Alerting {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    labels: Value,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    annotations: Value,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    page_alert: Value,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    ticket_alert: Value,
}

/// Writes the objectives.
///
/// # Errors
/// When one is of a gauge.
pub(super) fn write(slos: &Slos, runbook: &str) -> Result<Exported, Error> {
    let mut exported = Exported::default();
    let entries = slos.all.iter().map(|slo| entry(slos, slo, runbook));
    let document = Document {
        version: VERSION.to_owned(),
        service: slos.activation.clone(),
        labels: serde_json::json!({"namespace": slos.namespace}),
        slos: entries.collect::<Result<_, _>>()?,
    };
    exported.add(&document);
    exported.warn(slos, "Sloth");
    if slos.rates == BurnRates::Scaled {
        exported.warnings.push(
            "burnRates: Scaled is not part of Sloth's format; it alerts by the windows that it is started with"
                .to_owned(),
        );
    }
    Ok(exported)
}

fn entry(slos: &Slos, slo: &Slo, runbook: &str) -> Result<Entry, Error> {
    let over = Over::Rate(WINDOW);
    let (Some(bad), Some(budget)) = (expr::bad(slo, over), slo.budget()) else {
        return Err(Error::Inexpressible {
            name: slo.name.clone(),
            why: Why::Gauge("Sloth"),
        });
    };
    let severity = |name| serde_json::json!({"labels": {"severity": name}});
    Ok(Entry {
        name: slo.name.clone(),
        objective: number((1.0 - budget) * 100.0).parse().unwrap_or_default(),
        description: slo.description.clone(),
        labels: Value::Null,
        sli: Sli {
            events: Some(EventQueries {
                error_query: bad,
                total_query: expr::all(slo, over),
            }),
            raw: None,
            plugin: None,
        },
        alerting: Alerting {
            name: "GoliveErrorBudgetBurn".to_owned(),
            labels: serde_json::json!({"activation": slos.activation, "objective": slo.name}),
            annotations: serde_json::json!({"runbook_url": runbook}),
            page_alert: match slo.severity {
                Severity::Page => severity("page"),
                Severity::Ticket => severity("ticket"),
            },
            ticket_alert: severity("ticket"),
        },
    })
}

/// Reads a document.
pub(super) fn read(document: &Value, to: &mut Imported) {
    let read: Document = match serde_json::from_value(document.clone()) {
        Ok(read) => read,
        Err(error) => return to.refuse("Sloth's document", &error),
    };
    let mut is_left = !read.labels.is_null();
    for entry in read.slos {
        let alerting = &entry.alerting;
        let parts = [
            &entry.labels,
            &alerting.labels,
            &alerting.annotations,
            &alerting.page_alert,
            &alerting.ticket_alert,
        ];
        is_left |= parts.into_iter().any(|part| !part.is_null()) || !alerting.name.is_empty();
        let name = entry.name.clone();
        match (entry.sli.events.as_ref(), &entry.sli.raw, &entry.sli.plugin) {
            (Some(events), None, None) => {
                let events = query(&events.error_query).and_then(|bad| {
                    let total = query(&events.total_query)?;
                    Ok(Events::Bad { bad, total })
                });
                to.add(
                    &name,
                    events.map(|events| Foreign {
                        name: name.clone(),
                        description: entry.description,
                        events,
                        target: number_of(entry.objective),
                    }),
                );
            }
            _ => to.refuse(
                &name,
                &"only `sli.events` can be imported, not `raw` or `plugin`",
            ),
        }
    }
    if is_left {
        to.leave("labels and alerting");
    }
}
