//! Machines of the app that Golive did not make and that run the application or serve it. Pure.
//!
//! They are told and left alone: nothing proves whose they are. A machine without services that runs
//! something else, such as a console or a release command of flyctl, is none of them.

use std::collections::BTreeSet;

use crate::{
    fly::{Machine, MachineState},
    flytoml::PROCESS_GROUP_KEY,
    phase::marks::SLOT_KEY,
};

/// Most machines that are told one by one.
const MOST: usize = 4;

/// What a machine that is not ours does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// It is a copy of our machine in this slot.
    Copy(String),
    /// Fly.io's proxy sends it requests.
    Serves,
    /// It runs this process group of the application.
    Runs(String),
}

/// What a machine that is not ours does for the application, if anything. `groups` are the process
/// groups of the application.
fn role(machine: &Machine, groups: &BTreeSet<String>) -> Option<Role> {
    let is_up = !matches!(
        machine.state,
        MachineState::Stopped | MachineState::Suspended | MachineState::Created
    );
    let config = machine
        .config
        .as_ref()
        .or(machine.incomplete_config.as_ref())?;
    // The proxy starts a stopped machine on demand, unless that is switched off.
    let mut services = config.services.iter();
    let on_demand = services.any(|service| service.autostart != Some(false));
    let serves = !config.services.is_empty() && machine.cordoned != Some(true);
    if let Some(slot) = machine.metadata(SLOT_KEY)
        && (is_up || serves && on_demand)
    {
        return Some(Role::Copy(slot.to_owned()));
    }
    if serves && (is_up || on_demand) {
        return Some(Role::Serves);
    }
    let group = machine.metadata(PROCESS_GROUP_KEY)?;
    (is_up && config.services.is_empty() && groups.contains(group))
        .then(|| Role::Runs(group.to_owned()))
}

/// A line for each machine that is not ours and runs the application or serves it.
pub fn lines(others: &[Machine], app: &str, groups: &BTreeSet<String>) -> Vec<String> {
    let mut found: Vec<(&Machine, Role)> = others
        .iter()
        .filter_map(|machine| Some((machine, role(machine, groups)?)))
        .collect();
    found.sort_by(|(one, _), (other, _)| one.id.cmp(&other.id));
    let more = found.len().saturating_sub(MOST);
    let mut lines: Vec<String> = found
        .iter()
        .take(MOST)
        .map(|(machine, role)| line(machine, role, app))
        .collect();
    if more > 0 {
        lines.push(format!(
            "{more} more machines that Golive did not make: `fly machine list -a {app}`"
        ));
    }
    lines
}

fn line(machine: &Machine, role: &Role, app: &str) -> String {
    let Machine { id, name, .. } = machine;
    let config = machine
        .config
        .as_ref()
        .or(machine.incomplete_config.as_ref());
    let image = config.map_or("unknown", |config| config.image.as_str());
    let (does, instead) = match role {
        Role::Copy(slot) => (
            format!("is a copy of the machine in the slot {slot}"),
            "; for more machines set `deploy.scale`",
        ),
        Role::Serves => ("gets requests for this app".to_owned(), ""),
        Role::Runs(group) => (format!("runs the process group {group}"), ""),
    };
    format!(
        "the machine {id} ({name}, image {image}) {does}, and Golive did not make it: destroy it with `fly machine destroy {id} --force -a {app}`{instead}"
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(more: Value) -> Vec<String> {
        let mut json = json!({
            "id": "148ed599b14d89", "name": "silent-moon-1", "state": "started", "region": "eze",
            "config": {"image": "registry.fly.io/shop:1.5.0"},
        });
        for (key, value) in more.as_object().unwrap() {
            match json[key].as_object_mut() {
                Some(inside) => inside.extend(value.as_object().unwrap().clone()),
                None => json[key] = value.clone(),
            }
        }
        let machine: Machine = serde_json::from_value(json).unwrap();
        lines(
            &[machine],
            "shop",
            &BTreeSet::from(["app".to_owned(), "work".to_owned()]),
        )
    }

    #[test]
    fn a_machine_that_gets_requests_is_told_with_its_image_and_the_command_that_destroys_it() {
        let services = json!([{"internal_port": 8080}]);
        let lines = told(json!({"config": {"services": services}}));
        assert_eq!(
            lines,
            [
                "the machine 148ed599b14d89 (silent-moon-1, image registry.fly.io/shop:1.5.0) gets \
              requests for this app, and Golive did not make it: destroy it with \
              `fly machine destroy 148ed599b14d89 --force -a shop`"
            ]
        );
        let stopped = json!({"state": "stopped", "config": {"services": services}});
        assert_eq!(told(stopped).len(), 1, "the proxy starts it");
    }

    #[test]
    fn what_neither_serves_nor_runs_the_application_is_left_out() {
        let services = json!([{"internal_port": 8080, "autostart": false}]);
        for other in [
            json!({}),
            json!({"config": {"metadata": {"fly_process_group": "fly_app_console"}}}),
            json!({"config": {"metadata": {"fly_process_group": "fly_app_release_command"}}}),
            json!({"cordoned": true, "config": {"services": services}}),
            json!({"state": "stopped", "config": {"services": services}}),
            json!({"state": "stopped", "config": {"metadata": {"fly_process_group": "work"}}}),
        ] {
            assert_eq!(told(other.clone()), [""; 0], "{other}");
        }
    }

    #[test]
    fn a_copy_and_a_worker_run_the_application_without_services_too() {
        let worker = json!({"config": {"metadata": {"fly_process_group": "work"}}});
        assert!(told(worker)[0].contains("runs the process group work"));
        let copy = json!({"config": {"metadata": {"golive_slot": "app-0"}}});
        let line = &told(copy)[0];
        assert!(
            line.contains("is a copy of the machine in the slot app-0"),
            "{line}"
        );
        assert!(line.contains("`deploy.scale`"), "{line}");
    }
}
