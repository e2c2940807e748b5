//! Certificates for hostnames: pending until DNS points here, then issued after a while.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Json, Router};
use http::StatusCode;
use jiff::{Timestamp, ToSpan};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::core::{CallId, Core, Shared};
use crate::error::{FlyError, FlyResult};
use crate::id;
use crate::platform::addresses::Type;
use crate::state::{App, Caller};
use crate::strict::{Strict, StrictQuery};

/// Days that an issued certificate is good for.
const VALID_HOURS: i64 = 90 * 24;

/// A hostname of an app.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The hostname.
    pub hostname: String,
    /// Opaque id.
    pub id: String,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// Whether Fly is to get one from its authority.
    pub acme: bool,
    /// Whether DNS points here; changed by control, or at once with `certificates_auto`.
    pub dns_configured: bool,
    /// When the one of the authority was issued.
    pub issued_at: Option<Timestamp>,
    /// When the user's own was uploaded.
    pub custom_at: Option<Timestamp>,
}

impl Certificate {
    /// Whether the edge can serve the hostname.
    pub fn is_active(&self) -> bool {
        self.dns_configured && (self.issued_at.is_some() || self.custom_at.is_some())
    }

    fn status(&self) -> &'static str {
        match (self.is_active(), self.dns_configured) {
            (true, _) => "active",
            (false, true) => "pending_validation",
            (false, false) => "pending_ownership",
        }
    }

    fn issued(&self) -> Vec<Value> {
        let expiry = |at: Timestamp| {
            at.checked_add(VALID_HOURS.hours())
                .map_or_else(|_| String::new(), |at| at.to_string())
        };
        let mut all = Vec::new();
        if let Some(at) = self.custom_at {
            all.push(json!({
                "source": "custom", "status": "active", "created_at": at.to_string(),
                "expires_at": expiry(at), "issuer": "custom", "issued": [],
            }));
        }
        if self.acme {
            let expires = self.issued_at.map(expiry);
            let issued: Vec<_> = expires
                .iter()
                .flat_map(|expires| ["rsa", "ecdsa"].map(|kind| (kind, expires)))
                .map(|(kind, expires)| {
                    json!({
                        "type": kind, "expires_at": expires,
                        "certificate_authority": "lets_encrypt",
                    })
                })
                .collect();
            all.push(json!({
                "source": "fly",
                "status": if self.issued_at.is_some() { "active" } else { self.status() },
                "created_at": self.created_at.to_string(),
                "expires_at": expires,
                "issuer": "Let's Encrypt",
                "issued": issued,
            }));
        }
        all
    }

    fn detail(&self, app: &App) -> Value {
        let of = |kinds: &[Type]| -> Vec<&str> {
            let addresses = app.platform.addresses.iter();
            addresses
                .filter(|address| kinds.contains(&address.kind))
                .map(|address| address.ip.as_str())
                .collect()
        };
        let (host, short) = (&self.hostname, &self.id);
        json!({
            "hostname": host,
            "configured": self.dns_configured,
            "acme_requested": self.acme,
            "status": self.status(),
            "dns_provider": "example",
            "rate_limited_until": null,
            "certificates": self.issued(),
            "validation": {
                "dns_configured": self.dns_configured,
                "alpn_configured": self.dns_configured,
                "http_configured": self.dns_configured,
                "ownership_txt_configured": false,
            },
            "dns_requirements": {
                "a": of(&[Type::V4, Type::SharedV4]),
                "aaaa": of(&[Type::V6]),
                "cname": format!("{}.fly.dev", app.name),
                "acme_challenge": {
                    "name": format!("_acme-challenge.{host}"),
                    "target": format!("{host}.{short}.flydns.net"),
                },
                "ownership": {
                    "name": format!("_fly-ownership.{host}"),
                    "app_value": format!("app-{short}"),
                    "org_value": format!("org-{}", app.org_slug),
                },
            },
            "validation_errors": if self.dns_configured { json!([]) } else {
                json!([format!("DNS of {host} does not point to {}.fly.dev", app.name)])
            },
        })
    }

    fn summary(&self) -> Value {
        json!({
            "hostname": self.hostname,
            "configured": self.dns_configured,
            "acme_requested": self.acme,
            "status": self.status(),
            "created_at": self.created_at.to_string(),
        })
    }

    /// As GraphQL shows it.
    pub fn graph(&self) -> Value {
        json!({
            "__typename": "AppCertificate",
            "id": self.id,
            "hostname": self.hostname,
            "clientStatus": if self.is_active() { "Ready" } else { "Awaiting configuration" },
            "configured": self.dns_configured,
            "acmeDnsConfigured": self.dns_configured,
            "acmeAlpnConfigured": self.dns_configured,
            "certificateAuthority": "lets_encrypt",
            "createdAt": self.created_at.to_string(),
            "check": self.dns_configured,
        })
    }
}

