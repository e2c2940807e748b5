//! The volumes of machines with `[[mounts]]`: one for each machine, created before it. A new machine
//! mounts a free volume of the right name by its id, as with flyctl. Volumes are data: nothing here
//! deletes one, a volume whose machine is gone is used again, and an empty one is not created in
//! silence beside one that would no longer be used.

use std::{collections::BTreeSet, fmt, time::Duration};

use jiff::Timestamp;

use super::{
    assessment,
    fleet::wanted::{WantedMachine, machine_in_slot},
    rollout::{self, Rollout},
};
use crate::{
    api::{Reason, status::ExternalObject},
    error::Error,
    fly::{
        machine_config::MachineGuest,
        volumes::{NewVolume, Volume},
    },
    flytoml,
    phase::{
        app_name::OwnClaim,
        app_volumes::{self, Inventory, Mounted, VOLUME, VolumeNeed, described},
        lost::{self, Lost},
    },
    pipeline::{
        ChangeVerb, Cx, FieldChange, Incident, Note, PlannedChange, Slot, Step, StepChange, StepId,
        Verdict, Wake, Why, step::Result,
    },
    plan::{Target, cost::Billed},
    store::claim,
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
    /// The process group of the machine.
    group: String,
    name: String,
    region: String,
    size_gb: u32,
    retention: Option<u32>,
    snapshots: Option<bool>,
    guest: Option<MachineGuest>,
    image: String,
}

/// The needed volumes, and those that exist.
#[derive(Debug, Default)]
pub struct Observed {
    /// Whether fly.toml declares mounts.
    requested: bool,
    needed: Vec<Needed>,
    volumes: Vec<Volume>,
    mounted: Vec<Mounted>,
    /// Volumes that machines had, as the status recorded them, and that are gone.
    lost: Vec<ExternalObject>,
    /// Those among them whose place a new, empty volume would take.
    replaced: Option<Lost>,
    /// Ids of volumes that were known to be left behind before.
    known: BTreeSet<String>,
    /// Pause until the next look at a volume that is about to be left behind.
    soon: Duration,
    /// Pause until the next look at one that is.
    later: Duration,
}

/// A volume to create.
#[derive(Debug, PartialEq)]
pub struct Change {
    volume: Needed,
    /// The number of volumes of its name: it makes the announcement unique.
    before: usize,
    /// Id of a volume that the app had and that is gone.
    lost: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "create a volume {} of {} GB in {}",
            self.volume.name, self.volume.size_gb, self.volume.region
        )?;
        match &self.lost {
            Some(id) => write!(f, ", empty, because {id} is gone"),
            None => Ok(()),
        }
    }
}

impl StepChange for Change {
    fn planned(&self) -> Vec<PlannedChange> {
        let create = self.volume.planned();
        vec![match &self.lost {
            Some(id) => create.turned("data", format!("that of {id}, which is gone"), "none"),
            None => create,
        }]
    }
}

impl Needed {
    /// Its creation, as data.
    fn planned(&self) -> PlannedChange {
        let create = PlannedChange::new(ChangeVerb::Create, VOLUME, &self.name);
        let create = create.set("size", format!("{} GB", self.size_gb));
        let create = create.set("region", &self.region).set("of", &self.group);
        let days = self.retention.map(|days| format!("{days} days"));
        let kept = days.map(|days| FieldChange::new("snapshots kept", None, Some(days)));
        let made = self.snapshots.map(|made| made.to_string());
        let made = made.map(|made| FieldChange::new("snapshots", None, Some(made)));
        create.with(kept.into_iter().chain(made))
    }
}

/// What is needed, as [`app_volumes`] compares it.
fn needs(needed: &[Needed]) -> Vec<VolumeNeed> {
    let need = |needed: &Needed| VolumeNeed {
        group: needed.group.clone(),
        name: needed.name.clone(),
        region: needed.region.clone(),
    };
    needed.iter().map(need).collect()
}

/// The needed volumes for which there is no free one. Pure.
fn lacking<'a>(needed: &'a [Needed], volumes: &[Volume]) -> Vec<&'a Needed> {
    let lacking = app_volumes::lacking(&needs(needed), volumes).into_iter();
    lacking.filter_map(|at| needed.get(at)).collect()
}

/// The lost volumes in whose place a needed machine would start on an empty one, unless the spec allows
/// that. Pure.
fn replaced<'a>(
    allowed: &[String],
    (needed, volumes): (&[Needed], &[Volume]),
    lost: &'a [ExternalObject],
) -> Vec<&'a ExternalObject> {
    let lacking = lacking(needed, volumes);
    let takes = |lost: &ExternalObject| {
        let mut lacking = lacking.iter();
        lacking.any(|needed| needed.name == lost.name && needed.region == lost.region)
    };
    lost.iter()
        .filter(|lost| takes(lost) && !allowed.contains(&lost.name))
        .collect()
}

