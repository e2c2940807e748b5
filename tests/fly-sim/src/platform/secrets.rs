//! App secrets: write-only values, digests, and one version counter for each app.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use http::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::core::{CallId, Shared};
use crate::error::{FlyError, FlyResult};
use crate::http::Injected;
use crate::state::{App, Caller, Scope};
use crate::strict::{Strict, StrictQuery};

/// One secret.
#[derive(Clone)]
pub struct Secret {
    value: String,
    /// Opaque; changes with the value.
    pub digest: String,
    /// First written.
    pub created_at: Timestamp,
    /// Last written.
    pub updated_at: Timestamp,
}

/// The secrets of one app, and what its hosts see of them.
#[derive(Default)]
pub struct Secrets {
    version: u64,
    entries: BTreeMap<String, Secret>,
    /// Older sets that a host may still see, and when each version becomes visible.
    replicated: Vec<(Timestamp, u64, BTreeMap<String, String>)>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets")
            .field("version", &self.version)
            .field("names", &self.entries.keys().collect::<Vec<_>>())
            .finish()
    }
}

impl Secrets {
    /// The counter: the number of writes so far.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Version and values that hosts see now.
    pub fn visible(&self, now: Timestamp) -> (u64, BTreeMap<String, String>) {
        self.replicated
            .iter()
            .rev()
            .find(|(at, _, _)| *at <= now)
            .map(|(_, version, values)| (*version, values.clone()))
            .unwrap_or_default()
    }

    /// Names and digests.
    pub fn digests(&self) -> BTreeMap<String, String> {
        self.entries
            .iter()
            .map(|(name, secret)| (name.clone(), secret.digest.clone()))
            .collect()
    }

    /// The list as GraphQL shows it (fly-go, `resource_secrets.go`).
    pub fn graph(&self) -> Vec<Value> {
        let entries = self.entries.iter();
        entries
            .map(|(name, secret)| {
                json!({
                    "__typename": "Secret",
                    "name": name,
                    "digest": secret.digest,
                    "createdAt": secret.created_at.to_string(),
                })
            })
            .collect()
    }

    /// Writes and unsets; hosts see it after `lag`. Returns the new version.
    pub fn apply(
        &mut self,
        salt: &str,
        values: BTreeMap<String, Option<String>>,
        now: Timestamp,
        lag: Duration,
    ) -> u64 {
        for (name, value) in values {
            let Some(value) = value else {
                self.entries.remove(&name);
                continue;
            };
            let digest = digest(salt, &value);
            let created_at = self.entries.get(&name).map_or(now, |old| old.created_at);
            self.entries.insert(
                name,
                Secret {
                    value,
                    digest,
                    created_at,
                    updated_at: now,
                },
            );
        }
        self.version += 1;
        let values = self
            .entries
            .iter()
            .map(|(name, secret)| (name.clone(), secret.value.clone()))
            .collect();
        // Only the newest visible one and what is still on its way matter.
        let newest = self.replicated.iter().rposition(|(at, _, _)| *at <= now);
        if let Some(newest) = newest {
            self.replicated.drain(..newest);
        }
        let lag = jiff::SignedDuration::try_from(lag).unwrap_or_default();
        let at = now.checked_add(lag).unwrap_or(now);
        self.replicated.push((at, self.version, values));
        self.version
    }

    /// Forgets everything, as when somebody unsets all; says whether there was anything.
    pub fn clear(&mut self, now: Timestamp) -> bool {
        let all: BTreeMap<_, _> = self
            .entries
            .keys()
            .map(|name| (name.clone(), None))
            .collect();
        let any = !all.is_empty();
        if any {
            self.apply("", all, now, Duration::ZERO);
        }
        any
    }

    fn list(&self, show: bool) -> Value {
        self.entries
            .iter()
            .map(|(name, secret)| secret.json(name, show))
            .collect()
    }
}

