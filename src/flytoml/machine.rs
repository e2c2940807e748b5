//! Builds the configuration of a machine from `fly.toml`, as flyctl does. Sources: flyctl
//! `internal/appconfig/machines.go`, `internal/command/deploy/machines_releasecommand.go`.
//!
//! An update starts from the live configuration of the machine: what `fly.toml` defines is
//! replaced, and the rest (schedule, DNS, foreign metadata, the size without a `[[vm]]`) is
//! preserved.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::fly::machine_config::{
    CheckHeader, MachineCheck, MachineConfig, MachineDns, MachineFile, MachineGuest, MachineInit,
    MachineMetrics, MachineMount, MachineRestart, MachineService, MachineStatic, RestartPolicy,
    StopConfig,
};

use super::config::{AppConfig, HttpCheck, MachineTest, Service, TcpCheck, TopLevelCheck};
use super::guest::{DEFAULT_SIZE, GuestError, of_vm};
use super::{containers, size, words};

/// Process group of the machine that runs the release command.
pub const RELEASE_COMMAND_GROUP: &str = "fly_app_release_command";

/// Process group of machines that test others (`machine_checks`).
pub const TEST_MACHINE_GROUP: &str = "fly_app_test_machine_command";

/// Metadata key of the process group.
pub const PROCESS_GROUP_KEY: &str = "fly_process_group";

/// Inputs of a machine configuration other than `fly.toml`.
#[derive(Clone, Debug, Default)]
pub struct Context<'a> {
    /// Image reference, preferably with a digest.
    pub image: &'a str,
    /// The release that the machine belongs to.
    pub release: Option<Release>,
    /// The configuration of the machine that is updated; `None` for a new machine.
    pub live: Option<&'a MachineConfig>,
    /// A size that overrides all others: a fallback for missing capacity.
    pub size: Option<&'a MachineGuest>,
    /// Machines that this one is a standby for; only for a new machine.
    pub standby_for: &'a [String],
    /// Additional metadata, such as Golive's own.
    pub metadata: BTreeMap<String, String>,
}

/// A release as Fly.io numbers it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Release {
    /// Its id.
    pub id: String,
    /// Its number.
    pub version: u64,
}

