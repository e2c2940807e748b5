//! Secrets of an app. Source: fly-api.md B.8.
//!
//! Fly.io never gives values back, only digests. Writing secrets starts no machine again: they
//! reach a machine when it next starts, and only if its host has seen their version, which is
//! what `min_secrets_version` of a create or update is for.

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

    /// What a write of secrets led to.
    pub struct SecretsWritten {
        /// Version of the app's secrets from now on.
        pub version: Option<u64>,
        /// The same under its old name.
        pub old_version: Option<u64> = "Version",
        /// The secrets, as far as they are told.
        pub secrets: Items<AppSecret>,
    }
}

impl Identified for AppSecret {
    fn identity(&self) -> &str {
        &self.name
    }
}

impl SecretsWritten {
    /// Version of the app's secrets from now on: for `min_secrets_version`.
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

    /// Sets and (`None`) removes secrets in one call. Safe when its reply is lost: the same
    /// values again give the same digests, only the version grows. Read the digests to see.
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
