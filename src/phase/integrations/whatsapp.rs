//! WhatsApp Cloud API, W1 to W10: the handshake, signed and forged messages, repeated ones, and the time
//! until an answer. W11 asks Meta and is elsewhere.
//!
//! Source: developers.facebook.com, WhatsApp Cloud API, "Webhooks" and "Throughput"; Graph API webhooks,
//! "Getting started", as of 2026-08.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};

use super::{
    judge::{Check, Statuses, Verdict, is_accepted},
    latency::{self, Times},
    outcome::{Ended, Outcome},
    probe::{Asked, Expect, Pace, Probe, Reply, Request, Run, Special, World, ask_all},
    replay::{self, Replay},
    set::{Set, at_a_path, not_asked, sorted},
    signed::{Signature, Signer},
};
use crate::webhook::{
    bodies::{self, Message, UNSUPPORTED, text, whatsapp, whatsapp_unknown_field},
    scheme::Scheme,
    sign::Spoiled,
};

/// How long a message may take until Golive stops to wait. Meta publishes a standard, and no limit.
pub const PACE: Pace = Pace::of(Duration::from_secs(10));

/// Meta repeats what is not answered 200.
const STATUSES: Statuses<'static> = Statuses {
    accepted: &[200],
    refused: &[401, 403],
};

const VERIFY: &str = "Check that `sha256=` and the HMAC-SHA256 of the body's bytes, with the app secret, equal `X-Hub-Signature-256`, in whole and in constant time; answer 401 if not.";

const W1: Check = Check {
    id: "W1",
    name: "handshake with the right token returns the challenge",
    change: "Answer `GET` with 200 and the value of `hub.challenge` alone when `hub.verify_token` is the verify token; compare the token in the application with the one in the Secret.",
};
const W2: Check = Check {
    id: "W2",
    name: "handshake with a wrong token is refused",
    change: "Compare `hub.verify_token` with the verify token before you return the challenge, never with an empty one, and answer 403 if it differs.",
};
const W3: Check = Check {
    id: "W3",
    name: "signed message is accepted",
    change: "Answer 200 to signed messages. If they are refused: compare the app secret in the application with the one at Meta and in the Secret, and check `X-Hub-Signature-256` (not the SHA-1 one) over the bytes of the body.",
};
const W4: Check = Check {
    id: "W4",
    name: "message without a signature is refused",
    change: VERIFY,
};
const W5: Check = Check {
    id: "W5",
    name: "message with a wrong signature is refused",
    change: VERIFY,
};
const W6: Check = Check {
    id: "W6",
    name: "signature of another message is refused",
    change: VERIFY,
};
const W7: Check = Check {
    id: "W7",
    name: "message with escaped characters is accepted",
    change: "Check the signature over the bytes as they arrive, before anything parses the body: Meta signs `\\u00f1`, and a body that is written again has `ñ`.",
};
const W8: Check = Check {
    id: "W8",
    name: "message that is delivered twice has one effect",
    change: "Store `messages[].id` under a unique key, and answer 200 to a message that is known already.",
};
const W9: Check = Check {
    id: "W9",
    name: "messages are answered within the standard of Meta",
    change: "Store the message, answer 200, and do the work afterwards: Meta wants a median of at most 250 ms, and fewer than 1 % above 1 s.",
};
const W10: Check = Check {
    id: "W10",
    name: "unknown fields and types are accepted",
    change: "Answer 200 to fields and types of messages that the application does not know, and leave them out.",
};

/// What the checks need.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// This round.
    pub run: Run,
    /// Path of the webhook.
    pub path: &'a str,
    /// The token of the handshake.
    pub verify_token: &'a SecretString,
    /// Meta's app secret.
    pub app_secret: &'a SecretString,
    /// The phone number that messages say they were sent to.
    pub phone_number_id: Option<&'a str>,
}

/// The requests.
struct Plan<'a> {
    input: &'a Input<'a>,
    signer: Signer<'a>,
    /// When the messages are sent, in milliseconds since 1970.
    millis: i64,
}

impl<'a> Plan<'a> {
    fn new(input: &'a Input<'a>, millis: i64) -> Self {
        let signer = Signer {
            scheme: Scheme::meta(),
            key: input.app_secret.expose_secret().as_bytes().to_vec(),
            wrong_key: input.run.id(0).into_bytes(),
            method: Method::POST,
            path: input.path,
            content_type: "application/json",
        };
        Self {
            input,
            signer,
            millis,
        }
    }

