//! Questions to a Prometheus that an Activation names.
//!
//! It is one on the public Internet, over HTTPS and behind the guard of [`super::probe`], or one that the
//! operator's flag allows in the namespace: usually one in the cluster, over plain HTTP. Credentials go to
//! that address and nowhere else, because no redirect is followed. Answers are read up to a limit, are not
//! compressed, and are never shown.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use data_encoding::BASE64;
use http_body_util::Full;
use hyper::{
    Request,
    header::{self, HeaderValue},
};
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpStream;
use url::{Host, Url};

use super::{
    exchange::send,
    probe::{Answer, Keep, Probe, ProbeError},
};

/// Limit of an answer, in bytes.
const LIMIT: usize = 8 << 20;

/// A Prometheus that the installation allows, at any address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowance {
    scheme: String,
    host: String,
    port: u16,
    /// The namespaces that may use it; empty: all.
    namespaces: Vec<String>,
}

impl Allowance {
    /// Parses `ORIGIN` or `ORIGIN=NAMESPACE,NAMESPACE`.
    ///
    /// # Errors
    /// What is required.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wanted = "must look like `http://prometheus.monitoring.svc:9090` or `http://prometheus.monitoring.svc:9090=shop,web`";
        let (origin, namespaces) = match text.split_once('=') {
            Some((origin, namespaces)) => (origin, Some(namespaces)),
            None => (text, None),
        };
        let url: Url = origin.parse().map_err(|_| wanted)?;
        let (host, port) = place(&url).ok_or(wanted)?;
        let is_origin = url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        if !is_origin {
            return Err(wanted.to_owned());
        }
        let is_name = |name: &str| {
            let is_part = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            (1..=63).contains(&name.len()) && name.bytes().all(is_part)
        };
        let namespaces = namespaces.map(|list| list.split(',').map(str::trim));
        let namespaces: Vec<String> = namespaces
            .into_iter()
            .flatten()
            .map(str::to_owned)
            .collect();
        if !namespaces.iter().all(|name| is_name(name)) {
            return Err(wanted.to_owned());
        }
        Ok(Self {
            scheme: url.scheme().to_owned(),
            host,
            port,
            namespaces,
        })
    }

    /// Whether it allows this address in this namespace.
    fn allows(&self, url: &Url, namespace: &str) -> bool {
        let of = (self.host.clone(), self.port);
        self.scheme == url.scheme()
            && place(url) == Some(of)
            && (self.namespaces.is_empty() || self.namespaces.iter().any(|name| name == namespace))
    }
}

/// The Prometheus servers that an installation allows beside those on the public Internet.
#[derive(Clone, Debug, Default)]
pub struct Allowed(Vec<Allowance>);

impl Allowed {
    /// These.
    #[must_use]
    pub fn new(allowances: Vec<Allowance>) -> Self {
        Self(allowances)
    }

    /// Who may ask the Prometheus at this address in this namespace.
    #[must_use]
    pub fn access(&self, url: &str, namespace: &str) -> Access {
        let Ok(url) = url.parse::<Url>() else {
            return Access::Refused;
        };
        if self.0.iter().any(|one| one.allows(&url, namespace)) {
            return Access::Installation;
        }
        match url.scheme() {
            "https" => Access::Public,
            _ => Access::Refused,
        }
    }
}

/// How a Prometheus may be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The installation allows it, at whatever address.
    Installation,
    /// Over HTTPS, at a public address.
    Public,
    /// Not at all.
    Refused,
}

/// Host and port of a URL with HTTP.
fn place(url: &Url) -> Option<(String, u16)> {
    if !matches!(url.scheme(), "http" | "https") {
        return None;
    }
    let host = match url.host()? {
        Host::Domain(name) => name.trim_end_matches('.').to_ascii_lowercase(),
        Host::Ipv4(ip) => ip.to_string(),
        Host::Ipv6(ip) => ip.to_string(),
    };
    Some((host, url.port_or_known_default()?))
}

/// What a server may want to see of who asks.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// Nothing.
    None,
    /// A bearer token.
    Bearer(SecretString),
    /// A user and a password.
    Basic(SecretString, SecretString),
}

