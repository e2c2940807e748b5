//! What webhooks have caused, as numbers: the same on every machine, since they come from the database.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use serde_json::{Map, Value, json};

use crate::database::DatabaseError;
use crate::problem::Problem;
use crate::server::App;

/// Route of the numbers.
pub const ROUTE: &str = "/api/v1/webhooks/effects";

/// The mark of an event that Golive made, in the column `kind`.
pub const PROBE: &str = "probe";

/// Longest wait for the numbers on the metrics page, which must not be late for them.
const PATIENCE: Duration = Duration::from_secs(1);

/// The senders of webhooks.
pub const PROVIDERS: [&str; 2] = ["whatsapp", "mercadopago"];

/// The numbers of one sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Effects of all deliveries, those of probes included: a delivery that came twice counts once.
    pub all: u64,
    /// Those that somebody has to look at: messages of guests and payments, without probes.
    pub to_handle: u64,
}

/// The numbers of each of [`PROVIDERS`].
pub async fn read(app: &App) -> Result<[(&'static str, Effects); 2], DatabaseError> {
    let sql = "select provider, count(*), count(*) filter (where kind <> 'probe') \
               from webhook_event group by provider";
    let rows = app.database.rows("count the effects", sql, &[]).await?;
    let number = |value: i64| u64::try_from(value).unwrap_or(0);
    Ok(PROVIDERS.map(|provider| {
        let row = rows.iter().find(|row| row.get::<_, &str>(0) == provider);
        let effects = row.map_or_else(Effects::default, |row| Effects {
            all: number(row.get(1)),
            to_handle: number(row.get(2)),
        });
        (provider, effects)
    }))
}

/// Brings the counter of `/metrics` up to date. Without the database it is left out: an old number
/// would look like a delivery without effect.
pub async fn refresh(app: &App) {
    let read = tokio::time::timeout(PATIENCE, read(app)).await;
    app.metrics.effects(read.ok().and_then(Result::ok));
}

/// `GET /api/v1/webhooks/effects`: `{"whatsapp":{"effects":3,"to_handle":1}, …}`.
pub async fn show(State(app): State<Arc<App>>) -> Response {
    match read(&app).await {
        Ok(all) => {
            let numbers: Map<String, Value> = all
                .into_iter()
                .map(|(provider, effects)| {
                    let shown = json!({ "effects": effects.all, "to_handle": effects.to_handle });
                    (provider.to_owned(), shown)
                })
                .collect();
            let headers = [
                (header::CONTENT_TYPE, "application/json"),
                (header::CACHE_CONTROL, "no-store"),
            ];
            (headers, Value::Object(numbers).to_string()).into_response()
        }
        Err(error) => Problem::unavailable("count the effects", &error).into_response(),
    }
}