/// The routes of certificates.
pub fn router() -> Router<Shared> {
    Router::new()
        .route("/v1/apps/{app}/certificates", get(list))
        .route("/v1/apps/{app}/certificates/acme", post(acme))
        .route("/v1/apps/{app}/certificates/custom", post(custom))
        .route(
            "/v1/apps/{app}/certificates/{hostname}",
            get(show).delete(remove),
        )
        .route("/v1/apps/{app}/certificates/{hostname}/check", post(check))
        .route(
            "/v1/apps/{app}/certificates/{hostname}/acme",
            delete(remove_acme),
        )
        .route(
            "/v1/apps/{app}/certificates/{hostname}/custom",
            delete(remove_custom),
        )
}

#[derive(Deserialize)]
struct Page {
    filter: Option<String>,
    cursor: Option<String>,
    limit: Option<usize>,
}

async fn list(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(app): Path<String>,
    StrictQuery(page): StrictQuery<Page>,
) -> FlyResult<Json<Value>> {
    let limit = page.limit.unwrap_or(25);
    if !(1..=500).contains(&limit) {
        return Err(FlyError::bad_request(
            "invalid_argument: limit must be inside range [1, 500]",
        ));
    }
    core.read(|world| {
        let app = world.app(&caller, &app)?;
        let all: Vec<_> = app
            .platform
            .certificates
            .values()
            .filter(|c| {
                page.filter
                    .as_ref()
                    .is_none_or(|text| c.hostname.contains(text))
            })
            .collect();
        let after = page.cursor.unwrap_or_default();
        let mut rest = all.iter().filter(|c| c.hostname > after);
        let shown: Vec<_> = rest.by_ref().take(limit).collect();
        let next = rest.next().and(shown.last()).map(|last| &last.hostname);
        Ok(Json(json!({
            "certificates": shown.iter().map(|c| c.summary()).collect::<Vec<_>>(),
            "next_cursor": next,
            "total_count": all.len(),
        })))
    })
}

