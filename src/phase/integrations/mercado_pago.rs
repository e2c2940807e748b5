//! Mercado Pago, M1 to M10: signed and forged notifications, ids that differ, repeated ones, times, and the
//! time until an answer.
//!
//! Source: mercadopago.com developers, "Webhooks" (repository mercadopago/devsite-docs), and the official
//! libraries, as of 2026-08.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use jiff::{SignedDuration, Timestamp};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};

use super::{
    judge::{Check, Statuses, Verdict, is_accepted, is_refused},
    latency::{self, Times},
    outcome::{Ended, Outcome},
    probe::{Asked, Expect, Pace, Probe, Reply, Request, Run, Special, World, ask_all},
    replay::{self, Replay},
    set::{Set, at_a_path, not_asked, sorted},
};
use crate::webhook::{
    bodies::{Notification, mercado_pago},
    mercado_pago as sign,
    sign::Spoiled,
};

/// How long Mercado Pago waits for an answer.
const HARD: Duration = Duration::from_secs(22);

/// A time until an answer that leaves room.
const SOFT: Duration = Duration::from_secs(2);

/// A little longer than Mercado Pago waits.
pub const PACE: Pace = Pace::of(Duration::from_secs(23));

/// Mercado Pago repeats what is answered neither 200 nor 201.
const STATUSES: Statuses<'static> = Statuses {
    accepted: &[200, 201],
    refused: &[401, 403],
};

/// The age of a notification that must still be accepted: a little less than five minutes.
const RECENT: SignedDuration = SignedDuration::from_secs(270);

/// The age of a notification that may be refused.
const OLD: SignedDuration = SignedDuration::from_hours(24);

const VERIFY: &str = "Check that the HMAC-SHA256 of `id:…;request-id:…;ts:…;`, with the secret signature, equals `v1` in `x-signature`, in whole and in constant time; answer 401 if not.";

const M1: Check = Check {
    id: "M1",
    name: "signed notification is accepted",
    change: "Answer 200 or 201 to signed notifications of every topic. If they are refused: compare the secret signature in the application with the one at Mercado Pago and in the Secret, and take `ts` as milliseconds from 1000000000000 on.",
};
const M2: Check = Check {
    id: "M2",
    name: "notification without a signature is refused",
    change: VERIFY,
};
const M3: Check = Check {
    id: "M3",
    name: "notification with a wrong signature is refused",
    change: VERIFY,
};
const M4: Check = Check {
    id: "M4",
    name: "signature for another id is refused",
    change: "Put the `data.id` of the query and the header `x-request-id` of this request into the manifest; nothing in the body is signed.",
};
const M5: Check = Check {
    id: "M5",
    name: "the id of the query counts, not the body's",
    change: "Take the id for the manifest from the query parameter `data.id`, not from the body.",
};
const M6: Check = Check {
    id: "M6",
    name: "notification without x-request-id is accepted",
    change: "Leave `request-id:` out of the manifest when the header `x-request-id` is missing.",
};
const M7: Check = Check {
    id: "M7",
    name: "notification that is delivered twice has one effect",
    change: "Store the notification's id under a unique key, and answer 200 to one that is known already.",
};
const M8: Check = Check {
    id: "M8",
    name: "old notifications do no harm",
    change: "Accept a `ts` that is up to five minutes old, in seconds or milliseconds.",
};
const M9: Check = Check {
    id: "M9",
    name: "notifications are answered within 22 s",
    change: "Store the notification, answer 200, and fetch the payment afterwards: Mercado Pago repeats what is not answered within 22 s.",
};
const M10: Check = Check {
    id: "M10",
    name: "ids with letters are accepted in either case",
    change: "Accept a signature over `data.id` as it is and one over it in lower case: Mercado Pago's documents and libraries disagree.",
};

/// A topic that the application does not know.
const UNKNOWN_TOPIC: &str = "golive_probe_wh";

/// What the checks need.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// This round.
    pub run: Run,
    /// Path of the webhook.
    pub path: &'a str,
    /// The secret signature.
    pub secret: &'a SecretString,
}

