//! Calendars of other channels: what we export to them, what we import from them, and how old the
//! oldest import is.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;
use jiff::civil::Date;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::database::{DatabaseError, chain};
use crate::feed::{Feed, Fetcher};
use crate::ical::{self, Booking, Stay};
use crate::metrics::epoch_seconds;
use crate::mistake::Mistake;
use crate::problem::Problem;
use crate::server::App;
use crate::webhooks;

/// Route of the export.
pub const EXPORT: &str = "/api/v1/ical/export.ics";
/// Route of the state of the imports.
pub const STATUS: &str = "/api/v1/ical/status";
/// Route of the import.
pub const IMPORT: &str = "/api/v1/ical/import";

/// Largest calendar that is read.
///
/// Unit: bytes.
pub const MAX_CALENDAR: usize = 8 * 1024 * 1024;

/// How often the age of the oldest import is read from the database: machines share it there.
pub const AGE_REFRESH: Duration = Duration::from_secs(15);

/// `GET /api/v1/ical/export.ics`: the nights that we have sold, for other channels.
pub async fn export(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let sql = "select r.id, r.check_in::text, r.check_out::text, \
               extract(epoch from r.created_at)::bigint, c.name, r.guest_name, r.guest_phone \
               from reservation r join cabin c on c.id = r.cabin_id \
               where r.check_out >= current_date order by r.check_in, r.id limit 5000";
    let rows = match app.database.rows("export the calendar", sql, &[]).await {
        Ok(rows) => rows,
        Err(error) => return Problem::unavailable("export the calendar", &error).into_response(),
    };
    let faults = &app.config.faults;
    let bookings: Vec<_> = rows
        .iter()
        .filter_map(|row| {
            let day = |column: usize| row.get::<_, String>(column).parse::<Date>().ok();
            Some(Booking {
                stay: Stay {
                    uid: format!("{}@{}", row.get::<_, Uuid>(0), app.config.app),
                    check_in: day(1)?,
                    check_out: day(2)?,
                },
                created: Timestamp::from_second(row.get(3)).ok()?,
                cabin: row.get(4),
                guest: row.get(5),
                phone: row.get(6),
            })
        })
        .collect();
    let text = ical::write(&app.config.app, &bookings, faults);
    let content_type = match faults.has(Mistake::WrongContentType) {
        true => "text/plain; charset=utf-8",
        false => "text/calendar; charset=utf-8",
    };
    let etag = format!(
        "\"{}\"",
        data_encoding::HEXLOWER.encode(&Sha256::digest(&text))
    );
    let known = headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|v| v.as_bytes() == etag.as_bytes());
    let answer = [
        (header::ETAG, etag),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
        (header::CONTENT_TYPE, content_type.to_owned()),
    ];
    if known {
        return (StatusCode::NOT_MODIFIED, answer).into_response();
    }
    (StatusCode::OK, answer, text).into_response()
}

/// `GET /api/v1/ical/status`: how the import of the other channels' calendars is going, for machines.
pub async fn status(State(app): State<Arc<App>>) -> Response {
    match synced(&app).await {
        Ok(synced) => {
            let age = match app.config.faults.has(Mistake::AgeAlwaysZero) {
                true => 0.0,
                false => (epoch_seconds() - synced.at as f64).max(0.0),
            };
            let at = Timestamp::from_second((epoch_seconds() - age) as i64);
            let shown = json!({
                "sources": synced.sources,
                "events": synced.events,
                "double_booked_nights": synced.double_booked,
                "last_sync_age_minutes": age / 60.0,
                "last_success": at.unwrap_or_default().to_string(),
            });
            let headers = [
                (header::CONTENT_TYPE, "application/json"),
                (header::CACHE_CONTROL, "no-store"),
            ];
            (headers, shown.to_string()).into_response()
        }
        Err(error) => Problem::unavailable("look at the calendars", &error).into_response(),
    }
}

/// Whose calendar is imported, and for which cabin.
#[derive(Deserialize)]
pub struct Import {
    source: String,
    cabin: i32,
}

/// `POST /api/v1/ical/import?source=NAME&cabin=N`: replaces what that source has sold by the
/// calendar in the body. `Authorization: Bearer` carries [`import_token`].
pub async fn import(
    State(app): State<Arc<App>>,
    Query(import): Query<Import>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.strip_prefix("Bearer "));
    let message = token_message(&import.source);
    if !token.is_some_and(|t| webhooks::signed_with(&app.config.ics_salt, message.as_bytes(), t)) {
        return Problem::new(
            StatusCode::UNAUTHORIZED,
            "the bearer token is not the one for this source; print it with: cabanas ical-token SOURCE",
        )
        .into_response();
    }
    let Ok(text) = std::str::from_utf8(&body) else {
        return Problem::new(StatusCode::BAD_REQUEST, "the calendar is not UTF-8").into_response();
    };
    let stays = match ical::read(text) {
        Ok(stays) => stays,
        Err(error) => {
            return Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
                .into_response();
        }
    };
    let count = stays.len();
    match replace(&app, &import.source, import.cabin, stays).await {
        Ok(()) => {
            refresh_age(&app).await;
            let text = json!({ "source": import.source, "events": count }).to_string();
            ([(header::CONTENT_TYPE, "application/json")], text).into_response()
        }
        Err(error) if error.code() == Some(&SqlState::FOREIGN_KEY_VIOLATION) => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "there is no such cabin").into_response()
        }
        Err(error) => Problem::unavailable("import the calendar", &error).into_response(),
    }
}

/// The token that lets `source` import its calendar.
pub fn import_token(salt: &SecretString, source: &str) -> String {
    webhooks::sign(salt, token_message(source).as_bytes())
}

fn token_message(source: &str) -> String {
    format!("ical-import:{source}")
}