/// What a person is asked about.
fn ask(cx: &Cx, lost: &[&ExternalObject]) -> Option<Lost> {
    if lost.is_empty() {
        lost::found(cx, StepId::Volumes);
        return None;
    }
    let names = lost
        .iter()
        .map(|lost| format!("{} ({})", lost.name, lost.id));
    let what = names.collect::<Vec<_>>().join(", ");
    let marks = lost.iter().map(|lost| lost.id.clone()).collect();
    let records = lost.iter().map(|lost| Note::External((*lost).clone()));
    let records = records.collect();
    Some(Lost::new(cx, StepId::Volumes, what, (marks, records)))
}

/// Why nothing starts on an empty volume in the place of a lost one.
fn lost_text(what: &str, command: &str) -> Why {
    Why::new(
        Reason::VolumeLost,
        format!("the volume {what} is gone at Fly.io with its data, and a new one would be empty"),
    )
    .next(format!(
        "create one with the data, of the same name and region, from a snapshot; or have an empty one created: `{command}`"
    ))
}

/// The change that creates this volume.
fn create(volume: &Needed, volumes: &[Volume], lost: &[ExternalObject]) -> Change {
    let lost = lost
        .iter()
        .find(|lost| lost.name == volume.name && lost.region == volume.region);
    let alike = volumes
        .iter()
        .filter(|v| v.name == volume.name && v.region == volume.region)
        .filter(|v| !v.state.is_over());
    Change {
        volume: volume.clone(),
        before: alike.count(),
        lost: lost.map(|lost| lost.id.clone()),
    }
}

impl Observed {
    fn inventory(&self) -> Inventory<'_> {
        Inventory {
            needs: needs(&self.needed),
            volumes: &self.volumes,
            mounted: &self.mounted,
            known: &self.known,
        }
    }

    /// The volumes that no machine uses.
    fn unused(&self) -> Vec<&Volume> {
        let inventory = self.inventory();
        let volumes = self.volumes.iter();
        volumes
            .filter(|volume| inventory.is_unused(volume))
            .collect()
    }
}

/// The volumes in our machines.
fn mounted(rollout: &Rollout) -> Vec<Mounted> {
    let wanted_for = |id: &str| {
        let mut wanted = rollout.desired.machines.iter();
        wanted.find(|w| machine_in_slot(&rollout.machines, w).is_some_and(|m| m.id == id))
    };
    let of = |machine: &crate::fly::Machine| {
        let config = machine.config.as_ref()?;
        let mount = config.mounts.first()?;
        let name = mount.name.clone().unwrap_or_default();
        let wanted = wanted_for(&machine.id).and_then(|wanted| wanted.volume.as_ref());
        Some(Mounted {
            id: mount.volume.clone()?,
            group: machine.metadata("fly_process_group")?.to_owned(),
            // A volume of an unknown name counts as the wanted one.
            stays: wanted.is_some_and(|wanted| name.is_empty() || name == *wanted),
            name,
        })
    };
    rollout.machines.iter().filter_map(of).collect()
}

/// The volumes of all machines of the target. Pure.
fn all_of(cx: &Cx) -> Vec<Needed> {
    let Ok(config) = cx.target.config() else {
        return Vec::new();
    };
    let wanted = rollout::expected(cx);
    let needed = wanted
        .iter()
        .filter_map(|wanted| needed(&config.app, wanted));
    needed.collect()
}

