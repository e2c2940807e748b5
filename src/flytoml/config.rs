//! The contents of a `fly.toml`, with old spellings resolved and defaults not yet applied.
//!
//! Absent and empty texts mean the same, as in flyctl. Sections keep their order. `processes` lists
//! the process groups of a section; an empty list means the default group, except in [`Vm`], where
//! it means every group without a section of its own.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::fly::GoDuration;
use crate::fly::machine_config::{
    Autostop, Concurrency, HttpOptions, MachineGuest, MachineMetrics, MachinePort, TlsOptions,
};

/// A whole `fly.toml`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AppConfig {
    /// Name of the app.
    pub app: Option<String>,
    /// Region of the first machines and volumes; also the variable `PRIMARY_REGION`.
    pub primary_region: Option<String>,
    /// Signal that stops the program; SIGINT when absent.
    pub kill_signal: Option<String>,
    /// Time between that signal and SIGKILL; 5 s when absent.
    pub kill_timeout: Option<GoDuration>,
    /// Swap, in MB.
    pub swap_size_mb: Option<u64>,
    /// Command of `fly console`; not used by deployments.
    pub console_command: Option<String>,
    /// Hosts reserved for the organization.
    pub host_dedication_id: Option<String>,
    /// `[experimental]`.
    pub experimental: Experimental,
    /// `[build]`; Golive builds nothing and only validates it.
    pub build: Build,
    /// `[deploy]`.
    pub deploy: Deploy,
    /// `[env]`.
    pub env: BTreeMap<String, String>,
    /// `[processes]`: process group to command line.
    pub processes: BTreeMap<String, String>,
    /// `[[mounts]]`.
    pub mounts: Vec<Mount>,
    /// `[http_service]`.
    pub http_service: Option<HttpService>,
    /// `[[services]]`.
    pub services: Vec<Service>,
    /// `[checks.NAME]`.
    pub checks: BTreeMap<String, TopLevelCheck>,
    /// `[[files]]`.
    pub files: Vec<File>,
    /// JSON of a base machine configuration (machines with several containers).
    pub machine_config: Option<String>,
    /// Name of the container that runs the deployed image.
    pub container: Option<String>,
    /// `[[machine_checks]]`.
    pub machine_checks: Vec<MachineTest>,
    /// `[[restart]]`.
    pub restart: Vec<Restart>,
    /// `[[vm]]`.
    pub vm: Vec<Vm>,
    /// `[[statics]]`.
    pub statics: Vec<Static>,
    /// `[[metrics]]`.
    pub metrics: Vec<Metrics>,
}

/// `[experimental]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Experimental {
    /// Command, for groups that have none in `[processes]`.
    pub cmd: Vec<String>,
    /// Replaces the image's entry point.
    pub entrypoint: Vec<String>,
    /// Replaces entry point and command.
    pub exec: Vec<String>,
    /// Accepted and without effect, as in flyctl.
    pub auto_rollback: bool,
    /// Requests a Consul secret; Golive provides none and warns.
    pub enable_consul: bool,
    /// Accepted and without effect, as in flyctl.
    pub enable_etcd: bool,
    /// Accepted and without effect, as in flyctl.
    pub lazy_load_images: bool,
    /// `attached.secrets.export`; accepted and without effect, as in flyctl.
    pub exported_secrets: BTreeMap<String, String>,
    /// As `machine_config` at the top level, which it overrides.
    pub machine_config: Option<String>,
}

/// `[build]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Build {
    /// Image to run; the Activation's own `image` takes precedence.
    pub image: Option<String>,
    /// Path of a Dockerfile.
    pub dockerfile: Option<String>,
    /// Buildpacks builder.
    pub builder: Option<String>,
    /// Buildpacks.
    pub buildpacks: Vec<String>,
    /// Name of one of flyctl's own builders.
    pub builtin: Option<String>,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// Settings of the builtin builder.
    pub settings: BTreeMap<String, Value>,
    /// Path of a `.dockerignore`.
    pub ignorefile: Option<String>,
    /// Stage of the Dockerfile.
    pub build_target: Option<String>,
    /// Whether there is a `[build.compose]`.
    pub compose: bool,
    /// Path of a compose file.
    pub compose_file: Option<String>,
    /// `gzip` or `zstd`.
    pub compression: Option<String>,
    /// 0 to 9.
    pub compression_level: Option<i64>,
}

/// `[deploy]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Deploy {
    /// How machines are updated; rolling when absent.
    pub strategy: Option<Strategy>,
    /// Machines updated at a time: a share up to 1, a count from 1 on; 0.33 when absent.
    pub max_unavailable: Option<f64>,
    /// Longest wait for one machine; 5 min when absent.
    pub wait_timeout: Option<GoDuration>,
    /// Command line of the release command.
    pub release_command: Option<String>,
    /// Longest run of the release command; 5 min when absent.
    pub release_command_timeout: Option<GoDuration>,
    /// Size of its machine.
    pub release_command_vm: Option<Vm>,
    /// Command line that runs once after the first deployment.
    pub seed_command: Option<String>,
}

