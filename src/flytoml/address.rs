//! Which addresses an app needs. Source: flyctl `internal/appconfig/config.go`, `DetermineIPType`.

use crate::fly::machine_config::MachinePort;

use super::config::AppConfig;

/// The kind of address that a first deployment allocates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpKind {
    /// A shared IPv4 and an IPv6 address: HTTP on 80 and TLS on 443 only.
    Shared,
    /// A dedicated IPv4 address: other ports, other handlers, or UDP.
    Dedicated,
}

impl AppConfig {
    /// The addresses that the services need; `None` without services.
    ///
    /// A private app (Flycast) needs neither, which `fly.toml` does not say.
    pub fn ip_kind(&self) -> Option<IpKind> {
        if self.http_service.is_none() && self.services.is_empty() {
            return None;
        }
        let dedicated = self
            .services
            .iter()
            .any(|service| match service.protocol.as_deref() {
                Some("udp") => true,
                Some("tcp") => service.ports.iter().any(needs_dedicated),
                _ => false,
            });
        Some(if dedicated {
            IpKind::Dedicated
        } else {
            IpKind::Shared
        })
    }

    /// Whether a service uses UDP, which needs a dedicated IPv4 address.
    pub fn has_udp_service(&self) -> bool {
        let mut protocols = self.services.iter().map(|s| s.protocol.as_deref());
        protocols.any(|protocol| protocol == Some("udp"))
    }

    /// The URL of the app, as flyctl opens it in a browser.
    pub fn url(&self, app: &str) -> Option<String> {
        let has_port = |service: &super::config::HttpService| service.internal_port.is_some();
        if self.http_service.as_ref().is_some_and(has_port) {
            return Some(format!("https://{app}.fly.dev/"));
        }
        let mut http = Vec::new();
        let mut https = Vec::new();
        for port in self.services.iter().flat_map(|service| &service.ports) {
            let handles = |name: &str| port.handlers.iter().any(|handler| handler == name);
            match port.port {
                Some(number) if handles("http") && handles("tls") => https.push(number),
                Some(number) if handles("http") => http.push(number),
                _ => {}
            }
        }
        if https.contains(&443) {
            return Some(format!("https://{app}.fly.dev/"));
        }
        if http.contains(&80) {
            return Some(format!("http://{app}.fly.dev/"));
        }
        if let Some(port) = https.iter().min() {
            return Some(format!("https://{app}.fly.dev:{port}/"));
        }
        let port = http.iter().min()?;
        Some(format!("http://{app}.fly.dev:{port}/"))
    }
}

fn needs_dedicated(port: &MachinePort) -> bool {
    let range = match (port.start_port, port.end_port) {
        (None, None) => None,
        (start, end) => Some(start.unwrap_or(0)..=end.unwrap_or(u16::MAX)),
    };
    let is = |number| {
        port.port == Some(number) || range.as_ref().is_some_and(|range| range.contains(&number))
    };
    let other_ports = port
        .port
        .is_some_and(|number| number != 80 && number != 443)
        || range
            .as_ref()
            .is_some_and(|range| range.clone().any(|number| number != 80 && number != 443));
    let handlers: Vec<&str> = port.handlers.iter().map(String::as_str).collect();
    other_ports
        || (is(80) && handlers != ["http"])
        || (is(443) && handlers != ["http", "tls"] && handlers != ["tls", "http"])
}