/// One notification; the default is a right one.
#[derive(Clone)]
struct Sent<'a> {
    /// Number of the notification.
    number: u32,
    topic: &'a str,
    /// The id in the query.
    query: String,
    /// The id in the body.
    body: String,
    /// The id that is signed.
    signed: String,
    /// The header with the request's id.
    request_id: Option<String>,
    /// The request's id that is signed.
    signed_request_id: Option<String>,
    ts: String,
}

/// How a notification is signed.
#[derive(Clone, Copy, PartialEq)]
enum Signature {
    Right,
    None,
    WrongKey,
    EmptyKey,
    TimeOnly,
    Malformed,
    OtherVersion,
    Spoiled(Spoiled),
}

/// The requests.
struct Plan<'a> {
    input: &'a Input<'a>,
    /// When the round began: bodies have this time, so that a notification that is delivered again is the
    /// same.
    began: Timestamp,
    now: Timestamp,
}

impl Plan<'_> {
    /// A notification as Mercado Pago sends it now.
    fn sent(&self, number: u32) -> Sent<'static> {
        let id = self.input.run.numeric_id(number).to_string();
        let request_id = Some(self.input.run.id(number));
        Sent {
            number,
            topic: "payment",
            query: id.clone(),
            body: id.clone(),
            signed: id,
            request_id: request_id.clone(),
            signed_request_id: request_id,
            ts: self.now.as_millisecond().to_string(),
        }
    }

    fn request(&self, sent: &Sent<'_>, signature: Signature) -> Request {
        let secret = self.input.secret.expose_secret().as_bytes();
        let manifest = sign::manifest(
            Some(&sent.signed),
            sent.signed_request_id.as_deref(),
            &sent.ts,
        );
        let (ts, right) = (&sent.ts, || sign::code(secret, &manifest));
        let wrong = || sign::code(self.input.run.id(0).as_bytes(), &manifest);
        let value = match signature {
            Signature::None => None,
            Signature::Right => Some(sign::header(ts, &right())),
            Signature::WrongKey => Some(sign::header(ts, &wrong())),
            Signature::EmptyKey => Some(sign::header(ts, &sign::code(&[], &manifest))),
            Signature::TimeOnly => Some(format!("ts={ts}")),
            Signature::Malformed => Some(format!("ts={ts},v1=%golive-probe%")),
            Signature::OtherVersion => Some(sign::header(ts, &wrong()).replace("v1=", "v9=")),
            Signature::Spoiled(how) => Some(sign::header(ts, &how.apply(&right()))),
        };
        let mut headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
        if let Some(id) = &sent.request_id {
            headers.push((sign::REQUEST_ID.to_owned(), id.clone()));
        }
        if let Some(value) = value {
            headers.push((sign::SIGNATURE.to_owned(), value));
        }
        let joint = if self.input.path.contains('?') {
            '&'
        } else {
            '?'
        };
        let id = utf8_percent_encode(&sent.query, NON_ALPHANUMERIC);
        let body = mercado_pago(&Notification {
            number: self.input.run.numeric_id(sent.number),
            topic: sent.topic,
            date: &self.began.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            data_id: &sent.body,
        });
        Request {
            method: Method::POST,
            path: format!("{}{joint}data.id={id}&type={}", self.input.path, sent.topic),
            headers,
            body: Bytes::from(body),
        }
    }

    fn signed(&self, check: Check, variant: &'static str, sent: &Sent<'_>) -> Probe {
        let request = self.request(sent, Signature::Right);
        Probe {
            check: check.id,
            variant,
            special: Special::Plain,
            expect: Expect::Accepted,
            request,
        }
    }

    fn forged(
        &self,
        check: Check,
        variant: &'static str,
        sent: &Sent<'_>,
        signature: Signature,
    ) -> Probe {
        let request = self.request(sent, signature);
        let malformed = [
            Signature::TimeOnly,
            Signature::Malformed,
            Signature::OtherVersion,
        ];
        Probe {
            check: check.id,
            variant,
            special: Special::Plain,
            expect: match malformed.contains(&signature) {
                true => Expect::NotAccepted,
                false => Expect::Refused,
            },
            request,
        }
    }

    /// The first requests: if these have no answer, no other will.
    fn first(&self) -> Vec<Probe> {
        let unknown = Sent {
            topic: UNKNOWN_TOPIC,
            ..self.sent(2)
        };
        vec![
            self.signed(M1, "payment", &self.sent(1)),
            special(
                Special::UnknownTopic,
                self.signed(M1, "unknown topic", &unknown),
            ),
        ]
    }

    /// The other requests that are judged one by one.
    fn rest(&self) -> Vec<Probe> {
        let in_seconds = Sent {
            ts: self.now.as_second().to_string(),
            ..self.sent(3)
        };
        let without = Sent {
            request_id: None,
            signed_request_id: None,
            ..self.sent(4)
        };
        let other_body = Sent {
            body: self.other(5),
            ..self.sent(5)
        };
        // Those of which the time counts first: slow answers make the others late.
        let mut probes = Vec::new();
        for (number, variant, kind, age) in [
            (16, "ts of 4.5 minutes ago", Special::Recent, RECENT),
            (17, "ts of a day ago", Special::Old, OLD),
        ] {
            let sent = Sent {
                ts: (self.now - age).as_millisecond().to_string(),
                ..self.sent(number)
            };
            probes.push(special(kind, self.signed(M8, variant, &sent)));
        }
        probes.extend([
            special(
                Special::Seconds,
                self.signed(M1, "ts in seconds", &in_seconds),
            ),
            self.signed(M6, "no x-request-id", &without),
            self.signed(M5, "another id in the body", &other_body),
            self.forged(M2, "no signature", &self.sent(6), Signature::None),
            self.forged(
                M3,
                "signature with another key",
                &self.sent(7),
                Signature::WrongKey,
            ),
        ]);
        for (number, check, variant, how) in [
            (20, M3, "signature with an empty key", Signature::EmptyKey),
            (21, M2, "ts alone", Signature::TimeOnly),
            (22, M3, "text that is no signature", Signature::Malformed),
            (
                23,
                M3,
                "other version of signature",
                Signature::OtherVersion,
            ),
        ] {
            probes.push(self.forged(check, variant, &self.sent(number), how));
        }
        for (number, how) in (8..).zip(Spoiled::ALL) {
            let sent = self.sent(number);
            probes.push(self.forged(M3, how.name(), &sent, Signature::Spoiled(how)));
        }
        probes.extend(self.for_another());
        // An order of the Orders API has an id such as `ORD01JQ4S4KY8HWQ6NA5PXB65B3D3`.
        for (number, variant) in [(18, "signed as it is"), (19, "signed in lower case")] {
            let id = self.input.run.id(number).to_ascii_uppercase();
            let signed = if number == 19 {
                id.to_ascii_lowercase()
            } else {
                id.clone()
            };
            let sent = Sent {
                topic: "order",
                query: id.clone(),
                body: id,
                signed,
                ..self.sent(number)
            };
            probes.push(self.signed(M10, variant, &sent));
        }
        probes
    }

    /// Notifications with a signature that was made for something else.
    fn for_another(&self) -> [Probe; 3] {
        let other = Sent {
            signed: self.other(12),
            ..self.sent(12)
        };
        let in_body = Sent {
            body: self.other(13),
            signed: self.other(13),
            ..self.sent(13)
        };
        let other_request = Sent {
            signed_request_id: Some(self.input.run.id(15)),
            ..self.sent(14)
        };
        let forged = |variant, sent| self.forged(M4, variant, sent, Signature::Right);
        [
            forged("signature for another id", &other),
            special(
                Special::IdInBody,
                forged("signature for the id in the body", &in_body),
            ),
            forged("signature for another x-request-id", &other_request),
        ]
    }

    /// A notification that is not signed, or with another key.
    fn forged_event(&self, number: u32) -> Probe {
        let signature = match number % 2 {
            0 => Signature::None,
            _ => Signature::WrongKey,
        };
        self.forged(M2, "forged", &self.sent(number), signature)
    }

    /// An id that is not that of the notification with this number.
    fn other(&self, number: u32) -> String {
        self.input.run.numeric_id(number + 50).to_string()
    }
}