/// How machines are updated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// The first machine alone, then several at a time.
    #[default]
    Rolling,
    /// One extra machine first, then rolling.
    Canary,
    /// A second set of machines, then the traffic moves.
    BlueGreen,
    /// All at once, without waiting.
    Immediate,
}

/// A volume of a process group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mount {
    /// Name of the volume.
    pub source: Option<String>,
    /// Where it is mounted.
    pub destination: Option<String>,
    /// Size of a new volume, such as `10gb`; a bare number is GB.
    pub initial_size: Option<String>,
    /// Days for which snapshots are retained, 1 to 60.
    pub snapshot_retention: Option<i64>,
    /// Whether snapshots are taken daily.
    pub scheduled_snapshots: Option<bool>,
    /// Use in percent at which the volume grows, 50 to 99.
    pub auto_extend_size_threshold: Option<i64>,
    /// Increment.
    pub auto_extend_size_increment: Option<String>,
    /// Largest size.
    pub auto_extend_size_limit: Option<String>,
    /// Process groups.
    pub processes: Vec<String>,
}

/// `[http_service]`: HTTP on 80 and HTTPS on 443 for one port of the machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpService {
    /// Port inside the machine.
    pub internal_port: Option<u16>,
    /// Redirect HTTP to HTTPS.
    pub force_https: bool,
    /// How the proxy treats idle machines.
    pub auto_stop_machines: Option<Autostop>,
    /// Whether the proxy starts stopped machines.
    pub auto_start_machines: Option<bool>,
    /// Machines of the primary region that are left running.
    pub min_machines_running: Option<u32>,
    /// Concurrency limits of one machine.
    pub concurrency: Option<Concurrency>,
    /// Options of TLS on 443.
    pub tls_options: Option<TlsOptions>,
    /// Options of HTTP on both ports.
    pub http_options: Option<HttpOptions>,
    /// HTTP checks.
    pub checks: Vec<HttpCheck>,
    /// Test machines run by a deployment.
    pub machine_checks: Vec<MachineTest>,
    /// Process groups.
    pub processes: Vec<String>,
}

/// `[[services]]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Service {
    /// `tcp` or `udp`.
    pub protocol: Option<String>,
    /// Port inside the machine.
    pub internal_port: Option<u16>,
    /// How the proxy treats idle machines.
    pub auto_stop_machines: Option<Autostop>,
    /// Whether the proxy starts stopped machines.
    pub auto_start_machines: Option<bool>,
    /// Machines of the primary region that are left running.
    pub min_machines_running: Option<u32>,
    /// Ports at the edge.
    pub ports: Vec<MachinePort>,
    /// Concurrency limits of one machine.
    pub concurrency: Option<Concurrency>,
    /// TCP checks.
    pub tcp_checks: Vec<TcpCheck>,
    /// HTTP checks.
    pub http_checks: Vec<HttpCheck>,
    /// Test machines run by a deployment.
    pub machine_checks: Vec<MachineTest>,
    /// Process groups.
    pub processes: Vec<String>,
}

/// A check that opens a connection.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TcpCheck {
    /// Time between two runs.
    pub interval: Option<GoDuration>,
    /// Longest time of one run.
    pub timeout: Option<GoDuration>,
    /// Time after the start before the first run.
    pub grace_period: Option<GoDuration>,
}

/// A check that sends an HTTP request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpCheck {
    /// Interval, timeout and grace period.
    pub times: TcpCheck,
    /// HTTP method.
    pub method: Option<String>,
    /// HTTP path.
    pub path: Option<String>,
    /// `http` or `https`.
    pub protocol: Option<String>,
    /// Accept any certificate of the program.
    pub tls_skip_verify: Option<bool>,
    /// Name that the certificate must be for.
    pub tls_server_name: Option<String>,
    /// Headers that are sent.
    pub headers: BTreeMap<String, String>,
}

/// `[checks.NAME]`: a check that belongs to no service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TopLevelCheck {
    /// `tcp` or `http`.
    pub kind_of_probe: Option<String>,
    /// Port; that of `[http_service]` when absent.
    pub port: Option<u16>,
    /// `informational` or `readiness`.
    pub kind: Option<String>,
    /// Times, and what an HTTP check sends.
    pub request: HttpCheck,
    /// Process groups.
    pub processes: Vec<String>,
}

/// `machine_checks`: a machine that a deployment starts to test another one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MachineTest {
    /// Command; required when the test runs.
    pub command: Vec<String>,
    /// Image; that of the tested machine when absent.
    pub image: Option<String>,
    /// Entry point; that of the tested machine when absent.
    pub entrypoint: Option<Vec<String>>,
    /// Stop signal.
    pub kill_signal: Option<String>,
    /// Time until it is killed.
    pub kill_timeout: Option<GoDuration>,
}

