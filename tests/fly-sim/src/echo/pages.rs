//! Small web applications of several shapes.

use std::io::Write;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{AppendHeaders, IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, Uri, header};
use tokio::sync::Mutex;

/// Answers every request alike.
pub fn always(status: u16, location: Option<String>) -> Router {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Router::new().fallback(async move || {
        let location = location.iter().map(|to| ("location", to.clone()));
        (status, AppendHeaders(location.collect::<Vec<_>>()), "echo")
    })
}

/// An API: one path that is answered, and no page anywhere else.
pub fn only(path: &str) -> Router {
    let json = [(header::CONTENT_TYPE, "application/json")];
    Router::new().route(path, get(async move || (json, r#"{"status":"ok"}"#)))
}

/// A site that leads every stranger to its page for signing in.
pub fn login() -> Router {
    Router::new()
        .route("/up", get(async || "ok"))
        .route("/login", get(async || "<form>Sign in</form>"))
        .fallback(async || {
            let headers = [
                (header::LOCATION, "/login"),
                (header::SET_COOKIE, "session=new; Secure; HttpOnly"),
            ];
            (StatusCode::FOUND, headers)
        })
}

/// The files of a directory, as a static site has them.
pub fn files(dir: PathBuf) -> Router {
    let dir = Arc::new(dir);
    Router::new().fallback(get(async move |uri: Uri| file(&dir, uri.path()).await))
}

async fn file(dir: &Path, path: &str) -> Response {
    let name = match path.trim_start_matches('/') {
        "" => "index.html",
        name => name,
    };
    let inside = Path::new(name)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    let kind = match name.rsplit_once('.') {
        Some((_, "html")) => "text/html; charset=utf-8",
        Some((_, "css")) => "text/css",
        _ => "application/octet-stream",
    };
    match tokio::fs::read(dir.join(name)).await {
        Ok(bytes) if inside => ([(header::CONTENT_TYPE, kind)], bytes).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Writes each request to a file and tells how many there are, as an application does that keeps its
/// data on a volume.
///
/// # Errors
/// When the file cannot be opened.
pub fn journal(path: &Path) -> std::io::Result<Router> {
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)?;
    let shared = Arc::new(Mutex::new(file));
    let visit = async |State(file): State<Arc<Mutex<std::fs::File>>>| {
        let mut file = file.lock().await;
        let written = file
            .write_all(b"visit\n")
            .and_then(|()| file.sync_data())
            .and_then(|()| file.metadata());
        match written {
            Ok(data) => (StatusCode::OK, format!("{} visits", data.len() / 6)),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    };
    Ok(Router::new().route("/", get(visit)).with_state(shared))
}

/// Counts requests in Redis.
///
/// # Errors
/// When Redis cannot be reached.
pub async fn redis(url: &str) -> redis::RedisResult<Router> {
    let client = redis::Client::open(url)?;
    let connection = client.get_multiplexed_async_connection().await?;
    let visit = async |State(mut redis): State<redis::aio::MultiplexedConnection>| {
        let mut incr = redis::cmd("INCR");
        incr.arg("visits");
        match incr.query_async::<u64>(&mut redis).await {
            Ok(visits) => (StatusCode::OK, format!("{visits} visits")),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    };
    Ok(Router::new().route("/", get(visit)).with_state(connection))
}
