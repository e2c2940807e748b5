//! One try of a check from the public edge: which requests it may make, and which of them decides.

use std::time::Duration;

use hyper::Method;

use super::{
    judge::{about_database, judge_any, judge_call, judge_http, judge_metrics},
    question::{About, Question, Way, kind, name},
};
use crate::{
    api::{
        Reason,
        smoke_test::{Method as Verb, TcpCheck},
    },
    error::Error,
    net::probe::{Ask, Door, MAX_BODY, MAX_METRICS, Opened, Probe, ProbeError},
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
    /// Whether a success shows anything: false for a default check that cannot be made from here.
    pub proves: bool,
    /// Whether it failed before the application could answer: the name, the connection or TLS.
    pub no_connection: bool,
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
            proves: true,
            no_connection: false,
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
            proves: true,
            no_connection: false,
            unexplained: false,
        }
    }
}

/// Makes the requests of a check in order until one can be made; that one decides.
///
/// # Errors
/// When none could be made because the resolver of this process does not work: that says nothing
/// about the application.
pub async fn attempt(
    probe: &Probe,
    host: &str,
    questions: &[Question<'_>],
    timeout: Duration,
) -> Result<Try, Error> {
    let mut before: Vec<String> = Vec::new();
    let mut last = None;
    let mut unknown = false;
    for question in questions {
        let way = question.way;
        let tried = match one(probe, host, question, timeout).await {
            Ok(tried) => tried,
            Err(ProbeError::NoResolver(_)) => {
                unknown = true;
                continue;
            }
            Err(error) => refused(name(way), question.about, &error),
        };
        let tried = Try {
            kind: kind(way),
            ..tried
        };
        if tried.carried_out || tried.passed {
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

async fn one(
    probe: &Probe,
    host: &str,
    question: &Question<'_>,
    timeout: Duration,
) -> Result<Try, ProbeError> {
    let way = question.way;
    let any_answer = question.about == About::AnAnswer;
    let ask = |method, path, limit, wanted| Ask {
        door: Door::HTTPS,
        method,
        path,
        limit,
        wanted,
        any_answer,
    };
    let ask = match way {
        Way::Http(check) => {
            let method = match check.method {
                Verb::Get => Method::GET,
                Verb::Head => Method::HEAD,
            };
            let wanted: &[u16] = if any_answer { &[] } else { &check.status };
            ask(method, &check.path, MAX_BODY, wanted)
        }
        Way::Metrics(check) => ask(Method::GET, &check.path, MAX_METRICS, &[200]),
        Way::Tcp(check) => return connection(probe, host, check, question.tls, timeout).await,
        Way::HttpOn(door) => Ask {
            door,
            ..ask(Method::GET, "/", MAX_BODY, &[])
        },
        Way::Grpc => return call(probe, host, timeout).await,
    };
    let answer = probe.request(host, &ask, timeout).await?;
    let found = match way {
        Way::Http(_) | Way::HttpOn(_) if any_answer => judge_any(&answer),
        Way::Http(check) => judge_http(check, &answer),
        Way::Metrics(check) => judge_metrics(check, &answer),
        Way::Tcp(_) | Way::Grpc | Way::HttpOn(_) => Ok(String::new()),
    };
    let took = answer.took;
    let status = answer.status;
    Ok(match found {
        Ok(message) if question.about == About::Database => match about_database(way, &answer) {
            Ok(()) => Try::passed(name(way), message, took),
            Err(why) => Try {
                took,
                carried_out: false,
                ..Try::failed(
                    name(way),
                    Reason::ExecUnavailable,
                    format!("{message}, but {why}"),
                )
            },
        },
        Ok(message) => Try::passed(name(way), message, took),
        Err(message) => Try {
            took,
            unexplained: OWN_ERRORS.contains(&status),
            ..Try::failed(name(way), Reason::SmokeCheckFailed, message)
        },
    })
}

/// Opens a TCP connection.
async fn connection(
    probe: &Probe,
    host: &str,
    check: &TcpCheck,
    tls: bool,
    timeout: Duration,
) -> Result<Try, ProbeError> {
    let began = std::time::Instant::now();
    let opened = probe.connect(host, check.port, tls, timeout).await?;
    let port = check.port;
    let with = if tls { " with TLS" } else { "" };
    let message = match opened {
        Opened::Spoke => format!("port {port} is open{with}, and the application answers"),
        Opened::Stays => format!("port {port} is open{with}, and the connection stays open"),
    };
    let name = name(Way::Tcp(check));
    Ok(Try::passed(name, message, began.elapsed()))
}

/// Calls a gRPC server.
async fn call(probe: &Probe, host: &str, timeout: Duration) -> Result<Try, ProbeError> {
    let called = probe.call(host, timeout).await?;
    let name = name(Way::Grpc);
    Ok(match judge_call(&called) {
        Ok(message) => Try::passed(name, message, called.took),
        Err(message) => Try {
            took: called.took,
            unexplained: OWN_ERRORS.contains(&called.status),
            ..Try::failed(name, Reason::SmokeCheckFailed, message)
        },
    })
}

/// A try without an answer.
fn refused(path: String, about: About, error: &ProbeError) -> Try {
    let reason = match error {
        ProbeError::NotResolved(_) | ProbeError::NotPublic(_) => Reason::DnsNotResolved,
        ProbeError::Tls(_) | ProbeError::TlsRefused(_) => Reason::TlsFailed,
        _ => Reason::SmokeCheckFailed,
    };
    let message = match error {
        ProbeError::RedirectLoop => format!(
            "{error}: an application that redirects to HTTPS must trust `X-Forwarded-Proto`, because Fly.io ends TLS"
        ),
        _ => error.to_string(),
    };
    // The spec has not asked for this check, and this network cannot make it: the machines decide.
    let unprovable = about == About::AnAnswer && matches!(error, ProbeError::NoRoute(_));
    let reason = if unprovable {
        Reason::ObservationUnknown
    } else {
        reason
    };
    Try {
        carried_out: !error.is_ours(),
        passed: unprovable,
        proves: !unprovable,
        no_connection: matches!(
            error,
            ProbeError::NotResolved(_)
                | ProbeError::TlsRefused(_)
                | ProbeError::Tls(_)
                | ProbeError::Connect(_)
        ),
        ..Try::failed(path, reason, message)
    }
}
