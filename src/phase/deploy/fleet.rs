//! The machines that should be, and what has to happen to get there. Pure.

use sha2::{Digest, Sha256};

use crate::{
    error::Error,
    fly::{Machine, MachineConfig, MachineState},
    flytoml::{self, AppConfig},
    phase::Owner,
    target::Target,
};

/// Metadata key of the Activation that a machine belongs to.
pub const UID_KEY: &str = "golive_activation_uid";
/// Metadata key of the place that a machine fills.
pub const SLOT_KEY: &str = "golive_slot";
/// Metadata key of the hash of the configuration that a machine was given.
pub const CONFIG_KEY: &str = "golive_config";

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
    /// Its configuration, marks and hash included.
    pub config: MachineConfig,
    /// The hash alone.
    pub hash: String,
}

/// All machines that should be, in the order in which they are created.
///
/// # Errors
/// When the fly.toml cannot be converted; preflight finds that first.
pub fn wanted(
    target: &Target,
    owner: &Owner,
    config: &AppConfig,
    image: &str,
    secrets: &str,
    size: Option<&crate::fly::machine_config::MachineGuest>,
) -> Result<Vec<Wanted>, Error> {
    let mut machines = Vec::new();
    for group in config.process_groups() {
        let first = config.first_machines(&group, true);
        let (running, standby) = match target.deploy.scale.get(&group) {
            Some(count) => (*count, 0),
            None => (first.running, first.standby),
        };
        for index in 0..running + standby {
            let slot = format!("{group}-{index}");
            let mut context = flytoml::Context {
                image,
                size,
                ..flytoml::Context::default()
            };
            context
                .metadata
                .insert(UID_KEY.to_owned(), owner.uid.clone());
            context.metadata.insert(SLOT_KEY.to_owned(), slot.clone());
            let mut machine =
                config
                    .machine_config(&group, &context)
                    .map_err(|error| Error::Blocked {
                        reason: crate::api::Reason::FlyConfigInvalid,
                        message: format!(
                            "cannot build the machines of {group} from fly.toml: {error}"
                        ),
                    })?;
            let hash = hash(&machine, secrets);
            machine.metadata.insert(CONFIG_KEY.to_owned(), hash.clone());
            machines.push(Wanted {
                name: format!("golive-{group}-{index}"),
                checks: config.health_checks(&group).len(),
                standby: index >= running,
                group: group.clone(),
                config: machine,
                slot,
                hash,
            });
        }
    }
    Ok(machines)
}

/// Hash of a configuration and of the secrets that a machine sees when it starts.
fn hash(config: &MachineConfig, secrets: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(config).unwrap_or_default());
    hash.update(secrets.as_bytes());
    data_encoding::HEXLOWER.encode(&hash.finalize()[..12])
}

/// True when the machine is marked as this Activation's.
pub fn is_ours(machine: &Machine, owner: &Owner) -> bool {
    machine.metadata(UID_KEY) == Some(owner.uid.as_str())
}

/// True when the machine runs what it should: the configuration that it was given is the wanted
/// one, and so is the digest that its host resolved. A silent revert brings back the old marks
/// with the old configuration, so it is seen here.
pub fn is_current(machine: &Machine, wanted: &Wanted, digest: &str) -> bool {
    let host = machine
        .image_ref
        .as_ref()
        .and_then(|image| image.digest.as_deref());
    let image = machine.config.as_ref().map(|config| config.image.as_str());
    machine.metadata(CONFIG_KEY) == Some(wanted.hash.as_str())
        && host.is_none_or(|host| host == digest)
        && image.is_none_or(|image| image == wanted.config.image)
}

/// How a machine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Started, and all checks pass.
    Healthy,
    /// On its way to started.
    Starting,
    /// Started; these checks do not pass (yet).
    Unhealthy(Vec<String>),
    /// Its program ended, and nobody asked for that.
    Exited {
        code: i64,
        out_of_memory: bool,
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
                .filter(|check| check.status != crate::fly::machines::CheckResult::Passing)
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
    /// Nothing may be touched before these that were updated are healthy.
    Settle(Vec<(Machine, Health)>),
}

/// Plans the next move of a rolling deployment. A first deployment creates everything at once.
/// An update takes the first machine alone and then as many at a time as `max_unavailable`
/// allows, and goes on only when what was updated is healthy.
pub fn plan(wanted: &[Wanted], machines: &[Machine], digest: &str, pool: usize) -> Move {
    let find = |wanted: &Wanted| {
        machines
            .iter()
            .find(|machine| machine.metadata(SLOT_KEY) == Some(wanted.slot.as_str()))
    };
    let missing: Vec<Wanted> = wanted
        .iter()
        .filter(|w| find(w).is_none())
        .cloned()
        .collect();
    if !missing.is_empty() {
        return Move::Create(missing);
    }
    let pairs: Vec<(&Machine, &Wanted)> =
        wanted.iter().filter_map(|w| Some((find(w)?, w))).collect();
    let (current, outdated): (Vec<_>, Vec<_>) = pairs
        .into_iter()
        .partition(|(machine, wanted)| is_current(machine, wanted, digest));
    if !outdated.is_empty() {
        let unsettled: Vec<(Machine, Health)> = current
            .iter()
            .filter(|(_, wanted)| !wanted.standby)
            .map(|(machine, wanted)| ((*machine).clone(), health(machine, wanted.checks)))
            .filter(|(_, health)| *health != Health::Healthy)
            .collect();
        if !unsettled.is_empty() {
            return Move::Settle(unsettled);
        }
        let size = if current.is_empty() { 1 } else { pool.max(1) };
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
                && matches!(machine.state, MachineState::Stopped | MachineState::Suspended)
                && machine
                    .exit_since_start()
                    .is_none_or(|exit| exit.requested_stop == Some(true))
                // The proxy stops and starts these by itself.
                && !wanted.config.services.iter().any(|service| {
                    service.autostart == Some(true)
                })
        })
        .map(|(machine, _)| (*machine).clone())
        .collect();
    if !stopped.is_empty() {
        return Move::Start(stopped);
    }
    let surplus: Vec<Machine> = machines
        .iter()
        .filter(|machine| {
            let slot = machine.metadata(SLOT_KEY).unwrap_or_default();
            !slot.starts_with("release") && !wanted.iter().any(|wanted| wanted.slot == slot)
        })
        .cloned()
        .collect();
    if surplus.is_empty() {
        Move::Nothing
    } else {
        Move::Destroy(surplus)
    }
}
