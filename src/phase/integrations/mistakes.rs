//! The sets of checks against a receiver over HTTP that makes no mistake, and against one for each of the
//! classic mistakes. Only in tests.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper fails its test by a panic"
)]

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use futures::future::join_all;
use secrecy::SecretString;

use super::{
    mercado_pago,
    outcome::{Ended, Outcome},
    probe::{Effect, Pace, Probe, Reply, Run, World},
    receivers::{Here, Mistake, SECRET, VERIFY_TOKEN, decoded, here},
    webhook, whatsapp,
};
use crate::webhook::{
    scheme::{Part, Place, Scheme, Stamp, StampPlace, Unit},
    sign::{Algorithm, Encoding, mac, write},
};

/// What is tested.
#[derive(Clone, Debug)]
enum Which {
    WhatsApp,
    MercadoPago,
    Any(Box<Scheme>),
}

impl Which {
    fn scheme(&self) -> Scheme {
        match self {
            Self::Any(scheme) => (**scheme).clone(),
            Self::WhatsApp | Self::MercadoPago => Scheme::meta(),
        }
    }
}

/// Time that a correct receiver has even on a machine that is busy, and that one with a mistake does
/// not need.
fn pace(mistake: Mistake) -> Pace {
    let waits = matches!(
        mistake,
        Mistake::NeverStores
            | Mistake::AcknowledgesEarly
            | Mistake::LosesRaces
            | Mistake::LosesLater
    );
    Pace {
        answer: match mistake {
            Mistake::AnswersLate => Duration::from_millis(300),
            _ => Duration::from_secs(60),
        },
        effect: match waits {
            true => Duration::from_millis(500),
            false => Duration::from_secs(60),
        },
        poll: Duration::from_millis(100),
        again: Duration::from_millis(1),
    }
}

async fn checked<W: World>(here: &W, which: &Which, pace: &Pace) -> Vec<Outcome> {
    let run = Run {
        number: 0x1234_5678_9abc,
    };
    let secret: SecretString = SECRET.into();
    let token: SecretString = VERIFY_TOKEN.into();
    let outcomes = match which {
        Which::WhatsApp => {
            let input = whatsapp::Input {
                run,
                path: "/wa",
                verify_token: &token,
                app_secret: &secret,
                phone_number_id: None,
            };
            whatsapp::check(here, &input, pace).await
        }
        Which::MercadoPago => {
            let input = mercado_pago::Input {
                run,
                path: "/mp",
                secret: &secret,
            };
            mercado_pago::check(here, &input, pace).await
        }
        Which::Any(scheme) => {
            let input = webhook::Input {
                run,
                path: "/hooks?from=sender",
                scheme: (**scheme).clone(),
                secret: &secret,
                method: http::Method::POST,
                content_type: "application/json",
                body: None,
                accepted: &[200, 201, 202, 204],
                refused: &[401, 403],
            };
            webhook::check(here, &input, pace).await
        }
    };
    for outcome in &outcomes {
        let texts = [&outcome.evidence, &outcome.change];
        for text in texts {
            assert!(
                !text.contains(SECRET) && !text.contains('\n'),
                "{outcome:?}"
            );
            assert!(text.chars().count() <= 300, "{outcome:?}");
        }
        assert!(!outcome.evidence.is_empty(), "{outcome:?}");
        assert_eq!(
            outcome.change.is_empty(),
            outcome.ended == Ended::Passed,
            "{outcome:?}"
        );
    }
    outcomes
}

/// The outcomes that are not `Passed`.
fn faults(outcomes: &[Outcome]) -> Vec<String> {
    let faults = outcomes
        .iter()
        .filter(|outcome| outcome.ended != Ended::Passed);
    faults.map(|outcome| format!("{outcome:?}")).collect()
}

async fn run(which: &Which, mistake: Mistake) -> Vec<Outcome> {
    let here = here(mistake, &which.scheme()).await;
    checked(&here, which, &pace(mistake)).await
}

