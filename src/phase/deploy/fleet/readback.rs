//! Whether a machine has the configuration that it was given. Pure.
//!
//! Everything that Golive sends is compared. Of what it does not send only that is, whose default
//! Fly.io documents or which Fly.io never sets: it adds other fields. It may also return a value in
//! another spelling (a duration, a number as text, an omitted default). A false difference would
//! restart healthy machines after a restart of the operator, so that a difference counts only when it
//! is certain.

use std::{fmt, time::Duration};

use serde_json::{Map, Value};

use crate::{
    fly::{GoDuration, MachineConfig, machine_config::MachineInit},
    flytoml::PROCESS_GROUP_KEY,
};

/// Longest value that is shown, in characters.
const LONGEST_VALUE: usize = 48;

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

/// Fields whose values are shown: numbers, switches and words of Fly.io. All others may hold what is
/// secret, such as a password in a command or a header; of those only the name is shown.
const SHOWN: &[&str] = &[
    "add_size_gb",
    "alpn",
    "autostart",
    "autostop",
    "compress",
    "cpu_kind",
    "cpus",
    "default_self_signed",
    "end_port",
    "extend_threshold_percent",
    "force_https",
    "gpu_kind",
    "gpus",
    "grace_period",
    "guest_path",
    "h2_backend",
    "handlers",
    "hard_limit",
    "https",
    "idle_timeout",
    "internal_port",
    "interval",
    "kind",
    "max_memory_mb",
    "max_retries",
    "memory_mb",
    "method",
    "min_machines_running",
    "mode",
    "policy",
    "port",
    "protocol",
    "signal",
    "size_gb_limit",
    "skip_registration",
    "soft_limit",
    "start_port",
    "swap_size_mb",
    "timeout",
    "tls_skip_verify",
    "type",
    "url_prefix",
    "versions",
];

/// Lists and maps that Golive sends completely: one entry more was added by hand.
const COMPLETE: &[&str] = &["checks", "files", "statics"];

/// Begins the names of environment variables that the platform may set.
const OF_THE_PLATFORM: &str = "FLY_";

/// The restart policy of a machine that was given none (fly.io/docs/machines/api/machines-resource/).
const DEFAULT_RESTART: &str = "on-failure";

/// One field of a machine that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which, such as `guest.memory_mb`.
    pub field: String,
    /// How it differs.
    pub how: How,
}

/// How a field differs. No value that may be secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// It has one value instead of another.
    Value {
        /// What it should be.
        wanted: String,
        /// What it is.
        found: String,
    },
    /// It has another value, which may be secret.
    Changed,
    /// It was added.
    Added,
    /// It was removed.
    Removed,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = &self.field;
        match &self.how {
            How::Value { wanted, found } => write!(f, "{field} is {found} instead of {wanted}"),
            How::Changed => write!(f, "{field} was changed"),
            How::Added => write!(f, "{field} was added"),
            How::Removed => write!(f, "{field} was removed"),
        }
    }
}

impl Difference {
    /// A field that differs in this way.
    pub fn new(field: impl Into<String>, how: How) -> Self {
        Self {
            field: field.into(),
            how,
        }
    }

    /// A field with one value instead of another.
    pub fn value(field: &str, wanted: impl Into<String>, found: impl Into<String>) -> Self {
        let how = How::Value {
            wanted: wanted.into(),
            found: found.into(),
        };
        Self::new(field, how)
    }
}

/// The fields in which a machine differs from the wanted configuration.
pub fn differences(wanted: &MachineConfig, actual: &MachineConfig) -> Vec<Difference> {
    let (Ok(wanted_value), Ok(actual_value)) =
        (serde_json::to_value(wanted), serde_json::to_value(actual))
    else {
        return Vec::new();
    };
    let mut found = Vec::new();
    env(&wanted_value, &actual_value, &mut found);
    compare("", "", &wanted_value, &actual_value, &mut found);
    unasked(wanted, actual, &mut found);
    for (name, wanted, actual) in commands(wanted, actual) {
        let field = format!("init.{name}");
        if wanted != actual && !found.iter().any(|known| known.field == field) {
            found.push(Difference::new(field, How::Changed));
        }
    }
    let services = found
        .iter()
        .any(|known| known.field.starts_with("services"));
    let (should, are) = (served(&wanted_value), served(&actual_value));
    if should != are && !services {
        found.push(Difference::value("services", ports(&should), ports(&are)));
    }
    found
}