/// The probe, told apart by the judge.
fn special(special: Special, probe: Probe) -> Probe {
    Probe { special, ..probe }
}

/// Numbers of notifications that are delivered twice begin here.
const REPLAYED: u32 = 100;

/// Numbers of forged notifications whose effect is watched begin here.
const FORGED: u32 = 300;

/// Asks everything and judges it.
pub async fn check<W: World>(world: &W, input: &Input<'_>, pace: &Pace) -> Vec<Outcome> {
    // What is sent is signed just before: slow answers take minutes together.
    let began = world.now();
    let plan = || Plan {
        input,
        began,
        now: world.now(),
    };
    let mut asked = ask_all(world, plan().first(), pace).await;
    if asked.iter().all(|asked| asked.reply.is_unknown()) {
        let mut outcomes = not_asked(&[M2, M3, M4, M5, M6, M7, M8, M10]);
        outcomes.push(set(&asked).outcome(M1));
        outcomes.push(M9.ended(latency(&asked, &[])));
        return sorted(outcomes);
    }
    let accepted = |asked: &Asked| is_accepted(&asked.reply, &STATUSES);
    let accepts = asked.iter().any(accepted);
    asked.extend(ask_all(world, plan().rest(), pace).await);
    let (mut replies, mut processed) = (Vec::new(), None);
    let replayed = match accepts {
        true => {
            let replay = Replay {
                world,
                event: |number| {
                    let plan = plan();
                    plan.signed(M7, "signed", &plan.sent(REPLAYED + number))
                },
                statuses: STATUSES,
                pace,
            };
            let found = replay.run(&mut replies).await;
            let forged = Replay {
                world,
                event: |number| plan().forged_event(FORGED + number),
                statuses: STATUSES,
                pace,
            };
            processed = forged.processed_though_refused(&found).await;
            Some(replay::judge(found))
        }
        false => None,
    };
    outcomes(&asked, (processed, replayed), &replies)
}

