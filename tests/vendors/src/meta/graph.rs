//! The Graph API, as far as it says whether webhooks of an account are delivered.
//!
//! Sources: developers.facebook.com, WhatsApp, "Manage webhooks" (`subscribed_apps`); Graph API reference,
//! "WhatsApp Business Phone Number" and "WhatsApp Business Account"; "Handling errors" for the shape and
//! the codes of errors; "Secure Graph API Calls" for `appsecret_proof`, which is checked where it is sent.

use axum::Json;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{MANAGEMENT, Meta, Token};
use crate::sign::app_secret_proof;
use crate::state::{Call, Shared, Vendor};

/// All that is served. Paths begin with a version, such as `v25.0`; without one, Meta takes the oldest.
pub fn router(state: Shared) -> Router {
    Router::new()
        .route(
            "/{version}/{id}/subscribed_apps",
            get(subscribed).post(subscribe).delete(unsubscribe),
        )
        .route("/{version}/{id}", get(node))
        .fallback(
            async |State(state): State<Shared>,
                   method: Method,
                   uri: http::Uri,
                   headers: HeaderMap| {
                let path = uri.path().to_owned();
                let text = format!("Unknown path components: {path}");
                let error = GraphError::new(StatusCode::BAD_REQUEST, text, 2500);
                answer(&state, (&method, path), &headers, Err(error))
            },
        )
        .with_state(state)
}

/// An error, as Meta writes it.
struct GraphError {
    status: StatusCode,
    message: String,
    kind: &'static str,
    code: u32,
    subcode: Option<u32>,
}

impl GraphError {
    fn new(status: StatusCode, message: impl Into<String>, code: u32) -> Self {
        Self {
            status,
            message: message.into(),
            kind: "OAuthException",
            code,
            subcode: None,
        }
    }

    /// What is said of an object that does not exist, and of one that the token may not see.
    fn no_object(id: &str) -> Self {
        Self {
            kind: "GraphMethodException",
            subcode: Some(33),
            ..Self::new(
                StatusCode::BAD_REQUEST,
                format!(
                    "Unsupported get request. Object with ID '{id}' does not exist, cannot be loaded due to missing permissions, or does not support this operation. Please read the Graph API documentation at https://developers.facebook.com/docs/graph-api"
                ),
                100,
            )
        }
    }

    fn body(&self) -> Value {
        let mut error = json!({
            "message": self.message,
            "type": self.kind,
            "code": self.code,
            "fbtrace_id": "AaBbCcDdEeFfGgHhIiJjKkL",
        });
        if let Some(subcode) = self.subcode {
            error["error_subcode"] = subcode.into();
        }
        json!({ "error": error })
    }
}

fn answer(
    state: &Shared,
    (method, path): (&Method, String),
    headers: &HeaderMap,
    result: Result<Value, GraphError>,
) -> Response {
    let (status, body) = match result {
        Ok(body) => (StatusCode::OK, body),
        Err(error) => (error.status, error.body()),
    };
    state.note_call(Call {
        vendor: Vendor::Meta,
        method: method.to_string(),
        path,
        bearer: state.bearer(Vendor::Meta, authorization(headers)),
        status: status.as_u16(),
    });
    (status, Json(body)).into_response()
}

fn authorization(headers: &HeaderMap) -> Option<&str> {
    headers.get("authorization")?.to_str().ok()
}

/// The token of a call, if it is good for what was asked.
fn token(meta: &mut Meta, headers: &HeaderMap, proof: Option<&str>) -> Result<Token, GraphError> {
    if meta.throttled > 0 {
        meta.throttled -= 1;
        let text = "(#4) Application request limit reached";
        return Err(GraphError::new(StatusCode::BAD_REQUEST, text, 4));
    }
    let Some(text) = authorization(headers).and_then(|text| text.strip_prefix("Bearer ")) else {
        let text = "An access token is required to request this resource.";
        return Err(GraphError::new(StatusCode::BAD_REQUEST, text, 104));
    };
    let Some(token) = meta.tokens.iter().find(|token| token.value == text) else {
        let text = "Invalid OAuth access token - Cannot parse access token";
        return Err(GraphError::new(StatusCode::UNAUTHORIZED, text, 190));
    };
    if token.expired {
        let text = "Error validating access token: Session has expired on Monday, 02-Nov-26 04:00:00 PST. The current time is Monday, 02-Nov-26 05:00:00 PST.";
        return Err(GraphError {
            subcode: Some(463),
            ..GraphError::new(StatusCode::UNAUTHORIZED, text, 190)
        });
    }
    if proof.is_some_and(|proof| proof != app_secret_proof(&meta.app_secret, &token.value)) {
        let text = "Invalid appsecret_proof provided in the API argument";
        return Err(GraphError {
            kind: "GraphMethodException",
            ..GraphError::new(StatusCode::BAD_REQUEST, text, 100)
        });
    }
    if !token.permissions.iter().any(|one| one == MANAGEMENT) {
        let text = format!("(#200) Requires {MANAGEMENT} permission to manage the object");
        return Err(GraphError::new(StatusCode::FORBIDDEN, text, 200));
    }
    Ok(token.clone())
}

type Account = Path<(String, String)>;

