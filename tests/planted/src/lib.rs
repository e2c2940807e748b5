//! Bugs that somebody could make, each with the test that must catch it: `bugs.toml`.
//!
//! A bug is a replacement of one passage of one file. `cargo run -p planted` plants each into a copy of
//! the repository and runs its test, which must fail.

mod bug;
mod copy;
mod run;

pub use bug::{Bug, list};
pub use copy::Copy;
pub use run::{Outcome, run};

use std::{io, path::PathBuf};

/// Why the bugs could not be read or planted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// With this file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The list is not readable.
    #[error("{path}: {source}")]
    List {
        /// The file.
        path: PathBuf,
        /// The cause, with its place.
        source: Box<toml::de::Error>,
    },
    /// The passage that a bug replaces.
    #[error("the bug `{name}`: {file} has the passage to replace {count} times instead of once")]
    Passage {
        /// The bug.
        name: String,
        /// The file.
        file: PathBuf,
        /// How often the passage is there.
        count: usize,
    },
    /// The tests do not pass without any bug.
    #[error("the tests do not pass without a bug:\n{0}")]
    Unsound(String),
}

impl Error {
    fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}
