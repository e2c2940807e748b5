//! How the application is proven to be live: the smoke checks, with all defaults, and what the
//! machines must show where no check from outside can. Pure.

use crate::api::Activation;
use crate::api::smoke_test::{Check, Fallback, HttpCheck, TcpCheck};
use crate::flytoml::AppConfig;

use super::{
    fly_config::FlyConfig,
    invalid::ConfigInvalid,
    shape::{self, Shape},
};

/// Most paths of the fly.toml's own checks that are requested by default.
const MAX_PATHS: usize = 4;

/// How the application is proven to be live.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Proof {
    /// The checks: those of the spec, or the default ones.
    pub checks: Vec<SmokeCheck>,
    /// What the machines must show.
    pub machines: Option<MachineProof>,
    /// How often a live application is proven from the edge again, if the spec sets it.
    pub interval: Option<std::time::Duration>,
    /// Whether Fly.io's proxy starts machines of the application when a request comes.
    pub starts_on_demand: bool,
    /// Whether the spec asks for a machine at all.
    pub runs: bool,
}

/// One smoke check.
#[derive(Clone, Debug, PartialEq)]
pub struct SmokeCheck {
    /// The check.
    pub check: Check,
    /// What counts as a success.
    pub expects: Expects,
    /// Whether the port of a TCP check ends TLS at the edge.
    pub tls: bool,
}

/// What counts as a success of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expects {
    /// What the check of the spec says.
    Declared,
    /// Any sign that the application answers: nobody has said what it should answer.
    AnAnswer,
    /// The same of a port other than 443 on which the edge speaks HTTP: the answer to a request there.
    HttpAnswer,
    /// The same of a gRPC server, which answers no request of HTTP/1.
    GrpcAnswer,
}

/// What the machines must show: those of these process groups run steadily, with their checks
/// passing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineProof {
    /// The process groups; none when no machine is asked for.
    pub groups: Vec<String>,
    /// Why the machines are the proof, for people.
    pub why: String,
}

impl SmokeCheck {
    /// A check of the spec.
    pub fn declared(check: Check, tls: bool) -> Self {
        Self {
            check,
            expects: Expects::Declared,
            tls,
        }
    }
}

/// The proof of an activation.
pub(super) fn effective(
    activation: &Activation,
    config: Result<&FlyConfig, &ConfigInvalid>,
) -> Proof {
    let spec = &activation.spec;
    let interval = spec.smoke_test.interval.as_ref();
    let interval = interval.map(|interval| interval.get());
    // Preflight stops an activation with an invalid fly.toml.
    let Ok(FlyConfig { app, .. }) = config else {
        return Proof::default();
    };
    let shape = Shape::of(spec, app);
    let mut proof = match &spec.smoke_test.checks {
        None => defaults(&shape),
        Some(checks) => declared(checks, app, &shape, spec.provision.postgres.is_some()),
    };
    proof.interval = interval;
    proof.runs = !shape.groups.is_empty();
    proof.starts_on_demand = app
        .all_services()
        .iter()
        .any(|service| service.auto_start_machines == Some(true));
    proof
}

/// The checks of the spec. Without any that can prove something, the machines are the proof.
fn declared(checks: &[Check], app: &AppConfig, shape: &Shape, has_database: bool) -> Proof {
    let fallbacks = database_fallbacks(checks);
    let effective = checks.iter().cloned().map(|mut check| {
        if check.database.is_some() && check.fallbacks.is_none() {
            check.fallbacks = Some(fallbacks.clone());
        }
        let tcp = check.tcp.as_ref();
        let tls = tcp.is_some_and(|tcp| shape::ends_tls(app, tcp.port));
        SmokeCheck::declared(check, tls)
    });
    let proves = |check: &Check| check.database.is_none() || has_database;
    let why = "the spec asks for no other proof";
    Proof {
        checks: effective.collect(),
        machines: (!checks.iter().any(proves)).then(|| MachineProof {
            groups: shape.groups.clone(),
            why: if shape.groups.is_empty() {
                NO_MACHINE.to_owned()
            } else {
                why.to_owned()
            },
        }),
        ..Proof::default()
    }
}

/// What is said of an application without machines.
const NO_MACHINE: &str =
    "the spec asks for no machine (`deploy.scale`), so nothing runs and nothing can be proven";

