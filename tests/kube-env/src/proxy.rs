//! A proxy before the API server that injects faults: it refuses requests, loses responses, and holds
//! back requests and streams. Everything else is passed on unchanged.
//!
//! Clients speak HTTP/1.1 without TLS to it; what authenticates them is the proxy's own certificate, or
//! the bearer token that they send.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::client::ConfigExt as _;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::{Cluster, Error, Result};

type Sent = BoxBody<Bytes, hyper::Error>;
type Tls = hyper_rustls::HttpsConnector<HttpConnector>;

/// A request, as a rule sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Method.
    pub method: String,
    /// Path.
    pub path: String,
    /// Query.
    pub query: String,
}

impl Asked {
    /// Whether it changes something.
    pub fn changes(&self) -> bool {
        !["GET", "HEAD"].contains(&self.method.as_str())
    }

    /// Whether its response is a stream of changes.
    pub fn watches(&self) -> bool {
        self.query.split('&').any(|pair| pair == "watch=true")
    }

    /// Whether it is about objects of this plural.
    pub fn is_about(&self, plural: &str) -> bool {
        self.path.split('/').any(|part| part == plural)
    }
}

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not passed on.
    Refused {
        /// The status of the response.
        status: u16,
        /// The reason in it, as the API server would give it.
        reason: &'static str,
        /// `Retry-After` of the response, in seconds.
        retry_after: Option<u32>,
    },
    /// It is passed on, and this is the status of the response.
    Applied {
        /// The status.
        status: u16,
    },
    /// It is passed on, and the connection is closed instead of a response.
    Cut,
    /// The watch begins, and its only event is an error with this code.
    EndsWith {
        /// The code.
        code: u16,
    },
}

type Matches = Arc<dyn Fn(&Asked) -> bool + Send + Sync>;

struct Rule {
    matches: Matches,
    fault: Fault,
    /// How often it still applies.
    left: usize,
}

struct Shared {
    rules: Mutex<Vec<Rule>>,
    asked: Mutex<Vec<(Asked, Option<Fault>)>>,
    /// Whether nothing is passed on.
    frozen: watch::Sender<bool>,
    /// What streams may say.
    streams: watch::Sender<Streams>,
    client: legacy::Client<Tls, Sent>,
    upstream: Uri,
}

/// What streams may say.
#[derive(Clone, Copy, Debug, Default)]
struct Streams {
    /// Whether they are silent.
    muted: bool,
    /// Streams of an earlier generation have ended.
    generation: u64,
}

