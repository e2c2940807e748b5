//! How Fly.io says no: its status codes and its two error envelopes.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::json;

/// The shape of an error body. Source: OpenAPI of the Machines API, and field reports for leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Envelope {
    /// `{"error": "...", "status": "..."}`, everywhere but at the lease endpoints.
    Plain,
    /// `{"status": "error", "message": "...", "code": "invalid"}`, the lease endpoints.
    Lease,
}

/// An answer that refuses a call.
#[derive(Clone, Debug)]
pub struct FlyError {
    /// HTTP status.
    pub status: StatusCode,
    /// The text, as Fly words it where that is known.
    pub message: String,
    /// Machine-readable code in the field `status`: `insufficient_capacity`,
    /// `volume_placement_capacity`, `name_taken` or `unknown`; most errors carry none.
    pub code: Option<&'static str>,
    /// Shape of the body.
    pub envelope: Envelope,
}

/// What a handler gives back.
pub type FlyResult<T> = Result<T, FlyError>;

impl FlyError {
    /// An error with a status and a text.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            code: None,
            envelope: Envelope::Plain,
        }
    }

    /// Adds the machine-readable code.
    #[must_use]
    pub fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// The same refusal in the envelope of the lease endpoints.
    #[must_use]
    pub fn lease_envelope(mut self) -> Self {
        self.envelope = Envelope::Lease;
        self
    }

    /// 400: malformed body, immutable field, bad parameter.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 401: no token, an unknown one, or a revoked one.
    pub fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized: token is missing, invalid or has been revoked",
        )
    }

    /// 403: exists, but belongs to somebody else, or the token may not do this.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    /// 404 with a text.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// 404 for an app, worded as flyctl matches it.
    pub fn app_not_found(name: &str) -> Self {
        Self::not_found(format!("Could not find App \"{name}\""))
    }

    /// 404 for a machine.
    pub fn machine_not_found(id: &str) -> Self {
        Self::not_found(format!("not_found: machine not found: {id}"))
    }

    /// 408: the platform's own deadline.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, message)
    }

    /// 409: lease, name, reservation, or a concurrent change.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    /// 412 `failed_precondition: ...`.
    pub fn precondition(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::PRECONDITION_FAILED,
            format!("failed_precondition: {}", message.into()),
        )
    }

    /// 422: validation.
    pub fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, message)
    }

    /// 429: over the documented rate.
    pub fn rate_limited() -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate limit exceeded")
    }
}

impl IntoResponse for FlyError {
    fn into_response(self) -> Response {
        let body = match (self.envelope, self.code) {
            (Envelope::Plain, Some(code)) => json!({"error": self.message, "status": code}),
            (Envelope::Plain, None) => json!({"error": self.message}),
            (Envelope::Lease, _) => {
                json!({"status": "error", "message": self.message, "code": "invalid"})
            }
        };
        (self.status, Json(body)).into_response()
    }
}
