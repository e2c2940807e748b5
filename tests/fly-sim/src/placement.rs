//! Where a machine or volume goes: the region that was asked for, or one near the caller.

use crate::error::{FlyError, FlyResult};

/// Regions that take machines. Source: docs, reference/regions (2026).
pub const REGIONS: &[&str] = &[
    "ams", "arn", "bom", "cdg", "dfw", "ewr", "eze", "fra", "gru", "iad", "jnb", "lax", "lhr",
    "nrt", "ord", "sin", "sjc", "syd", "yyz",
];

/// The region for a request: the first usable one of an expression such as `ams,eu`.
pub fn choose(wanted: Option<&str>) -> FlyResult<String> {
    let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) else {
        return Ok("eze".to_owned());
    };
    wanted
        .split(',')
        .map(str::trim)
        .find(|region| REGIONS.contains(region))
        .map(str::to_owned)
        .ok_or_else(|| {
            FlyError::bad_request(format!("invalid_argument: invalid region '{wanted}'"))
        })
}
