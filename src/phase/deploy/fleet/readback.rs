//! Whether a machine has the configuration that it was given. Pure.
//!
//! Everything that Golive sends is compared, and nothing else: Fly.io adds fields. It may also return
//! a value in another spelling (a duration, a number as text, an omitted default). A false difference
//! would restart healthy machines after a restart of the operator, so that a difference counts only
//! when it is certain.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::fly::{GoDuration, MachineConfig};

/// Fields that are not compared: metadata decides about them, Fly.io sets them, or they are compared
/// elsewhere.
const SKIPPED: &[&str] = &[
    "env",
    "image",
    "metadata",
    "standbys",
    "volume",
    "encrypted",
    // Volumes grow automatically.
    "size_gb",
    // How Fly.io returns them is not known.
    "healthchecks",
];

/// Fields whose values are compared without case.
const CASELESS: &[&str] = &[
    "cpu_kind", "kind", "method", "name", "policy", "protocol", "signal", "type",
];

/// Defaults of fields whose absence is certainly a change if another value was sent.
const DEFAULTS: &[(&str, &str)] = &[
    ("autostop", "false"),
    ("force_https", "false"),
    ("min_machines_running", "0"),
    ("policy", "on-failure"),
    ("skip_registration", "false"),
];

/// Lists and maps that are absent once somebody has emptied them.
const LISTS: &[&str] = &[
    "checks", "files", "handlers", "ports", "services", "statics",
];

/// Whether a machine has the wanted configuration.
pub fn same(wanted: &MachineConfig, actual: &MachineConfig) -> bool {
    let (Ok(wanted_value), Ok(actual_value)) =
        (serde_json::to_value(wanted), serde_json::to_value(actual))
    else {
        return true;
    };
    command(wanted) == command(actual)
        && served(&wanted_value) == served(&actual_value)
        && (wanted.metrics.is_none() || actual_value.get("metrics").is_some())
        && same_env(&wanted_value, &actual_value)
        && covers("", &wanted_value, &actual_value)
}

/// The command. It is compared completely: a command where none was sent is a change too.
fn command(config: &MachineConfig) -> (Vec<String>, Vec<String>, Vec<String>) {
    let init = config.init.clone().unwrap_or_default();
    (init.cmd, init.entrypoint, init.exec)
}

/// The internal and public ports. They are compared completely: an additional port is a change.
fn served(config: &Value) -> Vec<(Option<String>, Vec<Option<String>>)> {
    fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
        let list = value.get(name).and_then(Value::as_array);
        list.into_iter().flatten()
    }
    let port = |value: &Value, name: &str| value.get(name).map(text);
    let services = list(config, "services").map(|service| {
        let ports = list(service, "ports");
        let mut ports: Vec<_> = ports
            .map(|at| port(at, "port").or_else(|| port(at, "start_port")))
            .collect();
        ports.sort_unstable();
        (port(service, "internal_port"), ports)
    });
    let mut services: Vec<_> = services.collect();
    services.sort_unstable();
    services
}

fn same_env(wanted: &Value, actual: &Value) -> bool {
    let none = Map::new();
    let of = |value: &Value, name: &str| value.get("env")?.get(name).map(text);
    let names = wanted.get("env").and_then(Value::as_object);
    let mut names = names.unwrap_or(&none).keys();
    names.all(|name| of(wanted, name) == of(actual, name))
}

/// Whether `actual` contains everything of `wanted`; `key` is the name of the field.
fn covers(key: &str, wanted: &Value, actual: &Value) -> bool {
    if SKIPPED.contains(&key) {
        return true;
    }
    match (wanted, actual) {
        (Value::Object(wanted), Value::Object(actual)) => fields(wanted, actual),
        (Value::Object(wanted), Value::Null) if !LISTS.contains(&key) => {
            fields(wanted, &Map::new())
        }
        (wanted, Value::Null) => may_be_absent(key, wanted),
        // In any order.
        (Value::Array(wanted), Value::Array(actual)) => wanted.iter().all(|wanted| {
            let mut actual = actual.iter();
            actual.any(|actual| covers(key, wanted, actual))
        }),
        (Value::Object(_) | Value::Array(_), _) | (_, Value::Object(_) | Value::Array(_)) => true,
        (wanted, actual) => same_scalar(key, wanted, actual),
    }
}

fn fields(wanted: &Map<String, Value>, actual: &Map<String, Value>) -> bool {
    wanted
        .iter()
        .all(|(name, value)| covers(name, value, actual.get(name).unwrap_or(&Value::Null)))
}

/// Whether the absence of a field may mean this value.
fn may_be_absent(key: &str, wanted: &Value) -> bool {
    let empty = match wanted {
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        scalar => ["", "0", "0s", "false", "null"].contains(&&*text(scalar)),
    };
    if empty {
        return true;
    }
    let default = DEFAULTS.iter().find(|(name, _)| *name == key);
    match default {
        Some((_, default)) => normalized(key, wanted) == *default,
        None => !LISTS.contains(&key),
    }
}

/// Whether two texts, numbers or booleans are equal.
fn same_scalar(key: &str, wanted: &Value, actual: &Value) -> bool {
    if matches!(key, "interval" | "timeout" | "grace_period") {
        return same_time(wanted, actual);
    }
    let (one, other) = (normalized(key, wanted), normalized(key, actual));
    if one == other {
        return true;
    }
    let boolean = |text: &str| match text {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    };
    // An unknown value is not certainly a different one.
    match (wanted, actual) {
        _ if key == "autostop" => !["true", "false", "suspend"].contains(&&*other),
        (Value::Bool(wanted), _) => boolean(&other).is_none_or(|actual| actual == *wanted),
        (Value::String(_), Value::String(_)) => false,
        _ => match (one.parse::<f64>(), other.parse::<f64>()) {
            (Ok(one), Ok(other)) => (one - other).abs() < f64::EPSILON,
            _ => true,
        },
    }
}

/// A value as it is compared.
fn normalized(key: &str, value: &Value) -> String {
    let text = text(value);
    let lower = text.to_ascii_lowercase();
    match key {
        "autostop" => match &*lower {
            "off" => "false".to_owned(),
            "stop" => "true".to_owned(),
            _ => lower,
        },
        "policy" if lower == "never" => "no".to_owned(),
        "signal" => lower.trim_start_matches("sig").to_owned(),
        "path" | "guest_path" | "url_prefix" => text.trim_end_matches('/').to_owned(),
        // Base64, padded or not.
        "raw_value" => text.trim().trim_end_matches('=').to_owned(),
        _ if CASELESS.contains(&key) => lower,
        _ => text,
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Durations are texts as in Go, or numbers of an unknown unit.
fn same_time(wanted: &Value, actual: &Value) -> bool {
    let (wanted, actual) = (times(wanted), times(actual));
    wanted.is_empty() || actual.is_empty() || actual.iter().any(|time| wanted.contains(time))
}

fn times(value: &Value) -> Vec<Duration> {
    let text = text(value);
    match (text.parse::<u64>(), GoDuration::parse(&text)) {
        (Ok(number), _) => vec![
            Duration::from_nanos(number),
            Duration::from_millis(number),
            Duration::from_secs(number),
        ],
        (Err(_), Some(time)) => vec![time.0],
        (Err(_), None) => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
