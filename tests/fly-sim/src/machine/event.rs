//! What has happened to a machine.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::process::Exit;
use crate::id;

/// Events kept.
pub const KEPT: usize = 50;
/// Events in a machine's JSON.
pub const SHOWN: usize = 20;

/// Who caused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Somebody through the API.
    User,
    /// The host.
    Flyd,
    /// The edge.
    Proxy,
}

/// An event.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// ULID.
    pub id: String,
    /// `launch`, `start`, `exit`, ...
    #[serde(rename = "type")]
    pub kind: String,
    /// `created`, `started`, `stopped`, ...
    pub status: String,
    /// Who caused it.
    pub source: Source,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// Details; null on launch and destroy events, as on Fly.
    pub request: Value,
}

impl Event {
    /// An event that happens now.
    pub fn new(kind: &str, status: &str, source: Source, request: Value) -> Self {
        Self {
            id: id::ulid(),
            kind: kind.to_owned(),
            status: status.to_owned(),
            source,
            timestamp: Timestamp::now().as_millisecond(),
            request,
        }
    }
}

/// The details of an exit.
pub fn exit_request(exit: Exit, requested: bool, oom: bool, restarting: bool, count: u32) -> Value {
    json!({
        "exit_event": {
            "exit_code": exit.code,
            "exited_at": Timestamp::now().to_string(),
            "guest_exit_code": exit.code,
            "guest_signal": exit.signal,
            "oom_killed": oom,
            "requested_stop": requested,
            "restarting": restarting,
            "signal": -1,
        },
        "restart_count": count,
    })
}
