//! The authority that signs the certificates of the vendors.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// The names that a certificate of ours is good for.
pub const NAMES: [&str; 12] = [
    "localhost",
    "127.0.0.1",
    "graph.facebook.com",
    "api.mercadopago.com",
    "www.airbnb.com",
    "ical.booking.com",
    "hooks.slack.com",
    "discord.com",
    "prod-07.westus.logic.azure.com",
    "hooks.cabanas.example",
    "events.cabanas.example",
    "mail.cabanas.example",
];

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// No key, or no certificate.
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
    /// A key that TLS cannot use.
    #[error("cannot use the certificate")]
    Use(#[from] rustls::Error),
}

/// The authority, and TLS with a certificate that it has signed.
pub struct Ca {
    /// Its certificate, as PEM.
    pub pem: String,
    /// What a server needs.
    pub tls: Arc<ServerConfig>,
}

impl Ca {
    /// A new authority.
    pub fn new() -> Result<Self, CaError> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "vendors");
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let mut params = CertificateParams::new(NAMES.map(str::to_owned).to_vec())?;
        params
            .distinguished_name
            .push(DnType::CommonName, "localhost");
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)?;
        Ok(Self {
            pem: issuer.pem(),
            tls: Arc::new(tls),
        })
    }
}
