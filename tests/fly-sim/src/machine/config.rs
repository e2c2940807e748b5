//! The machine configuration as Fly reads it. Unknown fields are refused.
//!
//! Sources: the Machines OpenAPI and fly-go's JSON, restated in the API reference, section C.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::duration::GoDuration;
use crate::error::{FlyError, FlyResult};

/// A whole configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "field names are Fly's")]
pub struct Config {
    pub image: Option<String>,
    pub env: Option<BTreeMap<String, String>>,
    pub init: Option<Init>,
    pub guest: Option<Guest>,
    pub metadata: Option<BTreeMap<String, String>>,
    pub mounts: Option<Vec<Mount>>,
    pub services: Option<Vec<Service>>,
    pub checks: Option<BTreeMap<String, Check>>,
    pub metrics: Option<Metrics>,
    pub statics: Option<Vec<Static>>,
    pub files: Option<Vec<File>>,
    pub restart: Option<Restart>,
    pub schedule: Option<String>,
    pub auto_destroy: Option<bool>,
    pub dns: Option<Dns>,
    pub processes: Option<Vec<Process>>,
    pub standbys: Option<Vec<String>>,
    pub stop_config: Option<StopConfig>,
    pub containers: Option<Vec<Container>>,
    pub volumes: Option<Vec<Value>>,
    pub rootfs: Option<Rootfs>,
    pub cache_drive: Option<Value>,
    pub spot: Option<Value>,
    pub size: Option<String>,
    pub disable_machine_autostart: Option<bool>,
}

/// One of several programs of a machine, each from an image of its own.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "field names are Fly's")]
pub struct Container {
    pub name: Option<String>,
    pub image: Option<String>,
    pub exec: Option<Vec<String>>,
    pub entrypoint: Option<Vec<String>>,
    pub cmd: Option<Vec<String>>,
    pub user: Option<String>,
    pub env: Option<BTreeMap<String, String>>,
    pub secrets: Option<Vec<Value>>,
    pub env_from: Option<Vec<Value>>,
    pub files: Option<Vec<Value>>,
    pub restart: Option<Restart>,
    pub stop: Option<StopConfig>,
    pub depends_on: Option<Vec<Dependency>>,
    pub healthchecks: Option<Vec<Value>>,
    pub mounts: Option<Vec<Value>>,
}

/// A container that another waits for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "field names are Fly's")]
pub struct Dependency {
    pub name: Option<String>,
    pub condition: Option<String>,
}

/// What runs.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "field names are Fly's")]
pub struct Init {
    pub exec: Option<Vec<String>>,
    pub entrypoint: Option<Vec<String>>,
    pub cmd: Option<Vec<String>>,
    pub tty: Option<bool>,
    pub swap_size_mb: Option<u64>,
    pub kernel_args: Option<Vec<String>>,
}

/// The size.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "field names are Fly's")]
pub struct Guest {
    pub cpu_kind: Option<String>,
    pub cpus: Option<u64>,
    pub memory_mb: Option<u64>,
    pub max_memory_mb: Option<u64>,
    pub gpus: Option<u64>,
    pub gpu_kind: Option<String>,
    pub host_dedication_id: Option<String>,
    pub kernel_args: Option<Vec<String>>,
    pub persist_rootfs: Option<Value>,
}

/// A volume in the machine.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "field names are Fly's")]
pub struct Mount {
    pub volume: Option<String>,
    pub path: Option<String>,
    pub name: Option<String>,
    pub encrypted: Option<bool>,
    pub size_gb: Option<u64>,
    pub extend_threshold_percent: Option<u64>,
    pub add_size_gb: Option<u64>,
    pub size_gb_limit: Option<u64>,
    pub add_size_percent: Option<u64>,
    pub min_add_size_gb: Option<u64>,
}

/// What the edge offers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "field names are Fly's")]
pub struct Service {
    pub protocol: Option<String>,
    pub internal_port: Option<u16>,
    pub ports: Option<Vec<Port>>,
    pub autostop: Option<Autostop>,
    pub autostart: Option<bool>,
    pub min_machines_running: Option<u64>,
    pub checks: Option<Vec<Check>>,
    pub concurrency: Option<Concurrency>,
    pub force_instance_key: Option<Value>,
    pub force_instance_description: Option<String>,
}

/// When the edge stops an idle machine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Autostop {
    /// `true` is `stop`, `false` is `off`.
    Flag(bool),
    /// `off`, `stop` or `suspend`.
    Word(String),
}

