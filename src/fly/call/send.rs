//! Sends a call: wait for the rate limiter, check the gate, send, read, classify; retry reads.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{DATE, RETRY_AFTER};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use secrecy::ExposeSecret;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;
use tracing::field::Empty;
use url::Url;

use super::classify::{self, Answer};
use super::client::Observation;
use super::reply::{Reply, header_text};
use super::request::Call;
use crate::causes;
use crate::fly::error::{Class, Details, Error, Result, clean};
use crate::fly::token::{Surface, Token};

/// A change is not sent when less time than this remains before the deadline: it would most
/// likely be cut off with its outcome unknown. Creating a machine takes 1.1 to 2.5 s.
const CHANGE_NEEDS: Duration = Duration::from_secs(3);

/// Pause of a bucket after a 429 without `Retry-After`, which Fly.io is not known to send. Its
/// buckets regain one request per second.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(1);

/// The time limits of one call.
#[derive(Clone, Copy)]
struct Deadlines {
    /// Latest start of the first attempt, as far as the limiter is concerned.
    queue: Instant,
    /// End of the whole call.
    end: Instant,
    /// Time limit of one attempt.
    per_attempt: Duration,
}

impl Call<'_> {
    /// Sends the call.
    ///
    /// # Errors
    /// Anything but an expected status and a complete body, classified.
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

    /// Sends the call, or returns a remembered response that is not older than `age`. Concurrent
    /// callers with the same request share one call. Errors are not remembered.
    pub(crate) async fn send_or_recall(self, age: Duration) -> Result<Reply> {
        let shared = self.client.shared.clone();
        let entry = shared.memo.entry(self.memo_key());
        let deadline = Instant::now() + shared.options.limits.read_deadline;
        let Ok(mut remembered) = tokio::time::timeout_at(deadline, entry.lock()).await else {
            let text = "another caller's identical request was not answered in time";
            return Err(self.refused(Class::Transient, text));
        };
        if let Some((when, reply)) = &*remembered
            && when.elapsed() <= age
        {
            return Ok(reply.clone());
        }
        let reply = self.send().await?;
        *remembered = Some((Instant::now(), reply.clone()));
        Ok(reply)
    }

    async fn run(&mut self) -> Result<Reply> {
        let start = Instant::now();
        let deadlines = self.deadlines(start);
        let mut limited = Duration::ZERO;
        let mut attempts = 0;
        let result = loop {
            attempts += 1;
            let outcome = self.attempt(deadlines, &mut limited).await;
            let Err(error) = &outcome else { break outcome };
            if self.drop_refused_app_token(error) {
                // The refusal had no effect, so the next attempt is no repetition.
                attempts -= 1;
                continue;
            }
            let Some(pause) = self.pause_before_retry(error, attempts) else {
                break outcome;
            };
            if Instant::now() + pause >= deadlines.end {
                break outcome;
            }
            tokio::time::sleep(pause).await;
        };
        let span = tracing::Span::current();
        span.record("tries", attempts);
        span.record("limited_ms", millis(limited));
        span.record("duration_ms", millis(start.elapsed()));
        log(&span, &result);
        result
    }

    fn deadlines(&self, start: Instant) -> Deadlines {
        let limits = &self.client.shared.options.limits;
        let changes = self.endpoint.changes;
        let per_attempt = self
            .timeout
            .unwrap_or(if changes { limits.change } else { limits.read });
        let (queue, mut end) = if changes {
            let queue = start + limits.change_queue;
            (queue, queue + per_attempt)
        } else {
            let end = start + limits.read_deadline.max(per_attempt);
            (end, end)
        };
        if let Some(deadline) = self.client.deadline {
            end = end.min(deadline);
        }
        Deadlines {
            queue: queue.min(end),
            end,
            per_attempt,
        }
    }

    /// Falls back to the user's token when Fly.io refused the app-scoped one.
    fn drop_refused_app_token(&mut self, error: &Error) -> bool {
        let Some(status @ (401 | 403)) = error.status() else {
            return false;
        };
        let Some(narrow) = self.narrow.take() else {
            return false;
        };
        if let Some(cell) = &self.client.app_token {
            cell.refused(&narrow, self.endpoint.name, status);
        }
        tracing::warn!(%error, "Fly.io refused the app's token; using the user's token");
        true
    }

    /// The pause before the next attempt; `None` when there is none.
    fn pause_before_retry(&self, error: &Error, attempts: u32) -> Option<Duration> {
        if attempts >= self.endpoint.attempts {
            return None;
        }
        match error.class() {
            Class::Transient => Some(jitter(attempts)),
            // The limiter knows when a request is free, and whether that is in time.
            Class::Throttled { .. } if error.status().is_some() => Some(Duration::ZERO),
            _ => None,
        }
    }

    /// One attempt.
    async fn attempt(&self, deadlines: Deadlines, limited: &mut Duration) -> Result<Reply> {
        if let Err(reason) = &self.url {
            return Err(self.unsent(Class::Invalid, reason.clone()));
        }
        let waited = self.wait_for_limiter(deadlines).await?;
        *limited += waited;
        self.check_gate()?;
        let started = Instant::now();
        let end = deadlines.end.min(started + deadlines.per_attempt);
        let outcome = self.exchange(end).await;
        self.observe(&outcome, started.elapsed(), waited);
        if let Err(error) = &outcome
            && error.status().is_some()
            && let Class::Throttled { after } = error.class()
        {
            let after = after.unwrap_or(DEFAULT_RETRY_AFTER);
            let limiter = &self.client.shared.limiter;
            limiter.throttled(&self.spends, self.endpoint.rate, after);
        }
        outcome
    }

    /// Waits until the rate limit allows the call; returns how long that took.
    async fn wait_for_limiter(&self, deadlines: Deadlines) -> Result<Duration> {
        let latest = if self.endpoint.changes {
            let now = Instant::now();
            let latest = deadlines
                .end
                .checked_sub(CHANGE_NEEDS)
                .map_or(now, |latest| latest.min(deadlines.queue));
            if latest < now {
                let text = "too little time remains before the deadline to make a change";
                return Err(self.unsent(Class::Transient, text.to_owned()));
            }
            latest
        } else {
            deadlines.queue
        };
        let limiter = &self.client.shared.limiter;
        let waited = limiter
            .acquire(&self.spends, self.endpoint.rate, latest)
            .await;
        waited.map_err(|late| {
            let class = Class::Throttled {
                after: Some(late.after),
            };
            let text = "Fly.io's rate limit allows no request before the deadline";
            self.unsent(class, text.to_owned())
        })
    }

    /// Refuses a change while this process may not make any.
    fn check_gate(&self) -> Result<()> {
        let Some(gate) = &self.client.shared.options.gate else {
            return Ok(());
        };
        if !self.endpoint.changes {
            return Ok(());
        }
        gate().map_err(|reason| {
            let text = format!("this process may not make changes now: {reason}");
            self.unsent(Class::Transient, text)
        })
    }

    /// Reports the attempt to the observer.
    fn observe(&self, outcome: &Result<Reply>, duration: Duration, limited: Duration) {
        let Some(observer) = &self.client.shared.options.observer else {
            return;
        };
        let (status, class) = match outcome {
            Ok(reply) => (Some(reply.status), None),
            Err(error) => (error.status(), Some(error.class().as_str())),
        };
        observer(&Observation {
            endpoint: self.endpoint.name,
            status,
            class,
            duration,
            limited,
        });
    }

    /// Sends the request and reads the whole response, by `end`.
    async fn exchange(&self, end: Instant) -> Result<Reply> {
        let request = self
            .request()
            .map_err(|reason| self.unsent(Class::Invalid, reason))?;
        let shared = &self.client.shared;
        let sent = std::time::Instant::now();
        let sending = if self.guarded {
            shared.guarded.request(request)
        } else {
            shared.http.request(request)
        };
        let response = match timeout_at(end, sending).await {
            Err(_) => return Err(self.lost("no answer in time")),
            Ok(Err(source)) if source.is_connect() => {
                // Nothing was sent, so nothing happened.
                let text = format!("cannot connect: {}", causes::chain(&source));
                return Err(self.unsent(Class::Transient, text));
            }
            Ok(Err(source)) => return Err(self.lost(&causes::chain(&source))),
            Ok(Ok(response)) => response,
        };
        let (head, incoming) = response.into_parts();
        if !self.guarded && self.endpoint.surface() != Surface::Registry {
            let date = header_text(&head.headers, DATE.as_str());
            shared.clock.note(date, sent);
        }
        let body = self.read_body(incoming, end).await?;
        self.judge(Reply {
            status: head.status.as_u16(),
            request_id: header_text(&head.headers, "fly-request-id").map(|id| clean(id, &[])),
            headers: head.headers,
            body,
            path: self.path(),
            registry: self.registry.clone(),
        })
    }

    /// The whole body, up to the endpoint's limit.
    async fn read_body(&self, mut incoming: Incoming, end: Instant) -> Result<Bytes> {
        let limit = self.endpoint.limit;
        let mut body = BytesMut::new();
        loop {
            let frame = match timeout_at(end, incoming.frame()).await {
                Err(_) => return Err(self.lost("the answer did not end in time")),
                Ok(None) => return Ok(body.freeze()),
                Ok(Some(Err(source))) => {
                    let text = format!("the answer was cut off: {}", causes::chain(&source));
                    return Err(self.lost(&text));
                }
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if body.len() + data.len() > limit {
                return Err(self.lost(&format!("the answer is longer than {limit} bytes")));
            }
            body.extend_from_slice(&data);
        }
    }

    /// Success, or an error with its class.
    fn judge(&self, reply: Reply) -> Result<Reply> {
        let surface = format!("{:?}", self.endpoint.surface);
        let path = format!(
            "{} {}",
            self.endpoint.name,
            self.url.as_ref().map_or("", Url::path)
        );
        let refusals = &self.client.refusals;
        let Some(verdict) = self.verdict(&reply) else {
            if reply.status != 401 && self.narrow.is_none() {
                refusals.accepted([&surface, &path]);
            }
            return Ok(reply);
        };
        let class = match verdict.class {
            // A refusal of the app-scoped token says nothing about the user's.
            Class::Auth { .. } if self.narrow.is_some() => Class::Auth { hard: false },
            Class::Auth { .. } => {
                // 401 refuses the token. Any other refusal, also one inside a GraphQL response,
                // is about the requested resource.
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
            path: self.path(),
            registry: self.registry.clone(),
        }))
    }

    /// What is wrong with the response; `None` for a success.
    fn verdict(&self, reply: &Reply) -> Option<classify::Verdict> {
        let success = (200..300).contains(&reply.status);
        let changes = self.endpoint.changes;
        if !success && !self.endpoint.expects.contains(&reply.status) {
            return Some(classify::answer(Answer {
                mutates: changes,
                status: reply.status,
                body: &reply.body,
                retry_after: classify::retry_after(
                    header_text(&reply.headers, RETRY_AFTER.as_str()),
                    header_text(&reply.headers, DATE.as_str()),
                ),
            }));
        }
        if self.endpoint.surface == Surface::Graphql {
            return classify::first_error(&reply.body, changes);
        }
        None
    }

    /// An error of our own for a call that is not sent.
    pub(crate) fn refused(&self, class: Class, message: &str) -> Error {
        self.unsent(class, message.to_owned())
    }

    /// The error for a 401 that the caller handled itself.
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

    /// The error for a response that denies access for another reason than our own token.
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
            path: self.path(),
            registry: self.registry.clone(),
        })
    }

    /// The path of the request for messages. Calls of GraphQL have one path, and the endpoint names
    /// the operation.
    fn path(&self) -> Option<String> {
        let url = self.url.as_ref().ok()?;
        (self.endpoint.surface != Surface::Graphql).then(|| clean(url.path(), &[]))
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

fn log(span: &tracing::Span, result: &Result<Reply>) {
    match result {
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
}

/// Pause before the next attempt: 100–200 ms, then 200–400 ms.
fn jitter(attempts: u32) -> Duration {
    let base = 100 * u64::from(attempts);
    Duration::from_millis(base + rand::random_range(0..base))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_short() {
        for attempts in 1..=2 {
            let pause = jitter(attempts);
            let base = u64::from(attempts) * 100;
            assert!((base..2 * base).contains(&millis(pause)), "{pause:?}");
        }
    }
}
