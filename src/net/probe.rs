//! HTTPS requests to the application by its public name, as its users make them.
//!
//! The host is the app's own or one of its hostnames, or that of a calendar whose address a Secret has;
//! never one from a field. Addresses are checked when connecting and the checked address is used, so
//! DNS rebinding has no effect. No credentials are sent, and fetched content is never shown.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Method, Request, header};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::TcpStream,
    sync::Semaphore,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    exchange::send,
    probe_error::MAX_REDIRECTS,
    public_address::{is_public, may_be_public},
    resolve::Resolve,
    tls::{self, SetupError},
};
pub use super::{
    exchange::{Answer, Keep},
    probe_error::ProbeError,
};
use crate::clock::ServerClock;

/// Limit of a page, in bytes.
pub const MAX_BODY: usize = 1 << 20;

/// Limit of a page of metrics, in bytes.
pub const MAX_METRICS: usize = 4 << 20;

/// How long a TCP connection must stay open when the application sends nothing.
const HOLD: Duration = Duration::from_secs(2);

/// Lookups at once of names that users point somewhere, whose servers may be anybody's. Each occupies
/// a thread until the resolver gives up, also when nobody waits any more.
const LOOKUPS_OF_HOSTNAMES: usize = 32;

/// Lookups at once of the applications' own names.
const LOOKUPS_OF_APPS: usize = 64;

/// Sends requests to applications.
#[derive(Clone, Debug)]
pub struct Probe {
    resolve: Arc<[Resolve]>,
    tls: Arc<rustls::ClientConfig>,
    of_hostnames: Arc<Semaphore>,
    of_apps: Arc<Semaphore>,
    /// Whether names are looked up as they are, without the search domains of the cluster.
    absolute: bool,
}

/// A port of the host, and whether it is spoken to with TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Door {
    /// The port.
    pub port: u16,
    /// Whether with TLS.
    pub tls: bool,
}

impl Door {
    /// HTTPS.
    pub const HTTPS: Self = Self {
        port: 443,
        tls: true,
    };
}

/// A request.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// Where it goes. Redirects are followed on HTTPS alone.
    pub door: Door,
    /// GET or HEAD.
    pub method: Method,
    /// Path and query.
    pub path: &'a str,
    /// Limit of the body, in bytes.
    pub limit: usize,
    /// Expected statuses. A redirect with one of them is not followed.
    pub wanted: &'a [u16],
    /// Whether a redirect to elsewhere is an answer, and not an error.
    pub any_answer: bool,
}

/// What a TCP connection showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// The application sent something.
    Spoke,
    /// It sent nothing, and the connection stays open.
    Stays,
}

impl Probe {
    /// With these overrides of DNS, and the certificate authorities of `ca_file` beside the
    /// system's. Certificates must be valid by this clock.
    ///
    /// # Errors
    /// When `ca_file` cannot be used.
    pub fn new(
        resolve: &[Resolve],
        ca_file: Option<&Path>,
        clock: &ServerClock,
    ) -> Result<Self, SetupError> {
        Ok(Self {
            resolve: resolve.into(),
            tls: Arc::new(tls::config(ca_file, clock)?),
            of_hostnames: Arc::new(Semaphore::new(LOOKUPS_OF_HOSTNAMES)),
            of_apps: Arc::new(Semaphore::new(LOOKUPS_OF_APPS)),
            absolute: false,
        })
    }

    /// The same for hosts that users name: their names are looked up beside those of applications, so
    /// that slow servers of names hold up no application. In a cluster a name with few dots is first looked up
    /// in its search domains (kubernetes.io, "DNS for Services and Pods"): `postgres.other` would say whether
    /// another namespace has such a Service.
    #[must_use]
    pub fn for_strangers(&self) -> Self {
        Self {
            of_apps: self.of_hostnames.clone(),
            absolute: true,
            ..self.clone()
        }
    }

