//! WhatsApp Cloud API: the handshake, and signed messages.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::rewritten::rewritten;
use super::{Event, PROBE_ID, accepts, note};
use crate::database::chain;
use crate::fault::Faults;
use crate::metrics::Kind;
use crate::mistake::Mistake;
use crate::problem::Problem;
use crate::server::App;

/// Route of the webhook.
pub const ROUTE: &str = "/api/v1/webhooks/whatsapp";

const PROVIDER: &str = "whatsapp";

/// The query of Meta's handshake. Its names contain dots.
#[derive(Deserialize)]
pub struct Handshake {
    #[serde(rename = "hub.mode", default)]
    mode: String,
    #[serde(rename = "hub.verify_token", default)]
    verify_token: String,
    #[serde(rename = "hub.challenge", default)]
    challenge: String,
}

/// `GET`: answers the challenge to whoever knows our verify token.
pub async fn verify(State(app): State<Arc<App>>, Query(query): Query<Handshake>) -> Response {
    let Some(token) = &app.config.whatsapp_verify_token else {
        return not_configured("WHATSAPP_VERIFY_TOKEN");
    };
    let echoes = app.config.faults.has(Mistake::EchoesChallenge);
    if query.mode == "subscribe" && (echoes || same(token, &query.verify_token)) {
        return (StatusCode::OK, query.challenge).into_response();
    }
    app.metrics.webhook(PROVIDER, "rejected");
    Problem::new(StatusCode::FORBIDDEN, "the verify token is not ours").into_response()
}

/// Compares digests, so that the time taken says nothing about the token.
fn same(token: &SecretString, given: &str) -> bool {
    Sha256::digest(token.expose_secret()) == Sha256::digest(given)
}

/// `POST`: takes messages and statuses. The signature covers the bytes as sent: parsing and writing
/// them again would turn `\u00f1` into `ñ` and break it.
pub async fn receive(State(app): State<Arc<App>>, headers: HeaderMap, body: Bytes) -> Response {
    let Some(secret) = &app.config.whatsapp_app_secret else {
        return not_configured("WHATSAPP_APP_SECRET");
    };
    let faults = &app.config.faults;
    if !signed(faults, secret, &headers, &body) {
        app.metrics.webhook(PROVIDER, "rejected");
        if faults.has(Mistake::ProcessesRefused) {
            process(&app, &body).await;
        }
        return Problem::new(
            StatusCode::UNAUTHORIZED,
            "the signature is missing or wrong",
        )
        .into_response();
    }
    let Ok(delivery) = serde_json::from_slice::<Delivery>(&body) else {
        return Problem::new(StatusCode::BAD_REQUEST, "the body is not a delivery").into_response();
    };
    if faults.has(Mistake::UnknownEventFails) && delivery.has_unknown_field() {
        return Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "an unknown field").into_response();
    }
    let mut kind = Kind::Text;
    for event in delivery.events() {
        if event.kind == "audio" || event.kind == "voice" {
            kind = Kind::Audio;
        }
        if let Err(error) = note(&app, PROVIDER, event).await {
            // Not 200: Meta delivers again, for up to 7 days.
            return Problem::unavailable("take the message", &error).into_response();
        }
    }
    if let Some(late) = faults.late {
        tokio::time::sleep(late).await;
    }
    let mut response = StatusCode::OK.into_response();
    response.extensions_mut().insert(kind);
    response
}

/// Notes what a refused delivery has, for [`Mistake::ProcessesRefused`].
async fn process(app: &Arc<App>, body: &[u8]) {
    let delivery = serde_json::from_slice::<Delivery>(body).ok();
    for event in delivery.into_iter().flat_map(Delivery::events) {
        if let Err(error) = note(app, PROVIDER, event).await {
            tracing::error!(error = %chain(&error), "a refused message is lost");
        }
    }
}

/// Whether the body is Meta's: `X-Hub-Signature-256` is the HMAC-SHA256 of its bytes with the app secret.
fn signed(faults: &Faults, secret: &SecretString, headers: &HeaderMap, body: &[u8]) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if faults.has(Mistake::AcceptsUnsigned) {
        return true;
    }
    if faults.has(Mistake::Sha1Only) {
        let signature = text("x-hub-signature").and_then(|text| text.strip_prefix("sha1="));
        return signature.is_some_and(|hex| signed_with_sha1(secret, body, hex));
    }
    let body: Cow<'_, [u8]> = if faults.has(Mistake::Reserializes) {
        rewritten(body).into()
    } else if faults.has(Mistake::DecodesEscapes) {
        decoded(&String::from_utf8_lossy(body)).into_bytes().into()
    } else {
        body.into()
    };
    text("x-hub-signature-256")
        .and_then(|text| text.strip_prefix("sha256="))
        .is_some_and(|hex| accepts(faults, secret, &body, hex))
}

