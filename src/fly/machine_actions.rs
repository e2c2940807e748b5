//! Actions on a machine: start, stop, cordon, wait, run a command, lease, metadata. Source:
//! fly.io/docs/machines/api/machines-resource/.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::call::Endpoint;
use super::error::Result;
use super::machine_config::StopConfig;
use super::machines::MachineState;
use super::token::Surface::Machines;
use super::wire::wire;
use crate::fly::call::answer::{Identified, gone_is_done, optional};
use crate::fly::call::client::Client;

/// Extra time for the network on calls that wait at Fly.io.
const TRAVEL: Duration = Duration::from_secs(15);

/// Longest wait of one call: Fly.io's proxy ends it after 60 s.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What to wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitFor {
    /// `started`, `stopped`, `suspended`, `destroyed`, `failed` or `settled` (as
    /// `MachineState::Other`). A machine with `auto_destroy` never becomes `stopped`: wait for
    /// `destroyed`.
    pub state: MachineState,
    /// Wait for this version of the machine (its `instance_id`).
    pub version: Option<String>,
    /// How long the call waits: 1–60 s.
    pub timeout: Duration,
}

/// How a wait ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waited {
    /// The state was reached.
    Reached {
        /// Version of the machine that reached it, if the response contains it.
        version: Option<String>,
    },
    /// Not yet: wait again.
    NotYet,
    /// There is no such machine: it is too new, or had `auto_destroy` and ended.
    Gone,
}

/// A command to run in a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ExecRequest {
    /// The program and its arguments; there is no shell.
    pub command: Vec<String>,
    /// Longest time, in seconds; below 60.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u32>,
    /// Standard input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// The container, in a machine with several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
}

wire! {
    /// How a command ended. Its output is foreign text: never for status or events.
    pub struct ExecOutcome {
        /// Exit code; absent means 0.
        pub exit_code: Option<i64>,
        /// Signal that ended it; 0 for none.
        pub exit_signal: Option<i64>,
        /// Standard output.
        pub stdout: Option<String>,
        /// Standard error.
        pub stderr: Option<String>,
    }

    /// A lease that we hold. Keep it short: it also keeps the proxy from starting the machine.
    pub struct Lease {
        /// Sent with every change to the machine.
        pub nonce: String,
        /// When it expires, in seconds since 1970.
        pub expires_at: Option<i64>,
        /// Its holder.
        pub owner: Option<String>,
        /// Its purpose.
        pub description: Option<String>,
        /// Version of the machine when it was taken.
        pub version: Option<String>,
    }
}

impl Identified for Lease {
    fn identity(&self) -> &str {
        &self.nonce
    }
}

const START: Endpoint = Endpoint::change(Machines, "POST /v1/apps/{app}/machines/{id}/start");
const STOP: Endpoint = Endpoint::change(Machines, "POST /v1/apps/{app}/machines/{id}/stop");
const CORDON: Endpoint = Endpoint::change(Machines, "POST /v1/apps/{app}/machines/{id}/cordon");
const UNCORDON: Endpoint = Endpoint::change(Machines, "POST /v1/apps/{app}/machines/{id}/uncordon");
const WAIT: Endpoint = Endpoint::read(Machines, "GET /v1/apps/{app}/machines/{id}/wait")
    .once()
    .expects(&[408]);
const EXEC: Endpoint = Endpoint::change(Machines, "POST /v1/apps/{app}/machines/{id}/exec");
const METADATA: Endpoint = Endpoint::read(Machines, "GET /v1/apps/{app}/machines/{id}/metadata");
const PATCH_METADATA: Endpoint =
    Endpoint::change(Machines, "PATCH /v1/apps/{app}/machines/{id}/metadata");
const LEASE: Endpoint = Endpoint::change(Machines, "POST /v1/apps/{app}/machines/{id}/lease");
const RELEASE: Endpoint = Endpoint::change(Machines, "DELETE /v1/apps/{app}/machines/{id}/lease");

impl Client {
    /// Starts a machine. Idempotent. Fails with `Conflict(State)` right after a create or update:
    /// wait until it has settled.
    pub async fn start_machine(&self, app: &str, id: &str, lease: Option<&str>) -> Result<()> {
        self.call(&START, &[app, id]).leased(lease).done().await
    }

