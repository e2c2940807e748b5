//! Fly.io's record of releases, as flyctl writes it (`internal/uiex`).

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::call::Endpoint;
use super::error::Result;
use super::token::Surface::Uiex;
use super::wire::{wire, wire_enum};
use crate::fly::call::answer::Identified;
use crate::fly::call::client::Client;

wire! {
    /// A release.
    pub struct Release {
        /// Opaque id; goes into the machines' metadata as `fly_release_id`.
        pub id: String,
        /// Number, counted per app; goes into the machines' metadata as `fly_release_version`.
        pub version: Option<u64>,
        /// Its state.
        pub status: ReleaseStatus,
        /// Whether it is marked stable.
        pub stable: Option<bool>,
        /// Whether it is in progress.
        pub in_progress: Option<bool>,
        /// Deployment strategy.
        pub strategy: Option<String>,
        /// Image.
        pub image_ref: Option<String>,
        /// When it was created.
        pub created_at: Option<Timestamp>,
    }
}

wire_enum! {
    /// State of a release.
    pub enum ReleaseStatus {
        /// Created.
        Pending = "pending",
        /// In progress.
        Running = "running",
        /// Succeeded.
        Complete = "complete",
        /// Failed.
        Failed = "failed",
        /// Interrupted.
        Interrupted = "interrupted",
    }
}

impl Identified for Release {
    fn identity(&self) -> &str {
        &self.id
    }
}

/// A release to record.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NewRelease {
    /// App.
    pub app_name: String,
    /// Image.
    pub image: String,
    /// `ROLLING`, `IMMEDIATE`, `CANARY` or `BLUEGREEN`.
    pub strategy: String,
    /// The app's configuration as JSON.
    pub definition: Value,
    /// Id of the build of the image; 0 for none.
    pub build_id: u64,
}

const CREATE: Endpoint = Endpoint::change(Uiex, "POST /api/v1/releases");
const UPDATE: Endpoint = Endpoint::change(Uiex, "PATCH /api/v1/releases/{id}");
const LIST: Endpoint = Endpoint::read(Uiex, "GET /api/v1/apps/{app}/releases").list();

impl Client {
    /// Records a release. NOT idempotent, but harmless: a retry leaves a gap in the numbers. The
    /// newest release with our image and status `pending` is ours.
    pub async fn create_release(&self, release: &NewRelease) -> Result<Release> {
        self.call(&CREATE, &[])
            .json(release)
            .object_in(&["release"])
            .await
    }

    /// Sets the state of a release. Idempotent.
    pub async fn set_release_status(
        &self,
        id: &str,
        status: &ReleaseStatus,
        metadata: Option<Value>,
    ) -> Result<()> {
        self.call(&UPDATE, &[id])
            .json(&json!({ "status": status, "metadata": metadata }))
            .done()
            .await
    }

    /// The newest releases of an app.
    pub async fn releases(&self, app: &str, limit: u32) -> Result<Vec<Release>> {
        self.call(&LIST, &[app])
            .query("limit", &limit.to_string())
            .array_in("releases")
            .await
    }
}
