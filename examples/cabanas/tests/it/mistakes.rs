//! Every mistake is made with its switch, and not without it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cabanas::metrics::epoch_seconds;
use cabanas::webhooks::sign;
use http::StatusCode;

use crate::http::{Answer, get, metric, post};
use crate::world::{LIMIT, Service, World};

const WHATSAPP: &str = "/api/v1/webhooks/whatsapp";
const MERCADOPAGO: &str = "/api/v1/webhooks/mercadopago";
const EXPORT: &str = "/api/v1/ical/export.ics";
const EFFECTS: &str = "/api/v1/webhooks/effects";
const OK: StatusCode = StatusCode::OK;
const REFUSED: StatusCode = StatusCode::UNAUTHORIZED;

/// Two machines on one database: one without mistakes, and one with the switch.
async fn pair(switch: &str) -> (World, Service, Service) {
    let world = World::migrated().await;
    let well = world.serve(&[]).await;
    let broken = world.serve(&[("CABANAS_FAULT", switch)]).await;
    (world, well, broken)
}

fn message(id: &str, field: &str) -> String {
    format!(
        r#"{{"entry":[{{"changes":[{{"field":"{field}","value":{{"messages":[{{"id":"{id}","type":"text","text":{{"body":"\u00bfHay caba\u00f1a?"}}}}]}}}}]}}]}}"#
    )
}

async fn whatsapp(to: &Service, body: &str) -> StatusCode {
    let hex = sign(&"test-app-secret".into(), body.as_bytes());
    let header = format!("sha256={hex}");
    deliver(to.address(), &header, body).await
}

async fn deliver(to: SocketAddr, signature: &str, body: &str) -> StatusCode {
    let headers = [("x-hub-signature-256", signature)];
    post(to, WHATSAPP, &headers, body.to_owned()).await.status
}

/// A notification of Mercado Pago, signed for `signed`.
struct Notification<'a> {
    signed: &'a str,
    query: &'a str,
    body: &'a str,
    request: Option<&'a str>,
    ts: u64,
    topic: &'a str,
}

impl Notification<'_> {
    fn well() -> Self {
        Self {
            signed: "123",
            query: "123",
            body: "123",
            request: Some("r-1"),
            ts: epoch_seconds() as u64,
            topic: "payment",
        }
    }

    async fn send(&self, to: &Service) -> StatusCode {
        let (ts, signed) = (self.ts, self.signed);
        let request = self.request.map(|r| format!("request-id:{r};"));
        let manifest = format!("id:{signed};{}ts:{ts};", request.unwrap_or_default());
        let v1 = sign(&"test-secret".into(), manifest.as_bytes());
        let signature = format!("ts={ts},v1={v1}");
        let mut headers = vec![("x-signature", signature.as_str())];
        headers.extend(self.request.map(|r| ("x-request-id", r)));
        let path = format!("{MERCADOPAGO}?data.id={}&type={}", self.query, self.topic);
        let id = self.body;
        let body = format!(r#"{{"id":7,"action":"payment.created","data":{{"id":"{id}"}}}}"#);
        post(to.address(), &path, &headers, body).await.status
    }
}

async fn effects(to: &Service, provider: &str) -> u64 {
    let numbers = get(to.address(), EFFECTS).await.json();
    numbers[provider]["effects"].as_u64().unwrap()
}

