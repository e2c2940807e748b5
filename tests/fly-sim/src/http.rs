//! The door: one router for all of Fly's surfaces, and what every call passes on its way.
//!
//! Order: token, faults, rate limits, latency, hooks, the handler, hooks, faults again, ledger.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, RawPathParams, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt;
use tokio::sync::Notify;

use crate::core::{CallId, Core, Shared};
use crate::error::FlyError;
use crate::fault::Kind;
use crate::hook::{Mutation, Point};
use crate::ledger::Call;
use crate::record::{self, Exchange};
use crate::state::Caller;
use crate::{apps, id, machine, mangle, platform, volumes};

/// Largest request body.
const BODY_LIMIT: usize = 32 * 1024 * 1024;

/// Ends the connection that a request came on.
#[derive(Clone, Debug, Default)]
pub struct ConnectionEnd(pub Arc<Notify>);

/// The client's address; an extension of every request.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Faults that only a handler can carry out; an extension of the request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Injected {
    /// A machine update is taken back afterwards.
    pub silent_revert: bool,
    /// A write of secrets changes nothing.
    pub secret_without_effect: bool,
    /// Machines boot this much slower.
    pub boot_delay: Option<Duration>,
}

/// All routes.
pub fn router(core: Shared) -> Router {
    Router::new()
        .merge(apps::router())
        .merge(machine::router())
        .merge(volumes::router())
        .merge(crate::logs::router())
        .merge(crate::prometheus::router())
        .merge(platform::router())
        .fallback(async || FlyError::not_found("404 page not found"))
        .layer(from_fn_with_state(Arc::clone(&core), pipeline))
        .with_state(core)
}

/// POSTs that change nothing.
fn reads(method: &Method, template: &str) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
        || matches!(
            template,
            "/v1/platform/placements" | "/v1/tokens/authenticate" | "/v1/tokens/authorize"
        )
        || template.ends_with("/check")
        || template.ends_with("/verify")
}

/// Which entry of the latency table a call costs.
fn cost(method: &Method, template: &str, mutates: bool) -> Option<&'static str> {
    Some(match (method.as_str(), template) {
        ("POST", "/v1/apps") => "app.create",
        ("DELETE", "/v1/apps/{app}") => "app.delete",
        ("POST", "/v1/apps/{app}/machines") => "machine.create",
        ("POST", "/v1/apps/{app}/machines/{id}") => "machine.update",
        ("POST", "/v1/apps/{app}/machines/{id}/exec") => "exec",
        ("POST", "/v1/apps/{app}/volumes") => "volume.create",
        ("POST", "/v1/apps/{app}/secrets") => "secrets.set",
        ("POST", "/v1/apps/{app}/ip_assignments") => "address.allocate",
        ("POST", "/api/v1/releases") => "release.create",
        ("GET", "/v1/apps/{app}/machines/{id}/wait") => return None,
        _ if mutates => "write",
        _ => "read",
    })
}

/// Tokens of an `Authorization` header: schemes stripped (any case, even repeated), commas split.
pub fn tokens(headers: &HeaderMap) -> Vec<String> {
    let Some(mut value) = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .map(str::trim)
    else {
        return Vec::new();
    };
    while let Some((scheme, rest)) = value.split_once(' ') {
        if !scheme.eq_ignore_ascii_case("bearer") && !scheme.eq_ignore_ascii_case("flyv1") {
            break;
        }
        value = rest.trim_start();
    }
    value
        .split(',')
        .map(|item| item.trim().to_owned())
        .filter(|item| !item.is_empty())
        .collect()
}

impl Core {
    /// The good tokens among these.
    pub fn caller(&self, tokens: &[String]) -> Caller {
        let now = jiff::Timestamp::now();
        self.read(|world| Caller {
            tokens: tokens
                .iter()
                .filter_map(|text| world.tokens.get(text))
                .filter(|token| !token.revoked && token.expires_at.is_none_or(|at| at > now))
                .cloned()
                .collect(),
        })
    }
}

async fn pipeline(
    State(core): State<Shared>,
    params: RawPathParams,
    request: Request,
    next: Next,
) -> Response {
    let request_id = id::ulid();
    let mut response = if core.options.record {
        recorded(core, params, request, next).await
    } else {
        pass(core, params, request, next).await
    };
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert("fly-request-id", value);
    }
    response
}

