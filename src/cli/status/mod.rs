//! `kubectl golive status`: one Activation as a tree, or all of them.

mod lines;
mod report;

pub(super) use lines::{fine, lines};
pub(super) use report::{
    SiteState, SpecState, StatusReport, is_request_open, is_retry_open, report,
};

use jiff::Timestamp;

use super::connect::{self, Connection, Selection};
use super::format::{self, Formatted, Items};
use super::output::Output;
use super::style::{Line, Paint};

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Site is whether the release that serves answers; Spec is how far the object is on its way to live. They
can differ: the site stays live while an update waits or fails. Phases that are as they should be are one
line each; -o wide shows all of their steps.

You need the ClusterRole activation-view.

Examples:
  kubectl golive status shop -n prod
  kubectl golive status -A
  kubectl golive status shop -o json")]
pub(super) struct Args {
    /// The Activation. Default: all of the namespace.
    #[arg(conflicts_with_all = ["all_namespaces", "selector"])]
    name: Option<String>,

    #[command(flatten)]
    format: Formatted,

    #[command(flatten)]
    selection: Selection,

    #[command(flatten)]
    connection: Connection,
}

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Connect(#[from] connect::Error),
    #[error(transparent)]
    Format(#[from] format::Error),
}

/// Reads and prints.
pub(super) async fn run(args: &Args) -> Result<Output, Error> {
    let connected = args.connection.open().await?;
    if let Some(name) = &args.name {
        let report = report(&connected.activation(name).await?);
        if let Some(text) = args.format.document("StatusReport", &report)? {
            return Ok(Output::text(text));
        }
        let lines = lines(&report, connected.now(), args.format.is_wide());
        return Ok(Output::text(Paint::of_stdout().text(&lines)));
    }
    let activations = connected.list(&args.selection).await?;
    let reports = Items {
        items: activations.iter().map(report).collect(),
    };
    if let Some(text) = args.format.document("StatusReportList", &reports)? {
        return Ok(Output::text(text));
    }
    let lines = all(&reports.items, connected.now(), args.format.is_wide());
    Ok(Output::listed(Paint::of_stdout().text(&lines)))
}

/// Those that need attention as trees, first; of the others one line each.
fn all(reports: &[StatusReport], now: Timestamp, wide: bool) -> Vec<Line> {
    let mut all = Vec::new();
    for report in reports.iter().filter(|report| wide || !report.is_fine()) {
        all.extend(lines(report, now, wide));
        all.push(Line::default());
    }
    let rest = reports.iter().filter(|report| !wide && report.is_fine());
    all.extend(rest.map(fine));
    all
}

#[cfg(test)]
mod tests;
