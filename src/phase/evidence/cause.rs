//! Why a machine's check does not pass, and what to do about it. Pure.

use std::{fmt, time::Duration};

use super::listening::{Listening, is_loopback};
use crate::{
    api::status::one_line,
    fly::{
        CheckOutput, MachineConfig,
        machine_config::{MachineCheck, MachineService},
        machines::{CheckResult, CheckStatus},
    },
};

/// Most bytes of a check's output in a message.
const OUTPUT: usize = 120;

/// Fly.io's `timeout` of a check that declares none, in seconds.
/// Source: fly.io/docs/reference/configuration, `[[http_service.checks]]`.
const DEFAULT_TIMEOUT: u64 = 10;

/// A check, as the machine's configuration declares it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeclaredCheck {
    /// The name of its result.
    pub name: String,
    /// The port that it connects to.
    pub port: u16,
    /// Whether that is the `internal_port` of a service.
    pub of_service: bool,
    /// The path of an HTTP check.
    pub path: Option<String>,
    /// Names of the headers that it sends, in lower case.
    pub headers: Vec<String>,
    /// Longest time of one run.
    pub timeout: Duration,
    /// Time after the start before its first run.
    pub grace_period: Duration,
}

/// The checks of a machine with this configuration.
///
/// Names of results: `servicecheck-NN-http-PORT`, where `NN` counts the checks of all services; a
/// top-level check has its own. Source: fly.io/docs/reference/health-checks.
pub fn declared(config: &MachineConfig) -> Vec<DeclaredCheck> {
    let of_services = config
        .services
        .iter()
        .flat_map(|service| service.checks.iter().map(move |check| (service, check)))
        .enumerate()
        .map(|(at, (service, check))| of_service(at, service, check));
    let top_level = config.checks.iter().map(|(name, check)| DeclaredCheck {
        name: name.clone(),
        port: check.port.unwrap_or_default(),
        of_service: false,
        ..common(check)
    });
    of_services.chain(top_level).collect()
}

fn of_service(at: usize, service: &MachineService, check: &MachineCheck) -> DeclaredCheck {
    let port = check.port.or(service.internal_port).unwrap_or_default();
    let kind = check.type_.as_deref().unwrap_or("tcp");
    DeclaredCheck {
        name: format!("servicecheck-{at:02}-{kind}-{port}"),
        port,
        of_service: true,
        ..common(check)
    }
}

fn common(check: &MachineCheck) -> DeclaredCheck {
    let is_http = check.type_.as_deref() == Some("http");
    let path = check.path.clone().unwrap_or_else(|| "/".to_owned());
    let headers = check.headers.iter();
    DeclaredCheck {
        path: is_http.then_some(path),
        headers: headers
            .map(|header| header.name.to_ascii_lowercase())
            .collect(),
        timeout: check
            .timeout
            .map_or(Duration::from_secs(DEFAULT_TIMEOUT), |timeout| timeout.0),
        grace_period: check.grace_period.map_or(Duration::ZERO, |grace| grace.0),
        ..DeclaredCheck::default()
    }
}

/// Why a check does not pass. The definite causes come first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The program listens on other ports only; these are the addresses.
    OtherPort(Vec<std::net::SocketAddr>),
    /// The program listens on a loopback address only, which the proxy cannot reach.
    Loopback(std::net::SocketAddr),
    /// The check was answered with a redirect; whether it says that it came by HTTPS.
    Redirected {
        /// The HTTP status.
        status: u16,
        /// Whether the check sends `X-Forwarded-Proto`.
        has_proto: bool,
    },
    /// The check was refused, as a program does that does not know the host; whether the check sends
    /// one of its own.
    HostRefused {
        /// The HTTP status.
        status: u16,
        /// Whether the check sends `Host`.
        has_host: bool,
    },
    /// The path requires a login.
    LoginRequired,
    /// The program has no such path.
    NoSuchPath(u16),
    /// The program does not allow the method.
    MethodRefused,
    /// The program answered with another status that is not 2xx.
    Answered(u16),
    /// What answers on the port does not speak HTTP.
    NotHttp,
    /// There was no answer in time.
    Slow,
    /// The program listens on no port.
    ListensNowhere,
    /// The connection is refused, and it is not known where the program listens.
    Refused,
    /// The check has not run yet.
    NotRun,
    /// Something else.
    Other,
}

