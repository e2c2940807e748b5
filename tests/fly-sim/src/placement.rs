//! Where a machine or volume goes: the region that was asked for, or one near the caller.

use crate::core::Core;
use crate::error::{FlyError, FlyResult};

/// The region for a request: the first usable one of an expression such as `ams,eu`.
pub fn choose(core: &Core, wanted: Option<&str>) -> FlyResult<String> {
    let wanted = wanted
        .filter(|wanted| !wanted.is_empty())
        .unwrap_or(crate::platform::NEAREST);
    core.read(|world| {
        let known = |code: &&str| world.platform.known_region(code).is_ok();
        let regions: Vec<&str> = wanted.split(',').map(str::trim).filter(known).collect();
        let mut refusal =
            FlyError::bad_request(format!("invalid_argument: invalid region '{wanted}'"));
        for region in regions {
            match world.platform.placeable(region) {
                Ok(()) => return Ok(region.to_owned()),
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    })
}
