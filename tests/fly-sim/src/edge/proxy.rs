//! One request through the edge: which app, which machine, and what when there is none.

use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::core::{CallId, Core, Shared};
use crate::http::Peer;
use crate::id;
use crate::logs::Line;
use crate::machine::config::{Port, Service};
use crate::machine::{Machine, Source, State, start_machine};

/// Bodies up to this size are kept, so that the request can go to another machine.
const REPLAY_LIMIT: u64 = 256 * 1024;

/// Longest wait for a machine that the edge has started.
const START_LIMIT: Duration = Duration::from_secs(30);

/// The request header that names the machine.
const FORCE: &str = "fly-force-instance-id";

/// Headers that belong to one connection.
const HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The app that a hostname belongs to, if the edge answers for it.
pub fn app_for(core: &Core, host: &str) -> Option<String> {
    core.read(|world| {
        let app = match host.strip_suffix(".fly.dev") {
            Some(name) => world.apps.get(name)?,
            None => world.apps.values().find(|app| {
                app.platform
                    .active_hostnames()
                    .iter()
                    .any(|active| active.eq_ignore_ascii_case(host))
            })?,
        };
        app.platform.has_public_address().then(|| app.name.clone())
    })
}

fn host_of(request: &Request<Body>) -> Option<String> {
    let host = request
        .uri()
        .authority()
        .map(|authority| authority.as_str().to_owned())
        .or_else(|| {
            let value = request.headers().get(header::HOST)?;
            Some(value.to_str().ok()?.to_owned())
        })?;
    let name = host
        .rsplit_once(':')
        .map_or(host.as_str(), |(name, _)| name);
    Some(name.to_ascii_lowercase())
}

/// Where a connection comes in.
#[derive(Clone, Copy, Debug)]
pub struct Door {
    /// Whether the edge has ended TLS.
    pub tls: bool,
    /// The public port.
    pub port: u16,
    /// Whether it speaks HTTP.
    pub http: bool,
}

impl Door {
    /// Plain HTTP.
    pub const HTTP: Self = Self {
        tls: false,
        port: 80,
        http: true,
    };
    /// HTTPS.
    pub const HTTPS: Self = Self {
        tls: true,
        port: 443,
        http: true,
    };
}

/// A machine that can take the request.
pub struct Target {
    id: String,
    /// Its address.
    pub ip: Ipv4Addr,
    /// The port inside.
    pub port: u16,
    /// Whether it is spoken to by HTTP/2 without TLS (`h2_backend`).
    pub h2: bool,
    /// Requests and connections that it works on.
    pub in_flight: Arc<AtomicUsize>,
}

/// The port of a service that a request or connection through this door comes in on.
fn entrance(service: &Service, door: Door) -> Option<&Port> {
    let number = door.port;
    if service.protocol.as_deref() == Some("udp") {
        return None;
    }
    service.ports.iter().flatten().find(|port| {
        let covers = port.port == Some(number)
            || matches!((port.start_port, port.end_port), (Some(low), Some(high)) if (low..=high).contains(&number));
        let has = |handler: &str| {
            port.handlers
                .iter()
                .flatten()
                .any(|is| is == handler)
        };
        covers && has("tls") == door.tls && has("http") == door.http
    })
}

/// Whether the service wants HTTP/2 without TLS (fly.io/docs/reference/configuration, `h2_backend`).
fn speaks_h2(port: &Port) -> bool {
    let options = port.http_options.as_ref();
    options.is_some_and(|options| options["h2_backend"] == true)
}

/// What the edge finds when it looks for a machine.
pub enum Found {
    /// This one.
    Machine(Target),
    /// Plain HTTP is not wanted.
    Redirect,
    /// A machine is on its way up or can be started.
    Soon,
    /// No machine is there that could ever answer.
    Nothing,
}