/// Meta's older signature, for [`Mistake::Sha1Only`].
fn signed_with_sha1(secret: &SecretString, body: &[u8], hex: &str) -> bool {
    let algorithm = ring::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY;
    let key = ring::hmac::Key::new(algorithm, secret.expose_secret().as_bytes());
    let signature = data_encoding::HEXLOWER.decode(hex.as_bytes());
    signature.is_ok_and(|signature| ring::hmac::verify(&key, body, &signature).is_ok())
}

/// The text with its `\u00f1` written as `ñ`, for [`Mistake::DecodesEscapes`].
fn decoded(text: &str) -> String {
    let mut parts = text.split("\\u");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let character = part
            .get(..4)
            .and_then(|hex| u32::from_str_radix(hex, 16).ok())
            .and_then(char::from_u32);
        match character {
            Some(character) => {
                out.push(character);
                out.push_str(&part[4..]);
            }
            None => {
                out.push_str("\\u");
                out.push_str(part);
            }
        }
    }
    out
}

fn not_configured(name: &str) -> Response {
    let detail = format!("this webhook is not configured; set {name}");
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response()
}

/// As much of a delivery as matters; unknown fields are Meta's business.
#[derive(Deserialize)]
struct Delivery {
    #[serde(default)]
    entry: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    changes: Vec<Change>,
}

#[derive(Deserialize)]
struct Change {
    #[serde(default)]
    field: String,
    #[serde(default)]
    value: serde_json::Value,
}

#[derive(Default, Deserialize)]
struct Value {
    #[serde(default)]
    messages: Vec<Message>,
    #[serde(default)]
    statuses: Vec<Status>,
}

#[derive(Deserialize)]
struct Message {
    id: String,
    #[serde(default, rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Status {
    id: String,
    #[serde(default)]
    status: String,
}

/// The field with messages and their statuses. Meta sends others to whoever subscribes to them.
const MESSAGES: &str = "messages";

impl Delivery {
    /// The id that stays the same when Meta delivers again, and what it is. A field that we do not know
    /// has nothing for us, and is no reason to have it delivered again.
    fn events(self) -> Vec<Event> {
        let changes = self.entry.into_iter().flat_map(|entry| entry.changes);
        changes
            .filter(|change| change.field == MESSAGES)
            .filter_map(|change| serde_json::from_value::<Value>(change.value).ok())
            .flat_map(|value| {
                let messages = value.messages.into_iter().map(|m| (m.id, m.kind));
                let statuses = value
                    .statuses
                    .into_iter()
                    .map(|s| (format!("{}/{}", s.id, s.status), "status".to_owned()));
                messages.chain(statuses).collect::<Vec<_>>()
            })
            .map(|(id, kind)| {
                // The signature covers it: only Golive, which has the secret, makes such ids.
                let probe = id.trim_start_matches("wamid.").starts_with(PROBE_ID);
                Event { id, kind, probe }
            })
            .collect()
    }

