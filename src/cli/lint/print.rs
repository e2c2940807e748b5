//! Findings as text, as a document, as SARIF and as annotations of GitHub. Pure.

use serde_json::json;

use super::check::{Finding, Level};
use crate::cli::format::DOCUMENTS;
use crate::cli::style::{Line, Paint};

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// A line for each finding.
    Text,
    /// A document of this plugin.
    Json,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
    /// Annotations of GitHub Actions.
    Github,
}

impl Level {
    const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// The findings in this format.
pub(super) fn text(format: Format, found: &[Finding]) -> Result<String, serde_json::Error> {
    match format {
        // The texts come from files that others may write, and must not move the cursor.
        Format::Text => {
            let lines: Vec<Line> = found.iter().map(|one| Line::plain(line(one))).collect();
            Ok(Paint(false).text(&lines))
        }
        Format::Github => Ok(found.iter().map(annotation).collect()),
        Format::Json => {
            let document = json!({"apiVersion": DOCUMENTS, "kind": "LintReport", "items": found});
            Ok(serde_json::to_string_pretty(&document)? + "\n")
        }
        Format::Sarif => Ok(serde_json::to_string_pretty(&sarif(found))? + "\n"),
    }
}

/// Object and message.
fn said(one: &Finding) -> String {
    if one.object.is_empty() {
        one.message.clone()
    } else {
        format!("{}: {}", one.object, one.message)
    }
}

fn line(one: &Finding) -> String {
    format!("{}: {}: {}", one.file, one.level.word(), said(one))
}

/// Source: GitHub Docs, "Workflow commands for GitHub Actions", and `escapeData`, `escapeProperty` of
/// actions/toolkit.
fn annotation(one: &Finding) -> String {
    let data = |text: &str| {
        let text = text.replace('%', "%25").replace('\r', "%0D");
        let text = text.replace('\n', "%0A");
        text.replace(char::is_control, " ")
    };
    let file = data(&one.file).replace(':', "%3A").replace(',', "%2C");
    let command = match one.level {
        Level::Note => "notice",
        level => level.word(),
    };
    format!("::{command} file={file}::{}\n", data(&said(one)))
}

/// Source: OASIS, "Static Analysis Results Interchange Format (SARIF) Version 2.1.0".
fn sarif(found: &[Finding]) -> serde_json::Value {
    let results: Vec<serde_json::Value> = found
        .iter()
        .map(|one| {
            json!({
                "ruleId": one.rule,
                "level": one.level.word(),
                "message": {"text": said(one)},
                "locations": [{"physicalLocation": {"artifactLocation": {"uri": one.file}}}],
            })
        })
        .collect();
    let rules =
        ["yaml", "schema", "fly.toml", "reference", "policy"].map(|rule| json!({"id": rule}));
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "kubectl-golive lint",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "results": results,
        }],
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn found() -> Vec<Finding> {
        vec![Finding {
            level: Level::Error,
            rule: "schema",
            file: "a,b.yaml".to_owned(),
            object: "Activation shop".to_owned(),
            message: "100%\nwrong".to_owned(),
        }]
    }

    #[test]
    fn a_text_of_a_file_cannot_send_commands_to_the_terminal() {
        let mut found = found();
        found[0].message = "evil\u{1b}[2J".to_owned();
        for format in [Format::Text, Format::Github] {
            let text = text(format, &found).unwrap();
            assert!(!text.contains('\u{1b}'), "{text:?}");
        }
    }

    #[test]
    fn a_finding_is_printed_as_each_reader_wants_it() {
        let of = |format| text(format, &found()).unwrap();
        assert_eq!(
            of(Format::Text),
            "a,b.yaml: error: Activation shop: 100% wrong\n"
        );
        assert_eq!(
            of(Format::Github),
            "::error file=a%2Cb.yaml::Activation shop: 100%25%0Awrong\n"
        );
        let sarif: serde_json::Value = serde_json::from_str(&of(Format::Sarif)).unwrap();
        assert_eq!(sarif["runs"][0]["results"][0]["ruleId"], "schema");
        let json: serde_json::Value = serde_json::from_str(&of(Format::Json)).unwrap();
        assert_eq!(json["items"][0]["level"], "error");
        assert_eq!(json["apiVersion"], "cli.golive.dev/v1");
    }
}
