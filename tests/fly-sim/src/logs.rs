//! What machines print.

use axum::Router;

use crate::core::Shared;

/// The routes of logs.
pub fn router() -> Router<Shared> {
    Router::new()
}
