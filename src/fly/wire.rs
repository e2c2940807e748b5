//! Tolerant decoding of Fly.io's JSON, and encoding without loss.
//!
//! Types declared with `wire!` decode any object: a missing or `null` field is the default; an
//! unknown field, or one of the wrong type, is preserved in `extra`. Encoding writes `extra` back,
//! so changing one field of a machine's configuration loses nothing that a newer platform has
//! added. Types declared with `wire_enum!` decode any text.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use secrecy::SecretString;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// Takes one field out of an object; leaves an undecodable one there.
pub(crate) fn take<T: DeserializeOwned + Default>(fields: &mut Map<String, Value>, key: &str) -> T {
    let Some(value) = fields.remove(key) else {
        return T::default();
    };
    match T::deserialize(&value) {
        Ok(read) => read,
        Err(_) => {
            if !value.is_null() {
                fields.insert(key.to_owned(), value);
            }
            T::default()
        }
    }
}

/// Whether a field is omitted when it is encoded (Go's `omitempty`).
pub(crate) trait Absent {
    fn is_absent(&self) -> bool;
}

impl<T> Absent for Option<T> {
    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T> Absent for Vec<T> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl<K, V> Absent for BTreeMap<K, V> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl Absent for String {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

/// The name of a field on the wire: its own, or the one given after `=`.
macro_rules! wire_key {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $key:literal) => {
        $key
    };
}

/// Declares structs with tolerant decoding; see the module.
macro_rules! wire {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$field_meta:meta])* pub $field:ident : $ty:ty $(= $key:literal)? ),* $(,)?
        }
    )*) => { $(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $ty, )*
            /// Fields that this version does not know or cannot read; written back unchanged.
            pub extra: serde_json::Map<String, serde_json::Value>,
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                let mut extra: serde_json::Map<String, serde_json::Value> =
                    serde::Deserialize::deserialize(deserializer)?;
                Ok(Self {
                    $( $field: $crate::fly::wire::take(
                        &mut extra,
                        $crate::fly::wire::wire_key!($field $($key)?),
                    ), )*
                    extra,
                })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap;
                use $crate::fly::wire::Absent;
                let mut map = serializer.serialize_map(None)?;
                let mut written: Vec<&str> = Vec::new();
                $( if !self.$field.is_absent() {
                    let key = $crate::fly::wire::wire_key!($field $($key)?);
                    map.serialize_entry(key, &self.$field)?;
                    written.push(key);
                } )*
                for (key, value) in &self.extra {
                    if !written.contains(&key.as_str()) {
                        map.serialize_entry(key, value)?;
                    }
                }
                map.end()
            }
        }
    )* };
}