    /// Begins to stop a machine; `how` overrides its own configuration. Idempotent. Wait for
    /// `stopped` afterwards.
    pub async fn stop_machine(
        &self,
        app: &str,
        id: &str,
        how: Option<&StopConfig>,
        lease: Option<&str>,
    ) -> Result<()> {
        let call = self.call(&STOP, &[app, id]).leased(lease);
        match how {
            Some(how) => call.json(how).done().await,
            None => call.done().await,
        }
    }

    /// Removes a machine from the proxy's pool; it keeps running. Idempotent.
    pub async fn cordon_machine(&self, app: &str, id: &str, lease: Option<&str>) -> Result<()> {
        self.call(&CORDON, &[app, id]).leased(lease).done().await
    }

    /// Adds a machine to the proxy's pool. Idempotent.
    pub async fn uncordon_machine(&self, app: &str, id: &str, lease: Option<&str>) -> Result<()> {
        self.call(&UNCORDON, &[app, id]).leased(lease).done().await
    }

    /// Waits until a machine is in a state: one long poll, to be repeated on `NotYet`. Not retried
    /// here; a transient error means the same as `NotYet`.
    pub async fn wait_machine(&self, app: &str, id: &str, what: &WaitFor) -> Result<Waited> {
        let timeout = what.timeout.clamp(Duration::from_secs(1), LONGEST_WAIT);
        let reply = optional(
            self.call(&WAIT, &[app, id])
                .query("state", what.state.as_str())
                .query("timeout", &timeout.as_secs().to_string())
                .query_if("version", what.version.as_deref())
                .timeout(timeout + TRAVEL)
                .send()
                .await,
        )?;
        Ok(match reply {
            None => Waited::Gone,
            Some(reply) if reply.status == 408 => Waited::NotYet,
            Some(reply) => {
                let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
                let version = body
                    .get("version")
                    .and_then(Value::as_str)
                    .map(str::to_owned);
                Waited::Reached { version }
            }
        })
    }

    /// Runs a command in a running machine. A non-zero exit code is no error here. NOT idempotent:
    /// after an unknown outcome the command may have run.
    pub async fn exec(
        &self,
        app: &str,
        id: &str,
        request: &ExecRequest,
        lease: Option<&str>,
    ) -> Result<ExecOutcome> {
        let timeout = Duration::from_secs(u64::from(request.timeout.unwrap_or(60)));
        self.call(&EXEC, &[app, id])
            .leased(lease)
            .json(request)
            .timeout(timeout + TRAVEL)
            .read()
            .await
    }

    /// All metadata of a machine. Lags slightly behind changes.
    pub async fn metadata(&self, app: &str, id: &str) -> Result<BTreeMap<String, String>> {
        let marks: Map<String, Value> = self.call(&METADATA, &[app, id]).read().await?;
        let text = |(key, value): (String, Value)| Some((key, value.as_str()?.to_owned()));
        Ok(marks.into_iter().filter_map(text).collect())
    }

    /// Sets and (`None`) removes metadata; the machine is not restarted. Idempotent.
    pub async fn patch_metadata(
        &self,
        app: &str,
        id: &str,
        marks: &BTreeMap<String, Option<String>>,
        lease: Option<&str>,
    ) -> Result<()> {
        self.call(&PATCH_METADATA, &[app, id])
            .leased(lease)
            .json(&json!({"metadata": marks}))
            .done()
            .await
    }

    /// Takes the lease of a machine for `ttl` (flyctl: 13 s, refreshed every 4 s). After an unknown
    /// outcome the lease may be held by a nonce that nobody knows until it expires, so keep `ttl`
    /// short.
    pub async fn acquire_lease(
        &self,
        app: &str,
        id: &str,
        ttl: Duration,
        description: &str,
    ) -> Result<Lease> {
        self.call(&LEASE, &[app, id])
            .json(&json!({"ttl": ttl.as_secs().max(1), "description": description}))
            .object_in(&["data"])
            .await
    }

    /// Extends a lease that we hold to `ttl` from now. Idempotent.
    pub async fn refresh_lease(
        &self,
        app: &str,
        id: &str,
        nonce: &str,
        ttl: Duration,
    ) -> Result<Lease> {
        self.call(&LEASE, &[app, id])
            .leased(Some(nonce))
            .json(&json!({"ttl": ttl.as_secs().max(1)}))
            .object_in(&["data"])
            .await
    }

    /// Releases a lease. Idempotent: a missing one counts as released.
    pub async fn release_lease(&self, app: &str, id: &str, nonce: &str) -> Result<()> {
        gone_is_done(
            self.call(&RELEASE, &[app, id])
                .leased(Some(nonce))
                .done()
                .await,
        )
    }
}
