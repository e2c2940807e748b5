//! Upstash Redis, an add-on. The operations are those that flyctl sends (`internal/command/redis`).

use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};

use super::call::Endpoint;
use super::error::Result;
use super::wire::{Items, lenient, secret, wire};
use crate::fly::call::answer::{gone_is_done, optional};
use crate::fly::call::client::Client;

/// Type and provider of the add-on.
pub(super) const UPSTASH: &str = "upstash_redis";

wire! {
    /// A plan.
    pub struct RedisPlan {
        /// Opaque id.
        pub id: String,
        /// Name, if the response contains it.
        pub name: Option<String>,
        /// Display name.
        pub display_name: Option<String> = "displayName",
        /// Description.
        pub description: Option<String>,
        /// Largest amount of data, as text.
        pub max_data_size: Option<String> = "maxDataSize",
    }
}

wire! {
    /// A region without Redis.
    pub struct ExcludedRegion {
        /// Its code.
        pub code: String,
    }
}

/// A Redis database.
#[derive(Clone, Debug, Deserialize)]
pub struct Redis {
    /// Opaque id.
    #[serde(default, deserialize_with = "lenient")]
    pub id: Option<String>,
    /// Its name; unique.
    pub name: String,
    /// Its state. Fly.io creates it in one call, so it is ready once it exists.
    #[serde(default, deserialize_with = "lenient")]
    pub status: Option<String>,
    /// Why it failed; foreign text.
    #[serde(rename = "errorMessage", default, deserialize_with = "lenient")]
    pub error_message: Option<String>,
    /// Region of the primary.
    #[serde(rename = "primaryRegion", default, deserialize_with = "lenient")]
    pub primary_region: Option<String>,
    /// URL with its password, for `REDIS_URL`.
    #[serde(rename = "publicUrl", default, deserialize_with = "secret")]
    pub url: Option<SecretString>,
    /// Its organization.
    #[serde(default, deserialize_with = "lenient")]
    pub organization: Option<RedisOrganization>,
    /// Its plan.
    #[serde(rename = "addOnPlan", default, deserialize_with = "lenient")]
    pub plan: Option<RedisPlan>,
}

/// The organization of a database.
#[derive(Clone, Debug, Deserialize)]
pub struct RedisOrganization {
    /// Slug.
    #[serde(default, deserialize_with = "lenient")]
    pub slug: Option<String>,
}

/// A Redis database to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRedis {
    /// Its name; unique.
    pub name: String,
    /// Id of the organization ([`Organization::id`](super::organizations::Organization::id)),
    /// not its slug.
    pub organization_id: String,
    /// Region of the primary.
    pub primary_region: String,
    /// Id of the plan.
    pub plan_id: String,
    /// Evict old keys when it is full.
    pub eviction: bool,
}

const CREATE: Endpoint = Endpoint::mutation("POST /graphql CreateAddOn");
const GET: Endpoint = Endpoint::query("POST /graphql GetAddOn");
const DELETE: Endpoint = Endpoint::mutation("POST /graphql DeleteAddOn");
const PROVIDER: Endpoint = Endpoint::query("POST /graphql GetAddOnProvider");
const PLANS: Endpoint = Endpoint::query("POST /graphql ListAddOnPlans");

impl Client {
    /// The plans that there are.
    pub async fn redis_plans(&self) -> Result<Vec<RedisPlan>> {
        let document = "query ListAddOnPlans($addOnType: AddOnType!) { \
            addOnPlans(type: $addOnType) { nodes { id displayName description maxDataSize } } }";
        let path = ["addOnPlans", "nodes"];
        let plans: Items<RedisPlan> = self
            .graphql(&PLANS, document, json!({ "addOnType": UPSTASH }), &path)
            .await?;
        Ok(plans.0)
    }

    /// Codes of the regions in which there is none.
    pub async fn redis_excluded_regions(&self) -> Result<Vec<String>> {
        let document = "query GetAddOnProvider($name: String!) { \
            addOnProvider(name: $name) { excludedRegions { code } } }";
        let path = ["addOnProvider", "excludedRegions"];
        let regions: Items<ExcludedRegion> = self
            .graphql(&PROVIDER, document, json!({ "name": UPSTASH }), &path)
            .await?;
        Ok(regions.0.into_iter().map(|region| region.code).collect())
    }

    /// One database.
    pub async fn redis(&self, name: &str) -> Result<Option<Redis>> {
        let document = "query GetAddOn($name: String, $provider: String) { \
            addOn(name: $name, provider: $provider) { \
            id name status errorMessage primaryRegion publicUrl \
            organization { slug } addOnPlan { id name displayName } } }";
        let variables = json!({ "name": name, "provider": UPSTASH });
        let found: Result<Option<Redis>> =
            self.graphql(&GET, document, variables, &["addOn"]).await;
        optional(found).map(Option::flatten)
    }

    /// Creates a database. Idempotent: names are unique, so a retry answers a conflict and
    /// [`Client::redis`] finds it, URL included.
    pub async fn create_redis(&self, redis: &NewRedis) -> Result<Redis> {
        let document = "mutation CreateAddOn($input: CreateAddOnInput!) { \
            createAddOn(input: $input) { addOn { id name publicUrl primaryRegion } } }";
        let mut options = serde_json::Map::new();
        if redis.eviction {
            options.insert("eviction".to_owned(), Value::Bool(true));
        }
        let input = json!({
            "organizationId": redis.organization_id,
            "primaryRegion": redis.primary_region,
            "name": redis.name,
            "planId": redis.plan_id,
            "readRegions": [],
            "type": UPSTASH,
            "options": options,
        });
        let path = ["createAddOn", "addOn"];
        self.graphql(&CREATE, document, json!({ "input": input }), &path)
            .await
    }

    /// Deletes a database and its data. Idempotent: a missing one counts as deleted.
    pub async fn delete_redis(&self, name: &str) -> Result<()> {
        let document = "mutation DeleteAddOn($name: String, $provider: String) { \
            deleteAddOn(input: {name: $name, provider: $provider}) { deletedAddOnName } }";
        let variables = json!({ "name": name, "provider": UPSTASH });
        let call = self.graphql::<Value>(&DELETE, document, variables, &["deleteAddOn"]);
        gone_is_done(call.await.map(drop))
    }
}
