//! One call: wait for the limiter, send, read, classify; and for reads, try again.

pub(crate) mod answer;
pub(crate) mod classify;
pub mod client;
pub mod graphql;
pub mod limit;
mod memo;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
    USER_AGENT,
};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;
use tracing::field::Empty;
use url::Url;

use super::error::{Class, Details, Error, Result, clean};
use super::token::{Surface, Token};
use crate::fly::call::classify::Answer;
use crate::fly::call::client::{Client, Observation, Shared};
use crate::fly::call::limit::{Key, Rate};

/// Bound of an answer's body, in bytes (reliability-and-security.md S8).
const BODY_LIMIT: usize = 1 << 20;

/// Bound of a list's body, in bytes.
const LIST_LIMIT: usize = 4 << 20;

/// Tries of a read.
const TRIES: u32 = 3;

/// A change is not sent when less time than this is left before the deadline: it would most
/// likely be cut off with its outcome unknown. A create takes 1.1–2.5 s (fly-api.md L 5).
const CHANGE_NEEDS: Duration = Duration::from_secs(3);

/// Sent with every request.
const AGENT: &str = concat!("golive/", env!("CARGO_PKG_VERSION"));

/// An endpoint of Fly.io and how it is called.
#[derive(Debug)]
pub(crate) struct Endpoint {
    surface: Surface,
    /// Method and path template.
    pub(crate) name: &'static str,
    changes: bool,
    rate: Rate,
    limit: usize,
    tries: u32,
    /// Statuses beside 2xx that the caller reads itself.
    expects: &'static [u16],
}

impl Endpoint {
    /// A call that changes nothing.
    pub(crate) const fn read(surface: Surface, name: &'static str) -> Self {
        let rate = match surface {
            Surface::Machines => Rate::ACTION,
            _ => Rate::UNPUBLISHED,
        };
        Self {
            surface,
            name,
            changes: false,
            rate,
            limit: BODY_LIMIT,
            tries: TRIES,
            expects: &[],
        }
    }

    /// A call that changes something; never repeated here.
    pub(crate) const fn change(surface: Surface, name: &'static str) -> Self {
        let mut endpoint = Self::read(surface, name);
        endpoint.changes = true;
        endpoint.tries = 1;
        endpoint
    }

    /// The answer is a list and may be longer.
    pub(crate) const fn list(mut self) -> Self {
        self.limit = LIST_LIMIT;
        self
    }

    /// Has a limit of its own.
    pub(crate) const fn rate(mut self, rate: Rate) -> Self {
        self.rate = rate;
        self
    }

    /// Not repeated here, though it is a read.
    pub(crate) const fn once(mut self) -> Self {
        self.tries = 1;
        self
    }

    /// The caller reads these statuses too.
    pub(crate) const fn expects(mut self, statuses: &'static [u16]) -> Self {
        self.expects = statuses;
        self
    }

    pub(crate) fn surface(&self) -> Surface {
        self.surface
    }

    fn method(&self) -> Method {
        let word = self.name.split(' ').next().unwrap_or_default();
        Method::from_bytes(word.as_bytes()).unwrap_or_default()
    }

    fn template(&self) -> &'static str {
        // GraphQL's have the name of the operation as a third word.
        self.name.split(' ').nth(1).unwrap_or_default()
    }
}

/// A call that is being put together.
pub(crate) struct Call<'c> {
    client: &'c Client,
    endpoint: &'static Endpoint,
    url: Option<Url>,
    object: String,
    headers: HeaderMap,
    body: Option<Bytes>,
    hidden: Vec<SecretString>,
    timeout: Option<Duration>,
    auth: Auth,
    /// The narrower token that is used in place of the client's own.
    narrow: Option<Token>,
    /// Goes to a host that a user named: only to public addresses.
    guarded: bool,
    /// Why it cannot be sent.
    broken: Option<String>,
}

/// The `Authorization` of a call.
#[derive(Clone)]
pub(crate) enum Auth {
    /// The client's token, to Fly.io.
    Token,
    /// This value.
    Value(SecretString),
    /// None.
    None,
}

/// An answer with a status that was expected.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    request_id: Option<String>,
}

