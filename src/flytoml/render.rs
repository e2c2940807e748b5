//! The machine configurations of a first deployment, without sending them.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::fly::machine_config::MachineConfig;

use super::config::AppConfig;
use super::machine::{Context, ConversionError, RELEASE_COMMAND_GROUP};

/// Machines of a process group with the same configuration.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Machines {
    /// The process group.
    pub process_group: String,
    /// Number of machines.
    pub count: u32,
    /// Region; Fly.io chooses one when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Whether they are created without being started.
    pub skip_launch: bool,
    /// The configuration.
    pub config: MachineConfig,
}

/// The machines of a first deployment, in the order of creation: the release command's, then each
/// group's, followed by its standby.
///
/// `scale` and `regions` override the number and regions of a group's machines; such a group has no
/// standby. Ids of volumes and releases and Golive's own metadata are missing, because they are
/// known only during a deployment. A standby refers to its group instead of a machine id.
pub fn first_deployment(
    config: &AppConfig,
    context: &Context,
    scale: &BTreeMap<String, u32>,
    regions: &BTreeMap<String, BTreeMap<String, u32>>,
) -> Result<Vec<Machines>, ConversionError> {
    let machines = |group: &str, count, skip_launch, config_| Machines {
        process_group: group.to_owned(),
        count,
        region: config.primary_region.clone(),
        skip_launch,
        config: config_,
    };
    let mut all = Vec::new();
    if config.deploy.release_command.is_some() {
        let release = config.release_machine_config(context, None)?;
        all.push(machines(RELEASE_COMMAND_GROUP, 1, false, release));
    }
    for group in config.process_groups() {
        if let Some(counts) = regions.get(&group) {
            for (region, count) in counts.iter().filter(|(_, count)| **count > 0) {
                let machine = config.machine_config(&group, context)?;
                all.push(Machines {
                    region: Some(region.clone()),
                    ..machines(&group, *count, false, machine)
                });
            }
            continue;
        }
        let first = config.first_machines(&group, true);
        let (running, standby) = match scale.get(&group) {
            Some(count) => (*count, 0),
            None => (first.running, first.standby),
        };
        if running > 0 {
            let machine = config.machine_config(&group, context)?;
            all.push(machines(&group, running, false, machine));
        }
        if standby > 0 {
            let placeholder = [format!("<id of the machine of {group}>")];
            let standing_by = Context {
                standby_for: &placeholder,
                ..context.clone()
            };
            let machine = config.machine_config(&group, &standing_by)?;
            all.push(machines(&group, standby, true, machine));
        }
    }
    Ok(all)
}
