//! Questions to the APIs of vendors: Meta and Mercado Pago.
//!
//! A vendor's base URL is a flag of the operator, never a field of an object or a part of an answer, and
//! the token of a vendor goes to that URL alone: no redirect is followed. Answers are read up to a limit,
//! are not compressed, and are never shown.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Request, header};
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

use super::{
    exchange::{Answer, Keep, send},
    probe_error::ProbeError,
    tls::SetupError,
};

/// Limit of an answer, in bytes. The longest one is the list of payment methods.
const LIMIT: usize = 1 << 20;

/// Limit of one question, in time.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The vendors that are asked.
#[derive(Clone, Debug)]
pub struct Vendors {
    /// Meta's Graph API, `https://graph.facebook.com`.
    pub meta_graph: Vendor,
    /// Mercado Pago's API, `https://api.mercadopago.com`.
    pub mercado_pago: Vendor,
}

impl Vendors {
    /// The vendors at these base URLs.
    ///
    /// # Errors
    /// When a URL has no host.
    pub fn new(
        meta_graph: &Url,
        mercado_pago: &Url,
        tls: &Arc<rustls::ClientConfig>,
    ) -> Result<Self, SetupError> {
        Ok(Self {
            meta_graph: Vendor::new(meta_graph, tls)?,
            mercado_pago: Vendor::new(mercado_pago, tls)?,
        })
    }
}

/// The API of one vendor.
#[derive(Clone, Debug)]
pub struct Vendor {
    host: String,
    port: u16,
    tls: Option<Arc<rustls::ClientConfig>>,
}

/// What a vendor answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// HTTP status.
    pub status: u16,
    /// The body, if it is JSON; to be judged, never shown.
    pub json: serde_json::Value,
}

impl Vendor {
    fn new(base: &Url, tls: &Arc<rustls::ClientConfig>) -> Result<Self, SetupError> {
        let host = base.host_str().ok_or(SetupError::NoHost)?;
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: base.port_or_known_default().unwrap_or(443),
            tls: (base.scheme() == "https").then(|| tls.clone()),
        })
    }

    /// The host, for messages.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Reads what the vendor has at this path and query, with this token.
    ///
    /// # Errors
    /// When there is no answer, with the cause.
    pub async fn get(&self, path: &str, token: &SecretString) -> Result<Told, ProbeError> {
        let asked = tokio::time::timeout(TIMEOUT, self.ask(path, token)).await;
        let answer = asked.unwrap_or(Err(ProbeError::TimedOut(TIMEOUT)))?;
        Ok(Told {
            status: answer.status,
            json: serde_json::from_slice(&answer.body).unwrap_or_default(),
        })
    }

    async fn ask(&self, path: &str, token: &SecretString) -> Result<Answer, ProbeError> {
        let host = self.host.as_str();
        let bearer = format!("Bearer {}", token.expose_secret());
        let mut bearer =
            header::HeaderValue::from_str(&bearer).map_err(|_| ProbeError::BadToken)?;
        bearer.set_sensitive(true);
        let named = match self.port {
            443 => host.to_owned(),
            port => format!("{host}:{port}"),
        };
        let request = Request::builder()
            .uri(path)
            .header(header::HOST, named)
            .header(header::ACCEPT, "application/json")
            .header(header::AUTHORIZATION, bearer)
            .header(
                header::USER_AGENT,
                concat!("golive/", env!("CARGO_PKG_VERSION")),
            )
            .body(Empty::<Bytes>::new())
            .map_err(|_| ProbeError::BadPath)?;
        let stream = TcpStream::connect((host, self.port)).await;
        let stream = stream.map_err(|_| ProbeError::Connect(host.to_owned()))?;
        let Some(tls) = &self.tls else {
            return send(stream, request, (host, LIMIT), Keep::Body).await;
        };
        let name = rustls::pki_types::ServerName::try_from(self.host.clone())
            .map_err(|_| ProbeError::NotResolved(host.to_owned()))?;
        let stream = TlsConnector::from(tls.clone()).connect(name, stream).await;
        let stream = stream.map_err(|_| ProbeError::Tls(host.to_owned()))?;
        send(stream, request, (host, LIMIT), Keep::Body).await
    }
}

/// Vendors for the tests of others.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub mod testing {
    use super::*;
    use crate::{clock::ServerClock, net::tls};

    /// Vendors that nobody answers for.
    pub fn nobody() -> Vendors {
        at("http://127.0.0.1:9")
    }

    /// Both vendors at this base URL.
    pub fn at(base: &str) -> Vendors {
        let tls = tls::config(None, &ServerClock::of_kubernetes()).unwrap();
        let base = base.parse().unwrap();
        Vendors::new(&base, &base, &tls.into()).unwrap()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// What one question sends, and what comes of this answer.
    async fn asked(answer: &'static str) -> (String, Result<Told, ProbeError>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let vendors = testing::at(&format!("http://{}", listener.local_addr().unwrap()));
        let served = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            request.truncate(length);
            String::from_utf8(request).unwrap()
        };
        let token = SecretString::from("vendor-token-1");
        let question = vendors.meta_graph.get("/v1/me?fields=id", &token);
        tokio::join!(served, question)
    }

    #[tokio::test]
    async fn a_token_goes_to_its_vendor_in_a_header_and_a_redirect_is_not_followed() {
        let ok = "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n{\"a\": 1}";
        let (sent, told) = asked(ok).await;
        assert!(
            sent.starts_with("GET /v1/me?fields=id HTTP/1.1\r\n"),
            "{sent}"
        );
        assert!(
            sent.contains("authorization: Bearer vendor-token-1\r\n"),
            "{sent}"
        );
        assert!(!sent.contains("accept-encoding"), "{sent}");
        let told = told.unwrap();
        assert_eq!((told.status, &told.json["a"]), (200, &serde_json::json!(1)));
        let elsewhere =
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
        let (_, told) = asked(elsewhere).await;
        assert_eq!(told.unwrap().status, 302);
        let html = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>";
        assert!(asked(html).await.1.unwrap().json.is_null());
    }

    #[tokio::test]
    async fn a_token_that_cannot_be_a_header_is_not_sent() {
        let token = SecretString::from("two\nlines");
        let vendors = testing::nobody();
        let told = vendors.mercado_pago.get("/users/me", &token).await;
        assert_eq!(told, Err(ProbeError::BadToken));
    }
}
