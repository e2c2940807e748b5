//! No machine would begin on an empty volume beside one that nothing would use any more. The step
//! Volumes refuses the same; here it is known before anything is changed, and before a gate asks.

use std::collections::BTreeSet;

use super::{
    check::{Check, Finding},
    room::counts,
};
use crate::{
    api::{preflight::CheckName, status::Severity},
    error::Error,
    fly::{Machine, volumes::Volume},
    flytoml::AppConfig,
    phase::{
        app_volumes::{Inventory, Mounted, VOLUME, VolumeNeed},
        roster,
    },
    pipeline::{Cx, step::Result},
    plan::Target,
};

/// No machine would begin on an empty volume beside one that nothing would use any more.
pub struct VolumesKept;

/// The process group of a machine, as flyctl and Golive write it into its metadata.
const GROUP: &str = "fly_process_group";

/// The volumes of the app, and its machines.
#[derive(Debug, Default)]
pub struct Found {
    volumes: Vec<Volume>,
    ours: Vec<Machine>,
    others: Vec<Machine>,
    /// Ids of volumes that were known to be left behind before.
    known: BTreeSet<String>,
}

impl Check for VolumesKept {
    type Observed = Found;
    const NAME: CheckName = CheckName::VolumesKept;
    const SEVERITY: Severity = Severity::Blocking;

    async fn observe(&self, cx: &Cx) -> Result<Found> {
        let config = cx.target.config_or_invalid().ok();
        if config.is_none_or(|config| config.app.mounts.is_empty()) {
            return Ok(Found::default());
        }
        let volumes = match cx.fly.volumes(&cx.target.app).await {
            Ok(volumes) => volumes,
            // There is no app yet, or it is not ours: AppNameAvailable reports that.
            Err(error) if error.is_gone() || error.is_forbidden() => return Ok(Found::default()),
            Err(source) => return Err(Error::fly("list the volumes of the app", source)),
        };
        if volumes.iter().all(|volume| volume.state.is_over()) {
            return Ok(Found::default());
        }
        let ours = roster::ours(cx).await?;
        let recorded = cx.recorded.external.iter();
        let left = recorded.filter(|object| object.kind == VOLUME && object.retained.is_some());
        Ok(Found {
            volumes,
            ours,
            others: roster::others(cx),
            known: left.map(|object| object.id.clone()).collect(),
        })
    }

    fn judge(&self, target: &Target, found: &Found) -> Finding {
        let Ok(config) = target.config_or_invalid() else {
            return Finding::passed("the fly.toml is not valid");
        };
        let mounted = found.mounted(target, &config.app);
        let inventory = Inventory {
            needs: found.needs(target, &config.app, &mounted),
            volumes: &found.volumes,
            mounted: &mounted,
            known: &found.known,
        };
        match inventory.refusal(target) {
            Some(why) => Finding::failed(why.reason, why.message, why.action),
            None => Finding::passed("no volume with data would be left behind"),
        }
    }
}

/// The name of the volume that each machine of a process group mounts.
fn mount_of(app: &AppConfig, group: &str) -> Option<String> {
    app.mounts_of(group).first()?.source.clone()
}

impl Found {
    /// The volumes in machines. A machine of somebody else stays, and so does one of ours in a region
    /// where its group has machines: which of them goes when there are fewer, Deploy decides.
    fn mounted(&self, target: &Target, app: &AppConfig) -> Vec<Mounted> {
        let groups = app.process_groups();
        let of = |machine: &Machine, is_ours: bool| {
            let mount = machine.config.as_ref()?.mounts.first()?;
            let id = mount.volume.clone()?;
            let listed = self.volumes.iter().find(|volume| volume.id == id);
            let name = listed.map_or(mount.name.clone(), |volume| Some(volume.name.clone()));
            let name = name.unwrap_or_default();
            let group = machine.metadata(GROUP)?.to_owned();
            let wanted = groups.contains(&group).then(|| mount_of(app, &group));
            // A volume of an unknown name counts as the wanted one.
            let is_wanted = wanted
                .flatten()
                .is_some_and(|wanted| name.is_empty() || name == wanted)
                && counts(target, app, &group).contains_key(&machine.region);
            Some(Mounted {
                id,
                group,
                name,
                stays: !is_ours || is_wanted,
            })
        };
        let ours = self.ours.iter().filter_map(|machine| of(machine, true));
        let others = self.others.iter().filter_map(|machine| of(machine, false));
        ours.chain(others).collect()
    }

