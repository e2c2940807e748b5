//! Shows an activation's phases and steps as they pass, each line with its time. On a terminal
//! with colour and a live line at the bottom; elsewhere in plain lines.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::out::{say, say_part};
use serde_json::Value;

/// Longest message on a line, in characters.
const MESSAGE: usize = 110;

const SPINNER: [char; 8] = ['⣾', '⣽', '⣻', '⢿', '⡿', '⣟', '⣯', '⣷'];

/// What has been shown of an activation.
pub struct Progress {
    started: Instant,
    fancy: bool,
    /// (phase, step) to the state and reason that were shown last; the step of a phase is empty.
    shown: BTreeMap<(String, String), String>,
    /// When a step was first seen under way, as far as the status does not say.
    begun: BTreeMap<(String, String), Instant>,
    now: String,
    turn: usize,
}

#[derive(Clone, Copy)]
enum Ink {
    Good,
    Warn,
    Bad,
    Dim,
    Bold,
}

impl Progress {
    /// Time runs from now.
    pub fn new() -> Self {
        let term = std::env::var("TERM").unwrap_or_default();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            started: Instant::now(),
            fancy: std::io::stdout().is_terminal() && !no_colour && term != "dumb",
            shown: BTreeMap::new(),
            begun: BTreeMap::new(),
            now: String::new(),
            turn: 0,
        }
    }

    /// Prints a line of our own, with the time.
    pub fn say(&self, text: &str) {
        let time = self.elapsed();
        self.line(&format!("{time}  {text}"));
    }

    fn elapsed(&self) -> String {
        format!("{:>7}", seconds(self.started.elapsed()))
    }

    fn line(&self, text: &str) {
        if self.fancy {
            // Over the live line.
            say!("\r\x1b[K{text}");
        } else {
            say!("{text}");
        }
    }

    fn paint(&self, ink: Ink, text: &str) -> String {
        if !self.fancy {
            return text.to_owned();
        }
        let code = match ink {
            Ink::Good => "32",
            Ink::Warn => "33",
            Ink::Bad => "31",
            Ink::Dim => "2",
            Ink::Bold => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// Heading of what follows.
    pub fn heading(&self, text: &str) {
        let text = self.paint(Ink::Bold, text);
        self.line(&text);
    }

    /// Draws the live line again. Call it about ten times a second.
    pub fn tick(&mut self) {
        if !self.fancy || self.now.is_empty() {
            return;
        }
        self.turn = (self.turn + 1) % SPINNER.len();
        let spinner = SPINNER[self.turn];
        // Without line wrap: a second line would stay behind.
        say_part!(
            "\r\x1b[K\x1b[?7l{}  {spinner} {}\x1b[?7h",
            self.elapsed(),
            self.now
        );
        let _ = std::io::stdout().flush();
    }

    /// Removes the live line.
    pub fn end(&mut self) {
        self.now.clear();
        if self.fancy {
            say_part!("\r\x1b[K");
            let _ = std::io::stdout().flush();
        }
    }

    /// Prints what is new in a status.
    pub fn show(&mut self, status: &Value) {
        let mut under_way = Vec::new();
        for phase in list(&status["phases"]) {
            let name = text(&phase["name"]);
            for step in list(&phase["steps"]) {
                if let Some(busy) = self.show_step(name, step) {
                    under_way.push(busy);
                }
            }
            if name == "Preflight" {
                self.show_checks(status, phase);
            }
            self.show_phase(name, phase);
            if text(&phase["state"]) == "AwaitingApproval" {
                under_way.push(format!("{name}: waits for approval"));
            }
        }
        self.now = match under_way.as_slice() {
            [] => text(&status["phase"]).to_owned(),
            some => some.join("; ").chars().take(MESSAGE).collect(),
        };
        self.tick();
    }

    /// Prints a step when its state has changed to one worth a line; returns it while it works.
    fn show_step(&mut self, phase: &str, step: &Value) -> Option<String> {
        let (name, state) = (text(&step["name"]), text(&step["state"]));
        let key = (phase.to_owned(), name.to_owned());
        let busy = matches!(state, "Running" | "Waiting" | "Retrying");
        if busy {
            self.begun.entry(key.clone()).or_insert_with(Instant::now);
        }
        let ink = match state {
            "Done" => Some(Ink::Good),
            "Retrying" => Some(Ink::Warn),
            "Blocked" => Some(Ink::Bad),
            "Skipped" => Some(Ink::Dim),
            // Worth a line where there is no live line.
            "Waiting" if !self.fancy => Some(Ink::Dim),
            _ => None,
        };
        if let Some(ink) = ink {
            let what = format!("{state} {}", text(&step["reason"]));
            if self.shown.get(&key) != Some(&what) {
                let took = match state {
                    "Done" => self
                        .begun
                        .get(&key)
                        .map(|begun| seconds(begun.elapsed()))
                        .unwrap_or_default(),
                    _ => String::new(),
                };
                self.step_line(phase, name, ink, state, &took, text(&step["message"]));
                self.shown.insert(key, what);
            }
        }
        busy.then(|| format!("{phase}/{name}"))
    }

    fn step_line(&self, phase: &str, step: &str, ink: Ink, state: &str, took: &str, message: &str) {
        let mark = match ink {
            Ink::Good => "✓",
            Ink::Warn => "↻",
            Ink::Bad => "✗",
            Ink::Dim | Ink::Bold => "·",
        };
        let state = self.paint(ink, &format!("{mark} {state:<8}"));
        let message = self.paint(Ink::Dim, &cut(message));
        let line = format!(
            "{}  {phase:<12} {step:<20} {state} {took:>7}  {message}",
            self.elapsed()
        );
        self.line(line.trim_end());
    }

    fn show_checks(&mut self, status: &Value, phase: &Value) {
        let state = text(&phase["state"]);
        if !matches!(state, "Succeeded" | "Failed" | "Waiting") {
            return;
        }
        let checks: Vec<_> = list(&status["preflight"]).collect();
        let with = |result: &str| {
            checks
                .iter()
                .filter(|check| text(&check["result"]) == result)
                .count()
        };
        let summary = format!(
            "{} checks: {} passed, {} failed, {} warn, {} skipped, {} unknown",
            checks.len(),
            with("Passed"),
            with("Failed"),
            with("Warning"),
            with("Skipped"),
            with("Unknown"),
        );
        let key = ("Preflight".to_owned(), "checks".to_owned());
        if checks.is_empty() || self.shown.get(&key) == Some(&summary) {
            return;
        }
        for check in &checks {
            let (ink, word) = match text(&check["result"]) {
                "Failed" => (Ink::Bad, "Failed"),
                "Warning" => (Ink::Warn, "Warning"),
                _ => continue,
            };
            let name = text(&check["check"]);
            self.step_line("Preflight", name, ink, word, "", text(&check["message"]));
        }
        self.say(&format!("Preflight    {summary}"));
        self.shown.insert(key, summary);
    }

    /// Prints the checks of each integration once it is decided, and again when something changes. Returns
    /// whether all are.
    pub fn show_integrations(&mut self, status: &Value) -> bool {
        let mut open = Vec::new();
        for integration in list(&status["integrations"]) {
            let (name, state) = (text(&integration["name"]), text(&integration["state"]));
            let ink = match state {
                "Verified" => Ink::Good,
                "Failed" => Ink::Bad,
                "Waiting" | "Unknown" => Ink::Warn,
                _ => {
                    open.push(name.to_owned());
                    continue;
                }
            };
            let key = ("Integrations".to_owned(), name.to_owned());
            let checks: Vec<_> = list(&integration["checks"]).collect();
            let results = checks.iter().map(|check| text(&check["result"]));
            let what = format!("{state} {}", results.collect::<Vec<_>>().join(" "));
            if self.shown.get(&key) == Some(&what) {
                continue;
            }
            self.shown.insert(key, what);
            for check in checks {
                self.check_line(check);
            }
            let head = self.paint(ink, &format!("{name:<12} {state}"));
            let message = self.paint(Ink::Dim, &cut(text(&integration["message"])));
            self.say(format!("{head}  {message}").trim_end());
        }
        self.now = match open.as_slice() {
            [] => String::new(),
            some => format!("Integrations: {}", some.join(", ")),
        };
        self.tick();
        open.is_empty()
    }

    /// Prints an objective when its standing changes, and what happened; the hours on the live line.
    pub fn show_watch(&mut self, status: &Value) {
        for entry in list(&status["objectives"]) {
            let (name, result) = (text(&entry["name"]), text(&entry["result"]));
            let ink = match result {
                "Passed" => Ink::Good,
                "Failed" => Ink::Bad,
                _ => Ink::Dim,
            };
            let key = ("Observe".to_owned(), name.to_owned());
            let what = format!("{result} {}", text(&entry["reason"]));
            if self.shown.get(&key) != Some(&what) {
                self.shown.insert(key, what);
                let message = text(&entry["message"]);
                self.step_line("Observe", name, ink, result, "", message);
            }
        }
        for incident in list(&status["incidents"]) {
            let message = text(&incident["message"]);
            let key = ("Observe".to_owned(), message.to_owned());
            let kind = text(&incident["kind"]).to_owned();
            if self.shown.get(&key) != Some(&kind) {
                self.step_line("Observe", &kind, Ink::Bad, "Incident", "", message);
                self.shown.insert(key, kind);
            }
        }
        let hours = crate::watch::hours(status);
        let figures = list(&status["objectives"]).map(|entry| {
            let (name, value) = (text(&entry["name"]), text(&entry["value"]));
            format!("{name} {value}")
        });
        let figures: Vec<String> = figures.collect();
        self.now = hours.map_or_else(String::new, |hours| {
            format!("Observe: hour {hours:.0} of 72; {}", figures.join("; "))
        });
        self.tick();
    }

    fn check_line(&self, check: &Value) {
        let result = text(&check["result"]);
        let (ink, mark) = match result {
            "Passed" => (Ink::Good, "✓"),
            "Failed" => (Ink::Bad, "✗"),
            "Warned" => (Ink::Warn, "!"),
            _ => (Ink::Dim, "·"),
        };
        let took = check["durationMs"].as_i64();
        let took = took.map(|ms| format!("{ms} ms")).unwrap_or_default();
        let result = self.paint(ink, &format!("{mark} {result:<8}"));
        let evidence = self.paint(Ink::Dim, &cut(text(&check["evidence"])));
        let line = format!(
            "{}  {:<4} {:<80} {result} {took:>7}  {evidence}",
            self.elapsed(),
            text(&check["id"]),
            text(&check["name"]),
        );
        self.line(line.trim_end());
    }

    fn show_phase(&mut self, name: &str, phase: &Value) {
        let state = text(&phase["state"]);
        let ink = match state {
            "Succeeded" => Ink::Good,
            "Failed" => Ink::Bad,
            "AwaitingApproval" => Ink::Warn,
            "Skipped" => Ink::Dim,
            _ => return,
        };
        let key = (name.to_owned(), String::new());
        let what = format!("{state} {}", text(&phase["reason"]));
        if self.shown.get(&key) == Some(&what) {
            return;
        }
        self.shown.insert(key, what);
        let took = span(&phase["startedAt"], &phase["finishedAt"])
            .map(|took| format!(" in {took} s"))
            .unwrap_or_default();
        let owner = match text(&phase["owner"]) {
            "" => String::new(),
            owner => format!(" ({owner})"),
        };
        let message = match state {
            "Succeeded" => String::new(),
            _ => format!("  {}", cut(text(&phase["message"]))),
        };
        let head = self.paint(ink, &format!("{name:<12} {state}{took}"));
        let tail = self.paint(Ink::Dim, &format!("{owner}{message}"));
        self.say(format!("{head}{tail}").trim_end());
    }
}

/// The entries of a list; none if it is none.
pub fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A text; empty if it is none.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn cut(message: &str) -> String {
    let message = message.replace('\n', " ");
    if message.chars().count() <= MESSAGE {
        return message;
    }
    message.chars().take(MESSAGE - 1).chain(['…']).collect()
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f32())
}

/// Whole seconds between two times of a status.
fn span(from: &Value, to: &Value) -> Option<i64> {
    let time = |value: &Value| -> Option<k8s_openapi::jiff::Timestamp> { text(value).parse().ok() };
    Some(time(to)?.as_second() - time(from)?.as_second())
}
