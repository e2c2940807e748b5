//! Lines of Fly.io's log that match a pattern: how many there were since the last look. A line is compared
//! and forgotten; nothing of it is kept.

use jiff::Timestamp;
use regex::{Regex, RegexBuilder};

use super::fault::Cause;
use crate::fly::{self, logs::LogLine};

/// Longest pattern, in bytes.
pub const MAX_PATTERN: usize = 512;

/// Most memory of a compiled pattern, in bytes.
const MAX_COMPILED: usize = 1 << 20;

/// Most of a line that is compared, in bytes.
const MAX_LINE: usize = 16 << 10;

/// Most pages of one look; Fly.io gives about a hundred lines in one.
const MAX_PAGES: usize = 20;

/// A pattern of log lines: a regular expression as RE2 has them, which takes linear time for any line.
///
/// Source: the crate `regex`, "Syntax": that of RE2 but for `\C`, and no look-around or backreferences.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// Reads a pattern; it is looked for anywhere in a line.
    ///
    /// # Errors
    /// When it is no regular expression, or too large. The text is the library's and quotes the pattern.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > MAX_PATTERN {
            return Err(format!("must have 1 to {MAX_PATTERN} bytes"));
        }
        let built = RegexBuilder::new(text)
            .size_limit(MAX_COMPILED)
            .dfa_size_limit(MAX_COMPILED)
            .build();
        built.map(Self).map_err(|error| error.to_string())
    }

    /// Whether a line has it.
    #[must_use]
    pub fn matches(&self, line: &str) -> bool {
        let end = line.floor_char_boundary(MAX_LINE);
        self.0.is_match(&line[..end])
    }
}

/// What the log showed since the last look.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Logged {
    /// For each pattern, how many lines match.
    pub lines: Vec<f64>,
    /// Where the log was read up to.
    pub next: Option<String>,
    /// Why not all of the time since the last look was read.
    pub fault: Option<Cause>,
}

/// Counts the lines that were logged after `since`, in Fly.io's time, or after the token of the last look.
pub async fn count(
    fly: &fly::Client,
    app: &str,
    patterns: &[&Pattern],
    (token, since): (Option<&str>, Timestamp),
) -> Logged {
    let mut logged = Logged {
        lines: vec![0.0; patterns.len()],
        next: token.map(str::to_owned),
        fault: None,
    };
    for number in 0..MAX_PAGES {
        let page = match fly.logs(app, None, logged.next.as_deref()).await {
            Ok(page) => page,
            Err(error) => {
                logged.fault = Some(Cause::Fly(error.to_string()));
                return logged;
            }
        };
        let is_first = number == 0 && token.is_none();
        if is_first && !reaches_back(&page.lines, since) {
            logged.fault = Some(Cause::ShortLog);
        }
        for line in &page.lines {
            // A page after a token has no line before it.
            if !is_first || is_after(line, since) {
                add(line, patterns, &mut logged.lines);
            }
        }
        let is_end = page.next_token == logged.next || page.next_token.is_none();
        logged.next = page.next_token.or(logged.next);
        if is_end || page.lines.is_empty() {
            return logged;
        }
    }
    logged.fault = Some(Cause::ManyLines);
    logged
}

fn add(line: &LogLine, patterns: &[&Pattern], counts: &mut [f64]) {
    let Some(text) = line.message.as_deref() else {
        return;
    };
    for (pattern, count) in patterns.iter().zip(counts) {
        if pattern.matches(text) {
            *count += 1.0;
        }
    }
}

fn time(line: &LogLine) -> Option<Timestamp> {
    line.timestamp.as_deref()?.parse().ok()
}

/// Whether a line was logged after this time; one without a time counts.
fn is_after(line: &LogLine, since: Timestamp) -> bool {
    time(line).is_none_or(|time| time > since)
}

/// Whether the first page of a log has all that was logged since: it is not full, or it begins before.
fn reaches_back(lines: &[LogLine], since: Timestamp) -> bool {
    /// Lines of a full first page. Source: Fly.io docs, `monitoring/logs-api-options`: about the last hundred.
    const FULL: usize = 100;
    let first = lines.first().and_then(time);
    lines.len() < FULL || first.is_some_and(|first| first <= since)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn line(second: i64, message: &str) -> LogLine {
        let at = Timestamp::from_second(1_800_000_000 + second).unwrap();
        serde_json::from_value(serde_json::json!({
            "timestamp": at.to_string(), "message": message,
        }))
        .unwrap()
    }

    #[test]
    fn a_pattern_is_bounded_and_no_line_makes_it_slow() {
        for wrong in ["", "(", r"(a)\1", r"(?=x)", "(a{1000}){1000}"] {
            assert!(Pattern::new(wrong).is_err(), "{wrong}");
        }
        assert!(Pattern::new(&"x".repeat(MAX_PATTERN + 1)).is_err());
        let pattern = Pattern::new(r"(a+)+b|panicked at").unwrap();
        assert!(pattern.matches("thread 'main' panicked at src/x.rs"));
        // What a backtracking library takes for ever with.
        assert!(!pattern.matches(&"a".repeat(1 << 20)));
        let beyond = format!("{}\u{20ac}b", "\u{20ac}".repeat(MAX_LINE));
        assert!(!pattern.matches(&beyond), "cut between two characters");
    }

    #[test]
    fn lines_before_the_last_look_do_not_count() {
        let error = Pattern::new("ERROR").unwrap();
        let since = Timestamp::from_second(1_800_000_010).unwrap();
        let lines = [
            line(10, "ERROR"),
            line(11, "ERROR"),
            line(12, "fine"),
            line(13, "an ERROR"),
        ];
        let mut counts = [0.0];
        for line in lines.iter().filter(|line| is_after(line, since)) {
            add(line, &[&error], &mut counts);
        }
        assert_eq!(counts, [2.0]);
    }

    #[test]
    fn a_full_page_that_begins_after_the_last_look_is_not_all() {
        let since = Timestamp::from_second(1_800_000_010).unwrap();
        let full = |from: i64| (0..100).map(|n| line(from + n, "x")).collect::<Vec<_>>();
        assert!(reaches_back(&full(9), since));
        assert!(!reaches_back(&full(11), since));
        assert!(reaches_back(&full(11)[1..], since), "all that there is");
        assert!(reaches_back(&[], since));
    }
}
