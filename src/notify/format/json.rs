//! The plain JSON of Golive: every field of a message, for programs of one's own.

use serde_json::{Value, json};

use crate::notify::message::{Message, Place, Stage};

/// The version of this shape. Fields may be added to it; none changes its meaning or goes.
const VERSION: &str = "golive.dev/notification/v1";

/// The body of a message.
pub fn body(message: &Message, place: &Place) -> Value {
    let stage = match message.stage {
        Stage::Open => "Open",
        Stage::Closed => "Closed",
        Stage::Once => "Once",
    };
    json!({
        "version": VERSION,
        "id": message.id,
        "key": message.key,
        "event": message.event,
        "severity": message.severity,
        "stage": stage,
        "topic": message.topic.to_string(),
        "owner": message.owner,
        "title": message.title,
        "text": message.text,
        "nextAction": message.next_action,
        "time": message.time,
        "since": message.began.as_ref().map(|began| began.time),
        "activation": {
            "namespace": place.namespace,
            "name": place.name,
            "uid": place.uid,
            "app": place.app,
            "url": place.url,
        },
    })
}
