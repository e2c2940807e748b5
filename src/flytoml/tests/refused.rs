//! What Fly.io refuses is known beforehand: every rule that the simulator enforces, with a machine
//! that breaks it and the `fly.toml` that would have sent it.
//!
//! A rule that is added to the simulator needs a row here: a test reads its source.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use fly_sim::machine::config::read;
use regex::Regex;
use serde_json::{Value, json};

use super::recorded::refused;
use crate::flytoml::*;

/// A rule as the simulator words it, the machine that breaks it (without its image), and the file
/// that is refused instead, at this place.
struct Rule {
    says: &'static str,
    machine: Value,
    toml: &'static str,
    place: &'static str,
}

fn rule(says: &'static str, machine: Value, toml: &'static str, place: &'static str) -> Rule {
    Rule {
        says,
        machine,
        toml,
        place,
    }
}

fn machine_rules() -> Vec<Rule> {
    vec![
        rule(
            "invalid config.size, '{size}' is not a known machine size",
            json!({"size": "huge"}),
            "machine_config = '{\"size\": \"huge\"}'",
            "1:1: machine_config",
        ),
        rule(
            "config.containers: each must have a name of its own",
            json!({"containers": [{"name": "a", "image": "x"}, {"name": "a", "image": "x"}]}),
            "machine_config = '{\"containers\": [{\"name\": \"a\", \"image\": \"x\"}, {\"name\": \"a\", \"image\": \"x\"}]}'",
            "1:1: machine_config",
        ),
        rule(
            "config.containers.{name}: image is required",
            json!({"containers": [{"name": "app", "image": "x"}, {"name": "b"}]}),
            "machine_config = '{\"containers\": [{\"name\": \"app\", \"image\": \"x\"}, {\"name\": \"b\"}]}'",
            "1:1: machine_config",
        ),
        rule(
            "config.containers.{name}: depends_on names no container",
            json!({"containers": [{"name": "app", "image": "x", "depends_on": [{"name": "b"}]}]}),
            "machine_config = '{\"containers\": [{\"name\": \"app\", \"image\": \"x\", \"depends_on\": [{\"name\": \"b\"}]}]}'",
            "1:1: machine_config",
        ),
        rule(
            "config.containers.{name}: depends_on.condition must be one of {}",
            json!({"containers": [{"name": "app", "image": "x", "depends_on": [{"name": "app", "condition": "up"}]}]}),
            "machine_config = '{\"containers\": [{\"name\": \"app\", \"image\": \"x\", \"depends_on\": [{\"name\": \"app\", \"condition\": \"up\"}]}]}'",
            "1:1: machine_config",
        ),
        rule(
            "config.mounts: path must be absolute",
            json!({"mounts": [{"volume": "vol_1", "path": "data"}]}),
            "[mounts]\nsource = 'data'\ndestination = 'data'",
            "3:1: mounts[0].destination",
        ),
        rule(
            "config.mounts: volume is required",
            json!({"mounts": [{"path": "/data"}]}),
            "[mounts]\ndestination = '/data'",
            "1:1: mounts[0].source",
        ),
        rule(
            "config.mounts: at most one volume is supported",
            json!({"mounts": [{"name": "a", "path": "/a"}, {"name": "b", "path": "/b"}]}),
            "[[mounts]]\nsource = 'a'\ndestination = '/a'\n[[mounts]]\nsource = 'b'\ndestination = '/b'",
            "4:1: mounts[1]",
        ),
        rule(
            "config.checks.{name}: port is required",
            json!({"checks": {"a": {"type": "tcp"}}}),
            "[checks.a]\ntype = 'tcp'",
            "1:9: checks.a.port",
        ),
        rule(
            "config.restart.policy must be one of no, always, on-failure",
            json!({"restart": {"policy": "sometimes"}}),
            "[[restart]]\npolicy = 'sometimes'",
            "2:1: restart[0].policy",
        ),
        rule(
            "config.schedule must be one of hourly, daily, weekly, monthly",
            json!({"schedule": "yearly"}),
            "machine_config = '{\"schedule\": \"yearly\"}'",
            "1:1: machine_config",
        ),
        rule(
            "config.stop_config.timeout must be at most 5m",
            json!({"stop_config": {"timeout": "10m"}}),
            "kill_timeout = '10m'",
            "1:1: kill_timeout",
        ),
        rule(
            "invalid_argument: unknown signal '{text}'",
            json!({"stop_config": {"signal": "SIGTREM"}}),
            "kill_signal = 'SIGTREM'",
            "1:1: kill_signal",
        ),
        rule(
            "config.files: guest_path must be absolute",
            json!({"files": [{"guest_path": "x", "raw_value": ""}]}),
            "[[files]]\nguest_path = 'x'\nraw_value = 'y'",
            "2:1: files[0].guest_path",
        ),
        rule(
            "config.files: exactly one of raw_value, secret_name and image_config is required",
            json!({"files": [{"guest_path": "/x"}]}),
            "[[files]]\nguest_path = '/x'",
            "1:1: files[0]",
        ),
        rule(
            "config.rootfs.persist must be one of never, restart, always",
            json!({"rootfs": {"persist": "now"}}),
            "machine_config = '{\"rootfs\": {\"persist\": \"now\"}}'",
            "1:1: machine_config",
        ),
        rule(
            "invalid config.guest.cpu_kind, '{kind}' is not one of shared, performance",
            json!({"guest": {"cpu_kind": "turbo"}}),
            "[[vm]]\ncpu_kind = 'turbo'",
            "2:1: vm[0].cpu_kind",
        ),
        rule(
            "invalid config.guest.cpus, {cpus} is not a valid number of {kind} cpus",
            json!({"guest": {"cpus": 3}}),
            "[[vm]]\ncpus = 3",
            "2:1: vm[0].cpus",
        ),
        rule(
            "invalid config.guest.memory_mb, minimum required {} MiB",
            json!({"guest": {"memory_mb": 128}}),
            "[[vm]]\nmemory = '128mb'",
            "2:1: vm[0].memory",
        ),
        rule(
            "invalid config.guest.memory_mb, maximum allowed {} MiB",
            json!({"guest": {"memory_mb": 4096}}),
            "[[vm]]\nmemory_mb = 4096",
            "2:1: vm[0].memory_mb",
        ),
        rule(
            "invalid config.guest.memory_mb, must be in a {step} MiB increment",
            json!({"guest": {"memory_mb": 300}}),
            "[deploy.release_command_vm]\nmemory = '300'",
            "2:1: deploy.release_command_vm.memory",
        ),
        rule(
            "invalid config.guest.memory_mb, must be in a {step} MiB increment",
            json!({"guest": {"memory_mb": 300}}),
            "machine_config = '{\"guest\": {\"memory_mb\": 300}}'",
            "1:1: machine_config",
        ),
        rule(
            "invalid JSON in config: {error}",
            json!({"metrics": {"path": "/metrics"}}),
            "[metrics]\npath = '/metrics'",
            "1:1: metrics[0].port",
        ),
        rule(
            "invalid JSON in config: {error}",
            json!({"services": [{"protocol": "tcp", "internal_port": 70000}]}),
            "[http_service]\ninternal_port = 70000",
            "2:1: http_service.internal_port",
        ),
        rule(
            "invalid JSON in config: {error}",
            json!({"stop_config": {"timeout": "soon"}}),
            "kill_timeout = 'soon'",
            "1:1: kill_timeout",
        ),
    ]
}

