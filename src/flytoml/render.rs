//! What a first deployment would send, as JSON, without sending it.

use serde_json::{Value, json};

use super::config::AppConfig;
use super::machine::{Context, ConversionError, RELEASE_COMMAND_GROUP};

/// The machines that a first deployment creates, in the order in which it creates them.
///
/// Each entry holds `process_group`, `count`, `region`, `skip_launch`, for a standby
/// `standby_for`, and `config` as it is sent. The ids of standbys are not known before the
/// machine they stand by for exists; a placeholder says which group's it is.
pub fn render(
    config: &AppConfig,
    context: &Context,
    high_availability: bool,
) -> Result<Value, ConversionError> {
    let region = config.primary_region.as_deref();
    let mut machines = Vec::new();
    if config.deploy.release_command.is_some() {
        machines.push(json!({
            "process_group": RELEASE_COMMAND_GROUP,
            "count": 1,
            "region": region,
            // It is created stopped and started when its logs are followed.
            "skip_launch": true,
            "config": config.release_machine_config(context, None)?,
        }));
    }
    for group in config.process_groups() {
        let first = config.first_machines(&group, high_availability);
        machines.push(json!({
            "process_group": group,
            "count": first.running,
            "region": region,
            "skip_launch": false,
            "config": config.machine_config(&group, context)?,
        }));
        if first.standby > 0 {
            let placeholder = [format!("<id of the {group} machine>")];
            let standby = Context {
                standby_for: &placeholder,
                ..context.clone()
            };
            machines.push(json!({
                "process_group": group,
                "count": first.standby,
                "region": region,
                "skip_launch": true,
                "standby_for": group,
                "config": config.machine_config(&group, &standby)?,
            }));
        }
    }
    Ok(Value::Array(machines))
}
