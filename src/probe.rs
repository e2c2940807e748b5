//! Requests to the application from outside, as its users make them.

use std::sync::Arc;

use crate::settings::Resolve;

/// Where requests may go, and how names are resolved.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Names that do not go to DNS, by the operator's flags.
    pub resolve: Arc<[Resolve]>,
    /// TLS, with the roots of the system and of the operator's flags.
    pub tls: Arc<rustls::ClientConfig>,
}