async fn book(to: &Service, cabin: u32, from: &str, until: &str) {
    let body = format!(
        r#"{{"cabin":{cabin},"check_in":"{from}","check_out":"{until}","guest_name":"Ana Núñez","guest_phone":"+54 9 294 4001234"}}"#
    );
    let key = format!("{cabin}/{from}");
    let headers = [("idempotency-key", key.as_str())];
    let answer = post(to.address(), "/api/v1/reservations", &headers, body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
}

/// The exports of both machines, with two bookings, one of them of a single night.
async fn exports(switch: &str) -> (Answer, Vec<u8>) {
    let (_world, well, broken) = pair(switch).await;
    book(&well, 1, "2031-01-10", "2031-01-12").await;
    book(&well, 2, "2031-01-10", "2031-01-11").await;
    let right = get(well.address(), EXPORT).await;
    let wrong = crate::http::bytes(broken.address(), EXPORT).await;
    (right, wrong)
}

async fn exported(switch: &str) -> (String, String) {
    let (right, wrong) = exports(switch).await;
    (right.body, String::from_utf8(wrong).unwrap())
}

#[tokio::test]
async fn accepts_unsigned_takes_notifications_of_both_senders() {
    let (_world, well, broken) = pair("accepts-unsigned").await;
    for (to, wanted) in [(&well, REFUSED), (&broken, OK)] {
        let unsigned = post(to.address(), WHATSAPP, &[], message("a", "messages")).await;
        assert_eq!(unsigned.status, wanted);
        let path = format!("{MERCADOPAGO}?data.id=1&type=payment");
        let unsigned = post(to.address(), &path, &[], "{}").await;
        assert_eq!(unsigned.status, wanted);
    }
}

#[tokio::test]
async fn a_signature_with_an_empty_key_or_without_digits_passes_where_its_switch_is_on() {
    let body = message("a", "messages");
    let empty = format!("sha256={}", sign(&"".into(), body.as_bytes()));
    for (switch, signature) in [
        ("accepts-empty-key", empty.as_str()),
        ("skips-undecodable", "sha256=not-a-signature"),
    ] {
        let (_world, well, broken) = pair(switch).await;
        let to = |service: &Service| deliver(service.address(), signature, &body);
        assert_eq!(to(&well).await, REFUSED, "{switch}");
        assert_eq!(to(&broken).await, OK, "{switch}");
        assert_eq!(whatsapp(&broken, &body).await, OK, "{switch}");
        let wrong = format!("sha256={}", sign(&"another".into(), body.as_bytes()));
        let wrong = deliver(broken.address(), &wrong, &body).await;
        assert_eq!(wrong, REFUSED, "{switch}");
    }
}

#[tokio::test]
async fn processes_refused_answers_that_it_refuses_and_has_the_effect() {
    let (_world, well, broken) = pair("processes-refused").await;
    for (to, wanted) in [(&well, 0), (&broken, 1)] {
        let body = message("wamid.forged", "messages");
        let status = deliver(to.address(), "sha256=00", &body).await;
        assert_eq!(status, REFUSED);
        let payment = Notification {
            signed: "999",
            ..Notification::well()
        };
        assert_eq!(payment.send(to).await, REFUSED);
        assert_eq!(effects(to, "whatsapp").await, wanted);
        assert_eq!(effects(to, "mercadopago").await, wanted);
    }
}

#[tokio::test]
async fn sha1_only_refuses_the_signature_that_counts() {
    let (_world, well, broken) = pair("sha1-only").await;
    let body = message("a", "messages");
    assert_eq!(whatsapp(&well, &body).await, OK);
    assert_eq!(whatsapp(&broken, &body).await, REFUSED);
}

#[tokio::test]
async fn changed_bodies_are_refused_where_they_have_escapes() {
    for switch in ["reserializes", "decodes-escapes"] {
        let (_world, well, broken) = pair(switch).await;
        let body = message("a", "messages");
        assert_eq!(whatsapp(&well, &body).await, OK);
        assert_eq!(whatsapp(&broken, &body).await, REFUSED, "{switch}");
        assert_eq!(whatsapp(&broken, "{}").await, OK, "{switch}");
    }
}

#[tokio::test]
async fn compares_prefix_takes_a_signature_with_a_wrong_end() {
    let (_world, well, broken) = pair("compares-prefix").await;
    let body = message("a", "messages");
    let hex = sign(&"test-app-secret".into(), body.as_bytes());
    let wrong = format!("sha256={}{}", &hex[..32], "0".repeat(32));
    assert_eq!(deliver(well.address(), &wrong, &body).await, REFUSED);
    assert_eq!(deliver(broken.address(), &wrong, &body).await, OK);
    let other = format!("sha256={}", "0".repeat(64));
    assert_eq!(deliver(broken.address(), &other, &body).await, REFUSED);
}

#[tokio::test]
async fn echoes_challenge_tells_it_to_anybody() {
    let (_world, well, broken) = pair("echoes-challenge").await;
    let path = format!("{WHATSAPP}?hub.mode=subscribe&hub.challenge=115820&hub.verify_token=guess");
    let right = get(well.address(), &path).await;
    assert_eq!(right.status, StatusCode::FORBIDDEN);
    let wrong = get(broken.address(), &path).await;
    assert_eq!((wrong.status, wrong.body.as_str()), (OK, "115820"));
}

#[tokio::test]
async fn uses_body_id_and_accepts_other_id_believe_the_body() {
    let genuine = Notification {
        body: "999",
        ..Notification::well()
    };
    let forged = Notification {
        query: "124",
        ..Notification::well()
    };
    for (switch, genuine_is, forged_is) in [
        ("", OK, REFUSED),
        ("uses-body-id", REFUSED, OK),
        ("accepts-other-id", OK, OK),
    ] {
        let (_world, _, broken) = pair(switch).await;
        assert_eq!(genuine.send(&broken).await, genuine_is, "{switch}");
        assert_eq!(forged.send(&broken).await, forged_is, "{switch}");
    }
}

#[tokio::test]
async fn requires_request_id_refuses_a_notification_without_one() {
    let (_world, well, broken) = pair("requires-request-id").await;
    let bare = Notification {
        request: None,
        ..Notification::well()
    };
    assert_eq!(bare.send(&well).await, OK);
    assert_eq!(bare.send(&broken).await, REFUSED);
    assert_eq!(Notification::well().send(&broken).await, OK);
}

#[tokio::test]
async fn seconds_only_refuses_milliseconds() {
    let (_world, well, broken) = pair("seconds-only").await;
    let milliseconds = Notification {
        ts: epoch_seconds() as u64 * 1000,
        ..Notification::well()
    };
    assert_eq!(milliseconds.send(&well).await, OK);
    assert_eq!(milliseconds.send(&broken).await, REFUSED);
    assert_eq!(Notification::well().send(&broken).await, OK);
}

#[tokio::test]
async fn processes_replays_gives_each_delivery_an_effect() {
    let (_world, well, broken) = pair("processes-replays").await;
    for (to, body, wanted) in [(&well, "a", 1), (&broken, "b", 4)] {
        for _ in 0..3 {
            assert_eq!(whatsapp(to, &message(body, "messages")).await, OK);
        }
        assert_eq!(effects(&well, "whatsapp").await, wanted, "{body}");
    }
}

#[tokio::test]
async fn two_machines_that_get_a_delivery_at_once_give_it_one_effect_unless_they_race() {
    let world = World::migrated().await;
    for (fault, wanted) in [("", 1), ("races-replays", 3)] {
        let machines = [
            world.serve(&[("CABANAS_FAULT", fault)]).await,
            world.serve(&[("CABANAS_FAULT", fault)]).await,
        ];
        let body = message(&format!("of-{fault}"), "messages");
        let both =
            futures::future::join(whatsapp(&machines[0], &body), whatsapp(&machines[1], &body));
        assert_eq!(both.await, (OK, OK));
        assert_eq!(effects(&machines[0], "whatsapp").await, wanted);
        // One that comes later is seen by both.
        assert_eq!(whatsapp(&machines[1], &body).await, OK);
        assert_eq!(effects(&machines[0], "whatsapp").await, wanted);
    }
}

#[tokio::test]
async fn many_deliveries_at_once_on_two_machines_have_one_effect_each() {
    let world = World::migrated().await;
    let machines = [world.serve(&[]).await, world.serve(&[]).await];
    let deliveries = (0..40).map(|number| {
        let body = message(&format!("wamid.{}", number / 4), "messages");
        let to = &machines[number % 2];
        async move { whatsapp(to, &body).await }
    });
    let all = futures::future::join_all(deliveries).await;
    assert!(all.iter().all(|status| *status == OK));
    for machine in &machines {
        assert_eq!(effects(machine, "whatsapp").await, 10);
        let counter = r#"webhook_effects_total{provider="whatsapp"}"#;
        assert_eq!(metric(machine.address(), counter).await, 10.0);
    }
}

#[tokio::test]
async fn answers_late_is_late_with_webhooks_alone() {
    let (_world, _, broken) = pair("answers-late=1").await;
    let started = Instant::now();
    assert_eq!(whatsapp(&broken, &message("a", "messages")).await, OK);
    assert!(started.elapsed() >= Duration::from_secs(1));
    let started = Instant::now();
    get(broken.address(), "/").await;
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn acknowledges_early_answers_before_anything_is_stored() {
    let (_world, well, broken) = pair("acknowledges-early").await;
    assert_eq!(whatsapp(&broken, &message("a", "messages")).await, OK);
    assert_eq!(effects(&well, "whatsapp").await, 0);
    assert_eq!(whatsapp(&well, &message("b", "messages")).await, OK);
    assert_eq!(effects(&well, "whatsapp").await, 1);
}

#[tokio::test]
async fn unknown_event_fails_answers_500_to_what_it_does_not_know() {
    let (_world, well, broken) = pair("unknown-event-fails").await;
    let failed = StatusCode::INTERNAL_SERVER_ERROR;
    let unknown = message("a", "account_update");
    let topic = Notification {
        topic: "topic_claims_integration_wh",
        ..Notification::well()
    };
    for (to, wanted) in [(&well, OK), (&broken, failed)] {
        assert_eq!(whatsapp(to, &unknown).await, wanted);
        assert_eq!(topic.send(to).await, wanted);
        assert_eq!(whatsapp(to, &message("a", "messages")).await, OK);
    }
}

#[tokio::test]
async fn exports_guests_names_them() {
    let (right, wrong) = exported("exports-guests").await;
    for private in ["Ana", "4001234"] {
        assert!(!right.contains(private) && wrong.contains(private));
    }
}

#[tokio::test]
async fn inclusive_end_ends_on_the_last_night() {
    let (right, wrong) = exported("inclusive-end").await;
    let single = |end| format!("DTSTART;VALUE=DATE:20310110\r\nDTEND;VALUE=DATE:{end}\r\n");
    assert!(right.contains(&single("20310111")) && wrong.contains(&single("20310110")));
}

#[tokio::test]
async fn lines_and_encoding_are_broken_as_the_switch_says() {
    let (right, wrong) = exported("lf-lines").await;
    assert_eq!(wrong, right.replace("\r\n", "\n"));
    let (right, wrong) = exported("byte-order-mark").await;
    assert_eq!(wrong, format!("\u{feff}{right}"));
    let (_, wrong) = exports("folds-characters").await;
    assert!(std::str::from_utf8(&wrong).is_err());
}

#[tokio::test]
async fn uids_change_or_are_all_the_same() {
    let uids = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.starts_with("UID:"));
        lines.map(str::to_owned).collect()
    };
    let (right, wrong) = exported("changing-uids").await;
    assert!(uids(&right).iter().all(|uid| !uids(&wrong).contains(uid)));
    let (_, wrong) = exported("duplicate-uids").await;
    let uids = uids(&wrong);
    assert!(uids.len() == 2 && uids[0] == uids[1], "{uids:?}");
}