/// The proxy; ends when dropped.
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Starts one before this cluster.
    pub async fn start(cluster: &Cluster) -> Result<Self> {
        let config = cluster.config();
        let tls = config
            .rustls_client_config()
            .map_err(Error::kube("read the certificates of the cluster"))?;
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .enable_http1()
            .build();
        let shared = Arc::new(Shared {
            rules: Mutex::default(),
            asked: Mutex::default(),
            frozen: watch::Sender::new(false),
            streams: watch::Sender::default(),
            client: legacy::Client::builder(TokioExecutor::new()).build(connector),
            upstream: config.cluster_url,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.map_err(Error::file("listen on", "127.0.0.1"))?;
        let address = listener.local_addr();
        let address = address.map_err(Error::file("listen on", "127.0.0.1"))?;
        let task = tokio::spawn(serve(listener, shared.clone()));
        Ok(Self {
            shared,
            address,
            task,
        })
    }

    /// The configuration of a client with these rights that goes through the proxy.
    pub fn config(&self, rights: kube::Config) -> kube::Config {
        let mut config = rights;
        let url = format!("http://{}/", self.address);
        config.cluster_url = url.parse().unwrap_or(config.cluster_url);
        // The proxy authenticates itself; a client certificate means nothing without TLS.
        config.auth_info.client_certificate_data = None;
        config.auth_info.client_key_data = None;
        config
    }

    /// The next `times` requests for which this holds get this fault. Of several rules the first applies.
    pub fn fault(
        &self,
        times: usize,
        fault: Fault,
        matches: impl Fn(&Asked) -> bool + Send + Sync + 'static,
    ) {
        lock(&self.shared.rules).push(Rule {
            matches: Arc::new(matches),
            fault,
            left: times,
        });
    }

    /// Ends all rules.
    pub fn heal(&self) {
        lock(&self.shared.rules).clear();
    }

    /// Holds back every request until it is thawed: the API server hangs.
    pub fn freeze(&self, frozen: bool) {
        self.shared.frozen.send_replace(frozen);
    }

    /// Holds back everything that streams say, while requests are answered: the caches of clients are
    /// stale.
    pub fn mute(&self, muted: bool) {
        self.shared
            .streams
            .send_modify(|streams| streams.muted = muted);
    }

    /// Ends all streams, with what they have held back. New ones pass everything on.
    pub fn end_streams(&self) {
        self.shared.streams.send_modify(|streams| {
            streams.muted = false;
            streams.generation += 1;
        });
    }

    /// The requests so far, with their faults.
    pub fn asked(&self) -> Vec<(Asked, Option<Fault>)> {
        lock(&self.shared.asked).clone()
    }

    /// How many requests got a fault.
    pub fn faulted(&self) -> usize {
        let asked = lock(&self.shared.asked);
        asked.iter().filter(|(_, fault)| fault.is_some()).count()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = shared.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| pass(shared.clone(), request));
            // A client that goes away is no failure.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// The connection is closed without a response.
#[derive(Debug, thiserror::Error)]
#[error("the connection is cut")]
struct CutOff;

async fn pass(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> std::result::Result<Response<Sent>, CutOff> {
    let asked = Asked {
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
    };
    let fault = take(&shared, &asked);
    lock(&shared.asked).push((asked.clone(), fault.clone()));
    let mut frozen = shared.frozen.subscribe();
    let _ = frozen.wait_for(|frozen| !frozen).await;
    match fault {
        None => {
            let response = forward(&shared, request).await?;
            if !asked.watches() {
                return Ok(response);
            }
            let (head, body) = response.into_parts();
            let body = Mutable::new(body, shared.streams.subscribe()).boxed();
            Ok(Response::from_parts(head, body))
        }
        Some(Fault::Refused {
            status,
            reason,
            retry_after,
        }) => {
            let mut response = answer(status, reason);
            if let Some(seconds) = retry_after {
                let seconds = header::HeaderValue::from(seconds);
                response.headers_mut().insert(header::RETRY_AFTER, seconds);
            }
            Ok(response)
        }
        Some(Fault::Applied { status }) => {
            let response = forward(&shared, request).await?;
            let _ = response.into_body().collect().await;
            Ok(answer(status, "Timeout"))
        }
        Some(Fault::Cut) => {
            let response = forward(&shared, request).await?;
            let _ = response.into_body().collect().await;
            Err(CutOff)
        }
        Some(Fault::EndsWith { code }) => {
            let event = json!({"type": "ERROR", "object": status(code, "Expired")});
            Ok(json_response(StatusCode::OK, format!("{event}\n")))
        }
    }
}

/// The fault for this request.
fn take(shared: &Shared, asked: &Asked) -> Option<Fault> {
    let mut rules = lock(&shared.rules);
    let rule = rules
        .iter_mut()
        .find(|rule| rule.left > 0 && (rule.matches)(asked))?;
    rule.left -= 1;
    Some(rule.fault.clone())
}

async fn forward(
    shared: &Shared,
    request: Request<Incoming>,
) -> std::result::Result<Response<Sent>, CutOff> {
    let (mut head, body) = request.into_parts();
    let mut uri = shared.upstream.clone().into_parts();
    uri.path_and_query = head.uri.path_and_query().cloned();
    head.uri = Uri::from_parts(uri).map_err(|_| CutOff)?;
    head.headers.remove(header::HOST);
    let request = Request::from_parts(head, body.boxed());
    let response = shared.client.request(request).await.map_err(|_| CutOff)?;
    Ok(response.map(BodyExt::boxed))
}

/// A failure, as the API server writes it (`meta/v1` Status).
fn status(code: u16, reason: &str) -> serde_json::Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "injected by a test", "reason": reason, "code": code,
    })
}

fn answer(code: u16, reason: &str) -> Response<Sent> {
    let status_code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    json_response(status_code, status(code, reason).to_string())
}

fn json_response(code: StatusCode, text: String) -> Response<Sent> {
    let body = Full::new(Bytes::from(text)).map_err(|never: Infallible| match never {});
    let mut response = Response::new(body.boxed());
    *response.status_mut() = code;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// A body that says nothing while it is muted.
struct Mutable {
    body: Sent,
    streams: watch::Receiver<Streams>,
    generation: u64,
    /// The wait for the end of the silence.
    wait: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

impl Mutable {
    fn new(body: Sent, streams: watch::Receiver<Streams>) -> Self {
        let generation = streams.borrow().generation;
        Self {
            body,
            generation,
            streams,
            wait: None,
        }
    }
}

impl Body for Mutable {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, hyper::Error>>> {
        loop {
            if let Some(wait) = &mut self.wait {
                std::task::ready!(wait.as_mut().poll(cx));
                self.wait = None;
            }
            let now = *self.streams.borrow();
            if now.generation > self.generation {
                return Poll::Ready(None);
            }
            if now.muted {
                let mut streams = self.streams.clone();
                self.wait = Some(Box::pin(async move {
                    let _ = streams.wait_for(|streams| !streams.muted).await;
                }));
                continue;
            }
            return Pin::new(&mut self.body).poll_frame(cx);
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
