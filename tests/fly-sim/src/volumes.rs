//! Volumes: one host, one region, at most one machine.

use axum::Router;
use serde::Serialize;

use crate::core::Shared;

/// A volume.
#[derive(Clone, Debug, Serialize)]
pub struct Volume {
    /// `vol_...`.
    pub id: String,
    /// Name.
    pub name: String,
}

/// The routes of volumes.
pub fn router() -> Router<Shared> {
    Router::new()
}
