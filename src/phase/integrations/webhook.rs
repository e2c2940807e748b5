//! Any other signed webhook, G1 to G8: signed and forged requests, old ones, repeated ones, unknown types of
//! events, and the time until an answer.

use std::time::Duration;

use http::Method;
use secrecy::{ExposeSecret, SecretString};

use super::{
    judge::{Check, Statuses, Verdict, is_accepted},
    latency::{self, Times},
    outcome::{Ended, Outcome},
    probe::{Asked, Expect, Pace, Probe, Reply, Run, Special, World, ask_all},
    replay::{self, Replay},
    set::{Set, at_a_path, not_asked, sorted},
    signed::{Signature, Signer},
};
use crate::webhook::{
    scheme::{Place, Scheme, StampPlace},
    sign::Spoiled,
    splice::{self, Spliced, Value},
};

/// A time until an answer that leaves room, at most.
const SOFT: Duration = Duration::from_secs(2);

const VERIFY: &str = "Compute the signature over the bytes of the request with the secret, compare it with the one in the header, in whole and in constant time, and answer 401 if they differ.";

const G1: Check = Check {
    id: "G1",
    name: "signed webhook is accepted",
    change: "Accept signed webhooks. If they are refused: check that `scheme` is the sender's, compare the secret in the application with the one at the sender and in the Secret, and sign the bytes of the body as they arrive, not a body that was parsed and written again.",
};
const G2: Check = Check {
    id: "G2",
    name: "webhook without a signature is refused",
    change: VERIFY,
};
const G3: Check = Check {
    id: "G3",
    name: "webhook with a wrong signature is refused",
    change: VERIFY,
};
const G4: Check = Check {
    id: "G4",
    name: "signature of another body is refused",
    change: VERIFY,
};
const G5: Check = Check {
    id: "G5",
    name: "old webhook is refused",
    change: "Refuse a webhook whose signed time is older than the sender's tolerance, so that one that was recorded cannot be sent again later.",
};
const G6: Check = Check {
    id: "G6",
    name: "webhook that is delivered twice has one effect",
    change: "Store the sender's event id under a unique key, and accept an event that is known already.",
};
const G7: Check = Check {
    id: "G7",
    name: "unknown type of event is accepted",
    change: "Accept types of events that the application does not know, and leave them out: senders add types.",
};
const G8: Check = Check {
    id: "G8",
    name: "webhooks are answered in time",
    change: "Store the event, answer, and do the work afterwards: the sender gives up and delivers again.",
};

/// A type of event that the application does not know.
const UNKNOWN_TYPE: &str = "golive_probe.unknown";

/// What the checks need.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    /// This round.
    pub run: Run,
    /// Path of the webhook.
    pub path: &'a str,
    /// How the sender signs.
    pub scheme: Scheme,
    /// The secret, as the sender shows it.
    pub secret: &'a SecretString,
    /// The method.
    pub method: Method,
    /// The type of the body.
    pub content_type: &'a str,
    /// The body. None: one as the sender sends it.
    pub body: Option<&'a str>,
    /// Statuses of accepted webhooks.
    pub accepted: &'a [u16],
    /// Statuses of refused webhooks. Those that the sender's own samples answer count too.
    pub refused: &'a [u16],
}

/// How long to wait for the answers of a scheme: a little longer than the sender does.
pub fn pace(scheme: &Scheme) -> Pace {
    Pace::of(scheme.patience + Duration::from_secs(1))
}

/// The requests.
struct Plan<'a> {
    input: &'a Input<'a>,
    signer: Signer<'a>,
    body: &'a str,
}

impl<'a> Plan<'a> {
    fn new(input: &'a Input<'a>, key: Vec<u8>) -> Self {
        Self {
            input,
            signer: Signer {
                scheme: input.scheme.clone(),
                key,
                wrong_key: input.run.id(0).into_bytes(),
                method: input.method.clone(),
                path: input.path,
                content_type: input.content_type,
            },
            body: input.body.unwrap_or(input.scheme.sample),
        }
    }

    /// The body with another text at a place in it, and that text as a reader finds it; none if there is
    /// no such place.
    fn with(&self, body: &str, place: Option<&Place>, text: &str, number: u32) -> Option<Spliced> {
        match place? {
            Place::Header(_) => Some(Spliced {
                json: body.to_owned(),
                value: text.to_owned(),
            }),
            Place::Pointer(pointer) => {
                let number = self.input.run.numeric_id(number);
                splice::replace(body, pointer, Value { text, number })
            }
        }
    }

    /// Whether two events can be told apart.
    fn has_ids(&self) -> bool {
        let place = self.input.scheme.id.as_ref();
        self.with(self.body, place, "x", 1).is_some()
    }

