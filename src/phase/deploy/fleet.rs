//! The machines that should be, and what has to happen to get there. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use crate::{
    api::Reason,
    error::Error,
    fly::{
        Machine, MachineConfig, MachineState,
        machine_config::MachineGuest,
        machines::{CheckResult, HostStatus},
    },
    flytoml::{self, AppConfig},
    phase::Owner,
};

/// Metadata key of the Activation that a machine belongs to.
pub const UID_KEY: &str = "golive_activation_uid";
/// Metadata key of the place that a machine fills.
pub const SLOT_KEY: &str = "golive_slot";
/// Metadata key of the hash of the configuration that a machine was given.
pub const CONFIG_KEY: &str = "golive_config";

/// Metadata key of the release whose command has run before the machine was given this.
pub const RELEASE_KEY: &str = "golive_release";
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
    /// Whether it stands by, and is not started.
    pub standby: bool,
    /// Checks that must pass.
    pub checks: usize,
    /// Name of the volume that it needs.
    pub volume: Option<String>,
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
        let first = asked.config.first_machines(&group, true);
        let (running, standby) = match asked.scale.get(&group) {
            Some(count) => (*count, 0),
            None => (first.running, first.standby),
        };
        for index in 0..running + standby {
            let slot = format!("{group}-{index}");
            let mut context = flytoml::Context {
                image: asked.image,
                size: asked.size.map(|(_, guest)| guest),
                ..flytoml::Context::default()
            };
            for (key, value) in [(UID_KEY, asked.owner.uid.as_str()), (SLOT_KEY, &slot)] {
                context.metadata.insert(key.to_owned(), value.to_owned());
            }
            let mut machine = asked
                .config
                .machine_config(&group, &context)
                .map_err(|error| not_convertible(&format!("machines of {group}"), &error))?;
            let hash = hash(&machine, asked.secrets);
            let size = asked.size.map(|(name, _)| name);
            for (key, value) in [
                (CONFIG_KEY, Some(hash.as_str())),
                (RELEASE_KEY, Some(asked.release)),
                (SIZE_KEY, size),
            ] {
                if let Some(value) = value {
                    machine.metadata.insert(key.to_owned(), value.to_owned());
                }
            }
            machines.push(Wanted {
                name: format!("golive-{group}-{index}"),
                checks: asked.config.health_checks(&group).len(),
                standby: index >= running,
                volume: asked
                    .config
                    .mounts_of(&group)
                    .first()
                    .and_then(|mount| mount.source.clone()),
                group: group.clone(),
                config: machine,
                slot,
                hash,
            });
        }
    }
    Ok(machines)
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

/// The live machine that fills a place.
pub fn in_slot<'a>(machines: &'a [Machine], slot: &str) -> Option<&'a Machine> {
    machines
        .iter()
        .find(|machine| machine.metadata(SLOT_KEY) == Some(slot))
}

/// True when the machine is marked as this Activation's.
pub fn is_ours(machine: &Machine, owner: &Owner) -> bool {
    machine.metadata(UID_KEY) == Some(owner.uid.as_str())
}

/// What the plan looks at.
#[derive(Debug)]
pub struct Fleet<'a> {
    /// The machines that should be.
    pub wanted: &'a [Wanted],
    /// Ours that are.
    pub machines: &'a [Machine],
    /// Digests of other releases.
    pub other_digests: &'a [String],
    /// Versions of machines that this process wrote.
    pub written: &'a BTreeSet<String>,
    /// How many machines an update takes at a time.
    pub pool: usize,
    /// Whether an update goes on only over healthy machines.
    pub careful: bool,
    /// How machines without checks are watched.
    pub watch: Watch,
}

impl Fleet<'_> {
    /// True when the machine runs what it should. A silent revert brings back the old marks with
    /// the old configuration; somebody else's change keeps the marks and changes a field.
    ///
    /// A version that we wrote ourselves is not compared field by field: whatever the platform
    /// made of our words there, writing them again would change nothing and restart the machine.
    fn is_current(&self, machine: &Machine, wanted: &Wanted) -> bool {
        let marked = machine.metadata(CONFIG_KEY) == Some(wanted.hash.as_str());
        let Some(config) = &machine.config else {
            // Its host cannot be reached, so nothing can be compared, and nothing updated.
            return marked || machine.host_status != HostStatus::Ok;
        };
        if !marked || config.image != wanted.config.image {
            return false;
        }
        if self.written.contains(&machine.instance_id) {
            return true;
        }
        let host = machine
            .image_ref
            .as_ref()
            .and_then(|image| image.digest.as_ref());
        host.is_none_or(|host| !self.other_digests.contains(host)) && same(&wanted.config, config)
    }
}

