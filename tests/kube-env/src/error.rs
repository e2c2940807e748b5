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

    /// A kubeconfig file cannot be used.
    #[error("cannot use the kubeconfig {path}", path = path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: Box<kube::config::KubeconfigError>,
    },

    /// The API server refused or did not answer.
    #[error("cannot {doing}")]
    Kube {
        /// The attempt.
        doing: &'static str,
        /// The cause.
        source: Box<kube::Error>,
    },

    /// The API server refused an object.
    #[error("cannot apply {kind} {name}")]
    Apply {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// The cause.
        source: Box<kube::Error>,
    },

    /// A watch ended early.
    #[error("cannot watch an object")]
    Watch {
        /// The cause.
        source: Box<kube::runtime::wait::Error>,
    },

    /// A definition was stored but is not served.
    #[error("CustomResourceDefinition {name} is not established: look at its conditions")]
    NotEstablished {
        /// Name of the definition.
        name: String,
    },

    /// An object has no valid apiVersion.
    #[error("an object has the invalid apiVersion {api_version:?}")]
    Kind {
        /// As written.
        api_version: String,
        /// The cause.
        source: Box<kube::core::gvk::ParseGroupVersionError>,
    },

    /// Text that should be YAML is not.
    #[error("cannot read YAML")]
    Yaml {
        /// The cause.
        source: Box<serde_saphyr::Error>,
    },

    /// Data that should be an object is not.
    #[error("cannot read an object")]
    Object {
        /// The cause.
        source: serde_json::Error,
    },
}

impl Error {
    /// An [`Error::Kube`], for `map_err`.
    pub(crate) fn kube(doing: &'static str) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Kube {
            doing,
            source: Box::new(source),
        }
    }

    /// An [`Error::Yaml`], for `map_err`.
    pub(crate) fn yaml(source: serde_saphyr::Error) -> Self {
        Self::Yaml {
            source: Box::new(source),
        }
    }

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
