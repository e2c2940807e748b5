//! Certificates for an app's own hostnames. Source: fly-api.md B.11.

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
        /// Whether Fly.io was asked to get one.
        pub acme_requested: Option<bool>,
        /// Where it is in its life.
        pub status: CertificateStatus,
        /// When the issuing authority will listen again.
        pub rate_limited_until: Option<Timestamp>,
        /// The certificates.
        pub certificates: Items<IssuedCertificate>,
        /// What has been validated.
        pub validation: Option<Validation>,
        /// What DNS must say.
        pub dns_requirements: Option<DnsRequirements>,
        /// Why it is not valid; foreign text in various shapes.
        pub validation_errors: Items<Value>,
    }

    /// A certificate.
    pub struct IssuedCertificate {
        /// `fly` or `custom`.
        pub source: Option<String>,
        /// Its state.
        pub status: Option<String>,
        /// When it ends.
        pub expires_at: Option<Timestamp>,
        /// Who issued it.
        pub issuer: Option<String>,
    }

    /// What has been validated.
    pub struct Validation {
        /// DNS points here.
        pub dns_configured: Option<bool>,
        /// The ALPN challenge works.
        pub alpn_configured: Option<bool>,
        /// The HTTP challenge works.
        pub http_configured: Option<bool>,
        /// The TXT record that proves ownership is there.
        pub ownership_txt_configured: Option<bool>,
    }

    /// What DNS must say.
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
        /// What it points to.
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
    /// Where a certificate is in its life.
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

/// Pages that are read at most, of 500 each.
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

    /// Asks Fly.io to get a certificate. Safe when its reply is lost: a hostname has one entry.
    pub async fn add_certificate(&self, app: &str, hostname: &str) -> Result<Certificate> {
        self.call(&ADD, &[app])
            .json(&json!({ "hostname": hostname }))
            .object()
            .await
    }

    /// Removes a hostname. Already gone is success, so it is safe when its reply is lost.
    pub async fn delete_certificate(&self, app: &str, hostname: &str) -> Result<()> {
        gone_is_done(self.call(&DELETE, &[app, hostname]).done().await)
    }
}
