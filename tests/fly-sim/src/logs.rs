//! What machines print, and what the platform says about them:
//! `GET /api/v1/apps/{app}/logs?next_token=&instance=&region=`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Extension, Json, Router};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::core::Shared;
use crate::error::{FlyError, FlyResult};
use crate::state::Caller;
use crate::strict::StrictQuery;

/// Lines kept of one app.
const KEPT: usize = 5_000;
/// Lines in one answer.
const PAGE: usize = 100;

/// A line.
#[derive(Clone, Debug)]
pub struct Line {
    /// Nanoseconds since 1970, unique and growing within an app.
    pub nanos: i128,
    /// The text.
    pub message: String,
    /// `info`, `error`, ...
    pub level: &'static str,
    /// Machine id.
    pub instance: String,
    /// Region.
    pub region: String,
    /// `app`, `runner` or `proxy`.
    pub provider: &'static str,
}

/// The lines of all apps.
#[derive(Debug, Default)]
pub struct Logs {
    apps: Mutex<BTreeMap<String, VecDeque<Line>>>,
}

impl Logs {
    /// Adds a line; its time is now, or just after the last one.
    pub fn push(&self, app: &str, mut line: Line) {
        let mut apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = apps.entry(app.to_owned()).or_default();
        let after = lines.back().map_or(0, |last| last.nanos + 1);
        line.nanos = Timestamp::now().as_nanosecond().max(after);
        lines.push_back(line);
        if lines.len() > KEPT {
            lines.pop_front();
        }
    }

    /// Forgets an app.
    pub fn remove(&self, app: &str) {
        self.apps
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(app);
    }

    /// The last lines of an app, or those after a token; of one machine or region if given.
    pub fn page(&self, app: &str, after: Option<i128>, keep: impl Fn(&Line) -> bool) -> Vec<Line> {
        let apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(lines) = apps.get(app) else {
            return Vec::new();
        };
        let fits = lines
            .iter()
            .filter(|line| after.is_none_or(|after| line.nanos > after))
            .filter(|line| keep(line));
        match after {
            Some(_) => fits.take(PAGE).cloned().collect(),
            None => {
                let mut last: Vec<Line> = fits.rev().take(PAGE).cloned().collect();
                last.reverse();
                last
            }
        }
    }
}

/// The routes of logs.
pub fn router() -> Router<Shared> {
    Router::new().route("/api/v1/apps/{app}/logs", get(logs))
}

#[derive(Debug, Deserialize)]
struct LogsQuery {
    next_token: Option<String>,
    instance: Option<String>,
    region: Option<String>,
}

async fn logs(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(app): Path<String>,
    StrictQuery(query): StrictQuery<LogsQuery>,
) -> FlyResult<Json<Value>> {
    core.read(|world| world.app(&caller, &app).map(|_| ()))?;
    let token = query.next_token.filter(|token| !token.is_empty());
    let after = match &token {
        Some(token) => Some(
            token
                .parse::<i128>()
                .map_err(|_| FlyError::bad_request("invalid next_token"))?,
        ),
        None => None,
    };
    let given = |value: &Option<String>, actual: &str| {
        value
            .as_deref()
            .is_none_or(|wanted| wanted.is_empty() || wanted == actual)
    };
    let lines = core.logs.page(&app, after, |line| {
        given(&query.instance, &line.instance) && given(&query.region, &line.region)
    });
    let next = lines
        .last()
        .map(|line| line.nanos.to_string())
        .or(token)
        .unwrap_or_default();
    let data: Vec<Value> = lines
        .iter()
        .map(|line| {
            let time = Timestamp::from_nanosecond(line.nanos)
                .map(|time| format!("{time:.9}"))
                .unwrap_or_default();
            json!({
                "id": line.nanos.to_string(),
                "type": "log",
                "attributes": {
                    "timestamp": time,
                    "message": line.message,
                    "level": line.level,
                    "instance": line.instance,
                    "region": line.region,
                    "meta": {
                        "instance": line.instance,
                        "region": line.region,
                        "event": {"provider": line.provider},
                    },
                },
            })
        })
        .collect();
    Ok(Json(json!({"data": data, "meta": {"next_token": next}})))
}
