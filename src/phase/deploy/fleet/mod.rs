//! The machines that should be, and how those that are do. Pure.

pub mod diagnosis;
pub mod fallback_size;
pub mod leases;
pub mod readback;
pub mod sent;
pub mod strategy;

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

pub use crate::phase::roster;
use crate::{
    api::Reason,
    error::Error,
    fly::{
        Machine, MachineConfig, MachineState,
        machine_config::{MachineDns, MachineGuest},
        machines::CheckResult,
    },
    flytoml::{self, AppConfig},
    pipeline::Owner,
};

/// Metadata key of the Activation that a machine belongs to.
pub const UID_KEY: &str = "golive_activation_uid";
/// Metadata key of the place that a machine fills.
pub const SLOT_KEY: &str = "golive_slot";
/// Metadata key of the hash of the configuration that a machine was given.
pub const CONFIG_KEY: &str = "golive_config";

/// Metadata key of the release whose command has run before the machine was given this.
pub const RELEASE_KEY: &str = "golive_release";
/// Metadata key of a machine that tests another one: which, and with what.
pub const CHECK_KEY: &str = "golive_check";
/// Metadata key of the declared size that the machine has for lack of room.
pub const SIZE_KEY: &str = "golive_size";

/// One machine that should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Its place, such as `app-0`.
    pub slot: String,
    /// Its name, unique among the app's live machines.
    pub name: String,
    /// Its process group.
    pub group: String,
    /// Its region.
    pub region: String,
    /// Whether it stands by, and is not started.
    pub standby: bool,
    /// Whether it is created out of the proxy's pool, and put there once it is well.
    pub cordoned: bool,
    /// Checks that must pass.
    pub checks: usize,
    /// Name of the volume that it needs.
    pub volume: Option<String>,
    /// fly.toml says nothing of its size: a machine that is there keeps its own.
    pub keeps_size: bool,
    /// Its configuration, marks and hash included.
    pub config: MachineConfig,
    /// The hash alone.
    pub hash: String,
}

/// What machines are asked for.
#[derive(Debug)]
pub struct Asked<'a> {
    /// Machines of each group, where the spec says how many.
    pub scale: &'a BTreeMap<String, u32>,
    /// Machines of each group and region, where the spec says where.
    pub regions: &'a BTreeMap<String, BTreeMap<String, u32>>,
    /// The primary region.
    pub region: &'a str,
    /// The object.
    pub owner: &'a Owner,
    /// The application's configuration.
    pub config: &'a AppConfig,
    /// The image with its digest.
    pub image: &'a str,
    /// Digest of the secrets that they see when they start.
    pub secrets: &'a str,
    /// Key of the release.
    pub release: &'a str,
    /// A size that is used for lack of room, by name.
    pub size: Option<(&'a str, &'a MachineGuest)>,
}

/// All machines that should be, in the order in which they are created.
///
/// # Errors
/// When the fly.toml cannot be converted; preflight finds that first.
pub fn wanted(asked: &Asked) -> Result<Vec<Wanted>, Error> {
    let mut machines = Vec::new();
    for group in asked.config.process_groups() {
        if let Some(regions) = asked.regions.get(&group) {
            for (region, count) in regions {
                for index in 0..*count {
                    let (slot, name) = place(asked, &group, region, index);
                    machines.push(asked.machine(&group, region, slot, name, false)?);
                }
            }
            continue;
        }
        let first = asked.config.first_machines(&group, true);
        let (running, standby) = match asked.scale.get(&group) {
            Some(count) => (*count, 0),
            None => (first.running, first.standby),
        };
        for index in 0..running + standby {
            let (slot, name) = place(asked, &group, asked.region, index);
            machines.push(asked.machine(&group, asked.region, slot, name, index >= running)?);
        }
    }
    Ok(machines)
}

/// Place and name of a machine. One of the primary region does not name it, so that saying
/// where machines are moves none.
fn place(asked: &Asked, group: &str, region: &str, index: u32) -> (String, String) {
    if region == asked.region {
        (
            format!("{group}-{index}"),
            format!("golive-{group}-{index}"),
        )
    } else {
        (
            format!("{group}-{index}@{region}"),
            format!("golive-{group}-{index}-{region}"),
        )
    }
}

