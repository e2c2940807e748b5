//! The page, of which each test owns a part.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::fmt::Write as _;
use std::process::Command;
use std::sync::Mutex;

use serde_json::Value;

use crate::support::env::root;

/// Write the page anew: `GOLIVE_UPDATE_GOLDEN=1`.
const UPDATE: &str = "GOLIVE_UPDATE_GOLDEN";

const PAGE: &str = "docs/wrong-inputs.md";

/// Longest value of an input, and longest message, in characters.
const LONGEST: (usize, usize) = (90, 700);

/// One test at a time changes the page.
static WRITING: Mutex<()> = Mutex::new(());

fn cut(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A text for a cell of a table.
pub(super) fn cell(text: &str) -> String {
    let text = cut(text, LONGEST.1);
    text.replace('\n', " ")
        .replace('|', "\\|")
        .replace('<', "&lt;")
        .replace('*', "\\*")
        // A pattern is no link.
        .replace("](", "]\\(")
}

/// A change as the fields that it sets: `deploy.deadline: "5s"`.
pub(super) fn fields(change: &Value) -> String {
    fn inside(at: &str, value: &Value, all: &mut Vec<String>) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                for (name, value) in map {
                    let at = if at.is_empty() {
                        name.clone()
                    } else {
                        format!("{at}.{name}")
                    };
                    inside(&at, value, all);
                }
            }
            Value::Array(items) if !items.is_empty() && items.len() < 4 => {
                for (index, item) in items.iter().enumerate() {
                    inside(&format!("{at}[{index}]"), item, all);
                }
            }
            value => all.push(format!("{at}: {}", cut(&value.to_string(), LONGEST.0))),
        }
    }
    let mut all = Vec::new();
    inside("", change, &mut all);
    let all: Vec<String> = all.iter().map(|one| code(one)).collect();
    all.join("<br>")
}

/// As code in a cell.
pub(super) fn code(text: &str) -> String {
    let text = text.replace('|', "\\|").replace('\n', "⏎");
    let ticks = if text.contains('`') { "``" } else { "`" };
    format!("{ticks}{text}{ticks}")
}

/// Compares a part of the page with what was seen, or writes it.
pub(super) fn keep(part: &str, seen: &str) {
    let _one = WRITING.lock().expect("no panic");
    let path = root().join(PAGE);
    let page = std::fs::read_to_string(&path).expect(PAGE);
    let (begin, end) = (
        format!("<!-- begin {part} -->\n"),
        format!("<!-- end {part} -->"),
    );
    let from = page.find(&begin).expect("the part begins") + begin.len();
    let until = page.find(&end).expect("the part ends");
    if std::env::var_os(UPDATE).is_some() {
        let page = format!("{}{seen}{}", &page[..from], &page[until..]);
        return std::fs::write(&path, page).expect(PAGE);
    }
    let mut missing = String::new();
    let written: Vec<&str> = page[from..until].lines().collect();
    for line in seen.lines().filter(|line| !written.contains(line)) {
        writeln!(missing, "{line}").expect("text");
    }
    assert_eq!(
        seen,
        &page[from..until],
        "{PAGE} is out of date: read what a person gets now, and write it with {UPDATE}=1; new:\n{missing}"
    );
}

/// What `lint` says of files: name of the file, level, rule and message.
pub(super) fn lint(files: &[(String, String)]) -> Vec<[String; 4]> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let output = Command::new(env!("CARGO_BIN_EXE_kubectl-golive"))
        .args(["lint", "-o", "json", "-f"])
        .arg(folder.path())
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let prefix = format!("{}/", folder.path().display());
    let items = report["items"].as_array().unwrap().iter();
    items
        .map(|item| {
            ["file", "level", "rule", "message"].map(|field| {
                let text = item[field].as_str().unwrap();
                text.replace(&prefix, "")
            })
        })
        .collect()
}
