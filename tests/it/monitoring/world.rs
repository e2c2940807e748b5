//! A real Prometheus scrapes a real operator: every metric that an alert or a dashboard names is there, and every
//! query gives series, where the state that it shows exists.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fly_sim::Options;
use golive::api::ActivationStatus;
use kube_env::Prometheus;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::dashboards::{dashboards, queries};
use super::manifests::alerts;
use crate::support::env::{Env, LIMIT};
use crate::support::guarded::Guarded;

const LIVE: &str = "hola";

/// Metrics of states that this world does not have, each with the state.
const NOT_HERE: &[(&str, &str)] = &[
    (
        "golive_integration_last_verified_timestamp_seconds",
        "an integration whose checks pass",
    ),
    ("golive_notifications_total", "a receiver"),
    (
        "golive_notifications_given_up_total",
        "a receiver that takes nothing",
    ),
    ("golive_notifications_waiting", "a receiver"),
    ("fly_api_rate_limited_total", "a rate limit of Fly.io"),
];

/// The operator as a process that leads, and where it is scraped.
async fn operator(env: &Env) -> (Guarded, SocketAddr) {
    let mut flags = env.flags(&["--time-scale", "360"]);
    flags.retain(|flag| flag != "--leader-elect=false");
    let process = Guarded::spawn(&mut env.command(flags));
    let end = Instant::now() + LIMIT;
    loop {
        let log = std::fs::read_to_string(env.log()).unwrap();
        let line = log.lines().find(|line| line.contains("serving /healthz"));
        let address = line.and_then(|line| {
            let at = line.rfind("127.0.0.1:")?;
            let address = &line[at..];
            let end = address.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':');
            address[..end.unwrap_or(address.len())].parse().ok()
        });
        if let Some(address) = address {
            return (process, address);
        }
        assert!(Instant::now() < end, "{log}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// One that is watched with objectives and has an integration that fails, one that waits at its gate, one that
/// was rejected, and one that is suspended.
async fn states(env: &Env) {
    env.secret("hook", &[("key", "a-key-of-a-webhook-that-nobody-guesses")])
        .await;
    let toml = "app = 'hola-cabanas'\n[http_service]\ninternal_port = 8080\nforce_https = false\n";
    let live = json!({
        "deploy": {"config": {"inline": toml}},
        "integrations": {"deadline": "1h", "webhooks": [{"name": "hook", "path": "/nowhere", "header": "X-Signature",
            "secretRef": {"name": "hook", "key": "key"}}]},
        "observe": {"window": "720h", "objectives": [
            {"name": "errors", "minEvents": 1, "errorRate": {"metric": "http_requests_total",
             "errorSelector": {"status": "5.."}, "below": "1%"}}]},
    });
    env.activation(LIVE, live).await;
    let other = |app: &str, more: Value| {
        let mut spec = json!({"app": app});
        crate::support::env::merge(&mut spec, more);
        spec
    };
    let waits = other("hola-waits", json!({"gates": [{"before": "Deploy"}]}));
    env.activation("waits", waits).await;
    let stopped = other("hola-stopped", json!({"gates": [{"before": "Deploy"}]}));
    env.activation("stopped", stopped).await;
    env.activation("paused", other("hola-paused", json!({"suspend": true})))
        .await;
    env.wait_live(LIVE).await;
    let gate = |status: &ActivationStatus| {
        let gates = status.phases.iter().filter_map(|phase| phase.gate.clone());
        gates
            .map(|gate| gate.digest)
            .find(|digest| !digest.is_empty())
    };
    let status = env
        .wait("stopped", "the gate", |status| gate(status).is_some())
        .await;
    let reject = json!({
        "apiVersion": "golive.dev/v1alpha1", "kind": "ActivationApproval", "metadata": {"name": "no"},
        "spec": {"activation": "stopped", "gate": "Deploy", "digest": gate(&status).unwrap(),
            "decision": "Reject", "approver": "admin"},
    });
    env.apply(&reject.to_string()).await;
}

/// Guests, until they are sent away.
struct Guests(JoinHandle<()>);

impl Guests {
    fn come(edge: SocketAddr) -> Self {
        Self(tokio::spawn(async move {
            loop {
                visit(edge).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }))
    }
}

impl Drop for Guests {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn visit(edge: SocketAddr) -> Option<()> {
    let mut stream = TcpStream::connect(edge).await.ok()?;
    let request = "GET / HTTP/1.1\r\nhost: hola-cabanas.fly.dev\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.ok()?;
    stream.read_to_end(&mut Vec::new()).await.ok()?;
    Some(())
}

/// The Activations of this world.
const NAMES: [&str; 4] = [LIVE, "waits", "stopped", "paused"];

struct Asked {
    server: Prometheus,
}

impl Asked {
    fn data(&self, path: &str, form: &str) -> Value {
        let (status, body) = self.server.post(path, form).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(status, 200, "{form}: {body}");
        body["data"].clone()
    }

    /// How many series a query gives now.
    fn series(&self, query: &str) -> usize {
        let query = utf8_percent_encode(query, NON_ALPHANUMERIC);
        let data = self.data("/api/v1/query", &format!("query={query}"));
        data["result"].as_array().unwrap().len()
    }

    /// How many it has given in the last minutes, at any time: a phase ends soon.
    fn lately(&self, query: &str) -> usize {
        self.series(&format!("count_over_time(({query})[10m:1s])"))
    }

    /// The names of all metrics.
    fn names(&self) -> BTreeSet<String> {
        let data = self.data(
            "/api/v1/query",
            "query=group%20by%20%28__name__%29%20%28%7B__name__%21%3D%22%22%7D%29",
        );
        let series = data["result"].as_array().unwrap().iter();
        series
            .map(|one| one["metric"]["__name__"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// The metrics of ours that a query names.
fn metrics(query: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = query.split(|c| !is_part(c));
    let ours = [
        "golive_",
        "fly_api_",
        "controller_runtime_",
        "leader_election_",
        "process_",
    ];
    let ours = words.filter(|word| ours.iter().any(|prefix| word.starts_with(prefix)));
    ours.map(str::to_owned).collect()
}

fn is_here(query: &str) -> bool {
    let not = |metric: &String| NOT_HERE.iter().any(|(name, _)| name == metric);
    !metrics(query).iter().any(not)
}

/// Waits until nothing is missing.
async fn until(what: &str, missing: impl Fn() -> Vec<String>) {
    let end = Instant::now() + 2 * LIMIT;
    loop {
        let missing = missing();
        if missing.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "{what}: {missing:#?}");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_of_an_alert_or_a_dashboard_is_scraped_and_every_query_gives_series() {
    let env = Env::without_operator(Options::default()).await;
    let (operator, address) = operator(&env).await;
    let folder = tempfile::tempdir().unwrap();
    let server = Prometheus::scraping(folder.path(), address).await.unwrap();
    let asked = Asked { server };
    states(&env).await;
    let guests = Guests::come(env.sim.edge());

    let mut all: Vec<(String, String)> = alerts();
    for (name, dashboard) in dashboards() {
        let filled = queries(&dashboard).into_iter().map(|(title, query)| {
            let query = query.replace("$namespace", &env.namespace);
            // The job of this Prometheus has another name.
            let query = query.replace("job=~\".*golive.*\"", "job=~\".+\"");
            (format!("{name}: {title}"), query)
        });
        all.extend(filled);
    }
    let wanted: BTreeSet<String> = all.iter().flat_map(|(_, query)| metrics(query)).collect();
    assert!(wanted.len() > 20, "{wanted:?}");
    let not_here: BTreeSet<&str> = NOT_HERE.iter().map(|(name, _)| *name).collect();
    until("metrics that nobody sees", || {
        let names = asked.names();
        let missing = wanted.iter().filter(|name| !names.contains(*name));
        missing
            .filter(|name| !not_here.contains(name.as_str()))
            .cloned()
            .collect()
    })
    .await;
    // An exception that is none any more is removed from the list, and one that nothing names too.
    for name in &not_here {
        assert!(wanted.contains(*name), "{name} is in no alert or dashboard");
    }

    until("queries of dashboards without series", || {
        let shown = all
            .iter()
            .filter(|(place, query)| place.contains(".json") && is_here(query));
        // One of them has the state that a panel shows.
        let is_empty = |query: &str| {
            let mut names = NAMES.iter();
            !names.any(|name| asked.lately(&query.replace("$name", name)) > 0)
        };
        let empty = shown.filter(|(_, query)| is_empty(query));
        empty
            .map(|(place, query)| format!("{place}: {query}"))
            .collect()
    })
    .await;
    // An alert is silent where all is well; those whose state is here must not be.
    for name in ["ActivationStalled", "SuspendedTooLong"] {
        let (_, query) = all.iter().find(|(alert, _)| alert == name).unwrap();
        assert!(asked.series(query) > 0, "{name}: {query}");
    }
    let (_, lost) = all.iter().find(|(alert, _)| alert == "LeaderLost").unwrap();
    assert_eq!(asked.series(lost), 0, "it leads");
    drop((operator, guests));
}