/// Schemes with names, and one that is put together.
fn schemes() -> Vec<Which> {
    let own = Scheme {
        prefix: "sig=".to_owned(),
        algorithm: Algorithm::HmacSha512,
        encoding: Encoding::Base64,
        signed: vec![
            Part::Method,
            Part::Path,
            Part::Id,
            Part::Timestamp,
            Part::Body,
        ],
        stamp: Some(Stamp {
            place: StampPlace::Parameter("at".to_owned()),
            unit: Unit::Milliseconds,
            tolerance: Duration::from_secs(120),
        }),
        id: Some(Place::Pointer("/id".to_owned())),
        event_type: Some(Place::Header("X-Type".to_owned())),
        sample: r#"{"id":7,"name":"Caba\u00f1as"}"#,
        ..Scheme::custom("X-Acme")
    };
    [
        Scheme::standard_webhooks(),
        Scheme::stripe(),
        Scheme::github(),
        Scheme::slack(),
        Scheme::shopify(),
        own,
    ]
    .map(|scheme| Which::Any(Box::new(scheme)))
    .into()
}

fn one(outcomes: &[Outcome], id: &str) -> Outcome {
    outcomes
        .iter()
        .find(|outcome| outcome.id == id)
        .unwrap_or_else(|| panic!("no {id} in {outcomes:#?}"))
        .clone()
}

#[tokio::test]
async fn a_correct_receiver_passes_every_check() {
    let mut all = vec![Which::WhatsApp, Which::MercadoPago];
    all.extend(schemes());
    let runs = all.iter().map(|which| run(which, Mistake::None));
    for (which, outcomes) in all.iter().zip(join_all(runs).await) {
        // A machine that is busy may be slow; nothing else may be found.
        let other: Vec<Outcome> = outcomes
            .iter()
            .filter(|outcome| !["W9", "M9", "G8"].contains(&outcome.id))
            .cloned()
            .collect();
        assert_eq!(faults(&other), [""; 0], "{which:?}");
        assert!(outcomes.len() >= 7, "{outcomes:?}");
    }
}

/// The mistakes of a receiver of WhatsApp, the check that finds each, and whether it is a forgery.
#[tokio::test]
async fn each_mistake_of_a_receiver_of_whatsapp_is_found() {
    let table = [
        (Mistake::AcceptsUnsigned, "W4", true),
        (Mistake::AcceptsAnySignature, "W5", true),
        (Mistake::Sha1Only, "W3", false),
        (Mistake::Reserializes, "W3", false),
        (Mistake::DecodesEscapes, "W7", false),
        (Mistake::ComparesPrefix, "W5", true),
        (Mistake::ComparesWhatIsGiven, "W5", true),
        (Mistake::IgnoresBody, "W6", true),
        (Mistake::EchoesChallenge, "W2", true),
        (Mistake::QuotesChallenge, "W1", false),
        (Mistake::ProcessesReplays, "W8", false),
        (Mistake::ReplayFails, "W8", false),
        (Mistake::RacesReplays, "W8", false),
        (Mistake::LosesRaces, "W8", false),
        (Mistake::LosesLater, "W8", false),
        (Mistake::AcknowledgesEarly, "W8", false),
        (Mistake::NeverStores, "W8", false),
        (Mistake::AnswersLate, "W9", false),
        (Mistake::UnknownEventFails, "W10", false),
        (Mistake::AnotherSecret, "W3", false),
        (Mistake::RefusesWith500, "W4", false),
        (Mistake::AcceptsEmptyKey, "W5", true),
        (Mistake::SkipsUndecodable, "W5", true),
        (Mistake::SkipsOtherVersions, "W5", true),
        (Mistake::ProcessesRefused, "W4", true),
        // The effect counts requests, also repeated and refused ones: no forgery was accepted.
        (Mistake::CountsRequests, "W8", false),
    ];
    let runs = table
        .iter()
        .map(|(mistake, ..)| run(&Which::WhatsApp, *mistake));
    for ((mistake, id, forgery), outcomes) in table.iter().zip(join_all(runs).await) {
        let (mistake, forgery) = (*mistake, *forgery);
        let found = one(&outcomes, id);
        assert_eq!(
            (found.ended, found.forgery),
            (Ended::Failed, forgery),
            "{mistake:?} {outcomes:#?}"
        );
        let forged = outcomes.iter().any(|outcome| outcome.forgery);
        assert_eq!(forged, forgery, "{mistake:?}");
    }
}

