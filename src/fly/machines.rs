//! Machines: list, read, create, update, delete. Sources: fly-api.md B.3, B.13, L.
//!
//! Lists lag behind; reading one machine by its id does not lag as much, and goes on working
//! after it was destroyed (state `destroyed`). Never conclude from a list alone that there is
//! nothing.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::call::{Call, Endpoint};
use super::error::Result;
use super::machine_config::MachineConfig;
use super::token::Surface::Machines;
use super::wire::{Items, wire, wire_enum};
use crate::fly::call::answer::{Identified, gone_is_done, optional};
use crate::fly::call::client::Client;
use crate::fly::call::limit::Rate;

wire! {
    /// A machine.
    pub struct Machine {
        /// 14 hexadecimal digits.
        pub id: String,
        /// Unique among the live machines of its app.
        pub name: String,
        /// Where it is in its life.
        pub state: MachineState,
        /// Region it is in.
        pub region: String,
        /// Version of the machine (a ULID); changes with every update.
        pub instance_id: String,
        /// Version of the machine, normally equal to `instance_id`.
        pub version: Option<String>,
        /// Address in the private network; can change when it starts again.
        pub private_ip: Option<String>,
        /// When it was created.
        pub created_at: Option<Timestamp>,
        /// When it was last changed.
        pub updated_at: Option<Timestamp>,
        /// Its configuration; absent when its host cannot be reached.
        pub config: Option<MachineConfig>,
        /// What is known of its configuration when its host cannot be reached; for display only.
        pub incomplete_config: Option<MachineConfig>,
        /// The image that its host resolved.
        pub image_ref: Option<ImageRef>,
        /// What happened, newest first; about the last twenty.
        pub events: Items<MachineEvent>,
        /// Results of its checks; those of a machine that is not running mean nothing.
        pub checks: Items<CheckStatus>,
        /// Nonce of the lease taken at creation.
        pub nonce: Option<String>,
        /// Whether its host can be reached.
        pub host_status: HostStatus,
        /// Out of the proxy's pool.
        pub cordoned: Option<bool>,
        /// Who holds its lease; only when asked for.
        pub lease: Option<LeaseHolder>,
    }

    /// The image that a host resolved.
    pub struct ImageRef {
        /// Registry's host.
        pub registry: Option<String>,
        /// Repository.
        pub repository: Option<String>,
        /// Tag.
        pub tag: Option<String>,
        /// Digest, `sha256:…`.
        pub digest: Option<String>,
        /// Labels of the image.
        pub labels: Option<BTreeMap<String, String>>,
    }

    /// Something that happened to a machine.
    pub struct MachineEvent {
        /// Id (a ULID).
        pub id: String,
        /// `launch`, `start`, `stop`, `exit`, `restart`, `update`, `destroy`, …
        pub kind: String = "type",
        /// State it led to.
        pub status: String,
        /// `user` or `flyd`.
        pub source: Option<String>,
        /// When, in milliseconds since 1970.
        pub timestamp: Option<i64>,
        /// Details; `null` for launch and destroy.
        pub request: Option<EventRequest>,
    }

    /// Details of an event.
    pub struct EventRequest {
        /// How the program ended.
        pub exit_event: Option<ExitEvent>,
        /// The same from another place; preferred when there.
        pub monitor_event: Option<MonitorEvent> = "MonitorEvent",
        /// How often it was started again.
        pub restart_count: Option<u64>,
    }

    /// How the program ended, as the monitor saw it.
    pub struct MonitorEvent {
        /// How the program ended.
        pub exit_event: Option<ExitEvent>,
    }

    /// How the program ended.
    pub struct ExitEvent {
        /// Exit code of the machine.
        pub exit_code: Option<i64>,
        /// Exit code of the program.
        pub guest_exit_code: Option<i64>,
        /// Signal that ended the program; -1 for none.
        pub guest_signal: Option<i64>,
        /// Signal that ended the machine; -1 for none.
        pub signal: Option<i64>,
        /// When.
        pub exited_at: Option<Timestamp>,
        /// Ran out of memory.
        pub oom_killed: Option<bool>,
        /// Somebody asked it to stop.
        pub requested_stop: Option<bool>,
        /// Is being started again.
        pub restarting: Option<bool>,
    }

    /// Result of one check.
    pub struct CheckStatus {
        /// `servicecheck-00-http-8080` for a service's, else the name it was given.
        pub name: String,
        /// The result.
        pub status: CheckResult,
        /// What the check printed: foreign text, never to be shown whole.
        pub output: Option<String>,
        /// When the result last changed.
        pub updated_at: Option<Timestamp>,
    }

    /// Who holds a lease.
    pub struct LeaseHolder {
        /// Who.
        pub owner: Option<String>,
        /// Until when, in seconds since 1970.
        pub expires_at: Option<i64>,
        /// What for.
        pub description: Option<String>,
    }

}

