//! Machines: real local processes with Fly's life around them.

mod action;
mod actor;
mod api;
mod boot;
mod check;
pub mod config;
mod containers;
mod control;
pub mod duration;
mod event;
mod exec;
mod lease;
mod metadata;
mod org;
pub mod process;
pub mod signal;
mod sockets;
mod state;
mod update;
mod wait;

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use axum::Router;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::core::{CallId, Core, Shared};
use crate::images::Resolved;

pub use action::start_machine;
pub use actor::Command;
pub use check::CheckResult;
pub use config::Config;
pub use control::router as control_router;
pub use event::{Event, Source};
pub use lease::Lease;
pub use state::State;

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
    /// App name.
    pub app: String,
    /// Name, unique among the live machines of the app.
    pub name: String,
    /// Region code.
    pub region: String,
    /// State.
    pub state: State,
    /// Version (`instance_id`): a ULID, new with every update.
    pub version: String,
    /// Its own loopback address.
    pub ip: Ipv4Addr,
    /// Its address in the private network, as the API shows it.
    pub private_ip: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Configuration, typed.
    pub config: Config,
    /// Configuration as given back; its metadata is in `metadata`.
    pub config_json: Value,
    /// Metadata: can change without a new version.
    pub metadata: BTreeMap<String, String>,
    /// The image that the configuration's reference stood for when it was set.
    pub image: Resolved,
    /// Newest first.
    pub events: VecDeque<Event>,
    /// Results of the checks.
    pub checks: Vec<CheckResult>,
    /// Who may change it.
    pub lease: Option<Lease>,
    /// Out of the edge's pool.
    pub cordoned: bool,
    /// `ok`, `unknown` or `unreachable`.
    pub host_status: String,
    /// Boots without the app's secrets.
    pub skip_secrets: bool,
    /// Versions and their configurations, oldest first.
    pub versions: Vec<(String, Value)>,
    /// Restarts by policy since the last start.
    pub restart_count: u32,
    /// Requests that the edge has in it.
    pub in_flight: Arc<AtomicUsize>,
    /// When the edge last sent it a request.
    pub last_request: Instant,
    /// Extra time of the next boots (a fault).
    pub boot_delay: std::time::Duration,
    /// What the running program was started with.
    pub boot: Option<BootEnv>,
    commands: mpsc::UnboundedSender<Command>,
    cancel: CancellationToken,
    hurry: Arc<Notify>,
}

impl Machine {
    /// Not destroyed.
    pub fn is_live(&self) -> bool {
        self.state != State::Destroyed
    }

    /// Nothing of it runs.
    pub fn is_down(&self) -> bool {
        matches!(
            self.state,
            State::Created
                | State::Stopped
                | State::Suspended
                | State::Failed
                | State::Destroying
                | State::Destroyed
        )
    }

    /// Ends its task and program at once.
    pub fn end(&self) {
        self.cancel.cancel();
    }

    /// Tells the machine's task what to do next.
    pub fn send(&self, command: Command) {
        let _ = self.commands.send(command);
    }

    /// Adds an event, newest first.
    pub fn event(&mut self, kind: &str, status: &str, source: Source, request: Value) {
        self.updated_at = Timestamp::now();
        self.events
            .push_front(Event::new(kind, status, source, request));
        self.events.truncate(event::KEPT);
    }

    /// Restart policy and how often it applies.
    pub fn restart_policy(&self) -> (&str, u32) {
        let restart = self.config.restart.as_ref();
        let policy = restart
            .and_then(|restart| restart.policy.as_deref())
            .filter(|policy| !policy.is_empty())
            .unwrap_or("on-failure");
        let retries = restart
            .and_then(|restart| restart.max_retries)
            .filter(|retries| *retries > 0)
            .unwrap_or(10);
        (policy, retries)
    }

    /// The configuration as the API gives it.
    pub fn config_value(&self) -> Value {
        let mut config = self.config_json.clone();
        if let Value::Object(map) = &mut config {
            map.insert("metadata".to_owned(), json!(self.metadata));
        }
        config
    }

