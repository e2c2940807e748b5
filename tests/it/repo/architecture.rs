//! Every invariant in ARCHITECTURE.md has a test.

#![allow(clippy::panic, reason = "a helper fails its test by a panic")]

use std::path::Path;

const PAGE: &str = "ARCHITECTURE.md";

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The numbered invariants, as number and text.
fn invariants(page: &str) -> Vec<(usize, &str)> {
    let lines = page.lines().filter_map(|line| line.split_once(". "));
    lines
        .filter_map(|(number, text)| Some((number.parse().ok()?, text)))
        .collect()
}

/// `path/of/file.rs::name_of_the_test` as it stands between backticks.
fn tests_named_in(text: &str) -> Vec<(&str, &str)> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter_map(|word| word.split_once(".rs::")).collect()
}

/// Whether the source has a function of this name right below a `#[test]` or `#[tokio::test]`.
fn is_a_test(source: &str, name: &str) -> bool {
    let function = format!("fn {name}(");
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let declared = lines.iter().position(|line| line.contains(&function));
    declared.is_some_and(|at| {
        let above = lines[..at].iter().rev();
        above
            .take_while(|line| line.starts_with('#') || line.starts_with("//"))
            .any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    })
}

#[test]
fn every_invariant_names_a_test_that_exists() {
    let page = read(PAGE);
    let invariants = invariants(&page);
    assert!(invariants.len() >= 40, "{} invariants", invariants.len());
    let mut before = 0;
    for (number, text) in &invariants {
        // A number stays, and those of several changes at a time leave room between them.
        assert!(*number > before, "{number} stands twice or too late");
        before = *number;
        let tests = tests_named_in(text);
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

#[test]
fn a_function_that_is_no_test_does_not_count_as_one() {
    let source =
        "#[test]\nfn holds() {}\nfn helper() {}\n#[tokio::test]\n// why\nasync fn waits() {}";
    assert!(is_a_test(source, "holds") && is_a_test(source, "waits"));
    assert!(!is_a_test(source, "helper") && !is_a_test(source, "missing"));
}

#[test]
fn every_link_in_the_pages_leads_somewhere() {
    let mut pages = vec!["README.md".to_owned(), PAGE.to_owned()];
    for folder in ["docs", "docs/tasks", "docs/reference"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let names = std::fs::read_dir(path).unwrap();
        let names = names.filter_map(|entry| entry.unwrap().file_name().into_string().ok());
        let markdown = names.filter(|name| name.ends_with(".md"));
        pages.extend(markdown.map(|name| format!("{folder}/{name}")));
    }
    for page in pages {
        let text = read(&page);
        let links = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://") && !link.starts_with('#')) {
            let target = link.split('#').next().unwrap_or(link);
            let folder = Path::new(&page).parent().unwrap_or(Path::new(""));
            let path = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join(folder)
                .join(target);
            assert!(path.exists(), "{page} links to {link}, which is not there");
        }
    }
}

#[test]
fn the_simulator_shares_no_code_with_the_operator() {
    let manifest = read("tests/fly-sim/Cargo.toml");
    let depends = |line: &str| line.starts_with("golive.") || line.starts_with("golive ");
    assert!(!manifest.lines().any(depends), "{manifest}");
}
