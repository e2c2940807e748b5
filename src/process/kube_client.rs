//! The client for the Kubernetes API server.
//!
//! kube retries 429, 503 and 504 of any verb for almost three minutes, and waits for responses
//! without a limit. Both are disabled: a retried POST can get a 409 caused by its own first
//! attempt, and an unresponsive API server must not block a reconcile. Errors are returned at once
//! or after [`CALL_TIMEOUT`]; the controller's backoff decides when to retry.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Either, Full};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ClientBuilder, ConfigExt as _};
use kube::{Client, Config};
use rustls::pki_types::ServerName;
use tower::{BoxError, Layer, Service, ServiceBuilder};

use crate::clock::ServerClock;
use crate::process::metrics::Metrics;

/// Time limit of a request, until the last byte of its response. A watch must only begin within
/// this time; kube has an idle timeout for the rest.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No kubeconfig or service account was found, or it cannot be read.
    #[error("cannot find a configuration for the API server")]
    Config(#[source] Box<kube::config::InferConfigError>),
    /// The configuration cannot be used.
    #[error("cannot create a client for the API server")]
    Client(#[source] Box<kube::Error>),
}

/// How the API server is reached. Each client that is created from it has a connection of its own.
#[derive(Clone)]
pub struct Connection {
    config: Config,
    metrics: Metrics,
    clock: ServerClock,
}

impl Connection {
    /// The API server of this configuration. `clock` becomes its clock.
    pub fn new(config: Config, metrics: &Metrics, clock: &ServerClock) -> Self {
        let (metrics, clock) = (metrics.clone(), clock.clone());
        Self {
            config,
            metrics,
            clock,
        }
    }

    /// The API server of `KUBECONFIG`, `~/.kube/config` or the pod's service account. Sends nothing.
    ///
    /// # Errors
    /// When no configuration is found, or it cannot be read.
    pub async fn infer(metrics: &Metrics, clock: &ServerClock) -> Result<Self, Error> {
        let config = Config::infer().await;
        let config = config.map_err(|error| Error::Config(Box::new(error)))?;
        Ok(Self::new(config, metrics, clock))
    }

    /// A client. It belongs to the runtime that this is called in. Sends nothing yet.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn client(&self) -> Result<Client, Error> {
        let client = build(self.config.clone(), &self.metrics, &self.clock);
        client.map_err(|error| Error::Client(Box::new(error)))
    }
}

/// Creates the client from this configuration. `clock` becomes that of its server.
pub fn build(mut config: Config, metrics: &Metrics, clock: &ServerClock) -> kube::Result<Client> {
    config.default_retry = false;
    let agent = concat!("golive/", env!("CARGO_PKG_VERSION"));
    let agent = (header::USER_AGENT, HeaderValue::from_static(agent));
    config.headers.push(agent);
    let host = host(&config.cluster_url);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(transport(&config)?);
    let client = ClientBuilder::new(service, config.default_namespace)
        .with_layer(&LimitLayer {
            limit: CALL_TIMEOUT,
        })
        .with_layer(&CountLayer {
            metrics: metrics.clone(),
            host,
            clock: clock.clone(),
        })
        .build();
    Ok(client)
}

/// Interval of HTTP/2 pings. A connection that does not answer within half of it is closed. As in
/// client-go.
const PING: Duration = Duration::from_secs(30);

/// One HTTP/2 connection for all requests, as in client-go. kube's own transport opens an HTTP/1.1
/// connection with a TLS handshake for each concurrent request, and leaves Nagle's algorithm
/// enabled, with which the first request waits 40 ms for the server's delayed acknowledgement.
fn transport(config: &Config) -> kube::Result<legacy::Client<HttpsConnector<HttpConnector>, Body>> {
    if let Some(proxy) = &config.proxy_url {
        return Err(kube::Error::ProxyProtocolDisabled {
            proxy_url: Box::new(proxy.clone()),
            protocol_feature: "kube/socks5 or kube/http-proxy",
        });
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(config.connect_timeout);
    let mut https = HttpsConnectorBuilder::new()
        .with_tls_config(config.rustls_client_config()?)
        .https_or_http();
    if let Some(name) = &config.tls_server_name {
        let name = ServerName::try_from(name.clone())
            .map_err(|error| kube::Error::Service(Box::new(error)))?;
        https = https.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    let client = legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .http2_adaptive_window(true)
        .http2_keep_alive_interval(PING)
        .http2_keep_alive_timeout(PING / 2)
        .build(https.enable_all_versions().wrap_connector(tcp));
    Ok(client)
}

/// `host:port`, as in client-go's label `host`.
fn host(url: &http::Uri) -> String {
    let host = url.host().unwrap_or_default();
    let default = if url.scheme_str() == Some("http") {
        80
    } else {
        443
    };
    format!("{host}:{}", url.port_u16().unwrap_or(default))
}

type Answering<B, E> = Pin<Box<dyn Future<Output = Result<Response<B>, E>> + Send>>;

/// A stream, or a complete response.
type Limited<B> = Either<B, Full<Bytes>>;

/// Counts requests by code, `rest_client_requests_total`, logs each, and reads the server's clock.
#[derive(Clone)]
struct CountLayer {
    metrics: Metrics,
    host: String,
    clock: ServerClock,
}

impl<S> Layer<S> for CountLayer {
    type Service = Count<S>;

    fn layer(&self, inner: S) -> Count<S> {
        Count {
            inner,
            layer: self.clone(),
        }
    }
}

#[derive(Clone)]
struct Count<S> {
    inner: S,
    layer: CountLayer,
}

impl<S, B> Service<Request<Body>> for Count<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = Answering<B, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let layer = self.layer.clone();
        let began = Instant::now();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            let code = answer.as_ref().ok().map(|answer| answer.status().as_u16());
            if let Ok(answer) = &answer {
                let date = answer.headers().get(header::DATE);
                let date = date.and_then(|date| date.to_str().ok());
                layer.clock.note(date, began);
            }
            layer.metrics.kube_call(&method, &layer.host, code);
            // Like each call to Fly.io, so that the log shows where the time of a go-live is spent.
            let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            tracing::debug!(%method, path, status = code, duration_ms, "Kubernetes answered");
            answer
        })
    }
}

