//! Managed Postgres, version 2 of the API that flyctl uses (`internal/uiex/mpg/v2`).
//!
//! The databases are reachable from Fly.io's private network only. This is the public API that
//! manages them.

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::call::Endpoint;
use super::error::Result;
use super::token::Surface::Uiex;
use super::wire::{Items, lenient, secret, wire, wire_enum};
use crate::fly::call::answer::{Identified, gone_is_done, optional};
use crate::fly::call::client::Client;

wire! {
    /// A cluster.
    pub struct Cluster {
        /// Opaque id.
        pub id: String,
        /// Its name. Not unique.
        pub name: String,
        /// Its state.
        pub status: ClusterStatus,
        /// Plan.
        pub plan: Option<String>,
        /// Region.
        pub region: Option<String>,
        /// Number of replicas.
        pub replicas: Option<u32>,
        /// Size of the disk, in GB.
        pub disk: Option<u32>,
        /// Whether PostGIS is installed.
        pub postgis_enabled: Option<bool>,
        /// Not empty in version 2.
        pub mpgd_cluster_id: Option<String>,
        /// Attached apps.
        pub attached_apps: Items<AttachedApp>,
    }

    /// An attached app.
    pub struct AttachedApp {
        /// Its name.
        pub name: String,
    }

    /// A database of a cluster.
    pub struct ClusterDatabase {
        /// Its name.
        pub name: String,
    }

    /// A region with managed Postgres.
    pub struct ClusterRegion {
        /// Code, such as `eze`.
        pub code: String,
        /// Whether new clusters can be created there.
        pub available: Option<bool>,
    }
}

wire_enum! {
    /// State of a cluster.
    pub enum ClusterStatus {
        /// Being created.
        Creating = "creating",
        /// Being set up.
        Initializing = "initializing",
        /// Ready.
        Ready = "ready",
        /// Failed.
        Error = "error",
        /// Failed.
        Failed = "failed",
        /// Being deleted.
        Deleting = "deleting",
        /// Deleted.
        Deleted = "deleted",
    }
}

impl ClusterStatus {
    /// Whether it will not recover by itself.
    pub fn is_failed(&self) -> bool {
        matches!(self, Self::Error | Self::Failed)
    }

    /// Whether it is deleted or being deleted.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Deleting | Self::Deleted)
    }
}

macro_rules! identified {
    ($($name:ident by $field:ident),* $(,)?) => { $(
        impl Identified for $name {
            fn identity(&self) -> &str {
                &self.$field
            }
        }
    )* };
}

identified! {
    Cluster by id,
    ClusterDatabase by name,
    ClusterRegion by code,
}

/// A cluster and the credentials of its first user.
#[derive(Clone, Debug)]
pub struct ClusterDetails {
    /// The cluster.
    pub cluster: Cluster,
    /// Its credentials, when they are ready.
    pub credentials: Option<ClusterCredentials>,
}

/// Credentials of a cluster's first user. Never shown.
#[derive(Clone, Debug, Deserialize)]
pub struct ClusterCredentials {
    /// `ready` when the rest is there.
    #[serde(default, deserialize_with = "lenient")]
    pub status: Option<String>,
    /// User.
    #[serde(default, deserialize_with = "lenient")]
    pub user: Option<String>,
    /// Password.
    #[serde(default, deserialize_with = "secret")]
    pub password: Option<SecretString>,
    /// Database.
    #[serde(default, deserialize_with = "lenient")]
    pub dbname: Option<String>,
    /// URL of the connection pooler for this user. For other users, replace user, password and
    /// database.
    #[serde(default, deserialize_with = "secret")]
    pub pgbouncer_uri: Option<SecretString>,
}

/// Name and password of a user.
#[derive(Clone, Debug, Deserialize)]
pub struct UserCredentials {
    /// Its name.
    #[serde(default, deserialize_with = "lenient")]
    pub username: Option<String>,
    /// Its password.
    #[serde(default, deserialize_with = "secret")]
    pub password: Option<SecretString>,
}

/// A cluster to be created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewCluster {
    /// Its name.
    pub name: String,
    /// Region.
    pub region: String,
    /// Slug of the organization.
    pub org_slug: String,
    /// `basic`, `starter`, `launch`, `scale` or `performance`. flyctl silently replaces a misspelt
    /// plan with `basic`, so check it first.
    pub plan: String,
    /// Major version of PostgreSQL, such as `16`.
    pub pg_major_version: String,
    /// Size of the disk, in GB.
    pub storage_in_gb: u32,
    /// With PostGIS.
    pub postgis_enabled: bool,
}

const REGIONS: Endpoint =
    Endpoint::read(Uiex, "GET /api/v1/organizations/{slug}/postgresv2/regions").list();