/// The method and the template of a path; for GraphQL with the root field.
fn endpoint(parts: &http::request::Parts) -> String {
    let path = parts.extensions.get::<MatchedPath>();
    let path = path.map_or_else(|| parts.uri.path(), MatchedPath::as_str);
    format!("{} {path}", parts.method)
}

async fn recorded(core: Shared, params: RawPathParams, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return FlyError::bad_request("request body could not be read").into_response();
    };
    let body = body.to_bytes();
    let mut exchange = Exchange {
        endpoint: endpoint(&parts),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        nonce: record::header(&parts.headers, "fly-machine-lease-nonce"),
        agent: record::header(&parts.headers, "user-agent").unwrap_or_default(),
        body: record::value(&body),
        status: 0,
        answer: serde_json::Value::Null,
    };
    if exchange.path == "/graphql"
        && let Some((field, _)) = platform::graphql_operation(&body)
    {
        exchange.endpoint = format!("{}#{field}", exchange.endpoint);
    }
    let request = Request::from_parts(parts, Body::from(body));
    let response = pass(Arc::clone(&core), params, request, next).await;
    let (response, bytes) = record::read(response).await;
    exchange.status = response.status().as_u16();
    exchange.answer = record::value(&bytes);
    core.recorder.push(exchange);
    response
}

