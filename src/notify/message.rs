//! A message: what one receiver gets of one piece of news.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::news::{Fact, Topic};
use crate::api::{NotificationEvent, NotificationSeverity, status::one_line};

/// Longest title, in bytes. A header block of Slack holds 150 characters.
const MAX_TITLE: usize = 140;
/// Longest text and next action, in bytes.
const MAX_TEXT: usize = 800;

/// Whether a message opens something, closes it, or stands for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Something is wrong.
    Open,
    /// What was wrong is over.
    Closed,
    /// It happened, and there is nothing to close.
    Once,
}

/// The activation that a message speaks of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The Fly app.
    pub app: String,
    /// The application's address, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// What one receiver gets of one piece of news.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// The same for each try and for each receiver: a receiver can tell a repeat by it.
    pub id: String,
    /// The same for the message that opens something and the one that closes it.
    pub key: String,
    /// What it is about.
    pub topic: Topic,
    /// The kind of news.
    pub event: NotificationEvent,
    /// How much it matters.
    pub severity: NotificationSeverity,
    /// Whether it opens or closes.
    pub stage: Stage,
    /// Who is responsible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// A few words: what happened.
    pub title: String,
    /// The evidence, in one line.
    pub text: String,
    /// What a person can do; empty when there is nothing to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub next_action: String,
    /// When it was first known.
    pub time: Timestamp,
    /// The beginning of the alarm that it opens or closes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<Began>,
}

/// The beginning of an alarm. Receivers that find an alarm by its properties get them unchanged with its
/// end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Began {
    /// When it was first known.
    pub time: Timestamp,
    /// How much it mattered.
    pub severity: NotificationSeverity,
    /// Who was responsible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

impl Message {
    /// The message about a fact. `began`: the beginning of the alarm that it belongs to.
    #[must_use]
    pub fn of(fact: &Fact, stage: Stage, uid: &str, now: Timestamp, began: Option<&Began>) -> Self {
        // An alarm and its end share the time at which it began, so that a second alarm of the same
        // topic is not taken for the first. Much can happen in one second.
        let since = began.map_or(now, |began| began.time).as_millisecond();
        let stage_word = match stage {
            Stage::Open => "open",
            Stage::Closed => "closed",
            Stage::Once => "once",
        };
        let key = format!("{uid}/{}/{since}", fact.topic);
        Self {
            id: format!("{key}/{stage_word}/{}", now.as_microsecond()),
            key,
            topic: fact.topic.clone(),
            event: fact.event,
            severity: fact.severity,
            stage,
            owner: fact.owner.clone(),
            title: one_line(&fact.title, MAX_TITLE),
            text: one_line(&fact.text, MAX_TEXT),
            next_action: one_line(&fact.next_action, MAX_TEXT),
            time: now,
            began: began.cloned(),
        }
    }

    /// One message for all of these, which happened together; with how many others its receiver did not
    /// get. `None` of none.
    #[must_use]
    pub fn of_all(messages: &[&Message], left_out: u32) -> Option<Self> {
        let (first, last) = (messages.first()?, messages.last()?);
        let mut one = match messages.len() {
            1 => (*first).clone(),
            count => Self {
                id: first.id.clone(),
                key: first.key.clone(),
                topic: first.topic.clone(),
                owner: first
                    .owner
                    .clone()
                    .filter(|_| messages.iter().all(|other| other.owner == first.owner)),
                title: one_line(
                    &format!("{} (and {} more)", last.title, count - 1),
                    MAX_TITLE,
                ),
                text: one_line(&listed(messages), MAX_TEXT),
                ..(*last).clone()
            },
        };
        if left_out > 0 {
            let noted = match left_out {
                1 => "1 message before this one did not reach you".to_owned(),
                count => format!("{count} messages before this one did not reach you"),
            };
            let room = MAX_TEXT.saturating_sub(noted.len() + 2);
            one.text = match one.text.is_empty() {
                true => noted,
                false => format!("{}; {noted}", one_line(&one.text, room)),
            };
        }
        Some(one)
    }
}

/// What happened, in order.
fn listed(messages: &[&Message]) -> String {
    let lines = messages.iter().map(|message| {
        if message.text.is_empty() {
            message.title.clone()
        } else {
            format!("{} ({})", message.title, message.text)
        }
    });
    lines.collect::<Vec<_>>().join("; ")
}
