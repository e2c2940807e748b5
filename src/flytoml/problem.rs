//! Problems of a `fly.toml` and their positions.

use std::fmt;

/// Whether a problem stops a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is deployed.
    Error,
    /// It is deployed, but is probably a mistake.
    Warning,
}

/// What a problem is about. The order is that in which warnings are shown when not all can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// A key that is nearly one that is read: what it should say is not done.
    MistypedKey,
    /// A key that is not read.
    UnknownKey,
    /// A value, or a key that is missing.
    Value,
    /// A key that has no effect any more.
    ObsoleteKey,
}

/// One problem and its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether it stops a deployment.
    pub severity: Severity,
    /// What it is about.
    pub topic: Topic,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Path of the key, such as `services[0].ports[1].port`; empty for the file as a whole.
    pub key: String,
    /// A sentence that states what is allowed. It never quotes a value of `[env]`.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// All problems of an invalid `fly.toml`, errors and warnings, in file order.
///
/// `Display` lists the errors, without the name of the file. Keys that were mistyped stand first: a
/// key that is missing may be one of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", list(.problems))]
pub struct Invalid {
    /// In the order of the file.
    pub problems: Vec<Problem>,
}

fn list(problems: &[Problem]) -> String {
    let is_error = |problem: &&Problem| problem.severity == Severity::Error;
    let mistyped = problems
        .iter()
        .filter(|problem| !is_error(problem) && problem.topic == Topic::MistypedKey)
        .map(|problem| problem.to_string().replacen("warning: ", "", 1));
    let errors = problems.iter().filter(is_error).map(Problem::to_string);
    mistyped.chain(errors).collect::<Vec<_>>().join("; ")
}

/// The known word of which `word` is probably a misspelling.
///
/// Words are compared part by part (`min_machines_running` has three), so that a part that means
/// something else (`max`) is not taken for a typing error. A number is never one.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .filter_map(|candidate| Some((edits(word, candidate)?, *candidate)))
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// How many typing errors lead from one word to the other; `None`: it is a different word.
fn edits(word: &str, candidate: &str) -> Option<usize> {
    let digits = |word: &str| -> String { word.chars().filter(char::is_ascii_digit).collect() };
    if digits(word) != digits(candidate) {
        return None;
    }
    let parts = |word: &str| -> Vec<String> {
        let parts = word.split(['_', '-', '.', ' ']);
        parts.map(str::to_lowercase).collect()
    };
    let (ours, theirs) = (parts(word), parts(candidate));
    if ours.len() == theirs.len() {
        let pairs = ours.iter().zip(&theirs);
        let edits = pairs.map(|(one, other)| {
            let edits = distance(one, other);
            let longest = one.chars().count().max(other.chars().count());
            (edits <= if longest < 9 { 1 } else { 2 }).then_some(edits)
        });
        return edits.sum();
    }
    // A separator too many, or one that is missing.
    let edits = distance(&ours.concat(), &theirs.concat());
    (edits <= 1).then_some(edits + 1)
}

/// Edits (insert, delete, replace, swap neighbours) between two words, without regard to case.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.to_lowercase().chars().take(64).collect();
    let b: Vec<char> = b.to_lowercase().chars().take(64).collect();
    let width = b.len() + 1;
    let mut rows: Vec<Vec<usize>> = vec![(0..width).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i; width];
        for j in 1..width {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replace.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(rows[i - 2][j - 2] + 1);
            }
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_word_finds_its_neighbour_and_another_word_does_not() {
        let known = ["internal_port", "force_https", "checks", "app"];
        for (word, found) in [
            ("internal_prot", Some("internal_port")),
            ("internalport", Some("internal_port")),
            ("internal-port", Some("internal_port")),
            ("Checks", Some("checks")),
            ("chekcs", Some("checks")),
            ("ap", Some("app")),
            ("Internal Port", Some("internal_port")),
            ("internalPort", Some("internal_port")),
            ("interanl_prot", Some("internal_port")),
            ("something_else", None),
            ("external_port", None),
            ("xyz", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, &known), found, "{word}");
        }
    }

    #[test]
    fn a_word_that_means_something_else_is_not_taken_for_a_typing_error() {
        for (word, other) in [
            ("max_machines_running", "min_machines_running"),
            ("release_command_compute", "release_command_timeout"),
            ("script_checks", "tcp_checks"),
            ("tcp_checks", "http_checks"),
            ("start_port", "end_port"),
            ("soft_limit", "hard_limit"),
            ("shared-cpu-3x", "shared-cpu-1x"),
            ("status", "statics"),
            ("path", "port"),
        ] {
            assert_eq!(nearest(word, &[other]), None, "{word}");
        }
    }
}
