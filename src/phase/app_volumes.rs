//! The app's volumes, as Deploy uses them and as a deletion spares them; and whether a new, empty one
//! would begin beside one that nothing would use any more.

use std::collections::BTreeSet;

use futures::future::try_join_all;

use crate::{
    api::Reason,
    error::Error,
    fly::volumes::Volume,
    pipeline::{Cx, Why, step::Result},
    plan::Target,
};

/// Kind of a volume in `status.external[]` and `status.intents[]`.
pub const VOLUME: &str = crate::api::status::ExternalKind::Volume.as_str();

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

/// A volume that a machine needs which does not exist yet.
#[derive(Clone, Debug, PartialEq)]
pub struct VolumeNeed {
    /// The process group of the machine.
    pub group: String,
    /// The name of the volume.
    pub name: String,
    /// Its region.
    pub region: String,
}

/// A volume in a machine of the app.
#[derive(Clone, Debug, PartialEq)]
pub struct Mounted {
    /// Its id.
    pub id: String,
    /// The process group of the machine.
    pub group: String,
    /// The name of the volume.
    pub name: String,
    /// The machine stays, with this volume.
    pub stays: bool,
}

/// The needs for which there is no free volume, by their positions. Pure.
pub fn lacking(needs: &[VolumeNeed], volumes: &[Volume]) -> Vec<usize> {
    let is_lacking = |at: &usize| {
        let need = &needs[*at];
        let alike = |name: &str, region: &str| name == need.name && region == need.region;
        let free = volumes
            .iter()
            .filter(|v| v.is_free() && alike(&v.name, &v.region));
        let earlier = needs[..*at].iter().filter(|n| alike(&n.name, &n.region));
        free.count() <= earlier.count()
    };
    (0..needs.len()).filter(is_lacking).collect()
}

/// The volumes of the app, and what is needed.
#[derive(Debug)]
pub struct Inventory<'a> {
    /// The volumes of machines that do not exist yet.
    pub needs: Vec<VolumeNeed>,
    /// Those that exist.
    pub volumes: &'a [Volume],
    /// Those in machines.
    pub mounted: &'a [Mounted],
    /// Ids of volumes that were known to be left behind before.
    pub known: &'a BTreeSet<String>,
}

impl Inventory<'_> {
    /// Whether no machine has the volume, and none will.
    pub fn is_unused(&self, volume: &Volume) -> bool {
        let mut needs = self.needs.iter();
        let is_needed = needs.any(|n| n.name == volume.name && n.region == volume.region);
        volume.is_free() && !is_needed
    }

    /// Whether its machine will be gone.
    pub fn is_leaving(&self, volume: &Volume) -> bool {
        let mut mounted = self.mounted.iter();
        let mounted = mounted.find(|mounted| mounted.id == volume.id);
        mounted.is_some_and(|mounted| !mounted.stays)
    }

    /// Why a new, empty volume is refused: the app has a volume that nothing would use any more. A
    /// first deployment and a larger scale have none. Pure.
    pub fn refusal(&self, target: &Target) -> Option<Why> {
        let grows = |need: &VolumeNeed| {
            self.mounted.iter().any(|mounted| {
                mounted.stays && mounted.group == need.group && mounted.name == need.name
            })
        };
        let allowed = &target.deploy.volumes.allow_new;
        let (need, left) = lacking(&self.needs, self.volumes)
            .into_iter()
            .map(|at| &self.needs[at])
            .filter(|need| !grows(need) && !allowed.contains(&need.name))
            .find_map(|need| {
                let left = self.volumes.iter().filter(|volume| {
                    (self.is_unused(volume) || self.is_leaving(volume))
                        && (volume.name == need.name || !self.known.contains(&volume.id))
                });
                let left: Vec<&Volume> = left.collect();
                (!left.is_empty()).then_some((need, left))
            })?;
        Some(refused(&target.app, need, &left))
    }
}

/// A refusal, with the ways to say what is meant.
fn refused(app: &str, need: &VolumeNeed, left: &[&Volume]) -> Why {
    let names: Vec<String> = left.iter().map(|volume| described(volume)).collect();
    let VolumeNeed {
        group,
        name,
        region,
    } = need;
    Why::new(
        Reason::VolumeLeftBehind,
        format!(
            "process group {group} would start on a new, empty volume {name} in {region}, and nothing would use {} any more",
            names.join(", ")
        ),
    )
    .next(format!(
        "to take the data along, `fly volumes fork {} -a {app} --name {name} --region {region}`, or change the fly.toml back; to start empty, add {name} to `deploy.volumes.allowNew`",
        left.first().map_or("", |volume| volume.id.as_str()),
    ))
}

/// A volume, for people.
pub fn described(volume: &Volume) -> String {
    format!(
        "{} ({}, {} GB in {})",
        volume.name,
        volume.id,
        volume.size_gb.unwrap_or_default(),
        volume.region
    )
}
