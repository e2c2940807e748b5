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
    probe::{Answer, ProbeError, send},
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
            return send(stream, request, (host, LIMIT)).await;
        };
        let name = rustls::pki_types::ServerName::try_from(self.host.clone())
            .map_err(|_| ProbeError::NotResolved(host.to_owned()))?;
        let stream = TlsConnector::from(tls.clone()).connect(name, stream).await;
        let stream = stream.map_err(|_| ProbeError::Tls(host.to_owned()))?;
        send(stream, request, (host, LIMIT)).await
    }
}