    /// The name that the resolver is asked for.
    fn asked(&self, host: &str) -> String {
        let dot = if self.absolute && !host.ends_with('.') {
            "."
        } else {
            ""
        };
        format!("{host}{dot}")
    }

    /// One request to the host, in at most `timeout`, including redirects on the same host.
    ///
    /// # Errors
    /// When there is no response, with the cause.
    pub async fn request(
        &self,
        host: &str,
        ask: &Ask<'_>,
        timeout: Duration,
    ) -> Result<Answer, ProbeError> {
        let began = Instant::now();
        let follow = async {
            let mut path = ask.path.to_owned();
            let mut redirects = 0;
            loop {
                let answer = self.once(ask, host, &path, began).await?;
                match next(ask, host, &path, &answer)? {
                    None => return Ok(answer),
                    Some(_) if redirects == MAX_REDIRECTS && ask.any_answer => return Ok(answer),
                    Some(_) if redirects == MAX_REDIRECTS => return Err(ProbeError::Redirected),
                    Some(to) => path = to,
                }
                redirects += 1;
            }
        };
        tokio::time::timeout(timeout, follow)
            .await
            .unwrap_or(Err(ProbeError::TimedOut(timeout)))
    }

    /// Whether a TCP port of the host can be connected to, with TLS if `tls`. Fly.io's edge accepts a
    /// connection before it has found a machine for it, so the connection must stay open for a moment,
    /// or the application must send something.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn connect(
        &self,
        host: &str,
        port: u16,
        tls: bool,
        timeout: Duration,
    ) -> Result<Opened, ProbeError> {
        let open = async {
            let mut stream = self.stream(host, port).await?;
            let hold = HOLD.min(timeout / 2);
            if tls {
                let mut stream = self.handshake(self.tls(), host, stream).await?;
                stays_open(host, &mut stream, hold).await
            } else {
                stays_open(host, &mut stream, hold).await
            }
        };
        tokio::time::timeout(timeout, open)
            .await
            .unwrap_or(Err(ProbeError::TimedOut(timeout)))
    }

    /// The addresses of a host, as its users resolve them. Connects to nothing.
    ///
    /// # Errors
    /// When it has none, or the resolver does not answer in time.
    pub async fn resolve(&self, host: &str, timeout: Duration) -> Result<Vec<IpAddr>, ProbeError> {
        let port = 443;
        if let Some(over) = self.resolve.iter().find(|rule| rule.applies(host, port)) {
            return Ok(vec![over.target(port).ip()]);
        }
        let lookup = lookup(&self.of_hostnames, host, port);
        let found = tokio::time::timeout(timeout, lookup)
            .await
            .map_err(|_| ProbeError::TimedOut(timeout))?
            .map_err(|_| ProbeError::NotResolved(host.to_owned()))?;
        Ok(found.into_iter().map(|address| address.ip()).collect())
    }

    async fn once(
        &self,
        ask: &Ask<'_>,
        host: &str,
        path: &str,
        began: Instant,
    ) -> Result<Answer, ProbeError> {
        let stream = self.stream(host, ask.door.port).await?;
        if ask.door.tls {
            let stream = self.handshake(self.tls(), host, stream).await?;
            exchange(stream, ask, host, path, began).await
        } else {
            exchange(stream, ask, host, path, began).await
        }
    }

    /// The configuration of TLS.
    pub fn tls(&self) -> Arc<rustls::ClientConfig> {
        self.tls.clone()
    }

    /// Begins TLS with the host.
    pub(super) async fn handshake(
        &self,
        tls: Arc<rustls::ClientConfig>,
        host: &str,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, ProbeError> {
        let name = rustls::pki_types::ServerName::try_from(host.to_owned())
            .map_err(|_| ProbeError::NotResolved(host.to_owned()))?;
        let connected = TlsConnector::from(tls).connect(name, stream).await;
        connected.map_err(|error| {
            let inner = error.get_ref();
            let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
            match tls {
                Some(rustls::Error::AlertReceived(_)) | None => {
                    ProbeError::TlsRefused(host.to_owned())
                }
                Some(_) => ProbeError::Tls(host.to_owned()),
            }
        })
    }

    /// Connects to a checked address of the host.
    pub(super) async fn stream(&self, host: &str, port: u16) -> Result<TcpStream, ProbeError> {
        let addresses = self.addresses(host, port).await?;
        let mut unroutable = false;
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => unroutable |= address.is_ipv6() && has_no_route(&error),
            }
        }
        // A shared IPv4 address carries 80 and 443 alone: for other ports IPv6 may be the only way.
        if unroutable && !matches!(port, 80 | 443) {
            return Err(ProbeError::NoRoute(host.to_owned()));
        }
        Err(ProbeError::Connect(host.to_owned()))
    }

    /// Whether the operator's flags say where this host and port are.
    pub(super) fn is_overridden(&self, host: &str, port: u16) -> bool {
        self.resolve.iter().any(|rule| rule.applies(host, port))
    }

    async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, ProbeError> {
        // The operator's flags may name any address.
        if let Some(over) = self.resolve.iter().find(|rule| rule.applies(host, port)) {
            return Ok(vec![over.target(port)]);
        }
        // Literal addresses and names of the cluster are refused.
        let named = url::Host::parse(host).map_err(|_| ProbeError::NotResolved(host.to_owned()))?;
        let is_name = matches!(named, url::Host::Domain(_));
        if !is_name || !may_be_public(&borrowed(&named)) {
            return Err(ProbeError::NotPublic(host.to_owned()));
        }
        let found = lookup(&self.of_apps, &self.asked(host), port)
            .await
            .map_err(|error| not_found(&error, host))?;
        if found.is_empty() {
            return Err(ProbeError::NotResolved(host.to_owned()));
        }
        // One private address among public ones suffices to refuse: any of them might be used.
        if found.iter().any(|address| !is_public(address.ip())) {
            return Err(ProbeError::NotPublic(host.to_owned()));
        }
        Ok(found)
    }
}

