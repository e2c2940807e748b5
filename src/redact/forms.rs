//! The forms in which a secret value can turn up in a text.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use data_encoding::{HEXLOWER, HEXUPPER};
use zeroize::Zeroizing;

use super::WINDOW;

/// So many lines of one value are learnt by themselves. A private key of 8192 bits has 102.
const MOST_LINES: usize = 128;

/// A form in which a value can turn up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Raw,
    /// As text, inside a JSON string, and inside JSON inside a JSON string.
    Json(u8),
    /// Inside a JSON string as Go writes it, with `\u003c` for `<`.
    GoJson,
    /// As Rust's `{:?}` writes it, and that inside a JSON string.
    Debug(u8),
    /// Base64 of a longer text in which the value begins at this offset modulo 3.
    Base64(u8),
    Base64Url(u8),
    HexLower,
    HexUpper,
    /// Everything but letters, digits and `-._~` as `%41`; digits in upper or lower case.
    PercentUpper,
    PercentLower,
    /// As `PercentUpper`, with `+` for a space.
    PlusForSpace,
}

pub(super) const FORMS: &[Form] = &[
    Form::Raw,
    Form::Json(0),
    Form::Json(1),
    Form::Json(2),
    Form::GoJson,
    Form::Debug(0),
    Form::Debug(1),
    Form::Base64(0),
    Form::Base64(1),
    Form::Base64(2),
    Form::Base64Url(0),
    Form::Base64Url(1),
    Form::Base64Url(2),
    Form::HexLower,
    Form::HexUpper,
    Form::PercentUpper,
    Form::PercentLower,
    Form::PlusForSpace,
];

/// 1 if the value ends within a base64 character, which then holds its last bits.
pub(super) fn shared_character(form: Form, needle: &[u8], text: &[u8]) -> usize {
    let base64 = matches!(form, Form::Base64(_) | Form::Base64Url(_));
    let next = text.get(needle.len()).filter(|_| text.starts_with(needle));
    usize::from(
        base64 && next.is_some_and(|byte| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte)),
    )
}

pub(super) fn encode(form: Form, value: &[u8]) -> Zeroizing<Vec<u8>> {
    let text = || String::from_utf8_lossy(value);
    let encoded = match form {
        Form::Raw => value.to_vec(),
        Form::Json(depth) => json(&text(), depth).into_bytes(),
        Form::GoJson => json(&text(), 1)
            .replace('<', "\\u003c")
            .replace('>', "\\u003e")
            .replace('&', "\\u0026")
            .into_bytes(),
        Form::Debug(depth) => {
            let quoted = format!("{:?}", text());
            json(&quoted[1..quoted.len() - 1], depth).into_bytes()
        }
        Form::Base64(offset) => base64(&STANDARD_NO_PAD, offset, value).into_bytes(),
        Form::Base64Url(offset) => base64(&URL_SAFE_NO_PAD, offset, value).into_bytes(),
        Form::HexLower => HEXLOWER.encode(value).into_bytes(),
        Form::HexUpper => HEXUPPER.encode(value).into_bytes(),
        Form::PercentUpper => percent(value, b"0123456789ABCDEF", false),
        Form::PercentLower => percent(value, b"0123456789abcdef", false),
        Form::PlusForSpace => percent(value, b"0123456789ABCDEF", true),
    };
    Zeroizing::new(encoded)
}

/// The text as it stands between the quotes of a JSON string, so many times over.
fn json(text: &str, depth: u8) -> String {
    (0..depth).fold(text.to_owned(), |text, _| {
        let quoted = serde_json::Value::String(text).to_string();
        quoted[1..quoted.len() - 1].to_owned()
    })
}

/// The characters of a base64 text that depend on the value alone, if it begins at this offset.
fn base64(engine: &impl Engine, offset: u8, value: &[u8]) -> String {
    let offset = usize::from(offset);
    let mut padded = Zeroizing::new(vec![0; offset]);
    padded.extend_from_slice(value);
    let encoded = engine.encode(&padded);
    let first = (offset * 8).div_ceil(6);
    let last = padded.len() * 8 / 6;
    encoded.get(first..last).unwrap_or_default().to_owned()
}

fn percent(value: &[u8], digits: &[u8; 16], form: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    for byte in value {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(*byte),
            b' ' if form => out.push(b'+'),
            _ => {
                out.push(b'%');
                out.push(digits[usize::from(byte >> 4)]);
                out.push(digits[usize::from(byte & 15)]);
            }
        }
    }
    out
}

/// The password of `scheme://user:password@host`, still percent-encoded and decoded.
pub(super) fn password_in_url(value: &[u8]) -> Vec<Vec<u8>> {
    let Ok(text) = std::str::from_utf8(value) else {
        return Vec::new();
    };
    let Ok(url) = text.parse::<url::Url>() else {
        return Vec::new();
    };
    let Some(password) = url.password() else {
        return Vec::new();
    };
    let mut found = vec![password.as_bytes().to_vec()];
    let decoded = decode_percent(password);
    if decoded != found[0] {
        found.push(decoded);
    }
    found
}

/// The lines of a value that has several, as a log would show them.
pub(super) fn lines(value: &[u8]) -> Vec<Vec<u8>> {
    let lines: Vec<&[u8]> = value.split(|byte| *byte == b'\n').collect();
    if lines.len() < 2 {
        return Vec::new();
    }
    let lines = lines.into_iter().map(<[u8]>::trim_ascii);
    let long = lines.filter(|line| line.len() >= WINDOW);
    long.take(MOST_LINES).map(<[u8]>::to_vec).collect()
}

fn decode_percent(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = bytes.get(i + 1..i + 3).filter(|_| bytes[i] == b'%');
        let decoded = hex.and_then(|hex| std::str::from_utf8(hex).ok());
        match decoded.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                i += 3;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    out
}