fn service_rules() -> Vec<Rule> {
    let service = |more: Value| {
        let mut service = json!({"protocol": "tcp", "internal_port": 1});
        service
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({"services": [service]})
    };
    let check = |check: Value| service(json!({"checks": [check]}));
    let top = |check: Value| json!({"checks": {"a": check}});
    vec![
        rule(
            "config.services: protocol must be tcp or udp",
            json!({"services": [{"internal_port": 1}]}),
            "[[services]]\ninternal_port = 1",
            "1:1: services[0].protocol",
        ),
        rule(
            "config.services: internal_port must be between 1 and 65535",
            json!({"services": [{"protocol": "tcp"}]}),
            "[[services]]\nprotocol = 'tcp'",
            "1:1: services[0].internal_port",
        ),
        rule(
            "config.services: internal_port must be between 1 and 65535",
            json!({"services": [{"protocol": "tcp", "internal_port": 0}]}),
            "[http_service]\nforce_https = true",
            "1:2: http_service.internal_port",
        ),
        rule(
            "config.services: autostop must be off, stop or suspend",
            service(json!({"autostop": "sleep"})),
            "[http_service]\ninternal_port = 1\nauto_stop_machines = 'sleep'",
            "3:1: http_service.auto_stop_machines",
        ),
        rule(
            "config.services.ports: port or start_port and end_port required",
            service(json!({"ports": [{"start_port": 80}]})),
            "[[services]]\nprotocol = 'tcp'\ninternal_port = 1\n[[services.ports]]\nstart_port = 80",
            "4:1: services[0].ports[0]",
        ),
        rule(
            "config.services.ports: unknown handler '{handler}'",
            service(json!({"ports": [{"port": 80, "handlers": ["https"]}]})),
            "[[services]]\nprotocol = 'tcp'\ninternal_port = 1\n[[services.ports]]\nport = 80\nhandlers = ['https']",
            "6:1: services[0].ports[0].handlers",
        ),
        rule(
            "config.services.concurrency: type must be connections or requests",
            service(json!({"concurrency": {"type": "users"}})),
            "[http_service]\ninternal_port = 1\n[http_service.concurrency]\ntype = 'users'",
            "4:1: http_service.concurrency.type",
        ),
        rule(
            "{place}: type must be tcp or http",
            top(json!({"type": "icmp", "port": 1})),
            "[checks.a]\ntype = 'icmp'\nport = 1",
            "2:1: checks.a.type",
        ),
        rule(
            "{place}: interval must be at least 2s",
            top(json!({"type": "tcp", "port": 1, "interval": "1s"})),
            "[checks.a]\ntype = 'tcp'\nport = 1\ninterval = '1s'",
            "4:1: checks.a.interval",
        ),
        rule(
            "{place}: timeout must be at most 1m",
            top(json!({"type": "tcp", "port": 1, "timeout": "2m"})),
            "[checks.a]\ntype = 'tcp'\nport = 1\ntimeout = '2m'",
            "4:1: checks.a.timeout",
        ),
        rule(
            "{place}: protocol must be http or https",
            check(json!({"type": "http", "protocol": "h2"})),
            "[http_service]\ninternal_port = 1\n[[http_service.checks]]\nprotocol = 'h2'",
            "4:1: http_service.checks[0].protocol",
        ),
        rule(
            "{place}: kind is not valid here",
            top(json!({"type": "tcp", "port": 1, "kind": "liveness"})),
            "[checks.a]\ntype = 'tcp'\nport = 1\nkind = 'liveness'",
            "4:1: checks.a.kind",
        ),
        rule(
            "{place}: path must start with /",
            check(json!({"type": "http", "path": "health"})),
            "[http_service]\ninternal_port = 1\n[[http_service.checks]]\npath = 'health'",
            "4:1: http_service.checks[0].path",
        ),
        rule(
            "{place}: path must start with /",
            top(json!({"type": "http", "port": 1, "path": "health"})),
            "[checks.a]\ntype = 'http'\nport = 1\npath = 'health'",
            "4:1: checks.a.path",
        ),
    ]
}