/// Why there is no machine configuration. For a parsed [`AppConfig`] only the first and the last
/// can occur.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConversionError {
    /// `fly.toml` has no such group.
    #[error("fly.toml has no process group {0}")]
    UnknownGroup(String),
    /// A command line that cannot be split.
    #[error("cannot split {what} into words: {source}")]
    Command {
        /// Which one.
        what: String,
        /// Why.
        source: words::SplitError,
    },
    /// No such size.
    #[error("cannot size the machine: {0}")]
    Guest(#[from] GuestError),
    /// A check of a group without `[http_service]` that names no port.
    #[error("check {0} has no port and its process group has no http_service to take it from")]
    CheckWithoutPort(String),
    /// The inline machine configuration is not one.
    #[error("cannot use machine_config: {0}")]
    Containers(#[from] containers::ContainerError),
    /// `[deploy]` has no release command.
    #[error("fly.toml has no release_command")]
    NoReleaseCommand,
    /// A machine check without a command.
    #[error("a machine check has no command")]
    NoTestCommand,
}

impl AppConfig {
    /// The configuration of one machine of a process group.
    pub fn machine_config(
        &self,
        group: &str,
        context: &Context,
    ) -> Result<MachineConfig, ConversionError> {
        if !self.has_group(group) {
            return Err(ConversionError::UnknownGroup(group.to_owned()));
        }
        let mut machine = context.live.cloned().unwrap_or_default();
        let live_mounts = std::mem::take(&mut machine.mounts);
        containers::apply(self, &mut machine)?;

        machine.image = context.image.to_owned();
        let init = machine.init.get_or_insert_default();
        init.cmd = self.command(group)?;
        init.entrypoint.clone_from(&self.experimental.entrypoint);
        init.exec.clone_from(&self.experimental.exec);
        init.swap_size_mb = self.swap_size_mb;

        machine.metadata.extend(metadata(group, context));
        machine.env = self.environment(group);
        machine.services = self
            .services_of(group)
            .iter()
            .map(machine_service)
            .collect();
        machine.checks = self.machine_checks_of(group)?;
        machine.metrics = self
            .metrics
            .iter()
            .find(|metrics| self.belongs(&metrics.processes, group))
            .map(|metrics| metrics.endpoint.clone())
            // An empty section has no effect, but still hides those below it.
            .filter(|endpoint| *endpoint != MachineMetrics::default());
        machine.statics = self.machine_statics();
        machine.mounts = self.machine_mounts(group, live_mounts);
        machine.files = self.machine_files();
        machine.stop_config = self.stop_config();
        machine.restart = self.machine_restart(group);
        self.set_guest(group, context, &mut machine)?;

        if context.live.is_none() && !context.standby_for.is_empty() {
            machine.standbys = context.standby_for.to_vec();
            machine
                .env
                .insert("FLY_STANDBY_FOR".to_owned(), machine.standbys.join(","));
        }
        if !machine.services.is_empty() {
            // A machine with services is started by the proxy, so it is no standby.
            machine.standbys.clear();
            machine.env.remove("FLY_STANDBY_FOR");
        }
        containers::set_image(&mut machine);
        Ok(machine)
    }

    /// The configurations of all process groups, each for one running machine.
    pub fn machine_configs(
        &self,
        context: &Context,
    ) -> Result<BTreeMap<String, MachineConfig>, ConversionError> {
        self.process_groups()
            .into_iter()
            .map(|group| Ok((group.clone(), self.machine_config(&group, context)?)))
            .collect()
    }

    /// The configuration of the machine that runs `[deploy] release_command`.
    ///
    /// `largest` is the largest size among the machines of the default group, if any; it is used
    /// when `release_command_vm` is absent. A first deployment uses shared-cpu-2x.
    pub fn release_machine_config(
        &self,
        context: &Context,
        largest: Option<&MachineGuest>,
    ) -> Result<MachineConfig, ConversionError> {
        let command = self.deploy.release_command.as_deref();
        let command = command.ok_or(ConversionError::NoReleaseCommand)?;
        self.one_off_machine_config(command, context, largest)
    }

    /// The same for another command line (`seed_command`).
    pub fn one_off_machine_config(
        &self,
        command: &str,
        context: &Context,
        largest: Option<&MachineGuest>,
    ) -> Result<MachineConfig, ConversionError> {
        let cmd = words::split(command).map_err(|source| ConversionError::Command {
            what: "the release command".to_owned(),
            source,
        })?;
        let mut env = self.environment(RELEASE_COMMAND_GROUP);
        env.insert("RELEASE_COMMAND".to_owned(), "1".to_owned());
        let mut guest = match (context.size, &self.deploy.release_command_vm, largest) {
            (Some(size), _, _) => Some(size.clone()),
            (None, Some(vm), _) => Some(of_vm(vm)?),
            (None, None, Some(largest)) => Some(largest.clone()),
            (None, None, None) => MachineGuest::preset("shared-cpu-2x"),
        };
        if let (Some(guest), Some(id)) = (&mut guest, &self.host_dedication_id) {
            guest.host_dedication_id = Some(id.clone());
        }
        Ok(MachineConfig {
            image: context.image.to_owned(),
            init: Some(MachineInit {
                cmd,
                entrypoint: self.experimental.entrypoint.clone(),
                swap_size_mb: self.swap_size_mb,
                ..MachineInit::default()
            }),
            env,
            metadata: metadata(RELEASE_COMMAND_GROUP, context),
            files: self.machine_files(),
            stop_config: self.stop_config(),
            guest,
            ..one_off()
        })
    }

    /// The configuration of a machine that tests another one (`machine_checks`).
    pub fn test_machine_config(
        &self,
        test: &MachineTest,
        context: &Context,
        tested: &MachineConfig,
        tested_private_ip: &str,
    ) -> Result<MachineConfig, ConversionError> {
        if test.command.is_empty() {
            return Err(ConversionError::NoTestCommand);
        }
        let entrypoint = if !self.experimental.entrypoint.is_empty() {
            self.experimental.entrypoint.clone()
        } else if let Some(entrypoint) = &test.entrypoint {
            entrypoint.clone()
        } else {
            let init = tested.init.as_ref();
            init.map(|init| init.entrypoint.clone()).unwrap_or_default()
        };
        // The environment of the tested machine takes precedence over `[env]`.
        let mut env = self.env.clone();
        env.extend(tested.env.clone());
        env.extend([
            ("FLY_TEST_COMMAND".to_owned(), "1".to_owned()),
            (
                "FLY_PROCESS_GROUP".to_owned(),
                TEST_MACHINE_GROUP.to_owned(),
            ),
            (
                "FLY_TEST_MACHINE_IP".to_owned(),
                tested_private_ip.to_owned(),
            ),
        ]);
        if let Some(region) = &self.primary_region {
            env.insert("PRIMARY_REGION".to_owned(), region.clone());
        }
        // With an image of its own, the stop settings of the tested machine do not apply.
        let inherits = test.image.is_none();
        let own = |own: Option<String>, app: &Option<String>| {
            own.or_else(|| app.clone().filter(|_| inherits))
        };
        Ok(MachineConfig {
            image: test.image.clone().unwrap_or_else(|| tested.image.clone()),
            init: Some(MachineInit {
                cmd: test.command.clone(),
                entrypoint,
                swap_size_mb: self.swap_size_mb,
                ..MachineInit::default()
            }),
            env,
            metadata: metadata(TEST_MACHINE_GROUP, context),
            stop_config: Some(StopConfig {
                timeout: test.kill_timeout.or(self.kill_timeout.filter(|_| inherits)),
                signal: own(test.kill_signal.clone(), &self.kill_signal),
                ..StopConfig::default()
            }),
            guest: tested.guest.clone(),
            ..one_off()
        })
    }

    /// The group's command, else that of `[experimental]`.
    fn command(&self, group: &str) -> Result<Vec<String>, ConversionError> {
        match self.processes.get(group).filter(|line| !line.is_empty()) {
            None => Ok(self.experimental.cmd.clone()),
            Some(line) => words::split(line).map_err(|source| ConversionError::Command {
                what: format!("the command of process group {group}"),
                source,
            }),
        }
    }

    fn environment(&self, group: &str) -> BTreeMap<String, String> {
        let mut env = self.env.clone();
        env.insert("FLY_PROCESS_GROUP".to_owned(), group.to_owned());
        if let Some(region) = &self.primary_region {
            env.insert("PRIMARY_REGION".to_owned(), region.clone());
        }
        env
    }

    fn machine_checks_of(
        &self,
        group: &str,
    ) -> Result<BTreeMap<String, MachineCheck>, ConversionError> {
        let http_port = self
            .http_service
            .as_ref()
            .filter(|service| self.belongs(&service.processes, group))
            .map(|service| service.internal_port);
        let mut checks = BTreeMap::new();
        for (name, check) in &self.checks {
            if !self.belongs(&check.processes, group) {
                continue;
            }
            let port = match (check.port, http_port) {
                (Some(port), _) => Some(port),
                (None, Some(port)) => port,
                (None, None) => return Err(ConversionError::CheckWithoutPort(name.clone())),
            };
            checks.insert(name.clone(), top_level_check(check, port));
        }
        Ok(checks)
    }

    fn machine_statics(&self) -> Vec<MachineStatic> {
        // flyctl always writes all four keys.
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        self.statics
            .iter()
            .map(|files| MachineStatic {
                guest_path: text(&files.guest_path),
                url_prefix: text(&files.url_prefix),
                tigris_bucket: Some(text(&files.tigris_bucket)),
                index_document: Some(text(&files.index_document)),
                ..MachineStatic::default()
            })
            .collect()
    }

    /// The volumes. The id of a live one is preserved when its name is the same or unknown.
    fn machine_mounts(&self, group: &str, live: Vec<MachineMount>) -> Vec<MachineMount> {
        let gb = |text: &Option<String>| {
            let gb = size::volume_gb(text.as_deref()?)?;
            u32::try_from(gb).ok().filter(|gb| *gb != 0)
        };
        let mut mounts: Vec<MachineMount> = self
            .mounts_of(group)
            .into_iter()
            .map(|mount| MachineMount {
                path: mount.destination.clone().unwrap_or_default(),
                name: mount.source.clone(),
                extend_threshold_percent: mount
                    .auto_extend_size_threshold
                    .and_then(|percent| u32::try_from(percent).ok()),
                add_size_gb: gb(&mount.auto_extend_size_increment),
                size_gb_limit: gb(&mount.auto_extend_size_limit),
                ..MachineMount::default()
            })
            .collect();
        if let (Some(mount), Some(live)) = (mounts.first_mut(), live.into_iter().next()) {
            let wanted = mount.clone();
            if live.name.is_none() {
                // Without a name it is taken for the same volume.
                *mount = live;
            } else if live.name == wanted.name {
                *mount = MachineMount {
                    path: wanted.path,
                    ..live
                };
            }
            mount.extend_threshold_percent = wanted.extend_threshold_percent;
            mount.add_size_gb = wanted.add_size_gb;
            mount.size_gb_limit = wanted.size_gb_limit;
        }
        mounts
    }

    /// All files, for every group: flyctl merges them before it evaluates `processes`. Of two with
    /// the same path the later applies, and one without content removes the earlier.
    fn machine_files(&self) -> Vec<MachineFile> {
        let mut files: Vec<MachineFile> = Vec::new();
        for file in &self.files {
            let guest_path = file.guest_path.clone().unwrap_or_default();
            let (raw_value, secret_name) = match (&file.secret_name, &file.raw_value) {
                (Some(name), _) => (None, Some(name.clone())),
                (None, Some(text)) => (Some(BASE64.encode(text)), None),
                (None, None) => (None, None),
            };
            let written = MachineFile {
                guest_path,
                raw_value,
                secret_name,
                ..MachineFile::default()
            };
            let same = files
                .iter()
                .position(|f| f.guest_path == written.guest_path);
            match same {
                None => files.push(written),
                Some(index) if written.raw_value.is_none() && written.secret_name.is_none() => {
                    files.remove(index);
                }
                Some(index) => files[index] = written,
            }
        }
        files
    }

    fn stop_config(&self) -> Option<StopConfig> {
        if self.kill_signal.is_none() && self.kill_timeout.is_none() {
            return None;
        }
        Some(StopConfig {
            timeout: self.kill_timeout,
            signal: self.kill_signal.clone(),
            ..StopConfig::default()
        })
    }

    /// The last section of the group applies.
    fn machine_restart(&self, group: &str) -> Option<MachineRestart> {
        let restart = self
            .restart
            .iter()
            .rfind(|restart| self.belongs(&restart.processes, group))?;
        let policy = match restart.policy.as_deref() {
            Some("never") => RestartPolicy::No,
            Some(word) => RestartPolicy::from(word),
            None => return None,
        };
        Some(MachineRestart {
            policy: Some(policy),
            max_retries: restart.retries,
            ..MachineRestart::default()
        })
    }

    fn set_guest(
        &self,
        group: &str,
        context: &Context,
        machine: &mut MachineConfig,
    ) -> Result<(), ConversionError> {
        if let Some(guest) = self.guest(group)? {
            machine.guest = Some(guest);
        }
        if let Some(size) = context.size {
            machine.guest = Some(size.clone());
        }
        if machine.guest.is_none() {
            machine.guest = MachineGuest::preset(DEFAULT_SIZE);
        }
        if let (Some(guest), Some(id)) = (&mut machine.guest, &self.host_dedication_id) {
            guest.host_dedication_id = Some(id.clone());
        }
        Ok(())
    }
}

/// Common settings of machines that run one command and exit.
fn one_off() -> MachineConfig {
    MachineConfig {
        restart: Some(MachineRestart {
            policy: Some(RestartPolicy::No),
            ..MachineRestart::default()
        }),
        auto_destroy: Some(true),
        dns: Some(MachineDns {
            skip_registration: Some(true),
            ..MachineDns::default()
        }),
        ..MachineConfig::default()
    }
}

fn metadata(group: &str, context: &Context) -> BTreeMap<String, String> {
    let mut metadata = context.metadata.clone();
    metadata.insert("fly_platform_version".to_owned(), "v2".to_owned());
    metadata.insert(PROCESS_GROUP_KEY.to_owned(), group.to_owned());
    if let Some(release) = &context.release {
        metadata.insert("fly_release_id".to_owned(), release.id.clone());
        metadata.insert(
            "fly_release_version".to_owned(),
            release.version.to_string(),
        );
    }
    metadata
}

fn machine_service(service: &Service) -> MachineService {
    let tcp = service.tcp_checks.iter().map(|check| MachineCheck {
        type_: Some("tcp".to_owned()),
        ..timed(check)
    });
    let http = service.http_checks.iter().map(|check| MachineCheck {
        type_: Some("http".to_owned()),
        ..request(check)
    });
    MachineService {
        protocol: service.protocol.clone(),
        internal_port: service.internal_port,
        ports: service.ports.clone(),
        autostop: service.auto_stop_machines,
        autostart: service.auto_start_machines,
        min_machines_running: service.min_machines_running,
        checks: tcp.chain(http).collect(),
        concurrency: service.concurrency.clone(),
        ..MachineService::default()
    }
}

fn top_level_check(check: &TopLevelCheck, port: Option<u16>) -> MachineCheck {
    let request = request(&check.request);
    MachineCheck {
        type_: check.kind_of_probe.clone(),
        port,
        kind: check.kind.clone(),
        method: request.method.as_ref().map(|method| method.to_uppercase()),
        ..request
    }
}

fn timed(check: &TcpCheck) -> MachineCheck {
    MachineCheck {
        interval: check.interval,
        timeout: check.timeout,
        grace_period: check.grace_period,
        ..MachineCheck::default()
    }
}

fn request(check: &HttpCheck) -> MachineCheck {
    MachineCheck {
        method: check.method.clone(),
        path: check.path.clone(),
        protocol: check.protocol.clone(),
        tls_skip_verify: check.tls_skip_verify,
        tls_server_name: check.tls_server_name.clone(),
        headers: check
            .headers
            .iter()
            .map(|(name, value)| CheckHeader {
                name: name.clone(),
                values: vec![value.clone()],
                ..CheckHeader::default()
            })
            .collect(),
        ..timed(&check.times)
    }
}