/// The mistakes of a receiver of Mercado Pago.
#[tokio::test]
async fn each_mistake_of_a_receiver_of_mercado_pago_is_found() {
    let table = [
        (Mistake::AcceptsUnsigned, "M2", Ended::Failed, true),
        (Mistake::AcceptsAnySignature, "M3", Ended::Failed, true),
        (Mistake::ComparesPrefix, "M3", Ended::Failed, true),
        (Mistake::ComparesWhatIsGiven, "M3", Ended::Failed, true),
        (Mistake::AcceptsOtherId, "M4", Ended::Failed, true),
        (Mistake::UsesBodyId, "M5", Ended::Failed, true),
        (Mistake::RefusesOtherBodyId, "M5", Ended::Warned, false),
        (Mistake::RequiresRequestId, "M6", Ended::Failed, false),
        (Mistake::IgnoresRequestId, "M1", Ended::Failed, false),
        (Mistake::SecondsOnly, "M1", Ended::Failed, false),
        (Mistake::MillisecondsOnly, "M1", Ended::Warned, false),
        (Mistake::ShortTolerance, "M8", Ended::Warned, false),
        (Mistake::OriginalCaseOnly, "M10", Ended::Warned, false),
        (Mistake::ProcessesReplays, "M7", Ended::Failed, false),
        (Mistake::RacesReplays, "M7", Ended::Failed, false),
        (Mistake::LosesRaces, "M7", Ended::Failed, false),
        (Mistake::AcknowledgesEarly, "M7", Ended::Failed, false),
        (Mistake::AnswersLate, "M9", Ended::Failed, false),
        (Mistake::UnknownEventFails, "M1", Ended::Failed, false),
        (Mistake::AnotherSecret, "M1", Ended::Failed, false),
        (Mistake::AcceptsEmptyKey, "M3", Ended::Failed, true),
        (Mistake::SkipsUndecodable, "M3", Ended::Failed, true),
        (Mistake::SkipsOtherVersions, "M2", Ended::Failed, true),
        (Mistake::ProcessesRefused, "M2", Ended::Failed, true),
    ];
    let runs = table
        .iter()
        .map(|(mistake, ..)| run(&Which::MercadoPago, *mistake));
    for ((mistake, id, ended, forgery), outcomes) in table.iter().zip(join_all(runs).await) {
        let (mistake, ended, forgery) = (*mistake, *ended, *forgery);
        let found = one(&outcomes, id);
        assert_eq!(found.ended, ended, "{mistake:?} {outcomes:#?}");
        let forged = outcomes.iter().any(|outcome| outcome.forgery);
        assert_eq!(forged, forgery, "{mistake:?} {outcomes:#?}");
    }
}

/// The mistakes of a receiver of any other webhook.
#[tokio::test]
async fn each_mistake_of_a_receiver_of_other_webhooks_is_found() {
    let table = [
        (Mistake::AcceptsUnsigned, "G2", true),
        (Mistake::AcceptsAnySignature, "G3", true),
        (Mistake::Reserializes, "G1", false),
        (Mistake::DecodesEscapes, "G1", false),
        (Mistake::ComparesPrefix, "G3", true),
        (Mistake::ComparesWhatIsGiven, "G3", true),
        (Mistake::IgnoresBody, "G4", true),
        (Mistake::AcceptsOld, "G5", false),
        (Mistake::ProcessesReplays, "G6", false),
        (Mistake::RacesReplays, "G6", false),
        (Mistake::LosesRaces, "G6", false),
        (Mistake::AcknowledgesEarly, "G6", false),
        (Mistake::UnknownEventFails, "G7", false),
        (Mistake::AnswersLate, "G8", false),
        (Mistake::AnotherSecret, "G1", false),
        (Mistake::AcceptsEmptyKey, "G3", true),
        (Mistake::SkipsUndecodable, "G3", true),
        (Mistake::SkipsOtherVersions, "G3", true),
        (Mistake::ProcessesRefused, "G2", true),
    ];
    let signs_time = |which: &Which| which.scheme().stamp.is_some();
    let all = schemes();
    let pairs: Vec<_> = table
        .iter()
        .flat_map(|row| all.iter().map(move |which| (row, which)))
        .filter(|((mistake, ..), which)| match mistake {
            Mistake::AcceptsOld => signs_time(which),
            Mistake::SkipsOtherVersions => !which.scheme().prefix.is_empty(),
            _ => true,
        })
        .collect();
    let runs = pairs
        .iter()
        .map(|((mistake, ..), which)| run(which, *mistake));
    for (((mistake, id, forgery), which), outcomes) in pairs.iter().zip(join_all(runs).await) {
        let found = one(&outcomes, id);
        assert_eq!(
            found.ended,
            Ended::Failed,
            "{mistake:?} {which:?} {outcomes:#?}"
        );
        let forged = outcomes.iter().any(|outcome| outcome.forgery);
        assert_eq!(forged, *forgery, "{mistake:?} {which:?} {outcomes:#?}");
    }
}