/// A public port.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "field names are Fly's")]
pub struct Port {
    pub port: Option<u16>,
    pub start_port: Option<u16>,
    pub end_port: Option<u16>,
    pub handlers: Option<Vec<String>>,
    pub force_https: Option<bool>,
    pub tls_options: Option<Value>,
    pub http_options: Option<Value>,
    pub proxy_proto_options: Option<Value>,
}

/// Limits of a service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "field names are Fly's")]
pub struct Concurrency {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub soft_limit: Option<u64>,
    pub hard_limit: Option<u64>,
}

/// A health check.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "field names are Fly's")]
pub struct Check {
    #[serde(rename = "type")]
    pub kind_of_check: Option<String>,
    pub port: Option<u16>,
    pub interval: Option<GoDuration>,
    pub timeout: Option<GoDuration>,
    pub grace_period: Option<GoDuration>,
    pub method: Option<String>,
    pub path: Option<String>,
    pub protocol: Option<String>,
    pub tls_skip_verify: Option<bool>,
    pub tls_server_name: Option<String>,
    pub headers: Option<Vec<Header>>,
    pub kind: Option<String>,
}

/// A header that a check sends.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "field names are Fly's")]
pub struct Header {
    pub name: String,
    pub values: Option<Vec<String>>,
}

/// What Fly scrapes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "field names are Fly's")]
pub struct Metrics {
    pub port: u16,
    pub path: Option<String>,
    pub https: Option<bool>,
}

/// Files that the edge serves.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "field names are Fly's")]
pub struct Static {
    pub guest_path: String,
    pub url_prefix: String,
    pub tigris_bucket: Option<String>,
    pub index_document: Option<String>,
}

/// A file in the machine.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "field names are Fly's")]
pub struct File {
    pub guest_path: String,
    pub raw_value: Option<String>,
    pub secret_name: Option<String>,
    pub image_config: Option<String>,
    pub mode: Option<u32>,
}

/// What happens when the program ends.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "field names are Fly's")]
pub struct Restart {
    pub policy: Option<String>,
    pub max_retries: Option<u32>,
    pub gpu_bid_price: Option<f64>,
}

/// Names.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "field names are Fly's")]
pub struct Dns {
    pub skip_registration: Option<bool>,
    pub nameservers: Option<Vec<String>>,
    pub searches: Option<Vec<String>>,
    pub options: Option<Vec<Value>>,
    pub dns_forward_rules: Option<Vec<Value>>,
    pub hostname: Option<String>,
    pub hostname_fqdn: Option<String>,
}

/// One of several programs.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "field names are Fly's")]
pub struct Process {
    pub exec: Option<Vec<String>>,
    pub entrypoint: Option<Vec<String>>,
    pub cmd: Option<Vec<String>>,
    pub user: Option<String>,
    pub env: Option<BTreeMap<String, String>>,
    pub secrets: Option<Vec<Value>>,
    pub env_from: Option<Vec<Value>>,
    pub ignore_app_secrets: Option<bool>,
}

/// How a machine is stopped.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "field names are Fly's")]
pub struct StopConfig {
    pub timeout: Option<GoDuration>,
    pub signal: Option<String>,
}

/// The root file system.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "field names are Fly's")]
pub struct Rootfs {
    pub persist: Option<String>,
    pub size_gb: Option<u64>,
}

/// Reads a configuration from JSON, strictly, and checks its values.
pub fn read(value: &Value) -> FlyResult<Config> {
    let config: Config = serde_json::from_value(value.clone())
        .map_err(|error| invalid(format!("invalid JSON in config: {error}")))?;
    check(&config)?;
    Ok(config)
}

fn invalid(message: impl std::fmt::Display) -> FlyError {
    FlyError::bad_request(format!("invalid_argument: {message}"))
}

/// Memory per cpu in MB: lowest, highest, step. Source: fly-go, machine_types.go.
fn memory_limits(cpu_kind: &str) -> (u64, u64, u64) {
    match cpu_kind {
        "performance" => (2_048, 8_192, 1_024),
        _ => (256, 2_048, 256),
    }
}

/// The preset sizes: cpu kind, cpus, memory in MB.
pub fn preset(size: &str) -> Option<(&'static str, u64, u64)> {
    let (kind, rest) = match size.strip_prefix("shared-cpu-") {
        Some(rest) => ("shared", rest),
        None => ("performance", size.strip_prefix("performance-")?),
    };
    let cpus: u64 = rest.strip_suffix('x')?.parse().ok()?;
    let known: &[u64] = match kind {
        "shared" => &[1, 2, 4, 6, 8],
        _ => &[1, 2, 4, 6, 8, 10, 12, 14, 16],
    };
    let memory = if kind == "shared" { 256 } else { 2_048 };
    known.contains(&cpus).then_some((kind, cpus, memory * cpus))
}