fn needed(config: &flytoml::AppConfig, wanted: &WantedMachine) -> Option<Needed> {
    let mounts = config.mounts_of(&wanted.group);
    let mount = mounts.first()?;
    let size = mount.initial_size.as_deref().and_then(flytoml::volume_gb);
    let guest = wanted.config.guest.clone();
    let has_gpu = guest.as_ref().is_some_and(|guest| guest.gpu_kind.is_some());
    Some(Needed {
        group: wanted.group.clone(),
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
        &[StepId::TakeOver]
    }

    /// A machine keeps its volume.
    fn rechecked(&self) -> bool {
        false
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        let requested = !cx.target.config()?.app.mounts.is_empty();
        let mut recorded = cx.recorded.external.iter().filter(|o| o.kind == VOLUME);
        let taken = cx.facts.get::<OwnClaim>();
        let taken = taken.is_some_and(|claim| claim.0.taken_over.is_any());
        if !requested && !taken && recorded.next().is_none() {
            return Ok(Observed::default());
        }
        let rollout = assessment::observe(cx).await?.rollout;
        let lacking = rollout.lacking().into_iter();
        let volumes = app_volumes::list(cx, &BTreeSet::new()).await?;
        let known = cx.recorded.external.iter().filter(|o| o.kind == VOLUME);
        let lost = known.clone().filter(|object| {
            object.retained.is_none() && volumes.iter().all(|volume| volume.id != object.id)
        });
        let lost: Vec<ExternalObject> = lost.cloned().collect();
        let needed: Vec<Needed> = lacking
            .filter_map(|wanted| needed(&rollout.effective.config, wanted))
            .collect();
        let allowed = &cx.target.deploy.volumes.allow_new;
        let replaced = replaced(allowed, (&needed, &volumes), &lost);
        let timing = &cx.installation.timing;
        Ok(Observed {
            requested,
            needed,
            replaced: ask(cx, &replaced),
            lost,
            volumes,
            mounted: mounted(&rollout),
            known: known
                .filter(|object| object.retained.is_some())
                .map(|object| object.id.clone())
                .collect(),
            soon: timing.poll,
            later: timing.recheck,
        })
    }

    fn diff(&self, target: &Target, observed: &Observed, _now: Timestamp) -> Verdict<Change> {
        let volumes = &observed.volumes;
        if !observed.requested && volumes.iter().all(|volume| volume.state.is_over()) {
            return Verdict::Skipped(Why::new(
                Reason::NotRequested,
                "fly.toml has no `[[mounts]]`",
            ));
        }
        let inventory = observed.inventory();
        if let Some(why) = inventory.refusal(target) {
            return Verdict::Blocked(why);
        }
        if let Some(volume) = lacking(&observed.needed, volumes).first() {
            let anew = || Verdict::Change(create(volume, volumes, &observed.lost));
            return match &observed.replaced {
                None => anew(),
                Some(lost) => match lost.again() {
                    // No machine starts before it is known.
                    Some(again) => Verdict::Wait {
                        why: Why::new(
                            Reason::OutcomeUnknown,
                            "a volume on record was not found; looking again before it counts as gone",
                        ),
                        wake: Wake::After(again),
                    },
                    None => lost.verdict(target, lost_text, anew),
                },
            };
        }
        if volumes.iter().any(|volume| inventory.is_leaving(volume)) {
            return Verdict::Holds(observed.soon);
        }
        match observed.unused().first() {
            Some(_) => Verdict::Holds(observed.later),
            None => Verdict::Done,
        }
    }

    fn plan(&self, _: &Target, observed: &Observed, _: &Change) -> Vec<PlannedChange> {
        let volumes = &observed.volumes;
        let lacking = lacking(&observed.needed, volumes).into_iter();
        let creates = lacking.map(|volume| create(volume, volumes, &observed.lost));
        creates.flat_map(|create| create.planned()).collect()
    }

    fn expected(&self, cx: &Cx) -> Vec<PlannedChange> {
        let all = all_of(cx).into_iter();
        all.map(|needed| needed.planned()).collect()
    }

    fn billed(&self, cx: &Cx) -> Vec<Billed> {
        let all = all_of(cx).into_iter();
        all.map(|needed| Billed::Volume(needed.size_gb)).collect()
    }

    fn notes(&self, target: &Target, observed: &Observed) -> Vec<Note> {
        let (app, inventory) = (&target.app, observed.inventory());
        let live = observed.volumes.iter();
        let mut notes: Vec<Note> = live
            .filter(|volume| !volume.state.is_over())
            .map(|volume| {
                let retained = inventory.is_unused(volume).then(|| {
                    format!(
                        "no machine uses it, and it costs money; `fly volumes destroy {} -a {app}` deletes it with its data",
                        volume.id
                    )
                });
                Note::External(ExternalObject {
                    kind: VOLUME.to_owned(),
                    id: volume.id.clone(),
                    name: volume.name.clone(),
                    region: volume.region.clone(),
                    size_gb: volume.size_gb,
                    retained,
                    ..ExternalObject::default()
                })
            })
            .collect();
        notes.extend(observed.replaced.iter().flat_map(Lost::notes));
        let unused: Vec<String> = observed.unused().into_iter().map(described).collect();
        if !unused.is_empty() {
            notes.push(Note::Remark(Why::new(
                Reason::LeftBehind,
                format!(
                    "no machine uses the volumes {}, which keep their data and cost money; `status.external` has how to delete them",
                    unused.join(", ")
                ),
            )));
        }
        notes
    }

    /// Names of volumes are not unique, so the create is announced first.
    fn intent(&self, _target: &Target, change: &Change) -> Option<Slot> {
        Some(Slot {
            kind: VOLUME.to_owned(),
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
        let created = created.map_err(|source| {
            Error::fly(format!("create the volume {}", change.volume.name), source)
        })?;
        if let Some(lost) = &change.lost {
            let note = format!(
                "the volume {} ({lost}) is gone at Fly.io with its data; {} takes its place and is empty",
                created.name, created.id
            );
            tracing::warn!("{note}");
            cx.facts.report(Incident {
                reason: Reason::VolumeLost,
                step: StepId::Volumes,
                note,
            });
        }
        // One that is not on record as ours is never deleted.
        let Some(claim) = cx.facts.get::<OwnClaim>() else {
            return Ok(());
        };
        claim::note_made(
            &cx.kube,
            &cx.installation.own_namespace,
            &cx.target.app,
            &claim.0,
            &claim::volume(&created.id),
        )
        .await
    }
}

#[cfg(test)]
mod tests;
