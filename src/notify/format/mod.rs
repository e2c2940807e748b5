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

use serde_json::Value;

use super::message::{Message, Place, Stage};
use crate::api::{NotificationFormat, NotificationSeverity};

pub use mail::{Mail, mail};

/// A request for a receiver of HTTP. It is a POST.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// What is added to the path of the receiver's address.
    pub path: &'static str,
    /// The type of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: Value,
}

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

/// The line above a message: what happened, and to whom.
fn heading(message: &Message, place: &Place) -> String {
    let word = match (message.stage, message.severity) {
        (Stage::Closed, _) => "Resolved: ",
        (Stage::Open, NotificationSeverity::Critical) => "Critical: ",
        (Stage::Open, _) => "Warning: ",
        (Stage::Once, _) => "",
    };
    format!(
        "{word}{}/{}: {}",
        place.namespace, place.name, message.title
    )
}

/// The command that shows the whole.
fn command(place: &Place) -> String {
    format!(
        "kubectl describe activation {} -n {}",
        place.name, place.namespace
    )
}