async fn pass(core: Shared, params: RawPathParams, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let Ok(body) = http_body_util::Limited::new(body, BODY_LIMIT)
        .collect()
        .await
    else {
        return FlyError::new(StatusCode::PAYLOAD_TOO_LARGE, "request body too large")
            .into_response();
    };
    let body = body.to_bytes();
    let template = parts.extensions.get::<MatchedPath>().map_or_else(
        || parts.uri.path().to_owned(),
        |path| path.as_str().to_owned(),
    );
    let params: HashMap<String, String> = params
        .iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();

    let mut endpoint = format!("{} {template}", parts.method);
    let mut mutates = !reads(&parts.method, &template);
    if template == "/graphql"
        && let Some((field, changes)) = platform::graphql_operation(&body)
    {
        endpoint = format!("{endpoint}#{field}");
        mutates = changes;
    }

    let end = parts
        .extensions
        .get::<ConnectionEnd>()
        .cloned()
        .unwrap_or_default();
    let peer = parts
        .extensions
        .get::<Peer>()
        .map_or_else(String::new, |peer| peer.0.to_string());
    let (call, number) = core.ledger.begin(
        Call {
            index: 0,
            mutation: None,
            endpoint: endpoint.clone(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            peer: peer.clone(),
            host: record::header(&parts.headers, "host").unwrap_or_default(),
            agent: parts
                .headers
                .get(header::USER_AGENT)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned(),
            status: None,
            fault: None,
            at_ms: u64::try_from(core.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        },
        mutates,
    );

    // The registry and what else has its own door checks tokens itself.
    let tokens = tokens(&parts.headers);
    let caller = core.caller(&tokens);
    let own_door = template.starts_with("/v2") || template.starts_with("/open/");

    let path_call = format!("{} {}", parts.method, parts.uri.path());
    let mut kinds = core.faults.hits(&endpoint, &path_call);
    kinds.extend(core.faults.drawn(&endpoint, params.get("app")));
    let fault = kinds
        .iter()
        .filter_map(|kind| {
            serde_json::to_value(kind)
                .ok()?
                .get("type")?
                .as_str()
                .map(str::to_owned)
        })
        .reduce(|a, b| format!("{a}+{b}"));
    let finish = |response: Response| {
        core.ledger
            .end(call, Some(response.status().as_u16()), fault.clone());
        response
    };

    if kinds.iter().any(|kind| matches!(kind, Kind::Down { .. })) {
        return finish((StatusCode::SERVICE_UNAVAILABLE, "upstream unavailable").into_response());
    }
    if kinds.contains(&Kind::RevokedToken) {
        core.write(|world| {
            for text in &tokens {
                if let Some(token) = world.tokens.get_mut(text) {
                    token.revoked = true;
                }
            }
        });
        return finish(FlyError::unauthorized().into_response());
    }
    if caller.tokens.is_empty() && !own_door {
        return finish(FlyError::unauthorized().into_response());
    }

    // Faults that come instead of the effect.
    for kind in &kinds {
        match kind {
            Kind::ResetBefore => {
                core.ledger.end(call, None, fault.clone());
                return cut(&end, Duration::ZERO).await;
            }
            Kind::TimeoutNotApplied { hang_ms } => {
                core.ledger.end(call, None, fault.clone());
                return cut(&end, Duration::from_millis(*hang_ms)).await;
            }
            Kind::ExternalDeletion { target, app } => {
                if let Some(app) = app.as_ref().or_else(|| params.get("app")) {
                    crate::deletion::delete(&core, app, target).await;
                }
            }
            Kind::Delay { ms } => tokio::time::sleep(Duration::from_millis(*ms)).await,
            Kind::EndlessBody | Kind::HugeBody { .. } | Kind::InvalidUtf8 => {
                return finish(mangle::strange_body(kind));
            }
            Kind::NotFoundAfterCreate { for_ms }
                if mangle::is_younger(&core, &params, Duration::from_millis(*for_ms)) =>
            {
                return finish(FlyError::not_found("not_found: no such object").into_response());
            }
            _ => {}
        }
        if let Some((status, body, false)) = kind.canned() {
            return finish(mangle::canned(kind, status, body));
        }
    }

    if template.starts_with("/v1/") {
        let object = ["id", "app", "slug"]
            .iter()
            .find_map(|key| params.get(*key))
            .map_or_else(|| caller.org().unwrap_or_default(), String::as_str);
        if !core.limits.take(&endpoint, object, Instant::now()) {
            return finish(FlyError::rate_limited().into_response());
        }
    }
    if let Some(what) = cost(&parts.method, &template, mutates) {
        core.options.latency.pause(what).await;
    }

    let mutation = number.map(|number| Mutation {
        number,
        endpoint: endpoint.clone(),
        path: parts.uri.path().to_owned(),
        peer,
    });
    if let Some(mutation) = &mutation {
        core.hooks.run(mutation, Point::BeforeApply).await;
    }

    parts.extensions.insert(CallId(Some(call)));
    parts.extensions.insert(caller);
    parts.extensions.insert(Injected {
        silent_revert: kinds.contains(&Kind::SilentRevert),
        secret_without_effect: kinds.contains(&Kind::SecretWithoutEffect),
        boot_delay: kinds.iter().find_map(|kind| match kind {
            Kind::SlowBoot { ms } => Some(Duration::from_millis(*ms)),
            _ => None,
        }),
    });
    let deliveries = if kinds.contains(&Kind::Duplicated) {
        2
    } else {
        1
    };
    let mut response = None;
    for _ in 0..deliveries {
        let request = Request::from_parts(parts.clone(), Body::from(body.clone()));
        response = Some(deliver(mutates, request, next.clone()).await);
    }
    let Some(mut response) = response else {
        return finish(StatusCode::INTERNAL_SERVER_ERROR.into_response());
    };

    if mutates
        && core.faults.wants_history()
        && let Some(app) = params.get("app")
    {
        core.faults.remember(app, machine::list_of(&core, app));
    }
    if let Some(mutation) = &mutation {
        core.hooks.run(mutation, Point::AfterApply).await;
    }

    // Faults that come after the effect.
    for kind in &kinds {
        match kind {
            Kind::ResetAfter => {
                core.ledger.end(call, None, fault.clone());
                return cut(&end, Duration::ZERO).await;
            }
            Kind::TimeoutApplied { hang_ms } => {
                core.ledger.end(call, None, fault.clone());
                return cut(&end, Duration::from_millis(*hang_ms)).await;
            }
            _ => {}
        }
        if let Some((status, body, true)) = kind.canned() {
            response = mangle::canned(kind, status, body);
            continue;
        }
        let stale = match kind {
            Kind::StaleList { mutations } => params
                .get("app")
                .map(|app| core.faults.stale(app, *mutations)),
            _ => None,
        };
        response = mangle::after(kind, response, stale).await;
    }
    let response = finish(response);
    match mutation {
        Some(mutation) => mangle::then(response, core, mutation),
        None => response,
    }
}

/// Lets the handler run. What changes something runs to its end also when the client goes away.
async fn deliver(mutates: bool, request: Request, next: Next) -> Response {
    if !mutates {
        return next.run(request).await;
    }
    match tokio::spawn(next.run(request)).await {
        Ok(response) => response,
        Err(_) => FlyError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal server error")
            .into_response(),
    }
}

/// Ends the connection, after a while.
async fn cut(end: &ConnectionEnd, after: Duration) -> Response {
    tokio::time::sleep(after).await;
    end.0.notify_one();
    // The connection task drops this future.
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    Response::new(Body::from(Bytes::new()))
}
