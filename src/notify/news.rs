//! One thing that can be told: its topic, what is true of it, and how that is told.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::api::{NotificationEvent, NotificationSeverity, PhaseName};

/// What a piece of news is about. Of one topic, one thing is true at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Topic {
    /// A phase: begun, passed or failed.
    Phase(PhaseName),
    /// The gate before a phase.
    Gate(PhaseName),
    /// The deadline of a phase.
    Deadline(PhaseName),
    /// The first proof that the application is live.
    GoLive,
    /// Whether the site answers.
    Site,
    /// The integration with this name.
    Integration(String),
    /// The last rollback.
    Rollback,
    /// Whether Fly.io differs from the object.
    Drift,
    /// How long the activation is suspended.
    Suspension,
    /// The objective with this name.
    Objective(String),
    /// What follows from a breach, when it is no rollback.
    Breach,
    /// What happened while the application was watched: the kind, and what it happened to.
    Incident(String),
    /// The verdict of the watch.
    Watch,
    /// A test that a person asked for.
    Test,
}

impl Topic {
    /// What is told when the object no longer has the topic: a receiver must not keep an alarm for ever.
    #[must_use]
    pub fn left(&self) -> Fact {
        Fact {
            title: format!("{self} is no longer part of the activation"),
            ..Fact::new(
                self.clone(),
                "left",
                (
                    Manner::Quiet,
                    NotificationEvent::Withdrawn,
                    NotificationSeverity::Info,
                ),
            )
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Phase(phase) => write!(f, "phase/{phase}"),
            Self::Gate(phase) => write!(f, "gate/{phase}"),
            Self::Deadline(phase) => write!(f, "deadline/{phase}"),
            Self::GoLive => f.write_str("go-live"),
            Self::Site => f.write_str("site"),
            Self::Integration(name) => write!(f, "integration/{name}"),
            Self::Rollback => f.write_str("rollback"),
            Self::Drift => f.write_str("drift"),
            Self::Suspension => f.write_str("suspension"),
            Self::Objective(name) => write!(f, "objective/{name}"),
            Self::Breach => f.write_str("breach"),
            Self::Incident(what) => write!(f, "incident/{what}"),
            Self::Watch => f.write_str("watch"),
            Self::Test => f.write_str("test"),
        }
    }
}

/// How a fact is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Something is wrong until another fact of the topic says otherwise.
    Alarm,
    /// Something happened. It is told once, and ends an alarm of its topic.
    Once,
    /// All is well. It is told only when an alarm of its topic was.
    Quiet,
    /// Work goes on. It says nothing about an alarm of its topic, which stays.
    Between,
    /// Nothing is known, so nothing is news: what was told stays.
    Unknown,
}

/// What is true of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The topic.
    pub topic: Topic,
    /// What is true of it, for comparison: another text is other news.
    pub state: String,
    /// How it is told.
    pub manner: Manner,
    /// The kind of news, by which people choose.
    pub event: NotificationEvent,
    /// How much it matters.
    pub severity: NotificationSeverity,
    /// Who is responsible.
    pub owner: Option<String>,
    /// A few words: what happened.
    pub title: String,
    /// The evidence.
    pub text: String,
    /// What a person can do; empty when there is nothing to do.
    pub next_action: String,
}

impl Fact {
    /// A fact without a text.
    #[must_use]
    pub fn new(
        topic: Topic,
        state: impl Into<String>,
        (manner, event, severity): (Manner, NotificationEvent, NotificationSeverity),
    ) -> Self {
        Self {
            topic,
            state: state.into(),
            manner,
            event,
            severity,
            owner: None,
            title: String::new(),
            text: String::new(),
            next_action: String::new(),
        }
    }

    /// Nothing is known of the topic.
    #[must_use]
    pub fn unknown(topic: Topic) -> Self {
        let how = (
            Manner::Unknown,
            NotificationEvent::Test,
            NotificationSeverity::Info,
        );
        Self::new(topic, String::new(), how)
    }
}
