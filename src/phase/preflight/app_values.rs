//! The secrets that an application gets from Kubernetes Secrets: their names, and values that must
//! not reach it or are probably not what was meant. Pure; no value is repeated.

use secrecy::{ExposeSecret, SecretString};

use super::{
    address::{self, Problem, Service},
    check::Fault,
};
use crate::{
    api::Reason,
    fly::{self, token},
};

/// A variable that Fly.io derives from `primary_region`.
const PRIMARY_REGION: &str = "PRIMARY_REGION";

/// What is wrong with the name of a secret, a key of the Secret `secret`.
pub fn name_fault(secret: &str, key: &str) -> Option<Fault> {
    if !is_variable(key) {
        let better: String = key
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        let better = if better.starts_with(|c: char| c.is_ascii_digit()) {
            format!("_{better}")
        } else {
            better
        };
        return Some(Fault::new(
            Reason::SecretInvalid,
            format!(
                "the key {key} of the Secret {secret} is not a valid name of an environment variable"
            ),
            format!("rename the key to {}", better.to_ascii_uppercase()),
        ));
    }
    if key.starts_with("FLY_") || key == PRIMARY_REGION {
        return Some(Fault::new(
            Reason::SecretInvalid,
            format!(
                "the key {key} of the Secret {secret} is a reserved name: Fly.io sets `FLY_*` and `{PRIMARY_REGION}` in each machine itself"
            ),
            "rename the key, or remove it",
        ));
    }
    None
}

