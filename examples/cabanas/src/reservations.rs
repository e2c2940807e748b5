//! The reservations: create once, list often.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::cache::{Answer, Claim};
use crate::problem::Problem;
use crate::server::App;

/// Route of the collection.
pub const ROUTE: &str = "/api/v1/reservations";

/// Says on an answer that it was given before, to the same request.
pub const REPLAYED: &str = "idempotency-replayed";

/// Longest Idempotency-Key.
const MAX_KEY: usize = 128;

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct NewReservation {
    cabin: i32,
    check_in: Date,
    check_out: Date,
    guest_name: String,
    #[serde(default)]
    guest_phone: Option<String>,
}

#[derive(Debug, Serialize)]
struct Created {
    id: String,
    cabin: i32,
    check_in: Date,
    check_out: Date,
}

/// `POST /api/v1/reservations`: books a cabin. The same `Idempotency-Key` books once.
pub async fn create(State(app): State<Arc<App>>, headers: HeaderMap, body: Bytes) -> Response {
    let Some(key) = idempotency_key(&headers) else {
        return Problem::new(
            StatusCode::BAD_REQUEST,
            "the header Idempotency-Key is required: 1 to 128 visible ASCII characters",
        )
        .into_response();
    };
    let claimed = match app.cache.claim(key, &body).await {
        Ok(Claim::New) => true,
        Ok(Claim::Running) => {
            let problem = Problem::new(StatusCode::CONFLICT, "this request is being worked on");
            return ([(header::RETRY_AFTER, "1")], problem).into_response();
        }
        Ok(Claim::Answered(answer)) => return replay(&answer),
        Ok(Claim::Other) => return other_request().into_response(),
        Err(error) => {
            // The key is unique in the database too, so Redis may be away without a double booking.
            tracing::warn!(%error, "Redis is unreachable, the database alone keeps requests apart");
            false
        }
    };

    let result = book(&app, key, &body).await;
    let answer = match &result {
        Ok(booked) => Answer {
            status: StatusCode::CREATED.as_u16(),
            body: json!(booked.created).to_string(),
        },
        Err(problem) => Answer {
            status: problem.status().as_u16(),
            body: problem.body(),
        },
    };
    if claimed {
        let kept = if answer.status < 500 {
            app.cache.keep(key, &body, answer.clone()).await
        } else {
            app.cache.release(key).await
        };
        if let Err(error) = kept {
            tracing::warn!(%error, "cannot store the answer in Redis");
        }
    }
    match result {
        Ok(booked) if booked.replayed => replay(&answer),
        Ok(_) => {
            if let Err(error) = app.cache.invalidate().await {
                tracing::warn!(%error, "the list in Redis may be old for some seconds");
            }
            json_text(StatusCode::CREATED, answer.body)
        }
        Err(problem) => problem.into_response(),
    }
}

struct Booked {
    created: Created,
    replayed: bool,
}

async fn book(app: &App, key: &str, body: &[u8]) -> Result<Booked, Problem> {
    let new: NewReservation = serde_json::from_slice(body).map_err(|error| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            format!("the body is not a reservation: {error}"),
        )
    })?;
    if new.check_out <= new.check_in {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "check_out must be after check_in",
        ));
    }
    if new.guest_name.trim().is_empty() || new.guest_name.len() > 200 {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "guest_name must have 1 to 200 bytes",
        ));
    }
    let id = Uuid::new_v4();
    let (check_in, check_out) = (new.check_in.to_string(), new.check_out.to_string());
    let sql = "insert into reservation (id, cabin_id, check_in, check_out, guest_name, guest_phone, idempotency_key) \
               select $1, $2, $3::date, $4::date, $5, $6, $7 \
               where not exists (select from calendar_block where cabin_id = $2 \
                   and daterange(check_in, check_out) && daterange($3::date, $4::date)) \
               on conflict (idempotency_key) do nothing returning id";
    let inserted = app
        .database
        .rows(
            "book the cabin",
            sql,
            &[
                (&id, Type::UUID),
                (&new.cabin, Type::INT4),
                (&check_in, Type::TEXT),
                (&check_out, Type::TEXT),
                (&new.guest_name, Type::TEXT),
                (&new.guest_phone, Type::TEXT),
                (&key, Type::TEXT),
            ],
        )
        .await;
    let created = |id: Uuid| Created {
        id: id.to_string(),
        cabin: new.cabin,
        check_in: new.check_in,
        check_out: new.check_out,
    };
    match inserted {
        Ok(rows) if !rows.is_empty() => Ok(Booked {
            created: created(id),
            replayed: false,
        }),
        // Either the key is known, or another channel has sold the nights.
        Ok(_) => match same(app, key, &new).await? {
            Some(id) => Ok(Booked {
                created: created(id),
                replayed: true,
            }),
            None => Err(taken()),
        },
        Err(error) if error.code() == Some(&SqlState::EXCLUSION_VIOLATION) => Err(taken()),
        Err(error) if error.code() == Some(&SqlState::FOREIGN_KEY_VIOLATION) => Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "there is no such cabin",
        )),
        Err(error) => Err(Problem::unavailable("book the cabin", &error)),
    }
}

