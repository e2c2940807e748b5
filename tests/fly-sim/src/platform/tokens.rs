//! Tokens: which ones a request carries, and new ones for less than an organization.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::core::{CallId, Shared};
use crate::error::{FlyError, FlyResult};
use crate::id;
use crate::platform::macaroon::{self, Caveat};
use crate::state::{Caller, Scope, Token, World};
use crate::strict::StrictOptional;

/// flyctl's own default: 20 years.
const DEFAULT_EXPIRY: Duration = Duration::from_secs(175_200 * 3_600);

/// The routes of tokens.
pub fn router() -> Router<Shared> {
    Router::new()
        .route("/v1/tokens/current", get(current))
        .route("/v1/apps/{app}/deploy_token", post(deploy_token))
}

async fn current(State(core): State<Shared>, Extension(caller): Extension<Caller>) -> Json<Value> {
    let tokens: Vec<_> = core.read(|world| {
        caller
            .tokens
            .iter()
            .map(|token| {
                let apps = match &token.scope {
                    Scope::App(name) => json!([name]),
                    Scope::Org | Scope::ReadOnly => json!([]),
                };
                json!({
                    "token_id": token.id,
                    "user": format!("{}@tokens.fly.io", token.id),
                    "organization": world.orgs.get(&token.org_slug).map(|org| &org.name),
                    "org_slug": token.org_slug,
                    "apps": apps,
                    "restricted_to_machine": "",
                    "source_machine_id": "",
                })
            })
            .collect()
    });
    Json(json!({"tokens": tokens}))
}

/// Makes a macaroon for a scope in an organization and lets it in from now on. Returns its id and
/// its text, without a scheme.
pub fn issue(
    world: &mut World,
    org_slug: &str,
    scope: Scope,
    name: &str,
    expires_at: Option<Timestamp>,
) -> FlyResult<(String, String)> {
    let org = world.orgs.get(org_slug).ok_or_else(|| {
        FlyError::not_found(format!("Could not find Organization \"{org_slug}\""))
    })?;
    let mask = match scope {
        Scope::ReadOnly => macaroon::READ,
        Scope::Org | Scope::App(_) => macaroon::ALL,
    };
    let mut caveats = vec![Caveat::Organization {
        id: org.internal_numeric_id,
        mask,
    }];
    if let Scope::App(app) = &scope {
        let app = world
            .apps
            .get(app)
            .ok_or_else(|| FlyError::app_not_found(app))?;
        caveats.push(Caveat::Apps(vec![(app.internal_numeric_id, macaroon::ALL)]));
    }
    if let Some(until) = expires_at {
        caveats.push(Caveat::ValidityWindow {
            from: Timestamp::now().as_second() - 30,
            until: until.as_second(),
        });
    }
    let token_id = id::short(16);
    let text = macaroon::mint(&world.platform.key, &token_id, &caveats);
    world.tokens.insert(
        text.clone(),
        Token {
            id: token_id.clone(),
            name: name.to_owned(),
            org_slug: org_slug.to_owned(),
            scope,
            expires_at,
            revoked: false,
        },
    );
    Ok((token_id, text))
}

/// When a token ends whose lifetime is a Go duration; empty is the default.
pub fn expiry(text: &str) -> FlyResult<Timestamp> {
    let lifetime = match text {
        "" => DEFAULT_EXPIRY,
        text => go_duration(text).ok_or_else(|| {
            FlyError::bad_request(format!("invalid_argument: invalid expiry '{text}'"))
        })?,
    };
    let lifetime = SignedDuration::try_from(lifetime).unwrap_or(SignedDuration::MAX);
    Ok(Timestamp::now()
        .checked_add(lifetime)
        .unwrap_or(Timestamp::MAX))
}

/// A duration as Go prints it: `1h30m`, `24h0m0s`, `1.5s`, `300ms`.
pub fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let seconds = match &rest[..unit_end] {
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += Duration::try_from_secs_f64(number * seconds).ok()?;
        rest = &rest[unit_end..];
    }
    (!text.is_empty()).then_some(total)
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeployToken {
    #[serde(default)]
    expiry: String,
}

async fn deploy_token(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path(app): Path<String>,
    StrictOptional(body): StrictOptional<DeployToken>,
) -> FlyResult<Json<Value>> {
    let expires_at = expiry(&body.unwrap_or_default().expiry)?;
    let (token_id, text) = core.write(|world| {
        let org_slug = world.app_mut(&caller, &app)?.org_slug.clone();
        let scope = Scope::App(app.clone());
        issue(world, &org_slug, scope, "deploy token", Some(expires_at))
    })?;
    core.effect(
        call,
        "token.create",
        Some(&app),
        &token_id,
        "deploy token",
        BTreeMap::new(),
        json!({"expires_at": expires_at.to_string()}),
    );
    Ok(Json(json!({"token": format!("FlyV1 {text}")})))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        assert_eq!(go_duration("24h0m0s"), Some(Duration::from_secs(86_400)));
        assert_eq!(go_duration("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(go_duration("1.5s"), Some(Duration::from_millis(1_500)));
        for wrong in ["", "24", "h", "1d", "one"] {
            assert_eq!(go_duration(wrong), None, "{wrong}");
        }
    }
}
