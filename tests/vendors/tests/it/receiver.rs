//! An application that answers as it is told, and remembers what it got.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri};
use tokio::net::TcpListener;

/// One request.
#[derive(Clone, Debug)]
pub struct Got {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Got {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
}

#[derive(Default)]
struct Inner {
    got: Vec<Got>,
    answers: Vec<u16>,
}

/// The application.
#[derive(Clone)]
pub struct Receiver {
    address: SocketAddr,
    inner: Arc<Mutex<Inner>>,
}

impl Receiver {
    /// Answers these statuses in turn, and the last one for ever. To a handshake it answers the
    /// challenge.
    pub async fn start(answers: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Mutex::new(Inner {
            got: Vec::new(),
            answers: answers.to_vec(),
        }));
        let router = Router::new().fallback(any(take)).with_state(inner.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, inner }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    pub fn got(&self) -> Vec<Got> {
        self.inner.lock().unwrap().got.clone()
    }
}

async fn take(
    State(inner): State<Arc<Mutex<Inner>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut inner = inner.lock().unwrap();
    let at = inner.got.len().min(inner.answers.len() - 1);
    let status = StatusCode::from_u16(inner.answers[at]).unwrap();
    let challenge = uri
        .query()
        .and_then(|query| {
            query
                .split('&')
                .find_map(|p| p.strip_prefix("hub.challenge="))
        })
        .unwrap_or_default()
        .to_owned();
    inner.got.push(Got {
        method,
        uri,
        headers,
        body,
    });
    (status, challenge).into_response()
}