async fn subscribed(
    state: State<Shared>,
    of: Account,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Response {
    account(
        state,
        of,
        (Method::GET, headers, asked.appsecret_proof),
        |meta| {
            let apps: Vec<Value> = meta
                .subscribed
                .iter()
                .map(|app| {
                    json!({"whatsapp_business_api_data": {
                        "link": format!("https://www.facebook.com/games/?app_id={app}"),
                        "name": "Sist Cabañas",
                        "id": app,
                    }})
                })
                .collect();
            json!({ "data": apps })
        },
    )
}

async fn subscribe(
    state: State<Shared>,
    of: Account,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Response {
    account(
        state,
        of,
        (Method::POST, headers, asked.appsecret_proof),
        |meta| {
            let app = meta.app_id.clone();
            if !meta.subscribed.contains(&app) {
                meta.subscribed.push(app);
            }
            json!({"success": true})
        },
    )
}

async fn unsubscribe(
    state: State<Shared>,
    of: Account,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Response {
    account(
        state,
        of,
        (Method::DELETE, headers, asked.appsecret_proof),
        |meta| {
            let app = meta.app_id.clone();
            meta.subscribed.retain(|one| *one != app);
            json!({"success": true})
        },
    )
}

/// Does something with the apps to which the events of an account go, if the token may.
fn account(
    State(state): State<Shared>,
    Path((version, id)): Account,
    (method, headers, proof): (Method, HeaderMap, Option<String>),
    act: impl FnOnce(&mut Meta) -> Value,
) -> Response {
    let change = || {
        let mut world = state.world();
        let meta = &mut world.meta;
        token(meta, &headers, proof.as_deref())?;
        if id != meta.waba_id {
            return Err(GraphError::no_object(&id));
        }
        Ok(act(meta))
    };
    let result = change();
    let path = format!("/{version}/{id}/subscribed_apps");
    answer(&state, (&method, path), &headers, result)
}

#[derive(Deserialize)]
struct Asked {
    fields: Option<String>,
    appsecret_proof: Option<String>,
}

/// An account, a phone number or the app, with the fields that were asked for.
async fn node(
    State(state): State<Shared>,
    Path((version, id)): Path<(String, String)>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Response {
    let result = read_node(&state, &id, &asked, &headers);
    let path = format!("/{version}/{id}");
    answer(&state, (&Method::GET, path), &headers, result)
}

fn read_node(
    state: &Shared,
    id: &str,
    asked: &Asked,
    headers: &HeaderMap,
) -> Result<Value, GraphError> {
    let mut world = state.world();
    let meta = &mut world.meta;
    token(meta, headers, asked.appsecret_proof.as_deref())?;
    let (kind, all, usual) = describe(meta, id).ok_or_else(|| GraphError::no_object(id))?;
    let mut wanted: Vec<&str> = match &asked.fields {
        Some(fields) => fields.split(',').map(str::trim).collect(),
        None => usual.to_vec(),
    };
    wanted.push("id");
    let mut shown = serde_json::Map::new();
    for field in wanted {
        // A field of a field is asked for as `name{inner}`; the whole is given.
        let name = field.split('{').next().unwrap_or(field);
        let value = all.get(name).ok_or_else(|| {
            let text =
                format!("(#100) Tried accessing nonexisting field ({name}) on node type ({kind})");
            GraphError::new(StatusCode::BAD_REQUEST, text, 100)
        })?;
        shown.insert(name.to_owned(), value.clone());
    }
    Ok(Value::Object(shown))
}

/// Who may send messages: the account, its business, the app of the token, and the number if one was asked
/// for.
///
/// Source: developers.facebook.com, WhatsApp Cloud API, "Messaging health status".
fn health(meta: &Meta, of_number: bool) -> Value {
    let app = match meta.development {
        true => "BLOCKED",
        false => "AVAILABLE",
    };
    let mut entities = vec![
        json!({"entity_type": "WABA", "id": meta.waba_id, "can_send_message": "AVAILABLE"}),
        json!({"entity_type": "BUSINESS", "id": "506914307656634", "can_send_message": "AVAILABLE"}),
        json!({"entity_type": "APP", "id": meta.app_id, "can_send_message": app}),
    ];
    if of_number {
        let number = &meta.phone_number_id;
        entities.insert(
            0,
            json!({"entity_type": "PHONE_NUMBER", "id": number, "can_send_message": "AVAILABLE"}),
        );
    }
    json!({"can_send_message": app, "entities": entities})
}

/// The kind of a node, all its fields, and those that are shown when none are asked for.
fn describe(meta: &Meta, id: &str) -> Option<(&'static str, Value, &'static [&'static str])> {
    if id == meta.phone_number_id {
        let all = json!({
            "id": id,
            "verified_name": "Sist Cabañas",
            "display_phone_number": "+54 9 294 400-5678",
            "code_verification_status": "VERIFIED",
            "quality_rating": "GREEN",
            "platform_type": "CLOUD_API",
            "account_mode": meta.mode,
            "status": "CONNECTED",
            "throughput": {"level": "STANDARD"},
            "health_status": health(meta, true),
            "webhook_configuration": {"application": meta.callback.clone().unwrap_or_default()},
        });
        let usual = [
            "verified_name",
            "code_verification_status",
            "display_phone_number",
            "quality_rating",
            "platform_type",
            "throughput",
            "webhook_configuration",
        ]
        .as_slice();
        return Some(("WhatsAppBusinessPhoneNumber", all, usual));
    }
    if id == meta.waba_id {
        let all = json!({
            "id": id,
            "name": "Sist Cabañas",
            "timezone_id": "10",
            "currency": "USD",
            "message_template_namespace": "58e6d318_b627_4112_b9c7_2961197553ea",
            "account_review_status": "APPROVED",
            "health_status": health(meta, false),
            "status": "ACTIVE",
        });
        let usual = ["name", "timezone_id", "message_template_namespace"].as_slice();
        return Some(("WhatsAppBusinessAccount", all, usual));
    }
    if id == meta.app_id || id == "app" {
        let all = json!({
            "id": meta.app_id,
            "name": "Sist Cabañas",
            "category": "Business",
            "link": format!("https://www.facebook.com/games/?app_id={}", meta.app_id),
        });
        return Some(("Application", all, ["category", "link", "name"].as_slice()));
    }
    None
}
