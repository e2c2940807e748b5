//! Signals by name or number.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::error::{FlyError, FlyResult};

/// Reads `SIGTERM`, `TERM` or `15`.
pub fn parse(text: &str) -> FlyResult<Signal> {
    let error = || FlyError::bad_request(format!("invalid_argument: unknown signal '{text}'"));
    if let Ok(number) = text.parse::<i32>() {
        return Signal::try_from(number).map_err(|_| error());
    }
    let upper = text.to_ascii_uppercase();
    let name = if upper.starts_with("SIG") {
        upper
    } else {
        format!("SIG{upper}")
    };
    name.parse().map_err(|_| error())
}

/// Reads a signal from JSON: fly-go sends numbers, people send names.
pub fn from_json(value: &Value) -> FlyResult<Signal> {
    match value {
        Value::String(text) => parse(text),
        Value::Number(number) => parse(&number.to_string()),
        other => Err(FlyError::bad_request(format!(
            "invalid_argument: a signal is a name or a number, not {other}"
        ))),
    }
}
