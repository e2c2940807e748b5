//! The configuration of a machine, exactly as it is on the wire.
//!
//! An update replaces the whole configuration, so a change starts from the live one; every type
//! preserves unknown fields in `extra`. Absent and empty mean the same to Fly.io. Sources: fly-go
//! `machine_types.go`, fly.io/docs/machines/api/machines-resource/.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::wire::{GoDuration, wire, wire_enum};

wire! {
    /// The configuration of a machine.
    pub struct MachineConfig {
        /// Image reference; any registry that Fly.io can pull from, a digest is allowed.
        pub image: String,
        /// Environment. Keys that start with `FLY_` belong to the platform.
        pub env: BTreeMap<String, String>,
        /// Overrides of the image's entry point, command and the like.
        pub init: Option<MachineInit>,
        /// CPU and memory; shared-cpu-1x with 256 MB when absent.
        pub guest: Option<MachineGuest>,
        /// Metadata. Golive's keys start with `golive_`, the platform's with `fly_`.
        pub metadata: BTreeMap<String, String>,
        /// Volumes; in practice at most one.
        pub mounts: Vec<MachineMount>,
        /// Services that the proxy routes to this machine.
        pub services: Vec<MachineService>,
        /// Top-level checks by name. No effect on routing unless `kind` is `readiness`.
        pub checks: BTreeMap<String, MachineCheck>,
        /// Where the platform's Prometheus scrapes the program.
        pub metrics: Option<MachineMetrics>,
        /// Files that the proxy serves by itself; at most ten.
        pub statics: Vec<MachineStatic>,
        /// Files that are written into the machine before it starts.
        pub files: Vec<MachineFile>,
        /// Restart policy; `on-failure` when absent.
        pub restart: Option<MachineRestart>,
        /// `hourly`, `daily`, `weekly` or `monthly`.
        pub schedule: Option<String>,
        /// Destroy the machine when its program exits, whatever the exit code.
        pub auto_destroy: Option<bool>,
        /// Names inside the private network.
        pub dns: Option<MachineDns>,
        /// Several programs in one machine; rarely used.
        pub processes: Vec<MachineProcess>,
        /// Machines that this one replaces when their host fails.
        pub standbys: Vec<String>,
        /// How the program is stopped.
        pub stop_config: Option<StopConfig>,
        /// Containers of a machine with several.
        pub containers: Vec<MachineContainer>,
        /// Volumes of containers.
        pub volumes: Vec<MachineVolume>,
        /// The root file system.
        pub rootfs: Option<MachineRootfs>,
        /// A scratch disk for caches.
        pub cache_drive: Option<CacheDrive>,
        /// A machine that may be reclaimed.
        pub spot: Option<Spot>,
        /// Deprecated name of a size; `guest` replaces it.
        pub size: Option<String>,
        /// Deprecated; `autostart` of the service replaces it.
        pub disable_machine_autostart: Option<bool>,
    }

    /// Overrides of the image's entry point and command.
    pub struct MachineInit {
        /// Replaces entry point and command.
        pub exec: Vec<String>,
        /// Replaces the entry point.
        pub entrypoint: Vec<String>,
        /// Replaces the command.
        pub cmd: Vec<String>,
        /// Allocate a terminal.
        pub tty: Option<bool>,
        /// Swap, in MB.
        pub swap_size_mb: Option<u64>,
        /// Arguments of the kernel.
        pub kernel_args: Vec<String>,
    }

    /// CPU and memory of a machine.
    pub struct MachineGuest {
        /// `shared` or `performance`.
        pub cpu_kind: Option<String>,
        /// Number of CPUs.
        pub cpus: Option<u32>,
        /// Memory, in MB.
        pub memory_mb: Option<u32>,
        /// Upper bound of memory that may be added, in MB.
        pub max_memory_mb: Option<u32>,
        /// Number of GPUs.
        pub gpus: Option<u32>,
        /// Kind of GPU.
        pub gpu_kind: Option<String>,
        /// Hosts reserved for the organization.
        pub host_dedication_id: Option<String>,
        /// Arguments of the kernel.
        pub kernel_args: Vec<String>,
        /// Deprecated; a text or a number from 0 to 3.
        pub persist_rootfs: Option<Value>,
    }

    /// A volume in a machine.
    pub struct MachineMount {
        /// Id of the volume, `vol_…`.
        pub volume: Option<String>,
        /// Where it is mounted.
        pub path: String,
        /// Name of the volume.
        pub name: Option<String>,
        /// Whether it is encrypted.
        pub encrypted: Option<bool>,
        /// Size, in GB.
        pub size_gb: Option<u32>,
        /// Share of use, in percent (50–99), at which it is extended.
        pub extend_threshold_percent: Option<u32>,
        /// How much is added then, in GB.
        pub add_size_gb: Option<u32>,
        /// Size at which extending ends, in GB.
        pub size_gb_limit: Option<u32>,
    }

    /// A port of the machine that the proxy serves.
    pub struct MachineService {
        /// `tcp` or `udp`.
        pub protocol: Option<String>,
        /// Port inside the machine.
        pub internal_port: Option<u16>,
        /// Ports at the edge.
        pub ports: Vec<MachinePort>,
        /// How the proxy treats idle machines.
        pub autostop: Option<Autostop>,
        /// Whether the proxy starts stopped machines on demand.
        pub autostart: Option<bool>,
        /// How many machines of the primary region the proxy leaves running.
        pub min_machines_running: Option<u32>,
        /// Checks that take the machine out of the proxy's pool when they fail.
        pub checks: Vec<MachineCheck>,
        /// How much the proxy sends to one machine.
        pub concurrency: Option<Concurrency>,
        /// Internal to the platform.
        pub force_instance_key: Option<String>,
        /// Internal to the platform.
        pub force_instance_description: Option<String>,
    }

    /// A port, or a range of ports, at the edge.
    pub struct MachinePort {
        /// The port.
        pub port: Option<u16>,
        /// First port of a range.
        pub start_port: Option<u16>,
        /// Last port of a range.
        pub end_port: Option<u16>,
        /// `http`, `tls`, `pg_tls`, `proxy_proto`.
        pub handlers: Vec<String>,
        /// Redirect HTTP to HTTPS.
        pub force_https: Option<bool>,
        /// Options of the `tls` handler.
        pub tls_options: Option<TlsOptions>,
        /// Options of the `http` handler.
        pub http_options: Option<HttpOptions>,
        /// Options of the `proxy_proto` handler.
        pub proxy_proto_options: Option<ProxyProtoOptions>,
    }

    /// Options of the `tls` handler.
    pub struct TlsOptions {
        /// Protocols offered by ALPN.
        pub alpn: Vec<String>,
        /// TLS versions.
        pub versions: Vec<String>,
        /// Serve a self-signed certificate when there is no other.
        pub default_self_signed: Option<bool>,
    }

    /// Options of the `http` handler.
    pub struct HttpOptions {
        /// Compress responses.
        pub compress: Option<bool>,
        /// Use HTTP/2 without TLS to the machine.
        pub h2_backend: Option<bool>,
        /// Seconds.
        pub idle_timeout: Option<u32>,
        /// Seconds.
        pub headers_read_timeout: Option<u32>,
        /// Changes of responses.
        pub response: Option<HttpResponseOptions>,
        /// Replay cache.
        pub replay_cache: Vec<ReplayCache>,
    }

    /// Changes of responses by the proxy.
    pub struct HttpResponseOptions {
        /// Header to value, list of values, or `false` to remove it.
        pub headers: BTreeMap<String, Value>,
        /// Add no header of the proxy's own.
        pub pristine: Option<bool>,
    }

    /// A rule of the replay cache.
    pub struct ReplayCache {
        /// Paths it applies to.
        pub path_prefix: Option<String>,
        /// Seconds.
        pub ttl_seconds: Option<u32>,
        /// `cookie` or `header`.
        pub kind: Option<String> = "type",
        /// Name of the cookie or header.
        pub name: Option<String>,
        /// Whether a client may bypass it.
        pub allow_bypass: Option<bool>,
    }

    /// Options of the `proxy_proto` handler.
    pub struct ProxyProtoOptions {
        /// Version of the protocol.
        pub version: Option<String>,
    }

    /// How much the proxy sends to one machine.
    pub struct Concurrency {
        /// `connections` or `requests`.
        pub kind: Option<String> = "type",
        /// Above it other machines are preferred.
        pub soft_limit: Option<u32>,
        /// Above it nothing is sent.
        pub hard_limit: Option<u32>,
    }

    /// A check, of a service (without `port` and `kind`) or at the top level.
    pub struct MachineCheck {
        /// `tcp` or `http`.
        pub type_: Option<String> = "type",
        /// Port inside the machine; a service's check defaults to the service's.
        pub port: Option<u16>,
        /// Time between two runs.
        pub interval: Option<GoDuration>,
        /// Longest time of one run.
        pub timeout: Option<GoDuration>,
        /// Time after the start before the first run.
        pub grace_period: Option<GoDuration>,
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
        pub headers: Vec<CheckHeader>,
        /// `informational` or `readiness`; top level only.
        pub kind: Option<String>,
    }

    /// A header of a check.
    pub struct CheckHeader {
        /// Name.
        pub name: String,
        /// Values.
        pub values: Vec<String>,
    }

    /// Where the platform's Prometheus scrapes the program.
    pub struct MachineMetrics {
        /// Port inside the machine.
        pub port: Option<u16>,
        /// Path, `/metrics` when absent.
        pub path: Option<String>,
        /// Scrape by HTTPS.
        pub https: Option<bool>,
    }

    /// Files that the proxy serves by itself.
    pub struct MachineStatic {
        /// Directory in the image, or in the bucket.
        pub guest_path: String,
        /// Prefix of the path.
        pub url_prefix: String,
        /// Bucket that holds the files.
        pub tigris_bucket: Option<String>,
        /// File served for a directory.
        pub index_document: Option<String>,
    }

    /// A file that is written before the program starts.
    pub struct MachineFile {
        /// Absolute path.
        pub guest_path: String,
        /// Content in base64.
        pub raw_value: Option<String>,
        /// Name of an app secret whose value, in base64, is the content.
        pub secret_name: Option<String>,
        /// Image whose configuration is the content.
        pub image_config: Option<String>,
        /// Permission bits.
        pub mode: Option<u32>,
    }

    /// Restart policy.
    pub struct MachineRestart {
        /// The policy.
        pub policy: Option<RestartPolicy>,
        /// Retries within five minutes; 10 when absent.
        pub max_retries: Option<u32>,
    }

    /// How the program is stopped.
    pub struct StopConfig {
        /// Time until it is killed: 5 s when absent, at most 300 s.
        pub timeout: Option<GoDuration>,
        /// SIGINT when absent.
        pub signal: Option<String>,
    }

    /// Names inside the private network.
    pub struct MachineDns {
        /// Leave the machine out of `.internal`.
        pub skip_registration: Option<bool>,
        /// Name servers.
        pub nameservers: Vec<String>,
        /// Search domains.
        pub searches: Vec<String>,
        /// Options of the resolver.
        pub options: Vec<DnsOption>,
        /// Domains with other name servers.
        pub dns_forward_rules: Vec<DnsForwardRule>,
        /// Host name.
        pub hostname: Option<String>,
        /// Full host name.
        pub hostname_fqdn: Option<String>,
    }

    /// An option of the resolver.
    pub struct DnsOption {
        /// Name.
        pub name: Option<String>,
        /// Value.
        pub value: Option<String>,
    }

    /// A domain with another name server.
    pub struct DnsForwardRule {
        /// The domain.
        pub basename: Option<String>,
        /// The server.
        pub addr: Option<String>,
    }

    /// One of several programs of a machine.
    pub struct MachineProcess {
        /// Replaces entry point and command.
        pub exec: Vec<String>,
        /// Replaces the entry point.
        pub entrypoint: Vec<String>,
        /// Replaces the command.
        pub cmd: Vec<String>,
        /// User it runs as.
        pub user: Option<String>,
        /// Its environment.
        pub env: BTreeMap<String, String>,
        /// App secrets that it gets.
        pub secrets: Vec<SecretEnv>,
        /// Properties of the machine that it gets.
        pub env_from: Vec<EnvFrom>,
        /// Give it no app secrets.
        pub ignore_app_secrets: Option<bool>,
    }

    /// An app secret as an environment variable.
    pub struct SecretEnv {
        /// The variable.
        pub env_var: Option<String>,
        /// The secret, when its name is another.
        pub name: Option<String>,
    }

    /// A property of the machine as an environment variable.
    pub struct EnvFrom {
        /// The variable.
        pub env_var: Option<String>,
        /// `id`, `version`, `app_name`, `private_ip`, `region` or `image`.
        pub field_ref: Option<String>,
    }

    /// A container of a machine with several. App secrets reach it only when listed.
    pub struct MachineContainer {
        /// Name.
        pub name: Option<String>,
        /// Image reference.
        pub image: Option<String>,
        /// Replaces entry point and command.
        pub exec: Vec<String>,
        /// Replaces the entry point.
        pub entrypoint: Vec<String>,
        /// Replaces the command.
        pub cmd: Vec<String>,
        /// User it runs as.
        pub user: Option<String>,
        /// Its environment.
        pub env: BTreeMap<String, String>,
        /// App secrets that it gets.
        pub secrets: Vec<SecretEnv>,
        /// Properties of the machine that it gets.
        pub env_from: Vec<EnvFrom>,
        /// Files written before it starts.
        pub files: Vec<MachineFile>,
        /// Restart policy.
        pub restart: Option<MachineRestart>,
        /// How it is stopped.
        pub stop: Option<StopConfig>,
        /// Containers it waits for.
        pub depends_on: Vec<ContainerDependency>,
        /// Its health checks, as sent; Golive does not build them.
        pub healthchecks: Vec<Value>,
        /// Volumes it mounts.
        pub mounts: Vec<ContainerMount>,
    }

    /// A container that another waits for.
    pub struct ContainerDependency {
        /// Its name.
        pub name: Option<String>,
        /// `started`, `healthy` or `exited_successfully`.
        pub condition: Option<String>,
    }

    /// A volume in a container.
    pub struct ContainerMount {
        /// Name of the volume.
        pub name: Option<String>,
        /// Where it is mounted.
        pub path: Option<String>,
    }

    /// A volume that containers share.
    pub struct MachineVolume {
        /// Name.
        pub name: Option<String>,
        /// A temporary directory.
        pub temp_dir: Option<TempDir>,
        /// Image whose files it holds.
        pub image: Option<String>,
        /// Configuration as sent.
        pub config: Option<Value>,
    }

    /// A temporary directory.
    pub struct TempDir {
        /// Size, in MB.
        pub size_mb: Option<u64>,
        /// `disk` or `memory`.
        pub storage_type: Option<String>,
    }

    /// The root file system.
    pub struct MachineRootfs {
        /// `never`, `restart` or `always`.
        pub persist: Option<String>,
        /// Size, in GB.
        pub size_gb: Option<u64>,
    }

    /// A scratch disk.
    pub struct CacheDrive {
        /// Size, in MB.
        pub size_mb: Option<u64>,
    }

    /// A machine that may be reclaimed.
    pub struct Spot {
        /// Highest price as a share of the full one.
        pub max_price_fraction: Option<f64>,
    }
}