impl Client {
    /// Starts a call; `args` fill the template's braces in order.
    pub(crate) fn call(&self, endpoint: &'static Endpoint, args: &[&str]) -> Call<'_> {
        let mut broken = None;
        let path = match fill(endpoint.template(), args) {
            Ok(path) => path,
            Err(reason) => {
                broken = Some(reason);
                String::new()
            }
        };
        let url = self.shared.bases.of(endpoint.surface).join(&path).ok();
        let object = match endpoint.surface {
            Surface::Machines if endpoint.name.contains("/machines/{id}") => args.get(1),
            Surface::Machines => args.first(),
            _ => None,
        };
        Call {
            client: self,
            endpoint,
            url,
            // Where no limit per object is published, ours is per token.
            object: object
                .map_or(self.token.fingerprint(), |object| *object)
                .to_owned(),
            headers: HeaderMap::new(),
            body: None,
            hidden: Vec::new(),
            timeout: None,
            auth: Auth::Token,
            narrow: self
                .app_token
                .as_ref()
                .and_then(|cell| cell.of(endpoint, args)),
            guarded: false,
            broken,
        }
    }

    /// Starts a call to an address outside the configured base URLs.
    pub(crate) fn call_at(
        &self,
        endpoint: &'static Endpoint,
        url: Url,
        auth: Auth,
        guarded: bool,
    ) -> Call<'_> {
        let object = url.host_str().unwrap_or_default().to_owned();
        Call {
            client: self,
            endpoint,
            url: Some(url),
            object,
            headers: HeaderMap::new(),
            body: None,
            hidden: Vec::new(),
            timeout: None,
            auth,
            narrow: None,
            guarded,
            broken: None,
        }
    }
}

/// Puts `args` into the braces of a template, each percent-encoded.
fn fill(template: &str, args: &[&str]) -> std::result::Result<String, String> {
    let mut path = String::new();
    let mut args = args.iter();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').unwrap_or((after, ""));
        path.push_str(before);
        match args.next() {
            None | Some(&("" | "." | "..")) => return Err(format!("there is no usable {name}")),
            Some(arg) => path.push_str(&encode(arg)),
        }
        rest = after;
    }
    path.push_str(rest);
    Ok(path)
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

