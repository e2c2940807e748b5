//! Regions. Source: fly-api.md B.12.

use std::time::Duration;

use serde_json::json;

use super::call::Endpoint;
use super::error::Result;
use super::machine_config::MachineGuest;
use super::token::Surface::Machines;
use super::wire::wire;
use crate::fly::call::answer::Identified;
use crate::fly::call::client::Client;

wire! {
    /// A region.
    pub struct Region {
        /// Code, such as `eze`.
        pub code: String,
        /// Name.
        pub name: Option<String>,
        /// Whether no new machines should go there.
        pub deprecated: Option<bool>,
        /// Whether it takes a paid plan.
        pub requires_paid_plan: Option<bool>,
        /// How many machines fit, as a hint; the unit is not published.
        pub capacity: Option<i64>,
        /// Part of the world.
        pub geo_region: Option<String>,
        /// Whether managed Postgres is there.
        pub mpg_available: Option<bool>,
    }
}

wire! {
    /// How many machines a region has room for.
    pub struct Placed {
        /// Code of the region.
        pub region: String,
        /// How many of those that were asked about.
        pub count: Option<u32>,
    }
}

/// Machines to ask about: so many of one size in one region.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// Slug of the organization.
    pub org_slug: String,
    /// Code of the region.
    pub region: String,
    /// How many.
    pub count: u32,
    /// Their size.
    pub guest: MachineGuest,
    /// Name and size, in GB, of the volume that each of them needs.
    pub volume: Option<(String, u32)>,
}

impl Identified for Placed {
    fn identity(&self) -> &str {
        &self.region
    }
}

impl Identified for Region {
    fn identity(&self) -> &str {
        &self.code
    }
}

const LIST: Endpoint = Endpoint::read(Machines, "GET /v1/platform/regions").list();

/// A question, although it is a POST: nothing is reserved.
const PLACE: Endpoint = Endpoint::read(Machines, "POST /v1/platform/placements").list();

/// Bytes of a GB, as Fly.io counts the size of volumes.
const GB: u64 = 1 << 30;

/// Many activations ask for the same at the same time; room comes and goes.
const ROOM_AGE: Duration = Duration::from_secs(5);

/// Regions change seldom.
const AGE: Duration = Duration::from_secs(60);

impl Client {
    /// All regions; up to a minute old.
    pub async fn regions(&self) -> Result<Vec<Region>> {
        let reply = self
            .call(&LIST, &[])
            .counted_by(self.token.fingerprint())
            .send_or_recall(AGE)
            .await?;
        // Go reads field names in any case, and its own library calls this one "Regions".
        let mut regions: Vec<Region> = reply.items_in(&LIST, "regions")?;
        if regions.is_empty() {
            regions = reply.items_in(&LIST, "Regions")?;
        }
        Ok(regions)
    }

    /// How many of these machines Fly.io has room for: a hint, up to five seconds old, and nothing is
    /// reserved. `None` when it does not say.
    pub async fn room_for(&self, wanted: &Placement) -> Result<Option<u32>> {
        let mut body = json!({
            "org_slug": wanted.org_slug,
            "region": wanted.region,
            "count": wanted.count,
            "compute": wanted.guest,
        });
        if let Some((name, size)) = &wanted.volume {
            body["volume_name"] = json!(name);
            body["volume_size_bytes"] = json!(u64::from(*size) * GB);
        }
        let reply = self
            .call(&PLACE, &[])
            .counted_by(self.token.fingerprint())
            .json(&body)
            .send_or_recall(ROOM_AGE)
            .await?;
        let placed: Vec<Placed> = reply.items_in(&PLACE, "regions")?;
        let ours = placed.iter().filter(|place| place.region == wanted.region);
        // Where there is no room at all, the region is left out of the answer.
        Ok(ours.map(|place| place.count).next().unwrap_or(Some(0)))
    }
}
