//! Process groups and the sections that belong to them. Source: flyctl
//! `internal/appconfig/processgroups.go`, `internal/command/deploy/deploy_first.go`.

use super::config::{AppConfig, MachineTest, Mount, Service, Vm};
use super::problem::nearest;
use super::reader::Reader;

/// The name of the only group when there is no `[processes]`.
pub const APP: &str = "app";

/// What a first deployment creates for a process group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstMachines {
    /// Machines that run.
    pub running: u32,
    /// Standby machines of the first one, which are not started.
    pub standby: u32,
}

impl AppConfig {
    /// The groups in order of their names; `app` alone when there is no `[processes]`.
    pub fn process_groups(&self) -> Vec<String> {
        if self.processes.is_empty() {
            return vec![APP.to_owned()];
        }
        self.processes.keys().cloned().collect()
    }

    /// The group of sections without `processes`: `app` if it exists, else the first by name.
    pub fn default_group(&self) -> String {
        let groups = self.process_groups();
        if groups.iter().any(|group| group == APP) {
            return APP.to_owned();
        }
        groups.into_iter().next().unwrap_or_else(|| APP.to_owned())
    }

    /// Whether a section with this `processes` belongs to the group.
    pub(super) fn belongs(&self, processes: &[String], group: &str) -> bool {
        let is_default = || group == self.default_group();
        if processes.is_empty() {
            return is_default();
        }
        processes
            .iter()
            .any(|name| name == group || (name.is_empty() && is_default()))
    }

    /// The services of a group, `[http_service]` first.
    pub fn services_of(&self, group: &str) -> Vec<Service> {
        let mut services = self.all_services();
        services.retain(|service| self.belongs(&service.processes, group));
        services
    }

    /// The `machine_checks` of a group: those of its services, then those of the whole application.
    pub fn machine_tests_of(&self, group: &str) -> Vec<MachineTest> {
        let services = self.services_of(group).into_iter();
        services
            .flat_map(|service| service.machine_checks)
            .chain(self.machine_checks.iter().cloned())
            .collect()
    }

    /// The volumes of a group; at most one in a valid configuration.
    pub fn mounts_of(&self, group: &str) -> Vec<&Mount> {
        self.mounts
            .iter()
            .filter(|mount| self.belongs(&mount.processes, group))
            .collect()
    }

    /// The `[[vm]]` of a group: the last that names it, else the first that names no group.
    pub(super) fn vm_of(&self, group: &str) -> Option<&Vm> {
        let names_it = |vm: &&Vm| vm.processes.iter().any(|name| name == group);
        self.vm.iter().rfind(names_it).or_else(|| {
            self.vm
                .iter()
                .find(|vm| vm.processes.is_empty() || self.belongs(&vm.processes, group))
        })
    }

    /// How many machines a first deployment creates for a group.
    ///
    /// With high availability: one if it has a volume, two if it has services, else one and a
    /// standby. Without: one.
    pub fn first_machines(&self, group: &str, high_availability: bool) -> FirstMachines {
        let (running, standby) = if !high_availability || !self.mounts_of(group).is_empty() {
            (1, 0)
        } else if self.services_of(group).is_empty() {
            (1, 1)
        } else {
            (2, 0)
        };
        FirstMachines { running, standby }
    }
}

/// Warns about process groups that do not exist. flyctl accepts them silently; the section then has
/// no effect.
pub(super) fn known_groups(config: &AppConfig, reader: &Reader, at: &str, names: &[String]) {
    if reader.has_unread("processes") {
        return;
    }
    let groups = config.process_groups();
    for name in names {
        if !name.is_empty() && !groups.contains(name) {
            reader.warn(
                &format!("{at}.processes"),
                format!(
                    "there is no process group {name}, so this has no effect for it; there are {}",
                    groups.join(", ")
                ),
            );
        }
    }
}

/// The same as an error, where flyctl refuses it.
pub(super) fn required_groups(config: &AppConfig, reader: &Reader, at: &str, names: &[String]) {
    if reader.has_unread("processes") {
        return;
    }
    let groups = config.process_groups();
    for name in names.iter().filter(|name| !groups.contains(name)) {
        let names: Vec<&str> = groups.iter().map(String::as_str).collect();
        let meant = nearest(name, &names)
            .map(|meant| format!("; did you mean {meant}?"))
            .unwrap_or_default();
        reader.error(
            &format!("{at}.processes"),
            format!(
                "there is no process group {name}; there are {}{meant}",
                groups.join(", ")
            ),
        );
    }
}
