//! Answers that say what went wrong, as `application/problem+json` (RFC 9457).

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::json;

/// An answer that is not a success.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    detail: String,
}

impl Problem {
    /// `detail` is read by strangers: no secret, no internal name.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
        }
    }

    /// The cause goes to the log, the stranger learns only that it is not their mistake.
    pub fn unavailable(doing: &str, cause: &dyn std::error::Error) -> Self {
        tracing::error!(error = %crate::database::chain(cause), "cannot {doing}");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("cannot {doing} at the moment; try again later"),
        )
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The JSON text of the answer.
    pub fn body(&self) -> String {
        json!({
            "title": self.status.canonical_reason().unwrap_or("error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        })
        .to_string()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let headers = [(header::CONTENT_TYPE, "application/problem+json")];
        (self.status, headers, self.body()).into_response()
    }
}
