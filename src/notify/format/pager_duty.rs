//! PagerDuty's Events API v2 (developer.pagerduty.com/docs/events-api-v2/trigger-events and
//! /send-change-events). What opens is a trigger and what closes a resolve, with one `dedup_key`; what
//! only happened is a change event, which pages nobody.

use serde_json::{Value, json};

use super::words::{Outgoing, command, heading};
use crate::{
    api::NotificationSeverity,
    notify::message::{Message, Place, Stage},
};

/// The paths of `events.pagerduty.com`.
const ALERTS: &str = "/v2/enqueue";
const CHANGES: &str = "/v2/change/enqueue";

/// The event that a message is.
pub fn write(message: &Message, place: &Place, key: &str) -> Option<Outgoing> {
    let (path, body) = match message.stage {
        Stage::Open => (ALERTS, alert(message, place, key, "trigger")),
        Stage::Closed => (ALERTS, alert(message, place, key, "resolve")),
        Stage::Once => (CHANGES, change(message, place, key)),
    };
    Some(Outgoing {
        path,
        content_type: "application/json",
        body,
    })
}

fn details(message: &Message, place: &Place) -> Value {
    json!({
        "text": message.text,
        "nextAction": message.next_action,
        "owner": message.owner,
        "topic": message.topic.to_string(),
        "app": place.app,
        "show": command(place),
    })
}

fn links(place: &Place) -> Value {
    let links = place.url.iter();
    let links = links.map(|url| json!({"href": url, "text": "the site"}));
    links.collect()
}

fn alert(message: &Message, place: &Place, key: &str, action: &str) -> Value {
    let severity = match message.severity {
        NotificationSeverity::Critical => "critical",
        NotificationSeverity::Warning => "warning",
        NotificationSeverity::Info => "info",
    };
    json!({
        "routing_key": key,
        "event_action": action,
        "dedup_key": message.key,
        "client": "Golive",
        "links": links(place),
        "payload": {
            "summary": heading(message, place),
            "source": place.url.clone().unwrap_or_else(|| place.app.clone()),
            "severity": severity,
            "timestamp": message.time,
            "component": place.app,
            "group": place.namespace,
            "class": message.event,
            "custom_details": details(message, place),
        },
    })
}

fn change(message: &Message, place: &Place, key: &str) -> Value {
    json!({
        "routing_key": key,
        "links": links(place),
        "payload": {
            "summary": heading(message, place),
            "source": place.app,
            "timestamp": message.time,
            "custom_details": details(message, place),
        },
    })
}
