//! Secrets of an app. Source: the OpenAPI specification of the Machines API, `secrets`.
//!
//! Fly.io returns digests, never values. Writing secrets restarts no machine: a machine reads them
//! at its next start, and only if its host knows their version. `min_secrets_version` of a create
//! or update requires that.

use std::collections::BTreeMap;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use super::call::Endpoint;
use super::error::Result;
use super::token::Surface::Machines;
use super::wire::{Items, wire};
use crate::fly::call::answer::Identified;
use crate::fly::call::client::Client;

wire! {
    /// A secret, without its value.
    pub struct AppSecret {
        /// Its name.
        pub name: String,
        /// Changes with the value; otherwise opaque.
        pub digest: String,
        /// When it was first set.
        pub created_at: Option<Timestamp>,
        /// When it was last set.
        pub updated_at: Option<Timestamp>,
    }

    /// The result of writing secrets.
    pub struct SecretsWritten {
        /// New version of the app's secrets.
        pub version: Option<u64>,
        /// The same under its former name.
        pub old_version: Option<u64> = "Version",
        /// The secrets, if the response contains them.
        pub secrets: Items<AppSecret>,
    }
}

impl Identified for AppSecret {
    fn identity(&self) -> &str {
        &self.name
    }
}

impl SecretsWritten {
    /// New version of the app's secrets, for `min_secrets_version`.
    pub fn version(&self) -> Option<u64> {
        self.version.or(self.old_version)
    }
}

const LIST: Endpoint = Endpoint::read(Machines, "GET /v1/apps/{app}/secrets").list();
const SET: Endpoint = Endpoint::change(Machines, "POST /v1/apps/{app}/secrets");

impl Client {
    /// The secrets of an app, without values; with `min_version` not older than that.
    pub async fn secrets(&self, app: &str, min_version: Option<u64>) -> Result<Vec<AppSecret>> {
        let version = min_version.map(|version| version.to_string());
        self.call(&LIST, &[app])
            .query_if("min_version", version.as_deref())
            .array_in("secrets")
            .await
    }

    /// Sets and (`None`) removes secrets in one call. Idempotent: the same values give the same
    /// digests; only the version increases. Read the digests to verify.
    pub async fn set_secrets(
        &self,
        app: &str,
        values: &BTreeMap<String, Option<SecretString>>,
    ) -> Result<SecretsWritten> {
        let body: Map<String, Value> = values
            .iter()
            .map(|(name, value)| {
                let value = value.as_ref().map(|value| value.expose_secret());
                (name.clone(), value.map_or(Value::Null, Value::from))
            })
            .collect();
        let mut call = self.call(&SET, &[app]).json(&json!({ "values": body }));
        for value in values.values().flatten() {
            call = call.hide(value);
        }
        call.read().await
    }
}
