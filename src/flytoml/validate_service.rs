//! Rules for services and checks. Source: flyctl `internal/appconfig/validation.go`.

use std::time::Duration;

use crate::fly::GoDuration;

use super::config::{AppConfig, HttpCheck, MachineTest, Service, TcpCheck};
use super::groups::{known_groups, required_groups, some_groups};
use super::reader::Reader;
use super::stop;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Shortest interval of a top-level check.
const MIN_TOP_LEVEL_INTERVAL: Duration = Duration::from_secs(2);

/// The handlers of the proxy. Source: fly.io/docs/networking/services/.
const HANDLERS: [&str; 4] = ["http", "tls", "pg_tls", "proxy_proto"];

pub(super) fn check(config: &AppConfig, reader: &Reader) {
    if let Some(http) = &config.http_service {
        service(config, reader, "http_service", &http.to_service());
        internal_port(reader, "http_service", http.internal_port);
        http_checks(reader, "http_service.checks", &http.checks);
        machine_tests(reader, "http_service", &http.machine_checks);
    }
    for (index, entry) in config.services.iter().enumerate() {
        let at = format!("services[{index}]");
        service(config, reader, &at, entry);
        ports(reader, &at, entry);
        for (index, check) in entry.tcp_checks.iter().enumerate() {
            times(reader, &format!("{at}.tcp_checks[{index}]"), check);
        }
        http_checks(reader, &format!("{at}.http_checks"), &entry.http_checks);
        machine_tests(reader, &at, &entry.machine_checks);
    }
    machine_tests_at(reader, "machine_checks", &config.machine_checks);
    top_level_checks(config, reader);
}

fn service(config: &AppConfig, reader: &Reader, at: &str, service: &Service) {
    if reader.has_unread("processes") {
        return;
    }
    let key = format!("{at}.processes");
    if service.processes.is_empty() && !config.processes.is_empty() {
        reader.error(
            &key,
            format!(
                "is required because there is a [processes] section: which of {} serve it?",
                some_groups(config)
            ),
        );
    }
    required_groups(config, reader, at, &service.processes);
}

fn internal_port(reader: &Reader, at: &str, port: Option<u16>) {
    if port.is_none() {
        reader.error(
            &format!("{at}.internal_port"),
            "is required: the port that the program listens on",
        );
    }
}

fn ports(reader: &Reader, at: &str, service: &Service) {
    match service.protocol.as_deref() {
        Some("tcp" | "udp") => {}
        Some(other) => reader.error(
            &format!("{at}.protocol"),
            format!("must be tcp or udp, not {other}"),
        ),
        None => reader.error(&format!("{at}.protocol"), "is required: tcp or udp"),
    }
    internal_port(reader, at, service.internal_port);
    if service.ports.is_empty() && !reader.is_unread(&format!("{at}.ports")) {
        reader.warn(
            at,
            "has no ports, so nothing can reach it; add [[services.ports]]",
        );
    }
    for (index, port) in service.ports.iter().enumerate() {
        let at = format!("{at}.ports[{index}]");
        let lacks = |name: &str, port: Option<u16>| {
            port.is_none() && !reader.is_unread(&format!("{at}.{name}"))
        };
        if lacks("port", port.port)
            && (lacks("start_port", port.start_port) || lacks("end_port", port.end_port))
        {
            reader.error(&at, "needs port, or start_port and end_port");
        }
        if let (Some(start), Some(end)) = (port.start_port, port.end_port)
            && start > end
        {
            reader.error(
                &format!("{at}.end_port"),
                format!("must not be less than start_port, which is {start}"),
            );
        }
        for handler in &port.handlers {
            if !HANDLERS.contains(&handler.as_str()) {
                reader.error(
                    &format!("{at}.handlers"),
                    format!(
                        "there is no handler {handler}; there are {}",
                        HANDLERS.join(", ")
                    ),
                );
            }
        }
        if port.force_https == Some(true) && port.port != Some(80) {
            reader.warn(
                &format!("{at}.force_https"),
                "is meant for port 80, where plain HTTP comes in",
            );
        }
    }
}

fn http_checks(reader: &Reader, at: &str, checks: &[HttpCheck]) {
    for (index, check) in checks.iter().enumerate() {
        let at = format!("{at}[{index}]");
        times(reader, &at, &check.times);
        request(reader, &at, check);
    }
}