wire_enum! {
    /// Where a machine is in its life. Source: fly-api.md B.13.
    pub enum MachineState {
        /// Being created.
        Creating = "creating",
        /// Created, never started.
        Created = "created",
        /// Being started.
        Starting = "starting",
        /// Running.
        Started = "started",
        /// Being stopped.
        Stopping = "stopping",
        /// Stopped.
        Stopped = "stopped",
        /// Being suspended.
        Suspending = "suspending",
        /// Suspended.
        Suspended = "suspended",
        /// Being started again.
        Restarting = "restarting",
        /// Being updated.
        Updating = "updating",
        /// Being replaced by its next version.
        Replacing = "replacing",
        /// This version was replaced.
        Replaced = "replaced",
        /// Its launch failed.
        LaunchFailed = "launch_failed",
        /// Failed.
        Failed = "failed",
        /// Being destroyed.
        Destroying = "destroying",
        /// Destroyed; readable by its id only.
        Destroyed = "destroyed",
        /// Moved to another host.
        Migrated = "migrated",
    }

    /// Result of a check.
    pub enum CheckResult {
        /// Passed.
        Passing = "passing",
        /// Not yet decided, or failing a little.
        Warning = "warning",
        /// Failed.
        Critical = "critical",
    }

    /// Whether a host can be reached.
    pub enum HostStatus {
        /// It can.
        Ok = "ok",
        /// Not known.
        Unknown = "unknown",
        /// It cannot.
        Unreachable = "unreachable",
    }
}

impl MachineState {
    /// Whether it is gone, or going.
    pub fn is_over(&self) -> bool {
        matches!(
            self,
            Self::Destroying | Self::Destroyed | Self::Replaced | Self::Migrated
        )
    }
}

impl Machine {
    /// The value of a metadata key.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        let config = self.config.as_ref().or(self.incomplete_config.as_ref())?;
        config.metadata.get(key).map(String::as_str)
    }

    /// How the program ended since it was last started, or given another version: the newest `exit`
    /// event that is newer than the newest `start` and the newest `update` that began (fly-api.md
    /// B.3). What an earlier version did is not this one's failure.
    pub fn exit_since_start(&self) -> Option<&ExitEvent> {
        let exits = self.events.iter().filter(|event| event.kind == "exit");
        let exit = exits.max_by_key(|event| event.timestamp.unwrap_or(i64::MIN))?;
        let exited = exit.timestamp.unwrap_or(i64::MIN);
        let begins = |event: &&MachineEvent| {
            event.kind == "start" || event.kind == "update" && event.status != "replaced"
        };
        let mut begun = self.events.iter().filter(begins);
        if begun.any(|event| event.timestamp.unwrap_or(i64::MIN) > exited) {
            return None;
        }
        exit.exit()
    }
}

