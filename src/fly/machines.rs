//! Machines: list, read, create, update, delete. Sources:
//! fly.io/docs/machines/api/machines-resource/, fly.io/docs/machines/machine-states/.
//!
//! Lists lag behind. A read by id lags less, and also returns destroyed machines (state
//! `destroyed`). Never conclude from a list alone that a machine does not exist.

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
        /// Its state.
        pub state: MachineState,
        /// Its region.
        pub region: String,
        /// Version of the machine (a ULID); changes with every update.
        pub instance_id: String,
        /// Version of the machine, normally equal to `instance_id`.
        pub version: Option<String>,
        /// Address in the private network; can change at a restart.
        pub private_ip: Option<String>,
        /// When it was created.
        pub created_at: Option<Timestamp>,
        /// When it was last changed.
        pub updated_at: Option<Timestamp>,
        /// Its configuration; absent when its host cannot be reached.
        pub config: Option<MachineConfig>,
        /// Partial configuration when its host cannot be reached; for display only.
        pub incomplete_config: Option<MachineConfig>,
        /// The image as its host resolved it.
        pub image_ref: Option<ImageRef>,
        /// About the last twenty events, newest first.
        pub events: Items<MachineEvent>,
        /// Results of its checks; meaningless when it is not running.
        pub checks: Items<CheckStatus>,
        /// Nonce of the lease taken at creation.
        pub nonce: Option<String>,
        /// Reachability of its host.
        pub host_status: HostStatus,
        /// Whether it is removed from the proxy's pool.
        pub cordoned: Option<bool>,
        /// Holder of its lease, if requested.
        pub lease: Option<LeaseHolder>,
    }

    /// An image as a host resolved it.
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

    /// An event of a machine.
    pub struct MachineEvent {
        /// Id (a ULID).
        pub id: String,
        /// `launch`, `start`, `stop`, `exit`, `restart`, `update`, `destroy`, …
        pub kind: String = "type",
        /// Resulting state.
        pub status: String,
        /// `user` or `flyd`.
        pub source: Option<String>,
        /// Time in milliseconds since 1970.
        pub timestamp: Option<i64>,
        /// Details; `null` for launch and destroy.
        pub request: Option<EventRequest>,
    }

    /// Details of an event.
    pub struct EventRequest {
        /// How the program ended.
        pub exit_event: Option<ExitEvent>,
        /// The same from the monitor; preferred when present.
        pub monitor_event: Option<MonitorEvent> = "MonitorEvent",
        /// Number of restarts.
        pub restart_count: Option<u64>,
    }

    /// How the program ended, as the monitor observed it.
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
        /// Whether it ran out of memory.
        pub oom_killed: Option<bool>,
        /// Whether a stop was requested.
        pub requested_stop: Option<bool>,
        /// Whether it is being restarted.
        pub restarting: Option<bool>,
    }

    /// Result of one check.
    pub struct CheckStatus {
        /// `servicecheck-00-http-8080` for a check of a service, else its name.
        pub name: String,
        /// The result.
        pub status: CheckResult,
        /// Output of the check: foreign text, never shown whole.
        pub output: Option<String>,
        /// When the result last changed.
        pub updated_at: Option<Timestamp>,
    }

    /// Holder of a lease.
    pub struct LeaseHolder {
        /// Its name.
        pub owner: Option<String>,
        /// Expiry in seconds since 1970.
        pub expires_at: Option<i64>,
        /// Its purpose.
        pub description: Option<String>,
    }

}

wire_enum! {
    /// State of a machine. Source: fly.io/docs/machines/machine-states/.
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
        /// Being restarted.
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
        /// Destroyed; returned by id only.
        Destroyed = "destroyed",
        /// Moved to another host.
        Migrated = "migrated",
    }

    /// Result of a check.
    pub enum CheckResult {
        /// Passed.
        Passing = "passing",
        /// Undecided, or failing partly.
        Warning = "warning",
        /// Failed.
        Critical = "critical",
    }

    /// Reachability of a host.
    pub enum HostStatus {
        /// Reachable.
        Ok = "ok",
        /// Not known.
        Unknown = "unknown",
        /// Unreachable.
        Unreachable = "unreachable",
    }
}

impl MachineState {
    /// Whether it is deleted or being deleted.
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

    /// How the program ended since its last start or update: the newest `exit` event after the
    /// newest `start` and the newest `update` that began. The exit of an earlier version is no
    /// failure of this one.
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
    /// How the program ended, if this is an `exit` event.
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

/// A machine to create.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NewMachine {
    /// Always set: it makes the create idempotent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Region; the nearest one when empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub region: String,
    /// Its configuration, with our metadata.
    pub config: MachineConfig,
    /// Do not start it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skip_launch: bool,
    /// Do not add it to the proxy's pool; `uncordon` does that later.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skip_service_registration: bool,
    /// Also take a lease of this many seconds; the response contains its nonce.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_ttl: Option<u32>,
    /// Do not start it with secrets older than this version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_secrets_version: Option<u64>,
}

/// An update: replaces the whole configuration and restarts a running machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MachineUpdate {
    /// The whole new configuration, derived from the live one.
    pub config: MachineConfig,
    /// Its region; an update does not move it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub region: String,
    /// `instance_id` of the machine that the configuration is derived from. If it has changed
    /// meanwhile, the update fails with `Conflict(Version)`.
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
    /// The live machines of an app whose metadata has all of `metadata`. The list can lag and can
    /// be wrongly empty: it does not prove absence.
    pub async fn machines(&self, app: &str, metadata: &[(&str, &str)]) -> Result<Vec<Machine>> {
        let mut call = self.call(&LIST, &[app]);
        for (key, value) in metadata {
            call = call.query(&format!("metadata.{key}"), value);
        }
        call.array().await
    }

    /// The machines of an app whose metadata has all of `metadata`, including destroyed ones, such
    /// as a machine with `auto_destroy` that has ended. The list can lag.
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

    /// One machine. `None`: the id never existed, or is too new. A destroyed machine is returned
    /// with its state and events.
    pub async fn machine(&self, app: &str, id: &str) -> Result<Option<Machine>> {
        optional(self.call(&GET, &[app, id]).object().await)
    }

    /// Creates a machine. Idempotent if `name` is set: a retry fails with `NameTaken` and the id of
    /// the first; adopt it if its metadata is ours. Without a name a retry creates a second
    /// machine.
    pub async fn create_machine(&self, app: &str, machine: &NewMachine) -> Result<Machine> {
        self.call(&CREATE, &[app]).json(machine).object().await
    }

    /// Updates a machine. Idempotent if `current_version` is set: a retry fails with
    /// `Conflict(Version)` when the first succeeded. Read the machine back and compare: Fly.io
    /// sometimes reverts an update silently.
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

    /// Destroys a machine; with `force` also a running one. Idempotent: a missing one counts as
    /// deleted.
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
    /// Adds the nonce of the machine's lease.
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
