//! The machines that should exist, from the fly.toml and the spec. Pure.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::slots;
use crate::{
    api::Reason,
    error::Error,
    fly::{
        Machine, MachineConfig,
        machine_config::{MachineDns, MachineGuest},
    },
    flytoml::{self, AppConfig},
    phase::marks::{CONFIG_KEY, GIVEN_SIZE_KEY, RELEASE_KEY, SIZE_KEY, SLOT_KEY, UID_KEY},
    pipeline::Owner,
};

/// One machine that should exist.
#[derive(Clone, Debug, PartialEq)]
pub struct WantedMachine {
    /// The slot that it fills, such as `app-0`.
    pub slot: String,
    /// Its name, unique among the app's live machines.
    pub name: String,
    /// Its process group.
    pub group: String,
    /// Its region.
    pub region: String,
    /// Whether it is a standby, which is created and not started.
    pub standby: bool,
    /// Whether it is created cordoned, and uncordoned once it is healthy.
    pub cordoned: bool,
    /// The number of health checks that must pass.
    pub checks: usize,
    /// Name of the volume that it mounts.
    pub volume: Option<String>,
    /// Whether an existing machine keeps its own size, because fly.toml declares none.
    pub keeps_size: bool,
    /// Its configuration, with our metadata and the hash.
    pub config: MachineConfig,
    /// The hash of the configuration and of the secrets that it sees when it starts.
    pub hash: String,
}

/// What the wanted machines follow from.
#[derive(Debug)]
pub struct FleetSpec<'a> {
    /// The number of machines of each process group, where the spec declares it.
    pub scale: &'a BTreeMap<String, u32>,
    /// The number of machines of each process group and region, where the spec declares it.
    pub regions: &'a BTreeMap<String, BTreeMap<String, u32>>,
    /// The primary region.
    pub region: &'a str,
    /// The object.
    pub owner: &'a Owner,
    /// The application's configuration.
    pub config: &'a AppConfig,
    /// The image with its digest.
    pub image: &'a str,
    /// Digest of the secrets that the machines see when they start.
    pub secrets: &'a str,
    /// Key of the release.
    pub release: &'a str,
    /// The declared fallback size in use, with its name.
    pub size: Option<(&'a str, &'a MachineGuest)>,
}

/// All machines that should exist, in the order in which they are created.
///
/// # Errors
/// When the fly.toml cannot be converted; preflight finds that first.
pub fn machines(spec: &FleetSpec) -> Result<Vec<WantedMachine>, Error> {
    let mut machines = Vec::new();
    for group in spec.config.process_groups() {
        if let Some(regions) = spec.regions.get(&group) {
            for (region, count) in regions {
                for index in 0..*count {
                    let (slot, name) = place(spec, &group, region, index);
                    machines.push(spec.machine(&group, region, slot, name, false)?);
                }
            }
            continue;
        }
        let first = spec.config.first_machines(&group, true);
        let (running, standby) = match spec.scale.get(&group) {
            Some(count) => (*count, 0),
            None => (first.running, first.standby),
        };
        for index in 0..running + standby {
            let (slot, name) = place(spec, &group, spec.region, index);
            machines.push(spec.machine(&group, spec.region, slot, name, index >= running)?);
        }
    }
    Ok(machines)
}

/// Slot and name of a machine of the application.
fn place(spec: &FleetSpec, group: &str, region: &str, index: u32) -> (String, String) {
    slots::application(group, (region != spec.region).then_some(region), index)
}

/// One canary for each process group: an extra machine that is given the new configuration first.
///
/// # Errors
/// When the fly.toml cannot be converted; preflight finds that first.
pub fn canaries(spec: &FleetSpec) -> Result<Vec<WantedMachine>, Error> {
    let groups = spec.config.process_groups().into_iter();
    groups
        .map(|group| {
            let (slot, name) = slots::canary(&group);
            let mut canary = spec.machine(&group, spec.region, slot, name, false)?;
            // As flyctl: it takes requests, and private DNS does not resolve it.
            canary.config.dns = Some(MachineDns {
                skip_registration: Some(true),
                ..MachineDns::default()
            });
            let marks = &mut canary.config.metadata;
            marks.insert("fly_canary".to_owned(), "true".to_owned());
            canary.name = canary.beside_name();
            Ok(canary)
        })
        .collect()
}

impl FleetSpec<'_> {
    fn machine(
        &self,
        group: &str,
        region: &str,
        slot: String,
        name: String,
        standby: bool,
    ) -> Result<WantedMachine, Error> {
        let mut context = flytoml::Context {
            image: self.image,
            size: self.size.map(|(_, guest)| guest),
            ..flytoml::Context::default()
        };
        for (key, value) in [(UID_KEY, self.owner.uid.as_str()), (SLOT_KEY, &slot)] {
            context.metadata.insert(key.to_owned(), value.to_owned());
        }
        let mut machine = self
            .config
            .machine_config(group, &context)
            .map_err(|error| not_convertible(&format!("machines of {group}"), &error))?;
        let hash = hash(&machine, self.secrets);
        let size = self.size.map(|(name, _)| name);
        let given = self.config.guest(group).map_err(Into::into);
        let given: Option<MachineGuest> =
            given.map_err(|error| not_convertible(&format!("machines of {group}"), &error))?;
        for (key, value) in [
            (CONFIG_KEY, Some(hash.as_str())),
            (RELEASE_KEY, Some(self.release)),
            (SIZE_KEY, size),
        ] {
            if let Some(value) = value {
                machine.metadata.insert(key.to_owned(), value.to_owned());
            }
        }
        let mut wanted = WantedMachine {
            name,
            checks: self.config.health_checks(group).len(),
            region: region.to_owned(),
            standby,
            cordoned: false,
            volume: self
                .config
                .mounts_of(group)
                .first()
                .and_then(|mount| mount.source.clone()),
            keeps_size: given.is_none() && size.is_none(),
            group: group.to_owned(),
            config: machine,
            slot,
            hash,
        };
        let mut config = std::mem::take(&mut wanted.config);
        wanted.mark_size(&mut config);
        wanted.config = config;
        Ok(wanted)
    }
}