/// What a configuration says, field by field: the values that are shown, and of all others that there is one.
/// Image and metadata are told elsewhere.
pub fn told(config: &MachineConfig) -> Vec<(String, Option<String>)> {
    let mut told = Vec::new();
    if let Ok(Value::Object(fields)) = serde_json::to_value(config) {
        let fields = fields.iter();
        for (name, value) in fields.filter(|(name, _)| !["image", "metadata"].contains(&&***name)) {
            tell(name, name, value, &mut told);
        }
    }
    told
}

fn tell(path: &str, key: &str, value: &Value, told: &mut Vec<(String, Option<String>)>) {
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            for (name, value) in fields {
                let separator = if path == "env" { " " } else { "." };
                tell(&format!("{path}{separator}{name}"), name, value, told);
            }
        }
        Value::Array(list) if list.iter().any(Value::is_object) => {
            for (at, value) in list.iter().enumerate() {
                tell(&format!("{path}[{at}]"), key, value, told);
            }
        }
        // The name of a variable says nothing about its value.
        value => {
            let is_shown = SHOWN.contains(&key) && !path.starts_with("env ");
            told.push((path.to_owned(), is_shown.then(|| shown(key, value))));
        }
    }
}

/// What was given to a machine although nothing was asked for.
fn unasked(wanted: &MachineConfig, actual: &MachineConfig, found: &mut Vec<Difference>) {
    if wanted.metrics.is_none() != actual.metrics.is_none() {
        let how = if wanted.metrics.is_none() {
            How::Added
        } else {
            How::Removed
        };
        found.push(Difference::new("metrics", how));
    }
    let policy = |config: &MachineConfig| {
        let policy = config.restart.as_ref()?.policy.as_ref();
        policy.and_then(|policy| serde_json::to_value(policy).ok())
    };
    if wanted.restart.is_none()
        && let Some(policy) = policy(actual)
        && normalized("policy", &policy) != DEFAULT_RESTART
    {
        let now = normalized("policy", &policy);
        found.push(Difference::value("restart.policy", DEFAULT_RESTART, now));
    }
    let group = |config: &MachineConfig| config.metadata.get(PROCESS_GROUP_KEY).cloned();
    if let Some(should) = group(wanted)
        && group(actual).as_ref() != Some(&should)
    {
        let now = group(actual).unwrap_or_else(|| "absent".to_owned());
        let field = format!("metadata {PROCESS_GROUP_KEY}");
        found.push(Difference::value(&field, should, now));
    }
}

/// The parts of the command. They are compared completely: a command where none was sent is a
/// change too.
fn commands<'a>(
    wanted: &'a MachineConfig,
    actual: &'a MachineConfig,
) -> [(&'static str, &'a [String], &'a [String]); 3] {
    fn part<'a>(
        config: &'a MachineConfig,
        of: impl Fn(&'a MachineInit) -> &'a Vec<String>,
    ) -> &'a [String] {
        config.init.as_ref().map_or(&[], |init| of(init))
    }
    [
        (
            "cmd",
            part(wanted, |init| &init.cmd),
            part(actual, |init| &init.cmd),
        ),
        (
            "entrypoint",
            part(wanted, |init| &init.entrypoint),
            part(actual, |init| &init.entrypoint),
        ),
        (
            "exec",
            part(wanted, |init| &init.exec),
            part(actual, |init| &init.exec),
        ),
    ]
}

/// A service: its internal port, and its ports at the edge.
type Served = (Option<String>, Vec<Option<String>>);

/// The internal and public ports. They are compared completely: an additional port is a change.
fn served(config: &Value) -> Vec<Served> {
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

/// The ports of services, such as `80 and 443 to 8080`.
fn ports(services: &[Served]) -> String {
    let one = |(internal, ports): &Served| {
        let ports: Vec<&str> = ports.iter().flatten().map(String::as_str).collect();
        let to = internal.as_deref().unwrap_or("a default");
        format!("{} to {to}", ports.join(" and "))
    };
    let all: Vec<String> = services.iter().map(one).collect();
    if all.is_empty() {
        return "none".to_owned();
    }
    all.join(", ")
}

/// The environment is compared by name, and no value is shown.
fn env(wanted: &Value, actual: &Value, found: &mut Vec<Difference>) {
    let none = Map::new();
    let of = |config: &'_ Value| -> Map<String, Value> {
        let env = config.get("env").and_then(Value::as_object);
        env.unwrap_or(&none).clone()
    };
    let (wanted, actual) = (of(wanted), of(actual));
    for (name, value) in &wanted {
        let how = match actual.get(name).map(text) {
            Some(now) if now == text(value) => continue,
            Some(_) => How::Changed,
            None => How::Removed,
        };
        found.push(Difference::new(format!("env {name}"), how));
    }
    let added = actual
        .keys()
        .filter(|name| !wanted.contains_key(*name) && !name.starts_with(OF_THE_PLATFORM));
    found.extend(added.map(|name| Difference::new(format!("env {name}"), How::Added)));
}