wire_enum! {
    /// Restart policy.
    pub enum RestartPolicy {
        /// Never.
        No = "no",
        /// After every exit.
        Always = "always",
        /// After an exit code other than zero, or a signal.
        OnFailure = "on-failure",
    }
}

/// How the proxy treats an idle machine.
///
/// On the wire `false`, `true` or `"suspend"`; `"off"` and `"stop"` are accepted too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Autostop {
    /// Keep it running.
    Off,
    /// Stop it.
    Stop,
    /// Suspend it.
    Suspend,
}

impl Serialize for Autostop {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_bool(false),
            Self::Stop => serializer.serialize_bool(true),
            Self::Suspend => serializer.serialize_str("suspend"),
        }
    }
}

impl<'de> Deserialize<'de> for Autostop {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Bool(false) => Ok(Self::Off),
            Value::Bool(true) => Ok(Self::Stop),
            Value::String(word) => match word.as_str() {
                "off" | "false" => Ok(Self::Off),
                "stop" | "true" => Ok(Self::Stop),
                "suspend" => Ok(Self::Suspend),
                _ => Err(D::Error::custom("not a way to stop")),
            },
            _ => Err(D::Error::custom("not a way to stop")),
        }
    }
}

impl MachineGuest {
    /// The size with this name, such as `shared-cpu-1x` or `performance-2x`; `None` if there is
    /// none. Source: fly-go `machine_types.go`, `MachinePresets`.
    pub fn preset(name: &str) -> Option<Self> {
        let (kind, cpus, memory_mb) = if let Some(count) = name.strip_prefix("shared-cpu-") {
            let cpus = times(count, &[1, 2, 4, 6, 8])?;
            ("shared", cpus, 256 * cpus)
        } else if let Some(count) = name.strip_prefix("performance-") {
            let cpus = times(count, &[1, 2, 4, 6, 8, 10, 12, 14, 16])?;
            ("performance", cpus, 2048 * cpus)
        } else {
            let gpu_kind = match name {
                "a10" | "l40s" => name,
                "a100-40gb" | "a100-pcie-40gb" => "a100-pcie-40gb",
                "a100-80gb" | "a100-sxm4-80gb" => "a100-sxm4-80gb",
                _ => return None,
            };
            return Some(Self {
                cpu_kind: Some("performance".to_owned()),
                cpus: Some(8),
                memory_mb: Some(32_768),
                gpus: Some(1),
                gpu_kind: Some(gpu_kind.to_owned()),
                ..Self::default()
            });
        };
        Some(Self {
            cpu_kind: Some(kind.to_owned()),
            cpus: Some(cpus),
            memory_mb: Some(memory_mb),
            ..Self::default()
        })
    }
}

