//! Process groups and the sections that belong to them. Source: flyctl
//! `internal/appconfig/processgroups.go`, `internal/command/deploy/deploy_first.go`.

use super::config::{AppConfig, HttpService, MachineTest, Mount, Service, Vm};
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
        self.default_name().to_owned()
    }

    fn default_name(&self) -> &str {
        if self.has_group(APP) {
            return APP;
        }
        self.processes.keys().next().map_or(APP, String::as_str)
    }

    /// Whether there is a group of this name.
    pub fn has_group(&self, group: &str) -> bool {
        match self.processes.is_empty() {
            true => group == APP,
            false => self.processes.contains_key(group),
        }
    }

    /// Whether a section with this `processes` belongs to the group.
    pub(super) fn belongs(&self, processes: &[String], group: &str) -> bool {
        let is_default = || group == self.default_name();
        if processes.is_empty() {
            return is_default();
        }
        processes
            .iter()
            .any(|name| name == group || (name.is_empty() && is_default()))
    }

    /// The services of a group, `[http_service]` first.
    pub fn services_of(&self, group: &str) -> Vec<Service> {
        let http = self.http_service.iter();
        let http = http.filter(|service| self.belongs(&service.processes, group));
        let services = self.services.iter();
        let services = services.filter(|service| self.belongs(&service.processes, group));
        http.map(HttpService::to_service)
            .chain(services.cloned())
            .collect()
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

/// The first groups that a message names.
const NAMED: usize = 10;

/// The groups, for a message; of very many the first ones.
pub(super) fn some_groups(config: &AppConfig) -> String {
    let groups = config.process_groups();
    let named = groups.iter().take(NAMED).map(String::as_str);
    let named = named.collect::<Vec<_>>().join(", ");
    match groups.len().checked_sub(NAMED) {
        None | Some(0) => named,
        Some(more) => format!("{named} and {more} more"),
    }
}

/// Warns about process groups that do not exist. flyctl accepts them silently; the section then has
/// no effect.
pub(super) fn known_groups(config: &AppConfig, reader: &Reader, at: &str, names: &[String]) {
    if reader.has_unread("processes") {
        return;
    }
    for name in names {
        if !name.is_empty() && !config.has_group(name) {
            reader.warn(
                &format!("{at}.processes"),
                format!(
                    "there is no process group {name}, so this has no effect for it; there are {}",
                    some_groups(config)
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
    for name in names.iter().filter(|name| !config.has_group(name)) {
        let groups = config.process_groups();
        let names: Vec<&str> = groups.iter().map(String::as_str).collect();
        let meant = nearest(name, &names)
            .map(|meant| format!("; did you mean {meant}?"))
            .unwrap_or_default();
        reader.error(
            &format!("{at}.processes"),
            format!(
                "there is no process group {name}; there are {}{meant}",
                some_groups(config)
            ),
        );
    }
}