#[tokio::test]
async fn an_application_that_does_not_answer_has_no_fault() {
    let mut all = vec![Which::WhatsApp, Which::MercadoPago];
    all.extend(schemes());
    for which in all {
        let mut nowhere = here(Mistake::None, &which.scheme()).await;
        // Nothing listens on a port that was just given back.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        nowhere.at = listener.local_addr().unwrap();
        drop(listener);
        let gateway = here(Mistake::BadGateway, &which.scheme()).await;
        for world in [nowhere, gateway] {
            let outcomes = checked(&world, &which, &pace(Mistake::None)).await;
            for outcome in &outcomes {
                assert_eq!(
                    (outcome.ended, outcome.forgery),
                    (Ended::Unknown, false),
                    "{outcome:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn without_an_effect_a_replay_is_unproven_and_never_passed() {
    let all = [
        (Which::WhatsApp, "W8"),
        (Which::MercadoPago, "M7"),
        (schemes()[0].clone(), "G6"),
    ];
    for (which, id) in all {
        for (mistake, ended) in [
            (Mistake::None, Ended::Unproven),
            (Mistake::ProcessesReplays, Ended::Unproven),
            (Mistake::ReplayFails, Ended::Failed),
        ] {
            let mut here = here(mistake, &which.scheme()).await;
            here.declared = false;
            let outcomes = checked(&here, &which, &pace(mistake)).await;
            assert_eq!(one(&outcomes, id).ended, ended, "{mistake:?} {outcomes:#?}");
        }
    }
}

#[tokio::test]
async fn other_events_at_the_same_time_are_no_fault() {
    let pace = Pace {
        effect: Duration::from_secs(2),
        poll: Duration::from_millis(20),
        ..pace(Mistake::None)
    };
    let scheme = Scheme::meta();
    let busy = [1, 2, 3, 5, 8, 13, 21, 34].map(|others| {
        let (scheme, pace) = (&scheme, &pace);
        async move {
            let mut here = here(Mistake::None, scheme).await;
            here.others = others;
            checked(&here, &Which::MercadoPago, pace).await
        }
    });
    for outcomes in join_all(busy).await {
        let found = one(&outcomes, "M7");
        let no_fault = [Ended::Passed, Ended::Unproven, Ended::Warned].contains(&found.ended);
        assert!(no_fault, "{outcomes:#?}");
    }
}

#[tokio::test]
async fn machines_that_count_for_themselves_are_no_fault() {
    let mut here = here(Mistake::None, &Scheme::meta()).await;
    here.counts_apart = true;
    let outcomes = checked(&here, &Which::WhatsApp, &pace(Mistake::NeverStores)).await;
    assert_eq!(one(&outcomes, "W8").ended, Ended::Unknown, "{outcomes:#?}");
}

#[tokio::test]
async fn a_time_that_is_not_signed_does_not_prove_that_old_webhooks_are_refused() {
    let scheme = Scheme {
        signed: vec![Part::Body],
        ..Scheme::slack()
    };
    let which = Which::Any(Box::new(scheme));
    let found = one(&run(&which, Mistake::None).await, "G5");
    assert_eq!(found.ended, Ended::Unproven, "{found:?}");
}

#[tokio::test]
async fn an_effect_that_is_named_wrongly_is_no_event_that_was_lost() {
    let mut here = here(Mistake::None, &Scheme::meta()).await;
    here.misnamed = true;
    let outcomes = checked(&here, &Which::WhatsApp, &pace(Mistake::NeverStores)).await;
    let found = one(&outcomes, "W8");
    assert_eq!(found.ended, Ended::Unknown, "{outcomes:#?}");
    assert!(found.evidence.contains("no such series"), "{found:?}");
}

#[tokio::test]
async fn a_second_effect_is_found_among_other_events() {
    let pace = Pace {
        poll: Duration::from_millis(20),
        ..pace(Mistake::None)
    };
    let mut here = here(Mistake::ProcessesReplays, &Scheme::meta()).await;
    here.others = 34;
    let outcomes = checked(&here, &Which::MercadoPago, &pace).await;
    assert_eq!(one(&outcomes, "M7").ended, Ended::Failed, "{outcomes:#?}");
}

/// An application that answers slowly, so that minutes pass, and refuses what was signed too long ago.
struct Slow {
    here: Here,
    /// What each request takes, and how old a signature may be, in milliseconds.
    takes: i64,
    tolerance: i64,
    passed: AtomicI64,
}

impl World for Slow {
    async fn send(&self, probe: &Probe, limit: Duration) -> Reply {
        // Of these, many are sent at the same instant.
        if probe.check != "G6" {
            self.passed.fetch_add(self.takes, Ordering::SeqCst);
        }
        let headers = probe.request.headers.iter();
        let times = headers.filter_map(|(_, value)| {
            let digits = value.split(['=', ',']).find(|part| part.len() >= 10);
            digits?.parse::<i64>().ok()
        });
        let millis = times.max().unwrap_or_default();
        let millis = if millis < 1_000_000_000_000 {
            millis * 1000
        } else {
            millis
        };
        if millis > 0 && self.now().as_millisecond() - millis > self.tolerance {
            return Reply::Answered {
                status: 401,
                body: bytes::Bytes::new(),
                took: Duration::ZERO,
            };
        }
        self.here.send(probe, limit).await
    }

    async fn effect(&self) -> Effect {
        self.here.effect().await
    }

    async fn pause(&self, time: Duration) {
        self.here.pause(time).await;
    }

    fn now(&self) -> jiff::Timestamp {
        let passed = jiff::SignedDuration::from_millis(self.passed.load(Ordering::SeqCst));
        self.here.now() + passed
    }
}

#[tokio::test]
async fn what_is_signed_for_a_slow_application_is_signed_when_it_is_sent() {
    // Answers of 22 s, four at a time, and the five minutes that senders advise.
    let mercado_pago = (Which::MercadoPago, 5_500, 300_000);
    let own = Scheme {
        stamp: Some(Stamp {
            place: StampPlace::Header("X-Time".to_owned()),
            unit: Unit::Milliseconds,
            tolerance: Duration::from_secs(20),
        }),
        signed: vec![Part::Timestamp, Part::Body],
        id: Some(Place::Pointer("/id".to_owned())),
        event_type: Some(Place::Header("X-Type".to_owned())),
        sample: r#"{"id":7}"#,
        ..Scheme::custom("X-Acme")
    };
    let own = (Which::Any(Box::new(own)), 5_000, 20_000);
    for (which, takes, tolerance) in [mercado_pago, own] {
        let here = here(Mistake::AcceptsOld, &which.scheme()).await;
        let world = Slow {
            here,
            takes,
            tolerance,
            passed: AtomicI64::new(0),
        };
        let outcomes = checked(&world, &which, &pace(Mistake::None)).await;
        let other: Vec<Outcome> = outcomes
            .iter()
            .filter(|outcome| !["M9", "G8"].contains(&outcome.id))
            .cloned()
            .collect();
        assert_eq!(faults(&other), [""; 0], "{which:?}");
    }
}

#[tokio::test]
async fn a_secret_in_the_wrong_form_waits_for_a_person() {
    let here = here(Mistake::None, &Scheme::standard_webhooks()).await;
    let run = Run { number: 1 };
    let input = webhook::Input {
        run,
        path: "/hooks",
        scheme: Scheme::standard_webhooks(),
        secret: &"not a key".into(),
        method: http::Method::POST,
        content_type: "application/json",
        body: None,
        accepted: &[200],
        refused: &[401],
    };
    let outcomes = webhook::check(&here, &input, &pace(Mistake::None)).await;
    assert_eq!(outcomes.len(), 8);
    assert!(
        outcomes
            .iter()
            .all(|outcome| outcome.ended == Ended::Waiting),
        "{outcomes:?}"
    );
}

/// Computed with Python 3.11 for the receiver above to be right about it: `base64.b64encode(hmac.new(
/// b"k", b"x", "sha256").digest())`.
#[test]
fn the_receiver_reads_what_an_independent_implementation_writes() {
    let code = mac(Algorithm::HmacSha256, b"k", &[b"x"]);
    assert_eq!(
        write(Encoding::Base64, &code),
        "w47ciBXISJ9kc4l49EAI+FljRVRfC6po72/PXFPlcYk="
    );
    assert_eq!(
        decoded(Encoding::Base64, &write(Encoding::Base64, &code)),
        Some(code)
    );
}
