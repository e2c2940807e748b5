#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use serde_json::json;

use super::*;
use crate::flytoml;

/// Machines of every golden case that is valid, with the name of the case.
fn golden() -> Vec<(String, MachineConfig)> {
    let testdata = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/flytoml/testdata");
    let entries = std::fs::read_dir(testdata).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let context = flytoml::Context {
        image: "registry.fly.io/app@sha256:1",
        ..flytoml::Context::default()
    };
    let mut machines = Vec::new();
    for path in paths.filter(|path| path.extension().is_some_and(|end| end == "toml")) {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if let Ok(parsed) = flytoml::parse(&std::fs::read_to_string(&path).unwrap()) {
            let groups = parsed.config.machine_configs(&context).unwrap();
            machines.extend(groups.into_values().map(|machine| (name.clone(), machine)));
        }
    }
    assert!(machines.len() > 40, "{}", machines.len());
    machines
}

/// The machine of the case that uses every section.
fn everything() -> MachineConfig {
    let mut golden = golden().into_iter();
    let of = golden.find(|(name, machine)| name == "everything" && !machine.services.is_empty());
    of.unwrap().1
}

fn same(wanted: &MachineConfig, actual: &MachineConfig) -> bool {
    differences(wanted, actual).is_empty()
}

fn read(value: Value) -> MachineConfig {
    serde_json::from_value(value).unwrap()
}

/// The same configuration in another spelling that Fly.io may choose.
fn respelt(key: &str, value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Map<String, Value> = fields
                .iter()
                .map(|(name, value)| {
                    let inside = if key == "env" { "env" } else { name };
                    (name.clone(), respelt(inside, value))
                })
                // What is empty is left out.
                .filter(|(_, value)| {
                    key == "env"
                        || ![json!(false), json!("0"), json!(""), json!([]), json!({})]
                            .contains(value)
                })
                .collect();
            if !["env", "metadata", "checks", "headers"].contains(&key) {
                fields.insert("added_by_the_platform".to_owned(), json!({"at": 1}));
            }
            Value::Object(fields)
        }
        Value::Array(list) if ["cmd", "entrypoint", "exec"].contains(&key) => json!(list),
        Value::Array(list) => list.iter().rev().map(|value| respelt(key, value)).collect(),
        Value::Number(number) => json!(number.to_string()),
        Value::String(text) => match key {
            "interval" | "timeout" | "grace_period" => match GoDuration::parse(text) {
                Some(time) => json!(format!("{}ns", time.0.as_nanos())),
                None => json!(text),
            },
            "method" | "protocol" | "type" | "cpu_kind" => json!(text.to_uppercase()),
            _ => json!(text),
        },
        other => other.clone(),
    }
}

#[test]
fn every_machine_is_the_same_as_itself_and_as_its_own_update() {
    for (name, machine) in golden() {
        assert!(same(&machine, &machine), "{name}");
        let mut standby = machine.clone();
        standby.standbys = vec!["m1".to_owned()];
        standby
            .env
            .insert("FLY_STANDBY_FOR".to_owned(), "m1".to_owned());
        assert!(same(&machine, &standby), "{name}");
    }
}

#[test]
fn what_the_platform_spells_in_another_way_leaves_out_or_adds_is_no_difference() {
    for (name, machine) in golden() {
        let sent = serde_json::to_value(&machine).unwrap();
        let back = respelt("", &sent);
        assert!(
            same(&machine, &read(back.clone())),
            "{name}: {sent:#}\n{back:#}"
        );
    }
    let wanted = everything();
    for (path, value) in [
        ("/services/0/checks/0/interval", json!(15_000_000_000_u64)),
        ("/services/0/checks/0/interval", json!("a while")),
        ("/services/0/autostop", json!("stop")),
        ("/services/0/autostop", json!("hibernate")),
        ("/services/0/autostart", json!("true")),
        ("/services/0/concurrency", Value::Null),
        ("/stop_config", Value::Null),
        ("/guest", Value::Null),
        ("/mounts/0/size_gb", json!(5)),
        ("/files/0/raw_value", Value::Null),
        ("/init/tty", json!(true)),
    ] {
        let mut back = serde_json::to_value(&wanted).unwrap();
        *back.pointer_mut(path).unwrap_or(&mut Value::Null) = value.clone();
        assert!(same(&wanted, &read(back)), "{path}: {value}");
    }
}

