//! The app's volumes, and the volume that a new machine mounts.

use futures::future::try_join_all;

use super::wanted::WantedMachine;
use crate::{
    error::Error,
    fly::volumes::Volume,
    pipeline::{Cx, step::Result},
};

/// Kind of a volume in `status.external[]` and `status.intents[]`.
pub const VOLUME: &str = "Volume";

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

/// The app's volumes. One that is on record and not listed is read by its id: a list may lag, or be
/// empty without a reason, and a volume is data.
///
/// # Errors
/// When Fly.io does not answer.
pub async fn list(cx: &Cx) -> Result<Vec<Volume>> {
    let app = &cx.target.app;
    let volumes = cx.fly.volumes(app).await;
    let mut volumes =
        volumes.map_err(|source| Error::fly("list the volumes of the app", source))?;
    let recorded = cx.recorded.external.iter();
    let recorded = recorded.filter(|object| object.kind == VOLUME);
    let missing: Vec<&str> = recorded
        .map(|object| object.id.as_str())
        .filter(|id| !id.is_empty() && volumes.iter().all(|volume| volume.id != *id))
        .collect();
    let read = missing.iter().map(|id| cx.fly.volume(app, id));
    let read = try_join_all(read).await;
    let read = read.map_err(|source| Error::fly("read the volumes of the app", source))?;
    volumes.extend(read.into_iter().flatten());
    Ok(volumes)
}