/// One extra machine for each group: it gets the new configuration first.
///
/// # Errors
/// When the fly.toml cannot be converted; preflight finds that first.
pub fn canaries(asked: &Asked) -> Result<Vec<Wanted>, Error> {
    let groups = asked.config.process_groups().into_iter();
    groups
        .map(|group| {
            let slot = format!("{CANARY_SLOT}{group}");
            let name = format!("golive-canary-{group}");
            let mut canary = asked.machine(&group, asked.region, slot, name, false)?;
            // As flyctl: it takes requests, and is not found by its name in the private network.
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

impl Asked<'_> {
    fn machine(
        &self,
        group: &str,
        region: &str,
        slot: String,
        name: String,
        standby: bool,
    ) -> Result<Wanted, Error> {
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
        Ok(Wanted {
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
        })
    }
}

impl Wanted {
    /// The same, to be created beside the machine that fills its place now, and out of the
    /// proxy's pool. The name is another one, because names are unique among live machines, and
    /// always the same for the same configuration, so that a second create finds the first.
    pub fn beside(&self) -> Self {
        Self {
            name: self.beside_name(),
            cordoned: true,
            ..self.clone()
        }
    }

    /// The size that an update gives to a machine; `None`: what fly.toml says, else its own. A
    /// size for lack of room is given and taken back.
    pub fn size_for(&self, machine: &Machine) -> Option<&MachineGuest> {
        let by_hand = self.keeps_size && machine.metadata(SIZE_KEY).is_none();
        self.config.guest.as_ref().filter(|_| !by_hand)
    }

    /// The same, with the size that the machine in its place keeps.
    pub fn sized_as(&self, machine: Option<&Machine>) -> Self {
        let mut wanted = self.clone();
        if let Some(machine) = machine
            && self.size_for(machine).is_none()
            && let Some(config) = &machine.config
            && config.guest.is_some()
        {
            wanted.config.guest.clone_from(&config.guest);
        }
        wanted
    }

    fn beside_name(&self) -> String {
        let hash: String = self.hash.chars().take(8).collect();
        format!("{}-{hash}", self.name)
    }

    /// Whether a machine was given this configuration.
    pub fn marks(&self, machine: &Machine) -> bool {
        machine.metadata(CONFIG_KEY) == Some(self.hash.as_str())
    }
}

/// The fly.toml cannot be converted.
pub fn not_convertible(what: &str, error: &flytoml::ConversionError) -> Error {
    Error::Blocked {
        reason: Reason::FlyConfigInvalid,
        message: format!("cannot build the {what} from fly.toml: {error}"),
    }
}

/// Hash of a configuration and of the secrets that a machine sees when it starts.
fn hash(config: &MachineConfig, secrets: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(config).unwrap_or_default());
    hash.update(secrets.as_bytes());
    data_encoding::HEXLOWER.encode(&hash.finalize()[..12])
}

/// The machine that fills a place. Of several the one that was given what is wanted, and of these
/// the one that serves, and the newest.
pub fn fill<'a>(machines: &'a [Machine], wanted: &Wanted) -> Option<&'a Machine> {
    machines
        .iter()
        .filter(|machine| machine.metadata(SLOT_KEY) == Some(wanted.slot.as_str()))
        .max_by_key(|machine| {
            (
                wanted.marks(machine),
                machine.cordoned != Some(true),
                machine.created_at,
            )
        })
}

/// True when the machine is marked as this Activation's.
pub fn is_ours(machine: &Machine, owner: &Owner) -> bool {
    machine.metadata(UID_KEY) == Some(owner.uid.as_str())
}

/// How a machine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Started, and all checks pass.
    Healthy,
    /// On its way to started.
    Starting,
    /// Started just now, without a check that could prove anything: watched for this long yet.
    Watched(Duration),
    /// Started; these checks do not pass (yet).
    Unhealthy(Vec<String>),
    /// Its program ended, and nobody asked for that.
    Exited {
        /// Exit code of the program.
        code: i64,
        /// It ran out of memory.
        out_of_memory: bool,
        /// It is being started again.
        restarting: bool,
    },
    /// It is stopped, suspended or failed.
    Down(MachineState),
}