#[test]
fn what_somebody_has_changed_by_hand_is_a_difference_whatever_section_it_is_in() {
    let wanted = everything();
    for (path, value) in [
        ("/env/LOG", json!("debug")),
        ("/env/LOG", Value::Null),
        ("/init/cmd", json!(["sleep", "600"])),
        ("/init/entrypoint", json!(["/bin/sh"])),
        ("/init/swap_size_mb", json!(64)),
        ("/guest/cpus", json!(8)),
        ("/guest/cpu_kind", json!("performance")),
        ("/guest/memory_mb", json!(4096)),
        ("/services", json!([])),
        ("/services/0/internal_port", json!(1)),
        ("/services/0/autostop", json!(false)),
        ("/services/0/autostop", Value::Null),
        ("/services/0/autostart", json!(false)),
        ("/services/0/min_machines_running", json!(0)),
        ("/services/0/concurrency/type", json!("connections")),
        ("/services/0/concurrency/soft_limit", json!(1)),
        ("/services/0/concurrency/hard_limit", json!(1)),
        ("/services/0/ports/0/port", json!(81)),
        ("/services/0/ports/0/force_https", json!(false)),
        ("/services/0/ports/1/handlers", json!(["http"])),
        ("/services/0/ports/1/tls_options/alpn", json!(["h2"])),
        ("/services/0/ports/1/http_options/idle_timeout", json!(1)),
        (
            "/services/0/ports/1/http_options/response/headers/X-Frame-Options",
            json!("no"),
        ),
        ("/services/0/checks", json!([])),
        ("/services/0/checks/0/path", json!("/other")),
        ("/services/0/checks/0/interval", json!("1h0m0s")),
        ("/services/0/checks/0/timeout", json!("1ms")),
        ("/services/0/checks/0/grace_period", json!("10m0s")),
        ("/services/0/checks/0/method", json!("post")),
        ("/services/0/checks/0/headers/0/values", json!(["other"])),
        ("/checks/alive/port", json!(1)),
        ("/checks/alive/type", json!("http")),
        ("/checks", json!({})),
        ("/metrics/port", json!(1)),
        ("/metrics/path", json!("/other")),
        ("/metrics", Value::Null),
        ("/statics/0/guest_path", json!("/other")),
        ("/statics", json!([])),
        ("/files/0/raw_value", json!("b3RoZXI=")),
        ("/files", json!([])),
        ("/mounts/0/path", json!("/other")),
        ("/mounts/0/extend_threshold_percent", json!(99)),
        ("/restart/policy", json!("no")),
        ("/restart", Value::Null),
        ("/restart/max_retries", json!(1)),
        ("/stop_config/timeout", json!("1s")),
        ("/stop_config/signal", json!("SIGKILL")),
    ] {
        let mut back = serde_json::to_value(&wanted).unwrap();
        let (section, field) = path.rsplit_once('/').unwrap();
        let section = back.pointer_mut(section);
        section.unwrap_or_else(|| panic!("the case has no {path}"))[field] = value.clone();
        assert!(!same(&wanted, &read(back)), "{path}: {value}");
    }
    let mut canary = wanted.clone();
    canary.dns = serde_json::from_value(json!({"skip_registration": true})).unwrap();
    assert!(!same(&canary, &wanted), "dns");
    let mut more = wanted.clone();
    more.services.push(wanted.services[0].clone());
    assert!(!same(&wanted, &more), "a service more");
}

/// What is told of a machine that was changed in this way.
fn told(change: impl Fn(&mut MachineConfig)) -> Vec<String> {
    let wanted = everything();
    let mut now = wanted.clone();
    change(&mut now);
    let found = differences(&wanted, &now);
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn each_change_is_told_by_field_with_the_old_and_the_new_value() {
    let guest = told(|now| now.guest.as_mut().unwrap().memory_mb = Some(4096));
    let before = everything().guest.unwrap().memory_mb.unwrap();
    assert_eq!(
        guest,
        [format!("guest.memory_mb is 4096 instead of {before}")]
    );
    let service = told(|now| now.services[0].autostart = Some(false));
    assert_eq!(service, ["services[0].autostart is false instead of true"]);
    let port = told(|now| now.services.push(now.services[0].clone()));
    assert!(port[0].starts_with("services is "), "{port:?}");
    let check = told(|now| drop(now.checks.remove("alive")));
    assert_eq!(check, ["checks was removed"]);
}

#[test]
fn what_may_be_secret_is_told_by_its_name_alone() {
    let lines = told(|now| {
        now.env.insert("LOG".to_owned(), "canary".to_owned());
        now.env.insert("ADDED".to_owned(), "canary".to_owned());
        now.init.as_mut().unwrap().cmd = vec!["--password=canary".to_owned()];
        now.services[0].checks[0].path = Some("/?key=canary".to_owned());
        now.services[0].checks[0].headers[0].values = vec!["canary".to_owned()];
        now.files[0].raw_value = Some("Y2FuYXJ5".to_owned());
    });
    for line in [
        "env LOG was changed",
        "env ADDED was added",
        "init.cmd was changed",
        "services[0].checks[0].path was changed",
    ] {
        assert!(lines.iter().any(|told| told == line), "{line}: {lines:?}");
    }
    let all = lines.join("; ");
    assert!(!all.contains("canary") && !all.contains("Y2Fu"), "{all}");
}

#[test]
fn what_nobody_asked_for_is_found_where_the_default_is_known() {
    let wanted = MachineConfig {
        image: "r/a@sha256:1".to_owned(),
        ..MachineConfig::default()
    };
    let line = |json: Value| {
        let mut value = serde_json::to_value(&wanted).unwrap();
        let fields = value.as_object_mut().unwrap();
        fields.extend(json.as_object().unwrap().clone());
        let found = differences(&wanted, &read(value));
        let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
        lines.join("; ")
    };
    assert_eq!(
        line(json!({"restart": {"policy": "always"}})),
        "restart.policy is always instead of on-failure"
    );
    assert_eq!(line(json!({"env": {"X": "1"}})), "env X was added");
    assert_eq!(line(json!({"metrics": {"port": 1}})), "metrics was added");
    assert_eq!(
        line(json!({"checks": {"up": {"type": "tcp"}}})),
        "checks was added"
    );
    let command = line(json!({"init": {"cmd": ["sleep"]}}));
    assert_eq!(command, "init.cmd was changed");
    for by_the_platform in [
        json!({"restart": {"policy": "on-failure", "max_retries": 10}}),
        json!({"restart": {}}),
        json!({"env": {"FLY_X": "1"}}),
        json!({"guest": {"cpu_kind": "shared", "cpus": 1, "memory_mb": 256}}),
        json!({"init": {}, "checks": {}, "unheard_of": {"a": 1}}),
    ] {
        assert_eq!(line(by_the_platform.clone()), "", "{by_the_platform}");
    }
}
