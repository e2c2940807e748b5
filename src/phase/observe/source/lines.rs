//! Lines of Fly.io's log that match a pattern: how many there were since the last look. A line is compared
//! and forgotten; nothing of it is kept.

use std::time::Duration;

use jiff::Timestamp;
use regex::{Regex, RegexBuilder};

use super::fault::Cause;
use crate::{
    fly::{self, logs::LogLine},
    slo::{Cell, Tally},
};

/// What was read of the log in looks that did not reach its end: the look that does counts it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Owed {
    /// Since when, by the clock of the watch. None: the log did not reach back to the look before, so that
    /// nobody knows how long its lines took.
    pub since: Option<Timestamp>,
    /// For each objective on the log, in their order, how many lines match so far.
    pub lines: Vec<f64>,
}

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
    /// There may be more lines after those.
    pub more: bool,
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
        more: true,
    };
    for number in 0..MAX_PAGES {
        let page = match fly.logs(app, None, logged.next.as_deref()).await {
            Ok(page) => page,
            Err(error) => {
                // What the log did not have at the begin is not known, whatever comes after.
                let why = Cause::Fly(error.to_string());
                logged.fault.get_or_insert(why);
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
            logged.more = false;
            return logged;
        }
    }
    logged.fault.get_or_insert(Cause::ManyLines);
    logged
}

/// The cells of what a look has read of the log, and what the next one must count: lines count together with
/// all of the time in which they came, or not at all. `times` are those of the look before and of this one;
/// `near` is how much of the time between them counts as observed.
pub fn settle(
    logged: &Logged,
    owed: Option<&Owed>,
    (before, at): (Option<Timestamp>, Timestamp),
    near: Duration,
) -> (Vec<Cell>, Option<Owed>) {
    let since = match owed {
        Some(owed) => owed.since,
        None => Some(before.unwrap_or(at)),
    };
    let since = since.filter(|_| logged.fault != Some(Cause::ShortLog));
    let lines = logged.lines.iter().enumerate().map(|(of, more)| {
        let before = owed.and_then(|owed| owed.lines.get(of));
        before.copied().unwrap_or_default() + more
    });
    let lines: Vec<f64> = lines.collect();
    let nothing = vec![Cell::default(); lines.len()];
    if logged.more {
        return (nothing, Some(Owed { since, lines }));
    }
    let Some(since) = since else {
        return (nothing, None);
    };
    let length = at.as_millisecond().saturating_sub(since.as_millisecond());
    let seen = i64::try_from(near.as_millis()).unwrap_or(i64::MAX);
    let seen = seen.min(length).max(0);
    let cell = |lines| Cell {
        seen,
        bridged: length.saturating_sub(seen).max(0),
        tally: Some(Tally::Lines(lines)),
    };
    (lines.into_iter().map(cell).collect(), None)
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

    fn logged(lines: f64, fault: Option<Cause>, more: bool) -> Logged {
        Logged {
            lines: vec![lines],
            next: None,
            fault,
            more,
        }
    }

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn lines_count_with_all_of_the_time_in_which_they_came_or_not_at_all() {
        let near = Duration::from_secs(30);
        let all = |lines| logged(lines, None, false);
        let times = (Some(second(0)), second(30));
        let (cells, owed) = settle(&all(3.0), None, times, near);
        assert_eq!((cells[0].seen, cells[0].bridged), (30_000, 0));
        assert_eq!(
            (cells[0].tally.clone(), owed),
            (Some(Tally::Lines(3.0)), None)
        );
        // Nobody looked for an hour, and the log has it.
        let times = (Some(second(0)), second(3600));
        let (cells, _) = settle(&all(60.0), None, times, Duration::ZERO);
        assert_eq!((cells[0].seen, cells[0].bridged), (0, 3_600_000));
        // The first look of all: no time, and none of the lines before it.
        let (cells, _) = settle(&all(0.0), None, (None, second(30)), Duration::ZERO);
        assert_eq!((cells[0].seen, cells[0].bridged), (0, 0));
    }

    #[test]
    fn what_was_read_in_part_is_counted_by_the_look_that_reads_the_rest() {
        let near = Duration::from_secs(30);
        let (times, next) = (
            (Some(second(0)), second(30)),
            (Some(second(30)), second(60)),
        );
        for why in [Cause::ManyLines, Cause::Fly("503".to_owned())] {
            let part = logged(20.0, Some(why), true);
            let (cells, owed) = settle(&part, None, times, near);
            assert_eq!(cells, [Cell::default()]);
            let rest = logged(4.0, None, false);
            let (cells, owed) = settle(&rest, owed.as_ref(), next, near);
            assert_eq!((cells[0].seen, cells[0].bridged), (30_000, 30_000));
            assert_eq!(cells[0].tally, Some(Tally::Lines(24.0)));
            assert_eq!(owed, None);
        }
    }

    #[test]
    fn lines_of_a_log_that_does_not_reach_back_count_nothing_not_even_later() {
        let near = Duration::from_secs(30);
        let (times, next) = (
            (Some(second(0)), second(30)),
            (Some(second(30)), second(60)),
        );
        let short = |more| logged(100.0, Some(Cause::ShortLog), more);
        let (cells, owed) = settle(&short(false), None, times, near);
        assert_eq!((cells, owed), (vec![Cell::default()], None));
        let (_, owed) = settle(&short(true), None, times, near);
        let (cells, owed) = settle(&logged(9.0, None, false), owed.as_ref(), next, near);
        assert_eq!(
            (cells, owed),
            (vec![Cell::default()], None),
            "some are older"
        );
    }
}
