//! A small HTTP client: one request, one JSON answer.

use std::time::{Duration, Instant};

use bytes::Bytes;
use fly_sim::{Options, Sim};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

/// Longest time that anything here takes.
pub const LIMIT: Duration = Duration::from_secs(90);

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub bytes: Bytes,
    pub json: Value,
}

pub struct Fly {
    pub sim: Sim,
    pub token: String,
}

impl Fly {
    pub async fn start() -> Self {
        Self::with(Options::default()).await
    }

    pub async fn with(options: Options) -> Self {
        let sim = Sim::start(options).await.unwrap();
        let token = sim.token("cabanas").unwrap();
        Self { sim, token }
    }

    /// With the app `demo` in it.
    pub async fn with_app() -> Self {
        let fly = Self::start().await;
        fly.make_app("demo").await;
        fly
    }

    pub async fn make_app(&self, name: &str) {
        let body = json!({"name": name, "org_slug": "cabanas"});
        let answer = self.post("/v1/apps", body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.json);
    }

    pub async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let authorization = format!("Bearer {}", self.token);
        let url = format!("{}{path}", self.sim.base_url());
        send(method, &url, Some(&authorization), body).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None).await
    }

    pub async fn control(&self, method: Method, path: &str, body: Value) -> Answer {
        let url = format!("{}{path}", self.sim.control_url());
        let answer = send(method, &url, None, Some(body)).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.status);
        answer
    }

    pub async fn graphql(&self, query: &str, variables: Value) -> Value {
        let body = json!({"query": query, "variables": variables});
        let answer = self.post("/graphql", body).await;
        assert_eq!(answer.status, StatusCode::OK);
        answer.json
    }

    /// Reads until the value at a JSON pointer is as wanted.
    pub async fn until(&self, path: &str, pointer: &str, wanted: &str) -> Value {
        let started = Instant::now();
        loop {
            let answer = self.get(path).await;
            if answer.json.pointer(pointer).and_then(Value::as_str) == Some(wanted) {
                return answer.json;
            }
            assert!(started.elapsed() < LIMIT, "{path}: {}", answer.json);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

pub async fn send(
    method: Method,
    url: &str,
    authorization: Option<&str>,
    body: Option<Value>,
) -> Answer {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let mut request = Request::builder().method(method).uri(url);
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let request = request.body(Full::from(body)).unwrap();
    let response = client.request(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Answer {
        status: parts.status,
        headers: parts.headers,
        json: serde_json::from_slice(&bytes).unwrap_or_default(),
        bytes,
    }
}
