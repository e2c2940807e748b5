//! The app's volumes, and the volume that a new machine mounts.

use super::wanted::WantedMachine;
use crate::{
    error::Error,
    fly::volumes::Volume,
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
    let mut free = list(cx).await?;
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

/// The app's volumes.
///
/// # Errors
/// When Fly.io does not answer.
pub async fn list(cx: &Cx) -> Result<Vec<Volume>> {
    let volumes = cx.fly.volumes(&cx.target.app).await;
    volumes.map_err(|source| Error::fly("list the volumes of the app", source))
}