/// How a machine is, from what the list tells.
pub fn health(machine: &Machine, checks: usize) -> Health {
    if let Some(exit) = machine.exit_since_start()
        && exit.requested_stop != Some(true)
    {
        return Health::Exited {
            code: exit.guest_exit_code.or(exit.exit_code).unwrap_or(-1),
            out_of_memory: exit.oom_killed == Some(true),
            restarting: exit.restarting == Some(true),
        };
    }
    match &machine.state {
        MachineState::Started => {
            let failing: Vec<String> = machine
                .checks
                .0
                .iter()
                .filter(|check| check.status != CheckResult::Passing)
                .map(|check| check.name.clone())
                .collect();
            if !failing.is_empty() {
                Health::Unhealthy(failing)
            } else if machine.checks.0.len() < checks {
                Health::Unhealthy(vec!["not all checks have run yet".to_owned()])
            } else {
                Health::Healthy
            }
        }
        MachineState::Created
        | MachineState::Creating
        | MachineState::Starting
        | MachineState::Restarting
        | MachineState::Updating
        | MachineState::Replacing => Health::Starting,
        other => Health::Down(other.clone()),
    }
}

/// How a machine is. One that the proxy stopped because it was idle is well: the proxy starts it
/// again when somebody asks for it. One without checks is watched for a while after its start,
/// because nothing else tells whether its program stays (flyctl's smoke check, fly-api.md G.5).
pub fn health_of(machine: &Machine, wanted: &Wanted, watch: Watch) -> Health {
    match health(machine, wanted.checks) {
        Health::Down(MachineState::Stopped | MachineState::Suspended)
            if starts_on_demand(wanted) =>
        {
            Health::Healthy
        }
        Health::Healthy if wanted.checks == 0 => {
            let starts = machine.events.iter().filter(|event| event.kind == "start");
            let since = starts
                .filter_map(|event| Timestamp::from_millisecond(event.timestamp?).ok())
                .max();
            let left = since.and_then(|since| {
                let passed =
                    Duration::try_from(watch.now.duration_since(since)).unwrap_or_default();
                watch
                    .span
                    .checked_sub(passed)
                    .filter(|left| !left.is_zero())
            });
            left.map_or(Health::Healthy, Health::Watched)
        }
        other => other,
    }
}

/// How long a machine without checks is watched after its start.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// This long; zero: not at all.
    pub span: Duration,
    /// The time.
    pub now: Timestamp,
}

/// Whether the proxy starts it when somebody asks for it.
pub fn starts_on_demand(wanted: &Wanted) -> bool {
    let mut services = wanted.config.services.iter();
    services.any(|service| service.autostart == Some(true))
}

/// The place of a machine that runs a release command.
pub fn release_slot(number: u64, key: &str) -> String {
    let key: String = key.chars().take(8).collect();
    format!("{RELEASE_SLOT}{number}-{key}")
}

/// The place of the machine that runs the seed command: there is one in the life of an object.
pub fn seed_slot() -> String {
    format!("{RELEASE_SLOT}seed")
}

/// Whether a place is that of a machine that runs the release command of some release.
pub fn is_release_slot(slot: &str) -> bool {
    let number = slot.strip_prefix(RELEASE_SLOT);
    number.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()) && !rest.contains('/'))
}

/// The place of the machines that test those that are given a release.
pub fn checks_slot(number: u64, key: &str) -> String {
    format!("{}/checks", release_slot(number, key))
}

/// A process group is a TOML key of letters, digits, `-` and `_`: it has no `/`.
const RELEASE_SLOT: &str = "release/";

/// Whether a machine runs a command, and not the application.
pub fn runs_a_command(machine: &Machine) -> bool {
    machine
        .metadata(SLOT_KEY)
        .is_some_and(|slot| slot.starts_with(RELEASE_SLOT))
}

/// The place of a canary; a process group has no `/` either.
const CANARY_SLOT: &str = "canary/";

/// Whether a place is that of a canary.
pub fn is_canary(slot: &str) -> bool {
    slot.starts_with(CANARY_SLOT)
}
