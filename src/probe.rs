//! Requests to the application from outside, as its users make them.

use std::sync::Arc;

use crate::{
    fly::client::{HttpOptions, SetupError, tls},
    settings::{Resolve, Settings},
};

/// Where requests may go, and how names are resolved.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Names that do not go to DNS, by the operator's flags.
    pub resolve: Arc<[Resolve]>,
    /// TLS, with the roots of the system and of the operator's flags.
    pub tls: Arc<rustls::ClientConfig>,
}

impl Probe {
    /// As the operator's flags say.
    ///
    /// # Errors
    /// When the file of certificate authorities cannot be read.
    pub fn new(settings: &Settings) -> Result<Self, SetupError> {
        let options = HttpOptions {
            ca_file: settings.ca_file.clone(),
            ..HttpOptions::default()
        };
        Ok(Self {
            resolve: settings.resolve.clone().into(),
            tls: Arc::new(tls(&options)?),
        })
    }
}
