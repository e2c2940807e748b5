//! Volumes of an app. Source: fly-api.md B.9, L.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::call::Endpoint;
use super::error::Result;
use super::machine_config::MachineGuest;
use super::token::Surface::Machines;
use super::wire::{wire, wire_enum};
use crate::fly::call::answer::{Identified, optional};
use crate::fly::call::client::Client;

wire! {
    /// A volume: in one region, on one host, for at most one machine.
    pub struct Volume {
        /// Id, `vol_…`. A migration gives a new one.
        pub id: String,
        /// Name; several may have the same.
        pub name: String,
        /// Where it is in its life.
        pub state: VolumeState,
        /// Size, in GB.
        pub size_gb: Option<u32>,
        /// Region.
        pub region: String,
        /// Zone within the region.
        pub zone: Option<String>,
        /// Whether it is encrypted.
        pub encrypted: Option<bool>,
        /// Machine that has it.
        pub attached_machine_id: Option<String>,
        /// When it was created.
        pub created_at: Option<Timestamp>,
        /// Days that snapshots are kept.
        pub snapshot_retention: Option<u32>,
        /// Whether snapshots are taken by themselves.
        pub auto_backup_enabled: Option<bool>,
        /// Whether its host can be reached: `ok`, `unknown`, `unreachable`.
        pub host_status: Option<String>,
    }
}

wire_enum! {
    /// Where a volume is in its life.
    pub enum VolumeState {
        /// Being created.
        Creating = "creating",
        /// There.
        Created = "created",
        /// Being made larger.
        Extending = "extending",
        /// Being restored from a snapshot.
        Restoring = "restoring",
        /// A copy whose content is still coming; can be mounted.
        Hydrating = "hydrating",
        /// Being recovered.
        Recovering = "recovering",
        /// To be destroyed.
        ScheduledDestroy = "scheduling_destroy",
        /// Deleted; kept for 24 hours.
        PendingDestroy = "pending_destroy",
        /// Deleted when its machine lets go.
        WaitingForDetach = "waiting_for_detach",
        /// Being destroyed.
        Destroying = "destroying",
        /// A copy that is being tidied away.
        ForkCleanup = "fork_cleanup",
    }
}

impl VolumeState {
    /// Whether it is gone, or going.
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

/// A volume to be created. Absent fields have Fly.io's defaults.
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
    /// Days that snapshots are kept: 1–60.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_retention: Option<u32>,
    /// Whether snapshots are taken by themselves, every day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_backup_enabled: Option<bool>,
    /// Size of the machine that will mount it, so that its host has room for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compute: Option<MachineGuest>,
    /// Image of the machine that will mount it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compute_image: Option<String>,
}

const LIST: Endpoint = Endpoint::read(Machines, "GET /v1/apps/{app}/volumes").list();
const GET: Endpoint = Endpoint::read(Machines, "GET /v1/apps/{app}/volumes/{id}");
const CREATE: Endpoint = Endpoint::change(Machines, "POST /v1/apps/{app}/volumes");
const EXTEND: Endpoint = Endpoint::change(Machines, "PUT /v1/apps/{app}/volumes/{id}/extend");

impl Client {
    /// The volumes of an app, those that are being destroyed too.
    pub async fn volumes(&self, app: &str) -> Result<Vec<Volume>> {
        self.call(&LIST, &[app]).array().await
    }

    /// One volume.
    pub async fn volume(&self, app: &str, id: &str) -> Result<Option<Volume>> {
        optional(self.call(&GET, &[app, id]).object().await)
    }

    /// Creates a volume. NOT safe when its reply is lost: names are not unique. Announce it,
    /// and on an unknown outcome list the volumes before a second try.
    pub async fn create_volume(&self, app: &str, volume: &NewVolume) -> Result<Volume> {
        self.call(&CREATE, &[app]).json(volume).object().await
    }

    /// Makes a volume larger. Safe when its reply is lost. Says whether its machine must start
    /// again to see it.
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
