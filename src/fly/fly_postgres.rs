//! Calls for legacy Fly Postgres. A cluster is an app with the role `postgres_cluster` whose
//! machines Golive creates itself. The operations are those that flyctl sends
//! (`internal/command/postgres`).

use secrecy::SecretString;
use serde_json::{Value, json};

use super::call::Endpoint;
use super::error::Result;
use super::wire::{Items, wire};
use crate::fly::call::answer::Identified;
use crate::fly::call::client::Client;

/// Role of an app that is a legacy cluster, for `NewApp::role`.
pub const POSTGRES_CLUSTER: &str = "postgres_cluster";

/// Repository of the cluster's image.
pub const POSTGRES_IMAGE: &str = "flyio/postgres-flex";

wire! {
    /// Record that an app uses a cluster.
    pub struct PostgresAttachment {
        /// Opaque id.
        pub id: String,
        /// Database.
        pub database_name: Option<String> = "databaseName",
        /// User.
        pub database_user: Option<String> = "databaseUser",
        /// Variable that holds the URL.
        pub variable: Option<String> = "environmentVariableName",
    }
}

impl Identified for PostgresAttachment {
    fn identity(&self) -> &str {
        &self.id
    }
}

/// An attachment to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPostgresAttachment<'a> {
    /// App that uses the cluster.
    pub app: &'a str,
    /// App that is the cluster.
    pub postgres_app: &'a str,
    /// Database.
    pub database: &'a str,
    /// User.
    pub user: &'a str,
    /// Variable that holds the URL, `DATABASE_URL`.
    pub variable: &'a str,
}

const LATEST_TAG: Endpoint = Endpoint::query("POST /graphql LatestImageTag");
const ATTACH: Endpoint = Endpoint::mutation("POST /graphql AttachPostgresCluster");
const DETACH: Endpoint = Endpoint::mutation("POST /graphql DetachPostgresCluster");
const ATTACHMENTS: Endpoint = Endpoint::query("POST /graphql PostgresAttachments");
const CONSUL: Endpoint = Endpoint::mutation("POST /graphql EnablePostgresConsul");

impl Client {
    /// The newest image of a repository, such as `flyio/postgres-flex:17.2`.
    pub async fn latest_image_tag(&self, repository: &str) -> Result<String> {
        let document = "query LatestImageTag($repository: String!, $snapshotId: ID) { \
            latestImageTag(repository: $repository, snapshotId: $snapshotId) }";
        self.graphql(
            &LATEST_TAG,
            document,
            json!({ "repository": repository, "snapshotId": null }),
            &["latestImageTag"],
        )
        .await
    }

    /// Records that an app uses a cluster. Creates no user, database or secret: those are created
    /// with `exec` in the cluster's machine. NOT idempotent: list with
    /// [`Client::postgres_attachments`] before a retry.
    pub async fn attach_fly_postgres(&self, attachment: &NewPostgresAttachment<'_>) -> Result<()> {
        let document = "mutation AttachPostgresCluster($input: AttachPostgresClusterInput!) { \
            attachPostgresCluster(input: $input) { \
            app { name } postgresClusterApp { name } environmentVariableName } }";
        let input = json!({
            "appId": attachment.app,
            "postgresClusterAppId": attachment.postgres_app,
            "databaseName": attachment.database,
            "databaseUser": attachment.user,
            "variableName": attachment.variable,
            "manualEntry": true,
        });
        let variables = json!({ "input": input });
        let path = ["attachPostgresCluster"];
        self.graphql::<Value>(&ATTACH, document, variables, &path)
            .await
            .map(drop)
    }

    /// The attachments of an app to a cluster.
    pub async fn postgres_attachments(
        &self,
        app: &str,
        postgres_app: &str,
    ) -> Result<Vec<PostgresAttachment>> {
        let document = "query PostgresAttachments($appName: String!, $postgresAppName: String!) { \
            postgresAttachments(appName: $appName, postgresAppName: $postgresAppName) { \
            nodes { id databaseName databaseUser environmentVariableName } } }";
        let variables = json!({ "appName": app, "postgresAppName": postgres_app });
        let path = ["postgresAttachments", "nodes"];
        let nodes: Option<Items<PostgresAttachment>> = self
            .graphql(&ATTACHMENTS, document, variables, &path)
            .await?;
        Ok(nodes.unwrap_or_default().0)
    }

    /// Removes the record of an attachment. Idempotent: a missing one counts as removed.
    pub async fn detach_fly_postgres(
        &self,
        app: &str,
        postgres_app: &str,
        attachment: &str,
    ) -> Result<()> {
        let document = "mutation DetachPostgresCluster($input: DetachPostgresClusterInput!) { \
            detachPostgresCluster(input: $input) { clientMutationId } }";
        let input = json!({
            "appId": app,
            "postgresClusterId": postgres_app,
            "postgresClusterAttachmentId": attachment,
        });
        let call = self.graphql::<Value>(&DETACH, document, json!({ "input": input }), &[]);
        crate::fly::call::answer::gone_is_done(call.await.map(drop))
    }

    /// URL of the Consul with which the cluster elects its leader: a credential, for the secret
    /// `FLY_CONSUL_URL`. Idempotent.
    pub async fn enable_postgres_consul(&self, app: &str) -> Result<SecretString> {
        let document = "mutation EnablePostgresConsul($appName: ID!) { \
            enablePostgresConsul(input: {appId: $appName}) { consulUrl } }";
        let path = ["enablePostgresConsul", "consulUrl"];
        let variables = json!({ "appName": app });
        let url: String = self.graphql(&CONSUL, document, variables, &path).await?;
        Ok(url.into())
    }
}
