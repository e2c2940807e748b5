//! The vendors' requests to an application: HTTPS with a certificate of a known authority, as Meta demands,
//! to the address that the application's name stands for in this world.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Most that is read of an answer.
///
/// Unit: bytes.
const BODY: usize = 64 * 1024;

/// Sends requests.
#[derive(Clone, Debug)]
pub struct Client {
    tls: Arc<ClientConfig>,
    edge: Option<SocketAddr>,
}

/// What is sent.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The method.
    pub method: Method,
    /// The whole URL.
    pub url: Uri,
    /// Headers beside those of HTTP itself.
    pub headers: Vec<(&'static str, String)>,
    /// The body, byte for byte.
    pub body: Bytes,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The status.
    pub status: StatusCode,
    /// The body, cut.
    pub body: Bytes,
    /// Time until the whole answer was there.
    pub took: Duration,
}

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL has no host, or not one of `http` and `https`.
    #[error("the address of the webhook is not a URL that can be called")]
    Url,
    /// No connection.
    #[error("cannot connect to {0}")]
    Connect(SocketAddr, #[source] std::io::Error),
    /// The certificate is not trusted, for one.
    #[error("no agreement on TLS")]
    Tls(#[source] std::io::Error),
    /// The connection broke.
    #[error("the request failed")]
    Http(#[from] hyper::Error),
    /// A header or method that cannot be sent.
    #[error("the request cannot be built")]
    Request(#[from] http::Error),
    /// Not in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

impl Client {
    /// Trusts the authorities in these texts, in PEM. With `edge`, every name stands for that address;
    /// otherwise a URL must have an address of its own.
    pub fn new(authorities: &str, edge: Option<SocketAddr>) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        let parsed = CertificateDer::pem_slice_iter(authorities.as_bytes());
        roots.add_parsable_certificates(parsed.flatten());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            tls: Arc::new(tls),
            edge,
        })
    }

    /// Sends one request and waits for the answer, at most `limit`.
    pub async fn send(&self, out: &Outgoing, limit: Duration) -> Result<Incoming, ClientError> {
        tokio::time::timeout(limit, self.send_now(out))
            .await
            .unwrap_or(Err(ClientError::Timeout(limit)))
    }

    async fn send_now(&self, out: &Outgoing) -> Result<Incoming, ClientError> {
        let started = Instant::now();
        let host = out.url.host().ok_or(ClientError::Url)?.to_owned();
        let secure = match out.url.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(ClientError::Url),
        };
        let port = out.url.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let address = match host.parse() {
            Ok(ip) => SocketAddr::new(ip, port),
            Err(_) if host == "localhost" => SocketAddr::from(([127, 0, 0, 1], port)),
            Err(_) => self.edge.ok_or(ClientError::Url)?,
        };
        let stream = TcpStream::connect(address)
            .await
            .map_err(|source| ClientError::Connect(address, source))?;
        if !secure {
            return exchange(stream, out, started).await;
        }
        let name = ServerName::try_from(host).map_err(|_| ClientError::Url)?;
        let stream = TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, stream)
            .await
            .map_err(ClientError::Tls)?;
        exchange(stream, out, started).await
    }
}

async fn exchange<S>(stream: S, out: &Outgoing, started: Instant) -> Result<Incoming, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let path = out.url.path_and_query().map_or("/", |path| path.as_str());
    let authority = out
        .url
        .authority()
        .map_or("", |authority| authority.as_str());
    let mut request = Request::builder()
        .method(out.method.clone())
        .uri(path)
        .header("host", authority);
    for (name, value) in &out.headers {
        request = request.header(*name, value);
    }
    let response = sender
        .send_request(request.body(Full::new(out.body.clone()))?)
        .await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), BODY).collect().await;
    driver.abort();
    Ok(Incoming {
        status,
        // A longer one is nothing that a vendor reads.
        body: body.map(|body| body.to_bytes()).unwrap_or_default(),
        took: started.elapsed(),
    })
}
