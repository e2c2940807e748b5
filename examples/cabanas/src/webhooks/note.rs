//! The effect of an event: one row, whichever machine gets the delivery and however often.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::database::{DatabaseError, Parameter, chain};
use crate::effects::PROBE;
use crate::mistake::{Mistake, STORED_AFTER};
use crate::server::App;

/// How long the mistake [`Mistake::RacesReplays`] works between asking and writing.
const WORK: Duration = Duration::from_millis(400);

/// One event of a delivery.
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    /// The same in each delivery of the same event.
    pub id: String,
    /// What it is, such as `text` or `payment`.
    pub kind: String,
    /// Whether Golive made it. Then it is counted, and nobody has to look at it.
    pub probe: bool,
}

/// Notes one event; a second delivery of it changes nothing. Returns once it is stored.
pub async fn note(
    app: &Arc<App>,
    provider: &'static str,
    event: Event,
) -> Result<(), DatabaseError> {
    if app.config.faults.has(Mistake::AcknowledgesEarly) {
        let app = Arc::clone(app);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(STORED_AFTER)).await;
            if let Err(error) = store(&app, provider, &event).await {
                tracing::error!(error = %chain(&error), "an event is lost");
            }
        });
        return Ok(());
    }
    store(app, provider, &event).await
}

async fn store(app: &App, provider: &'static str, event: &Event) -> Result<(), DatabaseError> {
    let faults = &app.config.faults;
    let again = |id: &str| format!("{id}#{}", Uuid::new_v4());
    let id = if faults.has(Mistake::ProcessesReplays) {
        again(&event.id)
    } else if faults.has(Mistake::RacesReplays) {
        let known = known(app, provider, &event.id).await?;
        tokio::time::sleep(WORK).await;
        match known {
            true => event.id.clone(),
            false => again(&event.id),
        }
    } else {
        event.id.clone()
    };
    // The primary key keeps two machines apart: the second waits for the first and then finds its row.
    let sql = "insert into webhook_event (provider, event_id, kind) \
               select $1, $2, $3 where not $4 on conflict do nothing returning event_id";
    let kind = match event.probe {
        true => PROBE,
        false => &event.kind,
    };
    let raced = faults.has(Mistake::RacesReplays) && id == event.id;
    let parameters: [Parameter<'_>; 4] = [
        (&provider, Type::TEXT),
        (&id, Type::TEXT),
        (&kind, Type::TEXT),
        (&raced, Type::BOOL),
    ];
    let rows = app
        .database
        .rows("note the event", sql, &parameters)
        .await?;
    let outcome = match (rows.is_empty(), event.probe) {
        (true, _) => "duplicate",
        (false, true) => PROBE,
        (false, false) => "processed",
    };
    app.metrics.webhook(provider, outcome);
    Ok(())
}

/// Whether an event was noted before; for the mistake that asks first.
async fn known(app: &App, provider: &'static str, id: &str) -> Result<bool, DatabaseError> {
    let sql = "select from webhook_event where provider = $1 and starts_with(event_id, $2 || '#')";
    let parameters: [Parameter<'_>; 2] = [(&provider, Type::TEXT), (&id, Type::TEXT)];
    let rows = app
        .database
        .rows("look for the event", sql, &parameters)
        .await?;
    Ok(!rows.is_empty())
}
