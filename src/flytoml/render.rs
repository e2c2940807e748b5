//! What a first deployment would send, without sending it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::fly::machine_config::MachineConfig;

use super::config::AppConfig;
use super::machine::{Context, ConversionError, RELEASE_COMMAND_GROUP};

/// Machines of a process group that are created alike.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Machines {
    /// The process group.
    pub process_group: String,
    /// How many.
    pub count: u32,
    /// Region; the platform chooses when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Whether they are created without being started.
    pub skip_launch: bool,
    /// The configuration as it is sent.
    pub config: MachineConfig,
}

/// The machines that a first deployment creates, in the order in which it creates them: the
/// release command's, then group by group, each followed by its standby.
///
/// `scale` and `regions` override how many a group gets, and where; a group that is named there has
/// no standby. What is known
/// only at the time of a deployment is missing: ids of volumes and releases, and Golive's marks.
/// A standby names its group in place of the id of the machine that it stands by for.
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