/// Looks a name up. Its place is free once the resolver has answered, also when this is dropped
/// before.
async fn lookup(limit: &Arc<Semaphore>, host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
    let place = limit.clone().acquire_owned().await;
    let place = place.map_err(std::io::Error::other)?;
    let host = host.to_owned();
    let found = tokio::spawn(async move {
        let found = tokio::net::lookup_host((host, port)).await;
        drop(place);
        found.map(Iterator::collect)
    });
    found.await?
}

/// One request over this connection.
async fn exchange<S>(
    stream: S,
    ask: &Ask<'_>,
    host: &str,
    path: &str,
    began: Instant,
) -> Result<Answer, ProbeError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let named = match ask.door {
        Door::HTTPS => host.to_owned(),
        Door { port, .. } => format!("{host}:{port}"),
    };
    let request = Request::builder()
        .method(ask.method.clone())
        .uri(path)
        .header(header::HOST, named)
        .header(
            header::USER_AGENT,
            concat!("golive/", env!("CARGO_PKG_VERSION")),
        )
        // Without it a server may compress as it likes (RFC 9110, section 12.5.3).
        .header(header::ACCEPT_ENCODING, "identity")
        .body(Empty::<Bytes>::new())
        .map_err(|_| ProbeError::BadPath)?;
    let answer = send(stream, request, (host, ask.limit), Keep::Body).await?;
    Ok(Answer {
        took: began.elapsed(),
        ..answer
    })
}

/// Whether this host has no way to the address.
fn has_no_route(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable | ErrorKind::AddrNotAvailable
    )
}