fn set(asked: &[Asked]) -> Set<'_> {
    Set {
        asked,
        statuses: STATUSES,
        signed: M1,
        plain: |asked| asked.special == Special::Plain,
    }
}

/// The time until signed notifications are answered.
fn latency(asked: &[Asked], replies: &[Reply]) -> Verdict {
    let mut times = Times::default();
    let signed = asked
        .iter()
        .filter(|asked| asked.expect == Expect::Accepted);
    signed
        .map(|asked| &asked.reply)
        .chain(replies)
        .for_each(|reply| times.add(reply));
    latency::limit(&times, HARD, SOFT)
}

/// All outcomes.
fn outcomes(
    asked: &[Asked],
    (processed, replayed): (Option<Verdict>, Option<Verdict>),
    replies: &[Reply],
) -> Vec<Outcome> {
    let set = set(asked);
    let one_effect = replayed
        .as_ref()
        .is_some_and(|verdict| verdict.ended == Ended::Passed);
    let mut outcomes: Vec<Outcome> = [M3, M4].map(|check| set.outcome(check)).into();
    outcomes.push(set.refused(M2, processed));
    outcomes.extend([
        M1.ended(signed(&set)),
        ids(&set),
        set.also_signed(M6),
        set.after_signed(M7, replayed),
        times(&set, one_effect),
        M9.ended(latency(asked, replies)),
        casing(&set),
    ]);
    sorted(at_a_path(M1, asked, outcomes))
}

/// The reply to one request of a check.
fn reply<'a>(set: &'a Set<'_>, check: Check, special: Special) -> Option<&'a Reply> {
    let mut own = set.of(check);
    own.find(|asked| asked.special == special)
        .map(|asked| &asked.reply)
}

/// M1. Milliseconds must be accepted; seconds should, because Mercado Pago's documents show both.
fn signed(set: &Set<'_>) -> Verdict {
    let in_seconds = reply(set, M1, Special::Seconds);
    let rest: Vec<Asked> = set
        .of(M1)
        .filter(|asked| asked.special != Special::Seconds)
        .cloned()
        .collect();
    let verdict = Set {
        asked: &rest,
        ..*set
    }
    .verdict(M1);
    let refused =
        in_seconds.is_some_and(|reply| !reply.is_unknown() && !is_accepted(reply, &STATUSES));
    if verdict.ended != Ended::Passed || !refused {
        return verdict;
    }
    Verdict {
        change: Some(
            "Accept a `ts` in seconds too: Mercado Pago's documents show both.".to_owned(),
        ),
        ..Verdict::of(
            Ended::Warned,
            "a `ts` in milliseconds is accepted, and one in seconds is not".to_owned(),
        )
    }
}

