//! Mercado Pago: signed notifications of payments.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use secrecy::SecretString;
use serde::Deserialize;

use super::{Event, PROBE_HEADER, PROBE_ID, accepts, note};
use crate::database::chain;
use crate::fault::Faults;
use crate::metrics::epoch_seconds;
use crate::mistake::Mistake;
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
    #[serde(default)]
    data: Data,
}

#[derive(Default, Deserialize)]
struct Data {
    #[serde(default)]
    id: serde_json::Value,
}

/// The topics that mean something to us; the others are taken and left alone.
const TOPICS: [&str; 2] = ["payment", "order"];

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
    let faults = &app.config.faults;
    let body: Body = serde_json::from_slice(&body).unwrap_or_default();
    let ids = Ids {
        query: query.data_id.as_deref(),
        body: body.data.id.as_str(),
    };
    if let Err(refusal) = check(faults, secret, ids, &headers) {
        app.metrics.webhook(PROVIDER, "rejected");
        if faults.has(Mistake::ProcessesRefused) {
            process(&app, query, &headers, &body).await;
        }
        return Problem::new(StatusCode::UNAUTHORIZED, refusal.to_string()).into_response();
    }
    let topic = query.topic.unwrap_or_else(|| "unknown".to_owned());
    if faults.has(Mistake::UnknownEventFails) && !TOPICS.contains(&topic.as_str()) {
        return Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "an unknown topic").into_response();
    }
    let event = event(
        query.data_id.unwrap_or_default(),
        topic,
        &body,
        is_probe(&headers, &body),
    );
    if let Err(error) = note(&app, PROVIDER, event).await {
        // Not 200: Mercado Pago delivers again after 15 minutes.
        return Problem::unavailable("take the notification", &error).into_response();
    }
    if let Some(late) = faults.late {
        tokio::time::sleep(late).await;
    }
    StatusCode::OK.into_response()
}

/// Notes a refused notification, for [`Mistake::ProcessesRefused`].
async fn process(app: &Arc<App>, query: Notification, headers: &HeaderMap, body: &Body) {
    let (id, topic) = (query.data_id.unwrap_or_default(), query.topic);
    let event = event(id, topic.unwrap_or_default(), body, is_probe(headers, body));
    if let Err(error) = note(app, PROVIDER, event).await {
        tracing::error!(error = %chain(&error), "a refused notification is lost");
    }
}

/// What tells notifications apart. A probe has a key of its own: its mark is not signed, so that it must
/// not stand in the way of a real notification.
fn event(id: String, topic: String, body: &Body, probe: bool) -> Event {
    let action = body.action.as_deref().unwrap_or_default();
    let mark = if probe { PROBE_ID } else { "" };
    Event {
        id: format!("{mark}{topic}/{id}/{action}/{}", body.id),
        kind: topic,
        probe,
    }
}

/// Whether Golive sent it: by its header, or the id of the request or of the notification.
fn is_probe(headers: &HeaderMap, body: &Body) -> bool {
    let request = headers.get("x-request-id").and_then(|v| v.to_str().ok());
    headers.contains_key(PROBE_HEADER)
        || request.is_some_and(|id| id.starts_with(PROBE_ID))
        || body.id.as_str().is_some_and(|id| id.starts_with(PROBE_ID))
}

/// The id that the signature covers, and the one in the body, which anybody could have written.
#[derive(Clone, Copy)]
struct Ids<'a> {
    query: Option<&'a str>,
    body: Option<&'a str>,
}

/// Whether `ts` is within a day of now if it counts as seconds, for [`Mistake::SecondsOnly`].
fn recent_in_seconds(ts: &str) -> bool {
    let now = epoch_seconds();
    ts.parse::<f64>()
        .is_ok_and(|ts| (ts - now).abs() < 86_400.0)
}