    /// The volumes of machines that do not exist yet.
    fn needs(&self, target: &Target, app: &AppConfig, mounted: &[Mounted]) -> Vec<VolumeNeed> {
        let region_of = |id: &str| {
            let volume = self.volumes.iter().find(|volume| volume.id == id);
            volume.map(|volume| volume.region.as_str())
        };
        let mut needs = Vec::new();
        for group in app.process_groups() {
            let Some(name) = mount_of(app, &group) else {
                continue;
            };
            for (region, count) in counts(target, app, &group) {
                let there = mounted.iter().filter(|mounted| {
                    let in_place = region_of(&mounted.id).is_none_or(|there| there == region);
                    let same = mounted.name.is_empty() || mounted.name == name;
                    mounted.group == group && same && in_place
                });
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                let lacking = count.saturating_sub(there.count());
                let need = VolumeNeed {
                    group: group.clone(),
                    name: name.clone(),
                    region,
                };
                needs.extend(vec![need; lacking]);
            }
        }
        needs
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{api::Reason, phase::testing::target};

    fn volume(id: &str, name: &str, machine: Option<&str>) -> Volume {
        serde_json::from_value(json!({
            "id": id, "name": name, "state": "created", "attached_machine_id": machine,
            "region": "eze", "size_gb": 1,
        }))
        .unwrap()
    }

    fn machine(id: &str, group: &str, volume: &str) -> Machine {
        serde_json::from_value(json!({
            "id": id, "name": id, "state": "started", "region": "eze",
            "config": {
                "image": "x", "metadata": {"fly_process_group": group},
                "mounts": [{"volume": volume, "path": "/data"}],
            },
        }))
        .unwrap()
    }

    fn mounts(group: &str, name: &str, more: &str) -> Target {
        target(
            &format!(
                "deploy:\n  config: {{inline: \"[processes]\\n{group} = 'serve'\\n[[mounts]]\\nsource = '{name}'\\ndestination = '/data'\\n\"}}\n{more}"
            ),
            &[],
        )
    }

    /// An app with one machine of the group `app` on the volume `data` in eze.
    fn one(is_ours: bool) -> Found {
        let there = vec![machine("m1", "app", "vol_1")];
        let (ours, others) = match is_ours {
            true => (there, Vec::new()),
            false => (Vec::new(), there),
        };
        Found {
            volumes: vec![volume("vol_1", "data", Some("m1"))],
            ours,
            others,
            known: BTreeSet::new(),
        }
    }

    fn refused(target: &Target, found: &Found) -> bool {
        match VolumesKept.judge(target, found) {
            Finding::Passed(_) => false,
            Finding::Failed {
                reason: Reason::VolumeLeftBehind,
                message,
                action,
            } => {
                assert!(message.contains("data (vol_1, 1 GB in eze)"), "{message}");
                assert!(
                    action.contains("fly volumes fork vol_1 -a shop"),
                    "{action}"
                );
                true
            }
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn a_rename_that_would_leave_data_behind_is_refused_before_anything_is_changed() {
        let same = mounts("app", "data", "");
        assert!(!refused(&same, &Found::default()), "a first deployment");
        assert!(!refused(&same, &one(true)));
        let larger = mounts("app", "data", "  scale: {app: 3}");
        assert!(!refused(&larger, &one(true)), "a larger scale");
        let regions = mounts("app", "data", "  regions: {app: {eze: 1, gru: 1}}");
        assert!(!refused(&regions, &one(true)), "one more region");
        let moved = mounts("app", "data", "  regions: {app: {gru: 1}}");
        for other in [mounts("app", "files", ""), mounts("web", "data", ""), moved] {
            assert!(refused(&other, &one(true)));
        }
        let allowed = mounts("app", "files", "  volumes: {allowNew: [files]}");
        assert!(!refused(&allowed, &one(true)));
    }

    #[test]
    fn a_machine_of_somebody_else_keeps_its_volume_and_one_to_take_over_needs_no_other() {
        assert!(!refused(&mounts("app", "data", ""), &one(false)));
        assert!(!refused(&mounts("app", "files", ""), &one(false)));
        // A volume that nothing mounts is left behind by a machine that begins on another.
        let mut free = one(false);
        free.others.clear();
        free.volumes = vec![volume("vol_1", "data", None)];
        assert!(!refused(&mounts("app", "data", "  scale: {app: 1}"), &free));
        assert!(refused(&mounts("app", "files", ""), &free));
    }
}