fn is_variable(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Why a value must not reach the application: it is a token of Fly.io, and whoever can run a program
/// in the machine could do with the organization what the token may.
pub fn token_fault(
    own: &fly::Token,
    secret: &str,
    key: &str,
    value: &SecretString,
) -> Option<Fault> {
    let own = fly::Token::parse(value.expose_secret()).is_ok_and(|token| token.is_same(own));
    let what = if own {
        "the Fly token of this Activation"
    } else if token::looks_like_one(value.expose_secret()) {
        "a token of Fly.io"
    } else {
        return None;
    };
    Some(Fault::new(
        Reason::SecretInvalid,
        format!(
            "the key {key} of the Secret {secret} holds {what}, which the application would get as an environment variable"
        ),
        "remove that key from the Secret, and keep tokens in Secrets that `provision.secrets.from` does not name",
    ))
}

/// What is doubtful about a value, and what to do if it was not meant.
pub fn doubt(key: &str, value: &str) -> Option<(&'static str, &'static str)> {
    if value.is_empty() {
        return Some((
            "is empty",
            "nothing, if the application expects it to be empty; else put the value there",
        ));
    }
    let content = value.trim_end_matches(['\r', '\n']);
    if content.len() < value.len() && !content.contains('\n') {
        return Some((
            "ends with a line break, which the application gets as a part of it",
            "if it was not meant: `printf %s VALUE > FILE` writes a file without one, and `--from-literal` a value",
        ));
    }
    if value.trim() != value && !content.contains('\n') {
        return Some((
            "begins or ends with a blank, which the application gets as a part of it",
            "remove the blank if it was not meant",
        ));
    }
    if value.starts_with('\u{feff}') {
        return Some((
            "begins with an invisible character, which an editor has added",
            "save the file as UTF-8 without a byte order mark",
        ));
    }
    let named = value
        .strip_prefix("export")
        .map_or(value, str::trim_start)
        .strip_prefix(key)
        .is_some_and(|rest| rest.starts_with('='));
    if named {
        return Some(("begins with its own name and `=`", "store the value alone"));
    }
    let quoted = |quote| value.len() > 2 && value.starts_with(quote) && value.ends_with(quote);
    if quoted('"') || quoted('\'') {
        return Some((
            "is in quotes, which the application gets as a part of it",
            "remove the quotes if they were not meant",
        ));
    }
    None
}

/// What is wrong with or doubtful about an address of PostgreSQL or Redis that the application gets
/// as it is. What else it may be is the application's affair, so that nothing of it is refused.
pub fn address_doubts(key: &str, value: &str) -> Vec<Problem> {
    let address = value.trim_end_matches(['\r', '\n']);
    let scheme = address.split("://").next().unwrap_or_default();
    let program = address.split(' ').next().unwrap_or_default();
    let service = match (key, scheme.to_ascii_lowercase().as_str(), program) {
        (_, "postgres" | "postgresql", _) | ("DATABASE_URL", _, "psql") => Service::Postgres,
        (_, "redis" | "rediss", _) | ("REDIS_URL", _, "redis-cli") => Service::Redis,
        _ => return Vec::new(),
    };
    address::judge(service, address).unwrap_or_else(|problem| vec![problem])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_bad_name_has_its_own_reason_and_advice() {
        for (key, message, action) in [
            ("api-key", "not a valid name", "rename the key to API_KEY"),
            ("tls.crt", "not a valid name", "rename the key to TLS_CRT"),
            ("1A", "not a valid name", "rename the key to _1A"),
            ("FLY_REGION", "reserved", "rename the key, or remove it"),
            ("PRIMARY_REGION", "reserved", "rename the key, or remove it"),
        ] {
            let fault = name_fault("app", key).unwrap();
            assert!(fault.message.contains(message), "{fault:?}");
            assert_eq!(fault.action, action);
        }
        for key in ["A", "_a1", "FLYING", "fly_x"] {
            assert_eq!(name_fault("app", key), None, "{key}");
        }
    }

    #[test]
    fn a_fly_token_is_recognized_by_its_value_and_never_shown() {
        let own = fly::Token::parse("FlyV1 fm2_own-canary").unwrap();
        for (value, what) in [
            ("FlyV1 fm2_own-canary", Some("of this Activation")),
            ("fm2_own-canary\n", Some("of this Activation")),
            ("FlyV1 fm2_other-canary", Some("a token of Fly.io")),
            ("fo1_other-canary", Some("a token of Fly.io")),
            ("\"FlyV1 fm2_other-canary\"", Some("a token of Fly.io")),
            ("Zt7vQm2rKx9pLw4sNb8dHc3f", None),
            ("", None),
        ] {
            let fault = token_fault(&own, "app", "X", &SecretString::from(value));
            assert_eq!(fault.is_some(), what.is_some(), "{value}");
            if let (Some(fault), Some(what)) = (fault, what) {
                assert!(fault.message.contains(what), "{fault:?}");
                assert!(!format!("{fault:?}").contains("canary"), "{fault:?}");
            }
        }
    }

    #[test]
    fn an_address_that_the_application_gets_as_it_is_is_only_doubted() {
        for (key, value, part) in [
            ("DATABASE_URL", "postgres://u:p@ss@db.example/x", "`%40`"),
            ("DB", "postgresql://u:p@localhost/x", "localhost"),
            ("REDIS_URL", "redis://redis:6379\n", "without a domain"),
            (
                "DATABASE_URL",
                "psql 'postgres://u:p@db.example/x'",
                "command",
            ),
        ] {
            let doubts = address_doubts(key, value);
            assert!(
                doubts.iter().any(|doubt| doubt.what.contains(part)),
                "{value}: {doubts:?}"
            );
        }
        for (key, value) in [
            ("DATABASE_URL", "mysql://u:p@localhost/x"),
            ("DATABASE_URL", "file:/data/x.db"),
            ("REDIS_URL", "redis://:Zt7vQm2rKx9@cache.example:6379"),
            ("X", "psql is a program"),
        ] {
            assert!(address_doubts(key, value).is_empty(), "{value}");
        }
    }

    #[test]
    fn values_that_were_probably_not_meant_are_doubtful() {
        for (value, part) in [
            ("", "empty"),
            ("x\n", "line break"),
            ("x\r\n", "line break"),
            ("\n", "line break"),
            (" x", "blank"),
            ("x\t", "blank"),
            ("A=x", "own name"),
            ("export A=x", "own name"),
            ("\"x\"", "quotes"),
            ("'x'", "quotes"),
            ("\u{feff}x", "invisible"),
        ] {
            let (what, _) = doubt("A", value).unwrap();
            assert!(what.contains(part), "{value:?}: {what}");
        }
        for value in [
            "x",
            "a=b",
            "{\"a\": 1}",
            "-----BEGIN-----\nx\n-----END-----\n",
            "a\nb\n",
        ] {
            assert_eq!(doubt("A", value), None, "{value:?}");
        }
    }
}
