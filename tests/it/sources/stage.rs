//! An application with machines behind the edge, and looks at it. No Kubernetes and no operator.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper fails its test by a panic"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fly_sim::Options;
use golive::api::metrics_source::MetricsSource;
use golive::clock::ServerClock;
use golive::clock::watch::{Scale, WatchClock};
use golive::fly::{
    AddressKind, HttpOptions, Machine, MachineState, NewAddress, NewApp, NewMachine, WaitFor,
};
use golive::net::probe::{Answer, Ask, Door, Probe};
use golive::net::prometheus::{Allowance, Allowed};
use golive::net::resolve::Resolve;
use golive::phase::observe::reading::{Asked, Last, Origin, Question, Reading};
use golive::phase::observe::source::look::{Look, Terms};
use golive::phase::observe::source::whom::Whom;
use golive::plan::refs::Refs;
use golive::slo::{Cell, Selector, Source, Store, Tally};
use serde_json::json;

use crate::support::env;
use crate::support::fly::World;

pub const APP: &str = "hola-cabanas";
const HOST: &str = "hola-cabanas.fly.dev";
const LIMIT: Duration = Duration::from_secs(120);

/// Waits until the condition gives a value, or fails with what did not come.
pub async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(begun.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The application `cabanas hello` on some machines.
pub struct Stage {
    pub world: World,
    pub machines: Vec<Machine>,
    probe: Probe,
    clock: WatchClock,
    _ca: tempfile::NamedTempFile,
}

impl Stage {
    pub async fn with(machines: usize) -> Self {
        let options = Options {
            images: env::images(),
            ..Options::default()
        };
        let world = World::with(options, HttpOptions::default()).await;
        let app = NewApp {
            name: APP.into(),
            org_slug: "cabanas".into(),
            ..NewApp::default()
        };
        world.client.create_app(&app).await.unwrap();
        let address = NewAddress::anycast(AddressKind::SharedV4);
        world.client.assign_address(APP, &address).await.unwrap();
        let ca = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(ca.path(), world.sim.ca_pem()).unwrap();
        let edge = Resolve::parse(&format!("*.fly.dev:443={}", world.sim.edge())).unwrap();
        let clock = ServerClock::of_kubernetes();
        let probe = Probe::new(&[edge], Some(ca.path()), &clock).unwrap();
        let begin = clock.now();
        let mut stage = Self {
            world,
            machines: Vec::new(),
            probe,
            clock: WatchClock::new(clock, Scale::REAL, begin),
            _ca: ca,
        };
        for number in 0..machines {
            let machine = stage.machine(&format!("app-{number}")).await;
            stage.machines.push(machine);
        }
        eventually("the edge answers", async || {
            let answer = stage.get("/").await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
        stage
    }

    async fn machine(&self, name: &str) -> Machine {
        let config = json!({
            "image": "registry.fly.io/hola-cabanas:1.0.0",
            "services": [{
                "protocol": "tcp", "internal_port": 8080, "autostart": true, "autostop": "off",
                "ports": [{"port": 443, "handlers": ["tls", "http"]}],
            }],
        });
        let machine = NewMachine {
            name: name.into(),
            region: "eze".into(),
            config: serde_json::from_value(config).unwrap(),
            ..NewMachine::default()
        };
        let client = &self.world.client;
        let made = client.create_machine(APP, &machine).await.unwrap();
        let what = WaitFor {
            state: MachineState::Started,
            version: None,
            timeout: Duration::from_secs(30),
        };
        client.wait_machine(APP, &made.id, &what).await.unwrap();
        self.read(&made.id).await
    }

    /// The machine as it is now.
    pub async fn read(&self, id: &str) -> Machine {
        let machine = self.world.client.machine(APP, id).await;
        machine.unwrap().unwrap()
    }

    /// Stops a machine, and waits until it has stopped.
    pub async fn stop(&mut self, at: usize) {
        let id = self.machines[at].id.clone();
        let client = &self.world.client;
        client.stop_machine(APP, &id, None, None).await.unwrap();
        self.machines[at] = eventually("the machine has stopped", async || {
            let machine = self.read(&id).await;
            (machine.state == MachineState::Stopped).then_some(machine)
        })
        .await;
    }

    /// A guest's request.
    pub async fn get(&self, path: &str) -> Result<Answer, golive::net::probe::ProbeError> {
        let ask = Ask {
            door: Door::HTTPS,
            method: hyper::Method::GET,
            path,
            limit: 1 << 16,
            wanted: &[200],
            any_answer: false,
        };
        self.probe.request(HOST, &ask, LIMIT).await
    }

    /// So many guests, each with this status.
    pub async fn guests(&self, count: usize, kind: &str, status: u16) {
        let path = format!("/api/v1/rehearsal?kind={kind}&milliseconds=1&status={status}");
        for _ in 0..count {
            let answer = self.get(&path).await.unwrap();
            assert_eq!(answer.status, status);
        }
    }

    /// The time between two looks at a Prometheus that scrapes every second: a window needs two scrapes.
    pub async fn interval(&self) {
        self.clock.sleep(Duration::from_secs(5)).await;
    }

    /// Where the program of a machine listens.
    pub fn address(&self, at: usize) -> SocketAddr {
        let id = &self.machines[at].id;
        let ip = self
            .world
            .sim
            .core()
            .read(|world| world.apps[APP].machines[id].ip);
        (ip, 8080).into()
    }

    /// A look at these machines, which may ask these Prometheus servers.
    pub async fn look(
        &self,
        machines: &[Machine],
        (source, questions): (&MetricsSource, &[Question]),
        allowed: &[&str],
        last: Last,
    ) -> Reading {
        let allowed = allowed.iter().map(|flag| Allowance::parse(flag).unwrap());
        let whom = Whom {
            probe: self.probe.clone(),
            fly: self.world.client.clone(),
            organization: "cabanas".to_owned(),
            app: APP.to_owned(),
            namespace: "shop".to_owned(),
            activation: "hola".to_owned(),
            refs: Arc::new(Refs::default()),
            allowed: Allowed::new(allowed.collect()),
            clock: ServerClock::of_kubernetes(),
        };
        let terms = Terms {
            asked: asked(source, questions),
            source: source.clone(),
            clock: self.clock.clone(),
            gap_after: Duration::from_secs(300),
            release: 1,
        };
        Look::of(&whom, terms, machines).make(last).await
    }
}

pub fn asked(source: &MetricsSource, questions: &[Question]) -> Asked {
    Asked {
        origin: Origin::of(source),
        questions: questions.to_vec(),
    }
}

/// The requests of guests, and which of them failed.
pub fn requests() -> Question {
    Question::Metric {
        source: Source::Counter {
            metric: "http_requests_total".to_owned(),
            of: Selector::of([("route", "/api/v1/rehearsal")]).unwrap(),
            bad: Selector::of([("status", "5..")]).unwrap(),
        },
        below: None,
    }
}

/// How long those of a kind took.
pub fn times(kind: &str) -> Question {
    Question::Metric {
        source: Source::Histogram {
            metric: "http_request_duration_seconds".to_owned(),
            of: Selector::of([("kind", kind), ("route", "/api/v1/rehearsal")]).unwrap(),
        },
        below: Some(3.0),
    }
}

/// A store for what looks find, as the watch has one.
pub struct Figures {
    store: Store,
    asked: Asked,
}

impl Figures {
    pub fn new(source: &MetricsSource, questions: &[Question]) -> Self {
        let asked = asked(source, questions);
        let store = Store::new(0, asked.kinds(), 300_000);
        Self { store, asked }
    }

    /// What a look adds, by the number of the objective.
    pub fn add(&mut self, reading: Reading) -> BTreeMap<usize, Cell> {
        let sources = self.asked.sources();
        let at = reading.at.as_millisecond();
        let tracker = self.store.tracker();
        let round = tracker.observe(&sources, at, reading.expected, reading.pages);
        let cells = round.unwrap().cells.into_iter().enumerate();
        let mut cells: BTreeMap<usize, Cell> = cells.collect();
        cells.extend(reading.cells);
        let pushed = self.store.push(at, cells.values().cloned().collect());
        pushed.unwrap();
        cells
    }
}

/// All events of a cell, and the bad ones.
pub fn events(cell: &Cell) -> (f64, f64) {
    match &cell.tally {
        Some(Tally::Events { total, bad }) => (*total, *bad),
        None => (0.0, 0.0),
        Some(other) => panic!("no events: {other:?}"),
    }
}
