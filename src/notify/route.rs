//! Which receiver gets which message.

use crate::api::{NotificationEvent, NotificationSeverity};

use super::message::{Message, Stage};

/// What one receiver wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Name of the receiver, unique in its activation.
    pub receiver: String,
    /// The owners whose news it gets; empty: of all.
    pub owners: Vec<String>,
    /// The kinds of news that it gets; empty: all.
    pub events: Vec<NotificationEvent>,
    /// The least severity that it gets.
    pub min_severity: NotificationSeverity,
    /// At most this many messages an hour; 0: no limit.
    pub max_per_hour: u32,
}

impl Route {
    /// Whether the receiver wants the message. News that no owner has concern everybody. A test goes to
    /// all, and the end of an alarm goes to whoever the outbox says was told of its beginning, so it is not
    /// asked here.
    #[must_use]
    pub fn wants(&self, message: &Message) -> bool {
        if message.event == NotificationEvent::Test {
            return true;
        }
        let owner = match &message.owner {
            Some(owner) => self.owners.is_empty() || self.owners.contains(owner),
            None => true,
        };
        let event = self.events.is_empty() || self.events.contains(&message.event);
        let severity = message.stage == Stage::Closed || message.severity >= self.min_severity;
        owner && event && severity
    }
}
