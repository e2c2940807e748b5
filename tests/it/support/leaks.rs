//! Where a secret value can be read, in any form that it can have.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// The forms in which a value can be read.
pub fn forms(value: &[u8]) -> Vec<(&'static str, String)> {
    let text = String::from_utf8_lossy(value).into_owned();
    let json = json!(text).to_string();
    let percent: String = value
        .iter()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(*byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect();
    vec![
        ("first 12 characters", text.chars().take(12).collect()),
        ("reversed", text.chars().rev().collect()),
        ("raw", text),
        ("JSON", json.trim_matches('"').to_owned()),
        ("base64", STANDARD_NO_PAD.encode(value)),
        ("base64, padded", STANDARD.encode(value)),
        ("base64 for addresses", URL_SAFE_NO_PAD.encode(value)),
        ("hex", data_encoding::HEXLOWER.encode(value)),
        ("HEX", data_encoding::HEXUPPER.encode(value)),
        ("percent", percent.clone()),
        ("percent, lower case", percent.to_lowercase()),
    ]
}

/// Where a value can be read, and in which form.
pub fn leaks(canaries: &BTreeMap<String, Vec<u8>>, shown: &BTreeMap<&str, String>) -> Vec<String> {
    let mut leaks = Vec::new();
    for (name, value) in canaries {
        for (form, text) in forms(value) {
            // The first characters of an address are its scheme.
            let scheme = form == "first 12 characters" && text.contains("://");
            if scheme || text.len() < 8 {
                continue;
            }
            for (place, all) in shown {
                if let Some(at) = all.find(&text) {
                    let from = all[..at].rfind('\n').map_or(0, |at| at + 1);
                    let line: String = all[from..].chars().take(300).collect();
                    leaks.push(format!("{name} ({form}) in {place}: {line}"));
                }
            }
        }
    }
    leaks
}

/// The password in an address, which is a secret by itself.
pub fn password(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("://")?;
    let (user, _) = rest.split_once('@')?;
    Some(user.split_once(':')?.1.to_owned())
}

/// The values of the Secrets among these objects, as a user writes them.
pub fn values(objects: &[Value]) -> Vec<(String, Vec<u8>)> {
    let secrets = objects.iter().filter(|object| object["kind"] == "Secret");
    let data = secrets.filter_map(|secret| {
        let name = secret["metadata"]["name"].as_str()?.to_owned();
        Some((name, secret["stringData"].as_object()?))
    });
    data.flat_map(|(name, data)| {
        data.iter().filter_map(move |(key, value)| {
            let value = value.as_str()?.as_bytes().to_vec();
            Some((format!("{name}/{key}"), value))
        })
    })
    .collect()
}

/// Where a log shows any of these values. The first characters alone do not count: a generated value
/// often begins like a public name.
pub fn in_log(values: &BTreeMap<String, Vec<u8>>, log: String) -> Vec<String> {
    let found = leaks(values, &BTreeMap::from([("the log", log)]));
    let whole = found.into_iter();
    whole
        .filter(|leak| !leak.contains("(first 12 characters)"))
        .collect()
}

#[test]
fn a_value_is_found_in_every_form() {
    let value = b"canary \"value\" <1>".to_vec();
    let canaries = BTreeMap::from([("it".to_owned(), value.clone())]);
    for (form, text) in forms(&value) {
        let shown = BTreeMap::from([("there", format!("before {text} after"))]);
        assert!(!leaks(&canaries, &shown).is_empty(), "{form}");
    }
    let shown = BTreeMap::from([("there", "nothing of it".to_owned())]);
    assert!(leaks(&canaries, &shown).is_empty());
}

#[test]
fn the_values_of_secrets_are_those_that_a_manifest_gives() {
    let objects = kube_env::cluster::parse_yaml(
        "kind: Secret\nmetadata: {name: db}\nstringData: {url: postgres://a:b@c/d}\n---\n\
        kind: ConfigMap\nmetadata: {name: db}\ndata: {url: not a secret}\n",
    )
    .unwrap();
    let wanted = ("db/url".to_owned(), b"postgres://a:b@c/d".to_vec());
    assert_eq!(values(&objects), [wanted]);
    assert_eq!(password("postgres://a:b@c/d").as_deref(), Some("b"));
}

#[test]
fn a_log_that_shows_a_value_is_noticed_and_one_that_begins_alike_is_not() {
    let values = BTreeMap::from([("db/url".to_owned(), b"cabanas-integrations-4711".to_vec())]);
    let log = |text: &str| in_log(&values, text.to_owned());
    assert_eq!(log("cabanas-integrations is not there"), [""; 0]);
    assert!(!log("it is cabanas-integrations-4711").is_empty());
    let hex = data_encoding::HEXLOWER.encode(b"cabanas-integrations-4711");
    assert!(!log(&hex).is_empty());
}
