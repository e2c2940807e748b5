//! The control port: what the vendors know, what they were asked, and what they shall send. Not part of
//! any vendor.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post, put};
use axum::{Json, Router};
use http::{StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::channels::{Channel, Feed, Health, Night};
use crate::mercado_pago::sender::{self as payments, Notification};
use crate::meta::payload::Event;
use crate::meta::{Mode, Token, sender as messages};
use crate::state::Shared;

/// All routes.
pub fn router(state: Shared) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/calls", get(calls).delete(forget))
        .route("/deliveries", get(tries))
        .route("/meta", patch(change_meta))
        .route("/meta/callback", post(register))
        .route("/meta/messages", post(send_message))
        .route("/mercado-pago", patch(change_mercado_pago))
        .route("/mercado-pago/payments", post(pay))
        .route("/mercado-pago/notifications", post(notify))
        .route("/channels", get(channels))
        .route("/channels/{channel}/{listing}", put(change_feed))
        .with_state(state)
}

async fn calls(State(state): State<Shared>) -> Json<Value> {
    Json(json!({ "calls": state.world().calls }))
}

/// Forgets calls and tries; what the vendors know stays.
async fn forget(State(state): State<Shared>) -> StatusCode {
    let mut world = state.world();
    world.calls.clear();
    world.tries.clear();
    StatusCode::NO_CONTENT
}

async fn tries(State(state): State<Shared>) -> Json<Value> {
    Json(json!({ "tries": state.world().tries }))
}

fn refused(text: impl Into<String>) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({"error": text.into()}))).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MetaChange {
    app_secret: Option<String>,
    waba_id: Option<String>,
    phone_number_id: Option<String>,
    tokens: Option<Vec<Token>>,
    subscribed: Option<Vec<String>>,
    mode: Option<Mode>,
    development: Option<bool>,
    throttled: Option<u32>,
}

async fn change_meta(State(state): State<Shared>, Json(change): Json<MetaChange>) -> StatusCode {
    let mut world = state.world();
    let meta = &mut world.meta;
    set(&mut meta.app_secret, change.app_secret);
    set(&mut meta.waba_id, change.waba_id);
    set(&mut meta.phone_number_id, change.phone_number_id);
    set(&mut meta.tokens, change.tokens);
    set(&mut meta.subscribed, change.subscribed);
    set(&mut meta.mode, change.mode);
    set(&mut meta.development, change.development);
    set(&mut meta.throttled, change.throttled);
    StatusCode::NO_CONTENT
}

fn set<T>(field: &mut T, new: Option<T>) {
    if let Some(new) = new {
        *field = new;
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Callback {
    url: String,
    verify_token: String,
}

/// Saves the callback, as a person does in Meta's dashboard: after the handshake.
async fn register(State(state): State<Shared>, Json(callback): Json<Callback>) -> Response {
    match messages::register(&state, &callback.url, &callback.verify_token).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => refused(error.to_string()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewMessage {
    /// Where to; the callback if absent.
    url: Option<String>,
    id: String,
    text: Option<String>,
    status: Option<String>,
    field: Option<String>,
    #[serde(default)]
    voice: bool,
    #[serde(default = "one")]
    copies: u32,
}

fn one() -> u32 {
    1
}

/// Delivers a message, and answers when it was taken or given up.
async fn send_message(State(state): State<Shared>, Json(new): Json<NewMessage>) -> Response {
    let callback = state.world().meta.callback.clone();
    let url: Option<Uri> = new.url.or(callback).and_then(|url| url.parse().ok());
    let Some(url) = url else {
        return refused("no URL, and no callback was saved");
    };
    let event = match (new.text, new.status, new.field) {
        (Some(text), None, None) => Event::Text(text),
        (None, Some(status), None) => Event::Status(status),
        (None, None, Some(field)) => Event::Field(field),
        (None, None, None) if new.voice => Event::Voice,
        _ => return refused("exactly one of text, status, field and voice"),
    };
    let taken = messages::send(&state, url, &new.id, &event, new.copies).await;
    Json(json!({ "taken": taken })).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MercadoPagoChange {
    secret: Option<String>,
    tokens: Option<Vec<String>>,
    failing: Option<u32>,
}

async fn change_mercado_pago(
    State(state): State<Shared>,
    Json(change): Json<MercadoPagoChange>,
) -> StatusCode {
    let mut world = state.world();
    let seller = &mut world.mercado_pago;
    set(&mut seller.secret, change.secret);
    set(&mut seller.tokens, change.tokens);
    set(&mut seller.failing, change.failing);
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPayment {
    /// Name on the card, which decides in the sandbox.
    holder: String,
    amount: f64,
    #[serde(default)]
    reference: String,
}

async fn pay(State(state): State<Shared>, Json(new): Json<NewPayment>) -> Response {
    let payment = state
        .world()
        .mercado_pago
        .pay(&new.holder, new.amount, &new.reference);
    match payment {
        Some(payment) => (StatusCode::CREATED, Json(payment)).into_response(),
        None => refused("the holder is none of APRO, OTHE, CONT, CALL, FUND, SECU, EXPI, FORM"),
    }
}

#[derive(Deserialize)]
struct NewNotification {
    url: String,
    #[serde(default = "one")]
    copies: u32,
    notification: Notification,
}

/// Delivers a notification, and answers when it was taken or given up.
async fn notify(State(state): State<Shared>, Json(new): Json<NewNotification>) -> Response {
    let taken = payments::send(&state, &new.url, &new.notification, new.copies).await;
    Json(json!({ "taken": taken })).into_response()
}

/// The addresses of all calendars, as a host copies them from the channel.
async fn channels(State(state): State<Shared>) -> Json<Value> {
    let world = state.world();
    let keys = world.channels.feeds.keys();
    let all: Vec<Value> = keys
        .filter_map(|(channel, listing)| {
            let path = world.channels.path(*channel, listing)?;
            let url = format!("{}{path}", state.channels_url);
            Some(json!({"channel": channel, "listing": listing, "url": url}))
        })
        .collect();
    Json(json!({ "feeds": all }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FeedChange {
    token: Option<String>,
    health: Option<Health>,
    nights: Option<Vec<Night>>,
}

async fn change_feed(
    State(state): State<Shared>,
    Path((channel, listing)): Path<(Channel, String)>,
    Json(change): Json<FeedChange>,
) -> StatusCode {
    let mut world = state.world();
    let feeds = &mut world.channels.feeds;
    let feed = feeds.entry((channel, listing)).or_insert_with(|| Feed {
        token: "f00d".to_owned(),
        health: Health::Well,
        nights: Vec::new(),
    });
    set(&mut feed.token, change.token);
    set(&mut feed.health, change.health);
    set(&mut feed.nights, change.nights);
    StatusCode::NO_CONTENT
}
