//! The volumes of machines with `[[mounts]]`: one for each machine, created before it. A new machine
//! mounts a free volume of the right name by its id, as with flyctl. Volumes are data: nothing here
//! deletes one, and a volume whose machine is gone is used again.

use std::fmt;

use jiff::Timestamp;

use super::{
    assessment,
    fleet::{self, wanted::WantedMachine},
};
use crate::{
    api::Reason,
    error::Error,
    fly::{
        machine_config::MachineGuest,
        volumes::{NewVolume, Volume},
    },
    flytoml,
    pipeline::{Cx, Slot, Step, StepChange, StepId, Verdict, Why, step::Result},
    plan::Target,
};

/// The volumes.
pub struct Volumes;

/// Size of a new volume, in GB, unless fly.toml declares one. As flyctl.
const SIZE_GB: u32 = 1;
/// The same for a machine with a GPU.
const SIZE_GB_GPU: u32 = 100;

/// A volume for a machine that does not exist yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Needed {
    name: String,
    region: String,
    size_gb: u32,
    retention: Option<u32>,
    snapshots: Option<bool>,
    guest: Option<MachineGuest>,
    image: String,
}

/// The needed volumes, and those that exist.
#[derive(Debug)]
pub struct Observed {
    /// Whether fly.toml declares mounts.
    requested: bool,
    needed: Vec<Needed>,
    volumes: Vec<Volume>,
}

/// A volume to create.
#[derive(Debug, PartialEq)]
pub struct Change {
    volume: Needed,
    /// The number of volumes of its name: it makes the announcement unique.
    before: usize,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "create a volume {} of {} GB in {}",
            self.volume.name, self.volume.size_gb, self.volume.region
        )
    }
}

impl StepChange for Change {}

/// The first needed volume for which there is no free one. Pure.
fn lacking(needed: &[Needed], volumes: &[Volume]) -> Option<Change> {
    needed.iter().enumerate().find_map(|(at, volume)| {
        let of_name = |candidate: &&Volume| {
            candidate.name == volume.name && candidate.region == volume.region
        };
        let free = volumes
            .iter()
            .filter(of_name)
            .filter(|v| v.is_free())
            .count();
        let earlier = needed[..at]
            .iter()
            .filter(|n| n.name == volume.name && n.region == volume.region)
            .count();
        (free <= earlier).then(|| Change {
            volume: volume.clone(),
            before: volumes
                .iter()
                .filter(of_name)
                .filter(|volume| !volume.state.is_over())
                .count(),
        })
    })
}

fn needed(config: &flytoml::AppConfig, wanted: &WantedMachine) -> Option<Needed> {
    let mounts = config.mounts_of(&wanted.group);
    let mount = mounts.first()?;
    let size = mount.initial_size.as_deref().and_then(flytoml::volume_gb);
    let guest = wanted.config.guest.clone();
    let has_gpu = guest.as_ref().is_some_and(|guest| guest.gpu_kind.is_some());
    Some(Needed {
        name: mount.source.clone()?,
        region: wanted.region.clone(),
        size_gb: size
            .and_then(|gb| u32::try_from(gb).ok())
            .unwrap_or(if has_gpu { SIZE_GB_GPU } else { SIZE_GB })
            .max(1),
        retention: mount
            .snapshot_retention
            .and_then(|days| u32::try_from(days).ok()),
        snapshots: mount.scheduled_snapshots,
        guest,
        image: wanted.config.image.clone(),
    })
}

impl Step for Volumes {
    type Observed = Observed;
    type Change = Change;

    fn id(&self) -> StepId {
        StepId::Volumes
    }

    fn needs(&self) -> &'static [StepId] {
        &[StepId::Image]
    }

    /// A machine keeps its volume.
    fn rechecked(&self) -> bool {
        false
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        let mut observed = Observed {
            requested: !cx.target.config()?.app.mounts.is_empty(),
            needed: Vec::new(),
            volumes: Vec::new(),
        };
        if !observed.requested {
            return Ok(observed);
        }
        let rollout = assessment::observe(cx).await?.rollout;
        observed.needed = rollout
            .lacking()
            .into_iter()
            .filter_map(|wanted| needed(&rollout.effective.config, wanted))
            .collect();
        if !observed.needed.is_empty() {
            observed.volumes = fleet::volumes::list(cx).await?;
        }
        Ok(observed)
    }

    fn diff(&self, _target: &Target, observed: &Observed, _now: Timestamp) -> Verdict<Change> {
        if !observed.requested {
            return Verdict::Skipped(Why::new(
                Reason::NotRequested,
                "fly.toml has no `[[mounts]]`",
            ));
        }
        lacking(&observed.needed, &observed.volumes).map_or(Verdict::Done, Verdict::Change)
    }

    /// Names of volumes are not unique, so the create is announced first.
    fn intent(&self, _target: &Target, change: &Change) -> Option<Slot> {
        Some(Slot {
            kind: "Volume".to_owned(),
            name: format!(
                "{}-{}-{}",
                change.volume.name, change.volume.region, change.before
            ),
        })
    }

    async fn act(&self, cx: &Cx, change: Change) -> Result<()> {
        let new = NewVolume {
            name: change.volume.name.clone(),
            region: change.volume.region.clone(),
            size_gb: Some(change.volume.size_gb),
            encrypted: Some(true),
            snapshot_retention: change.volume.retention,
            auto_backup_enabled: change.volume.snapshots,
            compute: change.volume.guest,
            compute_image: Some(change.volume.image),
            ..NewVolume::default()
        };
        let created = cx.fly.create_volume(&cx.target.app, &new).await;
        created.map(drop).map_err(|source| {
            Error::fly(format!("create the volume {}", change.volume.name), source)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn need(name: &str) -> Needed {
        Needed {
            name: name.to_owned(),
            region: "eze".to_owned(),
            size_gb: 1,
            retention: None,
            snapshots: None,
            guest: None,
            image: "r/a@sha256:1".to_owned(),
        }
    }

    fn volume(name: &str, machine: Option<&str>, state: &str) -> Volume {
        serde_json::from_value(json!({
            "id": "vol_1", "name": name, "state": state, "attached_machine_id": machine,
            "region": "eze",
        }))
        .unwrap()
    }

    #[test]
    fn a_volume_is_created_only_where_no_free_one_of_its_name_is_left() {
        let needed = [need("data"), need("data"), need("logs")];
        let taken = volume("data", Some("m"), "created");
        let free = volume("data", None, "created");
        let logs = volume("logs", None, "created");
        let before = |volumes: &[Volume]| {
            lacking(&needed, volumes).map(|change| (change.volume.name, change.before))
        };
        let data = |count| Some(("data".to_owned(), count));
        assert_eq!(before(&[]), data(0));
        assert_eq!(before(&[taken.clone(), free.clone()]), data(2));
        let gone = volume("data", None, "pending_destroy");
        assert_eq!(before(&[free.clone(), gone]), data(1));
        assert_eq!(
            before(&[free.clone(), free.clone()]),
            Some(("logs".to_owned(), 0))
        );
        assert_eq!(before(&[free.clone(), free.clone(), logs.clone()]), None);
        // One elsewhere is of no use.
        let elsewhere = Volume {
            region: "gru".to_owned(),
            ..free.clone()
        };
        assert_eq!(before(&[free, elsewhere, logs]), data(1));
    }
}
