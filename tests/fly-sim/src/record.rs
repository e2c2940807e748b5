//! What clients asked and what they were answered, word for word: for comparing a client with
//! another, and for replaying what a client did. Off unless `Options.record` is set.

use std::sync::{Mutex, PoisonError};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::HeaderMap;
use http_body_util::BodyExt;
use serde::Serialize;
use serde_json::Value;

/// One request and its answer.
#[derive(Clone, Debug, Serialize)]
pub struct Exchange {
    /// `POST /v1/apps/{app}/machines`; for GraphQL with the root field behind `#`.
    pub endpoint: String,
    /// The path as sent.
    pub path: String,
    /// The query string as sent.
    pub query: String,
    /// The lease nonce of the request, if it had one.
    pub nonce: Option<String>,
    /// `User-Agent`.
    pub agent: String,
    /// The body: its JSON, or its text, or null.
    pub body: Value,
    /// HTTP status of the answer.
    pub status: u16,
    /// The body of the answer: its JSON, or its text, or null.
    pub answer: Value,
}

/// The exchanges so far.
#[derive(Debug, Default)]
pub struct Recorder {
    exchanges: Mutex<Vec<Exchange>>,
}

impl Recorder {
    /// Adds one, in the order of the answers.
    pub fn push(&self, exchange: Exchange) {
        self.exchanges
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(exchange);
    }

    /// Takes all that were recorded since the last call of this.
    pub fn take(&self) -> Vec<Exchange> {
        std::mem::take(
            &mut *self
                .exchanges
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

/// A body as JSON where it is JSON.
pub fn value(bytes: &[u8]) -> Value {
    if bytes.is_empty() {
        return Value::Null;
    }
    serde_json::from_slice(bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(bytes).into_owned()))
}

/// The text of a header, or empty.
pub fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(value.to_owned())
}

/// Reads an answer to its end and gives it back with its bytes. Only for recorded simulators: an
/// endless body would never be answered.
pub async fn read(response: Response) -> (Response, Bytes) {
    let (parts, body) = response.into_parts();
    let bytes = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => Bytes::new(),
    };
    (
        Response::from_parts(parts, Body::from(bytes.clone())),
        bytes,
    )
}