impl MachineEvent {
    /// How the program ended, if this is about that.
    pub fn exit(&self) -> Option<&ExitEvent> {
        let request = self.request.as_ref()?;
        let monitor = request
            .monitor_event
            .as_ref()
            .and_then(|event| event.exit_event.as_ref());
        monitor.or(request.exit_event.as_ref())
    }
}

impl Identified for Machine {
    fn identity(&self) -> &str {
        &self.id
    }
}

/// A machine to be created.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NewMachine {
    /// Give one, always: it makes a second create harmless.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Region; nearest to us when empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub region: String,
    /// Its configuration, with our marks in the metadata.
    pub config: MachineConfig,
    /// Do not start it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skip_launch: bool,
    /// Do not enter it into the proxy's pool; `uncordon` does that later.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skip_service_registration: bool,
    /// Take a lease as well, in seconds; its nonce is in the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_ttl: Option<u32>,
    /// Do not start it with secrets older than this version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_secrets_version: Option<u64>,
}

/// An update: replaces the whole configuration. A running machine starts again with it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MachineUpdate {
    /// The whole new configuration, made from the live one.
    pub config: MachineConfig,
    /// The region that it is in; an update moves none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub region: String,
    /// `instance_id` of the machine that the configuration was made from: when it has changed
    /// meanwhile, the answer is `Conflict(Version)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_version: Option<String>,
    /// Keep a stopped machine stopped.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skip_launch: bool,
    /// Keep it out of the proxy's pool.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skip_service_registration: bool,
    /// Do not start it with secrets older than this version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_secrets_version: Option<u64>,
}

const LIST: Endpoint = Endpoint::read(Machines, "GET /v1/apps/{app}/machines").list();
const GET: Endpoint =
    Endpoint::read(Machines, "GET /v1/apps/{app}/machines/{id}").rate(Rate::GET_MACHINE);
const CREATE: Endpoint = Endpoint::change(Machines, "POST /v1/apps/{app}/machines");
const UPDATE: Endpoint = Endpoint::change(Machines, "POST /v1/apps/{app}/machines/{id}");
const DELETE: Endpoint = Endpoint::change(Machines, "DELETE /v1/apps/{app}/machines/{id}");

impl Client {
    /// The live machines of an app whose metadata has all of `metadata`. The list can lag, and
    /// has been wrongly empty: a hint, not a proof of absence.
    pub async fn machines(&self, app: &str, metadata: &[(&str, &str)]) -> Result<Vec<Machine>> {
        let mut call = self.call(&LIST, &[app]);
        for (key, value) in metadata {
            call = call.query(&format!("metadata.{key}"), value);
        }
        call.array().await
    }

    /// The machines of an app whose metadata has all of `metadata`, destroyed ones too: how a
    /// machine with `auto_destroy` ended is read there. The list can lag.
    pub async fn machines_and_destroyed(
        &self,
        app: &str,
        metadata: &[(&str, &str)],
    ) -> Result<Vec<Machine>> {
        let mut call = self.call(&LIST, &[app]).query("include_deleted", "true");
        for (key, value) in metadata {
            call = call.query(&format!("metadata.{key}"), value);
        }
        call.array().await
    }

    /// One machine. `None`: the id has never existed, or is too new; a destroyed machine is
    /// still there, with its state and events.
    pub async fn machine(&self, app: &str, id: &str) -> Result<Option<Machine>> {
        optional(self.call(&GET, &[app, id]).object().await)
    }

    /// Creates a machine. Safe when its reply is lost if `name` is given: a second try answers
    /// `NameTaken` with the id of the first; adopt it if its mark is ours. Without a name a
    /// second try makes a second machine.
    pub async fn create_machine(&self, app: &str, machine: &NewMachine) -> Result<Machine> {
        self.call(&CREATE, &[app]).json(machine).object().await
    }