    /// The machine as the API gives it.
    pub fn json(&self) -> Value {
        let reference = &self.image.reference;
        let mut value = json!({
            "id": self.id,
            "name": self.name,
            "state": self.state.as_str(),
            "region": self.region,
            "image_ref": {
                "registry": reference.registry,
                "repository": reference.repository,
                "tag": reference.tag,
                "digest": self.image.digest,
                "labels": self.image.image.labels,
            },
            "instance_id": self.version,
            "version": self.version,
            "private_ip": self.private_ip,
            "created_at": self.created_at.to_string(),
            "updated_at": self.updated_at.to_string(),
            "config": self.config_value(),
            "events": self.events.iter().take(event::SHOWN).collect::<Vec<_>>(),
            "checks": self.checks,
            "host_status": self.host_status,
            "cordoned": self.cordoned,
        });
        if self.host_status != "ok"
            && let Value::Object(map) = &mut value
        {
            let config = map.insert("config".to_owned(), Value::Null);
            map.insert("incomplete_config".to_owned(), json!(config));
        }
        value
    }

    /// The machine with `summary=true`.
    pub fn summary(&self) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "state": self.state.as_str(),
            "region": self.region,
            "instance_id": self.version,
            "version": self.version,
            "private_ip": self.private_ip,
            "created_at": self.created_at.to_string(),
            "updated_at": self.updated_at.to_string(),
            "cordoned": self.cordoned,
        })
    }

    /// For the control port: the API's view and what only the simulator knows.
    pub fn state_json(&self) -> Value {
        let mut value = self.json();
        if let Value::Object(map) = &mut value {
            map.insert("bind_ip".to_owned(), json!(self.ip.to_string()));
            map.insert("restart_count".to_owned(), json!(self.restart_count));
            map.insert("boots_without_secrets".to_owned(), json!(self.skip_secrets));
        }
        value
    }

    /// Whether the edge may send it requests for the service on this internal port.
    pub fn is_routable(&self, internal_port: u16) -> bool {
        let services = self.config.services.as_deref().unwrap_or_default();
        self.state == State::Started
            && !self.cordoned
            && services
                .iter()
                .any(|service| service.internal_port == Some(internal_port))
            && self
                .checks
                .iter()
                .filter(|check| check.routes)
                .all(|check| check.status == "passing")
    }
}

/// The routes of machines.
pub fn router() -> Router<Shared> {
    Router::new()
        .merge(api::router())
        .merge(action::router())
        .merge(exec::router())
        .merge(lease::router())
        .merge(metadata::router())
        .merge(org::router())
        .merge(wait::router())
}

/// The list of an app's machines as the API gives it now.
pub fn list_of(core: &Core, app: &str) -> Value {
    core.read(|world| {
        let machines = world
            .apps
            .get(app)
            .map(|app| app.live_machines().map(Machine::json).collect::<Vec<_>>());
        json!(machines.unwrap_or_default())
    })
}

/// Destroys the machines of an app, or one of them, at once. Says whether there were any.
pub async fn destroy_all(core: &Shared, call: CallId, app: &str, id: Option<&str>) -> bool {
    let ids: Vec<String> = core.read(|world| {
        world.apps.get(app).map_or_else(Vec::new, |app| {
            app.live_machines()
                .filter(|machine| id.is_none_or(|id| machine.id == id))
                .map(|machine| machine.id.clone())
                .collect()
        })
    });
    for id in &ids {
        api::destroy(core, call, app, id, true, Source::Flyd);
    }
    let mut changes = core.changes();
    let gone = changes.wait_for(|_| {
        core.read(|world| {
            world.apps.get(app).is_none_or(|app| {
                ids.iter()
                    .filter_map(|id| app.machines.get(id))
                    .all(|machine| !machine.is_live())
            })
        })
    });
    let _ = tokio::time::timeout(std::time::Duration::from_secs(30), gone).await;
    !ids.is_empty()
}
