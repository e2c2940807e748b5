//! The volume that a new machine mounts.

use std::collections::BTreeSet;

use super::wanted::WantedMachine;
use crate::{
    error::Error,
    fly::volumes::Volume,
    phase::app_volumes,
    pipeline::{Cx, step::Result},
};

/// Assigns a free volume of the right name and region to each machine that needs one.
///
/// # Errors
/// When Fly.io does not answer, or there are too few free volumes: the step `Volumes` creates them
/// in the next pass.
pub async fn assign(cx: &Cx, mut wanted: Vec<WantedMachine>) -> Result<Vec<WantedMachine>> {
    if wanted.iter().all(|wanted| wanted.volume.is_none()) {
        return Ok(wanted);
    }
    let mut free = app_volumes::list(cx, &BTreeSet::new()).await?;
    free.retain(Volume::is_free);
    for wanted in &mut wanted {
        let Some(name) = &wanted.volume else { continue };
        let at = free
            .iter()
            .position(|volume| volume.name == *name && volume.region == wanted.region);
        let volume = at.map(|at| free.swap_remove(at));
        let volume = volume.ok_or(Error::NotKnown("a free volume for a new machine"))?;
        if let Some(mount) = wanted.config.mounts.first_mut() {
            mount.volume = Some(volume.id);
        }
    }
    Ok(wanted)
}
