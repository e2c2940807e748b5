//! `kubectl golive list`: the Activations of a namespace, or of all, as a table.

use jiff::Timestamp;

use super::ages::{relative, since};
use super::connect::Connection;
use super::connect::Selection;
use super::format::{Formatted, Items};
use super::output::Output;
use super::status::{Error, StatusReport, report};
use super::style::{Line, Paint, Tone, table};

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
SPEC is how far the object is on its way to live, SITE whether the release that serves answers. -o json
prints the same documents as `kubectl golive status -o json`.

You need the ClusterRole activation-view.

Examples:
  kubectl golive list -n prod
  kubectl golive list -A -o wide
  kubectl golive list -l team=web -o json")]
pub(super) struct Args {
    #[command(flatten)]
    format: Formatted,

    #[command(flatten)]
    selection: Selection,

    #[command(flatten)]
    connection: Connection,
}

/// Reads and prints.
pub(super) async fn run(args: &Args) -> Result<Output, Error> {
    let connected = args.connection.open().await?;
    let activations = connected.list(&args.selection).await?;
    let reports = Items {
        items: activations.iter().map(report).collect(),
    };
    if let Some(text) = args.format.document("StatusReportList", &reports)? {
        return Ok(Output::text(text));
    }
    let lines = rows(
        &reports.items,
        connected.now(),
        args.selection.everywhere(),
        args.format.is_wide(),
    );
    Ok(Output::listed(Paint::of_stdout().text(&lines)))
}

/// The table. Pure.
pub(super) fn rows(
    reports: &[StatusReport],
    now: Timestamp,
    namespaces: bool,
    wide: bool,
) -> Vec<Line> {
    let mut heading = vec!["NAME", "PHASE", "SPEC", "SITE", "REASON", "URL", "AGE"];
    if namespaces {
        heading.insert(0, "NAMESPACE");
    }
    if wide {
        heading.extend(["LIVE-SINCE", "OWNER", "DEADLINE", "RELEASE", "NEXT"]);
    }
    let rows: Vec<Vec<(Tone, String)>> = reports
        .iter()
        .map(|report| row(report, now, namespaces, wide))
        .collect();
    table(&heading, &rows)
}

fn row(report: &StatusReport, now: Timestamp, namespaces: bool, wide: bool) -> Vec<(Tone, String)> {
    let plain = |text: &str| (Tone::Plain, text.to_owned());
    let marked = |(tone, word): (Tone, &str)| (tone, word.to_owned());
    let ago = |then: Option<Timestamp>| {
        plain(&then.map_or_else(|| "-".to_owned(), |then| since(then, now)))
    };
    let or_none = |text: Option<&str>| plain(text.filter(|text| !text.is_empty()).unwrap_or("-"));
    let mut row = vec![
        plain(&report.name),
        plain(&report.phase),
        marked(report.spec.state.word()),
        marked(report.site.state.word()),
        or_none(Some(&report.spec.reason)),
        or_none(report.url.as_deref()),
        ago(report.created),
    ];
    if namespaces {
        row.insert(0, plain(&report.namespace));
    }
    if wide {
        let deadline = report.current_deadline.map(|then| relative(then, now));
        let release = report.site.release.map(|number| number.to_string());
        let next = report.next_command.as_ref().or(report.next_action.as_ref());
        row.extend([
            ago(report.live_since),
            or_none(report.current_owner.as_deref()),
            or_none(deadline.as_deref()),
            or_none(release.as_deref()),
            or_none(next.map(String::as_str)),
        ]);
    }
    row
}