/// The reservation with that key, if it is the same; an error if the key is another request's.
async fn same(app: &App, key: &str, new: &NewReservation) -> Result<Option<Uuid>, Problem> {
    let sql = "select id, cabin_id = $2 and check_in = $3::date and check_out = $4::date \
               and guest_name = $5 from reservation where idempotency_key = $1";
    let (check_in, check_out) = (new.check_in.to_string(), new.check_out.to_string());
    let rows = app
        .database
        .rows(
            "look for the same request",
            sql,
            &[
                (&key, Type::TEXT),
                (&new.cabin, Type::INT4),
                (&check_in, Type::TEXT),
                (&check_out, Type::TEXT),
                (&new.guest_name, Type::TEXT),
            ],
        )
        .await
        .map_err(|error| Problem::unavailable("look for the same request", &error))?;
    match rows.first() {
        None => Ok(None),
        Some(row) if row.get::<_, bool>(1) => Ok(Some(row.get(0))),
        Some(_) => Err(other_request()),
    }
}

/// `GET /api/v1/reservations`: which nights are taken from today on. No names: the list is public.
pub async fn list(State(app): State<Arc<App>>) -> Response {
    let generation = app.cache.generation().await.ok();
    if let Some(generation) = generation
        && let Ok(Some(text)) = app.cache.list(generation).await
    {
        return json_text(StatusCode::OK, text);
    }
    let sql = "select id, cabin_id, check_in::text, check_out::text from reservation \
               where check_out >= current_date order by check_in, cabin_id limit 500";
    let rows = match app.database.rows("list the reservations", sql, &[]).await {
        Ok(rows) => rows,
        Err(error) => return Problem::unavailable("list the reservations", &error).into_response(),
    };
    let list: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "id": row.get::<_, Uuid>(0).to_string(),
                "cabin": row.get::<_, i32>(1),
                "check_in": row.get::<_, String>(2),
                "check_out": row.get::<_, String>(3),
            })
        })
        .collect();
    let text = json!({ "reservations": list }).to_string();
    if let Some(generation) = generation
        && let Err(error) = app.cache.store_list(generation, &text).await
    {
        tracing::warn!(%error, "cannot store the list in Redis");
    }
    json_text(StatusCode::OK, text)
}

fn idempotency_key(headers: &HeaderMap) -> Option<&str> {
    let key = headers.get("idempotency-key")?.to_str().ok()?.trim();
    (1..=MAX_KEY).contains(&key.len()).then_some(key)
}

fn taken() -> Problem {
    Problem::new(StatusCode::CONFLICT, "the cabin is taken on these nights")
}

fn other_request() -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "this Idempotency-Key belongs to a request with another body",
    )
}

fn replay(answer: &Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let mut response = json_text(status, answer.body.clone());
    response
        .headers_mut()
        .insert(REPLAYED, header::HeaderValue::from_static("true"));
    response
}

fn json_text(status: StatusCode, text: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}
