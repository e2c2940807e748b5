//! Fly apps. Names are unique across all of Fly.io. Source:
//! fly.io/docs/machines/api/apps-resource/.

use serde::Serialize;

use super::call::Endpoint;
use super::error::Result;
use super::token::Surface::Machines;
use super::wire::{wire, wire_enum};
use crate::fly::call::answer::{Identified, gone_is_done, optional};
use crate::fly::call::client::Client;
use crate::fly::call::limit::Rate;

wire! {
    /// An app.
    pub struct App {
        /// Opaque; equals the name for most older apps.
        pub id: String,
        /// Its name.
        pub name: String,
        /// Its state.
        pub status: AppStatus,
        /// Its organization.
        pub organization: Option<AppOrganization>,
        /// Numeric id, as tokens contain it.
        pub internal_numeric_id: Option<u64>,
        /// Its private network.
        pub network: Option<String>,
        /// Number of machines.
        pub machine_count: Option<u64>,
        /// Number of volumes.
        pub volume_count: Option<u64>,
        /// Target of the CNAME record of a custom hostname.
        pub cname_target: Option<String>,
        /// `postgres_cluster` for legacy Fly Postgres.
        pub app_role: Option<String>,
    }

    /// The organization of an app.
    pub struct AppOrganization {
        /// Display name.
        pub name: Option<String>,
        /// Slug.
        pub slug: String,
        /// Numeric id, as tokens contain it.
        pub internal_numeric_id: Option<u64>,
    }
}

wire_enum! {
    /// State of an app.
    pub enum AppStatus {
        /// Never had a machine.
        Pending = "pending",
        /// Has been deployed.
        Deployed = "deployed",
        /// Has been suspended; counts as deployed.
        Suspended = "suspended",
        /// All machines are gone.
        Dead = "dead",
    }
}

impl Identified for App {
    fn identity(&self) -> &str {
        if self.name.is_empty() {
            &self.id
        } else {
            &self.name
        }
    }
}

/// An app to be created.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NewApp {
    /// Its name: below 63 characters, lower-case letters, digits and dashes.
    pub name: String,
    /// Slug of the organization.
    pub org_slug: String,
    /// Private network; the organization's default when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// `postgres_cluster` for legacy Fly Postgres.
    #[serde(rename = "app_role_id", skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

const LIST: Endpoint = Endpoint::read(Machines, "GET /v1/apps").list();
const GET: Endpoint = Endpoint::read(Machines, "GET /v1/apps/{app}");
const CREATE: Endpoint = Endpoint::change(Machines, "POST /v1/apps");
const DELETE: Endpoint = Endpoint::change(Machines, "DELETE /v1/apps/{app}").rate(Rate::DELETE_APP);

impl Client {
    /// All apps of an organization.
    pub async fn apps(&self, org_slug: &str) -> Result<Vec<App>> {
        self.call(&LIST, &[])
            .query("org_slug", org_slug)
            .counted_by(org_slug)
            .array_in("apps")
            .await
    }

    /// One app. `None`: it does not exist, or is not visible yet (up to a minute after creation).
    /// For an app of another organization the error is `Auth` with status 403.
    pub async fn app(&self, name: &str) -> Result<Option<App>> {
        optional(self.call(&GET, &[name]).object().await)
    }

    /// Creates an app. Idempotent: names are unique, so a retry fails with `NameTaken`, and
    /// [`Client::app`] shows the owner (403 when it is not ours).
    pub async fn create_app(&self, app: &NewApp) -> Result<App> {
        let call = self
            .call(&CREATE, &[])
            .counted_by(&app.org_slug)
            .query("wait", "true")
            .json(app);
        let mut created: App = call.object().await?;
        // By the OpenAPI specification the response contains only an id.
        if created.name.is_empty() {
            created.name.clone_from(&app.name);
        }
        Ok(created)
    }

    /// Deletes an app; with `force` also its machines. Idempotent unless somebody else takes the
    /// name in between, so check the owner before a retry. A missing app counts as deleted.
    pub async fn delete_app(&self, name: &str, force: bool) -> Result<()> {
        // The limit applies to all deletions together, not to those of one app.
        let call = self.call(&DELETE, &[name]).counted_by("all apps");
        let call = if force {
            call.query("force", "true")
        } else {
            call
        };
        gone_is_done(call.done().await)
    }
}