/// Declares an enum of texts with a last variant `Other` for unknown ones.
macro_rules! wire_enum {
    ($(
        $(#[$meta:meta])*
        pub enum $name:ident {
            $( $(#[$variant_meta:meta])* $variant:ident = $text:literal ),* $(,)?
        }
    )*) => { $(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $( $(#[$variant_meta])* $variant, )*
            /// A value that this version does not know, as it was sent.
            Other(String),
        }

        impl $name {
            /// The text on the wire.
            pub fn as_str(&self) -> &str {
                match self {
                    $( Self::$variant => $text, )*
                    Self::Other(text) => text,
                }
            }
        }

        impl Default for $name {
            /// The empty text, which a missing field is decoded as.
            fn default() -> Self {
                Self::Other(String::new())
            }
        }

        impl $crate::fly::wire::Absent for $name {
            fn is_absent(&self) -> bool {
                self.as_str().is_empty()
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                match text {
                    $( $text => Self::$variant, )*
                    other => Self::Other(other.to_owned()),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                let text = <std::borrow::Cow<'_, str> as serde::Deserialize>::deserialize(deserializer)?;
                Ok(Self::from(&*text))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    )* };
}

pub(crate) use {wire, wire_enum, wire_key};

/// For structs with secrets, which `wire!` cannot declare: a field of the wrong type is absent.
pub(crate) fn lenient<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let value = Value::deserialize(deserializer)?;
    Ok(T::deserialize(&value).ok())
}

/// The same for a secret text; an empty one is absent.
pub(crate) fn secret<'de, D>(deserializer: D) -> Result<Option<SecretString>, D::Error>
where
    D: Deserializer<'de>,
{
    let value = Value::deserialize(deserializer)?;
    Ok(value
        .as_str()
        .filter(|text| !text.is_empty())
        .map(SecretString::from))
}

/// A list inside a response. Undecodable elements are skipped, so that one of them does not hide
/// the others. Only for lists where a missing element has no consequence.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Items<T>(pub Vec<T>);

impl<T> Default for Items<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> std::ops::Deref for Items<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> From<Vec<T>> for Items<T> {
    fn from(items: Vec<T>) -> Self {
        Self(items)
    }
}

impl<T> Absent for Items<T> {
    fn is_absent(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Items<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let values = Vec::<Value>::deserialize(deserializer)?;
        Ok(Self(
            values
                .iter()
                .filter_map(|value| T::deserialize(value).ok())
                .collect(),
        ))
    }
}

/// A length of time as Go writes it in JSON: `"1m30s"`; a bare number means nanoseconds.
///
/// Encoded as by Go's `time.Duration.String` (`"5m0s"`, `"15s"`, `"500ms"`), as flyctl sends it.
/// Negative values cannot be represented and are not decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(pub Duration);

impl From<Duration> for GoDuration {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl GoDuration {
    /// A whole number of seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// Reads Go's notation: decimal numbers with units, `"1h2m3.5s"`, `"250ms"`, `"0"`.
    /// `None` for anything else, negative lengths included.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('+').unwrap_or(text);
        if text == "0" {
            return Some(Self::default());
        }
        let mut rest = text;
        let mut nanos: f64 = 0.0;
        if rest.is_empty() {
            return None;
        }
        while !rest.is_empty() {
            let digits = rest
                .find(|c: char| !c.is_ascii_digit() && c != '.')
                .unwrap_or(rest.len());
            let number: f64 = rest[..digits].parse().ok()?;
            rest = &rest[digits..];
            let letters = rest
                .find(|c: char| c.is_ascii_digit() || c == '.')
                .unwrap_or(rest.len());
            let unit = match &rest[..letters] {
                "ns" => 1.0,
                "us" | "µs" | "μs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                _ => return None,
            };
            rest = &rest[letters..];
            nanos += number * unit;
        }
        // Go's duration is an i64 of nanoseconds.
        if !nanos.is_finite() || nanos > i64::MAX as f64 {
            return None;
        }
        Some(Self(Duration::from_nanos(nanos.round() as u64)))
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        if nanos == 0 {
            return f.write_str("0s");
        }
        let (unit, name) = match nanos {
            n if n < 1_000 => (1, "ns"),
            n if n < 1_000_000 => (1_000, "µs"),
            n if n < 1_000_000_000 => (1_000_000, "ms"),
            _ => (1_000_000_000, "s"),
        };
        if unit < 1_000_000_000 {
            return write!(f, "{}{name}", decimal(nanos, unit));
        }
        let seconds = self.0.as_secs();
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if hours > 0 || minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        let below_minute = nanos % 60_000_000_000;
        write!(f, "{}s", decimal(below_minute, unit))
    }
}

/// `nanos / unit` in decimal, without trailing zeros.
fn decimal(nanos: u128, unit: u128) -> String {
    let whole = nanos / unit;
    let part = nanos % unit;
    if part == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    let part = format!("{part:0width$}");
    format!("{whole}.{}", part.trim_end_matches('0'))
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => {
                Self::parse(&text).ok_or_else(|| D::Error::custom("not a length of time"))
            }
            Value::Number(number) => number
                .as_u64()
                .map(|nanos| Self(Duration::from_nanos(nanos)))
                .ok_or_else(|| D::Error::custom("not a number of nanoseconds")),
            _ => Err(D::Error::custom("not a length of time")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    wire! {
        /// A sample.
        pub struct Sample {
            /// A text.
            pub name: String,
            /// A number under another name.
            pub count: Option<u32> = "Count",
            /// A list.
            pub list: Vec<String>,
        }
    }

    wire_enum! {
        /// A sample.
        pub enum Colour {
            /// Red.
            Red = "red",
        }
    }

    #[test]
    fn missing_null_and_wrong_types_read_as_default_and_are_written_back() {
        let sent = json!({"name": null, "Count": "three", "list": ["a", 1], "new": {"x": 1}});

        let read: Sample = serde_json::from_value(sent).unwrap();

        assert_eq!(
            (read.name.as_str(), read.count, read.list.len()),
            ("", None, 0)
        );
        assert_eq!(
            serde_json::to_value(&read).unwrap(),
            json!({"Count": "three", "list": ["a", 1], "new": {"x": 1}})
        );
    }

    #[test]
    fn a_field_that_is_set_wins_over_the_unreadable_one() {
        let mut read: Sample = serde_json::from_value(json!({"Count": "three"})).unwrap();
        read.count = Some(3);
        assert_eq!(serde_json::to_string(&read).unwrap(), r#"{"Count":3}"#);
    }

    #[test]
    fn something_that_is_not_an_object_is_not_read() {
        assert!(serde_json::from_value::<Sample>(json!([1])).is_err());
        assert!(serde_json::from_value::<Sample>(json!(null)).is_err());
    }

    #[test]
    fn an_unknown_word_is_kept() {
        let read: Colour = serde_json::from_value(json!("blue")).unwrap();
        assert_eq!(read, Colour::Other("blue".into()));
        assert_eq!(serde_json::to_value(&read).unwrap(), json!("blue"));
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (500_000_000, "500ms"),
            (1_500_000_000, "1.5s"),
            (15_000_000_000, "15s"),
            (90_000_000_000, "1m30s"),
            (300_000_000_000, "5m0s"),
            (86_400_000_000_000, "24h0m0s"),
        ] {
            let duration = GoDuration(Duration::from_nanos(nanos));
            assert_eq!(duration.to_string(), text);
            assert_eq!(GoDuration::parse(text), Some(duration), "{text}");
        }
    }

    #[test]
    fn durations_read_numbers_as_nanoseconds_and_refuse_nonsense() {
        let read: GoDuration = serde_json::from_value(json!(2_000_000_000_u64)).unwrap();
        assert_eq!(read, GoDuration::from_secs(2));
        for nonsense in ["", "s", "5", "-1s", "1x", "1..2s", "99999999999h"] {
            assert_eq!(GoDuration::parse(nonsense), None, "{nonsense}");
        }
    }
}
