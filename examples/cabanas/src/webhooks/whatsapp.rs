//! WhatsApp Cloud API: the handshake, and signed messages.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{note, signed_with};
use crate::metrics::Kind;
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
    if query.mode == "subscribe" && same(token, &query.verify_token) {
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
    if !app.config.faults.accepts_unsigned && !signed(secret, &headers, &body) {
        app.metrics.webhook(PROVIDER, "rejected");
        return Problem::new(
            StatusCode::UNAUTHORIZED,
            "the signature is missing or wrong",
        )
        .into_response();
    }
    let Ok(delivery) = serde_json::from_slice::<Delivery>(&body) else {
        return Problem::new(StatusCode::BAD_REQUEST, "the body is not a delivery").into_response();
    };
    let mut kind = Kind::Text;
    for (event, what) in delivery.events() {
        if what == "audio" || what == "voice" {
            kind = Kind::Audio;
        }
        if let Err(error) = note(&app, PROVIDER, &event, &what).await {
            // Not 200: Meta delivers again, for up to 7 days.
            return Problem::unavailable("take the message", &error).into_response();
        }
    }
    let mut response = StatusCode::OK.into_response();
    response.extensions_mut().insert(kind);
    response
}

fn signed(secret: &SecretString, headers: &HeaderMap, body: &[u8]) -> bool {
    headers
        .get("x-hub-signature-256")
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.strip_prefix("sha256="))
        .is_some_and(|hex| signed_with(secret, body, hex))
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
    value: Value,
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

impl Delivery {
    /// The id that stays the same when Meta delivers again, and what it is.
    fn events(self) -> Vec<(String, String)> {
        let values = self
            .entry
            .into_iter()
            .flat_map(|e| e.changes)
            .map(|c| c.value);
        values
            .flat_map(|value| {
                let messages = value.messages.into_iter().map(|m| (m.id, m.kind));
                let statuses = value
                    .statuses
                    .into_iter()
                    .map(|s| (format!("{}/{}", s.id, s.status), "status".to_owned()));
                messages.chain(statuses).collect::<Vec<_>>()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
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

    #[test]
    fn the_signature_covers_the_bytes_as_they_were_sent() {
        let secret = "test-app-secret".into();
        assert!(signed(&secret, &headers(SIGNATURE), BODY.as_bytes()));
        let written_again: serde_json::Value = serde_json::from_str(BODY).unwrap();
        assert!(!signed(
            &secret,
            &headers(SIGNATURE),
            written_again.to_string().as_bytes()
        ));
    }

    #[test]
    fn a_missing_cut_or_foreign_signature_is_refused() {
        let secret = "test-app-secret".into();
        assert!(!signed(&secret, &HeaderMap::new(), BODY.as_bytes()));
        for text in [
            &SIGNATURE[..70],
            &SIGNATURE[7..],
            "sha256=",
            &SIGNATURE.to_uppercase(),
        ] {
            assert!(!signed(&secret, &headers(text), BODY.as_bytes()), "{text}");
        }
        assert!(!signed(
            &"other".into(),
            &headers(SIGNATURE),
            BODY.as_bytes()
        ));
        assert!(!signed(&secret, &headers(SIGNATURE), b"{}"));
    }

    #[test]
    fn messages_count_by_id_and_statuses_by_id_and_status() {
        let body = r#"{"entry":[{"changes":[{"value":{"messages":[{"id":"wamid.1","type":"audio"}],"statuses":[{"id":"wamid.1","status":"read"}]}},{"field":"unknown","value":{"x":1}}]}]}"#;
        let delivery: Delivery = serde_json::from_str(body).unwrap();
        let wanted = [("wamid.1", "audio"), ("wamid.1/read", "status")];
        let wanted = wanted.map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(delivery.events(), wanted);
    }
}
