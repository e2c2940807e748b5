//! Waits until a running operator says that it is ready: the container of `helm test` has no shell and no
//! other program than this one.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

/// Time limit of one request.
const REQUEST: Duration = Duration::from_secs(5);

/// Pause between two requests.
const PAUSE: Duration = Duration::from_secs(1);

/// Most that is read of an answer. Unit: bytes.
const MOST: usize = 64 * 1024;

/// Why the operator does not count as ready.
#[derive(Debug, thiserror::Error)]
#[error("{url} was not ready within {} s: {last}", .within.as_secs())]
pub struct NotReady {
    url: Uri,
    within: Duration,
    last: String,
}

/// Asks until the answer is 200, at most for `within`, and returns what it says.
///
/// # Errors
/// When no answer was 200 in time; with the last one.
pub async fn wait(url: &Uri, within: Duration) -> Result<String, NotReady> {
    let started = Instant::now();
    loop {
        let answer = tokio::time::timeout(REQUEST, ask(url)).await;
        let last = match answer {
            Ok(Ok((StatusCode::OK, text))) => return Ok(text),
            Ok(Ok((status, text))) => format!("{status}: {}", text.trim()),
            Ok(Err(error)) => error,
            Err(_) => format!("no answer within {} s", REQUEST.as_secs()),
        };
        if started.elapsed() + PAUSE > within {
            return Err(NotReady {
                url: url.clone(),
                within,
                last,
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn ask(url: &Uri) -> Result<(StatusCode, String), String> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let answer = client.get(url.clone()).await;
    let answer = answer.map_err(|error| crate::causes::chain(&error))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MOST).collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}
