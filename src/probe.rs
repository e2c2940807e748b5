//! Requests to the application from outside, as its users make them: by its public name, over
//! TLS, to an address that was checked.
//!
//! The host is the app's own or one of its hostnames, never a URL from a field. Every address
//! is checked at the moment of connecting and the checked one is used, so a name that changes
//! between check and use gains nothing (reliability-and-security.md S3). No credentials are sent,
//! and nothing that is fetched leaves this file but its length, its status and yes or no.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{
    fly::{
        client::{HttpOptions, SetupError, tls},
        public_address::is_public,
    },
    settings::{Resolve, Settings},
};

/// Most bytes of a page that are read.
pub const MAX_BODY: usize = 1 << 20;

/// Most bytes of a page of metrics that are read.
pub const MAX_METRICS: usize = 4 << 20;

/// Redirects that are followed, on the same host only.
const MAX_REDIRECTS: usize = 3;

/// Where requests may go, and how names are resolved.
#[derive(Clone, Debug)]
pub struct Probe {
    resolve: Arc<[Resolve]>,
    tls: Arc<rustls::ClientConfig>,
}

/// What came of a request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: hyper::HeaderMap,
    /// The body, for looking into; never for showing.
    pub body: Bytes,
    /// From the start of the request to the end of the body.
    pub took: Duration,
}

/// Why there was no answer. No variant holds anything that was fetched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// The name has no address.
    #[error("{0} does not resolve")]
    NotResolved(String),
    /// The name leads somewhere where no public application is.
    #[error("{0} resolves to an address that is not public")]
    NotPublic(String),
    /// Nobody answers there.
    #[error("cannot connect to {0}")]
    Connect(String),
    /// The certificate does not fit, or TLS fails otherwise.
    #[error("TLS with {0} fails: its certificate does not fit the name or is not trusted")]
    Tls(String),
    /// The connection broke, or what came was no HTTP.
    #[error("{0} did not answer with HTTP")]
    Http(String),
    /// More bytes than are read.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// It took too long.
    #[error("no answer within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// Redirected elsewhere, or too often.
    #[error("redirected to another host, or more than {MAX_REDIRECTS} times")]
    Redirected,
    /// The path is not one.
    #[error("the path cannot be requested")]
    BadPath,
}

impl Probe {
    /// As the operator's flags say.
    ///
    /// # Errors
    /// When the file of certificate authorities cannot be read.
    pub fn new(settings: &Settings) -> Result<Self, SetupError> {
        let options = HttpOptions {
            ca_file: settings.ca_file.clone(),
            ..HttpOptions::default()
        };
        Ok(Self {
            resolve: settings.resolve.clone().into(),
            tls: Arc::new(tls(&options)?),
        })
    }

    /// One request for `path` of `https://host`, at most `limit` bytes, in at most `timeout`.
    ///
    /// # Errors
    /// When there is no answer, with the class of what went wrong.
    pub async fn request(
        &self,
        method: Method,
        host: &str,
        path: &str,
        timeout: Duration,
        limit: usize,
    ) -> Result<Answer, ProbeError> {
        let began = Instant::now();
        let follow = async {
            let mut path = path.to_owned();
            for _ in 0..=MAX_REDIRECTS {
                let answer = self.once(method.clone(), host, &path, limit, began).await?;
                if !(300..400).contains(&answer.status) {
                    return Ok(answer);
                }
                match location(&answer, host) {
                    Location::None => return Ok(answer),
                    Location::Elsewhere => return Err(ProbeError::Redirected),
                    Location::Here(next) => path = next,
                }
            }
            Err(ProbeError::Redirected)
        };
        tokio::time::timeout(timeout, follow)
            .await
            .unwrap_or(Err(ProbeError::TimedOut(timeout)))
    }

