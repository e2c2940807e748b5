//! Health checks: real requests to the machine's own address.

use std::net::Ipv4Addr;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::Machine;
use super::config::{Check, Config};
use crate::core::Shared;

/// Most of a check's output that is kept, in bytes.
const OUTPUT_LIMIT: usize = 1024;

/// Shortest interval after scaling.
const SHORTEST: Duration = Duration::from_millis(100);

/// The result of a check, as the API gives it.
#[derive(Clone, Debug, Serialize)]
pub struct CheckResult {
    /// `servicecheck-00-http-8080`, or its key in `config.checks`.
    pub name: String,
    /// `passing`, `warning` or `critical`.
    pub status: &'static str,
    /// What it said.
    pub output: String,
    /// When the status last changed.
    pub updated_at: Timestamp,
    /// Whether the edge looks at it.
    #[serde(skip)]
    pub routes: bool,
}

/// A check with its name and port.
struct Named {
    name: String,
    port: u16,
    routes: bool,
    check: Check,
}

fn named(config: &Config) -> Vec<Named> {
    let mut all = Vec::new();
    let mut index = 0;
    for service in config.services.iter().flatten() {
        for check in service.checks.iter().flatten() {
            let port = check.port.or(service.internal_port).unwrap_or_default();
            let kind = check.kind_of_check.as_deref().unwrap_or("tcp");
            all.push(Named {
                name: format!("servicecheck-{index:02}-{kind}-{port}"),
                port,
                routes: true,
                check: check.clone(),
            });
            index += 1;
        }
    }
    for (name, check) in config.checks.iter().flatten() {
        all.push(Named {
            name: name.clone(),
            port: check.port.unwrap_or_default(),
            routes: check.kind.as_deref() == Some("readiness"),
            check: check.clone(),
        });
    }
    all
}

/// The results before the first run.
pub fn initial(config: &Config) -> Vec<CheckResult> {
    let now = Timestamp::now();
    named(config)
        .into_iter()
        .map(|named| CheckResult {
            name: named.name,
            status: "critical",
            output: "waiting for status update".to_owned(),
            updated_at: now,
            routes: named.routes,
        })
        .collect()
}

/// The results of a machine whose program has ended.
pub fn not_running(machine: &mut Machine) {
    let now = Timestamp::now();
    for check in &mut machine.checks {
        if check.status != "critical" {
            check.updated_at = now;
        }
        check.status = "critical";
        "the machine is not running".clone_into(&mut check.output);
    }
}

/// Starts the checks of a machine; they end with the token.
pub fn start(core: &Shared, app: &str, id: &str, until: &CancellationToken) {
    let found = core.read(|world| {
        let machine = world.apps.get(app)?.machines.get(id)?;
        Some((machine.ip, named(&machine.config)))
    });
    let Some((ip, checks)) = found else {
        return;
    };
    for check in checks {
        let (core, app, id, until) = (core.clone(), app.to_owned(), id.to_owned(), until.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = until.cancelled() => {}
                () = repeat(core, app, id, ip, check) => {}
            }
        });
    }
}

/// Shortest and longest interval and time-out. Source: flyctl's warnings about service checks,
/// "this will be raised to 1 second" and "lowered to 1 minute".
fn in_bounds(time: Duration) -> Duration {
    time.clamp(Duration::from_secs(1), Duration::from_secs(60))
}

