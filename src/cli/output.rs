//! What a command prints, and the exit code.

use std::io::{self, Write};

/// Exit code: what was waited for was not seen within the time.
pub(super) const TIMED_OUT: u8 = 5;

/// The output of a command that did what it was asked for.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// To standard output.
    pub(super) text: String,
    /// One line each, to standard error.
    pub(super) warnings: Vec<String>,
    /// The exit code; 0 unless the command has codes of its own.
    pub(super) code: u8,
}

impl Output {
    /// This text.
    pub(super) fn text(text: String) -> Self {
        Self {
            text,
            ..Self::default()
        }
    }

    /// This list; one without an entry is said on standard error, as kubectl does.
    pub(super) fn listed(text: String) -> Self {
        let empty = text.is_empty().then(|| "nothing found".to_owned());
        Self {
            text,
            warnings: empty.into_iter().collect(),
            ..Self::default()
        }
    }
}

/// Prints at once to standard error: a warning, or what a question is about, because a redirected standard
/// output must not hide it.
pub(super) fn show(text: &str) {
    let mut to = io::stderr().lock();
    // Where it cannot be printed, no question is answered either.
    let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
}

/// Prints progress at once, while the command runs. False when nobody reads it: a closed standard output is no
/// failure, and the command goes on without it or ends.
pub(super) fn say(text: &str) -> bool {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.is_ok()
}