fn check(config: &Config) -> FlyResult<()> {
    match &config.image {
        Some(image) if !image.is_empty() => {}
        _ => return Err(invalid("config.image is required")),
    }
    if let Some(size) = &config.size
        && preset(size).is_none()
    {
        return Err(FlyError::unprocessable(format!(
            "invalid config.size, '{size}' is not a known machine size"
        )));
    }
    if let Some(guest) = &config.guest {
        check_guest(guest)?;
    }
    for mount in config.mounts.iter().flatten() {
        if !mount
            .path
            .as_deref()
            .is_some_and(|path| path.starts_with('/'))
        {
            return Err(invalid("config.mounts: path must be absolute"));
        }
        if mount.volume.is_none() && mount.name.is_none() {
            return Err(invalid("config.mounts: volume is required"));
        }
    }
    if config.mounts.iter().flatten().count() > 1 {
        return Err(invalid("config.mounts: at most one volume is supported"));
    }
    for service in config.services.iter().flatten() {
        check_service(service)?;
    }
    for (name, item) in config.checks.iter().flatten() {
        if item.port.is_none() {
            return Err(invalid(format!("config.checks.{name}: port is required")));
        }
        check_check(&format!("config.checks.{name}"), item, true)?;
    }
    if let Some(restart) = &config.restart
        && !matches!(
            restart.policy.as_deref(),
            None | Some("" | "no" | "always" | "on-failure" | "spot-price")
        )
    {
        return Err(invalid(
            "config.restart.policy must be one of no, always, on-failure",
        ));
    }
    if let Some(schedule) = &config.schedule
        && !matches!(
            schedule.as_str(),
            "" | "hourly" | "daily" | "weekly" | "monthly"
        )
    {
        return Err(invalid(
            "config.schedule must be one of hourly, daily, weekly, monthly",
        ));
    }
    if let Some(stop) = &config.stop_config {
        if let Some(signal) = &stop.signal {
            super::signal::parse(signal)?;
        }
        if stop
            .timeout
            .is_some_and(|timeout| timeout.0.as_secs() > 300)
        {
            return Err(invalid("config.stop_config.timeout must be at most 5m"));
        }
    }
    for file in config.files.iter().flatten() {
        if !file.guest_path.starts_with('/') {
            return Err(invalid("config.files: guest_path must be absolute"));
        }
        let sources = [
            file.raw_value.is_some(),
            file.secret_name.is_some(),
            file.image_config.is_some(),
        ];
        if sources.into_iter().filter(|given| *given).count() != 1 {
            return Err(invalid(
                "config.files: exactly one of raw_value, secret_name and image_config is required",
            ));
        }
    }
    check_containers(config.containers.as_deref().unwrap_or_default())?;
    if let Some(rootfs) = &config.rootfs
        && !matches!(
            rootfs.persist.as_deref(),
            None | Some("" | "never" | "restart" | "always")
        )
    {
        return Err(invalid(
            "config.rootfs.persist must be one of never, restart, always",
        ));
    }
    Ok(())
}

fn check_containers(containers: &[Container]) -> FlyResult<()> {
    let names: Vec<&str> = containers
        .iter()
        .map(|container| container.name.as_deref().unwrap_or_default())
        .collect();
    for (index, container) in containers.iter().enumerate() {
        let name = names[index];
        if name.is_empty() || names[..index].contains(&name) {
            return Err(invalid(
                "config.containers: each must have a name of its own",
            ));
        }
        if container.image.as_deref().unwrap_or_default().is_empty() {
            return Err(invalid(format!(
                "config.containers.{name}: image is required"
            )));
        }
        for other in container.depends_on.iter().flatten() {
            if !names.contains(&other.name.as_deref().unwrap_or_default()) {
                return Err(invalid(format!(
                    "config.containers.{name}: depends_on names no container"
                )));
            }
            let known = ["started", "healthy", "exited_successfully"];
            if !known.contains(&other.condition.as_deref().unwrap_or("started")) {
                return Err(invalid(format!(
                    "config.containers.{name}: depends_on.condition must be one of {}",
                    known.join(", ")
                )));
            }
        }
    }
    Ok(())
}

