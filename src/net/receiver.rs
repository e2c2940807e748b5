//! Messages to receivers that users name by an address in a Secret: one POST each.
//!
//! The host must be on the public Internet, as [`super::public_address`] has it, unless the operator's
//! administrator has allowed its origin. No redirect is followed: the address is a secret, and so may the
//! body be. Nothing of an answer is read but its status and `Retry-After`.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_util::task::AbortOnDropHandle;

use super::probe::{Probe, ProbeError};

/// Longest time to connect, with TLS.
pub(super) const CONNECT: Duration = Duration::from_secs(10);

/// Where a receiver is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Whether it is spoken to with TLS from the first byte.
    pub tls: bool,
    /// The host, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The operator's administrator has allowed it, whatever its address is.
    pub allowed: bool,
}

/// A message as it is sent.
#[derive(Clone, Debug)]
pub struct Post<'a> {
    /// Path and query. A secret.
    pub path: &'a str,
    /// The type of the body.
    pub content_type: &'a str,
    /// The whole value of the header `Authorization`.
    pub authorization: Option<&'a SecretString>,
    /// What tells a repeat of the same message.
    pub id: &'a str,
    /// The body. It may hold a key.
    pub body: Bytes,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// HTTP status.
    pub status: u16,
    /// The header `Retry-After`.
    pub retry_after: Option<String>,
}

impl Probe {
    /// Sends a message, and waits for the status for at most `timeout`, without the time to connect.
    ///
    /// # Errors
    /// When there is no answer, with the cause.
    pub async fn post(
        &self,
        origin: &Origin,
        post: &Post<'_>,
        timeout: Duration,
    ) -> Result<Taken, ProbeError> {
        let request = request(origin, post)?;
        let host = &origin.host;
        let connected = tokio::time::timeout(CONNECT, self.to_receiver(origin)).await;
        let stream = connected.unwrap_or_else(|_| Err(ProbeError::Connect(host.clone())))?;
        if !origin.tls {
            return exchange(stream, request, host, timeout).await;
        }
        let secured = tokio::time::timeout(CONNECT, self.handshake(self.tls(), host, stream));
        let stream = secured
            .await
            .unwrap_or_else(|_| Err(ProbeError::TlsRefused(host.clone())))?;
        exchange(stream, request, host, timeout).await
    }

    /// Connects to a receiver: to a checked address, unless its origin is allowed.
    pub(super) async fn to_receiver(&self, origin: &Origin) -> Result<TcpStream, ProbeError> {
        let (host, port) = (origin.host.as_str(), origin.port);
        if !origin.allowed || self.is_overridden(host, port) {
            return self.stream(host, port).await;
        }
        let stream = TcpStream::connect((host, port)).await;
        stream.map_err(|_| ProbeError::Connect(host.to_owned()))
    }
}

fn request(origin: &Origin, post: &Post<'_>) -> Result<Request<Full<Bytes>>, ProbeError> {
    let usual = if origin.tls { 443 } else { 80 };
    // A literal address of IPv6 has brackets in a header.
    let host = match origin.host.contains(':') {
        true => format!("[{}]", origin.host),
        false => origin.host.clone(),
    };
    let named = match origin.port {
        port if port == usual => host,
        port => format!("{host}:{port}"),
    };
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(post.path)
        .header(header::HOST, named)
        .header(header::CONTENT_TYPE, post.content_type)
        .header("Idempotency-Key", post.id)
        .header(
            header::USER_AGENT,
            concat!("golive/", env!("CARGO_PKG_VERSION")),
        );
    if let Some(value) = post.authorization {
        let mut value = header::HeaderValue::from_str(value.expose_secret())
            .map_err(|_| ProbeError::BadToken)?;
        value.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, value);
    }
    let request = request.body(Full::new(post.body.clone()));
    request.map_err(|_| ProbeError::BadPath)
}

async fn exchange<S>(
    stream: S,
    request: Request<Full<Bytes>>,
    host: &str,
    timeout: Duration,
) -> Result<Taken, ProbeError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |_| ProbeError::Http(host.to_owned());
    let answer = async {
        let opened = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = opened.map_err(broken)?;
        // Aborted with the request, also when that is dropped: the rest of the answer is not read.
        let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let answer = sender.send_request(request).await.map_err(broken)?;
        let retry_after = answer.headers().get(header::RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok());
        Ok(Taken {
            status: answer.status().as_u16(),
            retry_after: retry_after.map(str::to_owned),
        })
    };
    tokio::time::timeout(timeout, answer)
        .await
        .unwrap_or(Err(ProbeError::TimedOut(timeout)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::clock::ServerClock;

    fn probe() -> Probe {
        Probe::new(&[], None, &ServerClock::of_kubernetes()).unwrap()
    }

    fn post(token: Option<&SecretString>) -> Post<'_> {
        Post {
            path: "/hook?key=1",
            content_type: "application/json",
            authorization: token,
            id: "u/phase/1",
            body: Bytes::from_static(b"{}"),
        }
    }

    fn plain(port: u16, allowed: bool) -> Origin {
        Origin {
            tls: false,
            host: "127.0.0.1".to_owned(),
            port,
            allowed,
        }
    }

    #[tokio::test]
    async fn of_an_answer_only_the_status_is_taken_and_a_redirect_is_not_followed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            // The body never ends.
            let answer = "HTTP/1.1 307 Gone away\r\nlocation: http://127.0.0.1:1/\r\nretry-after: 7\r\ncontent-length: 99999999\r\n\r\nx";
            stream.write_all(answer.as_bytes()).await.unwrap();
            request.truncate(length);
            (String::from_utf8(request).unwrap(), stream)
        };
        let token = SecretString::from("Bearer receiver-token-1");
        let (probe, origin) = (probe(), plain(port, true));
        let post = post(Some(&token));
        let sent = probe.post(&origin, &post, Duration::from_secs(20));
        let ((request, _open), taken) = tokio::join!(served, sent);
        let expected = Taken {
            status: 307,
            retry_after: Some("7".to_owned()),
        };
        assert_eq!(taken, Ok(expected));
        assert!(
            request.starts_with("POST /hook?key=1 HTTP/1.1\r\n"),
            "{request}"
        );
        for part in [
            format!("host: 127.0.0.1:{port}\r\n"),
            "idempotency-key: u/phase/1\r\n".to_owned(),
            "authorization: Bearer receiver-token-1\r\n".to_owned(),
        ] {
            assert!(request.contains(&part), "{request}");
        }
    }

    #[tokio::test]
    async fn a_private_address_is_connected_to_only_where_the_administrator_allows_it() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let probe = probe();
        for host in ["127.0.0.1", "localhost", "alertmanager.monitoring.svc"] {
            let origin = Origin {
                host: host.to_owned(),
                ..plain(port, false)
            };
            let post = post(None);
            let sent = probe.post(&origin, &post, Duration::from_secs(5)).await;
            assert_eq!(sent, Err(ProbeError::NotPublic(host.to_owned())));
        }
    }

    #[tokio::test]
    async fn a_token_that_cannot_be_a_header_is_not_sent() {
        let token = SecretString::from("two\nlines");
        let sent = request(&plain(9, true), &post(Some(&token)));
        assert_eq!(sent.err(), Some(ProbeError::BadToken));
    }
}
