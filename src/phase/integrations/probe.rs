//! Requests that prove an integration: what marks them, who sends them, and what comes back.

use std::{fmt, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::Method;
use jiff::Timestamp;

use crate::phase::evidence::edge::OWN_ERRORS;

/// The beginning of every id that a probe makes up. Applications leave such events out of their data.
pub const ID_PREFIX: &str = "golive-probe-";

/// The first digits of an id that must be a number.
pub const NUMBER_PREFIX: u64 = 990;

/// Most requests at the same time.
const WIDTH: usize = 4;

/// Too many requests (RFC 6585): something limits the rate, and nothing else is known.
const TOO_MANY: u16 = 429;

/// One round of checks of one integration.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// A random number, so that no two rounds have the same ids.
    pub number: u64,
}

impl Run {
    /// An id that no other event has.
    pub fn id(&self, number: u32) -> String {
        format!("{ID_PREFIX}{:016x}-{number}", self.number)
    }

    /// A number that no other event has: 15 digits, so that every JSON reader keeps it exactly.
    pub fn numeric_id(&self, number: u32) -> u64 {
        let run = self.number % 1_000_000_000;
        (NUMBER_PREFIX * 1_000_000_000 + run) * 1_000 + u64::from(number % 1_000)
    }
}

/// A request to the application's own host.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Headers, beside `Host`, `Content-Length` and those that mark a probe.
    pub headers: Vec<(String, String)>,
    /// The body, byte for byte.
    pub body: Bytes,
}

/// Without values: the path of a handshake and the headers have credentials.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.split('?').next().unwrap_or_default();
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("path", &path)
            .field("headers", &names)
            .field("body", &self.body.len())
            .finish()
    }
}

/// What the application should do with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Take it.
    Accepted,
    /// Refuse it: it is forged.
    Refused,
    /// Not accept it: it is forged and malformed, which senders' own samples refuse in many ways.
    NotAccepted,
    /// Answer 200 with exactly this text.
    Challenge(String),
    /// Refuse it, and never answer this text.
    NoChallenge(String),
}

/// What the judge of a check tells apart among its requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Special {
    /// Nothing.
    #[default]
    Plain,
    /// A topic that the application does not know.
    UnknownTopic,
    /// The time is in seconds.
    Seconds,
    /// Signed for the id in the body.
    IdInBody,
    /// Sent a short time ago.
    Recent,
    /// Sent long ago.
    Old,
}

/// A request, and what it is for.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Id of the check.
    pub check: &'static str,
    /// What is special about it, for people.
    pub variant: &'static str,
    /// What is special about it, for the judge.
    pub special: Special,
    /// What should happen.
    pub expect: Expect,
    /// The request.
    pub request: Request,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// An answer.
    Answered {
        /// HTTP status.
        status: u16,
        /// The body where a challenge is expected, or must not be; evaluated and never shown.
        body: Bytes,
        /// From the last byte of the request to the last byte of the answer, on a connection that was
        /// open: the sender of the vendor keeps connections.
        took: Duration,
    },
    /// The connection was open and the request sent, and no answer came in time.
    Silent {
        /// How long was waited.
        after: Duration,
    },
    /// The request could not be made: no address, no connection, no TLS, or a connection that broke.
    Unreachable {
        /// The cause, without anything that was fetched.
        why: String,
    },
}

impl Reply {
    /// Whether the application itself has shown what it does with the request. An error that Fly.io's
    /// edge answers by itself shows nothing, and neither does a limit of rates.
    pub fn is_unknown(&self) -> bool {
        match self {
            Self::Answered { status, .. } => OWN_ERRORS.contains(status) || *status == TOO_MANY,
            Self::Silent { .. } | Self::Unreachable { .. } => true,
        }
    }

    /// The status of an answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Answered { status, .. } => Some(*status),
            Self::Silent { .. } | Self::Unreachable { .. } => None,
        }
    }

    /// Time until the answer.
    pub fn took(&self) -> Option<Duration> {
        match self {
            Self::Answered { took, .. } => Some(*took),
            Self::Silent { .. } | Self::Unreachable { .. } => None,
        }
    }

    /// Whether no answer came in time.
    pub fn is_silent(&self) -> bool {
        matches!(self, Self::Silent { .. })
    }
}