fn check_guest(guest: &Guest) -> FlyResult<()> {
    let kind = guest.cpu_kind.as_deref().unwrap_or("shared");
    if !matches!(kind, "shared" | "performance") {
        return Err(FlyError::unprocessable(format!(
            "invalid config.guest.cpu_kind, '{kind}' is not one of shared, performance"
        )));
    }
    let cpus = guest.cpus.unwrap_or(1);
    let known: &[u64] = match kind {
        "shared" => &[1, 2, 4, 6, 8],
        _ => &[1, 2, 4, 6, 8, 10, 12, 14, 16],
    };
    if !known.contains(&cpus) {
        return Err(FlyError::unprocessable(format!(
            "invalid config.guest.cpus, {cpus} is not a valid number of {kind} cpus"
        )));
    }
    let (low, high, step) = memory_limits(kind);
    let memory = guest.memory_mb.unwrap_or(low * cpus);
    if memory < low * cpus {
        return Err(FlyError::unprocessable(format!(
            "invalid config.guest.memory_mb, minimum required {} MiB",
            low * cpus
        )));
    }
    if memory > high * cpus {
        return Err(FlyError::unprocessable(format!(
            "invalid config.guest.memory_mb, maximum allowed {} MiB",
            high * cpus
        )));
    }
    if !memory.is_multiple_of(step) {
        return Err(FlyError::unprocessable(format!(
            "invalid config.guest.memory_mb, must be in a {step} MiB increment"
        )));
    }
    Ok(())
}

fn check_service(service: &Service) -> FlyResult<()> {
    if !matches!(service.protocol.as_deref(), Some("tcp" | "udp")) {
        return Err(invalid("config.services: protocol must be tcp or udp"));
    }
    if service.internal_port.unwrap_or_default() == 0 {
        return Err(invalid(
            "config.services: internal_port must be between 1 and 65535",
        ));
    }
    if let Some(Autostop::Word(word)) = &service.autostop
        && !matches!(word.as_str(), "off" | "stop" | "suspend")
    {
        return Err(invalid(
            "config.services: autostop must be off, stop or suspend",
        ));
    }
    for port in service.ports.iter().flatten() {
        let range = port.start_port.is_some() && port.end_port.is_some();
        if port.port.is_none() && !range {
            return Err(invalid(
                "config.services.ports: port or start_port and end_port required",
            ));
        }
        for handler in port.handlers.iter().flatten() {
            if !matches!(
                handler.as_str(),
                "http" | "tls" | "pg_tls" | "proxy_proto" | "edge_http"
            ) {
                return Err(invalid(format!(
                    "config.services.ports: unknown handler '{handler}'"
                )));
            }
        }
    }
    if let Some(concurrency) = &service.concurrency
        && !matches!(
            concurrency.kind.as_deref(),
            None | Some("" | "connections" | "requests")
        )
    {
        return Err(invalid(
            "config.services.concurrency: type must be connections or requests",
        ));
    }
    for item in service.checks.iter().flatten() {
        check_check("config.services.checks", item, false)?;
    }
    Ok(())
}

fn check_check(place: &str, check: &Check, top_level: bool) -> FlyResult<()> {
    if !matches!(check.kind_of_check.as_deref(), Some("tcp" | "http")) {
        return Err(invalid(format!("{place}: type must be tcp or http")));
    }
    // The times of a service's check are not refused but brought into bounds when it runs: flyctl
    // sends them as they are and says that they will be raised or lowered.
    if top_level {
        if check.interval.is_some_and(|time| time.0.as_secs() < 2) {
            return Err(invalid(format!("{place}: interval must be at least 2s")));
        }
        if check.timeout.is_some_and(|time| time.0.as_secs() > 60) {
            return Err(invalid(format!("{place}: timeout must be at most 1m")));
        }
    }
    if !matches!(
        check.protocol.as_deref(),
        None | Some("" | "http" | "https")
    ) {
        return Err(invalid(format!("{place}: protocol must be http or https")));
    }
    match check.kind.as_deref() {
        None | Some("") => {}
        Some("informational" | "readiness") if top_level => {}
        _ => return Err(invalid(format!("{place}: kind is not valid here"))),
    }
    if let Some(path) = &check.path
        && !path.is_empty()
        && !path.starts_with('/')
    {
        return Err(invalid(format!("{place}: path must start with /")));
    }
    Ok(())
}

