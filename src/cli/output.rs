//! What a command prints.

use std::io::{self, Write};

/// The output of a command that succeeded.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// To standard output.
    pub(super) text: String,
    /// One line each, to standard error.
    pub(super) warnings: Vec<String>,
}

/// Prints progress at once, while the command runs.
pub(super) fn say(text: &str) {
    let mut out = io::stdout().lock();
    // A closed standard output is no failure: the command continues without it.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