impl Cause {
    /// The cause of a check's output, with what is known of the program's sockets.
    pub fn of(check: &DeclaredCheck, output: CheckOutput, listening: &Listening) -> Self {
        let has = |header: &str| check.headers.iter().any(|sent| sent == header);
        match output {
            CheckOutput::Status(status @ 300..400) => Self::Redirected {
                status,
                has_proto: has("x-forwarded-proto"),
            },
            CheckOutput::Status(status @ (400 | 403 | 421)) => Self::HostRefused {
                status,
                has_host: has("host"),
            },
            CheckOutput::Status(401) => Self::LoginRequired,
            CheckOutput::Status(status @ (404 | 410)) => Self::NoSuchPath(status),
            CheckOutput::Status(405) => Self::MethodRefused,
            CheckOutput::Status(status) => Self::Answered(status),
            CheckOutput::Broken => Self::NotHttp,
            CheckOutput::TimedOut => Self::Slow,
            CheckOutput::Other => Self::Other,
            CheckOutput::Refused | CheckOutput::NotRun => match listening {
                Listening::OnLoopback(socket) => Self::Loopback(*socket),
                Listening::Elsewhere(sockets) => Self::OtherPort(sockets.clone()),
                Listening::Nowhere => Self::ListensNowhere,
                Listening::OnPort | Listening::Unknown if output == CheckOutput::NotRun => {
                    Self::NotRun
                }
                Listening::OnPort | Listening::Unknown => Self::Refused,
            },
        }
    }

    /// Whether more time alone may mend it.
    pub fn may_be_time(&self) -> bool {
        match self {
            Self::Answered(status) => *status >= 500,
            Self::Slow | Self::ListensNowhere | Self::Refused | Self::NotRun | Self::Other => true,
            _ => false,
        }
    }

    /// What it is and what to do, for a person.
    pub fn advice(&self, check: &DeclaredCheck) -> String {
        let port = check.port;
        let path = check.path.as_deref().unwrap_or("/");
        match self {
            Self::OtherPort(sockets) => elsewhere(check, sockets),
            Self::Loopback(socket) => on_loopback(*socket, port),
            Self::Redirected { status, has_proto } => {
                let first = if *has_proto {
                    ""
                } else {
                    "if the program redirects to HTTPS, add `headers = {X-Forwarded-Proto = \"https\"}` to the check; otherwise "
                };
                format!(
                    "{path} is answered with a redirect ({status}), which does not pass: {first}choose a path that is answered with 200"
                )
            }
            Self::HostRefused { status, has_host } => {
                let host = if *has_host {
                    "allow the host that the check sends"
                } else {
                    "if the program checks the Host header (Django `ALLOWED_HOSTS`, Rails `config.hosts`), add `headers = {Host = \"<app>.fly.dev\"}` to the check, or allow the machine's address"
                };
                format!("the program refuses {path} with {status}: {host}")
            }
            Self::LoginRequired => format!(
                "{path} requires a login (401): choose a path for the check that is open to everybody"
            ),
            Self::NoSuchPath(status) => format!(
                "the program has no {path} ({status}): correct `path` of the check, or add that path to the program"
            ),
            Self::MethodRefused => {
                format!(
                    "the program refuses the method for {path} (405): correct `method` of the check"
                )
            }
            Self::Answered(status @ 500..) => format!(
                "the program answers {path} with {status}: its log says why, often a dependency that it cannot reach"
            ),
            Self::Answered(status) => {
                format!("the program answers {path} with {status}, and only 2xx passes")
            }
            Self::NotHttp => format!(
                "what listens on port {port} does not answer with HTTP: set `protocol = \"https\"` in the check if it speaks TLS, or use a TCP check"
            ),
            Self::Slow => format!(
                "no answer within {} (`timeout` of the check): raise `timeout`, or make {path} answer faster",
                seconds(check.timeout)
            ),
            Self::ListensNowhere => format!(
                "nothing listens on {}: the program has not opened a port yet; make it listen on 0.0.0.0:{port}",
                port_name(check)
            ),
            Self::Refused => format!(
                "nothing answers on {}: make the program listen on 0.0.0.0:{port}, or correct the port in fly.toml",
                port_name(check)
            ),
            Self::NotRun => "the check has not run yet".to_owned(),
            Self::Other => "look at the program's log".to_owned(),
        }
    }
}

/// The port, with its name in fly.toml.
fn port_name(check: &DeclaredCheck) -> String {
    let name = match check.of_service {
        true => "internal_port",
        false => "port",
    };
    format!("{} (`{name}`)", check.port)
}

fn on_loopback(socket: std::net::SocketAddr, port: u16) -> String {
    format!(
        "the program listens on {socket} only, which Fly.io's proxy cannot reach: make it listen on 0.0.0.0:{port}"
    )
}

