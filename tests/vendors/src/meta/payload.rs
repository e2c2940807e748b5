//! The bodies of WhatsApp's webhooks, with Meta's escapes.
//!
//! Source: developers.facebook.com, WhatsApp Cloud API, "Webhooks, payload examples"; Graph API,
//! "Webhooks, getting started": the signature is over "an escaped unicode version of the payload, with
//! lowercase hex digits".

use std::fmt::Write as _;

use super::Meta;

/// What a customer sent, or what became of a message to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A text.
    Text(String),
    /// A voice message.
    Voice,
    /// `sent`, `delivered`, `read` or `failed`.
    Status(String),
    /// A change in a field that few applications know.
    Field(String),
}

/// A text as it stands in a JSON body of Meta: everything beyond ASCII as `\u00f1` in lower-case digits, by
/// units of UTF-16, and `/` as `\/`.
pub fn escaped(text: &str) -> String {
    let mut out = String::new();
    let mut units = [0; 2];
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '/' => out.push_str("\\/"),
            '\n' => out.push_str("\\n"),
            c if c.is_ascii() && !c.is_ascii_control() => out.push(c),
            c => {
                for unit in c.encode_utf16(&mut units) {
                    // Writing to a text does not fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out
}

/// The whole body, on one line and without a line break at its end.
pub fn body(meta: &Meta, id: &str, seconds: i64, event: &Event) -> String {
    let id = escaped(id);
    let from = "5492944001234";
    let inner = match event {
        Event::Text(text) => {
            let text = escaped(text);
            message(&format!(
                r#""from":"{from}","id":"{id}","timestamp":"{seconds}","text":{{"body":"{text}"}},"type":"text""#
            ))
        }
        Event::Voice => message(&format!(
            r#""from":"{from}","id":"{id}","timestamp":"{seconds}","type":"audio","audio":{{"mime_type":"audio\/ogg; codecs=opus","sha256":"YQ==","id":"1908647269898587","voice":true}}"#
        )),
        Event::Status(status) => {
            let status = escaped(status);
            format!(
                r#""statuses":[{{"id":"{id}","status":"{status}","timestamp":"{seconds}","recipient_id":"{from}"}}]"#
            )
        }
        Event::Field(field) => {
            let (waba, field) = (&meta.waba_id, escaped(field));
            return format!(
                r#"{{"entry":[{{"id":"{waba}","time":{seconds},"changes":[{{"value":{{"event":"PARTNER_ADDED"}},"field":"{field}"}}]}}],"object":"whatsapp_business_account"}}"#
            );
        }
    };
    let (waba, phone) = (&meta.waba_id, &meta.phone_number_id);
    format!(
        r#"{{"object":"whatsapp_business_account","entry":[{{"id":"{waba}","changes":[{{"value":{{"messaging_product":"whatsapp","metadata":{{"display_phone_number":"5492944005678","phone_number_id":"{phone}"}},{inner}}},"field":"messages"}}]}}]}}"#
    )
}

fn message(fields: &str) -> String {
    let name = escaped("Ana Núñez");
    format!(
        r#""contacts":[{{"profile":{{"name":"{name}"}},"wa_id":"5492944001234"}}],"messages":[{{{fields}}}]"#
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn text_is_escaped_as_meta_does_and_reads_back() {
        assert_eq!(escaped("ñ/<\"\u{1}"), r#"\u00f1\/<\"\u0001"#);
        assert_eq!(escaped("🏕"), r"\ud83c\udfd5");
    }

    #[test]
    fn every_body_is_ascii_and_json_and_says_what_it_was_given() {
        let meta = Meta::default();
        for event in [
            Event::Text("¿Hay cabaña 🏕?".to_owned()),
            Event::Voice,
            Event::Status("read".to_owned()),
            Event::Field("account_update".to_owned()),
        ] {
            let text = body(&meta, "wamid.1", 1_780_000_000, &event);
            assert!(text.is_ascii() && !text.ends_with('\n'), "{text}");
            let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
            let change = &parsed["entry"][0]["changes"][0];
            match event {
                Event::Text(wanted) => {
                    assert_eq!(change["value"]["messages"][0]["text"]["body"], wanted);
                }
                Event::Voice => assert_eq!(change["value"]["messages"][0]["type"], "audio"),
                Event::Status(wanted) => {
                    assert_eq!(change["value"]["statuses"][0]["status"], wanted);
                }
                Event::Field(wanted) => assert_eq!(change["field"], wanted),
            }
        }
    }
}
