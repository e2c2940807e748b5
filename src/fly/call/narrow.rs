//! A token for one app, used in place of the user's own wherever it suffices.
//!
//! Which calls those are follows from the endpoint alone: machines, volumes, secrets and logs of
//! the token's app. A deploy token manages one app and its resources
//! (fly.io/docs/security/tokens/). Everything else, such as creating and deleting apps, databases
//! and addresses of an organization, uses the user's token. A refusal of the app's token had no
//! effect, so the call is repeated with the user's token, and the app's token is not used again
//! until the step that manages it has run.

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use super::endpoint::Endpoint;
use crate::fly::token::{Surface, Token};

/// The token of one app, shared by all clients of one Activation. Empty at first.
#[derive(Debug, Default)]
pub struct AppToken(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    app: String,
    token: Option<Token>,
    /// When it should be replaced.
    renew_at: Option<Timestamp>,
    /// Fly.io refused the token itself (401).
    refused: bool,
    /// Endpoints that it was refused for (403).
    not_for: Vec<&'static str>,
}

impl AppToken {
    /// Uses this token for this app from now on. `renew_at` is when it becomes due for renewal.
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

    /// Uses the user's token alone from now on.
    pub fn clear(&self) {
        *self.lock() = State::default();
    }

    /// Whether the token must be checked or replaced: it was refused, or is due for renewal.
    pub fn is_due(&self, now: Timestamp) -> bool {
        let state = self.lock();
        state.refused || state.renew_at.is_some_and(|at| now >= at)
    }

    /// Whether Fly.io has refused the token itself since it was set.
    pub fn is_refused(&self) -> bool {
        self.lock().refused
    }

    /// The token for this call, if it may be used for it.
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

    /// Records a refusal: of the token itself (401), or for this endpoint (403).
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const MACHINES: Endpoint = Endpoint::read(Surface::Machines, "GET /v1/apps/{app}/machines");
    const VOLUMES: Endpoint = Endpoint::read(Surface::Machines, "GET /v1/apps/{app}/volumes");
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
        assert!(cell.of(&VOLUMES, &["shop"]).is_some(), "only not for this");
        assert!(!cell.is_due(now));

        cell.refused(&token, MACHINES.name, 401);
        assert!(cell.is_due(now) && cell.of(&VOLUMES, &["shop"]).is_none());
        cell.set("shop", Token::parse("another").unwrap(), Some(now));
        assert!(cell.of(&MACHINES, &["shop"]).is_some());
        assert!(cell.is_due(now), "its time has come");
        cell.refused(&token, MACHINES.name, 401);
        assert!(
            cell.of(&MACHINES, &["shop"]).is_some(),
            "an old refusal says nothing about a new token"
        );
    }
}
