//! How a message is written for each kind of receiver.
//!
//! Texts of messages come from applications and vendors too. Each format writes them so that they
//! are shown as they are: they mention nobody, and are no markup.

mod alertmanager;
mod cloud_events;
mod discord;
mod json;
mod mail;
mod pager_duty;
mod slack;
mod teams;
#[cfg(test)]
mod tests;
mod words;

use super::message::{Message, Place};
use crate::api::NotificationFormat;

pub use mail::{Mail, mail};
pub use words::Outgoing;

/// Writes a message for a receiver. `None`: this kind of receiver does not take such a message.
///
/// `key` is the routing key of PagerDuty: the body holds it, so a body is a secret then.
#[must_use]
pub fn write(
    format: NotificationFormat,
    message: &Message,
    place: &Place,
    key: Option<&str>,
) -> Option<Outgoing> {
    let json = |body| Outgoing {
        path: "",
        content_type: "application/json",
        body,
    };
    match format {
        NotificationFormat::Json => Some(json(json::body(message, place))),
        NotificationFormat::CloudEvents => Some(Outgoing {
            path: "",
            content_type: "application/cloudevents+json",
            body: cloud_events::body(message, place),
        }),
        NotificationFormat::Slack => Some(json(slack::body(message, place))),
        NotificationFormat::Teams => Some(json(teams::body(message, place))),
        NotificationFormat::Discord => Some(json(discord::body(message, place))),
        NotificationFormat::PagerDuty => pager_duty::write(message, place, key?),
        NotificationFormat::Alertmanager => Some(Outgoing {
            path: "/api/v2/alerts",
            ..json(alertmanager::body(message, place))
        }),
    }
}