/// How a delivery shows in the application.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Nobody has said how.
    Undeclared,
    /// The number of deliveries that had an effect, of all machines together.
    Counted(f64),
    /// It is nowhere, as one that nothing has increased so far may be; what that means after a delivery.
    Absent(String),
    /// It cannot be read, with the cause.
    Unread(String),
}

/// The application under test, and time.
pub trait World: Sync {
    /// Sends a probe to the application's own host, marked as one: `User-Agent: golive-probe/VERSION` and
    /// `X-Golive-Probe: ACTIVATION/RELEASE/CHECK`. Follows no redirect.
    fn send(&self, probe: &Probe, limit: Duration) -> impl Future<Output = Reply> + Send;
    /// Reads the effect.
    fn effect(&self) -> impl Future<Output = Effect> + Send;
    /// Lets time pass.
    fn pause(&self, time: Duration) -> impl Future<Output = ()> + Send;
    /// The time that the application has, as far as it is known.
    fn now(&self) -> Timestamp;
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Until an answer.
    pub answer: Duration,
    /// Until a delivery that was answered shows as an effect.
    pub effect: Duration,
    /// Between two readings of the effect.
    pub poll: Duration,
    /// Before a request is repeated that had no answer.
    pub again: Duration,
}

impl Pace {
    /// With this limit for answers.
    pub const fn of(answer: Duration) -> Self {
        Self {
            answer,
            effect: Duration::from_secs(10),
            poll: Duration::from_millis(250),
            again: Duration::from_secs(1),
        }
    }
}

/// A probe that was sent.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Id of the check.
    pub check: &'static str,
    /// What is special about it, for people.
    pub variant: &'static str,
    /// What is special about it, for the judge.
    pub special: Special,
    /// What should happen.
    pub expect: Expect,
    /// What happened.
    pub reply: Reply,
}

/// How often a request is sent that gets no answer of the application.
const TRIES: u32 = 3;

/// Sends a probe. One that the application has not answered is sent again; what it has answered stands.
pub async fn ask<W: World>(world: &W, probe: Probe, pace: &Pace) -> Asked {
    let mut reply = world.send(&probe, pace.answer).await;
    let mut tries = 1;
    while tries < TRIES && reply.is_unknown() && !reply.is_silent() {
        world.pause(pace.again * tries).await;
        reply = world.send(&probe, pace.answer).await;
        tries += 1;
    }
    Asked {
        check: probe.check,
        variant: probe.variant,
        special: probe.special,
        expect: probe.expect,
        reply,
    }
}

/// Sends probes, a few at the same time, and keeps their order.
pub async fn ask_all<W: World>(world: &W, probes: Vec<Probe>, pace: &Pace) -> Vec<Asked> {
    let asking = probes.into_iter().map(|probe| ask(world, probe, pace));
    stream::iter(asking).buffered(WIDTH).collect().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_marked_and_no_credential_is_shown() {
        let run = Run { number: 0xabc };
        assert_eq!(run.id(3), "golive-probe-0000000000000abc-3");
        assert_eq!(run.numeric_id(3), 990_000_002_748_003);
        let largest = Run { number: u64::MAX }.numeric_id(u32::MAX);
        assert!(largest < 1 << 53, "exact in every JSON reader");
        let probe = Probe {
            check: "W1",
            variant: "right token",
            special: Special::Plain,
            expect: Expect::Accepted,
            request: Request {
                method: Method::GET,
                path: "/hooks?hub.verify_token=canary".to_owned(),
                headers: vec![("X-Hub-Signature-256".to_owned(), "canary".to_owned())],
                body: Bytes::from_static(b"canary"),
            },
        };
        assert!(!format!("{probe:?}").contains("canary"), "{probe:?}");
    }

    #[test]
    fn an_error_of_the_edge_says_nothing_about_the_application() {
        let answered = |status| Reply::Answered {
            status,
            body: Bytes::new(),
            took: Duration::ZERO,
        };
        for status in [502, 503, 504, 429] {
            assert!(answered(status).is_unknown(), "{status}");
        }
        for status in [200, 301, 401, 404, 500] {
            assert!(!answered(status).is_unknown(), "{status}");
        }
    }
}
