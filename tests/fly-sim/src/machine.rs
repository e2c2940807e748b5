//! Machines: real local processes with Fly's life around them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use axum::Router;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::core::{CallId, Core, Shared};

/// What a machine's program gets when it boots.
#[derive(Clone, Debug)]
pub struct BootEnv {
    /// App.
    pub app: String,
    /// Machine id.
    pub machine: String,
    /// The loopback address that is this machine's own: listen here.
    pub bind_ip: Ipv4Addr,
    /// Program arguments.
    pub args: Vec<String>,
    /// The whole environment: Fly's, the image's, the configuration's, and the secrets.
    pub env: BTreeMap<String, String>,
}

/// A command to run in a machine.
#[derive(Clone, Debug)]
pub struct ExecRequest {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Standard input.
    pub stdin: String,
}

/// What a command gave.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ExecResult {
    /// Exit code.
    pub exit_code: i32,
    /// Signal that ended it, or 0.
    pub exit_signal: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A machine.
#[derive(Debug)]
pub struct Machine {
    /// 14 hex digits.
    pub id: String,
    /// Name.
    pub name: String,
    /// When it was created.
    pub created_at: Timestamp,
}

impl Machine {
    /// Not destroyed.
    pub fn is_live(&self) -> bool {
        true
    }

    /// For the control port.
    pub fn state_json(&self) -> Value {
        json!({"id": self.id, "name": self.name})
    }
}

/// The routes of machines.
pub fn router() -> Router<Shared> {
    Router::new()
}

/// The routes of machines on the control port.
pub fn control_router() -> Router<Shared> {
    Router::new()
}

/// The list of an app's machines as the API gives it now.
pub fn list_of(_core: &Core, _app: &str) -> Value {
    json!([])
}

/// Destroys the machines of an app, or one of them, at once.
pub async fn destroy_all(_core: &Shared, _call: CallId, _app: &str, _id: Option<&str>) -> bool {
    false
}
