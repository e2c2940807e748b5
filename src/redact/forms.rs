//! The encodings in which a secret value can occur in a text.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use data_encoding::{HEXLOWER, HEXUPPER};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use zeroize::Zeroizing;

/// This much of a secret is enough to recognize it. Unit: bytes of the encoded form.
pub(super) const WINDOW: usize = 12;

/// The forms of a password in a URL: as it stands there, and decoded.
const IN_URL: usize = 2;

/// Lines of one value that are registered separately. A private key of 8192 bits has 102.
const MOST_LINES: usize = 128;

/// An encoding of a value.
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
    /// Everything but letters, digits and `-._~` as `%41`, with digits in upper case.
    PercentUpper,
    /// As `PercentUpper`, with digits in lower case.
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

pub(super) fn is_base64(form: Form) -> bool {
    matches!(form, Form::Base64(_) | Form::Base64Url(_))
}

/// 1 if the text after a value in base64 begins with a character that holds its last bits.
pub(super) fn shared_characters(rest: &[u8]) -> usize {
    let shares = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte);
    usize::from(rest.first().is_some_and(shares))
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
        Form::PercentUpper => percent(value).into_bytes(),
        Form::PercentLower => lower_digits(&percent(value)).into_bytes(),
        // A percent sign of the value itself is `%25`, so `%20` is always a space.
        Form::PlusForSpace => percent(value).replace("%20", "+").into_bytes(),
    };
    Zeroizing::new(encoded)
}

/// The text as the content of a JSON string, nested `depth` times.
fn json(text: &str, depth: u8) -> String {
    (0..depth).fold(text.to_owned(), |text, _| {
        let quoted = serde_json::Value::String(text).to_string();
        quoted[1..quoted.len() - 1].to_owned()
    })
}

/// The base64 characters that depend on the value alone, if it begins at this offset.
fn base64(engine: &impl Engine, offset: u8, value: &[u8]) -> String {
    let offset = usize::from(offset);
    let mut padded = Zeroizing::new(vec![0; offset]);
    padded.extend_from_slice(value);
    let encoded = engine.encode(&padded);
    let first = (offset * 8).div_ceil(6);
    let last = padded.len() * 8 / 6;
    encoded.get(first..last).unwrap_or_default().to_owned()
}

/// Everything but RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

fn percent(value: &[u8]) -> String {
    percent_encode(value, RESERVED).to_string()
}

/// The same percent-encoded text with digits in lower case.
fn lower_digits(encoded: &str) -> String {
    let mut pieces = encoded.split('%');
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        // Two digits follow each percent sign.
        let (digits, rest) = piece.split_at_checked(2).unwrap_or((piece, ""));
        out.push('%');
        out.push_str(&digits.to_ascii_lowercase());
        out.push_str(rest);
    }
    out
}

/// The password of `scheme://user:password@host`, percent-encoded and decoded.
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
    let decoded: Vec<u8> = percent_decode_str(password).collect();
    if decoded != found[0] {
        found.push(decoded);
    }
    found
}

/// The lines of a multi-line value, as a log would show them.
pub(super) fn lines(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let long = lines.filter(|line| line.len() >= WINDOW);
    // A single line is the value itself.
    let most = if value.contains(&b'\n') {
        MOST_LINES
    } else {
        0
    };
    long.take(most)
}

/// The most that is known of a value: itself, its lines, and a password in it.
pub(super) fn parts(value: &[u8]) -> usize {
    let url = value.windows(3).any(|part| part == b"://");
    1 + lines(value).count() + if url { IN_URL } else { 0 }
}
