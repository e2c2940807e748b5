//! One try of a check from the public edge: which requests it may make, and which of them decides.

use std::time::Duration;

use hyper::Method;

use super::judge::{judge_http, judge_metrics};
use crate::{
    api::{
        Reason,
        smoke_test::{Check, Fallback, HttpCheck, Method as Verb, MetricsCheck, TcpCheck},
    },
    error::Error,
    net::probe::{Ask, MAX_BODY, MAX_METRICS, Probe, ProbeError},
    phase::evidence::edge::OWN_ERRORS,
    pipeline::ProbeKind,
};

/// The result of one try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Try {
    /// The request that passed or failed, such as `http /api/v1/healthz`.
    pub path: String,
    /// The kind of that request.
    pub kind: ProbeKind,
    /// Whether it passed.
    pub passed: bool,
    /// Why it failed.
    pub reason: Reason,
    /// The evidence: status, length, class of error; never the text of a page.
    pub message: String,
    /// How long it took.
    pub took: Duration,
    /// Whether the request could be made at all. A fallback replaces a request that cannot be made,
    /// never one that fails.
    pub carried_out: bool,
    /// Whether it failed by an answer that Fly.io's proxy gives by itself, and nobody has said why.
    pub unexplained: bool,
}

impl Try {
    /// A try that passed.
    pub fn passed(path: String, message: String, took: Duration) -> Self {
        Self {
            path,
            kind: ProbeKind::Other,
            passed: true,
            reason: Reason::Succeeded,
            message,
            took,
            carried_out: true,
            unexplained: false,
        }
    }

    /// A try that failed.
    pub fn failed(path: String, reason: Reason, message: String) -> Self {
        Self {
            path,
            kind: ProbeKind::Other,
            passed: false,
            reason,
            message,
            took: Duration::ZERO,
            carried_out: true,
            unexplained: false,
        }
    }
}

/// One request of a check.
#[derive(Clone, Copy, Debug)]
pub enum Way<'a> {
    /// An HTTP request.
    Http(&'a HttpCheck),
    /// A page of metrics.
    Metrics(&'a MetricsCheck),
    /// A TCP connection.
    Tcp(&'a TcpCheck),
}

/// The requests of a check in order: its own, then its fallbacks.
pub fn ways(check: &Check) -> Vec<Way<'_>> {
    let own = way(
        check.http.as_ref(),
        check.metrics.as_ref(),
        check.tcp.as_ref(),
    );
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
    own.into_iter().chain(fallbacks).collect()
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

/// Makes the requests of a check in order until one can be made; that one decides.
///
/// # Errors
/// When none could be made because the resolver of this process does not work: that says nothing
/// about the application.
pub async fn attempt(
    probe: &Probe,
    host: &str,
    ways: &[Way<'_>],
    timeout: Duration,
) -> Result<Try, Error> {
    let mut before: Vec<String> = Vec::new();
    let mut last = None;
    let mut unknown = false;
    for way in ways {
        let tried = match one(probe, host, *way, timeout).await {
            Ok(tried) => tried,
            Err(ProbeError::NoResolver(_)) => {
                unknown = true;
                continue;
            }
            Err(error) => refused(name(*way), &error),
        };
        let tried = Try {
            kind: kind(*way),
            ..tried
        };
        if tried.carried_out {
            return Ok(tried.after(&before));
        }
        before.push(format!("{}: {}", tried.path, tried.message));
        last = Some(tried);
    }
    if unknown {
        return Err(Error::Resolver(host.to_owned()));
    }
    // The message of the last one is in it already.
    before.pop();
    Ok(match last {
        Some(tried) => tried.after(&before),
        None => Try::failed(
            "nothing".to_owned(),
            Reason::InvalidSpec,
            "the check names nothing to request".to_owned(),
        ),
    })
}

impl Try {
    /// The same, with the requests that could not be made before it.
    fn after(self, before: &[String]) -> Self {
        if before.is_empty() {
            return self;
        }
        Self {
            message: format!("{} (before that, {})", self.message, before.join("; ")),
            ..self
        }
    }
}

/// The name of a request in the report.
fn name(way: Way<'_>) -> String {
    match way {
        Way::Http(check) => format!("http {}", check.path),
        Way::Metrics(check) => format!("metrics {}", check.path),
        Way::Tcp(check) => format!("tcp {}", check.port),
    }
}

fn kind(way: Way<'_>) -> ProbeKind {
    match way {
        Way::Http(_) => ProbeKind::Http,
        Way::Metrics(_) => ProbeKind::Metrics,
        Way::Tcp(_) => ProbeKind::Other,
    }
}

async fn one(
    probe: &Probe,
    host: &str,
    way: Way<'_>,
    timeout: Duration,
) -> Result<Try, ProbeError> {
    let mut status = 0;
    let (found, took) = match way {
        Way::Http(check) => {
            let method = match check.method {
                Verb::Get => Method::GET,
                Verb::Head => Method::HEAD,
            };
            let ask = Ask {
                method,
                path: &check.path,
                limit: MAX_BODY,
                wanted: &check.status,
            };
            probe.request(host, &ask, timeout).await.map(|answer| {
                status = answer.status;
                (judge_http(check, &answer), answer.took)
            })
        }
        Way::Metrics(check) => {
            let ask = Ask {
                method: Method::GET,
                path: &check.path,
                limit: MAX_METRICS,
                wanted: &[200],
            };
            probe.request(host, &ask, timeout).await.map(|answer| {
                status = answer.status;
                (judge_metrics(check, &answer), answer.took)
            })
        }
        Way::Tcp(check) => {
            let began = std::time::Instant::now();
            probe
                .connect(host, check.port, timeout)
                .await
                .map(|()| (Ok(format!("port {} is open", check.port)), began.elapsed()))
        }
    }?;
    Ok(match found {
        Ok(message) => Try::passed(name(way), message, took),
        Err(message) => Try {
            took,
            unexplained: OWN_ERRORS.contains(&status),
            ..Try::failed(name(way), Reason::SmokeCheckFailed, message)
        },
    })
}

/// A try without an answer.
fn refused(path: String, error: &ProbeError) -> Try {
    let reason = match error {
        ProbeError::NotResolved(_) | ProbeError::NotPublic(_) => Reason::DnsNotResolved,
        ProbeError::Tls(_) => Reason::TlsFailed,
        _ => Reason::SmokeCheckFailed,
    };
    Try {
        carried_out: !error.is_ours(),
        ..Try::failed(path, reason, error.to_string())
    }
}
