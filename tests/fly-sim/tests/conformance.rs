//! What a real flyctl asked, asked again: `conformance/recorded.json` against a new simulator.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../conformance/shape.rs"]
mod shape;
#[path = "../conformance/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fly_sim::Sim;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde_json::Value;

/// Longest time until a look shows what flyctl saw before it went on.
const LIMIT: Duration = Duration::from_secs(30);

const RELEASE: &str = "DELETE /v1/apps/{app}/machines/{id}/lease";

#[derive(Deserialize)]
struct Fixture {
    commands: Vec<Command>,
    shapes: Vec<Value>,
}

#[derive(Deserialize)]
struct Command {
    command: String,
    /// What flyctl had to say, when it was right that the platform refused it.
    #[serde(default)]
    refused: String,
    works: bool,
    requests: Vec<Recorded>,
}

#[derive(Deserialize)]
struct Recorded {
    endpoint: String,
    path: String,
    #[serde(default)]
    query: String,
    nonce: Option<String>,
    #[serde(default)]
    body: Value,
    status: u16,
    shape: usize,
    #[serde(default)]
    learn: BTreeMap<String, String>,
}

/// What `found` lacks of what was recorded, or has in another type. More keys are no fault, save
/// errors. Where the recording has null, anything may be; the other way round only where the
/// recording of this endpoint has null somewhere too.
fn missing(recorded: &Value, found: &Value, nullable: &BTreeSet<String>) -> Vec<String> {
    let mut all = Vec::new();
    compare(recorded, found, "", nullable, &mut all);
    for key in ["error", "errors"] {
        if found.get(key).is_some() && recorded.get(key).is_none() {
            all.push(format!("/{key} is there"));
        }
    }
    all
}

fn compare(
    recorded: &Value,
    found: &Value,
    at: &str,
    nullable: &BTreeSet<String>,
    all: &mut Vec<String>,
) {
    match (recorded, found) {
        (Value::Null, _) => {}
        (recorded, Value::Null) => {
            if !nullable.contains(at) {
                all.push(format!("{at} was {recorded} and is null"));
            }
        }
        (Value::Object(recorded), Value::Object(found)) => {
            for (key, shape) in recorded {
                let at = format!("{at}/{key}");
                match found.get(key) {
                    Some(there) => compare(shape, there, &at, nullable, all),
                    None => all.push(format!("{at} is missing")),
                }
            }
        }
        (Value::Array(recorded), Value::Array(found)) => match (recorded.first(), found.first()) {
            (Some(recorded), Some(found)) => {
                compare(recorded, found, &format!("{at}/0"), nullable, all);
            }
            (Some(_), None) if !nullable.contains(&format!("{at}/0")) => {
                all.push(format!("{at} had something in it and is empty"));
            }
            _ => {}
        },
        (recorded, found) if recorded == found => {}
        (recorded, found) => all.push(format!("{at} was {recorded} and is {found}")),
    }
}

/// Where the answers of each endpoint have null, and where an empty list (path with `/0`), in at
/// least one recorded answer: there it depends on the moment or on the case.
fn nullable(fixture: &Fixture) -> BTreeMap<String, BTreeSet<String>> {
    fn collect(shape: &Value, at: &str, all: &mut BTreeSet<String>) {
        match shape {
            Value::Null => {
                all.insert(at.to_owned());
            }
            Value::Array(items) => match items.first() {
                Some(item) => collect(item, &format!("{at}/0"), all),
                None => {
                    all.insert(format!("{at}/0"));
                }
            },
            Value::Object(map) => {
                for (key, value) in map {
                    collect(value, &format!("{at}/{key}"), all);
                }
            }
            _ => {}
        }
    }
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let requests = fixture.commands.iter().flat_map(|c| &c.requests);
    for recorded in requests {
        let of = all.entry(recorded.endpoint.clone()).or_default();
        collect(&fixture.shapes[recorded.shape], "", of);
    }
    all
}