/// Rules for other calls than those that create a machine: the file that is refused instead.
const VOLUMES: &[(&str, &str, &str)] = &[
    (
        "invalid_argument: volume name must be 1 to 30 letters, digits or underscores",
        "[mounts]\nsource = 'my-app-data'\ndestination = '/data'",
        "2:1: mounts[0].source",
    ),
    (
        "invalid_argument: volume name must be 1 to 30 letters, digits or underscores",
        "[mounts]\nsource = 'this_is_a_volume_name_that_is_too_long'\ndestination = '/data'",
        "2:1: mounts[0].source",
    ),
    (
        "invalid_argument: snapshot_retention must be between 1 and 60",
        "[mounts]\nsource = 'data'\ndestination = '/data'\nsnapshot_retention = 0",
        "4:1: mounts[0].snapshot_retention",
    ),
    (
        "invalid_argument: invalid machine name '{name}'",
        "[processes]\n'web server' = 'serve'",
        "2:1: processes.web server",
    ),
];

/// Rules that are known beforehand in another place, or that no file can break.
const ELSEWHERE: &[(&str, &str)] = &[
    ("config.image is required", "the CRD requires an image"),
    (
        "invalid_argument: size_gb must be between 1 and 500",
        "less is an error here; more is a warning, because organizations exist that may have more",
    ),
    (
        "invalid_argument: fstype must be ext4 or raw",
        "it is not sent",
    ),
    (
        "volume size can only grow, from {} to at most 500 GB",
        "volumes are not extended",
    ),
    (
        "volume {} is currently attached to machine {machine}",
        "a machine goes before its volume",
    ),
    (
        "invalid_argument: invalid secret name '{name}'",
        "the check SecretsResolvable",
    ),
    (
        "secrets version {wanted} is not available yet, newest is {visible}",
        "it is waited for",
    ),
    (
        "Validation failed: Hostname '{text}' is invalid",
        "the pattern of the CRD, and the check HostnamesUsable",
    ),
    (
        "Validation failed: Hostname already exists on app",
        "who holds a hostname is known to Fly.io alone",
    ),
    (
        "invalid_argument: a signal is a name or a number, not {other}",
        "a signal is sent as text",
    ),
    (
        "invalid_argument: limit must be inside range [1, 500]",
        "it is no rule for what a person writes",
    ),
    (
        "Validation failed: {name} is not PEM",
        "own certificates are not sent",
    ),
];