/// A file that is written into machines.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct File {
    /// Absolute path in the machine.
    pub guest_path: Option<String>,
    /// Path relative to `fly.toml`; an error in Golive, which has no such directory.
    pub local_path: Option<String>,
    /// Content, as plain text.
    pub raw_value: Option<String>,
    /// App secret whose value, in base64, is the content.
    pub secret_name: Option<String>,
    /// Process groups.
    pub processes: Vec<String>,
}

/// Restart policy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Restart {
    /// `always`, `never` or `on-failure`.
    pub policy: Option<String>,
    /// Retries; 10 when absent.
    pub retries: Option<u32>,
    /// Process groups.
    pub processes: Vec<String>,
}

/// CPU and memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vm {
    /// Name of a size, such as `shared-cpu-1x`.
    pub size: Option<String>,
    /// Memory, such as `1gb`; a bare number is MB.
    pub memory: Option<String>,
    /// Single values, which override size and memory.
    pub guest: MachineGuest,
    /// Process groups; empty for every group without a `[[vm]]` of its own.
    pub processes: Vec<String>,
}

/// Files that the proxy serves by itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Static {
    /// Directory in the image or bucket.
    pub guest_path: Option<String>,
    /// Prefix of the path.
    pub url_prefix: Option<String>,
    /// Bucket.
    pub tigris_bucket: Option<String>,
    /// File served for a directory.
    pub index_document: Option<String>,
}

/// Where the platform's Prometheus scrapes the program.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// Port, path and scheme.
    pub endpoint: MachineMetrics,
    /// Process groups.
    pub processes: Vec<String>,
}

impl AppConfig {
    /// The configuration without a `fly.toml`: one HTTP service that forces HTTPS, without checks
    /// and without autostop, so that the machines keep running after Go-Live.
    pub fn minimal(app: &str, region: &str, internal_port: u16) -> Self {
        Self {
            app: Some(app.to_owned()),
            primary_region: Some(region.to_owned()),
            http_service: Some(HttpService {
                internal_port: Some(internal_port),
                force_https: true,
                ..HttpService::default()
            }),
            ..Self::default()
        }
    }

    /// Sets app and primary region to those of the Activation, which take precedence.
    pub fn bind(&mut self, app: &str, region: &str) {
        self.app = Some(app.to_owned());
        self.primary_region = Some(region.to_owned());
    }

    /// How machines are updated.
    pub fn strategy(&self) -> Strategy {
        self.deploy.strategy.unwrap_or_default()
    }

    /// How many of `machines` a rolling update works on at a time; at least one.
    ///
    /// `max_unavailable` from 1 on is a count, below it a share that is rounded up. Source: flyctl
    /// `internal/command/deploy/machines_deploymachinesapp.go`.
    pub fn pool_size(&self, machines: usize) -> usize {
        let limit = self.deploy.max_unavailable.unwrap_or(0.33);
        let pool = if limit >= 1.0 {
            limit.floor()
        } else {
            (machines as f64 * limit).ceil()
        };
        // A float that is too large, negative or not a number saturates.
        (pool as usize).max(1)
    }

    /// The services in the order in which they are sent: `[http_service]`, then `[[services]]`.
    pub fn all_services(&self) -> Vec<Service> {
        self.http_service
            .iter()
            .map(HttpService::to_service)
            .chain(self.services.iter().cloned())
            .collect()
    }
}

impl HttpService {
    /// The same as an entry of `[[services]]`.
    pub fn to_service(&self) -> Service {
        let http = MachinePort {
            port: Some(80),
            handlers: vec!["http".to_owned()],
            // Go leaves out what is false.
            force_https: self.force_https.then_some(true),
            http_options: self.http_options.clone(),
            ..MachinePort::default()
        };
        let https = MachinePort {
            port: Some(443),
            handlers: vec!["http".to_owned(), "tls".to_owned()],
            http_options: self.http_options.clone(),
            tls_options: self.tls_options.clone(),
            ..MachinePort::default()
        };
        Service {
            protocol: Some("tcp".to_owned()),
            internal_port: self.internal_port,
            auto_stop_machines: self.auto_stop_machines,
            auto_start_machines: self.auto_start_machines,
            min_machines_running: self.min_machines_running,
            ports: vec![http, https],
            concurrency: self.concurrency.clone(),
            tcp_checks: Vec::new(),
            http_checks: self.checks.clone(),
            machine_checks: self.machine_checks.clone(),
            processes: self.processes.clone(),
        }
    }
}

impl Strategy {
    /// All names, as in flyctl.
    pub const ALL: [Self; 4] = [
        Self::Rolling,
        Self::Canary,
        Self::BlueGreen,
        Self::Immediate,
    ];

    /// The name in `fly.toml`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rolling => "rolling",
            Self::Canary => "canary",
            Self::BlueGreen => "bluegreen",
            Self::Immediate => "immediate",
        }
    }
}

impl std::fmt::Display for Strategy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