/// Looks for a machine behind a door, and starts one that sleeps. `forced` is the only one that will do: it
/// gets the request also while its checks fail (superfly/docs, `networking/dynamic-request-routing`: "Forces
/// routing to a specific Machine. The Fly Proxy will attempt to reach the Machine multiple times if the
/// Machine is unhealthy. No fallback if Machine is ultimately unavailable").
pub fn choose(
    core: &Shared,
    app: &str,
    door: Door,
    tried: &[String],
    forced: Option<&str>,
) -> Found {
    let mut started = None;
    let found = core.read(|world| {
        let Some(app) = world.apps.get(app) else {
            return Found::Nothing;
        };
        let mut best: Option<(usize, Instant, Target)> = None;
        let mut soon = false;
        let mut asleep: Option<&Machine> = None;
        for machine in app.live_machines() {
            if forced.is_some_and(|forced| forced != machine.id) {
                continue;
            }
            for service in machine.config.services.iter().flatten() {
                let (Some(entrance), Some(port)) = (entrance(service, door), service.internal_port)
                else {
                    continue;
                };
                if entrance.force_https == Some(true) && !door.tls {
                    return Found::Redirect;
                }
                let takes = match forced {
                    Some(_) => machine.state == State::Started && !machine.cordoned,
                    None => machine.is_routable(port),
                };
                if takes {
                    if tried.contains(&machine.id) {
                        continue;
                    }
                    let load = machine.in_flight.load(Ordering::Relaxed);
                    let better = best.as_ref().is_none_or(|(least, last, _)| {
                        (load, machine.last_request) < (*least, *last)
                    });
                    if better {
                        let target = Target {
                            id: machine.id.clone(),
                            ip: machine.ip,
                            port,
                            h2: speaks_h2(entrance),
                            in_flight: Arc::clone(&machine.in_flight),
                        };
                        best = Some((load, machine.last_request, target));
                    }
                    continue;
                }
                match machine.state {
                    State::Stopped | State::Suspended
                        if service.autostart == Some(true) && !machine.cordoned =>
                    {
                        asleep = Some(machine);
                    }
                    State::Starting | State::Restarting | State::Replacing => soon = true,
                    _ => {}
                }
            }
        }
        if let Some((_, _, target)) = best {
            return Found::Machine(target);
        }
        if let Some(machine) = asleep {
            started = Some(machine.id.clone());
            return Found::Soon;
        }
        if soon { Found::Soon } else { Found::Nothing }
    });
    if let Found::Machine(target) = &found {
        // Without waking everybody who waits for a change: nobody waits for this one.
        core.touch(app, &target.id);
    }
    if let Some(id) = started {
        autostart(core, app, &id);
    }
    found
}

/// Starts a machine for a request. A lease blocks that, as on Fly.
fn autostart(core: &Shared, app: &str, id: &str) {
    let done = core.write(|world| {
        let machine = world.apps.get_mut(app)?.machines.get_mut(id)?;
        if let Err(error) = machine.check_lease(None) {
            return Some(Err(error.message));
        }
        match start_machine(machine, Source::Proxy) {
            Ok(true) => Some(Ok((machine.name.clone(), machine.metadata.clone()))),
            _ => None,
        }
    });
    match done {
        Some(Ok((name, owner))) => {
            let detail = serde_json::json!({});
            core.effect(
                CallId(None),
                "machine.autostart",
                Some(app),
                id,
                &name,
                owner,
                detail,
            );
        }
        Some(Err(why)) => say(
            core,
            app,
            id,
            format!("[PM01] machines API returned an error: \"{why}\""),
        ),
        None => {}
    }
}

fn say(core: &Core, app: &str, id: &str, message: String) {
    core.logs.push(
        app,
        Line {
            nanos: 0,
            message,
            level: "error",
            instance: id.to_owned(),
            region: String::new(),
            provider: "proxy",
        },
    );
}

/// Answers one request.
pub async fn handle(core: Shared, door: Door, request: Request<Body>) -> Response {
    let began = Instant::now();
    let request_id = id::ulid();
    let Some(host) = host_of(&request) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let Some(app) = app_for(&core, &host) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let mut response = route(&core, &app, &host, door, request, &request_id).await;
    let headers = response.headers_mut();
    headers.insert(header::SERVER, HeaderValue::from_static("Fly/sim"));
    headers.insert(header::VIA, HeaderValue::from_static("1.1 fly.io"));
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        headers.insert("fly-request-id", value);
    }
    core.ledger.note_answer(&app, response.status().as_u16());
    core.edge
        .response(&app, &host, response.status().as_u16(), began.elapsed());
    response
}