/// M5. An application that refuses ids that differ uses neither; that is safe, and Mercado Pago sends none.
fn ids(set: &Set<'_>) -> Outcome {
    let outcome = set.also_signed(M5);
    let uses_body =
        reply(set, M4, Special::IdInBody).is_some_and(|reply| !is_refused(reply, &STATUSES));
    if outcome.ended == Ended::Failed && !uses_body {
        let evidence =
            "a notification with another id in the body is refused, whichever id is signed";
        let change = "No need to act: Mercado Pago sends the same id in both. Only the id of the query is signed.";
        return M5.open(Ended::Warned, evidence, change);
    }
    outcome
}

/// M8. No tolerance is documented, so nothing here fails.
fn times(set: &Set<'_>, one_effect: bool) -> Outcome {
    let outcome = set.also_signed(M8);
    let accepted = |special| {
        let reply = reply(set, M8, special).filter(|reply| !reply.is_unknown());
        reply.map(|reply| is_accepted(reply, &STATUSES))
    };
    if outcome.ended == Ended::Unproven {
        return outcome;
    }
    let (Some(recent), Some(old)) = (accepted(Special::Recent), accepted(Special::Old)) else {
        return outcome;
    };
    let verdict = |ended, evidence: &str| Verdict {
        took: outcome.took,
        ..Verdict::of(ended, evidence.to_owned())
    };
    match (recent, old) {
        (false, _) => M8.ended(verdict(
            Ended::Warned,
            "a notification that is 4.5 minutes old is refused, so that a late one is lost",
        )),
        (true, false) => M8.ended(verdict(
            Ended::Passed,
            "accepted after 4.5 minutes, and refused after a day",
        )),
        (true, true) if one_effect => M8.ended(verdict(
            Ended::Passed,
            "accepted after a day too; delivered again, it has no second effect",
        )),
        (true, true) => {
            let change = "Refuse a `ts` that is older than a day, or show with `effect` that a notification has one effect.";
            let evidence =
                "accepted after a day too, and nothing shows that it has no second effect";
            M8.open(Ended::Warned, evidence, change)
        }
    }
}

/// M10. For information: sources disagree on what Mercado Pago signs, so nothing here fails.
fn casing(set: &Set<'_>) -> Outcome {
    let outcome = set.also_signed(M10);
    if outcome.ended == Ended::Failed {
        return Outcome {
            ended: Ended::Warned,
            ..outcome
        };
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(check: Check, special: Special, status: u16) -> Asked {
        Asked {
            check: check.id,
            variant: "a variant",
            special,
            expect: Expect::Accepted,
            reply: Reply::Answered {
                status,
                body: Bytes::new(),
                took: Duration::from_millis(5),
            },
        }
    }

    #[test]
    fn an_old_notification_never_fails() {
        let times = |recent, old, one_effect| {
            let asked = [
                asked(M1, Special::Plain, 200),
                asked(M8, Special::Recent, recent),
                asked(M8, Special::Old, old),
            ];
            times(&set(&asked), one_effect).ended
        };
        assert_eq!(times(200, 401, false), Ended::Passed);
        assert_eq!(times(200, 200, true), Ended::Passed);
        assert_eq!(times(200, 200, false), Ended::Warned);
        assert_eq!(times(401, 401, true), Ended::Warned);
        assert_eq!(times(500, 500, true), Ended::Warned);
        assert_eq!(times(503, 200, true), Ended::Unknown);
    }

    #[test]
    fn seconds_are_a_warning_and_milliseconds_a_failure() {
        let signed = |millis, seconds| {
            let asked = [
                asked(M1, Special::Plain, millis),
                asked(M1, Special::Seconds, seconds),
            ];
            signed(&set(&asked)).ended
        };
        assert_eq!(signed(200, 201), Ended::Passed);
        assert_eq!(signed(200, 401), Ended::Warned);
        assert_eq!(signed(401, 200), Ended::Failed);
        assert_eq!(signed(401, 401), Ended::Failed);
        assert_eq!(signed(200, 503), Ended::Passed);
    }
}
