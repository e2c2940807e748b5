//! What waits in the queue, and what it gives out.

use std::time::Duration;

/// The key of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Object {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Object {
    /// Names an object.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Object {
        Object {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Why an object is due. The order is that of urgency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A person deletes it.
    Deletion,
    /// A person, or a tool for one, changed it or something that it names.
    Change,
    /// It is new, or on its way: what it waited for has happened.
    Progress,
    /// Something failed or is blocked, and is tried again.
    Retry,
    /// It is as it should be, and is compared with Fly.io again.
    Recheck,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 5] = [
        Kind::Deletion,
        Kind::Change,
        Kind::Progress,
        Kind::Retry,
        Kind::Recheck,
    ];

    /// The name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Deletion => "deletion",
            Kind::Change => "change",
            Kind::Progress => "progress",
            Kind::Retry => "retry",
            Kind::Recheck => "recheck",
        }
    }
}

/// An object whose pass begins now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The object.
    pub object: Object,
    /// Why.
    pub kind: Kind,
    /// How long it had been due.
    pub waited: Duration,
}

/// Work is due, but nothing has begun or ended for too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stall {
    /// Number of objects that are due.
    pub waiting: usize,
    /// How long the oldest of them has been due.
    pub since: Duration,
}
