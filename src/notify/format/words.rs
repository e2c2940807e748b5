//! What several formats share: the request, the line above a message, and the command that shows the whole.

use serde_json::Value;

use crate::{
    api::NotificationSeverity,
    notify::message::{Message, Place, Stage},
};

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

/// The line above a message: what happened, and to whom.
pub(super) fn heading(message: &Message, place: &Place) -> String {
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
pub(super) fn command(place: &Place) -> String {
    format!(
        "kubectl describe activation {} -n {}",
        place.name, place.namespace
    )
}
