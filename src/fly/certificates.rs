//! Certificates for an app's custom hostnames. Source: the OpenAPI specification of the Machines
//! API, `certificates`.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::call::Endpoint;
use super::error::Result;
use super::token::Surface::Machines;
use super::wire::{Items, wire, wire_enum};
use crate::fly::call::answer::{Identified, gone_is_done, optional};
use crate::fly::call::client::Client;

wire! {
    /// A hostname and the state of its certificates.
    pub struct Certificate {
        /// The hostname.
        pub hostname: String,
        /// Whether DNS points here and a certificate was issued.
        pub configured: Option<bool>,
        /// Whether a certificate was requested.
        pub acme_requested: Option<bool>,
        /// Its state.
        pub status: CertificateStatus,
        /// Until when the issuing authority accepts no request.
        pub rate_limited_until: Option<Timestamp>,
        /// The certificates.
        pub certificates: Items<IssuedCertificate>,
        /// Which validations have succeeded.
        pub validation: Option<Validation>,
        /// Required DNS records.
        pub dns_requirements: Option<DnsRequirements>,
        /// Why it is not valid; foreign text in various formats.
        pub validation_errors: Items<Value>,
    }

    /// A certificate.
    pub struct IssuedCertificate {
        /// `fly` or `custom`.
        pub source: Option<String>,
        /// Its state.
        pub status: Option<String>,
        /// When it expires.
        pub expires_at: Option<Timestamp>,
        /// Its issuer.
        pub issuer: Option<String>,
    }

    /// Which validations have succeeded.
    pub struct Validation {
        /// DNS points to the app.
        pub dns_configured: Option<bool>,
        /// The ALPN challenge succeeds.
        pub alpn_configured: Option<bool>,
        /// The HTTP challenge succeeds.
        pub http_configured: Option<bool>,
        /// The TXT record that proves ownership exists.
        pub ownership_txt_configured: Option<bool>,
    }

    /// Required DNS records.
    pub struct DnsRequirements {
        /// A records.
        pub a: Vec<String>,
        /// AAAA records.
        pub aaaa: Vec<String>,
        /// CNAME record.
        pub cname: Option<String>,
        /// CNAME record of the challenge.
        pub acme_challenge: Option<AcmeChallenge>,
        /// TXT record that proves ownership.
        pub ownership: Option<Ownership>,
    }

    /// CNAME record of the challenge.
    pub struct AcmeChallenge {
        /// Name of the record.
        pub name: Option<String>,
        /// Its target.
        pub target: Option<String>,
    }

    /// TXT record that proves ownership.
    pub struct Ownership {
        /// Name of the record.
        pub name: Option<String>,
        /// Value that proves it for the app.
        pub app_value: Option<String>,
        /// Value that proves it for the organization.
        pub org_value: Option<String>,
    }
}

wire_enum! {
    /// State of a certificate.
    pub enum CertificateStatus {
        /// Issued and served.
        Active = "active",
        /// Ownership is not proven.
        PendingOwnership = "pending_ownership",
        /// Ownership is proven, the certificate is not issued yet.
        PendingValidation = "pending_validation",
    }
}

impl Identified for Certificate {
    fn identity(&self) -> &str {
        &self.hostname
    }
}

const LIST: Endpoint = Endpoint::read(Machines, "GET /v1/apps/{app}/certificates").list();
const GET: Endpoint = Endpoint::read(Machines, "GET /v1/apps/{app}/certificates/{hostname}");
const ADD: Endpoint = Endpoint::change(Machines, "POST /v1/apps/{app}/certificates/acme");
const DELETE: Endpoint =
    Endpoint::change(Machines, "DELETE /v1/apps/{app}/certificates/{hostname}");

/// Largest number of pages of 500 that are read.
const PAGES: usize = 10;

impl Client {
    /// The certificates of an app, up to 5,000.
    pub async fn certificates(&self, app: &str) -> Result<Vec<Certificate>> {
        let mut all = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES {
            let reply = self
                .call(&LIST, &[app])
                .query("limit", "500")
                .query_if("cursor", cursor.as_deref())
                .send()
                .await?;
            all.extend(reply.items_in::<Certificate>(&LIST, "certificates")?);
            let page: Value = reply.json(&LIST)?;
            let next = page
                .get("next_cursor")
                .and_then(Value::as_str)
                .unwrap_or_default();
            if next.is_empty() || cursor.as_deref() == Some(next) {
                break;
            }
            cursor = Some(next.to_owned());
        }
        Ok(all)
    }

    /// One hostname's certificate.
    pub async fn certificate(&self, app: &str, hostname: &str) -> Result<Option<Certificate>> {
        optional(self.call(&GET, &[app, hostname]).object().await)
    }

    /// Requests a certificate. Idempotent: a hostname has one entry.
    pub async fn add_certificate(&self, app: &str, hostname: &str) -> Result<Certificate> {
        self.call(&ADD, &[app])
            .json(&json!({ "hostname": hostname }))
            .object()
            .await
    }

    /// Removes a hostname. Idempotent: a missing one counts as removed.
    pub async fn delete_certificate(&self, app: &str, hostname: &str) -> Result<()> {
        gone_is_done(self.call(&DELETE, &[app, hostname]).done().await)
    }
}