    fn message(&self, number: u32, name: &str, content: &str) -> String {
        whatsapp(&Message {
            id: &self.input.run.id(number),
            phone_number_id: self
                .input
                .phone_number_id
                .unwrap_or(bodies::PHONE_NUMBER_ID),
            seconds: self.millis.div_euclid(1000),
            name,
            content,
        })
    }

    fn plain(&self, number: u32) -> String {
        self.message(number, "Golive probe", &text("golive probe"))
    }

    /// The request with this body.
    fn post(&self, body: &str, signature: Signature<'_>) -> Request {
        self.signer.request("", self.millis, body, None, signature)
    }

    fn probe(
        &self,
        check: Check,
        variant: &'static str,
        expect: Expect,
        request: Request,
    ) -> Probe {
        Probe {
            check: check.id,
            variant,
            special: Special::Plain,
            expect,
            request,
        }
    }

    fn handshake(
        &self,
        check: Check,
        variant: &'static str,
        token: &str,
        expect: fn(String) -> Expect,
    ) -> Probe {
        // Meta sends a number.
        let challenge = (1_000_000_000 + self.input.run.number % 1_000_000_000).to_string();
        let joint = if self.input.path.contains('?') {
            '&'
        } else {
            '?'
        };
        let token = utf8_percent_encode(token, NON_ALPHANUMERIC);
        let path = format!(
            "{}{joint}hub.mode=subscribe&hub.challenge={challenge}&hub.verify_token={token}",
            self.input.path
        );
        let request = Request {
            method: Method::GET,
            path,
            headers: Vec::new(),
            body: Bytes::new(),
        };
        self.probe(check, variant, expect(challenge), request)
    }

    /// The first requests: if these have no answer, no other will.
    fn first(&self) -> Vec<Probe> {
        let token = self.input.verify_token.expose_secret();
        let signed = self.post(&self.plain(1), Signature::Right);
        vec![
            self.handshake(W1, "right token", token, Expect::Challenge),
            self.probe(W3, "signed", Expect::Accepted, signed),
        ]
    }

    /// The other requests that are judged one by one.
    fn rest(&self) -> Vec<Probe> {
        let mut probes = vec![
            self.handshake(
                W2,
                "wrong token",
                &self.input.run.id(2),
                Expect::NoChallenge,
            ),
            self.handshake(W2, "empty token", "", Expect::NoChallenge),
        ];
        let mut forged = |check, variant, number, signature: Signature<'_>| {
            let request = self.post(&self.plain(number), signature);
            probes.push(self.probe(check, variant, Expect::Refused, request));
        };
        forged(W4, "no signature", 3, Signature::None);
        forged(W5, "signature with another key", 4, Signature::WrongKey);
        for (number, how) in (5..).zip(Spoiled::ALL) {
            forged(W5, how.name(), number, Signature::Spoiled(how));
        }
        forged(W5, "signature with an empty key", 16, Signature::EmptyKey);
        forged(
            W6,
            "signature of another message",
            10,
            Signature::Of(&self.plain(11)),
        );
        for (number, variant, how) in [
            (17, "text that is no signature", Signature::Malformed),
            (18, "other version of signature", Signature::OtherVersion),
        ] {
            let request = self.post(&self.plain(number), how);
            probes.push(self.probe(W5, variant, Expect::NotAccepted, request));
        }
        let escaped = [
            (12, r"Caba\u00f1as", r"\u00bfHay caba\u00f1a libre?"),
            (13, r"Zo\u00eb \ud83c\udfe1", r"24\/7 \u003C3 \u0025 \u0040"),
        ];
        for (number, name, words) in escaped {
            let request = self.post(&self.message(number, name, &text(words)), Signature::Right);
            probes.push(self.probe(W7, "escaped characters", Expect::Accepted, request));
        }
        let unknown = [
            (
                "unknown field",
                whatsapp_unknown_field(&self.input.run.id(14)),
            ),
            (
                "unknown type of message",
                self.message(15, "Golive probe", UNSUPPORTED),
            ),
        ];
        for (variant, body) in unknown {
            let request = self.post(&body, Signature::Right);
            probes.push(self.probe(W10, variant, Expect::Accepted, request));
        }
        probes
    }

    /// A message that is not signed, or with another key.
    fn forged_event(&self, number: u32) -> Probe {
        let signature = match number % 2 {
            0 => Signature::None,
            _ => Signature::WrongKey,
        };
        let request = self.post(&self.plain(number), signature);
        self.probe(W4, "forged", Expect::Refused, request)
    }

    /// A new message.
    fn event(&self, check: Check, number: u32) -> Probe {
        let request = self.post(&self.plain(number), Signature::Right);
        self.probe(check, "signed", Expect::Accepted, request)
    }
}

