//! `kubectl golive explain`: what a reason means and what to do, offline.
//!
//! The source is the page `docs/tasks/recover-from-failures.md`, which is part of the program: a reason is
//! explained in one place. A test demands a row there for every reason.

use serde::Serialize;

use super::format::{self, Formatted, Items};
use super::output::Output;
use super::style::{Line, Paint, Tone};
use crate::flytoml::nearest;

/// The page.
const PAGE: &str = include_str!("../../docs/tasks/recover-from-failures.md");

/// Where the page is, for its links.
const FOLDER: &str = "docs/tasks/";

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Reasons are in the conditions, the phases and steps, and the events of an Activation. Without a reason, all
are listed. Needs no cluster.

Examples:
  kubectl golive explain NotHealthy
  kubectl golive explain -o json")]
pub(super) struct Args {
    /// The reason, such as NotHealthy.
    reason: Option<String>,

    #[command(flatten)]
    format: Formatted,
}

/// Why a reason is not explained.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("there is no reason {word}{meant}; `kubectl golive explain` lists all")]
    Unknown { word: String, meant: String },
    #[error(transparent)]
    Format(#[from] format::Error),
}

/// What a reason means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Explanation {
    pub(super) reason: String,
    /// The part of the page.
    pub(super) about: String,
    /// Such as `warning` or `event`, where the page says so.
    pub(super) kind: String,
    pub(super) meaning: String,
    pub(super) action: String,
}

/// Looks up and prints.
pub(super) fn run(args: &Args) -> Result<Output, Box<dyn std::error::Error>> {
    let all = explanations(PAGE);
    let found = match &args.reason {
        Some(word) => find(&all, word)?,
        None => all,
    };
    let items = Items { items: found };
    if let Some(text) = args.format.document("ExplanationList", &items)? {
        return Ok(Output::text(text));
    }
    let lines = match args.reason {
        Some(_) => items.items.iter().flat_map(whole).collect(),
        None => list(&items.items),
    };
    Ok(Output::text(Paint::of_stdout().text(&lines)))
}

/// All reasons that are explained.
pub(super) fn reasons() -> Vec<String> {
    explanations(PAGE).into_iter().map(|e| e.reason).collect()
}

/// The rows of all tables of reasons. Pure.
fn explanations(page: &str) -> Vec<Explanation> {
    let (mut about, mut is_table) = ("", false);
    let mut all = Vec::new();
    for markdown in page.lines() {
        if let Some(title) = markdown.strip_prefix("## ") {
            about = title;
        }
        let Some(row) = markdown
            .strip_prefix("| ")
            .and_then(|row| row.strip_suffix(" |"))
        else {
            is_table = is_table && markdown.starts_with('|');
            continue;
        };
        let cells: Vec<&str> = row.split(" | ").collect();
        let [names, meaning, action] = cells.as_slice() else {
            continue;
        };
        if *names == "reason" {
            is_table = true;
            continue;
        }
        if !is_table {
            continue;
        }
        let (names, kind) = match names.split_once('(') {
            Some((names, kind)) => (names, kind.trim_end().trim_end_matches(')')),
            None => (*names, ""),
        };
        for name in names.split(',').map(|name| name.trim().trim_matches('`')) {
            all.push(Explanation {
                reason: name.to_owned(),
                about: about.to_owned(),
                kind: kind.to_owned(),
                meaning: without_links(meaning),
                action: without_links(action),
            });
        }
    }
    all
}

/// Markdown links as their text and their path: `[Tokens](tokens.md)` is `Tokens (docs/tasks/tokens.md)`.
fn without_links(markdown: &str) -> String {
    let mut out = String::new();
    let mut rest = markdown;
    while let Some((before, after)) = rest.split_once('[') {
        let link = after.split_once("](").and_then(|(words, after)| {
            let (path, after) = after.split_once(')')?;
            (!words.contains('[')).then_some((words, path, after))
        });
        let Some((words, path, after)) = link else {
            out.push_str(before);
            out.push('[');
            rest = after;
            continue;
        };
        let path = match path.strip_prefix("../") {
            Some(path) => format!("docs/{path}"),
            None if path.starts_with('#') => format!("{FOLDER}recover-from-failures.md{path}"),
            None if path.contains("://") => path.to_owned(),
            None => format!("{FOLDER}{path}"),
        };
        out.push_str(before);
        out.push_str(&format!("{words} ({path})"));
        rest = after;
    }
    out + rest
}

fn find(all: &[Explanation], word: &str) -> Result<Vec<Explanation>, Error> {
    let same = |one: &&Explanation| one.reason.eq_ignore_ascii_case(word);
    let found: Vec<Explanation> = all.iter().filter(same).cloned().collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let known: Vec<&str> = all.iter().map(|one| one.reason.as_str()).collect();
    let meant = nearest(word, &known);
    Err(Error::Unknown {
        word: word.to_owned(),
        meant: meant.map_or_else(String::new, |meant| format!("; did you mean {meant}?")),
    })
}

fn whole(one: &Explanation) -> Vec<Line> {
    let kind = if one.kind.is_empty() {
        String::new()
    } else {
        format!(", {}", one.kind)
    };
    vec![
        Line::default()
            .and(Tone::Bold, &one.reason)
            .and(Tone::Dim, format!("  {}{kind}", one.about)),
        Line::plain(format!("  Meaning: {}", one.meaning)),
        Line::plain(format!("  Do:      {}", one.action)),
    ]
}

fn list(all: &[Explanation]) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut about = "";
    for one in all {
        if one.about != about {
            about = &one.about;
            lines.push(Line::default().and(Tone::Bold, about));
        }
        let line = Line::plain(format!("  {:<26}", one.reason));
        lines.push(line.and(Tone::Dim, &one.meaning));
    }
    lines
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::api::Reason;

    #[test]
    fn every_reason_of_the_api_is_explained_with_what_to_do() {
        let all = explanations(PAGE);
        for reason in Reason::ALL {
            let found = find(&all, reason.as_str()).unwrap();
            for one in found {
                assert!(!one.meaning.is_empty() && !one.action.is_empty(), "{one:?}");
                assert!(!one.action.contains("]("), "{one:?}");
            }
        }
    }

    #[test]
    fn a_row_with_several_reasons_explains_each_and_other_tables_are_no_reasons() {
        let page = "## Deploy\n\n| reason | what | do |\n|---|---|---|\n| `A`, `B` (warning) | m | see [x](y.md) |\n\n| cause | what | do |\n|---|---|---|\n| `C` | m | a |\n";
        let all = explanations(page);
        let names: Vec<&str> = all.iter().map(|one| one.reason.as_str()).collect();
        assert_eq!(names, ["A", "B"]);
        assert_eq!(all[0].kind, "warning");
        assert_eq!(all[0].action, "see x (docs/tasks/y.md)");
    }

    #[test]
    fn a_misspelt_reason_is_corrected() {
        let all = explanations(PAGE);
        let error = find(&all, "NotHelthy").unwrap_err().to_string();
        assert!(error.contains("did you mean NotHealthy?"), "{error}");
        assert!(find(&all, "nothealthy").is_ok());
    }
}