async fn repeat(core: Shared, app: String, id: String, ip: Ipv4Addr, named: Named) {
    let scale = core.options.timer_scale;
    let scaled = |time: Duration| time.mul_f64(scale);
    let check = &named.check;
    let grace = check.grace_period.map_or(Duration::ZERO, |grace| grace.0);
    let interval = check
        .interval
        .map_or(Duration::from_secs(15), |interval| interval.0);
    let interval = scaled(in_bounds(interval)).max(SHORTEST);
    let timeout = check
        .timeout
        .map_or(Duration::from_secs(10), |timeout| timeout.0);
    let timeout = in_bounds(timeout);
    tokio::time::sleep(scaled(grace)).await;
    loop {
        let (passes, output) = match tokio::time::timeout(timeout, run(ip, &named)).await {
            Ok(Ok(output)) => (true, output),
            Ok(Err(output)) => (false, output),
            Err(_) => (false, late(ip, &named)),
        };
        let status = if passes { "passing" } else { "critical" };
        let changed = core.read(|world| {
            let machine = world.apps.get(&app)?.machines.get(&id)?;
            let old = machine.checks.iter().find(|old| old.name == named.name)?;
            Some(old.status != status || old.output != output)
        });
        match changed {
            None => return,
            Some(false) => {}
            Some(true) => {
                let kind = format!("check.{status}");
                core.note(&kind, &app, &id, json!({"check": named.name}));
                core.write(|world| {
                    let machine = world.apps.get_mut(&app)?.machines.get_mut(&id)?;
                    let old = machine
                        .checks
                        .iter_mut()
                        .find(|old| old.name == named.name)?;
                    if old.status != status {
                        old.updated_at = Timestamp::now();
                    }
                    old.status = status;
                    old.output = output;
                    Some(())
                });
            }
        }
        // Until it passes for the first time, look often: on Fly, too, a new machine is checked
        // at a shorter interval than its own.
        let pause = if passes {
            interval
        } else {
            interval.min(scaled(Duration::from_secs(5)).max(SHORTEST))
        };
        tokio::time::sleep(pause).await;
    }
}

/// The URL of an HTTP check.
fn url(ip: Ipv4Addr, named: &Named) -> String {
    format!("http://{ip}:{}{}", named.port, path(&named.check))
}

fn path(check: &Check) -> &str {
    let path = check.path.as_deref();
    path.filter(|path| !path.is_empty()).unwrap_or("/")
}

/// What a check says that got no answer in time, in the words of Go's HTTP client and dialer.
fn late(ip: Ipv4Addr, named: &Named) -> String {
    match named.check.kind_of_check.as_deref() {
        Some("http") => format!(
            "Get \"{}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
            url(ip, named)
        ),
        _ => format!("dial tcp {ip}:{}: i/o timeout", named.port),
    }
}

/// Runs a check once: its output, as success or failure. A failed connection is told as on Fly
/// (community.fly.io/t/healthcheck-based-routing/12997), an answer that does not pass with its status
/// line before the body.
async fn run(ip: Ipv4Addr, named: &Named) -> Result<String, String> {
    let stream = TcpStream::connect((ip, named.port))
        .await
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
            _ => format!("connect: {error}"),
        })?;
    let check = &named.check;
    if check.kind_of_check.as_deref() == Some("tcp") {
        return Ok("Success".to_owned());
    }
    if check.protocol.as_deref() == Some("https") {
        // A TLS server that takes the connection is as far as this goes.
        return Ok("Success".to_owned());
    }
    let method = check
        .method
        .as_deref()
        .unwrap_or("GET")
        .to_ascii_uppercase();
    let method = Method::from_bytes(method.as_bytes()).map_err(|error| error.to_string())?;
    let closed = |_| format!("Get \"{}\": EOF", url(ip, named));
    let mut request = Request::builder().method(method).uri(path(check));
    let mut has_host = false;
    for header in check.headers.iter().flatten() {
        for value in header.values.iter().flatten() {
            has_host |= header.name.eq_ignore_ascii_case("host");
            request = request.header(&header.name, value);
        }
    }
    if !has_host {
        request = request.header(http::header::HOST, format!("{ip}:{}", named.port));
    }
    let request = request
        .header(http::header::USER_AGENT, "Consul Health Check")
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|error| error.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(closed)?;
    let driver = tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(closed);
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            driver.abort();
            return Err(error);
        }
    };
    let status = answer.status();
    let body = Limited::new(answer.into_body(), 64 * 1024)
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    driver.abort();
    let body = String::from_utf8_lossy(&body);
    let shown = |output: &str| -> String { output.chars().take(OUTPUT_LIMIT).collect() };
    if passes(status) {
        return Ok(shown(&body));
    }
    // `301 Moved Permanently`.
    Err(shown(format!("{status}\n{body}").trim_end()))
}

/// 2xx only; redirects are not followed.
fn passes(status: StatusCode) -> bool {
    status.is_success()
}
