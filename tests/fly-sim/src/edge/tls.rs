//! Certificates by server name: only for apps with a public address and active hostnames.

use std::sync::{Arc, Weak};

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::proxy::app_for;
use crate::core::{Core, Shared};

struct ByName {
    core: Weak<Core>,
}

impl std::fmt::Debug for ByName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ByName").finish_non_exhaustive()
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let core = self.core.upgrade()?;
        let name = hello.server_name()?.to_ascii_lowercase();
        app_for(&core, &name)?;
        core.ca.certificate(&name).ok()
    }
}

/// The edge's TLS settings.
pub fn config(core: &Shared) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ByName {
            core: Arc::downgrade(core),
        }));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