impl WantedMachine {
    /// The same machine, to be created cordoned beside the one that fills its slot now. It has a
    /// name of its own, because names are unique among live machines. The name follows from the
    /// configuration, so that a second create finds the first.
    pub fn beside(&self) -> Self {
        Self {
            name: self.beside_name(),
            cordoned: true,
            ..self.clone()
        }
    }

    /// The size that an update gives to a machine; `None`: its own. A fallback size is given, and
    /// taken back later. Where fly.toml declares no size, a machine keeps the one that it was given
    /// first, or had when it was taken over.
    pub fn size_for(&self, machine: &Machine) -> Option<MachineGuest> {
        if !self.keeps_size || machine.metadata(SIZE_KEY).is_some() {
            return self.config.guest.clone();
        }
        let live = machine.config.as_ref()?.guest.as_ref()?;
        let given = given_size(machine.metadata(GIVEN_SIZE_KEY)?)?;
        let sized = MachineGuest {
            cpu_kind: Some(given.0),
            cpus: Some(given.1),
            memory_mb: Some(given.2),
            ..live.clone()
        };
        (size_mark(&sized) != size_mark(live)).then_some(sized)
    }

    /// The same machine, with the size that the existing one keeps.
    pub fn sized_as(&self, machine: Option<&Machine>) -> Self {
        let mut wanted = self.clone();
        if let Some(machine) = machine {
            let own = || machine.config.as_ref()?.guest.clone();
            if let Some(size) = self.size_for(machine).or_else(own) {
                wanted.config.guest = Some(size);
            }
        }
        self.mark_size(&mut wanted.config);
        wanted
    }

    /// Marks a configuration with its size, if fly.toml declares none.
    pub fn mark_size(&self, config: &mut MachineConfig) {
        let mark = config.guest.as_ref().and_then(size_mark);
        match mark.filter(|_| self.keeps_size) {
            Some(mark) => {
                config.metadata.insert(GIVEN_SIZE_KEY.to_owned(), mark);
            }
            None => {
                config.metadata.remove(GIVEN_SIZE_KEY);
            }
        }
    }

    fn beside_name(&self) -> String {
        let hash: String = self.hash.chars().take(8).collect();
        format!("{}-{hash}", self.name)
    }

    /// Whether a machine runs the same image, also if it names the image in another way.
    pub fn has_image_of(&self, machine: &Machine) -> bool {
        let Some(config) = &machine.config else {
            return false;
        };
        let host = machine.image_ref.as_ref();
        let digest = host.and_then(|image| image.digest.as_deref());
        let is_same = |digest: &str| {
            let named = config.image.split_once('@').map(|(_, named)| named);
            self.config.image.ends_with(digest) && named.is_none_or(|named| named == digest)
        };
        config.image == self.config.image
            || digest
                .filter(|digest| !digest.is_empty())
                .is_some_and(is_same)
    }

    /// Whether a machine was given this configuration.
    pub fn was_given_to(&self, machine: &Machine) -> bool {
        machine.metadata(CONFIG_KEY) == Some(self.hash.as_str())
    }
}

/// The mark of a size: kind, CPUs and memory in MB. `None` while any of them is unknown.
fn size_mark(guest: &MachineGuest) -> Option<String> {
    let (kind, cpus, memory) = (guest.cpu_kind.as_ref()?, guest.cpus?, guest.memory_mb?);
    Some(format!("{kind}-{cpus}-{memory}"))
}

/// The size of a mark.
fn given_size(mark: &str) -> Option<(String, u32, u32)> {
    let (rest, memory) = mark.rsplit_once('-')?;
    let (kind, cpus) = rest.rsplit_once('-')?;
    Some((kind.to_owned(), cpus.parse().ok()?, memory.parse().ok()?))
}

/// The fly.toml cannot be converted.
pub fn not_convertible(what: &str, error: &flytoml::ConversionError) -> Error {
    Error::Blocked {
        reason: Reason::FlyConfigInvalid,
        message: format!("cannot build the {what} from fly.toml: {error}"),
        action: "correct the fly.toml".to_owned(),
    }
}

/// Hash of a configuration and of the secrets that a machine sees when it starts.
fn hash(config: &MachineConfig, secrets: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(config).unwrap_or_default());
    hash.update(secrets.as_bytes());
    data_encoding::HEXLOWER.encode(&hash.finalize()[..12])
}

/// The machine that fills a slot. Of several, one that was given the wanted configuration comes
/// first, then one that is not cordoned, then the newest.
pub fn machine_in_slot<'a>(machines: &'a [Machine], wanted: &WantedMachine) -> Option<&'a Machine> {
    machines
        .iter()
        .filter(|machine| machine.metadata(SLOT_KEY) == Some(wanted.slot.as_str()))
        .max_by_key(|machine| {
            (
                wanted.was_given_to(machine),
                machine.cordoned != Some(true),
                machine.created_at,
            )
        })
}

/// Whether the proxy starts the machine when a request comes in (`autostart`).
pub fn starts_on_demand(wanted: &WantedMachine) -> bool {
    let mut services = wanted.config.services.iter();
    services.any(|service| service.autostart == Some(true))
}
