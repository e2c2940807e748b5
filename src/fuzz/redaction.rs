//! The redactor: no output contains the needle, in any form in which texts quote a value.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use data_encoding::{HEXLOWER, HEXUPPER};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use secrecy::SecretString;

use super::target;
use crate::redact::{Redactor, SHORTEST, hideable};

/// Shortest value that is looked for: one that is neither too short nor too common.
const LONG: usize = if SHORTEST > 16 { SHORTEST } else { 16 };

/// What RFC 3986 reserves, and all beyond ASCII.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The forms in which a text may quote a value.
fn forms(value: &str) -> Vec<String> {
    let json = serde_json::to_string(value).unwrap();
    vec![
        value.to_owned(),
        json[1..json.len() - 1].to_owned(),
        STANDARD.encode(value),
        URL_SAFE_NO_PAD.encode(value),
        HEXLOWER.encode(value.as_bytes()),
        HEXUPPER.encode(value.as_bytes()),
        percent_encoding::utf8_percent_encode(value, RESERVED).to_string(),
        percent_encoding::utf8_percent_encode(value, NON_ALPHANUMERIC).to_string(),
        value.bytes().map(|byte| format!("%{byte:02x}")).collect(),
        value
            .chars()
            .map(|char| format!("\\u{{{:x}}}", u32::from(char)))
            .collect(),
    ]
}

/// Many different characters, as a secret has them: of such a value alone it is said that it is found.
/// That people are told about the others is tested in `preflight/secrets_strong.rs`.
fn is_random_enough(value: &str) -> bool {
    let mut seen: Vec<char> = value.chars().collect();
    seen.sort_unstable();
    seen.dedup();
    value.len() >= LONG && seen.len() >= 10 && hideable(value.as_bytes()).is_ok()
}

#[test]
fn no_output_contains_a_known_value_in_any_form() {
    let run = |input: &[u8]| {
        let at = input.len() / 3;
        let (value, around) = input.split_at(at.min(256));
        let value: String = String::from_utf8_lossy(value)
            .chars()
            .filter(|c| !c.is_whitespace() && !c.is_control())
            .collect();
        if !is_random_enough(&value) {
            return;
        }
        let redactor = Redactor::default();
        let _held = redactor.guard(SecretString::from(value.as_str()));
        let around = String::from_utf8_lossy(around);
        let middle = around.len() / 2;
        let middle = (0..=middle)
            .rev()
            .find(|at| around.is_char_boundary(*at))
            .unwrap_or(0);
        let (before, after) = around.split_at(middle);
        for form in forms(&value) {
            let text = format!("{before} {form}{after} {form}\n{form}");
            let shown = redactor.redact(&text);
            for needle in forms(&value) {
                assert!(!shown.contains(&needle), "{needle:?} is left in {shown:?}");
            }
        }
    };
    target!("redactor", run);
}
