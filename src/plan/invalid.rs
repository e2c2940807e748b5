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
    /// What is wrong, and the next action.
    pub message: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Why there is no usable fly.toml.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigInvalid {
    /// The reason for conditions.
    pub reason: Reason,
    /// Everything that is wrong with it, with line and column.
    pub message: String,
}