/// Every sentence with which a file of the simulator refuses a call.
fn sentences(file: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fly-sim/src")
        .join(file);
    let source = std::fs::read_to_string(path).unwrap();
    let source = source.split("#[cfg(test)]").next().unwrap();
    let refusal = r#"(?s)(?:\binvalid|FlyError::(?:bad_request|unprocessable|precondition))\(\s*(?:format!\(\s*)?"((?:[^"\\]|\\.)*)""#;
    Regex::new(refusal)
        .unwrap()
        .captures_iter(source)
        .map(|found| {
            let lines = found[1].split("\\\n").map(str::trim_start);
            lines.collect::<Vec<_>>().concat()
        })
        // The words that the others have in front.
        .filter(|says| says != "invalid_argument: {message}")
        .collect()
}

fn assert_refused(toml: &str, place: &str) {
    let told: Vec<String> = match parse(toml) {
        Ok(_) => Vec::new(),
        Err(invalid) => invalid.problems.iter().map(Problem::to_string).collect(),
    };
    let place = format!("{place}: ");
    assert!(
        told.iter().any(|told| told.starts_with(&place)),
        "{toml}\n{told:?}"
    );
}

#[test]
fn what_fly_refuses_of_a_machine_is_an_error_of_the_file_with_its_line() {
    let words = Regex::new(r"\{[^}]*\}").unwrap();
    for rule in machine_rules().into_iter().chain(service_rules()) {
        let mut machine = rule.machine.clone();
        machine["image"] = json!("registry.fly.io/app:1");
        let refusal = read(&machine).expect_err(rule.says).message;
        for part in words.split(rule.says) {
            assert!(refusal.contains(part), "{}: {refusal}", rule.says);
        }
        assert_refused(rule.toml, rule.place);
    }
    for (_, toml, place) in VOLUMES {
        assert_refused(toml, place);
    }
}

#[test]
fn every_rule_of_the_simulator_is_in_the_table() {
    let told: Vec<&str> = machine_rules()
        .iter()
        .chain(&service_rules())
        .map(|rule| rule.says)
        .chain(VOLUMES.iter().map(|(says, ..)| *says))
        .chain(ELSEWHERE.iter().map(|(says, _)| *says))
        .collect();
    let mut missing = Vec::new();
    let mut count = 0;
    for file in [
        "machine/config.rs",
        "machine/signal.rs",
        "volumes.rs",
        "platform/secrets.rs",
        "platform/certificates.rs",
    ] {
        let sentences = sentences(file);
        count += sentences.len();
        missing.extend(
            sentences
                .into_iter()
                .filter(|says| !told.contains(&says.as_str())),
        );
    }
    assert!(count > 40, "only {count} rules were found");
    assert!(missing.is_empty(), "in no row: {missing:#?}");
}

#[test]
fn what_fly_refused_of_flyctl_is_refused_beforehand() {
    let cases = refused();
    assert!(cases.len() >= 4, "only {} cases", cases.len());
    for case in cases {
        assert!(case.run.refused.is_some(), "{}", case.name);
        assert!(parse(&case.toml).is_err(), "{}", case.name);
    }
}
