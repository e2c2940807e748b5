//! Why there is no target, or no usable fly.toml in it.

use std::fmt;

use crate::api::Reason;

/// A field that cannot be used, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Path of the field, such as `spec.tokenSecretRef`.
    pub field: &'static str,
    /// The reason for conditions.
    pub reason: Reason,
    /// What is wrong, with the evidence.
    pub message: String,
    /// The next action of a person; may be empty.
    pub action: String,
}

impl Invalid {
    /// Evidence and action as one sentence.
    pub fn sentence(&self) -> String {
        sentence(&self.message, &self.action)
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.sentence())
    }
}

/// Why there is no usable fly.toml.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigInvalid {
    /// The reason for conditions.
    pub reason: Reason,
    /// Everything that is wrong with it, with line and column.
    pub message: String,
    /// The next action of a person.
    pub action: String,
}

impl ConfigInvalid {
    /// Evidence and action as one sentence.
    pub fn sentence(&self) -> String {
        sentence(&self.message, &self.action)
    }
}

fn sentence(message: &str, action: &str) -> String {
    if action.is_empty() {
        return message.to_owned();
    }
    format!("{message}: {action}")
}