impl Secret {
    fn json(&self, name: &str, show: bool) -> Value {
        let mut value = json!({
            "name": name,
            "digest": self.digest,
            "created_at": self.created_at.to_string(),
            "updated_at": self.updated_at.to_string(),
        });
        if show {
            value["value"] = json!(self.value);
        }
        value
    }
}

fn digest(salt: &str, value: &str) -> String {
    let hash = Sha256::new()
        .chain_update(salt)
        .chain_update([0])
        .chain_update(value)
        .finalize();
    data_encoding::HEXLOWER.encode(&hash[..8])
}

/// Environment variables, more or less; the exact rule of Fly is not public.
fn check_name(name: &str) -> FlyResult<()> {
    let starts = name
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    let rest = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if starts && rest && name.len() <= 256 {
        Ok(())
    } else {
        Err(FlyError::bad_request(format!(
            "invalid_argument: invalid secret name '{name}'"
        )))
    }
}

/// The routes of app secrets.
pub fn router() -> Router<Shared> {
    Router::new()
        .route("/v1/apps/{app}/secrets", get(list).post(write))
        .route(
            "/v1/apps/{app}/secrets/{name}",
            get(show).post(write_one).delete(delete_one),
        )
}

#[derive(Deserialize)]
struct ListQuery {
    min_version: Option<u64>,
    /// How fly-go spells `min_version`.
    version: Option<u64>,
    #[serde(default)]
    show_secrets: bool,
}

fn may_see_values(caller: &Caller, app: &App) -> bool {
    caller.changes(app) && caller.tokens.iter().any(|token| token.scope == Scope::Org)
}

fn check_version(app: &App, query: &ListQuery) -> FlyResult<()> {
    let wanted = query.min_version.or(query.version).unwrap_or_default();
    let (visible, _) = app.platform.secrets.visible(Timestamp::now());
    if wanted > visible {
        return Err(FlyError::precondition(format!(
            "secrets version {wanted} is not available yet, newest is {visible}"
        )));
    }
    Ok(())
}

async fn list(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(app): Path<String>,
    StrictQuery(query): StrictQuery<ListQuery>,
) -> FlyResult<Json<Value>> {
    core.read(|world| {
        let app = world.app(&caller, &app)?;
        check_version(app, &query)?;
        let show = query.show_secrets && may_see_values(&caller, app);
        Ok(Json(json!({"secrets": app.platform.secrets.list(show)})))
    })
}