fn hostname_of(text: &str) -> FlyResult<String> {
    let host = text.trim().trim_end_matches('.').to_ascii_lowercase();
    let name = host.strip_prefix("*.").unwrap_or(&host);
    let valid = name.len() <= 253
        && name.contains('.')
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        });
    if valid && !name.ends_with(".fly.dev") {
        Ok(host)
    } else {
        Err(FlyError::unprocessable(format!(
            "Validation failed: Hostname '{text}' is invalid"
        )))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Acme {
    hostname: String,
}

async fn acme(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path(app): Path<String>,
    Strict(body): Strict<Acme>,
) -> FlyResult<Response> {
    let detail = add(&core, &caller, call, &app, &body.hostname, false)?;
    Ok((StatusCode::CREATED, Json(detail)).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Custom {
    hostname: String,
    fullchain: String,
    private_key: String,
}

async fn custom(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path(app): Path<String>,
    Strict(body): Strict<Custom>,
) -> FlyResult<Response> {
    for (name, text, mark) in [
        ("Fullchain", &body.fullchain, "BEGIN CERTIFICATE"),
        ("Private key", &body.private_key, "PRIVATE KEY"),
    ] {
        if !text.contains(mark) {
            return Err(FlyError::unprocessable(format!(
                "Validation failed: {name} is not PEM"
            )));
        }
    }
    let detail = add(&core, &caller, call, &app, &body.hostname, true)?;
    Ok((StatusCode::CREATED, Json(detail)).into_response())
}

/// Adds a hostname; names are unique over all apps.
pub fn add(
    core: &Shared,
    caller: &Caller,
    call: CallId,
    app: &str,
    hostname: &str,
    custom: bool,
) -> FlyResult<Value> {
    let hostname = hostname_of(hostname)?;
    let auto = core.options.platform.certificates_auto;
    let now = Timestamp::now();
    let (detail, id) = core.write(|world| {
        world.app(caller, app)?;
        let elsewhere = world
            .apps
            .values()
            .any(|other| other.name != app && other.platform.certificates.contains_key(&hostname));
        let app = world.app_mut(caller, app)?;
        let old = app.platform.certificates.get(&hostname);
        if elsewhere || old.is_some_and(|old| !custom && old.acme) {
            return Err(FlyError::unprocessable(
                "Validation failed: Hostname already exists on app",
            ));
        }
        let mut certificate = old.cloned().unwrap_or_else(|| Certificate {
            hostname: hostname.clone(),
            id: id::short(8),
            created_at: now,
            acme: false,
            dns_configured: auto,
            issued_at: None,
            custom_at: None,
        });
        if custom {
            certificate.custom_at = Some(now);
        } else {
            certificate.acme = true;
        }
        let detail = certificate.detail(app);
        let id = certificate.id.clone();
        app.platform
            .certificates
            .insert(hostname.clone(), certificate);
        Ok((detail, id))
    })?;
    core.effect(
        call,
        "certificate.create",
        Some(app),
        &id,
        &hostname,
        BTreeMap::new(),
        json!({"custom": custom}),
    );
    issue_later(core, app, &hostname);
    Ok(detail)
}

/// Issues what is to be issued, after as long as that takes.
pub fn issue_later(core: &Shared, app: &str, hostname: &str) {
    let (app, hostname) = (app.to_owned(), hostname.to_owned());
    let waits = |core: &Core| {
        core.read(|world| {
            let certificate = world.apps.get(&app)?.platform.certificates.get(&hostname)?;
            let waits = certificate.acme && certificate.dns_configured;
            (waits && certificate.issued_at.is_none()).then_some(())
        })
        .is_some()
    };
    if !waits(core) {
        return;
    }
    let core_later = core.clone();
    let delay = core.options.latency.draw("certificate.issue");
    let (app, hostname) = (app.clone(), hostname.clone());
    core.spawn(async move {
        tokio::time::sleep(delay).await;
        core_later.write(|world| {
            let Some(app) = world.apps.get_mut(&app) else {
                return;
            };
            if let Some(certificate) = app.platform.certificates.get_mut(&hostname)
                && certificate.dns_configured
            {
                certificate.issued_at.get_or_insert_with(Timestamp::now);
            }
        });
    });
}

fn with<T>(
    core: &Core,
    caller: &Caller,
    app: &str,
    hostname: &str,
    f: impl FnOnce(&App, &Certificate) -> T,
) -> FlyResult<T> {
    core.read(|world| {
        let app = world.app(caller, app)?;
        app.platform
            .certificates
            .get(hostname)
            .map(|certificate| f(app, certificate))
            .ok_or_else(|| unknown(hostname))
    })
}

fn unknown(hostname: &str) -> FlyError {
    FlyError::not_found(format!("Certificate for hostname \"{hostname}\" not found"))
}

async fn show(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path((app, hostname)): Path<(String, String)>,
) -> FlyResult<Json<Value>> {
    with(&core, &caller, &app, &hostname, |app, c| {
        Json(c.detail(app))
    })
}

async fn check(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path((app, hostname)): Path<(String, String)>,
) -> FlyResult<Json<Value>> {
    with(&core, &caller, &app, &hostname, |app, c| {
        let mut detail = c.detail(app);
        let required = &detail["dns_requirements"];
        let records = if c.dns_configured {
            json!({"a": required["a"], "aaaa": required["aaaa"], "cname": [required["cname"]]})
        } else {
            json!({"a": [], "aaaa": [], "cname": []})
        };
        detail["dns_records"] = records;
        Json(detail)
    })
}

async fn remove(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path((app, hostname)): Path<(String, String)>,
) -> FlyResult<StatusCode> {
    delete_hostname(&core, &caller, call, &app, &hostname)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes a hostname with all its certificates.
pub fn delete_hostname(
    core: &Shared,
    caller: &Caller,
    call: CallId,
    app: &str,
    hostname: &str,
) -> FlyResult<Certificate> {
    let gone = core.write(|world| {
        let app = world.app_mut(caller, app)?;
        app.platform
            .certificates
            .remove(hostname)
            .ok_or_else(|| unknown(hostname))
    })?;
    core.effect(
        call,
        "certificate.delete",
        Some(app),
        &gone.id,
        hostname,
        BTreeMap::new(),
        Value::Null,
    );
    Ok(gone)
}

async fn remove_acme(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path((app, hostname)): Path<(String, String)>,
) -> FlyResult<Json<Value>> {
    change(&core, &caller, &app, &hostname, |certificate| {
        certificate.acme = false;
        certificate.issued_at = None;
    })
}

async fn remove_custom(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path((app, hostname)): Path<(String, String)>,
) -> FlyResult<Json<Value>> {
    change(&core, &caller, &app, &hostname, |certificate| {
        certificate.custom_at = None;
    })
}

fn change(
    core: &Shared,
    caller: &Caller,
    app: &str,
    hostname: &str,
    f: impl FnOnce(&mut Certificate),
) -> FlyResult<Json<Value>> {
    core.write(|world| {
        let app = world.app_mut(caller, app)?;
        let certificate = app
            .platform
            .certificates
            .get_mut(hostname)
            .ok_or_else(|| unknown(hostname))?;
        f(certificate);
        let certificate = certificate.clone();
        Ok(Json(certificate.detail(app)))
    })
}

/// Says that DNS points here, or no longer; for control. False if there is no such hostname.
pub fn set_dns(core: &Shared, app: &str, hostname: &str, configured: bool) -> bool {
    let found = core.write(|world| {
        let certificate = world
            .apps
            .get_mut(app)
            .and_then(|app| app.platform.certificates.get_mut(hostname));
        match certificate {
            Some(certificate) => {
                certificate.dns_configured = configured;
                true
            }
            None => false,
        }
    });
    if found {
        issue_later(core, app, hostname);
    }
    found
}