/// A Prometheus that may be asked.
#[derive(Clone)]
pub struct Server {
    url: Url,
    host: String,
    port: u16,
    access: Access,
    authorization: Option<HeaderValue>,
    tenant: Option<HeaderValue>,
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// The server at this address, reached so, with these credentials, this tenant, and these certificate
    /// authorities if not the system's.
    ///
    /// # Errors
    /// When the address or a value cannot be used in a request.
    pub fn new(
        (url, access): (&str, Access),
        credentials: &Credentials,
        tenant: Option<&str>,
        tls: Option<Arc<rustls::ClientConfig>>,
    ) -> Result<Self, ProbeError> {
        let url: Url = url.parse().map_err(|_| ProbeError::BadPath)?;
        let (host, port) = place(&url).ok_or(ProbeError::BadPath)?;
        let tenant = tenant.map(HeaderValue::from_str).transpose();
        Ok(Self {
            url,
            host,
            port,
            access,
            authorization: authorization(credentials)?,
            tenant: tenant.map_err(|_| ProbeError::BadPath)?,
            tls,
        })
    }

    /// Asks: sends these fields as a form to this path below the address.
    ///
    /// # Errors
    /// When there is no answer, with the cause.
    pub async fn ask(
        &self,
        probe: &Probe,
        (path, fields): (&str, &[(&str, String)]),
        timeout: Duration,
    ) -> Result<Answer, ProbeError> {
        let request = self.request(path, fields)?;
        let asked = async {
            let stream = match self.access {
                Access::Public => probe.for_strangers().stream(&self.host, self.port).await?,
                Access::Installation => {
                    let connected = TcpStream::connect((self.host.as_str(), self.port)).await;
                    connected.map_err(|_| ProbeError::Connect(self.host.clone()))?
                }
                Access::Refused => return Err(ProbeError::NotPublic(self.host.clone())),
            };
            let of = (self.host.as_str(), LIMIT);
            if self.url.scheme() != "https" {
                return send(stream, request, of, Keep::Body).await;
            }
            let tls = self.tls.clone().unwrap_or_else(|| probe.tls());
            let stream = probe.handshake(tls, &self.host, stream).await?;
            send(stream, request, of, Keep::Body).await
        };
        tokio::time::timeout(timeout, asked)
            .await
            .unwrap_or(Err(ProbeError::TimedOut(timeout)))
    }

    fn request(
        &self,
        path: &str,
        fields: &[(&str, String)],
    ) -> Result<Request<Full<Bytes>>, ProbeError> {
        let prefix = self.url.path().trim_end_matches('/');
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields);
        let authority = match self.url.port() {
            Some(port) => format!("{}:{port}", self.url.host_str().unwrap_or_default()),
            None => self.url.host_str().unwrap_or_default().to_owned(),
        };
        let mut request = Request::builder()
            .method("POST")
            .uri(format!("{prefix}{path}"))
            .header(header::HOST, authority)
            .header(header::ACCEPT, "application/json")
            .header(header::ACCEPT_ENCODING, "identity")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(
                header::USER_AGENT,
                concat!("golive/", env!("CARGO_PKG_VERSION")),
            );
        if let Some(value) = &self.authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        if let Some(value) = &self.tenant {
            request = request.header("x-scope-orgid", value);
        }
        let body = Full::new(Bytes::from(form.finish()));
        request.body(body).map_err(|_| ProbeError::BadPath)
    }
}

