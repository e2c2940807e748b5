//! A request to an application with any method, headers and body, as the sender of a webhook makes it.
//!
//! It goes to the application's own host over HTTPS, with all that [`super::probe`] says of addresses.
//! No redirect is followed: no sender of webhooks does, and a body that was signed for one address is
//! not for another. No compression is offered, so that a limit of bytes is one of what arrives.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, header};

use super::{
    exchange::{Answer, Keep, send},
    probe::Probe,
    probe_error::ProbeError,
};

/// Longest time to connect, with TLS.
const CONNECT: Duration = Duration::from_secs(10);

/// A request.
#[derive(Clone, Debug)]
pub struct Delivery<'a> {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: &'a str,
    /// Headers beside `Host` and `Content-Length`: names and values. Values may be secret.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body, byte for byte.
    pub body: Bytes,
    /// Limit of the answer's body, in bytes.
    pub limit: usize,
    /// What is kept of the answer.
    pub keep: Keep,
}

impl Probe {
    /// Sends a delivery to the host, and waits for the answer for at most `timeout`, without the time to
    /// connect. The answer may be any, a redirect too; [`Answer::took`] is the time from the sent request
    /// to the end of the answer.
    ///
    /// # Errors
    /// When there is no answer, with the cause.
    pub async fn deliver(
        &self,
        host: &str,
        delivery: &Delivery<'_>,
        timeout: Duration,
    ) -> Result<Answer, ProbeError> {
        let mut request = Request::builder()
            .method(delivery.method.clone())
            .uri(delivery.path)
            .header(header::HOST, host);
        for (name, value) in delivery.headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(delivery.body.clone()))
            .map_err(|_| ProbeError::BadPath)?;
        let connected = async {
            let stream = self.stream(host, 443).await?;
            self.handshake(self.tls(), host, stream).await
        };
        let connected = tokio::time::timeout(CONNECT, connected).await;
        let stream = connected.unwrap_or_else(|_| Err(ProbeError::Connect(host.to_owned())))?;
        let sent = send(stream, request, (host, delivery.limit), delivery.keep);
        tokio::time::timeout(timeout, sent)
            .await
            .unwrap_or(Err(ProbeError::TimedOut(timeout)))
    }
}
