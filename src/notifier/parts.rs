//! What all rounds share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::desk::Desk;
use crate::{
    api::notification::Notification,
    clock::ServerClock,
    net::probe::Probe,
    pipeline::Fence,
    plan::refs::Allowed,
    process::{metrics::Metrics, publisher::Publisher, turnstile::Turnstile},
};

/// What is needed to tell anybody.
pub struct Parts {
    /// The API server.
    pub kube: kube::Client,
    /// The operator's own namespace.
    pub own_namespace: String,
    /// Requests to hosts that users name.
    pub probe: Probe,
    /// The clock of the API server.
    pub clock: ServerClock,
    /// Whether this process leads.
    pub leads: Fence,
    /// Which Secrets an object may use.
    pub allowed: Allowed,
    /// The metrics.
    pub metrics: Metrics,
    /// Publishes events.
    pub publisher: Arc<Publisher>,
    /// Receivers of the whole installation. Their Secrets are in the operator's own namespace.
    pub defaults: Vec<Notification>,
    /// Origins that the administrator allows, whatever their addresses are.
    pub origins: Vec<Url>,
    /// Where PagerDuty takes events.
    pub pager_duty: Url,
}

/// What all rounds share.
pub(super) struct Shared {
    pub(super) parts: Parts,
    pub(super) desk: Mutex<Desk>,
    pub(super) added: Notify,
    pub(super) limit: Arc<Turnstile>,
    pub(super) stop: CancellationToken,
}

impl Shared {
    pub(super) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