fn authorization(credentials: &Credentials) -> Result<Option<HeaderValue>, ProbeError> {
    let text = match credentials {
        Credentials::None => return Ok(None),
        Credentials::Bearer(token) => format!("Bearer {}", token.expose_secret()),
        Credentials::Basic(user, password) => {
            let pair = format!("{}:{}", user.expose_secret(), password.expose_secret());
            format!("Basic {}", BASE64.encode(pair.as_bytes()))
        }
    };
    let mut value = HeaderValue::from_str(&text).map_err(|_| ProbeError::BadToken)?;
    value.set_sensitive(true);
    Ok(Some(value))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::clock::ServerClock;

    fn allowed(flags: &[&str]) -> Allowed {
        let flags = flags.iter().map(|flag| Allowance::parse(flag).unwrap());
        Allowed::new(flags.collect())
    }

    #[test]
    fn only_what_the_installation_allows_may_be_private_and_only_in_its_namespaces() {
        let allowed = allowed(&[
            "http://prometheus.monitoring.svc:9090=shop,web",
            "https://thanos.example.org",
        ]);
        let at = |url: &str, namespace: &str| allowed.access(url, namespace);
        let inside = "http://prometheus.monitoring.svc:9090";
        assert_eq!(at(inside, "shop"), Access::Installation);
        assert_eq!(at(&format!("{inside}/prefix"), "web"), Access::Installation);
        assert_eq!(at(inside, "other"), Access::Refused);
        assert_eq!(
            at("https://thanos.example.org:443/x", "any"),
            Access::Installation
        );
        for other in [
            "http://prometheus.monitoring.svc",
            "http://prometheus.monitoring.svc:9091",
            "http://prometheus.monitoring.svc.evil.example:9090",
            "http://prometheus.monitoring.svc:9090@evil.example/",
            "http://thanos.example.org",
            "ftp://prometheus.monitoring.svc:9090",
            "nonsense",
        ] {
            assert_eq!(at(other, "shop"), Access::Refused, "{other}");
        }
        // Public: the guard decides when it connects.
        assert_eq!(
            at("https://prometheus.monitoring.svc:9090", "shop"),
            Access::Public
        );
    }

    #[test]
    fn an_allowance_is_an_origin_and_names_of_namespaces() {
        for wrong in [
            "",
            "prometheus:9090",
            "http://p:9090/prefix",
            "http://u:p@p:9090",
            "http://p:9090?x",
            "http://p:9090=",
            "http://p:9090=Shop",
            "file:///x",
        ] {
            assert!(Allowance::parse(wrong).is_err(), "{wrong}");
        }
        Allowance::parse("http://[fd00::1]:9090=a, b").unwrap();
    }

    /// What a question sends, and what comes of this answer.
    async fn asked(credentials: Credentials, answer: &'static str) -> (String, Answer) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/prefix/", listener.local_addr().unwrap());
        let access = allowed(&[url.trim_end_matches("/prefix/")]).access(&url, "n");
        let server = Server::new((&url, access), &credentials, Some("team-a"), None).unwrap();
        let probe = Probe::new(&[], None, &ServerClock::of_kubernetes()).unwrap();
        let served = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut got = String::new();
            while !got.contains("a%2Bb") {
                let mut some = [0; 4096];
                let length = stream.read(&mut some).await.unwrap();
                assert!(length > 0, "{got}");
                got.push_str(std::str::from_utf8(&some[..length]).unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            got
        };
        let fields = [("query", "up{x=\"a+b\"}".to_owned())];
        let question = ("/api/v1/query", fields.as_slice());
        let asked = server.ask(&probe, question, Duration::from_secs(30));
        let (got, answer) = tokio::join!(served, asked);
        (got, answer.unwrap())
    }

    #[tokio::test]
    async fn credentials_and_tenant_go_to_the_server_in_headers_and_a_redirect_is_not_followed() {
        let elsewhere =
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
        let bearer = Credentials::Bearer(SecretString::from("token-1"));
        let (got, answer) = asked(bearer, elsewhere).await;
        assert_eq!(answer.status, 302);
        assert!(
            got.starts_with("POST /prefix/api/v1/query HTTP/1.1\r\n"),
            "{got}"
        );
        assert!(got.contains("authorization: Bearer token-1\r\n"), "{got}");
        assert!(got.contains("x-scope-orgid: team-a\r\n"), "{got}");
        assert!(got.contains("accept-encoding: identity\r\n"), "{got}");
        let fine = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        let basic = Credentials::Basic("ana".into(), "p:w".into());
        let (got, answer) = asked(basic, fine).await;
        assert_eq!(answer.body, "{}");
        assert!(
            got.contains("authorization: Basic YW5hOnA6dw==\r\n"),
            "{got}"
        );
    }

    #[tokio::test]
    async fn a_name_that_is_not_public_is_refused_and_no_secret_is_shown() {
        let probe = Probe::new(&[], None, &ServerClock::of_kubernetes()).unwrap();
        let token = Credentials::Bearer(SecretString::from("token-1"));
        for url in ["https://127.0.0.1/", "https://prometheus.monitoring.svc/"] {
            let access = Allowed::default().access(url, "n");
            let server = Server::new((url, access), &token, None, None).unwrap();
            assert!(!format!("{server:?}").contains("token-1"));
            let asked = server
                .ask(&probe, ("/", &[]), Duration::from_secs(30))
                .await;
            assert!(matches!(asked, Err(ProbeError::NotPublic(_))), "{url}");
        }
        let two = Credentials::Bearer(SecretString::from("two\nlines"));
        let server = Server::new(("https://p.example", Access::Public), &two, None, None);
        assert!(matches!(server, Err(ProbeError::BadToken)));
    }
}