    /// The body and the id of the event with this number.
    fn numbered(&self, number: u32) -> Spliced {
        let id = self.input.run.id(number);
        let place = self.input.scheme.id.as_ref();
        self.with(self.body, place, &id, number)
            .unwrap_or_else(|| Spliced {
                json: self.body.to_owned(),
                value: id,
            })
    }

    fn probe(
        &self,
        check: Check,
        variant: &'static str,
        (number, millis): (u32, i64),
        signature: Signature<'_>,
    ) -> Probe {
        let Spliced { json, value: id } = self.numbered(number);
        let request = self.signer.request(&id, millis, &json, None, signature);
        let expect = match signature {
            Signature::Right if check.id != G5.id => Expect::Accepted,
            Signature::Malformed | Signature::OtherVersion => Expect::NotAccepted,
            _ => Expect::Refused,
        };
        Probe {
            check: check.id,
            variant,
            special: Special::Plain,
            expect,
            request,
        }
    }

    /// The first requests: if these have no answer, no other will.
    fn first(&self, millis: i64) -> Vec<Probe> {
        let signed = |number| self.probe(G1, "signed", (number, millis), Signature::Right);
        vec![signed(1), signed(2)]
    }

    /// The other requests that are judged one by one.
    fn rest(&self, millis: i64) -> Vec<Probe> {
        // That which is signed now first: slow answers make the others late.
        let mut probes: Vec<Probe> = self.unknown_type(millis).into_iter().collect();
        probes.extend([
            self.probe(G2, "no signature", (3, millis), Signature::None),
            self.probe(
                G3,
                "signature with another key",
                (4, millis),
                Signature::WrongKey,
            ),
        ]);
        for (number, how) in (5..).zip(Spoiled::ALL) {
            let signature = Signature::Spoiled(how);
            probes.push(self.probe(G3, how.name(), (number, millis), signature));
        }
        let mut more = vec![
            (13, "signature with an empty key", Signature::EmptyKey),
            (14, "text that is no signature", Signature::Malformed),
        ];
        if !self.input.scheme.prefix.is_empty() {
            more.push((15, "other version of signature", Signature::OtherVersion));
        }
        for (number, variant, signature) in more {
            probes.push(self.probe(G3, variant, (number, millis), signature));
        }
        let stamp = self.input.scheme.stamp.as_ref().map(|stamp| &stamp.place);
        if let Some(StampPlace::Parameter(_)) = stamp {
            probes.push(self.probe(G2, "time alone", (9, millis), Signature::TimeOnly));
        }
        if self.input.scheme.covers_body() {
            let other = format!("{} ", self.numbered(10).json);
            let signature = Signature::Of(&other);
            probes.push(self.probe(G4, "signature of another body", (10, millis), signature));
        }
        if let (Some(stamp), true) = (&self.input.scheme.stamp, self.input.scheme.covers_time()) {
            let age = (stamp.tolerance * 2 + Duration::from_secs(60)).as_millis();
            let then = millis - i64::try_from(age).unwrap_or(i64::MAX);
            probes.push(self.probe(G5, "old", (11, then), Signature::Right));
        }
        probes
    }

    /// An event that is not signed, or with another key.
    fn forged_event(&self, number: u32, millis: i64) -> Probe {
        let signature = match number % 2 {
            0 => Signature::None,
            _ => Signature::WrongKey,
        };
        self.probe(G2, "forged", (number, millis), signature)
    }

    /// An event of a type that the application does not know; none if nothing says where the type stands.
    fn unknown_type(&self, millis: i64) -> Option<Probe> {
        let place = self.input.scheme.event_type.as_ref();
        let Spliced { json, value: id } = self.numbered(12);
        let body = self.with(&json, place, UNKNOWN_TYPE, 12)?.json;
        let signature = Signature::Right;
        let request = self
            .signer
            .request(&id, millis, &body, Some(UNKNOWN_TYPE), signature);
        Some(Probe {
            check: G7.id,
            variant: "unknown type",
            special: Special::Plain,
            expect: Expect::Accepted,
            request,
        })
    }
}

/// Numbers of events that are delivered twice begin here.
const REPLAYED: u32 = 100;

/// Numbers of forged events whose effect is watched begin here.
const FORGED: u32 = 300;