fn check(
    faults: &Faults,
    secret: &SecretString,
    ids: Ids<'_>,
    headers: &HeaderMap,
) -> Result<(), Refusal> {
    if faults.has(Mistake::AcceptsUnsigned) {
        return Ok(());
    }
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let signature = text("x-signature").ok_or(Refusal::MissingSignatureHeader)?;
    let part = |name: &str| {
        signature
            .split(',')
            .filter_map(|p| p.split_once('='))
            .find(|(key, _)| key.trim() == name)
            .map(|(_, value)| value.trim())
    };
    // Only part of the signed text: Mercado Pago sends seconds or milliseconds.
    let ts = part("ts").ok_or(Refusal::MissingTimestamp)?;
    let v1 = part("v1").ok_or(Refusal::MissingHash)?;
    let request = text("x-request-id");
    let broken = (faults.has(Mistake::RequiresRequestId) && request.is_none())
        || (faults.has(Mistake::SecondsOnly) && !recent_in_seconds(ts));
    if broken {
        return Err(Refusal::SignatureMismatch);
    }
    // Sources disagree on whether Mercado Pago signs an id with letters as it is or in lower case;
    // an attacker gains nothing when both are taken.
    let id = match faults.has(Mistake::UsesBodyId) {
        true => ids.body,
        false => ids.query,
    };
    let lower = id.map(str::to_lowercase);
    let mut taken = vec![id, lower.as_deref()];
    if faults.has(Mistake::AcceptsOtherId) {
        taken.push(ids.body);
    }
    taken
        .into_iter()
        .any(|id| accepts(faults, secret, manifest(id, request, ts).as_bytes(), v1))
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

    fn well(secret: &SecretString, id: Option<&str>, headers: &HeaderMap) -> Result<(), Refusal> {
        let ids = Ids {
            query: id,
            body: Some("999"),
        };
        check(&Faults::default(), secret, ids, headers)
    }

    #[test]
    fn each_mistake_about_signatures_is_the_one_that_it_says() {
        let now = epoch_seconds() as u64;
        let signed = |id: &str, request: Option<&str>, ts: u64| {
            let text = manifest(Some(id), request, &ts.to_string());
            let v1 = super::super::sign(&test_secret(), text.as_bytes());
            let mut headers = HeaderMap::new();
            headers.insert("x-signature", format!("ts={ts},v1={v1}").parse().unwrap());
            if let Some(request) = request {
                headers.insert("x-request-id", request.parse().unwrap());
            }
            headers
        };
        let ids = |query, body| Ids {
            query: Some(query),
            body: Some(body),
        };
        let passes = |switch: &str, ids, headers: &HeaderMap| {
            check(&switch.parse().unwrap(), &test_secret(), ids, headers).is_ok()
        };
        let one = signed("1", Some(REQUEST), now);
        assert!(passes("", ids("1", "2"), &one) && !passes("", ids("2", "1"), &one));
        assert!(!passes("uses-body-id", ids("1", "2"), &one));
        assert!(passes("uses-body-id", ids("2", "1"), &one));
        assert!(passes("accepts-other-id", ids("1", "2"), &one));
        assert!(passes("accepts-other-id", ids("2", "1"), &one));
        assert!(!passes("accepts-other-id", ids("2", "2"), &one));
        let bare = signed("1", None, now);
        assert!(passes("", ids("1", "1"), &bare));
        assert!(!passes("requires-request-id", ids("1", "1"), &bare));
        let milliseconds = signed("1", Some(REQUEST), now * 1000);
        assert!(passes("", ids("1", "1"), &milliseconds));
        assert!(passes("seconds-only", ids("1", "1"), &one));
        assert!(!passes("seconds-only", ids("1", "1"), &milliseconds));
    }

    #[test]
    fn a_probe_is_known_by_any_of_its_marks_and_never_hides_a_notification() {
        let body = |text: &str| serde_json::from_str::<Body>(text).unwrap();
        let (mut headers, real) = (HeaderMap::new(), body(r#"{"id":9,"action":"created"}"#));
        assert!(!is_probe(&headers, &real));
        assert!(is_probe(&headers, &body(r#"{"id":"golive-probe-1"}"#)));
        headers.insert("x-request-id", "golive-probe-1".parse().unwrap());
        assert!(is_probe(&headers, &real));
        headers.clear();
        headers.insert(PROBE_HEADER, "cabanas/1/M1".parse().unwrap());
        assert!(is_probe(&headers, &real));
        let of = |probe| event("1".to_owned(), "payment".to_owned(), &real, probe);
        assert_ne!(of(true).id, of(false).id);
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
            assert_eq!(well(&test_secret(), id, &headers(v1)), Ok(()), "{id:?}");
        }
    }

    #[test]
    fn a_signature_for_another_id_is_refused() {
        let v1 = "0fc638d0e0215b360e7f1ce8d114a8182afb870bbf776b910eca266d741a0fdd";
        assert_eq!(
            well(&test_secret(), Some("123457"), &headers(v1)),
            Err(Refusal::SignatureMismatch)
        );
        assert_eq!(
            well(&"other".into(), Some("123456"), &headers(v1)),
            Err(Refusal::SignatureMismatch)
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut none = HeaderMap::new();
        assert_eq!(
            well(&test_secret(), None, &none),
            Err(Refusal::MissingSignatureHeader)
        );
        none.insert("x-signature", "v1=00".parse().unwrap());
        assert_eq!(
            well(&test_secret(), None, &none),
            Err(Refusal::MissingTimestamp)
        );
        none.insert("x-signature", "ts=1".parse().unwrap());
        assert_eq!(well(&test_secret(), None, &none), Err(Refusal::MissingHash));
    }
}