fn fixture() -> Fixture {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/recorded.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

struct Replay {
    sim: Sim,
    token: String,
    client: Client<HttpConnector, Full<Bytes>>,
    variables: BTreeMap<String, String>,
}

impl Replay {
    fn filled(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in &self.variables {
            text = text.replace(&format!("{{{{{name}}}}}"), value);
        }
        text
    }

    async fn ask(&self, recorded: &Recorded) -> (u16, Value) {
        let method = recorded.endpoint.split(' ').next().unwrap();
        let mut url = format!("{}{}", self.sim.base_url(), self.filled(&recorded.path));
        if !recorded.query.is_empty() {
            url = format!("{url}?{}", self.filled(&recorded.query));
        }
        let mut request = Request::builder()
            .method(method)
            .uri(url)
            .header("authorization", &self.token);
        if let Some(nonce) = &recorded.nonce {
            request = request.header("fly-machine-lease-nonce", self.filled(nonce));
        }
        let body = match &recorded.body {
            Value::Null => String::new(),
            body => self.filled(&body.to_string()),
        };
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(Full::from(body)).unwrap();
        let response = self.client.request(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, fly_sim::record::value(&bytes))
    }

    /// Asks until the answer is as it was. A look may come too early here, and so may a change
    /// that is refused because a machine is not in the right state yet: it has had no effect.
    async fn again(
        &mut self,
        recorded: &Recorded,
        shape: &Value,
        nullable: &BTreeSet<String>,
    ) -> Result<(), String> {
        let started = Instant::now();
        loop {
            let (status, answer) = self.ask(recorded).await;
            // A lease ends with its machine: whether it is still there to be given back depends on
            // the moment, and flyctl does not mind.
            if recorded.endpoint == RELEASE && matches!(status, 200 | 404) {
                return Ok(());
            }
            let mut wrong = missing(shape, &shape::of(&answer), nullable);
            if status != recorded.status {
                wrong.push(format!("status was {} and is {status}", recorded.status));
            }
            for (pointer, name) in &recorded.learn {
                match answer.pointer(pointer).and_then(Value::as_str) {
                    Some(value) => {
                        self.variables.insert(name.clone(), value.to_owned());
                    }
                    None => wrong.push(format!("{pointer} is missing")),
                }
            }
            if wrong.is_empty() {
                return Ok(());
            }
            // To have a certificate checked is a look as well.
            let look = recorded.endpoint.starts_with("GET ")
                || recorded
                    .endpoint
                    .ends_with("/certificates/{hostname}/check");
            let early = look || status == 412;
            if !early || started.elapsed() > LIMIT {
                return Err(format!(
                    "{} {}: {}\nbody {}\nanswer {answer}",
                    recorded.endpoint,
                    recorded.path,
                    wrong.join(", "),
                    recorded.body,
                ));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_flyctl_asked_is_answered_as_it_was() {
    let program = Path::new(env!("CARGO_BIN_EXE_fly-sim"));
    let sim = Sim::start(world::options(program)).await.unwrap();
    let mut replay = Replay {
        token: sim.org_token().unwrap(),
        sim,
        client: Client::builder(TokioExecutor::new()).build_http(),
        variables: BTreeMap::new(),
    };
    let fixture = fixture();
    let nullable = nullable(&fixture);
    let mut asked = 0;
    for command in &fixture.commands {
        for recorded in &command.requests {
            asked += 1;
            let shape = &fixture.shapes[recorded.shape];
            let of = &nullable[&recorded.endpoint];
            if let Err(why) = replay.again(recorded, shape, of).await {
                panic!("fly {}: {why}", command.command);
            }
        }
    }
    assert!(asked > 200, "only {asked} requests are recorded");
    replay.sim.stop().await;
}

#[test]
fn a_null_and_an_empty_list_are_faults_where_the_recording_never_has_them() {
    let of = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let nullable = ["/b".to_owned(), "/d/0".to_owned()].into();
    let wrong = |recorded: &str, found: &str| missing(&of(recorded), &of(found), &nullable);
    let recorded = r#"{"a": "string", "b": "string", "c": ["string"], "d": ["string"]}"#;
    let fine = r#"{"a": "string", "b": null, "c": ["string"], "d": [], "e": "number"}"#;
    assert!(
        wrong(recorded, fine).is_empty(),
        "{:?}",
        wrong(recorded, fine)
    );
    for found in [
        r#"{"a": null, "b": null, "c": ["string"], "d": []}"#,
        r#"{"a": "string", "b": null, "c": [], "d": []}"#,
        r#"{"a": "number", "b": null, "c": ["string"], "d": []}"#,
        r#"{"b": null, "c": ["string"], "d": []}"#,
        r#"{"a": "string", "b": null, "c": ["string"], "d": [], "error": "string"}"#,
    ] {
        assert_eq!(wrong(recorded, found).len(), 1, "{found}");
    }
}

#[test]
fn the_page_says_of_every_recorded_command_whether_it_works_and_of_no_other() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/fly-simulator.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, commands) = page.split_once("## Commands").unwrap();
    let (commands, _) = commands.split_once("\n## ").unwrap();
    let rows = commands.lines().filter(|line| line.starts_with("| `"));
    let rows: Vec<&str> = rows.collect();
    let mut recorded = BTreeSet::new();
    for command in fixture().commands {
        let verdict = match (command.works, command.refused.as_str()) {
            (false, _) => "no",
            (true, "") => "yes",
            (true, _) => "refused",
        };
        let wanted = format!("| `{}` | {verdict} |", command.command);
        let at = rows.iter().position(|row| row.starts_with(&wanted));
        let at = at.unwrap_or_else(|| panic!("the page has no row {wanted}"));
        let row = rows[at];
        recorded.insert(at);
        if !command.refused.is_empty() {
            let words = row.rsplit('“').next().unwrap_or_default();
            let said = words.split('”').next().unwrap_or_default();
            assert_eq!(said, command.refused, "{row}");
        }
    }
    let others = (0..rows.len()).filter(|at| !recorded.contains(at));
    let others: Vec<&str> = others.map(|at| rows[at]).collect();
    assert!(others.is_empty(), "not recorded: {others:#?}");
}
