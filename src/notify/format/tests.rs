use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::{
    api::{NotificationEvent, NotificationSeverity, PhaseName},
    notify::{
        message::{Began, Stage},
        news::{Fact, Manner, Topic},
    },
};

const EVIL: &str = "<!channel> @everyone *x* `y` [a](https://evil.example) \"quoted\" <b>";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn place() -> Place {
    Place {
        namespace: "cabanas".to_owned(),
        name: "sist-cabanas-mvp".to_owned(),
        uid: "0000-1111".to_owned(),
        app: "sist-cabanas-mvp".to_owned(),
        url: Some("https://sist-cabanas-mvp.fly.dev".to_owned()),
    }
}

fn message(stage: Stage) -> Message {
    let how = (
        Manner::Alarm,
        NotificationEvent::PhaseFailed,
        NotificationSeverity::Warning,
    );
    let fact = Fact {
        owner: Some("DevOps".to_owned()),
        title: "Deploy has failed: ImageNotFound".to_owned(),
        text: EVIL.to_owned(),
        next_action: "correct `deploy.image`".to_owned(),
        ..Fact::new(Topic::Phase(PhaseName::Deploy), "failed", how)
    };
    let began = Began {
        time: at(-60),
        severity: NotificationSeverity::Critical,
        owner: Some("DevOps".to_owned()),
    };
    let began = (stage != Stage::Once).then_some(&began);
    Message::of(&fact, stage, "0000-1111", at(0), began)
}

fn body(format: NotificationFormat, stage: Stage) -> Value {
    write(format, &message(stage), &place(), Some("routing-key"))
        .unwrap()
        .body
}

/// All texts of a body.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(fields) => fields.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn every_format_tells_what_to_whom_and_what_next() {
    for format in NotificationFormat::ALL {
        let all = texts(&body(*format, Stage::Open))
            .join("\n")
            .replace('\\', "");
        for part in ["ImageNotFound", "sist-cabanas-mvp", "correct", "DevOps"] {
            assert!(all.contains(part), "{format} lacks {part}: {all}");
        }
    }
}

#[test]
fn a_text_of_an_application_mentions_nobody_and_is_no_markup() {
    let slack = body(NotificationFormat::Slack, Stage::Open);
    assert!(!slack["text"].as_str().unwrap().contains('<'));
    for block in slack["blocks"].as_array().unwrap() {
        let parts = block["elements"].as_array().cloned().unwrap_or_default();
        for part in parts
            .iter()
            .chain([&block["text"]])
            .filter(|part| !part.is_null())
        {
            assert_eq!(part["type"], "plain_text");
        }
    }

    let discord = body(NotificationFormat::Discord, Stage::Open);
    assert_eq!(discord["allowed_mentions"], json!({"parse": []}));
    let text = discord["embeds"][0]["description"].as_str().unwrap();
    assert!(
        text.contains("\\@everyone") && text.contains("\\[a\\]"),
        "{text}"
    );

    let teams = body(NotificationFormat::Teams, Stage::Open);
    let text = teams["attachments"][0]["content"]["body"][1]["text"]
        .as_str()
        .unwrap();
    assert!(text.contains("\\[a\\]\\(https"), "{text}");
}

#[test]
fn pager_duty_gets_one_key_for_the_beginning_and_the_end_and_is_not_paged_by_news() {
    let open = write(
        NotificationFormat::PagerDuty,
        &message(Stage::Open),
        &place(),
        Some("k"),
    );
    let open = open.unwrap();
    assert_eq!(open.path, "/v2/enqueue");
    assert_eq!(open.body["event_action"], "trigger");
    assert_eq!(open.body["routing_key"], "k");
    assert_eq!(open.body["payload"]["severity"], "warning");
    let closed = body(NotificationFormat::PagerDuty, Stage::Closed);
    assert_eq!(closed["event_action"], "resolve");
    assert_eq!(closed["dedup_key"], open.body["dedup_key"]);
    let news = write(
        NotificationFormat::PagerDuty,
        &message(Stage::Once),
        &place(),
        Some("k"),
    );
    assert_eq!(news.unwrap().path, "/v2/change/enqueue");
    let keyless = write(
        NotificationFormat::PagerDuty,
        &message(Stage::Open),
        &place(),
        None,
    );
    assert!(keyless.is_none());
}

#[test]
fn the_end_of_an_alert_has_the_labels_and_the_start_of_its_beginning() {
    let open = body(NotificationFormat::Alertmanager, Stage::Open);
    let closed = body(NotificationFormat::Alertmanager, Stage::Closed);
    assert_eq!(open[0]["labels"], closed[0]["labels"]);
    assert_eq!(open[0]["labels"]["severity"], "critical");
    assert_eq!(open[0]["startsAt"], closed[0]["startsAt"]);
    assert_eq!(closed[0]["endsAt"], json!(at(0)));
    assert!(open[0]["endsAt"].as_str().unwrap() > closed[0]["endsAt"].as_str().unwrap());
}

#[test]
fn a_cloud_event_has_what_the_specification_requires() {
    let event = write(
        NotificationFormat::CloudEvents,
        &message(Stage::Open),
        &place(),
        None,
    );
    let event = event.unwrap();
    assert_eq!(event.content_type, "application/cloudevents+json");
    assert_eq!(event.body["specversion"], "1.0");
    for required in ["id", "source", "type"] {
        assert!(
            !event.body[required].as_str().unwrap().is_empty(),
            "{required}"
        );
    }
    assert_eq!(event.body["data"]["stage"], "Open");
}

#[test]
fn texts_stay_within_the_limits_of_each_receiver() {
    let mut long = message(Stage::Open);
    long.title = "t".repeat(5000);
    let place = Place {
        namespace: "n".repeat(63),
        name: "a".repeat(63),
        ..place()
    };
    let slack = slack::body(&long, &place);
    let header = slack["blocks"][0]["text"]["text"].as_str().unwrap();
    assert!(header.chars().count() <= 150);
    let discord = discord::body(&long, &place);
    assert!(
        discord["embeds"][0]["title"]
            .as_str()
            .unwrap()
            .chars()
            .count()
            <= 256
    );
    let pager = write(
        NotificationFormat::PagerDuty,
        &message(Stage::Open),
        &place,
        Some("k"),
    );
    let pager = pager.unwrap().body;
    assert!(
        pager["payload"]["summary"]
            .as_str()
            .unwrap()
            .chars()
            .count()
            <= 1024
    );
    assert!(pager["dedup_key"].as_str().unwrap().len() <= 255);
}

#[test]
fn an_email_has_one_line_as_its_subject_and_one_id_for_all_tries() {
    let mail = mail(&message(Stage::Open), &place());
    assert!(!mail.subject.contains(['\r', '\n']), "{}", mail.subject);
    assert!(
        mail.text.contains("Next: correct `deploy.image`"),
        "{}",
        mail.text
    );
    assert!(
        mail.id
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
    );
}
