//! What can go wrong while the world is started.

use std::path::PathBuf;

/// Result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a part of the world did not start or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory could not be read, written or removed.
    #[error("cannot {doing} {path}", path = path.display())]
    File {
        /// The attempt, for example `write`.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },

    /// A program is not installed.
    #[error("{program} is not installed: {next}")]
    Missing {
        /// The program that was looked for.
        program: String,
        /// The command that installs it.
        next: String,
    },

    /// A program could not be started at all.
    #[error("cannot start {program}")]
    Spawn {
        /// The program.
        program: String,
        /// The cause.
        source: std::io::Error,
    },

    /// A program ended, or was not ready in time.
    #[error("{name} {what}; the last lines of {log}:\n{tail}", log = log.display())]
    NotReady {
        /// The part of the world, for example `postgres`.
        name: String,
        /// What happened, for example `ended with exit status 1`.
        what: String,
        /// Its whole output.
        log: PathBuf,
        /// The end of that output.
        tail: String,
    },

    /// The operating system has no free port, or does not say which.
    #[error("cannot find a free port on 127.0.0.1")]
    Port {
        /// The cause.
        source: std::io::Error,
    },

    /// The operating system refused something else.
    #[error("cannot {doing}")]
    System {
        /// The attempt.
        doing: &'static str,
        /// The cause.
        source: std::io::Error,
    },
}

impl Error {
    /// An [`Error::File`] from the error of a call in [`std::fs`], for `map_err`.
    pub(crate) fn file(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            doing,
            path,
            source,
        }
    }
}
