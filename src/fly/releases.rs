//! Fly.io's record of releases. Source: fly-api.md D.4.

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
        /// Number, counted per app; goes there as `fly_release_version`.
        pub version: Option<u64>,
        /// Where it is in its life.
        pub status: ReleaseStatus,
        /// Whether it is good.
        pub stable: Option<bool>,
        /// Whether it is going on.
        pub in_progress: Option<bool>,
        /// How machines were replaced.
        pub strategy: Option<String>,
        /// Image.
        pub image_ref: Option<String>,
        /// When it was made.
        pub created_at: Option<Timestamp>,
    }
}

wire_enum! {
    /// Where a release is in its life.
    pub enum ReleaseStatus {
        /// Made.
        Pending = "pending",
        /// Going on.
        Running = "running",
        /// Done.
        Complete = "complete",
        /// Failed.
        Failed = "failed",
        /// Broken off.
        Interrupted = "interrupted",
    }
}

impl Identified for Release {
    fn identity(&self) -> &str {
        &self.id
    }
}

/// A release to be recorded.
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
    /// Build that made the image; 0 for none.
    pub build_id: u64,
}

const CREATE: Endpoint = Endpoint::change(Uiex, "POST /api/v1/releases");
const UPDATE: Endpoint = Endpoint::change(Uiex, "PATCH /api/v1/releases/{id}");
const LIST: Endpoint = Endpoint::read(Uiex, "GET /api/v1/apps/{app}/releases").list();

impl Client {
    /// Records a release. When its reply is lost, a second one only makes a gap in the
    /// numbers; the newest release in the list with our image and status `pending` is ours.
    pub async fn create_release(&self, release: &NewRelease) -> Result<Release> {
        self.call(&CREATE, &[])
            .json(release)
            .object_in(&["release"])
            .await
    }

    /// Sets the state of a release. Safe when its reply is lost.
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