/// Waits until something arrives, or the connection has stayed open for `hold`.
async fn stays_open(
    host: &str,
    stream: &mut (impl AsyncRead + Unpin),
    hold: Duration,
) -> Result<Opened, ProbeError> {
    let mut some = [0; 64];
    match tokio::time::timeout(hold, stream.read(&mut some)).await {
        Err(_) => Ok(Opened::Stays),
        Ok(Ok(1..)) => Ok(Opened::Spoke),
        Ok(_) => Err(ProbeError::Closed(host.to_owned())),
    }
}

/// Where to go on after an answer; `None` when it is the last one.
fn next(
    ask: &Ask<'_>,
    host: &str,
    path: &str,
    answer: &Answer,
) -> Result<Option<String>, ProbeError> {
    if !(300..400).contains(&answer.status) || ask.wanted.contains(&answer.status) {
        return Ok(None);
    }
    if ask.door != Door::HTTPS {
        return Ok(None);
    }
    let sets_cookie = answer.headers.contains_key(header::SET_COOKIE);
    match location(answer, host) {
        Location::None => Ok(None),
        Location::Elsewhere | Location::Insecure(_) if !ask.any_answer => {
            Err(ProbeError::Redirected)
        }
        Location::Elsewhere => Ok(None),
        // With a cookie the next answer may differ.
        Location::Here(to) | Location::Insecure(to)
            if ask.any_answer && to == path && !sets_cookie =>
        {
            Err(ProbeError::RedirectLoop)
        }
        Location::Insecure(_) => Ok(None),
        Location::Here(to) => Ok(Some(to)),
    }
}

/// Tells a name that does not exist from an outage of the resolver. `getaddrinfo` has codes for
/// both (`EAI_NONAME`; `EAI_AGAIN`, `EAI_SYSTEM`), but the standard library keeps only the message,
/// here of glibc and musl.
fn not_found(error: &std::io::Error, host: &str) -> ProbeError {
    let message = error.to_string();
    let absent = [
        "Name or service not known",
        "No address associated with hostname",
        "Name does not resolve",
        "Name has no usable address",
    ];
    if absent.iter().any(|absent| message.contains(absent)) {
        ProbeError::NotResolved(host.to_owned())
    } else {
        ProbeError::NoResolver(host.to_owned())
    }
}