/// Whether the fields that decide what runs are as wanted. The platform adds fields, so only
/// those that are wanted are looked at.
fn same(wanted: &MachineConfig, actual: &MachineConfig) -> bool {
    let command = |config: &MachineConfig| {
        let init = config.init.clone().unwrap_or_default();
        (init.cmd, init.entrypoint, init.exec)
    };
    let guest = |config: &MachineConfig| {
        let guest = config.guest.as_ref()?;
        Some((guest.cpu_kind.clone(), guest.cpus, guest.memory_mb))
    };
    let ports = |config: &MachineConfig| -> Vec<(Option<u16>, Vec<Option<u16>>)> {
        config
            .services
            .iter()
            .map(|s| {
                (
                    s.internal_port,
                    s.ports.iter().map(|port| port.port).collect(),
                )
            })
            .collect()
    };
    wanted
        .env
        .iter()
        .all(|(name, value)| actual.env.get(name) == Some(value))
        && command(wanted) == command(actual)
        && guest(wanted).is_none_or(|wanted| guest(actual) == Some(wanted))
        && ports(wanted) == ports(actual)
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

/// What has to happen next.
#[derive(Clone, Debug, PartialEq)]
pub enum Move {
    /// Everything runs what it should.
    Nothing,
    /// Create these, all at once.
    Create(Vec<Wanted>),
    /// Update these, all at once: a machine and what it should be.
    Update(Vec<(Machine, Wanted)>),
    /// Start these, which are as they should be but do not run.
    Start(Vec<Machine>),
    /// Destroy these, which nobody wants any more.
    Destroy(Vec<Machine>),
    /// Nothing may be touched before those that were updated are healthy: these slots.
    Settle(Vec<String>),
}

/// Plans the next move of a rolling deployment. A first deployment creates everything at once.
/// An update takes the first machine alone and then as many at a time as `max_unavailable`
/// allows, and goes on only when what was updated is healthy.
pub fn plan(fleet: &Fleet) -> Move {
    let missing: Vec<&Wanted> = fleet
        .wanted
        .iter()
        .filter(|wanted| in_slot(fleet.machines, &wanted.slot).is_none())
        .collect();
    let running: Vec<Wanted> = missing
        .iter()
        .filter(|wanted| !wanted.standby)
        .map(|wanted| (*wanted).clone())
        .collect();
    if !running.is_empty() {
        return Move::Create(running);
    }
    if !missing.is_empty() {
        let standbys = missing.into_iter().map(|w| stand_by(fleet, w)).collect();
        return Move::Create(standbys);
    }
    let (current, outdated): (Vec<_>, Vec<_>) = fleet
        .wanted
        .iter()
        .filter_map(|wanted| Some((in_slot(fleet.machines, &wanted.slot)?, wanted)))
        .partition(|(machine, wanted)| fleet.is_current(machine, wanted));
    if !outdated.is_empty() {
        let unsettled: Vec<String> = current
            .iter()
            .filter(|(_, wanted)| !wanted.standby)
            .filter(|(machine, wanted)| health_of(machine, wanted, fleet.watch) != Health::Healthy)
            .map(|(_, wanted)| wanted.slot.clone())
            .collect();
        if fleet.careful && !unsettled.is_empty() {
            return Move::Settle(unsettled);
        }
        let size = if current.is_empty() {
            1
        } else {
            fleet.pool.max(1)
        };
        return Move::Update(
            outdated
                .into_iter()
                .take(size)
                .map(|(machine, wanted)| (machine.clone(), wanted.clone()))
                .collect(),
        );
    }
    let stopped: Vec<Machine> = current
        .iter()
        .filter(|(machine, wanted)| {
            !wanted.standby
                && ((!starts_on_demand(wanted) && is_stopped_on_request(machine))
                    || has_rested(machine, fleet.watch.now))
        })
        .map(|(machine, _)| (*machine).clone())
        .collect();
    if !stopped.is_empty() {
        return Move::Start(stopped);
    }
    let surplus: Vec<Machine> = fleet
        .machines
        .iter()
        .filter(|machine| {
            let slot = machine.metadata(SLOT_KEY).unwrap_or_default();
            !is_release(slot) && !fleet.wanted.iter().any(|wanted| wanted.slot == slot)
        })
        .cloned()
        .collect();
    if surplus.is_empty() {
        Move::Nothing
    } else {
        Move::Destroy(surplus)
    }
}

/// The place of a machine that runs a release command.
pub fn release_slot(number: u64, key: &str) -> String {
    let key: String = key.chars().take(8).collect();
    format!("{RELEASE_SLOT}{number}-{key}")
}

/// A process group is a TOML key of letters, digits, `-` and `_`: it has no `/`.
const RELEASE_SLOT: &str = "release/";

/// Whether a place is that of a machine that runs a release command.
pub fn is_release(slot: &str) -> bool {
    slot.starts_with(RELEASE_SLOT)
}

/// A standby names the machine that it stands in for.
fn stand_by(fleet: &Fleet, wanted: &Wanted) -> Wanted {
    let mut wanted = wanted.clone();
    let first = in_slot(fleet.machines, &format!("{}-0", wanted.group));
    if let Some(first) = first {
        wanted.config.standbys = vec![first.id.clone()];
        wanted
            .config
            .env
            .insert("FLY_STANDBY_FOR".to_owned(), first.id.clone());
    }
    wanted
}

/// Stopped, and not because its program ended by itself.
fn is_stopped_on_request(machine: &Machine) -> bool {
    matches!(
        machine.state,
        MachineState::Stopped | MachineState::Suspended
    ) && machine
        .exit_since_start()
        .is_none_or(|exit| exit.requested_stop == Some(true))
}

/// Shortest and longest rest of a machine whose program ended by itself.
const REST: (SignedDuration, SignedDuration) =
    (SignedDuration::from_secs(30), SignedDuration::from_mins(10));

/// Stopped because its program ended by itself, often enough that the platform gave up, and long
/// enough ago to try once more: what it depends on may have been mended. The rest grows with the
/// machine's age at its end, so it doubles.
fn has_rested(machine: &Machine, now: Timestamp) -> bool {
    let Some(exit) = machine.exit_since_start() else {
        return false;
    };
    let Some((ended, created)) = exit.exited_at.zip(machine.created_at) else {
        return false;
    };
    let rest = ended.duration_since(created).clamp(REST.0, REST.1);
    machine.state == MachineState::Stopped
        && exit.requested_stop != Some(true)
        && now.duration_since(ended) > rest
}

#[cfg(test)]
mod tests;
