//! TLS for connections to Fly.io and to applications.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::clock::ServerClock;

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The file with additional certificates cannot be used.
    #[error("certificates in {path} cannot be used: {reason}")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// What should be certificates in PEM is not.
    #[error("it has no usable certificate in PEM")]
    NoCertificate,
    /// The base URL of a vendor has no host.
    #[error("the base URL of a vendor has no host")]
    NoHost,
    /// The TLS library refuses the configuration.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// The configuration of a TLS client that trusts the system's certificates and those in `ca_file`,
/// as long as they are valid by this clock.
///
/// # Errors
/// When `ca_file` cannot be read, or has no usable certificate.
pub fn config(
    ca_file: Option<&Path>,
    clock: &ServerClock,
) -> Result<rustls::ClientConfig, SetupError> {
    let mut roots = rustls::RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::warn!(%error, "some of the system's certificates cannot be read");
    }
    roots.add_parsable_certificates(native.certs);
    if let Some(path) = ca_file {
        add(&mut roots, path)?;
    }
    with_roots(roots, clock)
}

/// The configuration of a TLS client that trusts these certificate authorities in PEM and no others.
///
/// # Errors
/// When the text has no usable certificate. What is wrong with one is not part of the message.
pub fn of_pem(pem: &str, clock: &ServerClock) -> Result<rustls::ClientConfig, SetupError> {
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes());
    let certificates = certificates.collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|_| SetupError::NoCertificate)?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates {
        let added = roots.add(certificate);
        added.map_err(|_| SetupError::NoCertificate)?;
    }
    match roots.is_empty() {
        true => Err(SetupError::NoCertificate),
        false => with_roots(roots, clock),
    }
}

fn with_roots(
    roots: rustls::RootCertStore,
    clock: &ServerClock,
) -> Result<rustls::ClientConfig, SetupError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_details(provider, Arc::new(clock.clone()))
        .with_safe_default_protocol_versions()
        .map_err(SetupError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

fn add(roots: &mut rustls::RootCertStore, path: &Path) -> Result<(), SetupError> {
    let refuse = |reason: String| SetupError::CaFile {
        path: path.to_owned(),
        reason,
    };
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|source| refuse(source.to_string()))?;
    if certificates.is_empty() {
        return Err(refuse("there are none in it".to_owned()));
    }
    for certificate in certificates {
        roots
            .add(certificate)
            .map_err(|source| refuse(source.to_string()))?;
    }
    Ok(())
}