async fn route(
    core: &Shared,
    app: &str,
    host: &str,
    door: Door,
    request: Request<Body>,
    request_id: &str,
) -> Response {
    let forced = request.headers().get(FORCE);
    let forced = forced.map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned());
    let mut request = match Replay::new(request, host, door, request_id).await {
        Ok(request) => request,
        Err(status) => return status.into_response(),
    };
    let began = Instant::now();
    let mut tried = Vec::new();
    let patience = core.options.edge_patience;
    let mut deadline = tokio::time::Instant::now() + patience;
    let at_latest = tokio::time::Instant::now() + patience.max(START_LIMIT);
    let mut changes = core.changes();
    let mut refused: Vec<String> = Vec::new();
    loop {
        changes.mark_unchanged();
        match choose(core, app, door, &tried, forced.as_deref()) {
            Found::Redirect => {
                let path = request
                    .uri
                    .path_and_query()
                    .map_or("/", |path| path.as_str());
                let location = format!("https://{host}{path}");
                return (
                    StatusCode::MOVED_PERMANENTLY,
                    [(header::LOCATION, location)],
                )
                    .into_response();
            }
            Found::Machine(target) => match send(&mut request, &target).await {
                Sent::Answer(response) => {
                    let status = response.status().as_u16();
                    core.edge.machine(app, &target.id, status, began.elapsed());
                    return response;
                }
                Sent::TryAnother(why) => {
                    // Once for each request and machine.
                    if !refused.contains(&target.id) {
                        refused.push(target.id.clone());
                        say(core, app, &target.id, why);
                    }
                    tried.push(target.id);
                    continue;
                }
                Sent::Failed(why) => {
                    say(
                        core,
                        app,
                        &target.id,
                        format!("[PU02] could not complete HTTP request to instance: {why}"),
                    );
                    return StatusCode::BAD_GATEWAY.into_response();
                }
            },
            Found::Soon => {
                // Something comes up: that is worth more patience, but not for ever.
                deadline = (tokio::time::Instant::now() + patience).min(at_latest);
            }
            Found::Nothing => {}
        }
        // A machine that refused once may be up by the next look.
        tried.clear();
        let pause = tokio::time::Instant::now() + Duration::from_millis(50);
        if tokio::time::Instant::now() >= deadline {
            break;
        }
        let _ = tokio::time::timeout_at(deadline.min(pause), changes.changed()).await;
    }
    say(
        core,
        app,
        "",
        "[PR01] no known healthy instances found for route tcp/443. (hint: is your app shut down? is there an ongoing deployment with a volume or are you using the 'immediate' strategy? have your app's instances all reached their hard limit?)"
            .to_owned(),
    );
    if !refused.is_empty() {
        StatusCode::BAD_GATEWAY.into_response()
    } else {
        StatusCode::SERVICE_UNAVAILABLE.into_response()
    }
}

/// A request that can be sent again, as long as its body was short enough to keep.
struct Replay {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    kept: Option<Bytes>,
    stream: Option<Body>,
}

impl Replay {
    async fn new(
        request: Request<Body>,
        host: &str,
        door: Door,
        request_id: &str,
    ) -> Result<Self, StatusCode> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let uri = path.parse().map_err(|_| StatusCode::BAD_REQUEST)?;
        let mut headers = parts.headers;
        for name in HOP {
            headers.remove(*name);
        }
        let proto = if door.tls { "https" } else { "http" };
        let port = door.port.to_string();
        let peer = parts
            .extensions
            .get::<Peer>()
            .map_or_else(String::new, |peer| peer.0.ip().to_string());
        for (name, value) in [
            ("host", host),
            ("x-forwarded-proto", proto),
            ("fly-forwarded-proto", proto),
            ("x-forwarded-port", port.as_str()),
            ("x-forwarded-for", peer.as_str()),
            ("fly-client-ip", peer.as_str()),
            ("fly-region", "eze"),
            ("fly-request-id", request_id),
            ("via", "1.1 fly.io"),
        ] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        let short = hyper::body::Body::size_hint(&body)
            .upper()
            .is_some_and(|size| size <= REPLAY_LIMIT);
        let (kept, stream) = if short {
            let bytes = body
                .collect()
                .await
                .map_err(|_| StatusCode::BAD_REQUEST)?
                .to_bytes();
            (Some(bytes), None)
        } else {
            (None, Some(body))
        };
        Ok(Self {
            method: parts.method,
            uri,
            headers,
            kept,
            stream,
        })
    }

    fn request(&mut self) -> Option<Request<Body>> {
        let body = match (&self.kept, self.stream.take()) {
            (Some(bytes), _) => Body::from(bytes.clone()),
            (None, Some(stream)) => stream,
            (None, None) => return None,
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        Some(request)
    }

    /// May be sent twice without harm.
    fn is_safe(&self) -> bool {
        self.kept.is_some() && matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS)
    }
}

