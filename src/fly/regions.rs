//! Regions. Source: fly-api.md B.12.

use std::time::Duration;

use super::answer::Identified;
use super::call::Endpoint;
use super::client::Client;
use super::error::Result;
use super::token::Surface::Machines;
use super::wire::wire;

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

impl Identified for Region {
    fn identity(&self) -> &str {
        &self.code
    }
}

const LIST: Endpoint = Endpoint::read(Machines, "GET /v1/platform/regions").list();

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
}