impl Call<'_> {
    pub(crate) fn endpoint(&self) -> &'static Endpoint {
        self.endpoint
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.client.shared.clone()
    }

    /// Tells apart whose question it is and what it asks.
    pub(crate) fn memo_key(&self) -> String {
        let url = self.url.as_ref().map_or("", Url::as_str);
        let body = self.body.as_deref().map(String::from_utf8_lossy);
        format!(
            "{} {} {url} {}",
            self.client.token.fingerprint(),
            self.endpoint.name,
            body.unwrap_or_default()
        )
    }

    /// Adds a query parameter.
    pub(crate) fn query(mut self, key: &str, value: &str) -> Self {
        if let Some(url) = &mut self.url {
            url.query_pairs_mut().append_pair(key, value);
        }
        self
    }

    /// Adds a query parameter if there is one.
    pub(crate) fn query_if(self, key: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.query(key, value),
            None => self,
        }
    }

    /// Sets the body.
    pub(crate) fn json(mut self, body: &impl Serialize) -> Self {
        match serde_json::to_vec(body) {
            Ok(bytes) => self.body = Some(bytes.into()),
            Err(source) => self.broken = Some(format!("the request cannot be written: {source}")),
        }
        self
    }

    /// Adds a header whose value nobody should see.
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        match HeaderValue::from_str(value) {
            Ok(mut value) => {
                value.set_sensitive(true);
                self.headers.insert(HeaderName::from_static(name), value);
            }
            Err(_) => self.broken = Some(format!("the header {name} has a value that none has")),
        }
        self
    }

    /// A text that must not appear in an error, should Fly.io quote it.
    pub(crate) fn hide(mut self, secret: &SecretString) -> Self {
        self.hidden.push(secret.clone());
        self
    }

    /// Time of one try, where it differs from the default.
    pub(crate) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// What the limiter counts by, where it differs from the default.
    pub(crate) fn counted_by(mut self, object: &str) -> Self {
        object.clone_into(&mut self.object);
        self
    }

    /// Sends it and reads the answer as JSON.
    pub(crate) async fn read<T: DeserializeOwned>(self) -> Result<T> {
        let endpoint = self.endpoint;
        self.send().await?.json(endpoint)
    }

    /// Sends it; the answer's body does not matter.
    pub(crate) async fn done(self) -> Result<()> {
        self.send().await.map(drop)
    }

    /// Sends it.
    pub(crate) async fn send(mut self) -> Result<Reply> {
        let span = tracing::info_span!(
            "fly",
            endpoint = self.endpoint.name,
            status = Empty,
            class = Empty,
            tries = Empty,
            limited_ms = Empty,
            duration_ms = Empty,
        );
        self.run().instrument(span).await
    }

    async fn run(&mut self) -> Result<Reply> {
        let start = Instant::now();
        let options = &self.client.shared.options;
        let per_try = self.timeout.unwrap_or(if self.endpoint.changes {
            options.change_timeout
        } else {
            options.read_timeout
        });
        // Until when it must be sent, and until when it must have ended.
        let (queue, mut end) = if self.endpoint.changes {
            (
                start + options.change_queue,
                start + options.change_queue + per_try,
            )
        } else {
            let end = start + options.read_deadline.max(per_try);
            (end, end)
        };
        if let Some(deadline) = self.client.deadline {
            end = end.min(deadline);
        }
        let mut limited = Duration::ZERO;
        let mut tries = 0;
        let result = loop {
            tries += 1;
            let outcome = self
                .attempt(queue.min(end), end, per_try, &mut limited)
                .await;
            let Err(error) = &outcome else { break outcome };
            if let Some(status @ (401 | 403)) = error.status()
                && let Some(narrow) = self.narrow.take()
            {
                // Nothing was done, so that this is no repetition.
                if let Some(cell) = &self.client.app_token {
                    cell.refused(&narrow, self.endpoint.name, status);
                }
                tracing::warn!(%error, "the token for the app is refused; the user's own is used");
                tries -= 1;
                continue;
            }
            if tries >= self.endpoint.tries {
                break outcome;
            }
            let pause = match error.class() {
                Class::Transient if self.broken.is_none() => jitter(tries),
                // The limiter knows when; it decides whether that is in time.
                Class::Throttled { .. } if error.status().is_some() => Duration::ZERO,
                _ => break outcome,
            };
            if Instant::now() + pause >= end {
                break outcome;
            }
            tokio::time::sleep(pause).await;
        };
        let span = tracing::Span::current();
        span.record("tries", tries);
        span.record("limited_ms", millis(limited));
        span.record("duration_ms", millis(start.elapsed()));
        match &result {
            Ok(reply) => {
                span.record("status", reply.status);
                tracing::debug!("Fly.io answered");
            }
            Err(error) => {
                if let Some(status) = error.status() {
                    span.record("status", status);
                }
                span.record("class", error.class().as_str());
                tracing::debug!(%error, "call to Fly.io failed");
            }
        }
        result
    }

    /// One try.
    async fn attempt(
        &self,
        queue: Instant,
        end: Instant,
        per_try: Duration,
        limited: &mut Duration,
    ) -> Result<Reply> {
        let shared = &self.client.shared;
        if let Some(reason) = &self.broken {
            return Err(self.unsent(Class::Invalid, reason.clone()));
        }
        let key = Key {
            action: self.endpoint.name,
            object: self.object.clone(),
        };
        let latest = if self.endpoint.changes {
            let now = Instant::now();
            let latest = end
                .checked_sub(CHANGE_NEEDS)
                .map_or(now, |latest| latest.min(queue));
            if latest < now {
                let text = "too little time is left before the deadline to change anything";
                return Err(self.unsent(Class::Transient, text.to_owned()));
            }
            latest
        } else {
            queue
        };
        let waited = shared
            .limiter
            .acquire(&key, self.endpoint.rate, latest)
            .await
            .map_err(|late| {
                let text = "Fly.io's rate limit leaves no room before the deadline".to_owned();
                self.unsent(
                    Class::Throttled {
                        after: Some(late.after),
                    },
                    text,
                )
            })?;
        *limited += waited;
        if self.endpoint.changes
            && let Some(gate) = &shared.options.gate
            && let Err(reason) = gate()
        {
            let text = format!("nothing may be changed by this process now: {reason}");
            return Err(self.unsent(Class::Transient, text));
        }
        let started = Instant::now();
        let outcome = self.exchange(end.min(started + per_try)).await;
        if let Some(observer) = &shared.options.observer {
            let (status, class) = match &outcome {
                Ok(reply) => (Some(reply.status), None),
                Err(error) => (error.status(), Some(error.class().as_str())),
            };
            observer(&Observation {
                endpoint: self.endpoint.name,
                status,
                class,
                duration: started.elapsed(),
                limited: waited,
            });
        }
        if let Err(error) = &outcome
            && error.status().is_some()
            && let Class::Throttled { after } = error.class()
        {
            // Fly.io is not known to send Retry-After; a token of its buckets comes back in a
            // second.
            let after = after.unwrap_or(Duration::from_secs(1));
            shared.limiter.throttled(&key, self.endpoint.rate, after);
        }
        outcome
    }

    /// Sends the request and reads the whole answer, by `end`.
    async fn exchange(&self, end: Instant) -> Result<Reply> {
        let request = self.request()?;
        let shared = &self.client.shared;
        let sending = if self.guarded {
            shared.guarded.request(request)
        } else {
            shared.http.request(request)
        };
        let response = match timeout_at(end, sending).await {
            Err(_) => return Err(self.lost("no answer in time")),
            Ok(Err(source)) if source.is_connect() => {
                // Nothing was sent, so nothing happened.
                let text = format!("cannot connect: {}", crate::causes::chain(&source));
                return Err(self.unsent(Class::Transient, text));
            }
            Ok(Err(source)) => return Err(self.lost(&crate::causes::chain(&source))),
            Ok(Ok(response)) => response,
        };
        let (head, mut incoming) = response.into_parts();
        let mut body = BytesMut::new();
        loop {
            match timeout_at(end, incoming.frame()).await {
                Err(_) => return Err(self.lost("the answer did not end in time")),
                Ok(None) => break,
                Ok(Some(Err(source))) => {
                    return Err(self.lost(&format!(
                        "the answer was cut: {}",
                        crate::causes::chain(&source)
                    )));
                }
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        if body.len() + data.len() > self.endpoint.limit {
                            let limit = self.endpoint.limit;
                            return Err(
                                self.lost(&format!("the answer is longer than {limit} bytes"))
                            );
                        }
                        body.extend_from_slice(&data);
                    }
                }
            }
        }
        self.judge(Reply {
            status: head.status.as_u16(),
            request_id: text(&head.headers, "fly-request-id").map(|id| clean(id, &[])),
            headers: head.headers,
            body: body.freeze(),
        })
    }

    fn request(&self) -> Result<Request<Full<Bytes>>> {
        let unusable = |what: &str| self.unsent(Class::Invalid, format!("{what} is not usable"));
        let url = self.url.as_ref().ok_or_else(|| unusable("the address"))?;
        let mut request = Request::builder()
            .method(self.endpoint.method())
            .uri(url.as_str())
            .body(Full::new(self.body.clone().unwrap_or_default()))
            .map_err(|_| unusable("the request"))?;
        let headers = request.headers_mut();
        headers.extend(self.headers.clone());
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        headers
            .entry(ACCEPT)
            .or_insert(HeaderValue::from_static("application/json"));
        if self.body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let authorization = match &self.auth {
            Auth::Token => {
                let token = self.narrow.as_ref().unwrap_or(&self.client.token);
                Some(token.authorization(self.endpoint.surface))
            }
            Auth::Value(value) => Some(value.clone()),
            Auth::None => None,
        };
        if let Some(authorization) = authorization {
            let mut value = HeaderValue::from_str(authorization.expose_secret())
                .map_err(|_| unusable("the token"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(request)
    }

    /// Success, or an error with its class.
    fn judge(&self, reply: Reply) -> Result<Reply> {
        let surface = format!("{:?}", self.endpoint.surface);
        let path = self.url.as_ref().map_or("", |url| url.path());
        let path = format!("{} {path}", self.endpoint.name);
        let refusals = &self.client.refusals;
        let expected =
            (200..300).contains(&reply.status) || self.endpoint.expects.contains(&reply.status);
        let verdict = if !expected {
            classify::answer(Answer {
                mutates: self.endpoint.changes,
                status: reply.status,
                body: &reply.body,
                retry_after: classify::retry_after(
                    text(&reply.headers, RETRY_AFTER.as_str()),
                    text(&reply.headers, DATE.as_str()),
                ),
            })
        } else if self.endpoint.surface == Surface::Graphql
            && let Some(verdict) = graphql::first_error(&reply, self.endpoint.changes)
        {
            verdict
        } else {
            if reply.status != 401 && self.narrow.is_none() {
                refusals.accepted([&surface, &path]);
            }
            return Ok(reply);
        };
        let class = match verdict.class {
            // The narrow token's refusals say nothing about the user's.
            Class::Auth { .. } if self.narrow.is_some() => Class::Auth { hard: false },
            Class::Auth { .. } => {
                // 401 is about the token; all else, also in an answer of GraphQL, about what was asked.
                let key = if reply.status == 401 { &surface } else { &path };
                let options = &self.client.shared.options;
                Class::Auth {
                    hard: refusals.refused(key, Instant::now(), options),
                }
            }
            class => class,
        };
        Err(Error::new(Details {
            endpoint: self.endpoint.name,
            status: Some(reply.status),
            code: verdict.code.map(|code| clean(&code, &[])),
            message: self.clean(&verdict.message),
            request_id: reply.request_id,
            class,
            ambiguous: verdict.ambiguous,
        }))
    }

    /// An error of our own, without sending anything.
    pub(crate) fn refused(&self, class: Class, message: &str) -> Error {
        self.unsent(class, message.to_owned())
    }

    /// An error for an answer 401 that the caller looked at first.
    pub(crate) fn unauthorized(&self, reply: &Reply) -> Error {
        let options = &self.client.shared.options;
        let key = format!("{:?}", self.endpoint.surface);
        let hard = self.client.refusals.refused(&key, Instant::now(), options);
        let mut error = self.unsent(
            Class::Auth { hard },
            "the registry does not accept the token".to_owned(),
        );
        error.set_answer(reply.status, reply.request_id.clone());
        error
    }

    /// An error for an answer that keeps something from us, and not for lack of our own token.
    pub(crate) fn denied(&self, reply: &Reply, message: &str) -> Error {
        let mut error = self.refused(Class::Invalid, message);
        error.set_answer(reply.status, reply.request_id.clone());
        error
    }

    /// An error before anything was sent.
    fn unsent(&self, class: Class, message: String) -> Error {
        Error::new(Details {
            endpoint: self.endpoint.name,
            status: None,
            code: None,
            message: self.clean(&message),
            request_id: None,
            class,
            ambiguous: false,
        })
    }

    /// An error after something may have been sent.
    fn lost(&self, message: &str) -> Error {
        let changes = self.endpoint.changes;
        let class = if changes {
            Class::Ambiguous
        } else {
            Class::Transient
        };
        let mut error = self.unsent(class, message.to_owned());
        error.set_ambiguous(changes);
        error
    }

    fn clean(&self, message: &str) -> String {
        let mut secrets = self.client.token.secrets();
        secrets.extend(self.narrow.iter().flat_map(Token::secrets));
        secrets.extend(self.hidden.iter().map(|secret| secret.expose_secret()));
        clean(message, &secrets)
    }
}

impl Reply {
    /// An answer without a body.
    #[cfg(test)]
    pub(crate) fn of(status: u16, headers: HeaderMap) -> Self {
        Self {
            status,
            headers,
            body: Bytes::new(),
            request_id: None,
        }
    }

    /// Reads the body. What cannot be read is no reason to believe anything: a read is
    /// transient, a change ambiguous.
    pub(crate) fn json<T: DeserializeOwned>(&self, endpoint: &'static Endpoint) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|source| {
            // serde's words can quote the body; only the place is told.
            let (line, column) = (source.line(), source.column());
            self.unreadable(endpoint, &format!("at line {line}, column {column}"))
        })
    }

    /// An error for an answer that does not hold what it must.
    pub(crate) fn unreadable(&self, endpoint: &'static Endpoint, what: &str) -> Error {
        Error::new(Details {
            endpoint: endpoint.name,
            status: Some(self.status),
            code: None,
            message: format!("the answer cannot be understood: {what}"),
            request_id: self.request_id.clone(),
            class: if endpoint.changes {
                Class::Ambiguous
            } else {
                Class::Transient
            },
            ambiguous: endpoint.changes,
        })
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// Pause before the next try: 100–200 ms, then 200–400 ms.
fn jitter(tries: u32) -> Duration {
    let base = 100 * u64::from(tries);
    Duration::from_millis(base + rand::random_range(0..base))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_cannot_leave_their_place_in_the_path() {
        let template = "/v1/apps/{app}/secrets/{name}";
        assert_eq!(
            fill(template, &["a", "x/../y?z#%"]).as_deref(),
            Ok("/v1/apps/a/secrets/x%2F..%2Fy%3Fz%23%25")
        );
        for bad in ["", ".", ".."] {
            assert!(fill(template, &["a", bad]).is_err(), "{bad}");
        }
        assert!(fill(template, &["a"]).is_err());
    }

    #[test]
    fn pauses_grow_and_stay_short() {
        for tries in 1..=2 {
            let pause = jitter(tries);
            let base = u64::from(tries) * 100;
            assert!((base..2 * base).contains(&millis(pause)), "{pause:?}");
        }
    }
}