/// The number in `4x`, if Fly.io offers it.
fn times(count: &str, offered: &[u32]) -> Option<u32> {
    let cpus = count.strip_suffix('x')?.parse().ok()?;
    offered.contains(&cpus).then_some(cpus)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_configuration_survives_reading_and_writing_with_all_it_does_not_know() {
        let sent = json!({
            "image": "registry.fly.io/cabanas:1.4.0",
            "env": {"PRIMARY_REGION": "eze"},
            "init": {"cmd": ["serve"], "new_init": true},
            "guest": {"cpu_kind": "shared", "cpus": 1, "memory_mb": 256},
            "services": [{
                "protocol": "tcp",
                "internal_port": 8080,
                "autostop": "suspend",
                "ports": [{"port": 443, "handlers": ["http", "tls"], "new_port": [1]}],
                "checks": [{"type": "http", "path": "/healthz", "interval": "15s"}],
            }],
            "checks": {"pg": {"type": "http", "port": 5500, "timeout": "10s"}},
            "restart": {"policy": "spot-price", "gpu_bid_price": 0.5},
            "shiny": {"a": [null]},
        });

        let read: MachineConfig = serde_json::from_value(sent.clone()).unwrap();

        assert_eq!(read.services[0].autostop, Some(Autostop::Suspend));
        assert_eq!(serde_json::to_value(&read).unwrap(), sent);
    }

    #[test]
    fn an_empty_configuration_writes_nothing_but_a_given_init_is_written() {
        let config = MachineConfig {
            init: Some(MachineInit::default()),
            ..Default::default()
        };
        assert_eq!(serde_json::to_value(&config).unwrap(), json!({"init": {}}));
    }

    #[test]
    fn autostop_is_written_as_the_platform_writes_it() {
        for (sent, autostop, written) in [
            (json!("off"), Autostop::Off, json!(false)),
            (json!(true), Autostop::Stop, json!(true)),
            (json!("suspend"), Autostop::Suspend, json!("suspend")),
        ] {
            let read: Autostop = serde_json::from_value(sent).unwrap();
            assert_eq!(read, autostop);
            assert_eq!(serde_json::to_value(read).unwrap(), written);
        }
    }

    #[test]
    fn sizes_are_known_by_name() {
        let size = MachineGuest::preset("shared-cpu-2x").unwrap();
        assert_eq!((size.cpus, size.memory_mb), (Some(2), Some(512)));
        assert_eq!(
            MachineGuest::preset("performance-16x").unwrap().memory_mb,
            Some(32_768)
        );
        assert_eq!(MachineGuest::preset("l40s").unwrap().gpus, Some(1));
        for unknown in ["shared-cpu-3x", "shared-cpu-1", "performance-x", ""] {
            assert_eq!(MachineGuest::preset(unknown), None, "{unknown}");
        }
    }
}
