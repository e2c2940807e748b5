//! Regions and their capacity. Source: the OpenAPI specification of the Machines API, `/platform`.

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
        /// Whether new machines should use other regions.
        pub deprecated: Option<bool>,
        /// Whether it requires a paid plan.
        pub requires_paid_plan: Option<bool>,
        /// A hint of its free capacity; the unit is not published.
        pub capacity: Option<i64>,
        /// Continent or similar.
        pub geo_region: Option<String>,
        /// Whether managed Postgres is available.
        pub mpg_available: Option<bool>,
    }
}

wire! {
    /// Free capacity of a region.
    pub struct Placed {
        /// Code of the region.
        pub region: String,
        /// How many of the requested machines fit.
        pub count: Option<u32>,
    }
}

/// Requested capacity: a number of machines of one size in one region.
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

/// A read despite the POST: nothing is reserved.
const PLACE: Endpoint = Endpoint::read(Machines, "POST /v1/platform/placements").list();

/// Bytes per GB of volume size.
const GB: u64 = 1 << 30;

/// Age up to which a remembered response about capacity is used. Short, because capacity changes.
const ROOM_AGE: Duration = Duration::from_secs(5);

/// Age up to which a remembered list of regions is used.
const AGE: Duration = Duration::from_secs(60);

impl Client {
    /// All regions; up to a minute old.
    pub async fn regions(&self) -> Result<Vec<Region>> {
        let reply = self
            .call(&LIST, &[])
            .counted_by(self.token.fingerprint())
            .send_or_recall(AGE)
            .await?;
        // fly-go calls the field `Regions`; Go ignores case.
        let mut regions: Vec<Region> = reply.items_in(&LIST, "regions")?;
        if regions.is_empty() {
            regions = reply.items_in(&LIST, "Regions")?;
        }
        Ok(regions)
    }

    /// How many of these machines fit, by Fly.io's estimate, up to five seconds old. Nothing is
    /// reserved. `None` when Fly.io gives no number.
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
        // A region without any capacity is missing from the response.
        Ok(ours.map(|place| place.count).next().unwrap_or(Some(0)))
    }
}
