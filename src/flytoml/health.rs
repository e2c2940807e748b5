//! The health checks of a `fly.toml`.

use std::time::Duration;

use super::config::{AppConfig, HttpCheck, TcpCheck};

/// One declared check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Path of its declaration: `http_service.checks[0]`, `services[1].tcp_checks[0]`,
    /// `checks.alive`.
    pub key: String,
    /// Path of an HTTP check, by default `/`; `None` for TCP.
    pub path: Option<String>,
    /// Whether the proxy sends no requests to a machine that fails it.
    pub routes: bool,
    /// Time after the start before its first run.
    pub grace_period: Option<Duration>,
}

impl AppConfig {
    /// All checks of a process group.
    pub fn health_checks(&self, group: &str) -> Vec<HealthCheck> {
        let mut found = Vec::new();
        if let Some(service) = &self.http_service
            && self.belongs(&service.processes, group)
        {
            for (index, check) in service.checks.iter().enumerate() {
                found.push(http(format!("http_service.checks[{index}]"), check, true));
            }
        }
        for (at, service) in self.services.iter().enumerate() {
            if !self.belongs(&service.processes, group) {
                continue;
            }
            for (index, check) in service.tcp_checks.iter().enumerate() {
                found.push(tcp(
                    format!("services[{at}].tcp_checks[{index}]"),
                    check,
                    true,
                ));
            }
            for (index, check) in service.http_checks.iter().enumerate() {
                found.push(http(
                    format!("services[{at}].http_checks[{index}]"),
                    check,
                    true,
                ));
            }
        }
        for (name, check) in &self.checks {
            if !self.belongs(&check.processes, group) {
                continue;
            }
            let key = format!("checks.{name}");
            let routes = check.kind.as_deref() == Some("readiness");
            found.push(if check.kind_of_probe.as_deref() == Some("http") {
                http(key, &check.request, routes)
            } else {
                tcp(key, &check.request.times, routes)
            });
        }
        found
    }

    /// The distinct paths of all HTTP checks, in order of the groups.
    pub fn health_paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        for group in self.process_groups() {
            for check in self.health_checks(&group) {
                if let Some(path) = check.path
                    && !paths.contains(&path)
                {
                    paths.push(path);
                }
            }
        }
        paths
    }
}

fn http(key: String, check: &HttpCheck, routes: bool) -> HealthCheck {
    HealthCheck {
        path: Some(check.path.clone().unwrap_or_else(|| "/".to_owned())),
        ..tcp(key, &check.times, routes)
    }
}

fn tcp(key: String, check: &TcpCheck, routes: bool) -> HealthCheck {
    HealthCheck {
        key,
        path: None,
        routes,
        grace_period: check.grace_period.map(|grace| grace.0),
    }
}
