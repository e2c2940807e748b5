//! `kubectl golive events`: the events of Activations, oldest first.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use kube::{Api, api::ListParams};
use serde::Serialize;

use super::ages::relative;
use super::connect::{self, Connection, Selection};
use super::format::{self, Formatted, Items};
use super::output::Output;
use super::refused::{Refused, Role};
use super::style::{Line, Paint, Tone, table};

/// Arguments of `events`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Kubernetes keeps events for an hour, unless the cluster says otherwise; also those of an Activation that
is deleted.

You need the right to list events, which Kubernetes' own ClusterRole view has.

Examples:
  kubectl golive events shop -n prod
  kubectl golive events -A --warnings
  kubectl golive events shop -o json")]
pub(super) struct Args {
    /// The Activation. Default: all of the namespace.
    #[arg(conflicts_with_all = ["all_namespaces", "selector"])]
    name: Option<String>,

    /// Only warnings.
    #[arg(long)]
    warnings: bool,

    #[command(flatten)]
    format: Formatted,

    #[command(flatten)]
    selection: Selection,

    #[command(flatten)]
    connection: Connection,
}

/// Why there are no events.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Connect(#[from] connect::Error),
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Format(#[from] format::Error),
}

/// One event.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    namespace: String,
    name: String,
    #[serde(rename = "type")]
    type_: String,
    reason: String,
    message: String,
    count: i32,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

/// Reads and prints.
pub(super) async fn run(args: &Args) -> Result<Output, Error> {
    let connected = args.connection.open().await?;
    let mut fields = vec!["involvedObject.kind=Activation".to_owned()];
    if let Some(name) = &args.name {
        fields.push(format!("involvedObject.name={name}"));
    }
    if args.warnings {
        fields.push("type=Warning".to_owned());
    }
    let everywhere = args.selection.everywhere();
    let api: Api<Event> = if everywhere {
        Api::all(connected.kube.clone())
    } else {
        Api::namespaced(connected.kube.clone(), &connected.namespace)
    };
    let params = ListParams::default().fields(&fields.join(","));
    let events = match api.list(&params).await {
        Ok(list) => list.items,
        Err(error) => {
            let mut doing = connected.doing("list events", Role::Events);
            if everywhere {
                doing.namespace = None;
            }
            return Err(connected.refused(doing, error).await.into());
        }
    };
    let mut items = told(&events);
    if let (Some(name), true) = (&args.name, items.is_empty()) {
        // Events outlive the object: only when there are none a name may be mistyped.
        connected.activation(name).await?;
    }
    if args.selection.labels().is_some() {
        let selected = connected.list(&args.selection).await?;
        items.retain(|event| {
            selected.iter().any(|one| {
                one.metadata.name.as_deref() == Some(&event.name)
                    && one.metadata.namespace.as_deref() == Some(&event.namespace)
            })
        });
    }
    let items = Items { items };
    if let Some(text) = args.format.document("EventList", &items)? {
        return Ok(Output::text(text));
    }
    let lines = rows(&items.items, connected.now(), everywhere);
    Ok(Output::listed(Paint::of_stdout().text(&lines)))
}

/// The events of Activations of this group, oldest first. Pure.
fn told(events: &[Event]) -> Vec<Told> {
    let ours = events.iter().filter(|event| {
        let version = event.involved_object.api_version.as_deref();
        version.is_some_and(|version| version.starts_with(crate::api::GROUP))
    });
    let mut told: Vec<Told> = ours
        .map(|event| {
            let series = event.series.as_ref();
            let micro = event.event_time.as_ref().map(|time| time.0);
            let first = event.first_timestamp.as_ref().map(|time| time.0).or(micro);
            let last = series
                .and_then(|series| series.last_observed_time.as_ref())
                .map(|time| time.0)
                .or(event.last_timestamp.as_ref().map(|time| time.0))
                .or(first);
            Told {
                namespace: event.involved_object.namespace.clone().unwrap_or_default(),
                name: event.involved_object.name.clone().unwrap_or_default(),
                type_: event.type_.clone().unwrap_or_default(),
                reason: event.reason.clone().unwrap_or_default(),
                message: event.message.clone().unwrap_or_default(),
                count: series
                    .and_then(|series| series.count)
                    .or(event.count)
                    .unwrap_or(1),
                first,
                last,
            }
        })
        .collect();
    told.sort_by(|a, b| (a.last, &a.reason).cmp(&(b.last, &b.reason)));
    told
}

/// The table. Pure.
fn rows(events: &[Told], now: Timestamp, namespaces: bool) -> Vec<Line> {
    let row = |event: &Told| {
        let plain = |text: String| (Tone::Plain, text);
        let tone = if event.type_ == "Warning" {
            Tone::Warn
        } else {
            Tone::Plain
        };
        let last = event
            .last
            .map_or_else(|| "-".to_owned(), |last| relative(last, now));
        let times = if event.count > 1 {
            format!("{last} (x{})", event.count)
        } else {
            last
        };
        let name = if namespaces {
            format!("{}/{}", event.namespace, event.name)
        } else {
            event.name.clone()
        };
        vec![
            plain(times),
            (tone, event.type_.clone()),
            plain(event.reason.clone()),
            plain(name),
            plain(event.message.clone()),
        ]
    };
    let rows: Vec<_> = events.iter().map(row).collect();
    table(&["LAST", "TYPE", "REASON", "ACTIVATION", "MESSAGE"], &rows)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(reason: &str, version: &str, last: &str) -> Event {
        serde_json::from_value(json!({
            "metadata": {"name": reason},
            "involvedObject": {"apiVersion": version, "kind": "Activation", "namespace": "prod", "name": "shop"},
            "reason": reason, "type": "Warning", "message": "m",
            "eventTime": "2026-01-01T00:00:00.000000Z",
            "series": {"count": 3, "lastObservedTime": last},
        }))
        .unwrap()
    }

    #[test]
    fn events_are_those_of_our_group_oldest_first_with_their_count() {
        let ours = "golive.dev/v1alpha1";
        let events = [
            event("Later", ours, "2026-01-01T03:00:00.000000Z"),
            event("First", ours, "2026-01-01T01:00:00.000000Z"),
            event("Other", "other.dev/v1", "2026-01-01T01:00:00.000000Z"),
        ];
        let told = told(&events);
        let now: Timestamp = "2026-01-01T04:00:00Z".parse().unwrap();
        let lines: Vec<String> = rows(&told, now, true).iter().map(Line::text).collect();
        assert_eq!(
            lines,
            [
                "LAST          TYPE      REASON   ACTIVATION   MESSAGE",
                "3h ago (x3)   Warning   First    prod/shop    m",
                "1h ago (x3)   Warning   Later    prod/shop    m",
            ]
        );
    }
}
