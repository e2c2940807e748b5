//! Mercado Pago: signed notifications of payments.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use secrecy::SecretString;
use serde::Deserialize;

use super::{note, signed_with};
use crate::problem::Problem;
use crate::server::App;

/// Route of the webhook.
pub const ROUTE: &str = "/api/v1/webhooks/mercadopago";

const PROVIDER: &str = "mercadopago";

/// The query of a notification: the signature covers this id, not the one in the body.
#[derive(Debug, Default, Deserialize)]
pub struct Notification {
    #[serde(rename = "data.id")]
    data_id: Option<String>,
    #[serde(rename = "type")]
    topic: Option<String>,
}

#[derive(Default, Deserialize)]
struct Body {
    #[serde(default)]
    id: serde_json::Value,
    #[serde(default)]
    action: Option<String>,
}

/// Why a notification is not taken. The names are those of Mercado Pago's own libraries.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error("MissingSignatureHeader: there is no x-signature")]
    MissingSignatureHeader,
    #[error("MissingTimestamp: x-signature has no ts")]
    MissingTimestamp,
    #[error("MissingHash: x-signature has no v1")]
    MissingHash,
    #[error("SignatureMismatch: x-signature does not belong to this notification")]
    SignatureMismatch,
}

/// `POST`: notes the payment to look at. The body is not signed, so that nothing in it is believed
/// beyond telling notifications apart; amounts come from Mercado Pago's API.
pub async fn receive(
    State(app): State<Arc<App>>,
    Query(query): Query<Notification>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(secret) = &app.config.mercadopago_webhook_secret else {
        let detail = "this webhook is not configured; set MERCADOPAGO_WEBHOOK_SECRET";
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response();
    };
    if !app.config.faults.accepts_unsigned
        && let Err(refusal) = check(secret, query.data_id.as_deref(), &headers)
    {
        app.metrics.webhook(PROVIDER, "rejected");
        return Problem::new(StatusCode::UNAUTHORIZED, refusal.to_string()).into_response();
    }
    let body: Body = serde_json::from_slice(&body).unwrap_or_default();
    let id = query.data_id.unwrap_or_default();
    let topic = query.topic.unwrap_or_else(|| "unknown".to_owned());
    let action = body.action.unwrap_or_default();
    let event = format!("{topic}/{id}/{action}/{}", body.id);
    match note(&app, PROVIDER, &event, &topic).await {
        Ok(()) => StatusCode::OK.into_response(),
        // Not 200: Mercado Pago delivers again after 15 minutes.
        Err(error) => Problem::unavailable("take the notification", &error).into_response(),
    }
}

fn check(secret: &SecretString, id: Option<&str>, headers: &HeaderMap) -> Result<(), Refusal> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let signature = text("x-signature").ok_or(Refusal::MissingSignatureHeader)?;
    let part = |name: &str| {
        signature
            .split(',')
            .filter_map(|p| p.split_once('='))
            .find(|(key, _)| key.trim() == name)
            .map(|(_, value)| value.trim())
    };
    let ts = part("ts").ok_or(Refusal::MissingTimestamp)?;
    let v1 = part("v1").ok_or(Refusal::MissingHash)?;
    let request = text("x-request-id");
    // Sources disagree on whether Mercado Pago signs an id with letters as it is or in lower case;
    // an attacker gains nothing when both are taken.
    let lower = id.map(str::to_lowercase);
    [id, lower.as_deref()]
        .into_iter()
        .any(|id| signed_with(secret, manifest(id, request, ts).as_bytes(), v1))
        .then_some(())
        .ok_or(Refusal::SignatureMismatch)
}

/// The signed text. A value that was not sent is left out together with its name.
fn manifest(id: Option<&str>, request: Option<&str>, ts: &str) -> String {
    let part =
        |name: &str, value: Option<&str>| value.map(|v| format!("{name}:{v};")).unwrap_or_default();
    [
        part("id", id),
        part("request-id", request),
        part("ts", Some(ts)),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const REQUEST: &str = "4ed4fa2b-0b31-42ec-a62f-ad793c486c59";

    fn headers(v1: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let signature = format!("ts=1742505638683,v1={v1}");
        headers.insert("x-signature", signature.parse().unwrap());
        headers.insert("x-request-id", REQUEST.parse().unwrap());
        headers
    }

    fn test_secret() -> SecretString {
        "test-secret".into()
    }

    #[test]
    fn the_published_vectors_are_taken() {
        for (id, v1) in [
            (
                Some("123456"),
                "0fc638d0e0215b360e7f1ce8d114a8182afb870bbf776b910eca266d741a0fdd",
            ),
            (
                Some("ORD01JQ4S4KY8HWQ6NA5PXB65B3D3"),
                "dc00b2d4890058ba35039e241563359a00e0a69eac91a51b0637715c85fb313d",
            ),
            (
                Some("ORD01JQ4S4KY8HWQ6NA5PXB65B3D3"),
                "cc1a7b90c7a14ddf72f58a8ebbb5b946462bfd2adcc1d4b836cf424547e3e610",
            ),
            (
                None,
                "9adab8b2193cf32770db7dc7a9ec2f3009f0ad4d865145338c583c0b8609a892",
            ),
        ] {
            assert_eq!(check(&test_secret(), id, &headers(v1)), Ok(()), "{id:?}");
        }
    }

    #[test]
    fn a_signature_for_another_id_is_refused() {
        let v1 = "0fc638d0e0215b360e7f1ce8d114a8182afb870bbf776b910eca266d741a0fdd";
        assert_eq!(
            check(&test_secret(), Some("123457"), &headers(v1)),
            Err(Refusal::SignatureMismatch)
        );
        assert_eq!(
            check(&"other".into(), Some("123456"), &headers(v1)),
            Err(Refusal::SignatureMismatch)
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut none = HeaderMap::new();
        assert_eq!(
            check(&test_secret(), None, &none),
            Err(Refusal::MissingSignatureHeader)
        );
        none.insert("x-signature", "v1=00".parse().unwrap());
        assert_eq!(
            check(&test_secret(), None, &none),
            Err(Refusal::MissingTimestamp)
        );
        none.insert("x-signature", "ts=1".parse().unwrap());
        assert_eq!(
            check(&test_secret(), None, &none),
            Err(Refusal::MissingHash)
        );
    }
}