    /// Updates a machine. Safe when its reply is lost if `current_version` is given: a second
    /// try answers `Conflict(Version)` when the first got through. Read the machine again and
    /// compare; Fly.io has been seen to revert an update silently.
    pub async fn update_machine(
        &self,
        app: &str,
        id: &str,
        update: &MachineUpdate,
        lease: Option<&str>,
    ) -> Result<Machine> {
        self.call(&UPDATE, &[app, id])
            .json(update)
            .leased(lease)
            .object()
            .await
    }

    /// Destroys a machine; with `force` also a running one. Already gone is success, so it is
    /// safe when its reply is lost.
    pub async fn delete_machine(
        &self,
        app: &str,
        id: &str,
        force: bool,
        lease: Option<&str>,
    ) -> Result<()> {
        let call = self.call(&DELETE, &[app, id]).leased(lease);
        let call = if force {
            call.query("force", "true")
        } else {
            call
        };
        gone_is_done(call.done().await)
    }
}

impl Call<'_> {
    /// Shows that we hold the machine's lease.
    pub(crate) fn leased(self, nonce: Option<&str>) -> Self {
        match nonce {
            Some(nonce) => self.header("fly-machine-lease-nonce", nonce),
            None => self,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_machine_full_of_garbage_still_reads() {
        let machine: Machine = serde_json::from_value(json!({
            "id": "148ed599b14d89",
            "state": "hibernating",
            "config": null,
            "created_at": "yesterday",
            "checks": [null, 5, {"name": "servicecheck-00-http-8080", "status": "passing"}],
            "events": [{"type": "launch", "request": null, "timestamp": "x"}, "what"],
            "image_ref": [],
            "host_status": "ok",
            "cordoned": "no",
            "unheard_of": {"a": 1},
        }))
        .unwrap();
        assert_eq!(machine.state, MachineState::Other("hibernating".into()));
        assert_eq!(machine.checks.len(), 1);
        assert_eq!(machine.events.len(), 1);
        assert_eq!(
            (machine.config, machine.image_ref, machine.cordoned),
            (None, None, None)
        );
        assert_eq!(machine.host_status, HostStatus::Ok);
    }

    #[test]
    fn an_exit_counts_only_after_the_last_start() {
        let machine = |events| -> Machine {
            serde_json::from_value(json!({"id": "1", "events": events})).unwrap()
        };
        let exit = json!({"type": "exit", "timestamp": 30, "request": {
            "exit_event": {"exit_code": 3, "oom_killed": true}, "restart_count": 0}});
        let start = |at| json!({"type": "start", "timestamp": at, "status": "started"});

        let ended = machine(json!([exit, start(20)]));
        assert_eq!(ended.exit_since_start().unwrap().exit_code, Some(3));
        let running = machine(json!([start(40), exit, start(20)]));
        assert_eq!(running.exit_since_start(), None);
        assert_eq!(machine(json!([start(40)])).exit_since_start(), None);
        let update = |at: i64, status: &str| json!({"id": "u", "type": "update", "status": status, "timestamp": at});
        let begun = machine(json!([update(40, "replacing"), exit, start(20)]));
        assert_eq!(begun.exit_since_start(), None, "of the version before");
        let late = machine(json!([update(40, "replaced"), exit, start(20)]));
        assert!(late.exit_since_start().is_some());
    }

    #[test]
    fn the_monitors_word_on_an_exit_is_preferred() {
        let event: MachineEvent = serde_json::from_value(json!({"type": "exit", "request": {
            "exit_event": {"exit_code": 0},
            "MonitorEvent": {"exit_event": {"exit_code": 137}},
        }}))
        .unwrap();
        assert_eq!(event.exit().unwrap().exit_code, Some(137));
    }

    #[test]
    fn a_create_sends_only_what_was_asked_for() {
        let machine = NewMachine {
            name: "cabanas-app-0".into(),
            config: MachineConfig {
                image: "x".into(),
                ..Default::default()
            },
            ..Default::default()
        };
        assert_eq!(
            serde_json::to_value(&machine).unwrap(),
            json!({"name": "cabanas-app-0", "config": {"image": "x"}})
        );
    }
}