async fn show(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path((app, name)): Path<(String, String)>,
    StrictQuery(query): StrictQuery<ListQuery>,
) -> FlyResult<Json<Value>> {
    core.read(|world| {
        let app = world.app(&caller, &app)?;
        check_version(app, &query)?;
        let show = query.show_secrets && may_see_values(&caller, app);
        app.platform
            .secrets
            .entries
            .get(&name)
            .map(|secret| Json(secret.json(&name, show)))
            .ok_or_else(|| FlyError::not_found(format!("secret '{name}' not found")))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Write {
    values: BTreeMap<String, Option<String>>,
}

async fn write(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Extension(injected): Extension<Injected>,
    Path(app): Path<String>,
    Strict(body): Strict<Write>,
) -> FlyResult<Json<Value>> {
    for name in body.values.keys() {
        check_name(name)?;
    }
    let (version, secrets) = change(&core, &caller, call, injected, &app, body.values)?;
    Ok(Json(
        json!({"secrets": secrets, "version": version, "Version": version}),
    ))
}

/// Writes secrets of an app; returns the version and the list.
pub fn change(
    core: &Shared,
    caller: &Caller,
    call: CallId,
    injected: Injected,
    app: &str,
    values: BTreeMap<String, Option<String>>,
) -> FlyResult<(u64, Value)> {
    let lag = core.options.latency.draw("secrets.visible");
    let now = Timestamp::now();
    let (set, unset): (Vec<_>, Vec<_>) = values.iter().partition(|(_, value)| value.is_some());
    let names = |list: Vec<(&String, &Option<String>)>| -> Vec<String> {
        list.into_iter().map(|(name, _)| name.clone()).collect()
    };
    let (set, unset) = (names(set), names(unset));
    if injected.secret_without_effect {
        return core.read(|world| {
            let app = world.app(caller, app)?;
            let secrets = &app.platform.secrets;
            Ok((secrets.version + 1, secrets.list(false)))
        });
    }
    let (version, digests, list) = core.write(|world| {
        let app = world.app_mut(caller, app)?;
        let salt = app.internal_numeric_id.to_string();
        let secrets = &mut app.platform.secrets;
        let version = secrets.apply(&salt, values, now, lag);
        Ok((version, secrets.digests(), secrets.list(false)))
    })?;
    core.effect(
        call,
        "secrets.write",
        Some(app),
        &version.to_string(),
        "",
        BTreeMap::new(),
        json!({"set": set, "unset": unset, "digests": digests}),
    );
    Ok((version, list))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WriteOne {
    value: String,
}

async fn write_one(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Extension(injected): Extension<Injected>,
    Path((app, name)): Path<(String, String)>,
    Strict(body): Strict<WriteOne>,
) -> FlyResult<Response> {
    check_name(&name)?;
    let values = BTreeMap::from([(name.clone(), Some(body.value))]);
    let (version, _) = change(&core, &caller, call, injected, &app, values)?;
    let mut answer = core.read(|world| {
        let secrets = &world.app(&caller, &app)?.platform.secrets;
        Ok::<_, FlyError>(
            secrets
                .entries
                .get(&name)
                .map_or_else(|| json!({"name": name}), |secret| secret.json(&name, false)),
        )
    })?;
    answer["version"] = json!(version);
    answer["Version"] = json!(version);
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

async fn delete_one(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Extension(injected): Extension<Injected>,
    Path((app, name)): Path<(String, String)>,
) -> FlyResult<Json<Value>> {
    core.read(|world| {
        let secrets = &world.app(&caller, &app)?.platform.secrets;
        if secrets.entries.contains_key(&name) {
            Ok(())
        } else {
            Err(FlyError::not_found(format!("secret '{name}' not found")))
        }
    })?;
    let values = BTreeMap::from([(name, None)]);
    let (version, _) = change(&core, &caller, call, injected, &app, values)?;
    Ok(Json(json!({"version": version, "Version": version})))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn one(value: Option<&str>) -> BTreeMap<String, Option<String>> {
        BTreeMap::from([("A".to_owned(), value.map(str::to_owned))])
    }

    #[test]
    fn a_digest_changes_with_the_value_only_and_the_version_with_every_write() {
        let mut secrets = Secrets::default();
        let now = Timestamp::now();
        assert_eq!(secrets.apply("7", one(Some("x")), now, Duration::ZERO), 1);
        let first = secrets.digests();
        assert_eq!(secrets.apply("7", one(Some("x")), now, Duration::ZERO), 2);
        assert_eq!(secrets.digests(), first);
        assert_eq!(secrets.apply("7", one(Some("y")), now, Duration::ZERO), 3);
        assert_ne!(secrets.digests(), first);
        assert_eq!(secrets.apply("7", one(None), now, Duration::ZERO), 4);
        assert!(secrets.digests().is_empty());
    }

    #[test]
    fn hosts_see_a_write_after_its_lag_and_the_one_before_until_then() {
        let mut secrets = Secrets::default();
        let now = Timestamp::now();
        let later = now + jiff::SignedDuration::from_secs(5);
        secrets.apply("", one(Some("old")), now, Duration::ZERO);
        secrets.apply("", one(Some("new")), now, Duration::from_secs(5));
        assert_eq!(secrets.visible(now).0, 1);
        assert_eq!(secrets.visible(now).1["A"], "old");
        assert_eq!(secrets.visible(later).0, 2);
        assert_eq!(secrets.visible(later).1["A"], "new");
        assert!(!format!("{secrets:?}").contains("old"));
    }
}
