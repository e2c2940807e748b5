//! Durations as Kubernetes writes them: `30s`, `5m`, `1h30m`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration, written as in Go: whole numbers with the units `ms`, `s`, `m`, `h`.
///
/// Not `kube::core::Duration`, because that one panics on values that overflow, and a panic while
/// one object is decoded would stop the watch for all of them. It also has a pattern, so that the API
/// server refuses what cannot be parsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(std::time::Duration);

/// The pattern that the API server enforces; `FromStr` parses exactly this.
pub const PATTERN: &str = r"^([0-9]{1,7}(ms|s|m|h))+$";

/// Longest text of a duration, in characters.
pub const MAX_LENGTH: u32 = 32;

/// The text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a length of time such as 30s, 5m or 1h30m")]
pub struct ParseError(String);

impl Duration {
    /// A duration of whole seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(std::time::Duration::from_secs(seconds))
    }

    /// A duration of whole minutes.
    #[must_use]
    pub const fn from_mins(minutes: u64) -> Self {
        Self(std::time::Duration::from_secs(minutes * 60))
    }

    /// A duration of whole hours.
    #[must_use]
    pub const fn from_hours(hours: u64) -> Self {
        Self(std::time::Duration::from_secs(hours * 3600))
    }

    /// The duration as the standard library's type.
    #[must_use]
    pub const fn get(self) -> std::time::Duration {
        self.0
    }
}

impl From<Duration> for std::time::Duration {
    fn from(value: Duration) -> Self {
        value.0
    }
}

impl From<std::time::Duration> for Duration {
    fn from(value: std::time::Duration) -> Self {
        Self(value)
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        if millis == 0 {
            return f.write_str("0s");
        }
        for (unit, size) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
            let bigger = match unit {
                "h" => u128::MAX,
                "m" => 3_600_000,
                "s" => 60_000,
                _ => 1_000,
            };
            let amount = (millis % bigger) / size;
            if amount > 0 {
                write!(f, "{amount}{unit}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Duration {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let bad = || ParseError(text.chars().take(MAX_LENGTH as usize).collect());
        if text.is_empty() || text.len() > MAX_LENGTH as usize {
            return Err(bad());
        }
        let mut rest = text;
        let mut millis: u64 = 0;
        while !rest.is_empty() {
            let digits = rest
                .find(|c: char| !c.is_ascii_digit())
                .filter(|n| (1..=7).contains(n))
                .ok_or_else(bad)?;
            let (number, tail) = rest.split_at(digits);
            let number: u64 = number.parse().map_err(|_| bad())?;
            let letters = tail
                .find(|c: char| c.is_ascii_digit())
                .unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(letters);
            let size = match unit {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                _ => return Err(bad()),
            };
            // At most 7 digits of hours, at most 16 times: far below the limit of u64.
            millis = millis.saturating_add(number.saturating_mul(size));
            rest = tail;
        }
        Ok(Self(std::time::Duration::from_millis(millis)))
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": PATTERN,
            "maxLength": MAX_LENGTH,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_and_written_as_kubernetes_does() {
        for (text, seconds, written) in [
            ("30s", 30, "30s"),
            ("5m", 300, "5m"),
            ("90m", 5400, "1h30m"),
            ("72h", 259_200, "72h"),
            ("1h30m10s", 5410, "1h30m10s"),
            ("0s", 0, "0s"),
        ] {
            let duration: Duration = text.parse().unwrap();
            assert_eq!(duration, Duration::from_secs(seconds), "{text}");
            assert_eq!(duration.to_string(), written);
            assert_eq!(written.parse::<Duration>().unwrap(), duration);
        }
        assert_eq!("1500ms".parse::<Duration>().unwrap().to_string(), "1s500ms");
    }

    #[test]
    fn what_is_no_length_is_an_error_and_never_a_panic() {
        for text in [
            "",
            "5",
            "m",
            "-5m",
            "1e9h",
            "1.5h",
            "99999999h",
            "5 m",
            "5d",
            "NaNs",
            "infh",
            "é",
            "11111111111111111111111111111111111h",
        ] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
    }
}
