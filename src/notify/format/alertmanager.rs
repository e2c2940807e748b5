//! Alertmanager's API v2 (prometheus/alertmanager, `api/v2/openapi.yaml`, `POST /api/v2/alerts`).

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::words::command;
use crate::{
    api::NotificationSeverity,
    notify::message::{Message, Place, Stage},
};

/// How long an alert lasts that nobody ends. Alertmanager ends one without `endsAt` after its own
/// `resolve_timeout`, 5 minutes by default, because Prometheus repeats its alerts all the time.
const LIFE: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How long news is shown that ends nothing.
const NEWS: SignedDuration = SignedDuration::from_mins(5);

/// The labels name the alert: what opens and what closes it has the same ones. Neither the state nor the
/// text is in them.
pub fn body(message: &Message, place: &Place) -> Value {
    let alarm = message.began.as_ref();
    let began = alarm.map_or(message.time, |began| began.time);
    // The end of an alarm must have the labels of its beginning.
    let (severity, owner) = match alarm {
        Some(began) => (began.severity, &began.owner),
        None => (message.severity, &message.owner),
    };
    let after = |span| began.checked_add(span).unwrap_or(Timestamp::MAX);
    let ends = match message.stage {
        Stage::Open => after(LIFE),
        Stage::Closed => message.time,
        Stage::Once => after(NEWS),
    };
    let severity = match severity {
        NotificationSeverity::Critical => "critical",
        NotificationSeverity::Warning => "warning",
        NotificationSeverity::Info => "info",
    };
    let mut labels = json!({
        "alertname": name(message),
        "namespace": place.namespace,
        "activation": place.name,
        "app": place.app,
        "topic": message.topic.to_string(),
        "severity": severity,
    });
    if let Some(owner) = owner {
        labels["owner"] = json!(owner);
    }
    json!([{
        "labels": labels,
        "annotations": {
            "summary": message.title,
            "description": message.text,
            "next_action": message.next_action,
            "show": command(place),
        },
        "startsAt": began,
        "endsAt": ends,
        "generatorURL": place.url.clone().unwrap_or_default(),
    }])
}

/// One name for all that can be true of a topic.
fn name(message: &Message) -> &'static str {
    use crate::notify::news::Topic;
    match message.topic {
        Topic::Phase(_) => "GolivePhase",
        Topic::Gate(_) => "GoliveGate",
        Topic::Deadline(_) => "GoliveDeadline",
        Topic::GoLive => "GoliveGoLive",
        Topic::Site => "GoliveSite",
        Topic::Integration(_) => "GoliveIntegration",
        Topic::Rollback => "GoliveRollback",
        Topic::Drift => "GoliveDrift",
        Topic::Suspension => "GoliveSuspension",
        Topic::Objective(_) => "GoliveObjective",
        Topic::Breach => "GoliveBreach",
        Topic::Incident(_) => "GoliveIncident",
        Topic::Watch => "GoliveWatch",
        Topic::Test => "GoliveTest",
    }
}