enum Sent {
    Answer(Response),
    /// Nothing has reached the program.
    TryAnother(String),
    Failed(String),
}

async fn send(request: &mut Replay, target: &Target) -> Sent {
    let guard = InFlight::new(&target.in_flight);
    let stream = match TcpStream::connect((target.ip, target.port)).await {
        Ok(stream) => stream,
        Err(_) => {
            return Sent::TryAnother(format!(
                "[PC01] instance refused connection. is your app listening on 0.0.0.0:{}? make sure it is not only listening on 127.0.0.1 (hint: look at your startup logs, servers often print the address they are listening on)",
                target.port
            ));
        }
    };
    let _ = stream.set_nodelay(true);
    if target.h2 {
        return send_h2(request, stream, guard).await;
    }
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = match handshake {
        Ok(pair) => pair,
        Err(error) => return Sent::TryAnother(incomplete(&error)),
    };
    tokio::spawn(connection);
    let safe = request.is_safe();
    let Some(outgoing) = request.request() else {
        return Sent::Failed("the request body was already sent".to_owned());
    };
    match sender.send_request(outgoing).await {
        Ok(response) => answered(response, guard),
        Err(error) if safe => Sent::TryAnother(incomplete(&error)),
        Err(error) => Sent::Failed(error.to_string()),
    }
}

/// The answer of a machine, which it works on until the body has ended.
fn answered(response: Response<hyper::body::Incoming>, guard: InFlight) -> Sent {
    let (mut parts, body) = response.into_parts();
    for name in HOP {
        parts.headers.remove(*name);
    }
    let body = Body::new(Counted {
        body: Body::new(body),
        _guard: guard,
    });
    Sent::Answer(Response::from_parts(parts, body))
}

/// Sends by HTTP/2 without TLS, with the trailers of gRPC.
async fn send_h2(request: &mut Replay, stream: TcpStream, guard: InFlight) -> Sent {
    let io = TokioIo::new(stream);
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
    let (mut sender, connection) = match handshake {
        Ok(pair) => pair,
        Err(error) => return Sent::TryAnother(incomplete(&error)),
    };
    tokio::spawn(connection);
    let Some(mut outgoing) = request.request() else {
        return Sent::Failed("the request body was already sent".to_owned());
    };
    let host = outgoing.headers_mut().remove(header::HOST);
    let host = host.as_ref().and_then(|host| host.to_str().ok());
    let uri = format!("http://{}{}", host.unwrap_or_default(), outgoing.uri());
    match uri.parse() {
        Ok(uri) => *outgoing.uri_mut() = uri,
        Err(_) => return Sent::Failed("the path cannot be used".to_owned()),
    }
    *outgoing.version_mut() = http::Version::HTTP_2;
    let trailers = HeaderValue::from_static("trailers");
    outgoing.headers_mut().insert(header::TE, trailers);
    match sender.send_request(outgoing).await {
        Ok(response) => answered(response, guard),
        Err(error) => Sent::Failed(error.to_string()),
    }
}

fn incomplete(error: &hyper::Error) -> String {
    format!("[PU02] could not complete HTTP request to instance: {error}")
}

/// Counts a request for as long as it lives.
struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    fn new(counter: &Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counter))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Counted {
    body: Body,
    _guard: InFlight,
}

impl hyper::body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}
