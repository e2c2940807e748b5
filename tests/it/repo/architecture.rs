//! Every invariant has a test, and every link in the pages has a target.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::path::Path;

use super::is_a_test;

/// The page for who changes the code.
const PAGE: &str = "ARCHITECTURE.md";

/// The list of all invariants, in order: a line `N. What holds.` for each, and a line for each of its
/// tests. The first page has those that a newcomer reads first.
const INVARIANTS: [&str; 2] = ["docs/invariants.md", "docs/invariants-in-service.md"];

/// The number of invariants. A new one raises it; it never falls.
const COUNT: usize = 303;

/// Most invariants that ARCHITECTURE.md names for a newcomer.
const FIRST: usize = 25;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Files that ARCHITECTURE.md names as examples of what a change adds.
const TO_ADD: &[&str] = &[
    "src/cli/status.rs",
    "src/phase/observe/report_sent.rs",
    "src/phase/preflight/slo_reachable.rs",
];

/// One invariant of the list.
struct Invariant<'a> {
    number: usize,
    /// The heading above it.
    group: &'a str,
    /// File without `.rs`, and name of the test.
    tests: Vec<(&'a str, &'a str)>,
}

/// The numbered invariants with the tests below each.
fn invariants(page: &str) -> Vec<Invariant<'_>> {
    let mut group = "";
    let mut found: Vec<Invariant<'_>> = Vec::new();
    for line in page.lines() {
        let numbered = line.split_once(". ").map(|(number, _)| number.parse());
        if let Some(heading) = line.strip_prefix("## ") {
            group = heading;
        } else if let Some(Ok(number)) = numbered {
            found.push(Invariant {
                number,
                group,
                tests: Vec::new(),
            });
        } else if let Some(last) = found.last_mut() {
            last.tests.extend(tests_named_in(line));
        }
    }
    found
}

/// `path/of/file.rs::name_of_the_test` between backticks.
fn tests_named_in(text: &str) -> Vec<(&str, &str)> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted
        .filter_map(|quoted| quoted.split_once(".rs::"))
        .collect()
}

/// The anchor of a heading, as Markdown renderers make it.
fn anchor(heading: &str) -> String {
    let heading = heading.to_lowercase();
    let kept = heading
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().replace(' ', "-")
}

#[test]
fn every_invariant_names_a_test_that_exists() {
    let pages = INVARIANTS.map(read).concat();
    let invariants = invariants(&pages);
    assert!(invariants.len() >= COUNT, "{} invariants", invariants.len());
    let mut before = 0;
    for Invariant { number, tests, .. } in &invariants {
        assert!(*number > before, "{number} is there twice or too late");
        before = *number;
        assert!(!tests.is_empty(), "invariant {number} names no test");
        for (file, test) in tests {
            let source = read(&format!("{file}.rs"));
            assert!(
                is_a_test(&source, test),
                "invariant {number}: {file}.rs has no test {test}; name the one that holds it now"
            );
        }
    }
}

/// Rules of security that the page lists: S1 to S18.
const RULES: usize = 18;

/// Faults that the page lists: F01 to F60.
const FAULTS: usize = 60;

/// What is checked after a fault: O1 to O14.
const CHECKED: usize = 14;

/// The number of rows of a page that are numbered with this letter; they are in order, and each names
/// tests that exist.
fn numbered_rows(page: &str, letter: char) -> usize {
    let text = read(page);
    let prefix = format!("| {letter}");
    let rows = text.lines().filter_map(|line| line.strip_prefix(&prefix));
    let mut count = 0;
    for row in rows.filter(|row| row.starts_with(|first: char| first.is_ascii_digit())) {
        count += 1;
        let (number, _) = row.split_once(" |").unwrap();
        let place = format!("{page}: {letter}{number}");
        assert_eq!(number.parse(), Ok(count), "{place}");
        let tests = tests_named_in(row);
        assert!(!tests.is_empty(), "{place} names no test");
        for (file, test) in tests {
            let source = read(&format!("{file}.rs"));
            assert!(
                is_a_test(&source, test),
                "{place}: {file}.rs has no test {test}"
            );
        }
    }
    count
}

#[test]
fn every_rule_of_security_names_a_test_that_exists() {
    assert_eq!(numbered_rows("docs/security.md", 'S'), RULES);
}

#[test]
fn every_fault_and_what_is_checked_after_it_names_a_test_that_exists() {
    assert_eq!(numbered_rows("docs/faults.md", 'F'), FAULTS);
    assert_eq!(numbered_rows("docs/faults.md", 'O'), CHECKED);
}

#[test]
fn the_invariants_to_know_first_are_few_and_link_to_the_list() {
    let (page, list) = (read(PAGE), read(INVARIANTS[0]));
    let invariants = invariants(&list);
    let links = page.split("](docs/invariants.md#").collect::<Vec<_>>();
    assert!(links.len() > 1 && links.len() - 1 <= FIRST);
    for pair in links.windows(2) {
        let number = pair[0].rsplit('[').next().unwrap_or_default();
        let group = pair[1].split(')').next().unwrap_or_default();
        let found = invariants.iter().find(|i| i.number.to_string() == number);
        let found = found.map(|invariant| anchor(invariant.group));
        assert_eq!(
            found.as_deref(),
            Some(group),
            "the link of invariant {number}"
        );
    }
}

/// Every page for people, generated ones too.
fn pages() -> Vec<String> {
    let root = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", PAGE];
    let mut pages: Vec<String> = root.map(str::to_owned).to_vec();
    for folder in ["docs", "docs/tasks", "docs/reference"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let names = std::fs::read_dir(path).unwrap();
        let names = names.filter_map(|entry| entry.unwrap().file_name().into_string().ok());
        let markdown = names.filter(|name| name.ends_with(".md"));
        pages.extend(markdown.map(|name| format!("{folder}/{name}")));
    }
    pages
}

/// The links of a page to files of the repository and to headings.
fn local_links(text: &str) -> impl Iterator<Item = &str> {
    let links = text.split("](").skip(1);
    let links = links.filter_map(|rest| rest.split(')').next());
    links.filter(|link| !link.contains("://"))
}

#[test]
fn every_link_in_the_pages_leads_somewhere() {
    for page in pages() {
        let text = read(&page);
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join(&page);
        for link in local_links(&text) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => here.clone(),
                file => here.with_file_name(file),
            };
            assert!(target.exists(), "{page} links to {link}: no such file");
            if !heading.is_empty() {
                let target = std::fs::read_to_string(&target).unwrap();
                let mut headings = target.lines().filter(|line| line.starts_with('#'));
                assert!(
                    headings.any(|line| anchor(line.trim_start_matches('#').trim()) == heading),
                    "{page} links to {link}: no such heading"
                );
            }
        }
    }
}

#[test]
fn every_file_that_the_pages_for_contributors_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for page in [PAGE, "CONTRIBUTING.md"] {
        let text = read(page);
        let quoted = text.split('`').skip(1).step_by(2);
        let paths =
            quoted.filter(|quoted| quoted.starts_with("src/") || quoted.starts_with("tests/"));
        for path in paths.filter(|path| !TO_ADD.contains(path)) {
            assert!(
                root.join(path).exists(),
                "{page} names {path}: no such file"
            );
        }
    }
}

#[test]
fn the_simulator_shares_no_code_with_the_operator() {
    let manifest = read("tests/fly-sim/Cargo.toml");
    let depends = |line: &str| line.starts_with("golive.") || line.starts_with("golive ");
    assert!(!manifest.lines().any(depends), "{manifest}");
}
