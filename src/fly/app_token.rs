//! A token for one app, used in place of the user's own wherever Fly.io takes it.
//!
//! Which calls those are follows from the endpoint alone: machines, volumes, secrets and logs of the
//! app that the token is for (fly-api.md A.3: a deploy token manages one app and its resources).
//! Everything else, such as creating and deleting apps, databases and addresses of an organization,
//! goes on with the user's token. When Fly.io refuses the narrow token, nothing has happened, so the
//! call is made again with the user's, and the narrow one rests until somebody looks at it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;

use super::call::Endpoint;
use super::error::Result;
use super::token::{Surface, Token};
use super::wire::GoDuration;
use crate::fly::call::client::Client;

/// The token of one app, shared by all clients of one object. Empty at first.
#[derive(Debug, Default)]
pub struct AppToken(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    app: String,
    token: Option<Token>,
    /// When it should be replaced.
    renew_at: Option<Timestamp>,
    /// Fly.io refused it as a whole (401).
    refused: bool,
    /// Endpoints that it may not be used for (403).
    not_for: Vec<&'static str>,
}

impl AppToken {
    /// From now on this token is used for this app, until `renew_at`.
    pub fn set(&self, app: &str, token: Token, renew_at: Option<Timestamp>) {
        let mut state = self.lock();
        let same = state
            .token
            .as_ref()
            .is_some_and(|old| old.fingerprint() == token.fingerprint());
        *state = State {
            app: app.to_owned(),
            token: Some(token),
            renew_at,
            refused: false,
            not_for: if same {
                std::mem::take(&mut state.not_for)
            } else {
                Vec::new()
            },
        };
    }

    /// The user's token alone is used from now on.
    pub fn clear(&self) {
        *self.lock() = State::default();
    }

    /// Whether somebody should look at it: it was refused, or its time comes.
    pub fn is_due(&self, now: Timestamp) -> bool {
        let state = self.lock();
        state.refused || state.renew_at.is_some_and(|at| now >= at)
    }

    /// Whether it is in use.
    pub fn is_used(&self) -> bool {
        let state = self.lock();
        state.token.is_some() && !state.refused
    }

    /// The token for this call, if it is one that it may be used for.
    pub(crate) fn of(&self, endpoint: &Endpoint, args: &[&str]) -> Option<Token> {
        if !is_of_one_app(endpoint) {
            return None;
        }
        let state = self.lock();
        let usable = !state.refused
            && args.first().is_some_and(|app| *app == state.app)
            && !state.not_for.contains(&endpoint.name);
        state.token.clone().filter(|_| usable)
    }

    /// Fly.io refused it: as a whole (401), or for this endpoint (403).
    pub(crate) fn refused(&self, token: &Token, endpoint: &'static str, status: u16) {
        let mut state = self.lock();
        let ours = state
            .token
            .as_ref()
            .is_some_and(|ours| ours.fingerprint() == token.fingerprint());
        if !ours {
            return;
        }
        if status == 401 {
            state.refused = true;
        } else if !state.not_for.contains(&endpoint) {
            state.not_for.push(endpoint);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a deploy token of the app is enough for this endpoint.
fn is_of_one_app(endpoint: &Endpoint) -> bool {
    let path = endpoint.name.split(' ').nth(1).unwrap_or_default();
    match endpoint.surface() {
        Surface::Machines => ["machines", "volumes", "secrets"].iter().any(|what| {
            path.strip_prefix("/v1/apps/{app}/")
                .is_some_and(|rest| rest.split('/').next() == Some(what))
        }),
        Surface::Logs => path.starts_with("/api/v1/apps/{app}/logs"),
        Surface::Graphql | Surface::Uiex | Surface::Registry => false,
    }
}

/// A limited token, as Fly.io lists it: without its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitedToken {
    /// Its id.
    pub id: String,
    /// The name that it was given.
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    expires_at: Option<String>,
    #[serde(default)]
    revoked_at: Option<String>,
}

impl LimitedToken {
    /// When it ends; `None` when Fly.io does not say it in a way that is understood.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at.as_deref()?.parse().ok()
    }
}

/// A token that was just made: the only time that its value is told.
#[derive(Debug)]
pub struct MadeToken {
    /// Its id, to revoke it by.
    pub id: String,
    /// The value.
    pub value: SecretString,
}

const LIST: Endpoint = Endpoint::query("POST /graphql AppLimitedAccessTokens");
const CREATE: Endpoint = Endpoint::mutation("POST /graphql CreateLimitedAccessToken");
const DELETE: Endpoint = Endpoint::mutation("POST /graphql DeleteLimitedAccessToken");

impl Client {
    /// The limited tokens of an app that were not revoked. `None`: there is no such app.
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
        let found = crate::fly::call::answer::optional(found)?.flatten();
        Ok(found.map(|app| {
            let nodes = app.tokens.map(|tokens| tokens.nodes).unwrap_or_default();
            nodes
                .into_iter()
                .filter(|token| token.revoked_at.is_none())
                .collect()
        }))
    }

    /// Makes a token for one app. NOT safe when its reply is lost: look for its name first, and
    /// revoke what nobody knows the value of.
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
        crate::fly::call::answer::gone_is_done(done.map(drop))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const MACHINES: Endpoint = Endpoint::read(Surface::Machines, "GET /v1/apps/{app}/machines");
    const DELETE_APP: Endpoint = Endpoint::change(Surface::Machines, "DELETE /v1/apps/{app}");
    const GRAPHQL: Endpoint = Endpoint::query("POST /graphql App");

    #[test]
    fn the_narrow_token_is_used_for_its_own_app_and_for_what_it_allows() {
        let cell = AppToken::default();
        assert!(cell.of(&MACHINES, &["shop"]).is_none());
        cell.set("shop", Token::parse("narrow").unwrap(), None);
        assert!(cell.of(&MACHINES, &["shop"]).is_some());
        assert!(cell.of(&MACHINES, &["another"]).is_none());
        assert!(cell.of(&DELETE_APP, &["shop"]).is_none());
        assert!(cell.of(&GRAPHQL, &["shop"]).is_none());
        cell.clear();
        assert!(cell.of(&MACHINES, &["shop"]).is_none());
    }

    #[test]
    fn a_narrow_token_that_is_refused_rests_until_it_is_looked_at() {
        let cell = AppToken::default();
        let token = Token::parse("narrow").unwrap();
        let now = Timestamp::UNIX_EPOCH;
        cell.set("shop", token.clone(), None);
        assert!(!cell.is_due(now));

        cell.refused(&token, MACHINES.name, 403);
        assert!(cell.of(&MACHINES, &["shop"]).is_none());
        assert!(cell.is_used() && !cell.is_due(now), "only not for this");

        cell.refused(&token, MACHINES.name, 401);
        assert!(cell.is_due(now) && !cell.is_used());
        cell.set("shop", Token::parse("another").unwrap(), Some(now));
        assert!(cell.of(&MACHINES, &["shop"]).is_some());
        assert!(cell.is_due(now), "its time has come");
        cell.refused(&token, MACHINES.name, 401);
        assert!(
            cell.is_used(),
            "an old refusal says nothing about a new token"
        );
    }
}
