//! Whether a machine has the configuration that it was given. Pure.
//!
//! Everything that we send is compared, and nothing else: the platform adds fields. It may also spell
//! what it was sent in another way (a length of time, a number as text, a default left out). After a
//! restart of the operator a difference that is none would have machines restarted that serve well.
//! So where it is not certain that there is a difference, there is none.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::fly::{GoDuration, MachineConfig};

/// What is not compared: it is decided by marks, by the platform, or compared elsewhere.
const SKIPPED: &[&str] = &[
    "env",
    "image",
    "metadata",
    "standbys",
    "volume",
    "encrypted",
    // Volumes grow by themselves.
    "size_gb",
    // As sent; the platform's own words for them are not known.
    "healthchecks",
];

/// Words that mean the same in capitals.
const WORDS: &[&str] = &[
    "cpu_kind", "kind", "method", "name", "policy", "protocol", "signal", "type",
];

/// What a field means that is not there, where its absence is surely a change.
const DEFAULTS: &[(&str, &str)] = &[
    ("autostop", "false"),
    ("force_https", "false"),
    ("min_machines_running", "0"),
    ("policy", "on-failure"),
    ("skip_registration", "false"),
];

/// Lists and maps that are not there once somebody has emptied them.
const LISTS: &[&str] = &[
    "checks", "files", "handlers", "ports", "services", "statics",
];

/// Whether a machine has what is wanted.
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

/// What is run. Somebody's own command is a change too where we sent none.
fn command(config: &MachineConfig) -> (Vec<String>, Vec<String>, Vec<String>) {
    let init = config.init.clone().unwrap_or_default();
    (init.cmd, init.entrypoint, init.exec)
}

/// The ports inside and at the edge: one more serves what nobody asked for.
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

/// Whether everything of `wanted` stands in `actual`; `key` is the name of the field.
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
        // In whatever order.
        (Value::Array(wanted), Value::Array(actual)) => wanted.iter().all(|wanted| {
            let mut actual = actual.iter();
            actual.any(|actual| covers(key, wanted, actual))
        }),
        (Value::Object(_) | Value::Array(_), _) | (_, Value::Object(_) | Value::Array(_)) => true,
        (wanted, actual) => same_word(key, wanted, actual),
    }
}

fn fields(wanted: &Map<String, Value>, actual: &Map<String, Value>) -> bool {
    wanted
        .iter()
        .all(|(name, value)| covers(name, value, actual.get(name).unwrap_or(&Value::Null)))
}

/// Whether a field that is not there may say this all the same.
fn may_be_absent(key: &str, wanted: &Value) -> bool {
    let empty = match wanted {
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        word => ["", "0", "0s", "false", "null"].contains(&&*text(word)),
    };
    if empty {
        return true;
    }
    let default = DEFAULTS.iter().find(|(name, _)| *name == key);
    match default {
        Some((_, default)) => word(key, wanted) == *default,
        None => !LISTS.contains(&key),
    }
}

/// Whether two words, numbers or switches say the same.
fn same_word(key: &str, wanted: &Value, actual: &Value) -> bool {
    if matches!(key, "interval" | "timeout" | "grace_period") {
        return same_time(wanted, actual);
    }
    let (one, other) = (word(key, wanted), word(key, actual));
    if one == other {
        return true;
    }
    let switch = |word: &str| match word {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    };
    // A word that is not one of those that we know is not surely another one.
    match (wanted, actual) {
        _ if key == "autostop" => !["true", "false", "suspend"].contains(&&*other),
        (Value::Bool(wanted), _) => switch(&other).is_none_or(|actual| actual == *wanted),
        (Value::String(_), Value::String(_)) => false,
        _ => match (one.parse::<f64>(), other.parse::<f64>()) {
            (Ok(one), Ok(other)) => (one - other).abs() < f64::EPSILON,
            _ => true,
        },
    }
}

/// A word as it is compared.
fn word(key: &str, value: &Value) -> String {
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
        _ if WORDS.contains(&key) => lower,
        _ => text,
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Lengths of time are Go's words, or a number whose unit is not told.
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
