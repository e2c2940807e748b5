//! Addresses of an app. Source: the OpenAPI specification of the Machines API, `ip_assignments`.

use jiff::Timestamp;
use serde::Serialize;

use super::call::Endpoint;
use super::error::Result;
use super::token::Surface::Machines;
use super::wire::{wire, wire_enum};
use crate::fly::call::answer::{Identified, gone_is_done};
use crate::fly::call::client::Client;

wire! {
    /// An address of an app.
    pub struct IpAssignment {
        /// The address.
        pub ip: String,
        /// Region; `global` or absent for anycast.
        pub region: Option<String>,
        /// Shared with other apps.
        pub shared: Option<bool>,
        /// For outgoing connections.
        pub egress: Option<bool>,
        /// Its private network.
        pub network: Option<String>,
        /// Service it is for.
        pub service_name: Option<String>,
        /// When it was assigned.
        pub created_at: Option<Timestamp>,
    }
}

wire_enum! {
    /// Kind of an address.
    pub enum AddressKind {
        /// Dedicated IPv4 address, which costs money.
        V4 = "v4",
        /// Dedicated IPv6 address.
        V6 = "v6",
        /// IPv4 address shared with other apps; HTTP and TLS only.
        SharedV4 = "shared_v4",
        /// Address in the private network (Flycast).
        PrivateV6 = "private_v6",
    }
}

impl Identified for IpAssignment {
    fn identity(&self) -> &str {
        &self.ip
    }
}

impl IpAssignment {
    /// Its kind, derived from the address.
    pub fn kind(&self) -> Option<AddressKind> {
        match self.ip.parse().ok()? {
            std::net::IpAddr::V4(_) if self.shared == Some(true) => Some(AddressKind::SharedV4),
            std::net::IpAddr::V4(_) => Some(AddressKind::V4),
            // fdaa::/16 is Fly.io's private network.
            std::net::IpAddr::V6(ip) if ip.segments()[0] == 0xfdaa => Some(AddressKind::PrivateV6),
            std::net::IpAddr::V6(_) => Some(AddressKind::V6),
        }
    }
}

/// An address to assign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewAddress {
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: AddressKind,
    /// Region; anycast when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Organization, for private addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org_slug: Option<String>,
    /// Network, for private addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
}

impl NewAddress {
    /// An anycast address of this kind.
    pub fn anycast(kind: AddressKind) -> Self {
        Self {
            kind,
            region: None,
            org_slug: None,
            network: None,
        }
    }
}

const LIST: Endpoint = Endpoint::read(Machines, "GET /v1/apps/{app}/ip_assignments").list();
const ASSIGN: Endpoint = Endpoint::change(Machines, "POST /v1/apps/{app}/ip_assignments");
const RELEASE: Endpoint = Endpoint::change(Machines, "DELETE /v1/apps/{app}/ip_assignments/{ip}");

impl Client {
    /// The addresses of an app.
    pub async fn addresses(&self, app: &str) -> Result<Vec<IpAssignment>> {
        self.call(&LIST, &[app]).array_in("ips").await
    }

    /// Assigns an address. NOT idempotent, except for `SharedV4`, of which an app has one: record
    /// the intent first, and after an unknown outcome list the addresses before a retry.
    pub async fn assign_address(&self, app: &str, address: &NewAddress) -> Result<IpAssignment> {
        self.call(&ASSIGN, &[app]).json(address).object().await
    }

    /// Releases an address. Idempotent: a missing one counts as released.
    pub async fn release_address(&self, app: &str, ip: &str) -> Result<()> {
        gone_is_done(self.call(&RELEASE, &[app, ip]).done().await)
    }
}
