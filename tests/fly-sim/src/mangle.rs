//! Faults in the answer: bodies that are cut, strange, stale, empty or endless.

use std::collections::HashMap;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::core::{Core, Shared};
use crate::fault::Kind;
use crate::hook::{Mutation, Point};

/// A fixed answer.
pub fn canned(kind: &Kind, status: u16, body: Value) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, Json(body)).into_response();
    if let Kind::RateLimited {
        retry_after: Some(after),
    } = kind
        && let Ok(value) = HeaderValue::from_str(after)
    {
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
}

/// Bodies that no client should read to the end, or as text.
pub fn strange_body(kind: &Kind) -> Response {
    let body = match kind {
        Kind::InvalidUtf8 => Body::from(&b"{\"id\":\"\xff\xfe\xfd\"}"[..]),
        Kind::HugeBody { bytes } => {
            let chunk = Bytes::from(vec![b' '; 64 * 1024]);
            let chunks = bytes / 65_536;
            let spaces = futures::stream::iter((0..chunks).map(move |_| Ok(chunk.clone())));
            let all = futures::StreamExt::chain(
                futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"["))]),
                futures::StreamExt::chain(
                    spaces,
                    futures::stream::iter([Ok(Bytes::from_static(b"]"))]),
                ),
            );
            Body::from_stream(all)
        }
        _ => {
            let chunk = Bytes::from(vec![b' '; 16 * 1024]);
            Body::from_stream(futures::stream::repeat_with(move || {
                Ok::<_, std::io::Error>(chunk.clone())
            }))
        }
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

/// Whether the app or machine that a path names was created less than `age` ago.
pub fn is_younger(core: &Core, params: &HashMap<String, String>, age: Duration) -> bool {
    let created = core.read(|world| {
        let app = world.apps.get(params.get("app")?)?;
        match params.get("id") {
            Some(id) => app.machines.get(id).map(|machine| machine.created_at),
            None => Some(app.created_at),
        }
    });
    created.is_some_and(|at| Timestamp::now().duration_since(at).unsigned_abs() < age)
}

/// Applies one fault to an answer.
pub async fn after(kind: &Kind, response: Response, stale: Option<Value>) -> Response {
    match kind {
        Kind::CutBody => {
            let (mut parts, body) = response.into_parts();
            let bytes = body
                .collect()
                .await
                .map(|all| all.to_bytes())
                .unwrap_or_default();
            parts.headers.remove(header::CONTENT_LENGTH);
            let half = bytes.slice(..bytes.len() / 2);
            let stream = futures::StreamExt::chain(
                futures::stream::iter([Ok(half)]),
                futures::stream::once(async {
                    // Long enough for the first half to leave.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))
                }),
            );
            Response::from_parts(parts, Body::from_stream(stream))
        }
        Kind::StaleList { .. } => match stale {
            Some(list) if response.status().is_success() => Json(list).into_response(),
            _ => response,
        },
        Kind::EmptyList => edit(response, empty).await,
        Kind::UnknownEnum => edit(response, strange_words).await,
        Kind::Patch { pointer, value } => {
            edit(response, |body| {
                if let Some(place) = body.pointer_mut(pointer) {
                    *place = value.clone();
                }
            })
            .await
        }
        _ => response,
    }
}

async fn edit(response: Response, change: impl FnOnce(&mut Value)) -> Response {
    let (mut parts, body) = response.into_parts();
    let bytes = body
        .collect()
        .await
        .map(|all| all.to_bytes())
        .unwrap_or_default();
    let Ok(mut value) = serde_json::from_slice(&bytes) else {
        return Response::from_parts(parts, Body::from(bytes));
    };
    change(&mut value);
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(value.to_string()))
}

fn empty(value: &mut Value) {
    match value {
        Value::Array(items) => items.clear(),
        Value::Object(map) => {
            for item in map.values_mut() {
                match item {
                    Value::Array(items) => items.clear(),
                    Value::Object(_) => empty(item),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

fn strange_words(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(strange_words),
        Value::Object(map) => {
            for (key, item) in map.iter_mut() {
                match (key.as_str(), &*item) {
                    ("state" | "status" | "host_status" | "type" | "source", Value::String(_)) => {
                        *item = json!("unheard_of");
                    }
                    _ => strange_words(item),
                }
            }
            map.insert("field_of_tomorrow".to_owned(), json!({"a": [1, null]}));
        }
        _ => {}
    }
}

/// The same answer; once it has been handed to the connection, the hook `AfterReply` runs.
pub fn then(response: Response, core: Shared, mutation: Mutation) -> Response {
    let Some(action) = core.hooks.take(mutation.number, Point::AfterReply) else {
        return response;
    };
    let (parts, body) = response.into_parts();
    let run = move || {
        // The last bytes are in the connection's buffer: let its task write them first.
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            action(mutation).await;
        });
    };
    let body = Then {
        body,
        run: Some(Box::new(run)),
    };
    Response::from_parts(parts, Body::new(body))
}

struct Then {
    body: Body,
    run: Option<Box<dyn FnOnce() + Send>>,
}

impl hyper::body::Body for Then {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Then {
    fn drop(&mut self) {
        if let Some(run) = self.run.take() {
            run();
        }
    }
}
