//! Regions, and which of them have room.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::core::Shared;
use crate::error::{FlyError, FlyResult};
use crate::state::Caller;
use crate::strict::Strict;

/// A region.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// Three letters.
    pub code: &'static str,
    /// City and country.
    pub name: &'static str,
    latitude: f64,
    longitude: f64,
    geo_region: &'static str,
    /// Only for organizations that pay.
    pub requires_paid_plan: bool,
    /// No new machines or volumes.
    pub deprecated: bool,
    /// Machines of the smallest size that still fit; changed by control.
    pub capacity: u64,
    /// Has Managed Postgres.
    pub mpg_available: bool,
}

const fn region(
    code: &'static str,
    name: &'static str,
    at: (f64, f64),
    geo_region: &'static str,
) -> Region {
    Region {
        code,
        name,
        latitude: at.0,
        longitude: at.1,
        geo_region,
        requires_paid_plan: false,
        deprecated: false,
        capacity: 1_000,
        mpg_available: true,
    }
}

/// The regions. Which are deprecated, full or paid is a setting, not a fact; the codes and places
/// are Fly's.
pub fn table() -> Vec<Region> {
    vec![
        region("ams", "Amsterdam, Netherlands", (52.37, 4.90), "europe"),
        region("arn", "Stockholm, Sweden", (59.65, 17.92), "europe"),
        region("cdg", "Paris, France", (48.86, 2.35), "europe"),
        region(
            "dfw",
            "Dallas, Texas (US)",
            (32.78, -96.80),
            "north_america",
        ),
        region("ewr", "Secaucus, NJ (US)", (40.79, -74.06), "north_america"),
        region(
            "jnb",
            "Johannesburg, South Africa",
            (-26.13, 28.23),
            "africa",
        ),
        region(
            "sjc",
            "San Jose, California (US)",
            (37.35, -121.97),
            "north_america",
        ),
        region("yyz", "Toronto, Canada", (43.65, -79.38), "north_america"),
        Region {
            requires_paid_plan: true,
            mpg_available: false,
            ..region("bom", "Mumbai, India", (19.10, 72.87), "asia_pacific")
        },
        region(
            "eze",
            "Ezeiza, Argentina",
            (-34.81, -58.54),
            "south_america",
        ),
        region("fra", "Frankfurt, Germany", (50.03, 8.56), "europe"),
        region(
            "gru",
            "Sao Paulo, Brazil",
            (-23.55, -46.63),
            "south_america",
        ),
        region(
            "iad",
            "Ashburn, Virginia (US)",
            (39.02, -77.47),
            "north_america",
        ),
        region(
            "lax",
            "Los Angeles, California (US)",
            (33.94, -118.41),
            "north_america",
        ),
        region("lhr", "London, United Kingdom", (51.47, -0.46), "europe"),
        Region {
            deprecated: true,
            mpg_available: false,
            ..region("mad", "Madrid, Spain", (40.49, -3.57), "europe")
        },
        region("nrt", "Tokyo, Japan", (35.76, 140.39), "asia_pacific"),
        region(
            "ord",
            "Chicago, Illinois (US)",
            (41.97, -87.90),
            "north_america",
        ),
        Region {
            capacity: 0,
            mpg_available: false,
            ..region("scl", "Santiago, Chile", (-33.39, -70.79), "south_america")
        },
        region(
            "sin",
            "Singapore, Singapore",
            (1.36, 103.99),
            "asia_pacific",
        ),
        region("syd", "Sydney, Australia", (-33.87, 151.21), "asia_pacific"),
    ]
}

impl Region {
    /// As the Machines API shows it.
    pub fn json(&self) -> Value {
        json!({
            "code": self.code,
            "name": self.name,
            "latitude": self.latitude,
            "longitude": self.longitude,
            "gateway_available": true,
            "requires_paid_plan": self.requires_paid_plan,
            "deprecated": self.deprecated,
            "capacity": self.capacity,
            "geo_region": self.geo_region,
            "mpg_available": self.mpg_available,
        })
    }

    /// As GraphQL shows it.
    pub fn graph(&self) -> Value {
        json!({
            "__typename": "Region",
            "code": self.code,
            "name": self.name,
            "latitude": self.latitude,
            "longitude": self.longitude,
            "gatewayAvailable": true,
            "requiresPaidPlan": self.requires_paid_plan,
            "deprecated": self.deprecated,
        })
    }
}

impl super::Platform {
    /// 422 unless there is such a region.
    pub fn known_region(&self, code: &str) -> FlyResult<&Region> {
        self.regions
            .iter()
            .find(|region| region.code == code)
            .ok_or_else(|| {
                FlyError::unprocessable(format!("Validation failed: Region {code} not found"))
            })
    }

    /// Whether a machine or volume may be made there: an error says why not, in Fly's words.
    pub fn placeable(&self, code: &str) -> FlyResult<()> {
        let region = self.known_region(code)?;
        if region.deprecated {
            return Err(FlyError::unprocessable(format!(
                "region {code} is deprecated and does not accept new machines or volumes"
            )));
        }
        if region.capacity == 0 {
            return Err(FlyError::unprocessable("could not find a candidate host")
                .code("insufficient_capacity"));
        }
        Ok(())
    }
}

/// The routes of regions.
pub fn router() -> Router<Shared> {
    Router::new()
        .route("/v1/platform/regions", get(list))
        .route("/v1/platform/placements", post(placements))
}

async fn list(State(core): State<Shared>) -> Json<Value> {
    let regions: Vec<_> =
        core.read(|world| world.platform.regions.iter().map(Region::json).collect());
    Json(json!({"regions": regions, "nearest": super::NEAREST}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Placement {
    org_slug: String,
    #[serde(default)]
    region: Option<String>,
    #[serde(default)]
    count: Option<u64>,
    #[serde(default)]
    #[expect(dead_code, reason = "accepted; every machine counts as one here")]
    compute: Option<Value>,
    #[serde(default)]
    #[expect(dead_code, reason = "accepted; volumes have no host here")]
    volume_name: Option<String>,
    #[serde(default)]
    #[expect(dead_code, reason = "accepted; volumes have no host here")]
    volume_size_bytes: Option<u64>,
    #[serde(default)]
    #[expect(dead_code, reason = "accepted; places are not weighed here")]
    weights: Option<BTreeMap<String, f64>>,
}

/// A hint about room, not a reservation.
async fn placements(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Strict(wanted): Strict<Placement>,
) -> FlyResult<Json<Value>> {
    core.read(|world| {
        let visible = world.orgs.contains_key(&wanted.org_slug)
            && caller
                .tokens
                .iter()
                .any(|token| token.org_slug == wanted.org_slug);
        if !visible {
            return Err(FlyError::not_found(format!(
                "Could not find Organization \"{}\"",
                wanted.org_slug
            )));
        }
        let codes: Vec<&str> = match wanted.region.as_deref() {
            None | Some("" | "any") => Vec::new(),
            Some(codes) => codes.split(',').map(str::trim).collect(),
        };
        for code in &codes {
            world.platform.known_region(code)?;
        }
        let count = wanted.count.unwrap_or(1);
        let regions: Vec<_> = world
            .platform
            .regions
            .iter()
            .filter(|region| codes.is_empty() || codes.contains(&region.code))
            .filter(|region| !region.deprecated && region.capacity > 0)
            .map(|region| {
                let fits = count.min(region.capacity);
                json!({"region": region.code, "count": fits, "concurrency": region.capacity})
            })
            .collect();
        Ok(Json(json!({"regions": regions})))
    })
}