/// The advice for a program that listens on other ports: a few of them.
fn elsewhere(check: &DeclaredCheck, sockets: &[std::net::SocketAddr]) -> String {
    let port = check.port;
    let name = if check.of_service {
        "internal_port"
    } else {
        "port"
    };
    let listed = sockets.iter().take(4);
    let listed: Vec<String> = listed
        .map(|socket| match is_loopback(socket.ip()) {
            true => socket.to_string(),
            false => socket.port().to_string(),
        })
        .collect();
    let action = match sockets.first() {
        Some(first) if !is_loopback(first.ip()) => format!(
            "set `{name} = {}` in fly.toml, or make the program listen on 0.0.0.0:{port}",
            first.port()
        ),
        _ => format!("make it listen on 0.0.0.0:{port}"),
    };
    format!(
        "nothing listens on {}; the program listens on {}: {action}",
        port_name(check),
        listed.join(", ")
    )
}

/// A length of time as fly.toml has it.
pub fn seconds(time: Duration) -> String {
    crate::fly::GoDuration(time).to_string()
}

/// A check that does not pass, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The check.
    pub check: DeclaredCheck,
    /// What its output says, for a person: one line, bounded, without secrets. Empty if it has not run.
    pub output: String,
    /// Why it does not pass.
    pub cause: Cause,
}

impl Finding {
    /// What a result that does not pass shows.
    pub fn of(check: &DeclaredCheck, result: &CheckStatus, listening: &Listening) -> Self {
        let output = result.output.as_deref().unwrap_or_default();
        let read = CheckOutput::read(output);
        let output = match read {
            CheckOutput::NotRun => String::new(),
            read => clean(output, read),
        };
        Self {
            cause: Cause::of(check, read, listening),
            check: check.clone(),
            output,
        }
    }
}

/// Cause and advice.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause.advice(&self.check))
    }
}

/// The results of checks that do not pass, the most definite cause first; `listening` says where the
/// program listens as far as a port is concerned.
pub fn findings(
    checks: &[DeclaredCheck],
    results: &[CheckStatus],
    listening: impl Fn(u16) -> Listening,
) -> Vec<Finding> {
    let failing = results
        .iter()
        .filter(|result| result.status != CheckResult::Passing);
    let mut findings: Vec<Finding> = failing
        .map(|result| {
            let declared = checks.iter().find(|check| check.name == result.name);
            let unknown = DeclaredCheck {
                name: result.name.clone(),
                ..DeclaredCheck::default()
            };
            let check = declared.unwrap_or(&unknown);
            let listening = match check.port {
                0 => Listening::Unknown,
                port => listening(port),
            };
            Finding::of(check, result, &listening)
        })
        .collect();
    findings.sort_by(|one, other| one.cause.cmp(&other.cause));
    findings
}

