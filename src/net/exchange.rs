//! One request over a connection, and what comes back.

use std::{
    convert::Infallible,
    pin::pin,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::{Request, body::Body};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::AbortOnDropHandle;

use super::probe_error::ProbeError;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A response.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: hyper::HeaderMap,
    /// The body, to evaluate; never shown.
    pub body: Bytes,
    /// From the start of the request to the end of the body.
    pub took: Duration,
}

/// What is kept of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Its body too.
    Body,
    /// Its status and headers. The body is read to its end and dropped: it is as long as the server likes,
    /// and the memory is everybody's.
    Head,
}

/// Sends a request over this connection, and reads at most `limit` bytes of the answer. The time is
/// that from the first byte sent to the last one read.
pub(super) async fn send<S, B>(
    stream: S,
    request: Request<B>,
    (host, limit): (&str, usize),
    keep: Keep,
) -> Result<Answer, ProbeError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let broken = |_| ProbeError::Http(host.to_owned());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    // Aborted with the request, also when that is dropped.
    let connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let began = Instant::now();
    let answer = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let (parts, body) = response.into_parts();
        let body = read(Limited::new(body, limit), keep)
            .await
            .map_err(|error| {
                if error.is::<http_body_util::LengthLimitError>() {
                    ProbeError::TooLarge(limit)
                } else {
                    ProbeError::Http(host.to_owned())
                }
            })?;
        Ok(Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body,
            took: began.elapsed(),
        })
    }
    .await;
    drop(connection);
    answer
}

/// Reads a body to its end.
async fn read<B>(body: Limited<B>, keep: Keep) -> Result<Bytes, BoxError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    match keep {
        Keep::Body => Ok(body.collect().await?.to_bytes()),
        Keep::Head => {
            let mut body = pin!(body);
            while let Some(frame) = body.frame().await {
                frame?;
            }
            Ok(Bytes::new())
        }
    }
}
