//! Receivers of messages, strict: Slack, Microsoft Teams, Discord, PagerDuty, CloudEvents, a webhook of
//! one's own, and a mail server. Each takes only what its documentation says, at an address that holds its
//! key, and remembers what it got.

mod mail;
mod shapes;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

pub use mail::{Letter, MailServer};

use crate::ca::{Ca, CaError};
use crate::serve;

/// The integration key of the service at PagerDuty.
pub const PAGER_KEY: &str = "R03E7QZ5PN1C4NARYK3Y0FPAGERDUTY7";
/// The token that the webhook of one's own asks for.
pub const BEARER: &str = "canary-receiver-token-6c1f09b2";
/// What the addresses hold.
const SLACK: &str = "/services/T0C4B4N4S/B0C4B4N4S/canarySlackHook8821e6dc";
const DISCORD: &str = "/api/webhooks/1120000000000000001/canary-discord-hook_5f1c2e9d";
const TEAMS: &str = "/workflows/9d2f/triggers/manual/paths/invoke";
const TEAMS_SIGNATURE: &str = "api-version=2016-06-01&sig=canaryTeamsSignature41aa";
const JSON: &str = "/hooks/canary-json-hook-77e0";
const EVENTS: &str = "/events/canary-events-hook-09ab";

/// Who receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An incoming webhook of Slack.
    Slack,
    /// A workflow of Microsoft Teams.
    Teams,
    /// A webhook of Discord.
    Discord,
    /// Alerts of PagerDuty.
    PagerDuty,
    /// Change events of PagerDuty.
    PagerDutyChange,
    /// A receiver of CloudEvents.
    CloudEvents,
    /// A webhook of one's own.
    Json,
}

/// A message that was taken.
#[derive(Clone, Debug)]
pub struct Got {
    /// By whom.
    pub kind: Kind,
    /// The header that tells a repeat.
    pub id: String,
    /// The body.
    pub body: Value,
}

/// Called when a message has arrived and before it is answered.
pub type OnArrival = Arc<dyn Fn(&Got) + Send + Sync>;

#[derive(Default)]
struct Inner {
    got: Vec<Got>,
    /// What a receiver could not accept, in words.
    refused: Vec<String>,
    /// Answers that come first: a status, and the seconds of `Retry-After`.
    answers: BTreeMap<Kind, VecDeque<(u16, Option<u32>)>>,
    on_arrival: Option<OnArrival>,
}

/// The receivers, until dropped.
pub struct Messages {
    inner: Arc<Mutex<Inner>>,
    address: SocketAddr,
    mail: MailServer,
    ca_pem: String,
    stop: CancellationToken,
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why they do not start.
#[derive(Debug, thiserror::Error)]
pub enum MessagesError {
    /// No certificate.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The port is taken, for one.
    #[error("cannot listen")]
    Listen(#[from] std::io::Error),
}

impl Messages {
    /// Starts them in this process, with HTTPS and SMTP over TLS.
    pub async fn start() -> Result<Self, MessagesError> {
        let ca = Ca::new()?;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (listener, address) = serve::listen(any).await?;
        let inner = Arc::new(Mutex::new(Inner::default()));
        let stop = CancellationToken::new();
        let router = Router::new()
            .route(SLACK, post(slack))
            .route(DISCORD, post(discord))
            .route(TEAMS, post(teams))
            .route(JSON, post(json))
            .route(EVENTS, post(events))
            .route("/v2/enqueue", post(pager))
            .route("/v2/change/enqueue", post(change))
            .with_state(inner.clone());
        tokio::spawn(serve::serve(
            listener,
            Some(ca.tls.clone()),
            router,
            stop.clone(),
        ));
        let mail = MailServer::start(ca.tls.clone(), stop.clone()).await?;
        Ok(Self {
            inner,
            address,
            mail,
            ca_pem: ca.pem,
            stop,
        })
    }

    /// The authority of their certificates, as PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Overrides of DNS, as the operator's flag `--resolve` wants them: the names of all receivers.
    pub fn resolve(&self) -> String {
        let web = [
            "hooks.slack.com",
            "discord.com",
            "prod-07.westus.logic.azure.com",
            "hooks.cabanas.example",
            "events.cabanas.example",
        ];
        let web = web.map(|name| format!("{name}:443={}", self.address));
        let mail = [(465, self.mail.secure()), (587, self.mail.plain())];
        let mail = mail.map(|(port, to)| format!("mail.cabanas.example:{port}={to}"));
        let all: Vec<String> = web.into_iter().chain(mail).collect();
        all.join(",")
    }

    /// The secret address of a receiver; PagerDuty has none.
    pub fn url(&self, kind: Kind) -> String {
        match kind {
            Kind::Slack => format!("https://hooks.slack.com{SLACK}"),
            Kind::Discord => format!("https://discord.com{DISCORD}"),
            Kind::Teams => {
                format!("https://prod-07.westus.logic.azure.com{TEAMS}?{TEAMS_SIGNATURE}")
            }
            Kind::Json => format!("https://hooks.cabanas.example{JSON}"),
            Kind::CloudEvents => format!("https://events.cabanas.example{EVENTS}"),
            Kind::PagerDuty | Kind::PagerDutyChange => self.pager_url(),
        }
    }