/// What an output says, for a message. A page is foreign, so that of an answer only the status is
/// shown unless what follows is plain text.
fn clean(output: &str, read: CheckOutput) -> String {
    let output = crate::redact::redact(output);
    let page = output.find('<');
    let shown = match (read, page) {
        (CheckOutput::Status(_), Some(at)) => output.split_at(at).0,
        _ => &output,
    };
    one_line(shown, OUTPUT)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn config() -> MachineConfig {
        serde_json::from_value(json!({
            "image": "r/a:1",
            "services": [
                {"protocol": "tcp", "internal_port": 8080, "checks": [
                    {"type": "http", "path": "/up", "timeout": "2s", "grace_period": "10s"},
                    {"type": "tcp"},
                ]},
                {"protocol": "tcp", "internal_port": 9000, "checks": [{"type": "tcp", "port": 9001}]},
            ],
            "checks": {"alive": {"type": "http", "port": 8080, "headers": [
                {"name": "Host", "values": ["x"]}, {"name": "X-Forwarded-Proto", "values": ["https"]}]}},
        }))
        .unwrap()
    }

    fn check(name: &str) -> DeclaredCheck {
        let checks = declared(&config());
        checks.into_iter().find(|check| check.name == name).unwrap()
    }

    fn advice(name: &str, output: &str, listening: &Listening) -> String {
        let result = serde_json::from_value(json!({
            "name": name, "status": "critical", "output": output}));
        Finding::of(&check(name), &result.unwrap(), listening).to_string()
    }

    fn sockets(addresses: &[&str]) -> Vec<std::net::SocketAddr> {
        addresses
            .iter()
            .map(|socket| socket.parse().unwrap())
            .collect()
    }

    const UP: &str = "servicecheck-00-http-8080";
    const REFUSED: &str = "connect: connection refused";

    #[test]
    fn the_checks_of_a_machine_are_named_as_their_results() {
        let checks = declared(&config());
        let names: Vec<&str> = checks.iter().map(|check| check.name.as_str()).collect();
        assert_eq!(
            names,
            [
                UP,
                "servicecheck-01-tcp-8080",
                "servicecheck-02-tcp-9001",
                "alive"
            ]
        );
        assert_eq!(checks[0].path.as_deref(), Some("/up"));
        assert_eq!(checks[0].timeout, Duration::from_secs(2));
        assert_eq!(checks[1].path, None);
        assert_eq!(checks[3].timeout, Duration::from_secs(10));
        assert_eq!(checks[3].headers, ["host", "x-forwarded-proto"]);
    }

    #[test]
    fn a_refused_connection_is_explained_by_where_the_program_listens() {
        let other = Listening::Elsewhere(sockets(&["0.0.0.0:3000", "127.0.0.1:9229"]));
        assert_eq!(
            advice(UP, REFUSED, &other),
            "nothing listens on 8080 (`internal_port`); the program listens on 3000, 127.0.0.1:9229: set `internal_port = 3000` in fly.toml, or make the program listen on 0.0.0.0:8080"
        );
        let local = Listening::OnLoopback(sockets(&["127.0.0.1:8080"])[0]);
        assert_eq!(
            advice(UP, REFUSED, &local),
            "the program listens on 127.0.0.1:8080 only, which Fly.io's proxy cannot reach: make it listen on 0.0.0.0:8080"
        );
        let both = Listening::Elsewhere(sockets(&["127.0.0.1:3000"]));
        let message = advice(UP, REFUSED, &both);
        assert!(
            message.contains("127.0.0.1:3000: make it listen on 0.0.0.0:8080"),
            "{message}"
        );
        assert!(advice(UP, REFUSED, &Listening::Nowhere).starts_with("nothing listens on 8080"));
        assert!(advice(UP, REFUSED, &Listening::Unknown).starts_with("nothing answers on 8080"));
        assert!(advice("alive", REFUSED, &other).contains("set `port = 3000`"));
    }

    #[test]
    fn an_answer_that_does_not_pass_is_explained_by_its_status() {
        let unknown = Listening::Unknown;
        for (name, output, says) in [
            (UP, "301 Moved Permanently", "X-Forwarded-Proto = \"https\""),
            (
                UP,
                "308 Permanent Redirect",
                "/up is answered with a redirect (308)",
            ),
            (
                "alive",
                "302 Found",
                "passes: choose a path that is answered with 200",
            ),
            (UP, "400 Bad Request", "ALLOWED_HOSTS"),
            (UP, "403 Forbidden", "Host = \"<app>.fly.dev\""),
            (
                "alive",
                "403 Forbidden",
                "allow the host that the check sends",
            ),
            (UP, "401 Unauthorized", "requires a login"),
            (UP, "404 Not Found", "has no /up (404)"),
            (UP, "405 Method Not Allowed", "`method`"),
            (
                UP,
                "500 Internal Server Error\nno such table",
                "answers /up with 500",
            ),
            (UP, "418 I'm a teapot", "only 2xx passes"),
            (UP, "Get \"http://x/up\": EOF", "protocol = \"https\""),
            (
                UP,
                "context deadline exceeded",
                "no answer within 2s (`timeout`",
            ),
        ] {
            let message = advice(name, output, &unknown);
            let says = says.replace("passes: ", "pass: ");
            assert!(message.contains(&says), "{output}: {message}");
            assert!(message.len() < 300, "{message}");
        }
    }

    #[test]
    fn only_what_more_time_may_mend_says_so() {
        for (output, may) in [
            (CheckOutput::NotRun, true),
            (CheckOutput::Refused, true),
            (CheckOutput::TimedOut, true),
            (CheckOutput::Status(503), true),
            (CheckOutput::Status(301), false),
            (CheckOutput::Status(404), false),
            (CheckOutput::Broken, false),
        ] {
            let cause = Cause::of(&check(UP), output, &Listening::Nowhere);
            assert_eq!(cause.may_be_time(), may, "{cause:?}");
        }
        let other = Listening::Elsewhere(sockets(&["0.0.0.0:3000"]));
        assert!(!Cause::of(&check(UP), CheckOutput::Refused, &other).may_be_time());
    }

    #[test]
    fn the_most_definite_cause_comes_first_and_checks_that_pass_are_left_out() {
        let result = |name: &str, status: &str, output: &str| {
            serde_json::from_value(json!({"name": name, "status": status, "output": output}))
                .unwrap()
        };
        let results = [
            result("servicecheck-01-tcp-8080", "passing", "Success"),
            result("alive", "critical", "waiting for status update"),
            result(UP, "critical", "404 Not Found\n<html><p>canary"),
            result("removed", "warning", "x"),
        ];
        let found = findings(&declared(&config()), &results, |_| Listening::Unknown);
        let names: Vec<&str> = found
            .iter()
            .map(|found| found.check.name.as_str())
            .collect();
        assert_eq!(names, [UP, "alive", "removed"]);
        assert_eq!(found[0].output, "404 Not Found", "no page is shown");
        assert_eq!(found[1].output, "");
    }
}