/// Ids of messages that are delivered twice begin here.
const REPLAYED: u32 = 100;

/// Ids of forged messages whose effect is watched begin here.
const FORGED: u32 = 300;

/// Ids of messages that measure the time begin here.
const MEASURED: u32 = 1000;

/// Ids of messages that measure it once more begin here.
const MEASURED_AGAIN: u32 = 2000;

/// Messages at the same time while the time is measured.
const CHUNK: u32 = 4;

/// Measures the time until an answer.
async fn measure<W: World>(world: &W, plan: &Plan<'_>, from: u32, pace: &Pace) -> Times {
    let mut times = Times::default();
    let mut number = from;
    while times.need_more() {
        let chunk = (number..number + CHUNK).map(|number| plan.event(W9, number));
        for asked in ask_all(world, chunk.collect(), pace).await {
            times.add(&asked.reply);
        }
        number += CHUNK;
    }
    times
}

/// Asks everything and judges it.
pub async fn check<W: World>(world: &W, input: &Input<'_>, pace: &Pace) -> Vec<Outcome> {
    let plan = Plan::new(input, world.now().as_millisecond());
    let mut asked = ask_all(world, plan.first(), pace).await;
    let signed = asked.last().map(|asked| asked.reply.clone());
    let is_silent = signed.as_ref().is_some_and(Reply::is_silent);
    if is_silent || asked.iter().all(|asked| asked.reply.is_unknown()) {
        let times = match is_silent {
            true => measure(world, &plan, MEASURED, pace).await,
            false => Times::default(),
        };
        return unanswered(&asked, &times);
    }
    asked.extend(ask_all(world, plan.rest(), pace).await);
    if !signed.is_some_and(|reply| is_accepted(&reply, &STATUSES)) {
        return outcomes(&asked, None, None, None);
    }
    let replay = Replay {
        world,
        event: |number| plan.event(W8, REPLAYED + number),
        statuses: STATUSES,
        pace,
    };
    let found = replay.run(&mut Vec::new()).await;
    let forged = Replay {
        world,
        event: |number| plan.forged_event(FORGED + number),
        statuses: STATUSES,
        pace,
    };
    let processed = forged.processed_though_refused(&found).await;
    let latency = latency(world, &plan, latency::way(set(&asked).light()), pace).await;
    outcomes(&asked, processed, Some(replay::judge(found)), Some(latency))
}

/// Measures, and once more if the standard is not met: a moment in which a machine was busy is no
/// standard.
async fn latency<W: World>(world: &W, plan: &Plan<'_>, way: Duration, pace: &Pace) -> Verdict {
    let first = latency::meta(&measure(world, plan, MEASURED, pace).await, way);
    if first.ended != Ended::Failed {
        return first;
    }
    world.pause(pace.again * 3).await;
    latency::meta(&measure(world, plan, MEASURED_AGAIN, pace).await, way)
}

fn set(asked: &[Asked]) -> Set<'_> {
    Set {
        asked,
        statuses: STATUSES,
        signed: W3,
        plain: |_| true,
    }
}

/// All outcomes when the application does not answer.
fn unanswered(asked: &[Asked], times: &Times) -> Vec<Outcome> {
    let set = set(asked);
    let mut outcomes = not_asked(&[W2, W4, W5, W6, W7, W8, W10]);
    outcomes.extend([W1, W3].map(|check| set.outcome(check)));
    outcomes.push(W9.ended(latency::meta(times, Duration::ZERO)));
    sorted(outcomes)
}

/// All outcomes.
fn outcomes(
    asked: &[Asked],
    processed: Option<Verdict>,
    replayed: Option<Verdict>,
    latency: Option<Verdict>,
) -> Vec<Outcome> {
    let set = set(asked);
    let mut outcomes: Vec<Outcome> = [W1, W2, W3, W5, W6].map(|check| set.outcome(check)).into();
    outcomes.push(set.refused(W4, processed));
    outcomes.extend([W7, W10].map(|check| set.also_signed(check)));
    outcomes.push(set.after_signed(W8, replayed));
    outcomes.push(set.after_signed(W9, latency));
    sorted(at_a_path(W1, asked, outcomes))
}