const LIST: Endpoint = Endpoint::read(Uiex, "GET /api/v1/organizations/{slug}/postgres").list();
const CREATE: Endpoint = Endpoint::change(Uiex, "POST /api/v1/organizations/{slug}/postgresv2");
const GET: Endpoint = Endpoint::read(Uiex, "GET /api/v1/postgresv2/{id}");
const DELETE: Endpoint =
    Endpoint::change(Uiex, "DELETE /api/v1/organizations/{slug}/postgresv2/{id}");
const ADD_USER: Endpoint = Endpoint::change(Uiex, "POST /api/v1/postgresv2/{id}/users");
const CREDENTIALS: Endpoint =
    Endpoint::read(Uiex, "GET /api/v1/postgresv2/{id}/users/{user}/credentials");
const DATABASES: Endpoint = Endpoint::read(Uiex, "GET /api/v1/postgresv2/{id}/databases").list();
const ADD_DATABASE: Endpoint = Endpoint::change(Uiex, "POST /api/v1/postgresv2/{id}/databases");
const ATTACH: Endpoint = Endpoint::change(Uiex, "POST /api/v1/postgresv2/{id}/attachments");

impl Client {
    /// The regions where an organization can use managed Postgres.
    pub async fn postgres_regions(&self, org_slug: &str) -> Result<Vec<ClusterRegion>> {
        self.call(&REGIONS, &[org_slug]).array_in("data").await
    }

    /// The clusters of an organization.
    pub async fn postgres_clusters(&self, org_slug: &str) -> Result<Vec<Cluster>> {
        self.call(&LIST, &[org_slug]).array_in("data").await
    }

    /// One cluster, with its credentials when they are ready.
    pub async fn postgres_cluster(&self, id: &str) -> Result<Option<ClusterDetails>> {
        let Some(reply) = optional(self.call(&GET, &[id]).send().await)? else {
            return Ok(None);
        };
        let cluster = reply.object_in(&GET, &["data"])?;
        let mut json: Value = reply.json(&GET)?;
        let credentials = json
            .get_mut("credentials")
            .map(Value::take)
            .unwrap_or_default();
        Ok(Some(ClusterDetails {
            cluster,
            credentials: serde_json::from_value(credentials).ok(),
        }))
    }

    /// Creates a cluster. NOT idempotent: names are not unique. Record the intent first, and after
    /// an unknown outcome list the clusters and match name and region before a retry.
    pub async fn create_postgres_cluster(&self, cluster: &NewCluster) -> Result<Cluster> {
        self.call(&CREATE, &[&cluster.org_slug])
            .json(cluster)
            .object_in(&["data"])
            .await
    }

    /// Deletes a cluster and its data. Idempotent: a missing one counts as deleted.
    pub async fn delete_postgres_cluster(&self, org_slug: &str, id: &str) -> Result<()> {
        gone_is_done(self.call(&DELETE, &[org_slug, id]).done().await)
    }

    /// Creates a user with role `schema_admin`, `writer` or `reader`. Idempotent: names are unique,
    /// so a retry fails with a conflict.
    pub async fn create_postgres_user(&self, id: &str, user: &str, role: &str) -> Result<()> {
        self.call(&ADD_USER, &[id])
            .json(&json!({ "username": user, "role": role }))
            .done()
            .await
    }

    /// The password of a user. `None`: there is no such user.
    pub async fn postgres_user_credentials(
        &self,
        id: &str,
        user: &str,
    ) -> Result<Option<UserCredentials>> {
        let Some(reply) = optional(self.call(&CREDENTIALS, &[id, user]).send().await)? else {
            return Ok(None);
        };
        let mut json: Value = reply.json(&CREDENTIALS)?;
        let data = json.get_mut("data").map(Value::take).unwrap_or_default();
        let credentials: UserCredentials = serde_json::from_value(data)
            .map_err(|_| reply.unreadable(&CREDENTIALS, "no usable data"))?;
        if credentials.password.is_none() {
            return Err(reply.unreadable(&CREDENTIALS, "no password"));
        }
        Ok(Some(credentials))
    }

    /// The databases of a cluster.
    pub async fn postgres_databases(&self, id: &str) -> Result<Vec<ClusterDatabase>> {
        self.call(&DATABASES, &[id]).array_in("data").await
    }

    /// Creates a database. Idempotent: names are unique.
    pub async fn create_postgres_database(&self, id: &str, name: &str) -> Result<()> {
        self.call(&ADD_DATABASE, &[id])
            .json(&json!({ "name": name }))
            .done()
            .await
    }

    /// Records that an app uses the cluster. Sets no secret. Idempotent.
    pub async fn attach_postgres(&self, id: &str, app: &str) -> Result<()> {
        self.call(&ATTACH, &[id])
            .json(&json!({ "app_name": app }))
            .done()
            .await
    }
}