/// Asks everything and judges it.
pub async fn check<W: World>(world: &W, input: &Input<'_>, pace: &Pace) -> Vec<Outcome> {
    let key = match input.scheme.key(input.secret.expose_secret()) {
        Ok(key) => key,
        Err(error) => return waiting(input, &error.to_string()),
    };
    let refused = [input.refused, input.scheme.refusals].concat();
    let statuses = Statuses {
        accepted: input.accepted,
        refused: &refused,
    };
    let plan = Plan::new(input, key);
    let now = || world.now().as_millisecond();
    let mut asked = ask_all(world, plan.first(now()), pace).await;
    let set = |asked| Set {
        asked,
        statuses,
        signed: G1,
        plain: |_| true,
    };
    if asked.iter().all(|asked| asked.reply.is_unknown()) {
        let open: Vec<Check> = applicable(input)
            .filter(|check| ![G1.id, G8.id].contains(&check.id))
            .collect();
        let mut outcomes = not_asked(&open);
        outcomes.push(set(&asked).outcome(G1));
        outcomes.push(G8.ended(answered_in_time(&input.scheme, &asked, &[])));
        return sorted(outcomes);
    }
    let accepts = asked
        .iter()
        .all(|asked| is_accepted(&asked.reply, &statuses));
    asked.extend(ask_all(world, plan.rest(now()), pace).await);
    let (mut replies, mut processed) = (Vec::new(), None);
    let replayed = match accepts && plan.has_ids() {
        true => {
            let replay = Replay {
                world,
                event: |number| {
                    plan.probe(G6, "signed", (REPLAYED + number, now()), Signature::Right)
                },
                statuses,
                pace,
            };
            let found = replay.run(&mut replies).await;
            let forged = Replay {
                world,
                event: |number| plan.forged_event(FORGED + number, now()),
                statuses,
                pace,
            };
            processed = forged.processed_though_refused(&found).await;
            Some(replay::judge(found))
        }
        false => None,
    };
    outcomes(&plan, &set(&asked), (processed, replayed), &replies)
}

/// The checks that make sense for a scheme: where no time is signed, no webhook is too old.
fn applicable<'a>(input: &'a Input<'_>) -> impl Iterator<Item = Check> + 'a {
    let all = [G1, G2, G3, G4, G5, G6, G7, G8].into_iter();
    all.filter(|check| check.id != G5.id || input.scheme.stamp.is_some())
}

/// All outcomes when the Secret has no key of this scheme.
fn waiting(input: &Input<'_>, why: &str) -> Vec<Outcome> {
    let change = "Put the signing secret into the Secret that `secretRef` names, exactly as the sender shows it.";
    let all = applicable(input).map(|check| check.open(Ended::Waiting, why, change));
    all.collect()
}

/// Whether signed webhooks are answered as soon as the sender needs it.
fn answered_in_time(scheme: &Scheme, asked: &[Asked], replies: &[Reply]) -> Verdict {
    let mut times = Times::default();
    let signed = asked
        .iter()
        .filter(|asked| asked.expect == Expect::Accepted);
    let signed = signed.map(|asked| &asked.reply);
    signed.chain(replies).for_each(|reply| times.add(reply));
    latency::limit(&times, scheme.patience, SOFT.min(scheme.patience / 2))
}

/// G5, if the sender says when it sends. A time that is not signed proves nothing: whoever has recorded a
/// webhook writes a new one.
fn old(scheme: &Scheme, set: &Set<'_>) -> Option<Outcome> {
    scheme.stamp.as_ref()?;
    if !scheme.covers_time() {
        let change = "If the sender signs the time, add the part Timestamp to `signedText`; otherwise process each event id once, and keep the ids.";
        let why =
            "the time is not signed, so one that was recorded can be sent again with a new time";
        return Some(G5.open(Ended::Unproven, why, change));
    }
    // It is signed, so that no signature was forged.
    Some(Outcome {
        forgery: false,
        ..set.outcome(G5)
    })
}

/// All outcomes.
fn outcomes(
    plan: &Plan<'_>,
    set: &Set<'_>,
    (processed, replayed): (Option<Verdict>, Option<Verdict>),
    replies: &[Reply],
) -> Vec<Outcome> {
    let scheme = &plan.input.scheme;
    let unproven = |check: Check, why: &str, change: &str| check.open(Ended::Unproven, why, change);
    let mut outcomes: Vec<Outcome> = [G1, G3].map(|check| set.outcome(check)).into();
    outcomes.push(set.refused(G2, processed));
    outcomes.push(match scheme.covers_body() {
        true => set.outcome(G4),
        false => unproven(
            G4,
            "the signature does not cover the body",
            "Believe nothing in the body beyond the id; fetch the rest from the sender.",
        ),
    });
    outcomes.extend(old(scheme, set));
    outcomes.push(match plan.has_ids() {
        true => set.after_signed(G6, replayed),
        false => unproven(
            G6,
            "nothing says where the event's id stands, or the body has none there",
            "Set `idempotencyKey` to the header or the JSON pointer of the sender's event id, and a `body` that has it.",
        ),
    });
    outcomes.push(match set.of(G7).next() {
        Some(_) => set.also_signed(G7),
        None => unproven(
            G7,
            "nothing says where the event's type stands, or the body has none there",
            "Set `eventType` to the header or the JSON pointer of the event's type, and a `body` that has it.",
        ),
    });
    outcomes.push(G8.ended(answered_in_time(scheme, set.asked, replies)));
    sorted(at_a_path(G1, set.asked, outcomes))
}
