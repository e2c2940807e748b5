//! The homepage and the metrics page.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use http::{StatusCode, header};

use crate::effects;
use crate::metrics::{CONTENT_TYPE, Metrics};
use crate::problem::Problem;
use crate::server::App;

/// Route of the metrics.
pub const METRICS: &str = "/metrics";

/// `GET /`.
pub async fn homepage(State(app): State<Arc<App>>) -> Response {
    match app.config.faults.wrong_homepage {
        None => Html(html(&app.config.app, &app.config.version)).into_response(),
        Some(status) => {
            let page = "<!doctype html><title>Welcome</title><h1>It works!</h1>\n";
            (status, Html(page)).into_response()
        }
    }
}

/// The homepage as text.
pub fn html(app: &str, version: &str) -> String {
    let (app, version) = (escape(app), escape(version));
    format!(
        "<!doctype html>\n<html lang=\"es\">\n<meta charset=\"utf-8\">\n<title>{app}</title>\n\
         <h1>{app}</h1>\n<p>Reservas de cabañas. Versión {version}.</p>\n\
         <p><a href=\"/api/v1/reservations\">Reservas</a> · \
         <a href=\"/api/v1/ical/export.ics\">Calendario</a></p>\n</html>\n"
    )
}

/// `GET /metrics`.
pub async fn metrics(State(app): State<Arc<App>>) -> Response {
    if app.config.faults.no_metrics {
        return Problem::new(StatusCode::NOT_FOUND, "there is nothing here").into_response();
    }
    effects::refresh(&app).await;
    exposition(&app.metrics)
}

/// The metrics as an answer.
pub fn exposition(metrics: &Metrics) -> Response {
    match metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => Problem::unavailable("write the metrics", &error).into_response(),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_homepage_names_the_app_and_its_version_and_escapes_both() {
        let page = html("sist-cabanas-mvp", "<1.4.0>");
        assert!(page.contains("<h1>sist-cabanas-mvp</h1>"));
        assert!(page.contains("Versión &lt;1.4.0&gt;"));
    }
}