    /// Where PagerDuty is.
    pub fn pager_url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// The mail server.
    pub fn mail(&self) -> &MailServer {
        &self.mail
    }

    /// All messages of a receiver, oldest first.
    pub fn got(&self, kind: Kind) -> Vec<Got> {
        let inner = lock(&self.inner);
        let got = inner.got.iter().filter(|got| got.kind == kind);
        got.cloned().collect()
    }

    /// What was not as the documentation of its receiver says.
    pub fn refused(&self) -> Vec<String> {
        lock(&self.inner).refused.clone()
    }

    /// The next answers of a receiver, before it takes messages again: a status, and the seconds of
    /// `Retry-After`. It remembers nothing of those.
    pub fn answer(&self, kind: Kind, answers: &[(u16, Option<u32>)]) {
        let mut inner = lock(&self.inner);
        inner
            .answers
            .insert(kind, answers.iter().copied().collect());
    }

    /// What happens when a message has arrived, before it is answered.
    pub fn on_arrival(&self, act: OnArrival) {
        lock(&self.inner).on_arrival = Some(act);
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What a receiver answers, and what it thinks of the body.
fn take(
    inner: &Mutex<Inner>,
    kind: Kind,
    headers: &HeaderMap,
    body: &Bytes,
    (content_type, success): (&str, StatusCode),
    check: fn(&Value) -> Result<(), String>,
) -> Response {
    let header = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let mut world = lock(inner);
    if let Some((status, after)) = world.answers.get_mut(&kind).and_then(VecDeque::pop_front) {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // The answer repeats what was sent: nobody may show it.
        let mut answer = (status, body.clone()).into_response();
        if let Some(after) = after {
            answer.headers_mut().insert("retry-after", after.into());
        }
        return answer;
    }
    let found = serde_json::from_slice::<Value>(body).map_err(|error| error.to_string());
    let typed = header("content-type");
    let found = found.and_then(|body| match typed == content_type {
        true => check(&body).map(|()| body),
        false => Err(format!("the type is {typed}")),
    });
    let body = match found {
        Ok(body) => body,
        Err(why) => {
            world.refused.push(format!("{kind:?}: {why}"));
            return (StatusCode::BAD_REQUEST, why).into_response();
        }
    };
    let got = Got {
        kind,
        id: header("idempotency-key"),
        body,
    };
    world.got.push(got.clone());
    let act = world.on_arrival.clone();
    drop(world);
    if let Some(act) = act {
        act(&got);
    }
    (success, "ok").into_response()
}

type Told = State<Arc<Mutex<Inner>>>;

const PLAIN: (&str, StatusCode) = ("application/json", StatusCode::OK);

async fn slack(State(inner): Told, headers: HeaderMap, body: Bytes) -> Response {
    take(&inner, Kind::Slack, &headers, &body, PLAIN, shapes::slack)
}

async fn discord(State(inner): Told, headers: HeaderMap, body: Bytes) -> Response {
    let success = ("application/json", StatusCode::NO_CONTENT);
    let check = shapes::discord;
    take(&inner, Kind::Discord, &headers, &body, success, check)
}

async fn teams(State(inner): Told, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    if uri.query() != Some(TEAMS_SIGNATURE) {
        let mut world = lock(&inner);
        world.refused.push("Teams: another signature".to_owned());
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let success = ("application/json", StatusCode::ACCEPTED);
    take(&inner, Kind::Teams, &headers, &body, success, shapes::teams)
}

async fn json(State(inner): Told, headers: HeaderMap, body: Bytes) -> Response {
    let shown = headers.get("authorization");
    let shown = shown.and_then(|value| value.to_str().ok());
    if shown != Some(&format!("Bearer {BEARER}")) {
        lock(&inner).refused.push("Json: no token".to_owned());
        return StatusCode::UNAUTHORIZED.into_response();
    }
    take(&inner, Kind::Json, &headers, &body, PLAIN, shapes::json)
}

async fn events(State(inner): Told, headers: HeaderMap, body: Bytes) -> Response {
    let success = ("application/cloudevents+json", StatusCode::NO_CONTENT);
    let check = shapes::cloud_event;
    take(&inner, Kind::CloudEvents, &headers, &body, success, check)
}

async fn pager(State(inner): Told, headers: HeaderMap, body: Bytes) -> Response {
    let success = ("application/json", StatusCode::ACCEPTED);
    let check = shapes::pager_alert;
    take(&inner, Kind::PagerDuty, &headers, &body, success, check)
}

async fn change(State(inner): Told, headers: HeaderMap, body: Bytes) -> Response {
    let (kind, check) = (Kind::PagerDutyChange, shapes::pager_change);
    let success = ("application/json", StatusCode::ACCEPTED);
    take(&inner, kind, &headers, &body, success, check)
}
