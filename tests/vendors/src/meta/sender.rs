//! The handshake with an application, and the deliveries to it.

use http::{Method, StatusCode, Uri};
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rand::RngExt;

use super::payload::{Event, body};
use crate::client::{Incoming, Outgoing};
use crate::delivery::{Patience, deliver};
use crate::sign;
use crate::state::{Shared, Vendor};

/// Why a callback was not accepted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Not a URL.
    #[error("the callback is not a URL")]
    Url,
    /// It could not be asked.
    #[error("the callback cannot be reached: {0}")]
    Unreachable(String),
    /// Another answer than 200 with the challenge as the whole body.
    #[error("the callback must answer 200 with the challenge; it answered {0}")]
    Answer(u16),
}

/// Checks a callback as the dashboard does when it is saved, and remembers it.
///
/// Source: developers.facebook.com, Graph API, "Webhooks, getting started", "Verification requests".
pub async fn register(
    state: &Shared,
    callback: &str,
    verify_token: &str,
) -> Result<(), HandshakeError> {
    let challenge = rand::rng()
        .random_range(100_000_000..999_999_999u32)
        .to_string();
    let token = utf8_percent_encode(verify_token, NON_ALPHANUMERIC);
    let url: Uri =
        format!("{callback}?hub.mode=subscribe&hub.challenge={challenge}&hub.verify_token={token}")
            .parse()
            .map_err(|_| HandshakeError::Url)?;
    let out = Outgoing {
        method: Method::GET,
        url,
        headers: vec![("user-agent", "facebookplatform/1.0".to_owned())],
        body: bytes::Bytes::new(),
    };
    let answer = state
        .client
        .send(&out, Patience::meta(1.0).answer)
        .await
        .map_err(|error| HandshakeError::Unreachable(error.to_string()))?;
    if answer.status != StatusCode::OK || answer.body != challenge.as_bytes() {
        return Err(HandshakeError::Answer(answer.status.as_u16()));
    }
    state.world().meta.callback = Some(callback.to_owned());
    Ok(())
}

/// A delivery of one event, ready to be sent.
pub fn outgoing(state: &Shared, url: Uri, id: &str, event: &Event) -> Outgoing {
    let meta = state.world().meta.clone();
    let text = body(&meta, id, Timestamp::now().as_second(), event);
    let secret = &meta.app_secret;
    let headers = vec![
        ("content-type", "application/json".to_owned()),
        ("user-agent", "facebookexternalua".to_owned()),
        ("x-hub-signature", sign::hub(secret, text.as_bytes())),
        (
            "x-hub-signature-256",
            sign::hub_256(secret, text.as_bytes()),
        ),
    ];
    Outgoing {
        method: Method::POST,
        url,
        headers,
        body: text.into(),
    }
}

/// Delivers until the application answers 200, and only that counts. With `copies`, as many are sent at
/// once: retries "can result in duplicate webhook notifications". Returns whether all were taken.
pub async fn send(state: &Shared, url: Uri, id: &str, event: &Event, copies: u32) -> bool {
    let out = outgoing(state, url, id, event);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..copies.max(1) {
        let (state, out, id) = (state.clone(), out.clone(), id.to_owned());
        tasks.spawn(async move {
            let patience = Patience::meta(state.scale);
            deliver(&state, (Vendor::Meta, &id), &out, patience, is_taken).await
        });
    }
    tasks.join_all().await.into_iter().all(|taken| taken)
}

fn is_taken(answer: &Incoming) -> bool {
    answer.status == StatusCode::OK
}