/// The default checks of an application of this shape.
fn defaults(shape: &Shape) -> Proof {
    let mut checks = Vec::new();
    let default = |check: Check, tls: bool| SmokeCheck {
        check,
        expects: Expects::AnAnswer,
        tls,
    };
    if shape.https {
        let paths = shape.health_paths.iter().filter(|path| *path != "/");
        for (index, path) in paths.take(MAX_PATHS).enumerate() {
            let name = match index {
                0 => "health".to_owned(),
                _ => format!("health-{}", index + 1),
            };
            checks.push(default(http(&name, path), true));
        }
        checks.push(default(http("homepage", "/"), true));
    }
    if shape.grpc {
        let check = Check {
            tcp: Some(TcpCheck { port: 443 }),
            ..Check::named("grpc")
        };
        checks.push(SmokeCheck {
            check,
            expects: Expects::GrpcAnswer,
            tls: true,
        });
    }
    for port in &shape.tcp {
        let check = Check {
            tcp: Some(TcpCheck { port: port.port }),
            ..Check::named(&format!("port-{}", port.port))
        };
        checks.push(SmokeCheck {
            check,
            expects: match port.http {
                true => Expects::HttpAnswer,
                false => Expects::AnAnswer,
            },
            tls: port.tls,
        });
    }
    let whole = checks.is_empty()
        || shape
            .tcp
            .iter()
            .any(|port| !carried_by_every_address(*port));
    let told = !shape.udp.is_empty() || !shape.closed.is_empty();
    let groups = match (whole, told) {
        (true, _) => shape.groups.clone(),
        (false, true) => shape.unreachable.clone(),
        // Deploy has seen a group without services to be healthy, and the others are asked.
        (false, false) => Vec::new(),
    };
    let machines = (!groups.is_empty() || checks.is_empty()).then(|| MachineProof {
        groups,
        why: why_machines(shape),
    });
    Proof {
        checks,
        machines,
        ..Proof::default()
    }
}

/// Whether a port can be reached over IPv4 whatever address the app has: other ones may need IPv6,
/// which this cluster may not have.
fn carried_by_every_address(port: shape::EdgePort) -> bool {
    port.port == 80 || (port.port == 443 && port.tls)
}

fn http(name: &str, path: &str) -> Check {
    Check {
        http: Some(HttpCheck::get(path)),
        ..Check::named(name)
    }
}

/// Why the machines are the proof, or a part of it.
fn why_machines(shape: &Shape) -> String {
    if shape.groups.is_empty() {
        return NO_MACHINE.to_owned();
    }
    let list = |ports: &[u16]| {
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        ports.join(", ")
    };
    if !shape.public {
        "the spec asks for no public address, so the application can be reached privately alone"
            .to_owned()
    } else if !shape.udp.is_empty() {
        format!(
            "UDP (port {}) cannot be proven from outside",
            list(&shape.udp)
        )
    } else if !shape.closed.is_empty() {
        format!(
            "port {} needs an IPv4 or IPv6 address of the app's own (`provision.addresses`)",
            list(&shape.closed)
        )
    } else if shape.tcp.is_empty() {
        "the fly.toml has no service that can be reached from outside".to_owned()
    } else if shape.tcp.iter().all(|port| port.http) {
        "a port other than 80 and 443 may need IPv6, which not every network has".to_owned()
    } else {
        "a connection alone does not show what answers".to_owned()
    }
}

/// The indirect proof of the database: the requests of the checks `ready` (else `health`) and
/// `metrics`, as far as the spec has them.
fn database_fallbacks(checks: &[Check]) -> Vec<Fallback> {
    let named = |name: &str| checks.iter().find(|check| check.name == name);
    let health = named("ready")
        .filter(|check| check.http.is_some())
        .or(named("health"))
        .and_then(|check| check.http.clone());
    let metrics = named("metrics").and_then(|check| check.metrics.clone());
    let health = health.map(|http| Fallback {
        http: Some(http),
        metrics: None,
        tcp: None,
    });
    let metrics = metrics.map(|metrics| Fallback {
        http: None,
        metrics: Some(metrics),
        tcp: None,
    });
    health.into_iter().chain(metrics).collect()
}

#[cfg(test)]
mod tests;