/// The configuration as Fly gives it back: without nulls, with `init` and `guest` filled in.
pub fn normal(value: &Value, config: &Config) -> Value {
    let mut value = value.clone();
    drop_nulls(&mut value);
    let guest = config.guest.clone().unwrap_or_default();
    let from_size = config.size.as_deref().and_then(preset);
    let kind = guest
        .cpu_kind
        .as_deref()
        .or(from_size.map(|(kind, _, _)| kind))
        .unwrap_or("shared");
    let cpus = guest
        .cpus
        .or(from_size.map(|(_, cpus, _)| cpus))
        .unwrap_or(1);
    let memory = guest
        .memory_mb
        .or(from_size.map(|(_, _, memory)| memory))
        .unwrap_or(memory_limits(kind).0 * cpus);
    if let Value::Object(map) = &mut value {
        map.entry("init")
            .or_insert_with(|| Value::Object(serde_json::Map::new()));
        let filled = map
            .entry("guest")
            .or_insert_with(|| Value::Object(serde_json::Map::new()));
        if let Value::Object(filled) = filled {
            filled.entry("cpu_kind").or_insert_with(|| kind.into());
            filled.entry("cpus").or_insert_with(|| cpus.into());
            filled.entry("memory_mb").or_insert_with(|| memory.into());
        }
    }
    value
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, item| !item.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error(value: Value) -> String {
        read(&value).unwrap_err().message
    }

    #[test]
    fn a_whole_configuration_as_flyctl_sends_it_is_read() {
        let value = json!({
            "image": "registry.fly.io/demo:1",
            "env": {"A": "1"}, "init": {}, "metadata": {"fly_process_group": "app"},
            "services": [{
                "protocol": "tcp", "internal_port": 8080, "autostop": "suspend", "autostart": true,
                "min_machines_running": 0, "force_instance_key": null,
                "ports": [
                    {"port": 80, "handlers": ["http"], "force_https": true},
                    {"port": 443, "handlers": ["http", "tls"]},
                ],
                "checks": [{"type": "http", "interval": "15s", "timeout": "2s",
                    "grace_period": "5s", "method": "GET", "path": "/healthz"}],
                "concurrency": {"type": "requests", "soft_limit": 20},
            }],
            "checks": {"up": {"type": "tcp", "port": 8080, "interval": 15_000_000_000_u64}},
            "restart": {"policy": "on-failure", "max_retries": 3},
            "stop_config": {"timeout": "10s", "signal": "SIGTERM"},
            "guest": {"cpu_kind": "shared", "cpus": 1, "memory_mb": 512},
        });
        let config = read(&value).unwrap();
        let normal = normal(&value, &config);
        assert_eq!(normal["guest"]["memory_mb"], 512);
        assert!(normal["services"][0].get("force_instance_key").is_none());
    }

    #[test]
    fn what_fly_refuses_is_refused() {
        assert!(error(json!({})).contains("config.image is required"));
        assert!(error(json!({"image": "a", "colour": 1})).contains("unknown field `colour`"));
        let containers = |containers| error(json!({"image": "a", "containers": containers}));
        assert!(containers(json!([{"image": "a"}])).contains("a name of its own"));
        assert!(containers(json!([{"name": "b"}])).contains("containers.b: image is required"));
        let waits = |on| containers(json!([{"name": "b", "image": "a", "depends_on": [on]}]));
        assert!(waits(json!({"name": "c"})).contains("names no container"));
        assert!(waits(json!({"name": "b", "condition": "up"})).contains("must be one of started"));
        let guest = |guest| error(json!({"image": "a", "guest": guest}));
        assert!(guest(json!({"memory_mb": 100})).contains("minimum required 256 MiB"));
        assert!(guest(json!({"memory_mb": 300})).contains("256 MiB increment"));
        assert!(guest(json!({"cpus": 3})).contains("not a valid number of shared cpus"));
        assert!(guest(json!({"cpu_kind": "fast"})).contains("cpu_kind"));
        let service = |service| error(json!({"image": "a", "services": [service]}));
        assert!(service(json!({"internal_port": 1})).contains("protocol"));
        assert!(service(json!({"protocol": "tcp"})).contains("internal_port"));
        let restart = json!({"image": "a", "restart": {"policy": "never"}});
        assert!(error(restart).contains("restart.policy"));
    }

    #[test]
    fn sizes_are_those_that_fly_sells() {
        assert_eq!(preset("shared-cpu-2x"), Some(("shared", 2, 512)));
        assert_eq!(preset("performance-4x"), Some(("performance", 4, 8_192)));
        assert_eq!(preset("shared-cpu-3x"), None);
    }
}