/// One statement, so that a reader sees the old calendar or the new one and nothing in between.
async fn replace(
    app: &App,
    source: &str,
    cabin: i32,
    stays: Vec<Stay>,
) -> Result<(), DatabaseError> {
    // A source that names a UID twice means the later one.
    let unique: std::collections::BTreeMap<_, _> =
        stays.into_iter().map(|s| (s.uid.clone(), s)).collect();
    let column = |f: fn(&Stay) -> String| unique.values().map(f).collect::<Vec<String>>();
    let uids = column(|s| s.uid.clone());
    let check_ins = column(|s| s.check_in.to_string());
    let check_outs = column(|s| s.check_out.to_string());
    let events = i32::try_from(unique.len()).unwrap_or(i32::MAX);
    let sql = "with gone as (delete from calendar_block where source = $1 and uid <> all ($3::text[])), \
               stayed as (insert into calendar_block (source, uid, cabin_id, check_in, check_out) \
                   select $1, t.uid, $2, t.check_in::date, t.check_out::date \
                   from unnest($3::text[], $4::text[], $5::text[]) as t (uid, check_in, check_out) \
                   on conflict (source, uid) do update set cabin_id = excluded.cabin_id, \
                   check_in = excluded.check_in, check_out = excluded.check_out) \
               insert into calendar_sync (source, events, succeeded_at) values ($1, $6, now()) \
               on conflict (source) do update set events = excluded.events, succeeded_at = now()";
    app.database
        .rows(
            "import the calendar",
            sql,
            &[
                (&source, Type::TEXT),
                (&cabin, Type::INT4),
                (&uids, Type::TEXT_ARRAY),
                (&check_ins, Type::TEXT_ARRAY),
                (&check_outs, Type::TEXT_ARRAY),
                (&events, Type::INT4),
            ],
        )
        .await
        .map(drop)
}

/// Imports every feed again and again, and keeps the gauges of their age and size current.
pub async fn keep_in_sync(app: Arc<App>, feeds: Vec<Feed>, fetcher: Option<Fetcher>) {
    let mut next_import = tokio::time::Instant::now();
    let mut rounds = 0u64;
    loop {
        if tokio::time::Instant::now() >= next_import {
            let frozen = app.config.faults.has(Mistake::FrozenImport) && rounds > 0;
            if let Some(fetcher) = fetcher.as_ref().filter(|_| !frozen) {
                for feed in &feeds {
                    import_feed(&app, fetcher, feed, rounds).await;
                }
            }
            rounds += 1;
            next_import = tokio::time::Instant::now() + app.config.ical_sync;
        }
        refresh_age(&app).await;
        tokio::time::sleep(AGE_REFRESH.min(app.config.ical_sync)).await;
    }
}

async fn import_feed(app: &App, fetcher: &Fetcher, feed: &Feed, round: u64) {
    let stays = match fetcher.fetch(&feed.url, MAX_CALENDAR).await {
        Ok(text) => ical::read(&text).map_err(|error| error.to_string()),
        Err(error) => Err(chain(&error)),
    };
    let empties = app.config.faults.has(Mistake::ImportEmpties) && round > 0;
    let result = match stays {
        _ if empties => replace(app, &feed.source, feed.cabin, Vec::new())
            .await
            .map_err(|e| chain(&e)),
        Ok(stays) => replace(app, &feed.source, feed.cabin, stays)
            .await
            .map_err(|e| chain(&e)),
        Err(error) => Err(error),
    };
    match result {
        Ok(()) => tracing::info!(source = feed.source, "calendar imported"),
        // The address of a feed carries its token: the log names the source only.
        Err(error) => tracing::warn!(source = feed.source, error, "cannot import a calendar"),
    }
}

/// How the imports are going, over all sources.
struct Synced {
    /// When the source that was imported longest ago was imported; now without any source, since then
    /// nothing can be old. Seconds since 1970.
    at: i64,
    sources: i64,
    events: i64,
    /// Nights that both a guest of ours and another channel have. Our own nights that a channel sends
    /// back as they are do not count.
    double_booked: i64,
}

async fn synced(app: &App) -> Result<Synced, DatabaseError> {
    let sql = "select floor(extract(epoch from coalesce(min(succeeded_at), now())))::bigint, \
               count(*), coalesce(sum(events), 0)::bigint, \
               (select coalesce(sum(least(r.check_out, b.check_out) - greatest(r.check_in, b.check_in)), 0) \
                from reservation r join calendar_block b on b.cabin_id = r.cabin_id \
                and daterange(b.check_in, b.check_out) && daterange(r.check_in, r.check_out) \
                where (b.check_in, b.check_out) <> (r.check_in, r.check_out))::bigint \
               from calendar_sync";
    let rows = app
        .database
        .rows("read the age of the calendars", sql, &[])
        .await?;
    let column = |column: usize| rows.first().map_or(0, |row| row.get(column));
    Ok(Synced {
        at: column(0),
        sources: column(1),
        events: column(2),
        double_booked: column(3),
    })
}

/// Brings the gauges up to date.
async fn refresh_age(app: &App) {
    match synced(app).await {
        Ok(synced) => {
            app.metrics
                .calendars_synced_at(u64::try_from(synced.at).unwrap_or(0));
            app.metrics
                .calendar_events(synced.events, synced.double_booked);
        }
        Err(error) => {
            tracing::warn!(error = %chain(&error), "cannot read the age of the calendars")
        }
    }
}

/// The feeds in `ICAL_FEEDS`, or none.
pub fn feeds(configured: Option<&SecretString>) -> Result<Vec<Feed>, crate::feed::FeedError> {
    configured.map_or(Ok(Vec::new()), |text| {
        Feed::parse_list(text.expose_secret())
    })
}
