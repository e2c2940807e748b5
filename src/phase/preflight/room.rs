//! The machines that the target needs in each region, and whether Fly.io has room for them.

use std::{collections::BTreeMap, fmt};

use crate::{
    error::Error,
    fly::{Placement, machine_config::MachineGuest},
    flytoml,
    pipeline::{Cx, step::Result},
    plan::Target,
};

/// Machines of one size that the target needs in one region.
#[derive(Clone, Debug, PartialEq)]
pub struct Need {
    /// Code of the region.
    pub region: String,
    /// How many machines.
    pub count: u32,
    /// Their size.
    guest: MachineGuest,
    /// Name and size in GB of the volume of each.
    volume: Option<(String, u32)>,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = if self.count == 1 {
            "machine"
        } else {
            "machines"
        };
        let (cpus, memory) = (
            self.guest.cpus.unwrap_or(1),
            self.guest.memory_mb.unwrap_or_default(),
        );
        let kind = self.guest.cpu_kind.as_deref().unwrap_or("shared");
        write!(f, "{} {one} ({cpus} {kind} CPU, {memory} MB", self.count)?;
        if let Some((name, size)) = &self.volume {
            write!(f, ", volume {name} of {size} GB")?;
        }
        f.write_str(")")
    }
}

/// The machines that the target needs; machines of the same size in one region are counted
/// together.
pub fn needs(target: &Target) -> Vec<Need> {
    let Ok(config) = target.config_or_invalid() else {
        return Vec::new();
    };
    let app = &config.app;
    let mut needs: Vec<Need> = Vec::new();
    for group in app.process_groups() {
        // FlyConfigValid reports an invalid size.
        let smallest = || flytoml::parse_size(flytoml::DEFAULT_SIZE).ok();
        let Some(guest) = app.guest(&group).ok().flatten().or_else(smallest) else {
            continue;
        };
        let mounts = app.mounts_of(&group);
        let volume = mounts.first().and_then(|mount| {
            let size = mount.initial_size.as_deref().and_then(flytoml::volume_gb);
            let size = size.and_then(|size| u32::try_from(size).ok()).unwrap_or(1);
            Some((mount.source.clone()?, size.max(1)))
        });
        for (region, count) in counts(target, app, &group) {
            let alike = needs
                .iter_mut()
                .find(|need| need.region == region && need.guest == guest && need.volume == volume);
            match alike {
                Some(need) => need.count += count,
                None => needs.push(Need {
                    region,
                    count,
                    guest: guest.clone(),
                    volume: volume.clone(),
                }),
            }
        }
    }
    needs
}

/// How many machines of a process group the target has in each region, none of them 0.
pub fn counts(target: &Target, app: &flytoml::AppConfig, group: &str) -> BTreeMap<String, u32> {
    let mut counts = match target.deploy.regions.get(group) {
        Some(regions) => regions.clone(),
        None => {
            let first = app.first_machines(group, true);
            let scaled = target.deploy.scale.get(group).copied();
            let count = scaled.unwrap_or(first.running + first.standby);
            BTreeMap::from([(target.region.clone(), count)])
        }
    };
    counts.retain(|_, count| *count > 0);
    counts
}

/// How many of these machines fit, in their own size or in one of `deploy.fallbackSizes`; `None`
/// when Fly.io does not say.
///
/// # Errors
/// When Fly.io does not answer.
pub async fn room(cx: &Cx, need: &Need) -> Result<Option<u32>> {
    let sizes = cx.target.deploy.fallback_sizes.iter();
    let fallbacks = sizes.filter_map(|size| flytoml::parse_size(size).ok());
    let mut most = None;
    for guest in std::iter::once(need.guest.clone()).chain(fallbacks) {
        let wanted = Placement {
            org_slug: cx.target.organization.clone(),
            region: need.region.clone(),
            count: need.count,
            guest,
            volume: need.volume.clone(),
        };
        let fits = match cx.fly.room_for(&wanted).await {
            Ok(fits) => fits,
            // TokenScope and OrganizationUsable report it, and a refusal says nothing about room.
            Err(error) if error.is_forbidden() || error.is_gone() || error.is_invalid() => None,
            Err(source) => return Err(Error::fly("read the room in the regions", source)),
        };
        let Some(fits) = fits else { return Ok(None) };
        if fits >= need.count {
            return Ok(Some(fits));
        }
        most = most.max(Some(fits));
    }
    Ok(most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::testing::target;

    #[test]
    fn machines_of_one_size_and_volume_are_counted_together() {
        let toml = "[processes]\\nweb = 'a'\\nworker = 'b'\\n[http_service]\\ninternal_port = 80\\nprocesses = ['web']\\n[[vm]]\\nsize = 'shared-cpu-2x'\\n[[mounts]]\\nsource = 'data'\\ndestination = '/data'\\ninitial_size = '3gb'\\nprocesses = ['worker']\\n";
        let spec = format!("deploy: {{scale: {{worker: 2}}, config: {{inline: \"{toml}\"}}}}");
        let texts: Vec<String> = needs(&target(&spec, &[]))
            .iter()
            .map(|need| format!("{}: {need}", need.region))
            .collect();
        assert_eq!(
            texts,
            [
                "eze: 2 machines (2 shared CPU, 512 MB)",
                "eze: 2 machines (2 shared CPU, 512 MB, volume data of 3 GB)"
            ]
        );
        let spread = needs(&target("deploy: {regions: {app: {ams: 1, gru: 3}}}", &[]));
        let places: Vec<(&str, u32)> = spread
            .iter()
            .map(|need| (need.region.as_str(), need.count))
            .collect();
        assert_eq!(places, [("ams", 1), ("gru", 3)]);
    }
}
