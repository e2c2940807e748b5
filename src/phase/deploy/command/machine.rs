//! The machine in which a command runs.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::{
    one_off::{OneOff, Runs},
    program::Program,
};
use crate::{
    fly::{Machine, machine_config::MachineGuest},
    flytoml::{self, AppConfig},
    phase::{
        deploy::fleet::{slots, wanted::not_convertible},
        marks::{ATTEMPT_KEY, SLOT_KEY, UID_KEY},
    },
    pipeline::{Cx, step::Result},
};

/// Longest run, unless fly.toml declares `release_command_timeout`. The default of `fly deploy`.
pub const TIMEOUT: Duration = Duration::from_secs(300);

/// Longest run of the release command that fly.toml allows.
pub fn timeout(config: &AppConfig) -> Duration {
    let declared = config.deploy.release_command_timeout;
    declared.map_or(TIMEOUT, |timeout| timeout.0)
}

/// A command of `[deploy]`.
pub struct Command {
    /// Which.
    pub program: Program,
    /// The slot of its machine.
    pub slot: String,
    /// Name of its machine without the number of the run.
    pub name: String,
    /// The name in the announcement.
    pub announced: String,
    /// The image with its digest.
    pub image: String,
    /// The command line.
    pub command: String,
    /// Key of the release that it runs for.
    pub release: String,
}

impl Command {
    /// What identifies the attempt: the release, and the command line, which is no part of the key of a
    /// release everywhere.
    fn attempt(&self) -> String {
        let hash = Sha256::digest(&self.command);
        let hash = data_encoding::HEXLOWER.encode(&hash[..6]);
        format!("{}-{hash}", self.release)
    }
}

/// The runs of a command in these machines.
///
/// # Errors
/// When the fly.toml cannot be converted.
pub async fn runs(
    cx: &Cx,
    command: Command,
    machines: Vec<Machine>,
    app_machines: &[Machine],
) -> Result<Runs> {
    let app = &cx.target.config()?.app;
    let attempt = command.attempt();
    let mut context = flytoml::Context {
        image: &command.image,
        ..flytoml::Context::default()
    };
    for (key, value) in [
        (UID_KEY, cx.owner.uid.as_str()),
        (SLOT_KEY, command.slot.as_str()),
        (ATTEMPT_KEY, attempt.as_str()),
    ] {
        context.metadata.insert(key.to_owned(), value.to_owned());
    }
    let largest = largest(app_machines, &app.default_group());
    let config = app
        .one_off_machine_config(&command.command, &context, largest.as_ref())
        .map_err(|error| {
            not_convertible(&format!("machine of the {}", command.program.key()), &error)
        })?;
    let one_off = OneOff {
        program: command.program,
        name: command.name,
        announced: command.announced,
        region: cx.target.region.clone(),
        config,
        timeout: timeout(app),
        attempt,
    };
    Runs::new(cx, one_off, machines).await
}

/// The size with the most memory among the machines of the default group, which flyctl gives to the
/// command; of equal sizes the first.
fn largest(machines: &[Machine], default_group: &str) -> Option<MachineGuest> {
    machines
        .iter()
        .filter(|machine| machine.metadata(flytoml::PROCESS_GROUP_KEY) == Some(default_group))
        .filter(|machine| !slots::runs_a_command(machine))
        .filter_map(|machine| machine.config.as_ref()?.guest.as_ref())
        .filter(|guest| guest.memory_mb > Some(0))
        .reduce(|most, guest| {
            if guest.memory_mb > most.memory_mb {
                guest
            } else {
                most
            }
        })
        .cloned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn machine(group: &str, slot: &str, cpus: u32, memory_mb: u32) -> Machine {
        serde_json::from_value(json!({
            "id": "148ed599b14d89", "state": "started",
            "config": {
                "image": "r/a:1",
                "guest": {"cpu_kind": "shared", "cpus": cpus, "memory_mb": memory_mb},
                "metadata": {"fly_process_group": group, "golive_slot": slot},
            },
        }))
        .unwrap()
    }

    #[test]
    fn the_command_gets_the_size_with_most_memory_of_the_default_group_alone() {
        let machines = [
            machine("app", "app-0", 4, 1024),
            machine("app", "app-1", 1, 2048),
            machine("app", "app-2", 2, 2048),
            machine("worker", "worker-0", 8, 16_384),
            machine("app", "release/1-abc", 8, 16_384),
        ];
        let size = |machines: &[Machine], group| {
            largest(machines, group).map(|guest| (guest.cpus.unwrap(), guest.memory_mb.unwrap()))
        };
        assert_eq!(size(&machines, "app"), Some((1, 2048)));
        assert_eq!(size(&machines, "worker"), Some((8, 16_384)));
        // A first deployment has none: the conversion takes shared-cpu-2x.
        assert_eq!(size(&machines, "web"), None);
    }
}
