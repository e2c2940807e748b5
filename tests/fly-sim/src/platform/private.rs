//! Registries that want to know who asks: user and password, or a bearer token that is given out for
//! them. Fly.io's own is not among these: it takes Fly tokens. Source: distribution specification,
//! docs.docker.com/registry/spec/auth/token.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::json;

use crate::core::{Core, Shared};

/// Who may read an image.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Private {
    /// The user.
    pub username: String,
    /// The password.
    pub password: String,
    /// A token is given out for user and password, and the image is read with the token.
    #[serde(default)]
    pub bearer: bool,
    /// Anybody may read the image by its name; only its tags are told to those who may.
    #[serde(default)]
    pub public_pull: bool,
}

impl Private {
    fn token(&self) -> String {
        let pair = format!("{}:{}", self.username, self.password);
        format!("read-{}", STANDARD.encode(pair))
    }
}

/// A refusal, if the image is private and the request does not come from who may read it.
pub fn refusal(core: &Core, headers: &HeaderMap, full: &str, what: &str) -> Option<Response> {
    let private = core.read(|world| world.platform.private_images.get(full).cloned())?;
    if private.public_pull && what != "tags" {
        return None;
    }
    let given = authorization(headers);
    let wanted = if private.bearer {
        format!("Bearer {}", private.token())
    } else {
        let pair = format!("{}:{}", private.username, private.password);
        format!("Basic {}", STANDARD.encode(pair))
    };
    if given == wanted {
        return None;
    }
    let host = headers
        .get(header::HOST)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let challenge = if private.bearer {
        let repository = full.split_once('/').map_or(full, |(_, rest)| rest);
        format!(
            "Bearer realm=\"http://{host}/open/registry/token\",service=\"stand-in\",scope=\"repository:{repository}:pull\""
        )
    } else {
        "Basic realm=\"stand-in\"".to_owned()
    };
    let body = json!({"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]});
    let mut response = (StatusCode::UNAUTHORIZED, Json(body)).into_response();
    if let Ok(value) = HeaderValue::from_str(&challenge) {
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, value);
    }
    Some(response)
}

/// Gives out tokens: to anybody one that opens nothing, as public registries do.
pub async fn token(
    State(core): State<Shared>,
    headers: HeaderMap,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let given = authorization(&headers);
    if given.is_empty() {
        return Json(json!({"token": "anybody"})).into_response();
    }
    let scope = query.get("scope").map(String::as_str).unwrap_or_default();
    let repository = scope.split(':').nth(1).unwrap_or_default().to_owned();
    let token = core.read(|world| {
        let images = world.platform.private_images.iter();
        images
            .filter(|(full, _)| full.ends_with(&format!("/{repository}")))
            .map(|(_, private)| private)
            .find(|private| {
                let pair = format!("{}:{}", private.username, private.password);
                given == format!("Basic {}", STANDARD.encode(pair))
            })
            .map(Private::token)
    });
    match token {
        Some(token) => Json(json!({"token": token, "expires_in": 300})).into_response(),
        None => StatusCode::UNAUTHORIZED.into_response(),
    }
}

fn authorization(headers: &HeaderMap) -> String {
    headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned()
}
