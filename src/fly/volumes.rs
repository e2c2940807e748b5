//! Volumes of an app. Sources: fly.io/docs/machines/api/volumes-resource/,
//! fly.io/docs/volumes/volume-states/.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::call::Endpoint;
use super::error::Result;
use super::machine_config::MachineGuest;
use super::token::Surface::Machines;
use super::wire::{wire, wire_enum};
use crate::fly::call::answer::{Identified, gone_is_done, optional};
use crate::fly::call::client::Client;

wire! {
    /// A volume: in one region, on one host, for at most one machine.
    pub struct Volume {
        /// Id, `vol_…`. Changes when the volume is migrated.
        pub id: String,
        /// Name; several may have the same.
        pub name: String,
        /// Its state.
        pub state: VolumeState,
        /// Size, in GB.
        pub size_gb: Option<u32>,
        /// Region.
        pub region: String,
        /// Zone within the region.
        pub zone: Option<String>,
        /// Whether it is encrypted.
        pub encrypted: Option<bool>,
        /// Machine that it is attached to.
        pub attached_machine_id: Option<String>,
        /// When it was created.
        pub created_at: Option<Timestamp>,
        /// Days for which snapshots are retained.
        pub snapshot_retention: Option<u32>,
        /// Whether snapshots are taken automatically.
        pub auto_backup_enabled: Option<bool>,
        /// Reachability of its host: `ok`, `unknown`, `unreachable`.
        pub host_status: Option<String>,
    }
}

wire_enum! {
    /// State of a volume.
    pub enum VolumeState {
        /// Being created.
        Creating = "creating",
        /// Ready.
        Created = "created",
        /// Being extended.
        Extending = "extending",
        /// Being restored from a snapshot.
        Restoring = "restoring",
        /// A copy whose content is still being transferred; can be mounted.
        Hydrating = "hydrating",
        /// Being recovered.
        Recovering = "recovering",
        /// Scheduled to be destroyed.
        ScheduledDestroy = "scheduling_destroy",
        /// Deleted; retained for 24 hours.
        PendingDestroy = "pending_destroy",
        /// Deleted once its machine detaches it.
        WaitingForDetach = "waiting_for_detach",
        /// Being destroyed.
        Destroying = "destroying",
        /// A copy that is being removed.
        ForkCleanup = "fork_cleanup",
    }
}

impl VolumeState {
    /// Whether it is deleted or being deleted.
    pub fn is_over(&self) -> bool {
        matches!(
            self,
            Self::ScheduledDestroy
                | Self::PendingDestroy
                | Self::WaitingForDetach
                | Self::Destroying
                | Self::ForkCleanup
        )
    }
}

impl Volume {
    /// Whether a new machine may mount it.
    pub fn is_free(&self) -> bool {
        let attached = self
            .attached_machine_id
            .as_deref()
            .is_some_and(|id| !id.is_empty());
        !attached && matches!(self.state, VolumeState::Created | VolumeState::Hydrating)
    }
}

impl Identified for Volume {
    fn identity(&self) -> &str {
        &self.id
    }
}

/// A volume to create. Fly.io has defaults for absent fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NewVolume {
    /// Letters, digits and `_`; at most 30.
    pub name: String,
    /// Region.
    pub region: String,
    /// Size, in GB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_gb: Option<u32>,
    /// Encrypted unless `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encrypted: Option<bool>,
    /// On another host than the app's other volumes of this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub require_unique_zone: Option<bool>,
    /// Days for which snapshots are retained: 1–60.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_retention: Option<u32>,
    /// Whether snapshots are taken automatically, every day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_backup_enabled: Option<bool>,
    /// Size of the machine that will mount it, so that Fly.io chooses a host with that capacity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compute: Option<MachineGuest>,
    /// Image of the machine that will mount it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compute_image: Option<String>,
}

const LIST: Endpoint = Endpoint::read(Machines, "GET /v1/apps/{app}/volumes").list();
const GET: Endpoint = Endpoint::read(Machines, "GET /v1/apps/{app}/volumes/{id}");
const CREATE: Endpoint = Endpoint::change(Machines, "POST /v1/apps/{app}/volumes");
const DELETE: Endpoint = Endpoint::change(Machines, "DELETE /v1/apps/{app}/volumes/{id}");
const EXTEND: Endpoint = Endpoint::change(Machines, "PUT /v1/apps/{app}/volumes/{id}/extend");

impl Client {
    /// The volumes of an app, including those that are being destroyed.
    pub async fn volumes(&self, app: &str) -> Result<Vec<Volume>> {
        self.call(&LIST, &[app]).array().await
    }

    /// One volume.
    pub async fn volume(&self, app: &str, id: &str) -> Result<Option<Volume>> {
        optional(self.call(&GET, &[app, id]).object().await)
    }

    /// Creates a volume. NOT idempotent: names are not unique. Record the intent first, and after
    /// an unknown outcome list the volumes before a retry.
    pub async fn create_volume(&self, app: &str, volume: &NewVolume) -> Result<Volume> {
        self.call(&CREATE, &[app]).json(volume).object().await
    }

    /// Deletes a volume with its data. Idempotent: a missing one counts as deleted. Refused while a
    /// machine has it.
    pub async fn delete_volume(&self, app: &str, id: &str) -> Result<()> {
        gone_is_done(self.call(&DELETE, &[app, id]).done().await)
    }

    /// Extends a volume. Idempotent. Returns whether its machine must be restarted to see the new
    /// size.
    pub async fn extend_volume(&self, app: &str, id: &str, size_gb: u32) -> Result<bool> {
        let answer: serde_json::Value = self
            .call(&EXTEND, &[app, id])
            .json(&json!({ "size_gb": size_gb }))
            .read()
            .await?;
        Ok(answer
            .get("needs_restart")
            .and_then(serde_json::Value::as_bool)
            .unwrap_or(false))
    }
}
