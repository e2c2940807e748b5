//! Notifications: signed by a manifest of the query, the request and the time, and repeated until 200 or
//! 201.

use http::{Method, StatusCode, Uri};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use crate::client::{Incoming, Outgoing};
use crate::delivery::{Patience, deliver};
use crate::sign;
use crate::state::{Shared, Vendor};

/// The unit of `ts`: the documentation says milliseconds, its sample has seconds, and both are seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Ten digits.
    Seconds,
    /// Thirteen digits.
    #[default]
    Milliseconds,
}

/// Which spelling of an id with letters is signed: reports and libraries disagree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Casing {
    /// As it is sent.
    #[default]
    Original,
    /// In lower case.
    Lower,
}

/// What is told.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notification {
    /// Number of the notification itself.
    pub number: u64,
    /// The id of what it is about.
    pub id: String,
    /// `payment`, `order` and others.
    #[serde(default = "payment")]
    pub topic: String,
    /// Such as `payment.created`.
    #[serde(default = "created")]
    pub action: String,
    /// See [`Unit`].
    #[serde(default)]
    pub unit: Unit,
    /// See [`Casing`].
    #[serde(default)]
    pub casing: Casing,
    /// Whether the header `x-request-id` is sent.
    #[serde(default = "yes")]
    pub request_id: bool,
}

fn payment() -> String {
    "payment".to_owned()
}

fn created() -> String {
    "payment.created".to_owned()
}

fn yes() -> bool {
    true
}

impl Notification {
    /// A payment that was created.
    pub fn of_payment(number: u64, id: u64) -> Self {
        Self {
            number,
            id: id.to_string(),
            topic: payment(),
            action: created(),
            unit: Unit::default(),
            casing: Casing::default(),
            request_id: true,
        }
    }
}

/// A delivery, ready to be sent to the callback.
pub fn outgoing(state: &Shared, callback: &str, told: &Notification) -> Option<Outgoing> {
    let seller = state.world().mercado_pago.clone();
    let url: Uri = format!("{callback}?data.id={}&type={}", told.id, told.topic)
        .parse()
        .ok()?;
    let now = Timestamp::now();
    let ts = match told.unit {
        Unit::Seconds => now.as_second().to_string(),
        Unit::Milliseconds => now.as_millisecond().to_string(),
    };
    let signed = match told.casing {
        Casing::Original => told.id.clone(),
        Casing::Lower => told.id.to_lowercase(),
    };
    let request = told
        .request_id
        .then(|| format!("bb56a2f1-6aae-46ac-982e-9dcd3581d{:03}", told.number % 1000));
    let signature = sign::mercado_pago(&seller.secret, Some(&signed), request.as_deref(), &ts);
    let mut headers = vec![
        ("content-type", "application/json".to_owned()),
        ("user-agent", "MercadoPago WebHook v1.0 payment".to_owned()),
        ("x-signature", signature),
    ];
    headers.extend(request.map(|request| ("x-request-id", request)));
    let body = json!({
        "action": told.action,
        "api_version": "v1",
        "data": {"id": told.id},
        "date_created": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "id": told.number,
        "live_mode": true,
        "type": told.topic,
        "user_id": seller.user_id.to_string(),
    });
    Some(Outgoing {
        method: Method::POST,
        url,
        headers,
        body: body.to_string().into(),
    })
}

/// Delivers until the application answers 200 or 201. With `copies`, as many are sent at once.
pub async fn send(state: &Shared, callback: &str, told: &Notification, copies: u32) -> bool {
    let Some(out) = outgoing(state, callback, told) else {
        return false;
    };
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..copies.max(1) {
        let (state, out, id) = (state.clone(), out.clone(), told.id.clone());
        tasks.spawn(async move {
            let patience = Patience::mercado_pago(state.scale);
            deliver(&state, (Vendor::MercadoPago, &id), &out, patience, is_taken).await
        });
    }
    tasks.join_all().await.into_iter().all(|taken| taken)
}

fn is_taken(answer: &Incoming) -> bool {
    matches!(answer.status, StatusCode::OK | StatusCode::CREATED)
}
