//! Values during an evaluation, and why there is none.

use std::collections::BTreeMap;

use serde_json::Value as Json;

/// Why a rule has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::cli) enum CelError {
    /// It uses something that is not known here.
    #[error("{0} is not evaluated here")]
    Unsupported(String),
    /// It fails for this value, such as a field that is absent.
    #[error("{0}")]
    Failed(String),
}

/// A value during the evaluation.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cli) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    /// A length of time, in nanoseconds.
    Duration(i128),
    List(Vec<Value>),
    Map(BTreeMap<String, Value>),
}

/// The result of an expression.
pub(super) type Result<T> = std::result::Result<T, CelError>;

impl From<&Json> for Value {
    fn from(json: &Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(truth) => Self::Bool(*truth),
            Json::Number(number) => number.as_i64().map_or_else(
                || Self::Float(number.as_f64().unwrap_or_default()),
                Self::Int,
            ),
            Json::String(text) => Self::Text(text.clone()),
            Json::Array(items) => Self::List(items.iter().map(Self::from).collect()),
            Json::Object(map) => {
                let entries = map.iter().filter(|(_, value)| !value.is_null());
                Self::Map(
                    entries
                        .map(|(key, value)| (key.clone(), value.into()))
                        .collect(),
                )
            }
        }
    }
}

/// It fails for this value.
pub(super) fn failed<T>(what: impl Into<String>) -> Result<T> {
    Err(CelError::Failed(what.into()))
}
