//! Errors of the generated values.

use crate::{api::Reason, error::Retry};

/// Why generated values are not available. No message holds a value.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or did not answer.
    #[error("cannot {doing} secret {name}")]
    Kube {
        /// What was being done.
        doing: &'static str,
        /// Name of the Secret.
        name: String,
        /// What went wrong.
        source: Box<kube::Error>,
    },
    /// A Secret of that name exists and does not belong to the Activation.
    #[error(
        "secret {name} exists and is not managed by golive for activation {activation}; \
         rename or remove it, or label it app.kubernetes.io/managed-by=golive and \
         app.kubernetes.io/instance={activation} to let golive use it"
    )]
    NotOurs {
        /// Name of the Secret.
        name: String,
        /// Name of the Activation.
        activation: String,
    },
    /// Somebody changed a value into something that cannot be an environment variable.
    #[error(
        "key {key} of secret {name} is not UTF-8 text; set it to text, or remove the key to have a new value generated"
    )]
    NotText {
        /// Name of the Secret.
        name: String,
        /// The key.
        key: String,
    },
    /// The Secret does not hold what was just written.
    #[error(
        "secret {name} was read back with another value of {key}; another writer is at work, trying again"
    )]
    ReadBack {
        /// Name of the Secret.
        name: String,
        /// The first key that differs.
        key: String,
    },
    /// Others changed the Secret at each attempt to write it.
    #[error("secret {name} changed {times} times while it was being written, trying again later")]
    Contended {
        /// Name of the Secret.
        name: String,
        /// How often.
        times: usize,
    },
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes: {0}")]
    Entropy(String),
}

impl From<Error> for crate::error::Error {
    fn from(error: Error) -> Self {
        let retry = match &error {
            Error::NotOurs { .. } | Error::NotText { .. } => Retry::OnChange,
            _ => Retry::Backoff,
        };
        Self::Store {
            doing: "settle the generated secrets",
            reason: Reason::SecretInvalid,
            retry,
            source: Box::new(error),
        }
    }
}
