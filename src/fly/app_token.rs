//! Limited access tokens of an app: list, create, revoke.
//!
//! The operations are those that flyctl sends (github.com/superfly/fly-go). How an app's token is
//! used is in [`AppToken`](super::AppToken).

use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;

use super::call::Endpoint;
use super::error::Result;
use super::wire::GoDuration;
use crate::fly::call::answer::{gone_is_done, optional};
use crate::fly::call::client::Client;

/// A limited token as Fly.io lists it, without its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitedToken {
    /// Its id.
    pub id: String,
    /// The name it was created with.
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    expires_at: Option<String>,
    #[serde(default)]
    revoked_at: Option<String>,
}

impl LimitedToken {
    /// When it expires; `None` when Fly.io does not give a readable time.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at.as_deref()?.parse().ok()
    }
}

/// A token that was just created. Fly.io returns the value only then.
#[derive(Debug)]
pub struct MadeToken {
    /// Its id, for revoking it.
    pub id: String,
    /// The value.
    pub value: SecretString,
}

const LIST: Endpoint = Endpoint::query("POST /graphql AppLimitedAccessTokens");
const CREATE: Endpoint = Endpoint::mutation("POST /graphql CreateLimitedAccessToken");
const DELETE: Endpoint = Endpoint::mutation("POST /graphql DeleteLimitedAccessToken");

impl Client {
    /// The limited tokens of an app that are not revoked. `None`: there is no such app.
    pub async fn limited_tokens(&self, app: &str) -> Result<Option<Vec<LimitedToken>>> {
        #[derive(Deserialize)]
        struct App {
            #[serde(rename = "limitedAccessTokens")]
            tokens: Option<Nodes>,
        }
        #[derive(Deserialize)]
        struct Nodes {
            #[serde(default)]
            nodes: Vec<LimitedToken>,
        }
        let document = "query AppLimitedAccessTokens($name: String!) { app(name: $name) { \
            limitedAccessTokens { nodes { id name expiresAt revokedAt } } } }";
        let found: Result<Option<App>> = self
            .graphql(&LIST, document, json!({ "name": app }), &["app"])
            .await;
        let found = optional(found)?.flatten();
        Ok(found.map(|app| {
            let nodes = app.tokens.map(|tokens| tokens.nodes).unwrap_or_default();
            nodes
                .into_iter()
                .filter(|token| token.revoked_at.is_none())
                .collect()
        }))
    }

    /// Creates a token for one app. NOT idempotent: before a retry, list the tokens and revoke the
    /// one with this name, whose value is lost.
    pub async fn create_app_token(
        &self,
        organization: &str,
        app: &str,
        name: &str,
        lifetime: Duration,
    ) -> Result<MadeToken> {
        #[derive(Deserialize)]
        struct Made {
            id: String,
            #[serde(rename = "tokenHeader")]
            value: String,
        }
        let document = "mutation CreateLimitedAccessToken($input: CreateLimitedAccessTokenInput!) { \
            createLimitedAccessToken(input: $input) { limitedAccessToken { id tokenHeader } } }";
        let input = json!({ "input": {
            "name": name,
            "organizationId": organization,
            "profile": "deploy",
            "profileParams": { "app_id": app },
            "expiry": GoDuration(lifetime),
        }});
        let path = ["createLimitedAccessToken", "limitedAccessToken"];
        let made: Made = self.graphql(&CREATE, document, input, &path).await?;
        Ok(MadeToken {
            id: made.id,
            value: made.value.into(),
        })
    }

    /// Revokes a limited token. Already gone is success.
    pub async fn revoke_limited_token(&self, id: &str) -> Result<()> {
        let document = "mutation DeleteLimitedAccessToken($input: DeleteLimitedAccessTokenInput!) { \
            deleteLimitedAccessToken(input: $input) { token } }";
        let input = json!({ "input": { "id": id } });
        let done: Result<serde_json::Value> = self
            .graphql(&DELETE, document, input, &["deleteLimitedAccessToken"])
            .await;
        gone_is_done(done.map(drop))
    }
}