/// Whether `actual` contains everything of `wanted`, and of a complete list nothing else; `key` is
/// the name of the field, `path` where it is.
fn compare(path: &str, key: &str, wanted: &Value, actual: &Value, found: &mut Vec<Difference>) {
    if SKIPPED.contains(&key) {
        return;
    }
    match (wanted, actual) {
        (Value::Object(wanted), Value::Object(actual)) => {
            fields(path, wanted, actual, found);
            extra_entries(path, key, wanted, actual, found);
        }
        (Value::Object(wanted), Value::Null) if !LISTS.contains(&key) => {
            fields(path, wanted, &Map::new(), found);
        }
        (wanted, Value::Null) => {
            if !may_be_absent(key, wanted) {
                found.push(absent(path, key, wanted));
            }
        }
        (Value::Array(wanted), Value::Array(actual)) => {
            lists(path, key, wanted, actual, found);
        }
        (Value::Object(_) | Value::Array(_), _) | (_, Value::Object(_) | Value::Array(_)) => {}
        (wanted, actual) => {
            if !same_scalar(key, wanted, actual) {
                found.push(changed(path, key, wanted, actual));
            }
        }
    }
}

fn fields(
    path: &str,
    wanted: &Map<String, Value>,
    actual: &Map<String, Value>,
    found: &mut Vec<Difference>,
) {
    for (name, value) in wanted {
        let inside = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        let now = actual.get(name).unwrap_or(&Value::Null);
        compare(&inside, name, value, now, found);
    }
    if path.is_empty() {
        // A list that is not sent at all, and was added.
        let added = actual.iter().filter(|(name, value)| {
            COMPLETE.contains(&name.as_str())
                && !wanted.contains_key(*name)
                && !matches!(value, Value::Null)
        });
        found.extend(added.map(|(name, _)| Difference::new(name.clone(), How::Added)));
    }
}

/// Entries of a complete map that were added.
fn extra_entries(
    path: &str,
    key: &str,
    wanted: &Map<String, Value>,
    actual: &Map<String, Value>,
    found: &mut Vec<Difference>,
) {
    if COMPLETE.contains(&key) {
        let added = actual.keys().filter(|name| !wanted.contains_key(*name));
        found.extend(added.map(|name| Difference::new(format!("{path}.{name}"), How::Added)));
    }
}

/// Lists, in any order: what fits best is compared field by field.
fn lists(path: &str, key: &str, wanted: &[Value], actual: &[Value], found: &mut Vec<Difference>) {
    if wanted.iter().all(|value| !value.is_object()) {
        let has = |value: &Value| {
            let mut all = actual.iter();
            all.any(|now| same_scalar(key, value, now))
        };
        if !wanted.iter().all(has) {
            let (should, now) = (Value::from(wanted), Value::from(actual));
            found.push(changed(path, key, &should, &now));
        }
        return;
    }
    for (at, value) in wanted.iter().enumerate() {
        let place = format!("{path}[{at}]");
        let compared = actual.iter().map(|now| {
            let mut differences = Vec::new();
            compare(&place, "", value, now, &mut differences);
            differences
        });
        match compared.min_by_key(Vec::len) {
            Some(best) => found.extend(best),
            None => found.push(Difference::new(place, How::Removed)),
        }
    }
    if COMPLETE.contains(&key) && actual.len() > wanted.len() {
        found.push(Difference::new(path, How::Added));
    }
}

/// A field with another value.
fn changed(path: &str, key: &str, wanted: &Value, actual: &Value) -> Difference {
    if SHOWN.contains(&key) {
        return Difference::value(path, shown(key, wanted), shown(key, actual));
    }
    Difference::new(path, How::Changed)
}

/// A field that is absent.
fn absent(path: &str, key: &str, wanted: &Value) -> Difference {
    if SHOWN.contains(&key) {
        return Difference::value(path, shown(key, wanted), "absent");
    }
    Difference::new(path, How::Removed)
}

/// A value as a person reads it.
fn shown(key: &str, value: &Value) -> String {
    let shown = match value {
        Value::Array(list) => {
            let list: Vec<String> = list.iter().map(text).collect();
            list.join("+")
        }
        other => normalized(key, other),
    };
    crate::api::status::one_line(&shown, LONGEST_VALUE)
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
