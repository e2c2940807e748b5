//! An app with all that belongs to it, in one GraphQL query: a cheap look that shows whether anything
//! has changed. Sources: fly-go `resource_apps.go`, `resource_ip_addresses.go`,
//! `resource_certificates.go`, `resource_secrets.go`.
//!
//! GraphQL and the Machines API may spell the same thing in different words. Where the two differ, the
//! Machines API decides.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::addresses::AddressKind;
use super::call::Endpoint;
use super::error::Result;
use super::redis::{Redis, UPSTASH};
use super::wire::{Items, lenient, wire};
use crate::fly::call::client::Client;

/// An app, and the Redis database of a name.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Overview {
    /// The app.
    #[serde(default, deserialize_with = "lenient")]
    pub app: Option<OverviewApp>,
    /// The Redis database, if it was asked for.
    #[serde(rename = "addOn", default, deserialize_with = "lenient")]
    pub redis: Option<Redis>,
}

wire! {
    /// An app as GraphQL shows it.
    pub struct OverviewApp {
        /// Its id.
        pub id: String,
        /// Its organization.
        pub organization: Option<OverviewOrganization>,
        /// Its addresses of its own.
        pub addresses: Option<OverviewAddresses> = "ipAddresses",
        /// The IPv4 address that it shares with other apps.
        pub shared_address: Option<String> = "sharedIpAddress",
        /// Its custom hostnames.
        pub certificates: Option<OverviewCertificates>,
        /// Its secrets.
        pub secrets: Items<OverviewSecret>,
    }

    /// The organization of an app.
    pub struct OverviewOrganization {
        /// Slug.
        pub slug: String,
    }

    /// A list of addresses.
    pub struct OverviewAddresses {
        /// The list.
        pub nodes: Items<OverviewAddress>,
    }

    /// An address.
    pub struct OverviewAddress {
        /// The address.
        pub address: String,
        /// `v4`, `v6` or `private_v6`.
        pub kind: Option<AddressKind> = "type",
        /// When it was assigned.
        pub created_at: Option<Timestamp> = "createdAt",
    }

    /// A list of hostnames.
    pub struct OverviewCertificates {
        /// The list.
        pub nodes: Items<OverviewCertificate>,
    }

    /// A hostname.
    pub struct OverviewCertificate {
        /// The hostname.
        pub hostname: String,
        /// `Ready`, or what is awaited, in words.
        pub client_status: String = "clientStatus",
    }

    /// A secret, without its value.
    pub struct OverviewSecret {
        /// Its name.
        pub name: String,
        /// Changes with the value.
        pub digest: String,
        /// When it was first set.
        pub created_at: Option<Timestamp> = "createdAt",
    }
}

impl OverviewApp {
    /// Its addresses of its own.
    pub fn own_addresses(&self) -> impl Iterator<Item = &OverviewAddress> {
        let lists = self.addresses.iter();
        lists.flat_map(|list| list.nodes.iter())
    }
}

const GET: Endpoint = Endpoint::query("POST /graphql AppOverview").once();

impl Client {
    /// An app, and the Redis database of this name. Sent once: who asks can read each part by itself.
    ///
    /// # Errors
    /// Also when the app or the database does not exist.
    pub async fn overview(&self, app: &str, redis: Option<&str>) -> Result<Overview> {
        let document = "query AppOverview($app: String!, $redis: String, $provider: String, $withRedis: Boolean!) { \
            app(name: $app) { id organization { slug } \
            ipAddresses { nodes { address type createdAt } } sharedIpAddress \
            certificates { nodes { hostname clientStatus } } \
            secrets { name digest createdAt } } \
            addOn(name: $redis, provider: $provider) @include(if: $withRedis) { \
            id name status errorMessage primaryRegion publicUrl \
            organization { slug } addOnPlan { id name displayName } } }";
        let variables = json!({
            "app": app,
            "redis": redis,
            "provider": UPSTASH,
            "withRedis": redis.is_some(),
        });
        self.graphql(&GET, document, variables, &[]).await
    }
}