#[tokio::test]
async fn wrong_content_type_is_plain_text() {
    let (_world, well, broken) = pair("wrong-content-type").await;
    let of = |answer: Answer| answer.header("content-type").to_owned();
    let right = of(get(well.address(), EXPORT).await);
    assert_eq!(right, "text/calendar; charset=utf-8");
    let wrong = of(get(broken.address(), EXPORT).await);
    assert_eq!(wrong, "text/plain; charset=utf-8");
}

/// A service that imports a calendar with one event each second.
async fn importing(world: &World, channel: &Service, switch: &str) -> Service {
    let feed = format!("booking-3/3=http://{}{EXPORT}", channel.address());
    let env = [
        ("ICAL_FEEDS", feed.as_str()),
        ("ICAL_SYNC_SECONDS", "1"),
        ("CABANAS_FAULT", switch),
    ];
    world.serve(&env).await
}

async fn status(to: &Service) -> (u64, f64) {
    let status = get(to.address(), "/api/v1/ical/status").await.json();
    let minutes = status["last_sync_age_minutes"].as_f64().unwrap();
    (status["events"].as_u64().unwrap(), minutes * 60.0)
}

async fn wait_until(to: &Service, wanted: impl Fn(u64, f64) -> bool) {
    tokio::time::timeout(LIMIT, async {
        loop {
            let (events, age) = status(to).await;
            if wanted(events, age) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn frozen_import_imports_once_and_the_age_says_so() {
    let (world, channel) = channel().await;
    let service = importing(&world, &channel, "frozen-import").await;
    wait_until(&service, |events, seconds| events == 1 && seconds >= 4.0).await;
}

#[tokio::test]
async fn import_empties_frees_all_nights_with_the_second_import() {
    let (world, channel) = channel().await;
    let service = importing(&world, &channel, "import-empties").await;
    wait_until(&service, |events, _| events == 1).await;
    wait_until(&service, |events, _| events == 0).await;
    tokio::time::timeout(LIMIT, async {
        while metric(service.address(), "ical_imported_events").await != 0.0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

async fn channel() -> (World, Service) {
    let world = World::migrated().await;
    let channel = world.serve(&[]).await;
    book(&channel, 2, "2031-01-10", "2031-01-12").await;
    (world, channel)
}

#[tokio::test]
async fn age_always_zero_says_zero_of_an_old_import() {
    let (world, well, broken) = pair("age-always-zero").await;
    let old = "insert into calendar_sync values ('airbnb-1', 1, now() - interval '2 hours') \
               returning source";
    world.scalar(old).await;
    assert!(status(&well).await.1 >= 7200.0);
    assert_eq!(status(&broken).await.1, 0.0);
    let gauge = metric(broken.address(), "ical_last_sync_age_minutes").await;
    assert_eq!(gauge, 0.0);
}

#[tokio::test]
async fn a_probe_is_counted_as_an_effect_and_leaves_nothing_to_do() {
    let world = World::migrated().await;
    let service = world.serve(&[]).await;
    let to = service.address();
    for id in ["golive-probe-1", "wamid.golive-probe-2", "wamid.real"] {
        assert_eq!(whatsapp(&service, &message(id, "messages")).await, OK);
    }
    let payment = Notification {
        request: Some("golive-probe-3"),
        ..Notification::well()
    };
    assert_eq!(payment.send(&service).await, OK);
    // The real one with the same ids comes after it, and is not taken for a duplicate.
    assert_eq!(Notification::well().send(&service).await, OK);

    let numbers = get(to, EFFECTS).await.json();
    assert_eq!(numbers["whatsapp"]["effects"], 3);
    assert_eq!(numbers["whatsapp"]["to_handle"], 1);
    assert_eq!(numbers["mercadopago"]["effects"], 2);
    assert_eq!(numbers["mercadopago"]["to_handle"], 1);
    let bookings = world.scalar("select count(*)::text from reservation").await;
    assert_eq!(bookings.as_deref(), Some("0"));
}

#[tokio::test]
async fn requests_of_golive_are_no_requests_of_guests() {
    let world = World::migrated().await;
    let service = world.serve(&[]).await;
    let to = service.address();
    let header = [("x-golive-probe", "sist-cabanas-mvp/7/W4")];
    let forged = post(to, WHATSAPP, &header, message("a", "messages")).await;
    assert_eq!(forged.status, REFUSED);

    let guests = format!(r#"http_requests_total{{status="401",route="{WHATSAPP}",kind="text"}}"#);
    let probes = format!(r#"http_probes_total{{status="401",route="{WHATSAPP}"}}"#);
    assert_eq!(metric(to, &guests).await, 0.0);
    assert_eq!(metric(to, &probes).await, 1.0);
}

#[tokio::test]
async fn without_the_database_no_number_is_told_and_the_sender_comes_again() {
    let world = World::migrated().await;
    let service = world.serve(&[("CABANAS_FAULT", "no-database")]).await;
    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
    assert_eq!(
        whatsapp(&service, &message("a", "messages")).await,
        unavailable
    );
    assert_eq!(get(service.address(), EFFECTS).await.status, unavailable);
    let text = get(service.address(), "/metrics").await.body;
    assert!(!text.contains("webhook_effects_total{"), "{text}");
}