fn borrowed(host: &url::Host<String>) -> url::Host<&str> {
    match host {
        url::Host::Domain(name) => url::Host::Domain(name),
        url::Host::Ipv4(ip) => url::Host::Ipv4(*ip),
        url::Host::Ipv6(ip) => url::Host::Ipv6(*ip),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Location {
    None,
    /// A path on the same host over HTTPS.
    Here(String),
    /// A path on the same host over plain HTTP.
    Insecure(String),
    Elsewhere,
}

/// Target of a redirect: a path on the same host, or elsewhere.
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
            if url.host_str() == Some(host)
                && url.port().is_none()
                && url.username().is_empty() =>
        {
            let query = url
                .query()
                .map_or(String::new(), |query| format!("?{query}"));
            let path = format!("{}{query}", url.path());
            match url.scheme() {
                "https" => Location::Here(path),
                "http" => Location::Insecure(path),
                _ => Location::Elsewhere,
            }
        }
        _ => Location::Elsewhere,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn probe(resolve: &[&str]) -> Probe {
        let rules: Vec<Resolve> = resolve
            .iter()
            .map(|rule| Resolve::parse(rule).unwrap())
            .collect();
        Probe::new(&rules, None, &ServerClock::of_kubernetes()).unwrap()
    }

    async fn refused(probe: &Probe, host: &str) -> ProbeError {
        let limit = Duration::from_secs(5);
        probe.connect(host, 443, false, limit).await.unwrap_err()
    }

    #[tokio::test]
    async fn only_public_names_are_connected_to() {
        let probe = probe(&[]);
        for host in [
            "127.0.0.1",
            "169.254.169.254",
            "10.0.0.1",
            "[::1]",
            "[fdaa::3]",
            "[::ffff:169.254.169.254]",
            "0x7f000001",
            "017700000001",
            "127.1",
            "0",
            "localhost",
            "localhost.",
            "a.localhost",
            "kubernetes",
            "kubernetes.default.svc",
            "x.internal",
            "x.flycast",
            "x.local",
            "8.8.8.8",
        ] {
            let error = refused(&probe, host).await;
            assert_eq!(error, ProbeError::NotPublic(host.to_owned()), "{host}");
        }
        for host in ["user@host.example", "host.example/x", "a b", ""] {
            let error = refused(&probe, host).await;
            assert!(
                matches!(error, ProbeError::NotResolved(_)),
                "{host}: {error}"
            );
        }
    }

    #[tokio::test]
    async fn the_operator_alone_may_lead_a_name_elsewhere() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let probe = probe(&[&format!("*.fly.dev:443={to}")]);
        let limit = Duration::from_secs(5);
        let (opened, _held) = tokio::join!(
            probe.connect("shop.fly.dev", 443, false, limit),
            listener.accept()
        );
        assert_eq!(opened, Ok(Opened::Stays));
        // The rule is for one port and the names under one domain.
        assert!(matches!(
            refused(&probe, "localhost").await,
            ProbeError::NotPublic(_)
        ));
    }

    #[test]
    fn a_resolver_that_does_not_answer_says_nothing_about_a_name() {
        let said = |words: &str| not_found(&std::io::Error::other(words), "shop.fly.dev");
        let lookup = "failed to lookup address information: ";
        for absent in ["Name or service not known", "Name does not resolve"] {
            let error = said(&format!("{lookup}{absent}"));
            assert!(matches!(error, ProbeError::NotResolved(_)), "{absent}");
        }
        for outage in [
            "Temporary failure in name resolution",
            "Try again",
            "System error",
        ] {
            let error = said(&format!("{lookup}{outage}"));
            assert!(matches!(error, ProbeError::NoResolver(_)), "{outage}");
            assert!(error.is_ours());
        }
    }

    #[tokio::test]
    async fn a_name_that_does_not_exist_is_not_resolved() {
        // RFC 6761: the name never exists. Without a resolver the error says so.
        let found = probe(&[]).addresses("shop.invalid", 443).await;
        assert!(matches!(
            found,
            Err(ProbeError::NotResolved(_) | ProbeError::NoResolver(_))
        ));
    }

    #[test]
    fn redirects_stay_on_the_host_and_on_https() {
        let to = |location: &str| {
            let headers = [(
                header::LOCATION,
                hyper::header::HeaderValue::from_str(location).unwrap(),
            )];
            let answer = Answer {
                status: 302,
                headers: headers.into_iter().collect(),
                body: Bytes::new(),
                took: Duration::ZERO,
            };
            location_of(&answer)
        };
        fn location_of(answer: &Answer) -> Location {
            location(answer, "shop.fly.dev")
        }
        for (location, here) in [
            ("/login?next=/", Some("/login?next=/")),
            ("https://shop.fly.dev/a", Some("/a")),
            ("https://shop.fly.dev:8443/a", None),
            ("https://shop.fly.dev@evil.example/", None),
            ("https://u@shop.fly.dev/", None),
            ("https://evil.example/", None),
            ("//evil.example/", None),
            ("http://169.254.169.254/latest", None),
            ("file:///etc/passwd", None),
        ] {
            let wanted = here.map_or(Location::Elsewhere, |path| Location::Here(path.to_owned()));
            assert_eq!(to(location), wanted, "{location}");
        }
        let insecure = Location::Insecure("/a".to_owned());
        assert_eq!(to("http://shop.fly.dev/a"), insecure);
    }

    #[test]
    fn a_redirect_is_an_answer_only_for_a_check_that_takes_any() {
        let answered = |location: &str, cookie: bool| {
            let value = |text: &str| header::HeaderValue::from_str(text).unwrap();
            let mut headers = hyper::HeaderMap::new();
            headers.insert(header::LOCATION, value(location));
            if cookie {
                headers.insert(header::SET_COOKIE, value("seen=1"));
            }
            Answer {
                status: 302,
                headers,
                body: Bytes::new(),
                took: Duration::ZERO,
            }
        };
        let go_on = |any_answer: bool, location: &str, cookie: bool| {
            let ask = Ask {
                door: Door::HTTPS,
                method: Method::GET,
                path: "/",
                limit: 1,
                wanted: &[200],
                any_answer,
            };
            next(&ask, "shop.fly.dev", "/", &answered(location, cookie))
        };
        for elsewhere in ["https://login.example/", "http://shop.fly.dev/login"] {
            assert_eq!(go_on(false, elsewhere, false), Err(ProbeError::Redirected));
            assert_eq!(go_on(true, elsewhere, false), Ok(None), "{elsewhere}");
        }
        assert_eq!(go_on(true, "/login", false), Ok(Some("/login".to_owned())));
        for itself in ["https://shop.fly.dev/", "http://shop.fly.dev/"] {
            assert_eq!(go_on(true, itself, false), Err(ProbeError::RedirectLoop));
        }
        assert_eq!(go_on(true, "/", true), Ok(Some("/".to_owned())), "a cookie");
    }

    #[test]
    fn a_host_that_a_secret_names_is_looked_up_without_the_domains_of_the_cluster() {
        let own = probe(&[]);
        let strangers = own.for_strangers();
        assert_eq!(own.asked("shop.fly.dev"), "shop.fly.dev");
        assert_eq!(strangers.asked("postgres.other"), "postgres.other.");
        assert_eq!(strangers.asked("h.example."), "h.example.");
    }

    #[tokio::test]
    async fn no_page_is_compressed_because_nobody_has_said_not_to() {
        use tokio::io::AsyncWriteExt;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let probe = probe(&[&format!("*.fly.dev:8080={to}")]);
        let ask = Ask {
            door: Door {
                port: 8080,
                tls: false,
            },
            method: Method::GET,
            path: "/export.ics",
            limit: 10,
            wanted: &[200],
            any_answer: false,
        };
        let limit = Duration::from_secs(30);
        let (answer, got) = tokio::join!(probe.request("shop.fly.dev", &ask, limit), async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut got = String::new();
            while !got.ends_with("\r\n\r\n") {
                let mut some = [0; 1024];
                let count = stream.read(&mut some).await.unwrap();
                assert!(count > 0, "{got}");
                got.push_str(std::str::from_utf8(&some[..count]).unwrap());
            }
            // HTTP/1.0, without a length: the end of the connection is the end of the page.
            stream
                .write_all(b"HTTP/1.0 200 OK\r\n\r\npage")
                .await
                .unwrap();
            got
        });
        assert_eq!(&*answer.unwrap().body, b"page");
        // RFC 9110, 12.5.3: without the field, any coding is acceptable.
        let got = got.to_lowercase();
        assert!(got.contains("\r\naccept-encoding: identity\r\n"), "{got}");
    }

    #[tokio::test]
    async fn a_connection_must_stay_open_or_bring_something() {
        use tokio::io::AsyncWriteExt;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let probe = probe(&[&format!("*.fly.dev:22={to}")]);
        let connect = || probe.connect("shop.fly.dev", 22, false, Duration::from_millis(400));
        let (closed, _) = tokio::join!(connect(), async {
            drop(listener.accept().await.unwrap());
        });
        assert!(matches!(closed, Err(ProbeError::Closed(_))), "{closed:?}");
        let (spoke, _) = tokio::join!(connect(), async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"SSH-2.0-x").await.unwrap();
        });
        assert_eq!(spoke, Ok(Opened::Spoke));
        let (stays, _held) = tokio::join!(connect(), listener.accept());
        assert_eq!(stays, Ok(Opened::Stays));
    }
}
