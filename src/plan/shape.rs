//! What of an application can be reached from outside, by its fly.toml and the spec. Pure.

use std::collections::BTreeMap;

use crate::{
    api::{ActivationSpec, deploy::Deploy, provision::Addresses},
    fly::machine_config::MachinePort,
    flytoml::{AppConfig, Service},
};

/// The most ports of one range, and of one application, that are connected to.
const MAX_PORTS: usize = 8;

/// A TCP port at the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EdgePort {
    /// The public port.
    pub port: u16,
    /// Whether the edge ends TLS there (the handler `tls`).
    pub tls: bool,
    /// Whether the edge speaks HTTP there (the handler `http`): it accepts a connection whatever runs
    /// behind it.
    pub http: bool,
}

/// What of an application can be reached from outside, counting only process groups with machines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// The process groups with at least one machine.
    pub groups: Vec<String>,
    /// Whether a service serves HTTPS on port 443.
    pub https: bool,
    /// Whether a service serves gRPC on port 443.
    pub grpc: bool,
    /// Paths of the HTTP checks of those services, in order, without repetitions.
    pub health_paths: Vec<String>,
    /// Other TCP ports.
    pub tcp: Vec<EdgePort>,
    /// TCP ports that need an address of the app's own, which the spec does not ask for.
    pub closed: Vec<u16>,
    /// UDP ports: nothing can be proven of them from outside without knowing the protocol.
    pub udp: Vec<u16>,
    /// Process groups without anything in `https`, `grpc` and `tcp`.
    pub unreachable: Vec<String>,
    /// Whether the spec asks for a public address.
    pub public: bool,
}

impl Shape {
    /// The shape of the application of this spec.
    pub fn of(spec: &ActivationSpec, config: &AppConfig) -> Self {
        let addresses = &spec.provision.addresses;
        let mut shape = Self {
            public: addresses.v4 || addresses.v6 || addresses.shared_v4,
            ..Self::default()
        };
        for group in config.process_groups() {
            if machines_of(config, &spec.deploy, &group) == 0 {
                continue;
            }
            let before = (shape.https, shape.tcp.len());
            let mut reached = false;
            for service in config.services_of(&group) {
                reached |= shape.add(&service, addresses);
            }
            reached |= before != (shape.https, shape.tcp.len());
            if !reached {
                shape.unreachable.push(group.clone());
            }
            shape.groups.push(group);
        }
        if shape.https || shape.grpc || shape.tcp.iter().any(|port| port.port == 443) {
            // Plain HTTP on 80 redirects there, or answers alike.
            shape.tcp.retain(|port| port.port != 80);
        }
        shape.tcp.sort_unstable();
        shape.tcp.dedup();
        shape.tcp.truncate(MAX_PORTS);
        shape
    }

    /// Adds a service. True when it can be reached over TCP.
    fn add(&mut self, service: &Service, addresses: &Addresses) -> bool {
        if service.internal_port.is_none() {
            return false;
        }
        let numbers = service.ports.iter().flat_map(numbers_of);
        if service.protocol.as_deref() == Some("udp") {
            self.udp.extend(numbers);
            return false;
        }
        if !self.public {
            return false;
        }
        let mut reached = false;
        for port in &service.ports {
            let tls = handles(port, "tls");
            let http = handles(port, "http");
            for number in numbers_of(port) {
                let h2 = port.http_options.as_ref();
                let grpc = h2.is_some_and(|options| options.h2_backend == Some(true));
                if number == 443 && tls && http && grpc {
                    self.grpc = true;
                } else if number == 443 && tls && http {
                    self.https = true;
                    self.add_paths(service);
                } else if has_address(number, tls, http, addresses) {
                    self.tcp.push(EdgePort {
                        port: number,
                        tls,
                        http,
                    });
                } else {
                    self.closed.push(number);
                    continue;
                }
                reached = true;
            }
        }
        reached
    }

    fn add_paths(&mut self, service: &Service) {
        for check in &service.http_checks {
            let path = check.path.clone().unwrap_or_else(|| "/".to_owned());
            let asks = check.method.as_deref().unwrap_or("GET");
            let safe = asks.eq_ignore_ascii_case("GET") || asks.eq_ignore_ascii_case("HEAD");
            if safe && !self.health_paths.contains(&path) {
                self.health_paths.push(path);
            }
        }
    }
}

/// How many machines of a group should run: `regions`, else `scale`, else as many as a first
/// deployment creates.
fn machines_of(config: &AppConfig, deploy: &Deploy, group: &str) -> u32 {
    let regions: Option<&BTreeMap<String, u32>> = deploy.regions.get(group);
    match (regions, deploy.scale.get(group)) {
        (Some(regions), _) => regions.values().sum(),
        (None, Some(count)) => *count,
        (None, None) => config.first_machines(group, true).running,
    }
}

/// Whether an address that the spec asks for carries this port. A shared IPv4 address carries HTTP on
/// 80 and TLS on 443 (fly.io/docs/networking/services, "Shared IPv4").
fn has_address(number: u16, tls: bool, http: bool, addresses: &Addresses) -> bool {
    let shared = (number == 80 && http && !tls) || (number == 443 && tls);
    addresses.v4 || addresses.v6 || (addresses.shared_v4 && shared)
}

fn handles(port: &MachinePort, handler: &str) -> bool {
    port.handlers.iter().any(|name| name == handler)
}

/// The port, or the first ones of a range.
fn numbers_of(port: &MachinePort) -> Vec<u16> {
    match (port.port, port.start_port, port.end_port) {
        (Some(number), _, _) => vec![number],
        (None, None, None) => Vec::new(),
        (None, start, end) => {
            let (start, end) = (start.unwrap_or(1), end.unwrap_or(u16::MAX));
            (start..=end).take(1).collect()
        }
    }
}

/// Whether the edge ends TLS on this port of the application.
pub fn ends_tls(config: &AppConfig, number: u16) -> bool {
    let services = config.all_services();
    let mut ports = services.iter().flat_map(|service| &service.ports);
    ports.any(|port| {
        let within = match (port.port, port.start_port, port.end_port) {
            (Some(one), _, _) => one == number,
            (None, None, None) => false,
            (None, start, end) => (start.unwrap_or(1)..=end.unwrap_or(u16::MAX)).contains(&number),
        };
        within && handles(port, "tls")
    })
}
