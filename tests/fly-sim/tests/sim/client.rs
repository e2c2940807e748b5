//! A plain client for the tests: it knows HTTP and JSON, and nothing about Fly.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fly_sim::{Image, Images, Options, Sim};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

pub const LIMIT: Duration = Duration::from_secs(20);
pub const IMAGE: &str = "registry.fly.io/demo:1";

/// The program that machines run in these tests, with arguments.
pub fn echo(tag: &str, args: &[&str]) -> Image {
    let all = std::iter::once("echo").chain(args.iter().copied());
    Image::new(
        format!("registry.fly.io/demo:{tag}"),
        env!("CARGO_BIN_EXE_fly-sim"),
    )
    .args(all.map(str::to_owned))
}

pub fn options() -> Options {
    let images = [
        echo("1", &[]),
        echo("2", &[]),
        echo("unhealthy", &["--unhealthy"]),
        echo("stubborn", &["--stubborn"]),
        echo("exits-0", &["--exit-after-ms", "1"]),
        echo("exits-3", &["--exit-after-ms", "1", "--code", "3"]),
        Image::new("registry.fly.io/demo:missing", "no-such-program"),
    ];
    Options {
        images: Images::new(images),
        ..Options::default()
    }
}

pub struct Api {
    pub base: String,
    pub token: String,
    pub nonce: Option<String>,
}

/// Why there was no answer.
pub type Broken = String;

impl Api {
    pub fn of(sim: &Sim) -> Self {
        Self {
            base: sim.base_url(),
            token: sim.token("cabanas").unwrap(),
            nonce: None,
        }
    }

    pub fn with_token(&self, token: &str) -> Self {
        Self {
            base: self.base.clone(),
            token: token.to_owned(),
            nonce: None,
        }
    }

    pub fn with_nonce(&self, nonce: &str) -> Self {
        Self {
            base: self.base.clone(),
            token: self.token.clone(),
            nonce: Some(nonce.to_owned()),
        }
    }

    /// One request on a connection of its own.
    pub async fn raw(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Bytes), Broken> {
        let address = self.base.trim_start_matches("http://").to_owned();
        let stream = TcpStream::connect(&address)
            .await
            .map_err(|e| e.to_string())?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| e.to_string())?;
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", address)
            .header("authorization", format!("Bearer {}", self.token));
        if let Some(nonce) = &self.nonce {
            request = request.header("fly-machine-lease-nonce", nonce);
        }
        let bytes = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let request = request.body(Full::new(bytes)).unwrap();
        let response = sender
            .send_request(request)
            .await
            .map_err(|e| e.to_string())?;
        let status = response.status();
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(|e| e.to_string())?;
        Ok((status, body.to_bytes()))
    }

    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let (status, bytes) = self.raw(method, path, body.as_ref()).await.unwrap();
        let value = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes)));
        (status.as_u16(), value)
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.call("GET", path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.call("POST", path, Some(body)).await
    }

    pub async fn create_app(&self, name: &str) {
        let body = json!({"name": name, "org_slug": "cabanas"});
        let (status, body) = self.post("/v1/apps?wait=true", body).await;
        assert_eq!(status, 201, "{body}");
    }

    /// Creates a machine; the answer.
    pub async fn create(&self, app: &str, name: &str, config: Value) -> Value {
        let body = json!({"name": name, "region": "eze", "config": config});
        let (status, body) = self.post(&format!("/v1/apps/{app}/machines"), body).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    pub async fn wait(&self, app: &str, id: &str, state: &str) -> (u16, Value) {
        self.get(&format!(
            "/v1/apps/{app}/machines/{id}/wait?state={state}&timeout=20"
        ))
        .await
    }

    pub async fn machine(&self, app: &str, id: &str) -> Value {
        self.get(&format!("/v1/apps/{app}/machines/{id}")).await.1
    }

    /// Looks at a machine until it is as wanted.
    pub async fn until(
        &self,
        app: &str,
        id: &str,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let started = Instant::now();
        loop {
            let machine = self.machine(app, id).await;
            if wanted(&machine) {
                return machine;
            }
            assert!(started.elapsed() < LIMIT, "not {what} in time: {machine:#}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// One service behind the edge on ports 80 and 443, with a health check.
pub fn service() -> Value {
    json!([{
        "protocol": "tcp",
        "internal_port": 8080,
        "autostart": true,
        "ports": [
            {"port": 80, "handlers": ["http"], "force_https": true},
            {"port": 443, "handlers": ["http", "tls"]},
        ],
        "checks": [{"type": "http", "interval": "5s", "timeout": "2s", "grace_period": "1s",
            "path": "/healthz"}],
    }])
}

/// A request through the edge, by hostname.
pub async fn edge(
    sim: &Sim,
    host: &str,
    method: &str,
    path: &str,
    body: &str,
) -> Result<(u16, String), Broken> {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(sim.ca_pem().as_bytes()).unwrap())
        .unwrap();
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(sim.edge())
        .await
        .map_err(|e| e.to_string())?;
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|e| e.to_string())?;
    over(stream, host, method, path, body).await
}

/// The same without TLS.
pub async fn plain_edge(sim: &Sim, host: &str, path: &str) -> (u16, Option<String>) {
    let stream = TcpStream::connect(sim.edge()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::get(path)
        .header("host", host)
        .body(Full::<Bytes>::default())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let location = response.headers().get("location");
    (
        response.status().as_u16(),
        location.map(|value| value.to_str().unwrap().to_owned()),
    )
}

async fn over<S>(
    stream: S,
    host: &str,
    method: &str,
    path: &str,
    body: &str,
) -> Result<(u16, String), Broken>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", host)
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap();
    let response = sender
        .send_request(request)
        .await
        .map_err(|e| e.to_string())?;
    let status = response.status().as_u16();
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(|e| e.to_string())?;
    Ok((
        status,
        String::from_utf8_lossy(&body.to_bytes()).into_owned(),
    ))
}
