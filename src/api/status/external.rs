//! What exists on Fly.io or is about to be created, the application's secrets, and the fallbacks in
//! use.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::phase::PhaseName;
use crate::api::enumeration::api_enum;

api_enum! {
    /// Kinds of what exists on Fly.io.
    pub enum ExternalKind, strict {
        /// The app.
        App = "App",
        /// A machine of the app.
        Machine = "Machine",
        /// A volume of the app.
        Volume = "Volume",
        /// A public address of the app.
        Address = "Address",
        /// A certificate of the app.
        Certificate = "Certificate",
        /// A cluster of Managed Postgres.
        ManagedPostgres = "ManagedPostgres",
        /// An app that is a Fly Postgres cluster.
        FlyPostgres = "FlyPostgres",
        /// An Upstash Redis database.
        UpstashRedis = "UpstashRedis",
    }
}

/// Something that is about to be created on Fly.io.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Intent {
    /// Its slot: step, kind and name, such as `Volumes/Volume/data-gru-0`.
    #[schemars(length(max = 253))]
    pub slot: String,
    /// What it is, such as `Machine`.
    #[schemars(length(max = 64))]
    pub kind: String,
    /// Its name.
    #[schemars(length(max = 128))]
    pub name: String,
    /// Distinguishes this announcement from an earlier one of the same slot.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub nonce: String,
    /// When it was announced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

/// One of the application's secrets.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretStatus {
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Digest that Fly.io gives for it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub digest: String,
    /// Keyed fingerprint of the value that was set: it shows whether the value has changed, and
    /// nothing else.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub fingerprint: String,
}

/// Something that exists on Fly.io.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExternalObject {
    /// What it is, such as `App`, `Machine`, `ManagedPostgres`.
    #[schemars(length(max = 64))]
    pub kind: String,
    /// Fly.io's ID of it. An app, a certificate and a Redis database have their name here, because Fly.io
    /// knows them by it alone.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub id: String,
    /// Its name. Names of volumes are not unique.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Region, of a volume.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 16))]
    pub region: String,
    /// Size in GB, of a volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_gb: Option<u32>,
    /// Why it is kept although nothing uses it any more, and how to delete it. Absent while it is in
    /// use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub retained: Option<String>,
    /// When it was first observed. The metric `golive_last_observed_timestamp_seconds` has the time of the
    /// last observation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_observed_time: Option<Time>,
}

/// A fallback that was used.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FallbackUsed {
    /// The field that has the fallback, such as `deploy.size`.
    #[schemars(length(max = 128))]
    pub what: String,
    /// What was requested.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub from: String,
    /// What was used instead.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub to: String,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub reason: String,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

impl FallbackUsed {
    /// The phase whose part of the spec declares the fallback: the first name of the field path.
    #[must_use]
    pub fn phase(&self) -> Option<PhaseName> {
        match self.what.split('.').next()? {
            "provision" => Some(PhaseName::Provision),
            "deploy" => Some(PhaseName::Deploy),
            _ => None,
        }
    }
}