/// Limits how long a request may take.
#[derive(Clone)]
struct LimitLayer {
    limit: Duration,
}

impl<S> Layer<S> for LimitLayer {
    type Service = Limit<S>;

    fn layer(&self, inner: S) -> Limit<S> {
        let limit = self.limit;
        Limit { inner, limit }
    }
}

#[derive(Clone)]
struct Limit<S> {
    inner: S,
    limit: Duration,
}

/// The API server did not answer in time. The outcome is unknown.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no answer from the API server within {} s", .0.as_secs())]
pub struct TimedOut(pub Duration);

impl<S, B> Service<Request<Body>> for Limit<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Limited<B>>;
    type Error = BoxError;
    type Future = Answering<Limited<B>, BoxError>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let limit = self.limit;
        let watch = is_watch(request.uri());
        let answer = self.inner.call(request);
        let bounded = async move {
            let (parts, body) = answer.await?.into_parts();
            let body = if watch {
                Either::Left(body)
            } else {
                let bytes = body.collect().await.map_err(Into::into)?.to_bytes();
                Either::Right(Full::new(bytes))
            };
            Ok(Response::from_parts(parts, body))
        };
        Box::pin(async move {
            match tokio::time::timeout(limit, bounded).await {
                Ok(answer) => answer,
                Err(_) => Err(Box::new(TimedOut(limit)) as BoxError),
            }
        })
    }
}

/// Whether the response is an endless stream.
fn is_watch(uri: &http::Uri) -> bool {
    uri.query().is_some_and(|query| {
        query
            .split('&')
            .any(|pair| matches!(pair, "watch=true" | "watch=1" | "follow=true"))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use tower::ServiceExt;

    const LIMIT: Duration = Duration::from_millis(100);

    /// An API server that answers at once, or hangs before or after the head of its answer.
    #[derive(Clone, Copy, PartialEq)]
    enum Server {
        Answers,
        HangsBeforeHead,
        HangsAfterHead,
    }

    type Answer = Result<
        Response<Limited<http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>>>,
        BoxError,
    >;

    async fn ask(uri: &str, server: Server) -> Answer {
        let metrics = Metrics::new();
        let host = "api:443".to_owned();
        let service = tower::service_fn(move |_: Request<Body>| async move {
            if server == Server::HangsBeforeHead {
                std::future::pending::<()>().await;
            }
            let chunk = async move {
                if server == Server::HangsAfterHead {
                    std::future::pending::<()>().await;
                }
                Ok::<_, BoxError>(hyper::body::Frame::data(Bytes::from_static(b"{}")))
            };
            let stream = http_body_util::StreamBody::new(futures::stream::once(chunk));
            Ok::<_, BoxError>(Response::new(stream.boxed_unsync()))
        });
        let mut service = ServiceBuilder::new()
            .layer(CountLayer {
                metrics: metrics.clone(),
                host,
                clock: ServerClock::of_kubernetes(),
            })
            .layer(LimitLayer { limit: LIMIT })
            .service(service);
        let request = Request::get(uri).body(Body::empty()).unwrap();
        let answer = service.ready().await?.call(request).await;
        let code = if answer.is_ok() { "200" } else { "error" };
        let line = format!(
            "rest_client_requests_total{{code=\"{code}\",method=\"GET\",host=\"api:443\"}} 1"
        );
        assert!(metrics.prometheus().unwrap().contains(&line));
        answer
    }

    #[tokio::test]
    async fn an_answer_in_time_is_passed_on_and_counted() {
        let answer = ask("/api/v1/secrets", Server::Answers).await.unwrap();
        let body = answer.into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), "{}");
    }

    #[tokio::test]
    async fn a_hung_server_ends_in_an_error_that_says_so() {
        for server in [Server::HangsBeforeHead, Server::HangsAfterHead] {
            let answer = ask("/api/v1/secrets?limit=500", server).await;
            assert!(answer.unwrap_err().is::<TimedOut>());
        }
        let text = TimedOut(CALL_TIMEOUT).to_string();
        assert_eq!(text, "no answer from the API server within 30 s");
    }

    #[tokio::test]
    async fn a_watch_may_stay_silent_once_it_has_begun() {
        let uri = "/api/v1/secrets?resourceVersion=1&watch=true";
        let answer = ask(uri, Server::HangsAfterHead).await.unwrap();
        let waited = tokio::time::timeout(LIMIT * 3, answer.into_body().collect()).await;
        assert!(waited.is_err(), "still waiting, not cut off");
        assert!(ask(uri, Server::HangsBeforeHead).await.is_err());
    }

    #[test]
    fn the_host_label_names_the_port() {
        assert_eq!(host(&"https://10.0.0.1/".parse().unwrap()), "10.0.0.1:443");
        assert_eq!(host(&"https://[::1]:6443/".parse().unwrap()), "[::1]:6443");
    }
}
