//! A gRPC call to the application by its public name, as its clients make it.
//!
//! The edge ends TLS and accepts a connection whatever runs behind it, so only a call shows that the
//! application answers. Every gRPC server answers this one: with its health if it has the health
//! service, otherwise with a status. Sources: github.com/grpc/grpc, doc/health-checking.md,
//! doc/PROTOCOL-HTTP2.md, doc/statuscodes.md.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{HeaderMap, Method, Request, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio_util::task::AbortOnDropHandle;

use super::probe::{Probe, ProbeError};

/// The method that is called.
pub const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// A message without fields: not compressed, no bytes.
const EMPTY: [u8; 5] = [0; 5];

/// Limit of the response, in bytes.
const LIMIT: usize = 64 << 10;

/// What a call has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Called {
    /// HTTP status.
    pub status: u16,
    /// Status of gRPC; `None` if what answers does not speak gRPC.
    pub code: Option<u32>,
    /// What the health service says of the application: whether it is SERVING.
    pub serving: Option<bool>,
    /// From the start of the call to the end of the response.
    pub took: Duration,
}

impl Probe {
    /// Asks the health service of gRPC at `host`, in at most `timeout`.
    ///
    /// # Errors
    /// When there is no response, with the cause.
    pub async fn call(&self, host: &str, timeout: Duration) -> Result<Called, ProbeError> {
        tokio::time::timeout(timeout, self.called(host))
            .await
            .unwrap_or(Err(ProbeError::TimedOut(timeout)))
    }

    async fn called(&self, host: &str) -> Result<Called, ProbeError> {
        let began = Instant::now();
        let broken = |_| ProbeError::Http(host.to_owned());
        let mut tls = self.tls();
        Arc::make_mut(&mut tls).alpn_protocols = vec![b"h2".to_vec()];
        let stream = self.stream(host, 443).await?;
        let stream = self.handshake(tls, host, stream).await?;
        let io = TokioIo::new(stream);
        let opened = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
        let (mut sender, connection) = opened.map_err(broken)?;
        // Aborted with the call, also when that is dropped.
        let connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let agent = concat!("golive/", env!("CARGO_PKG_VERSION"));
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("https://{host}{HEALTH}"))
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .header(header::USER_AGENT, agent)
            .body(Full::new(Bytes::from_static(&EMPTY)))
            .map_err(|_| ProbeError::BadPath)?;
        let response = sender.send_request(request).await.map_err(broken)?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, LIMIT).collect().await;
        let body = body.map_err(|_| ProbeError::Http(host.to_owned()))?;
        drop(connection);
        let trailers = body.trailers().cloned().unwrap_or_default();
        let code = code(&trailers).or_else(|| code(&parts.headers));
        Ok(Called {
            status: parts.status.as_u16(),
            code,
            serving: code.and_then(|_| serving(&body.to_bytes())),
            took: began.elapsed(),
        })
    }
}

fn code(headers: &HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// What a `HealthCheckResponse` says: its field 1 is 1 for SERVING, and absent for UNKNOWN.
fn serving(body: &[u8]) -> Option<bool> {
    match body {
        [0, 0, 0, 0, 0] => Some(false),
        [0, 0, 0, 0, 2, 8, state] => Some(*state == 1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_health_of_an_application_is_read_from_the_response() {
        assert_eq!(serving(&[0, 0, 0, 0, 2, 8, 1]), Some(true));
        assert_eq!(serving(&[0, 0, 0, 0, 2, 8, 2]), Some(false));
        assert_eq!(serving(&EMPTY), Some(false));
        // Compressed, or something else.
        assert_eq!(serving(&[1, 0, 0, 0, 2, 8, 1]), None);
        assert_eq!(serving(b""), None);
    }
}