    /// Whether a TCP port of the host can be connected to.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn connect(
        &self,
        host: &str,
        port: u16,
        timeout: Duration,
    ) -> Result<(), ProbeError> {
        tokio::time::timeout(timeout, self.stream(host, port))
            .await
            .unwrap_or(Err(ProbeError::TimedOut(timeout)))
            .map(drop)
    }

    /// The addresses of a host, as its users would find them. Nothing is connected to.
    ///
    /// # Errors
    /// When it has none, or the resolver does not answer in time.
    pub async fn resolve(&self, host: &str, timeout: Duration) -> Result<Vec<IpAddr>, ProbeError> {
        let port = 443;
        if let Some(told) = self.resolve.iter().find(|rule| rule.applies(host, port)) {
            return Ok(vec![told.to.ip()]);
        }
        let look = tokio::net::lookup_host((host, port));
        let found = tokio::time::timeout(timeout, look)
            .await
            .map_err(|_| ProbeError::TimedOut(timeout))?
            .map_err(|_| ProbeError::NotResolved(host.to_owned()))?;
        Ok(found.map(|address| address.ip()).collect())
    }

    async fn once(
        &self,
        method: Method,
        host: &str,
        path: &str,
        limit: usize,
        began: Instant,
    ) -> Result<Answer, ProbeError> {
        let broken = |_| ProbeError::Http(host.to_owned());
        let stream = self.stream(host, 443).await?;
        let name = rustls::pki_types::ServerName::try_from(host.to_owned())
            .map_err(|_| ProbeError::NotResolved(host.to_owned()))?;
        let stream = TlsConnector::from(self.tls.clone())
            .connect(name, stream)
            .await
            .map_err(|_| ProbeError::Tls(host.to_owned()))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        // Ends with the request: the sender is dropped at the end of this function.
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, host)
            .header(
                header::USER_AGENT,
                concat!("golive/", env!("CARGO_PKG_VERSION")),
            )
            .body(Empty::<Bytes>::new())
            .map_err(|_| ProbeError::BadPath)?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(broken)?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, limit)
                .collect()
                .await
                .map_err(|error| {
                    if error.is::<http_body_util::LengthLimitError>() {
                        ProbeError::TooLarge(limit)
                    } else {
                        ProbeError::Http(host.to_owned())
                    }
                })?
                .to_bytes();
            Ok(Answer {
                status: parts.status.as_u16(),
                headers: parts.headers,
                body,
                took: began.elapsed(),
            })
        }
        .await;
        connection.abort();
        answer
    }

    /// Connects to an address of the host that was checked.
    async fn stream(&self, host: &str, port: u16) -> Result<TcpStream, ProbeError> {
        let addresses = self.addresses(host, port).await?;
        for address in addresses {
            if let Ok(stream) = TcpStream::connect(address).await {
                return Ok(stream);
            }
        }
        Err(ProbeError::Connect(host.to_owned()))
    }

    async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, ProbeError> {
        // The operator's own flags may lead anywhere; a name may not.
        if let Some(told) = self.resolve.iter().find(|rule| rule.applies(host, port)) {
            return Ok(vec![told.to]);
        }
        let found: Vec<SocketAddr> = tokio::net::lookup_host((host, port))
            .await
            .map_err(|_| ProbeError::NotResolved(host.to_owned()))?
            .collect();
        if found.is_empty() {
            return Err(ProbeError::NotResolved(host.to_owned()));
        }
        // One private address among public ones is one too many: which is used is chance.
        if found.iter().any(|address| !is_public(address.ip())) {
            return Err(ProbeError::NotPublic(host.to_owned()));
        }
        Ok(found)
    }
}

enum Location {
    None,
    Here(String),
    Elsewhere,
}

/// Where an answer redirects to, as far as it is the same host over HTTPS.
fn location(answer: &Answer, host: &str) -> Location {
    let Some(to) = answer
        .headers
        .get(header::LOCATION)
        .and_then(|to| to.to_str().ok())
    else {
        return Location::None;
    };
    let Ok(base) = url::Url::parse(&format!("https://{host}/")) else {
        return Location::Elsewhere;
    };
    match base.join(to) {
        Ok(url)
            if url.scheme() == "https"
                && url.host_str() == Some(host)
                && url.port().is_none()
                && url.username().is_empty() =>
        {
            let query = url
                .query()
                .map_or(String::new(), |query| format!("?{query}"));
            Location::Here(format!("{}{query}", url.path()))
        }
        _ => Location::Elsewhere,
    }
}