    fn has_unknown_field(&self) -> bool {
        let mut changes = self.entry.iter().flat_map(|entry| &entry.changes);
        changes.any(|change| change.field != MESSAGES)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::sign;
    use super::*;

    /// From Meta's documentation: the body holds the six characters `\u00f1`, not `ñ`.
    const BODY: &str = r#"{"object":"whatsapp_business_account","entry":[{"id":"102290129340398","changes":[{"value":{"messaging_product":"whatsapp","metadata":{"display_phone_number":"15550783881","phone_number_id":"106540352242922"},"contacts":[{"profile":{"name":"Caba\u00f1as"},"wa_id":"16505551234"}],"messages":[{"from":"16505551234","id":"wamid.PROBE0001","timestamp":"1749416383","type":"text","text":{"body":"\u00bfHay caba\u00f1a libre?"}}]},"field":"messages"}]}]}"#;
    const SIGNATURE: &str =
        "sha256=6ea9383d67c31ef26e5e271aa668a43008a610d31b4af137e0d3b2d70bfdbb48";

    fn headers(signature: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("x-hub-signature-256", signature.parse().unwrap());
        headers
    }

    fn well_signed(secret: &SecretString, headers: &HeaderMap, body: &[u8]) -> bool {
        signed(&Faults::default(), secret, headers, body)
    }

    #[test]
    fn the_signature_covers_the_bytes_as_they_were_sent() {
        let secret = "test-app-secret".into();
        assert!(well_signed(&secret, &headers(SIGNATURE), BODY.as_bytes()));
        let written_again: serde_json::Value = serde_json::from_str(BODY).unwrap();
        assert!(!well_signed(
            &secret,
            &headers(SIGNATURE),
            written_again.to_string().as_bytes()
        ));
    }

    #[test]
    fn a_missing_cut_or_foreign_signature_is_refused() {
        let secret = "test-app-secret".into();
        assert!(!well_signed(&secret, &HeaderMap::new(), BODY.as_bytes()));
        for text in [
            &SIGNATURE[..70],
            &SIGNATURE[7..],
            "sha256=",
            &SIGNATURE.to_uppercase(),
        ] {
            assert!(
                !well_signed(&secret, &headers(text), BODY.as_bytes()),
                "{text}"
            );
        }
        assert!(!well_signed(
            &"other".into(),
            &headers(SIGNATURE),
            BODY.as_bytes()
        ));
        assert!(!well_signed(&secret, &headers(SIGNATURE), b"{}"));
    }

    #[test]
    fn messages_count_by_id_and_statuses_by_id_and_status() {
        let body = r#"{"entry":[{"changes":[{"field":"messages","value":{"messages":[{"id":"wamid.1","type":"audio"},{"id":"golive-probe-7","type":"text"}],"statuses":[{"id":"wamid.1","status":"read"}]}},{"field":"unknown","value":{"messages":1}},{"field":"messages"}]}]}"#;
        let delivery: Delivery = serde_json::from_str(body).unwrap();
        let event = |id: &str, kind: &str, probe| Event {
            id: id.to_owned(),
            kind: kind.to_owned(),
            probe,
        };
        let wanted = [
            event("wamid.1", "audio", false),
            event("golive-probe-7", "text", true),
            event("wamid.1/read", "status", false),
        ];
        assert_eq!(delivery.events(), wanted);
    }

    #[test]
    fn each_mistake_about_signatures_is_the_one_that_it_says() {
        let secret = "test-app-secret".into();
        let faults = |switch: &str| switch.parse::<Faults>().unwrap();
        let passes = |switch: &str, headers: &HeaderMap, body: &str| {
            signed(&faults(switch), &secret, headers, body.as_bytes())
        };
        let right = headers(SIGNATURE);
        let plain = r#"{"a":1}"#;
        let plain_signature = format!("sha256={}", sign(&secret, plain.as_bytes()));
        for switch in ["reserializes", "decodes-escapes"] {
            assert!(!passes(switch, &right, BODY), "{switch}");
            assert!(
                passes(switch, &headers(&plain_signature), plain),
                "{switch}"
            );
        }
        assert!(passes(
            "compares-prefix",
            &headers(&format!("{}0000", &SIGNATURE[..20])),
            BODY
        ));
        assert!(!passes(
            "compares-prefix",
            &headers("sha256=00000000"),
            BODY
        ));
        assert!(!passes("sha1-only", &right, BODY));
        let key = ring::hmac::Key::new(
            ring::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            b"test-app-secret",
        );
        let old = data_encoding::HEXLOWER.encode(ring::hmac::sign(&key, BODY.as_bytes()).as_ref());
        let mut both = headers("sha256=00");
        both.insert("x-hub-signature", format!("sha1={old}").parse().unwrap());
        assert!(passes("sha1-only", &both, BODY));
        assert!(passes("accepts-unsigned", &HeaderMap::new(), BODY));
    }

    #[test]
    fn escapes_are_decoded_and_nothing_else_is_touched() {
        assert_eq!(
            decoded(r#"{"a" : "\u00f1\/\u003C\n"}"#),
            r#"{"a" : "ñ\/<\n"}"#
        );
        assert_eq!(decoded(r"\ud83d\u12"), r"\ud83d\u12");
    }
}
