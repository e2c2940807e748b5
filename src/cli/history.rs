//! `kubectl golive history`: the releases on record.

use jiff::Timestamp;
use serde::Serialize;

use super::ages::since;
use super::connect::Connection;
use super::format::Formatted;
use super::output::Output;
use super::status::Error;
use super::style::{Line, Paint, Tone, table};
use crate::api::status::{HistoryEntry, HistoryOutcome};

/// Arguments of `history`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Newest first; the mark * is at the release that serves. `kubectl golive rollback NAME --to NUMBER` restores
one that succeeded. -o wide adds who asked for it and why.

You need the ClusterRole activation-view.

Examples:
  kubectl golive history shop -n prod
  kubectl golive history shop -o json")]
pub(super) struct Args {
    /// The Activation.
    name: String,

    #[command(flatten)]
    format: Formatted,

    #[command(flatten)]
    connection: Connection,
}

#[derive(Serialize)]
struct History {
    namespace: String,
    name: String,
    /// Number of the release that serves.
    serves: Option<i64>,
    items: Vec<HistoryEntry>,
}

/// Reads and prints.
pub(super) async fn run(args: &Args) -> Result<Output, Error> {
    let connected = args.connection.open().await?;
    let activation = connected.activation(&args.name).await?;
    let status = activation.status.unwrap_or_default();
    let history = History {
        namespace: connected.namespace.clone(),
        name: args.name.clone(),
        serves: status.release.and_then(|release| release.number),
        items: status.history,
    };
    if let Some(text) = args.format.document("History", &history)? {
        return Ok(Output::text(text));
    }
    let lines = rows(
        &history.items,
        history.serves,
        connected.now(),
        args.format.is_wide(),
    );
    Ok(Output::listed(Paint::of_stdout().text(&lines)))
}

/// The table. Pure.
fn rows(items: &[HistoryEntry], serves: Option<i64>, now: Timestamp, wide: bool) -> Vec<Line> {
    let mut heading = vec!["RELEASE", "OUTCOME", "AGE", "IMAGE", "CHANGES"];
    if wide {
        heading.extend(["BY", "WHY"]);
    }
    let row = |entry: &HistoryEntry| {
        let plain = |text: String| (Tone::Plain, text);
        let number = entry.number.map(|number| number.to_string());
        let mark = if entry.number.is_some() && entry.number == serves {
            " *"
        } else {
            ""
        };
        let tone = match entry.outcome {
            HistoryOutcome::Succeeded => Tone::Good,
            HistoryOutcome::RolledBack | HistoryOutcome::Failed => Tone::Bad,
            _ => Tone::Warn,
        };
        let restores = entry.restores.map(|to| format!(" to {to}"));
        let outcome = format!("{}{}", entry.outcome, restores.unwrap_or_default());
        let time = entry.time.as_ref();
        let mut row = vec![
            plain(format!("{}{mark}", number.unwrap_or_default())),
            (tone, outcome),
            plain(time.map_or_else(|| "-".to_owned(), |time| since(time.0, now))),
            plain(entry.image.clone()),
            plain(entry.changes.clone()),
        ];
        if wide {
            row.extend([plain(entry.by.clone()), plain(entry.why.clone())]);
        }
        row
    };
    table(&heading, &items.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_release_that_serves_is_marked_and_a_rollback_says_to_what() {
        let items: Vec<HistoryEntry> = serde_json::from_value(json!([
            {"number": 2, "image": "x:2", "outcome": "RolledBack", "restores": 1, "changes": "image x:1 to x:2",
             "time": "2026-01-01T00:00:00Z"},
            {"number": 1, "image": "x:1", "outcome": "Succeeded"},
        ]))
        .unwrap();
        let now: Timestamp = "2026-01-01T02:00:00Z".parse().unwrap();
        let lines: Vec<String> = rows(&items, Some(1), now, false)
            .iter()
            .map(Line::text)
            .collect();
        assert_eq!(
            lines,
            [
                "RELEASE   OUTCOME           AGE   IMAGE   CHANGES",
                "2         RolledBack to 1   2h    x:2     image x:1 to x:2",
                "1 *       Succeeded         -     x:1",
            ]
        );
    }
}