/// What is wrong with the path of a request. A fragment is never part of one (RFC 9110, section 7.1), and
/// a blank would end it (RFC 9112, section 3).
pub(super) fn wrong_path(path: &str) -> Option<String> {
    if !path.starts_with('/') {
        return Some(format!("must begin with a slash: /{path}"));
    }
    if let Some((before, _)) = path.split_once('#') {
        return Some(format!(
            "must have no `#`, because what follows it is never sent: {before}, or %23 for the character itself"
        ));
    }
    let blank = path.contains(|c: char| c.is_whitespace() || c.is_control());
    blank.then(|| "must have no blanks: %20 stands for one".to_owned())
}

fn request(reader: &Reader, at: &str, check: &HttpCheck) {
    if let Some(wrong) = check.path.as_deref().and_then(wrong_path) {
        reader.error(&format!("{at}.path"), wrong);
    }
    if let Some(protocol) = check.protocol.as_deref()
        && !["http", "https"].contains(&protocol)
    {
        reader.error(
            &format!("{at}.protocol"),
            format!("must be http or https, not {protocol}"),
        );
    }
}

/// Times of a service's check, which Fly.io limits to its bounds.
fn times(reader: &Reader, at: &str, check: &TcpCheck) {
    let bounds = |name: &str, time: Option<GoDuration>, zero_allowed: bool| {
        let Some(time) = time else {
            return;
        };
        let key = format!("{at}.{name}");
        if time.0 < SECOND && !(zero_allowed && time.0.is_zero()) {
            reader.warn(&key, format!("{time} is less than 1s and raised to 1s"));
        } else if time.0 > MINUTE {
            reader.warn(&key, format!("{time} is more than 1m and lowered to 1m"));
        }
    };
    bounds("interval", check.interval, false);
    bounds("timeout", check.timeout, false);
    bounds("grace_period", check.grace_period, true);
}

fn machine_tests(reader: &Reader, at: &str, tests: &[MachineTest]) {
    machine_tests_at(reader, &format!("{at}.machine_checks"), tests);
}

fn machine_tests_at(reader: &Reader, at: &str, tests: &[MachineTest]) {
    for (index, test) in tests.iter().enumerate() {
        let at = format!("{at}[{index}]");
        // The path is not the same when one of its words is not a string.
        if test.command.is_empty() && !reader.has_unread(&format!("{at}.command")) {
            reader.error(
                &format!("{at}.command"),
                "is required: the words of the command that tests the machine",
            );
        }
        stop::check(
            reader,
            (&format!("{at}.kill_signal"), test.kill_signal.as_deref()),
            (&format!("{at}.kill_timeout"), test.kill_timeout),
        );
    }
}

fn top_level_checks(config: &AppConfig, reader: &Reader) {
    for (name, check) in &config.checks {
        let at = format!("checks.{name}");
        match check.kind_of_probe.as_deref() {
            Some("http" | "tcp") => {}
            Some(other) => reader.error(
                &format!("{at}.type"),
                format!("must be http or tcp, not {other}"),
            ),
            None => reader.error(&format!("{at}.type"), "is required: http or tcp"),
        }
        if let Some(kind) = check.kind.as_deref()
            && !["informational", "readiness"].contains(&kind)
        {
            reader.error(
                &format!("{at}.kind"),
                format!("must be informational or readiness, not {kind}"),
            );
        }
        let times = &check.request.times;
        if let Some(interval) = times.interval
            && interval.0 < MIN_TOP_LEVEL_INTERVAL
        {
            reader.error(
                &format!("{at}.interval"),
                format!("must be at least 2s, not {interval}"),
            );
        }
        if let Some(timeout) = times.timeout
            && timeout.0 > MINUTE
        {
            reader.error(
                &format!("{at}.timeout"),
                format!("must be at most 1m, not {timeout}"),
            );
        }
        request(reader, &at, &check.request);
        known_groups(config, reader, &at, &check.processes);
        if check.port.is_none() && lacks_port(config, reader, &check.processes) {
            reader.error(
                &format!("{at}.port"),
                "is required: a process group of this check has no http_service to take it from",
            );
        }
    }
}

/// Whether a group with the check has no `[http_service]`.
fn lacks_port(config: &AppConfig, reader: &Reader, processes: &[String]) -> bool {
    if reader.is_unread("http_service") || reader.has_unread("processes") {
        return false;
    }
    config.process_groups().iter().any(|group| {
        config.belongs(processes, group)
            && !config
                .http_service
                .as_ref()
                .is_some_and(|http| config.belongs(&http.processes, group))
    })
}
