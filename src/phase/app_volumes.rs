//! The app's volumes, as Deploy uses them and as a deletion spares them.

use std::collections::BTreeSet;

use futures::future::try_join_all;

use crate::{
    error::Error,
    fly::volumes::Volume,
    pipeline::{Cx, step::Result},
};

/// Kind of a volume in `status.external[]` and `status.intents[]`.
pub const VOLUME: &str = "Volume";

/// The app's volumes. One that is on record, in the status or as one of the ids `also`, and that is
/// not listed is read by its id: a list may lag, or be empty without a reason, and a volume is data.
///
/// # Errors
/// When Fly.io does not answer.
pub async fn list(cx: &Cx, also: &BTreeSet<&str>) -> Result<Vec<Volume>> {
    let app = &cx.target.app;
    let volumes = cx.fly.volumes(app).await;
    let mut volumes =
        volumes.map_err(|source| Error::fly("list the volumes of the app", source))?;
    let recorded = cx.recorded.external.iter();
    let recorded = recorded.filter(|object| object.kind == VOLUME);
    let missing: BTreeSet<&str> = recorded
        .map(|object| object.id.as_str())
        .chain(also.iter().copied())
        .filter(|id| !id.is_empty() && volumes.iter().all(|volume| volume.id != *id))
        .collect();
    let read = missing.iter().map(|id| cx.fly.volume(app, id));
    let read = try_join_all(read).await;
    let read = read.map_err(|source| Error::fly("read the volumes of the app", source))?;
    volumes.extend(read.into_iter().flatten());
    Ok(volumes)
}
