//! Asks a person before something is done.

use std::io::{self, BufRead, IsTerminal, Write};

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotConfirmed {
    #[error("there is no terminal to ask for a confirmation on, so nothing was done; add --yes")]
    NoTerminal,
    #[error("not confirmed, so nothing was done")]
    Declined,
}

/// Returns when a person says yes on the terminal, or said it with `--yes`.
///
/// # Errors
/// When the answer is another one, or nobody can be asked.
pub(super) fn confirm(question: &str, yes: bool) -> Result<(), NotConfirmed> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(NotConfirmed::NoTerminal);
    }
    let mut to = io::stderr().lock();
    // A question that cannot be printed is not answered either.
    let _ = write!(to, "{question} [y/N] ").and_then(|()| to.flush());
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    if read.is_ok() && is_yes(&answer) {
        return Ok(());
    }
    Err(NotConfirmed::Declined)
}

fn is_yes(answer: &str) -> bool {
    ["y", "yes"].contains(&answer.trim().to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        for answer in ["y\n", "YES\n", " y"] {
            assert!(is_yes(answer), "{answer}");
        }
        for answer in ["", "\n", "n\n", "yep\n", "yes no\n"] {
            assert!(!is_yes(answer), "{answer}");
        }
    }
}
