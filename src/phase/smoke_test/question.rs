//! The requests of a smoke check, and what counts for each. Pure.

use crate::{
    api::smoke_test::{Fallback, HttpCheck, MetricsCheck, TcpCheck},
    net::{grpc::HEALTH, probe::Door},
    pipeline::ProbeKind,
    plan::{Expects, SmokeCheck},
};

/// One request of a check.
#[derive(Clone, Copy, Debug)]
pub enum Way<'a> {
    /// An HTTP request.
    Http(&'a HttpCheck),
    /// A page of metrics.
    Metrics(&'a MetricsCheck),
    /// A TCP connection.
    Tcp(&'a TcpCheck),
    /// A gRPC call.
    Grpc,
    /// A request for the homepage on this port, where the edge speaks HTTP.
    HttpOn(Door),
}

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// The application: the answer must be what the check says.
    Declared,
    /// The application, and nobody has said what it answers.
    AnAnswer,
    /// The database: the answer must also be about it.
    Database,
}

/// One request, and what counts.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The request.
    pub way: Way<'a>,
    /// What counts.
    pub about: About,
    /// Whether a TCP connection is one with TLS.
    pub tls: bool,
}

/// The requests of a check in order: its own, then its fallbacks.
pub fn questions(smoke: &SmokeCheck) -> Vec<Question<'_>> {
    let check = &smoke.check;
    let about = match smoke.expects {
        _ if check.database.is_some() => About::Database,
        Expects::Declared => About::Declared,
        Expects::AnAnswer | Expects::GrpcAnswer | Expects::HttpAnswer => About::AnAnswer,
    };
    let own = match smoke.expects {
        Expects::GrpcAnswer => Some(Way::Grpc),
        Expects::HttpAnswer => check.tcp.as_ref().map(|tcp| {
            Way::HttpOn(Door {
                port: tcp.port,
                tls: smoke.tls,
            })
        }),
        _ => way(
            check.http.as_ref(),
            check.metrics.as_ref(),
            check.tcp.as_ref(),
        ),
    };
    let fallbacks = check
        .fallbacks
        .iter()
        .flatten()
        .filter_map(|fallback: &Fallback| {
            way(
                fallback.http.as_ref(),
                fallback.metrics.as_ref(),
                fallback.tcp.as_ref(),
            )
        });
    own.into_iter()
        .chain(fallbacks)
        .map(|way| Question {
            way,
            about,
            tls: smoke.tls,
        })
        .collect()
}

fn way<'a>(
    http: Option<&'a HttpCheck>,
    metrics: Option<&'a MetricsCheck>,
    tcp: Option<&'a TcpCheck>,
) -> Option<Way<'a>> {
    http.map(Way::Http)
        .or(metrics.map(Way::Metrics))
        .or(tcp.map(Way::Tcp))
}

/// The name of a request in the report.
pub fn name(way: Way<'_>) -> String {
    match way {
        Way::Http(check) => format!("http {}", check.path),
        Way::Metrics(check) => format!("metrics {}", check.path),
        Way::Tcp(check) => format!("tcp {}", check.port),
        Way::Grpc => format!("grpc {HEALTH}"),
        Way::HttpOn(door) => format!("http port {}", door.port),
    }
}

pub fn kind(way: Way<'_>) -> ProbeKind {
    match way {
        Way::Http(_) | Way::HttpOn(_) => ProbeKind::Http,
        Way::Metrics(_) => ProbeKind::Metrics,
        Way::Tcp(_) | Way::Grpc => ProbeKind::Other,
    }
}
