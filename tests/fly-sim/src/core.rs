//! What all parts of one simulator share.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ca::{Ca, CaError};
use crate::edge::metrics::EdgeMetrics;
use crate::fault::{Fault, Faults, Kind};
use crate::hook::Hooks;
use crate::ledger::{Effect, Ledger};
use crate::limit::Limits;
use crate::logs::Logs;
use crate::options::Options;
use crate::prometheus::History;
use crate::record::Recorder;
use crate::state::World;

/// The state of axum's routers.
pub type Shared = Arc<Core>;

/// Where everything listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// All of Fly's HTTP surfaces.
    pub api: SocketAddr,
    /// Control and ledger.
    pub control: SocketAddr,
    /// The TLS edge.
    pub edge: SocketAddr,
    /// A loopback address of its own, where all public TCP ports of services are open.
    pub edge_ip: std::net::Ipv4Addr,
}

/// One simulated Fly.io.
#[derive(Debug)]
pub struct Core {
    /// What it was started with.
    pub options: Options,
    /// Where files go.
    pub dir: PathBuf,
    /// Every call and effect.
    pub ledger: Ledger,
    /// What goes wrong, when.
    pub faults: Faults,
    /// Fly's rate limits.
    pub limits: Limits,
    /// What the edge has seen.
    pub edge: EdgeMetrics,
    /// What the hosted Prometheus has scraped.
    pub history: History,
    /// What machines print.
    pub logs: Logs,
    /// What clients asked and were answered, when that is asked for.
    pub recorder: Recorder,
    /// Signs what the edge serves.
    pub ca: Arc<Ca>,
    /// Where a test stops the world.
    pub hooks: Hooks,
    /// Ends all tasks.
    pub shutdown: CancellationToken,
    /// All tasks.
    pub tasks: TaskTracker,
    pub(crate) addresses: OnceLock<Addresses>,
    pub(crate) started: Instant,
    world: Mutex<World>,
    changed: watch::Sender<u64>,
}

/// The call that a handler works for; an extension of the request.
#[derive(Clone, Copy, Debug, Default)]
pub struct CallId(pub Option<u64>);

impl Core {
    pub(crate) fn new(options: Options, dir: PathBuf, world: World) -> Result<Self, CaError> {
        Ok(Self {
            ca: Arc::new(Ca::new()?),
            edge: EdgeMetrics::default(),
            history: History::default(),
            logs: Logs::default(),
            recorder: Recorder::default(),
            limits: Limits::new(options.rate_limits),
            options,
            dir,
            ledger: Ledger::default(),
            faults: Faults::default(),
            hooks: Hooks::default(),
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
            addresses: OnceLock::new(),
            started: Instant::now(),
            world: Mutex::new(world),
            changed: watch::Sender::new(0),
        })
    }

    /// Looks at the world. Keep it short: there is one lock.
    pub fn read<T>(&self, f: impl FnOnce(&World) -> T) -> T {
        f(&self.world.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the world, and wakes whoever waits for a change.
    pub fn write<T>(&self, f: impl FnOnce(&mut World) -> T) -> T {
        let value = f(&mut self.world.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_modify(|version| *version += 1);
        value
    }

    /// Adds a fault to the plan. A stale list needs what is listed now.
    pub fn plan(&self, fault: Fault) {
        if matches!(fault.kind, Kind::StaleList { .. }) {
            let apps: Vec<String> = self.read(|world| world.apps.keys().cloned().collect());
            for app in apps {
                self.faults
                    .begin_history(&app, crate::machine::list_of(self, &app));
            }
        }
        self.faults.add(fault);
    }

    /// Notes that the edge has sent a machine a request; wakes nobody.
    pub(crate) fn touch(&self, app: &str, id: &str) {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        let machine = world
            .apps
            .get_mut(app)
            .and_then(|app| app.machines.get_mut(id));
        if let Some(machine) = machine {
            machine.last_request = Instant::now();
        }
    }

    /// Fires after every change of the world.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Records what a call, or the platform by itself, has changed.
    #[expect(
        clippy::too_many_arguments,
        reason = "one line of the ledger, field by field"
    )]
    pub fn effect(
        &self,
        call: CallId,
        kind: &str,
        app: Option<&str>,
        id: &str,
        name: &str,
        owner: BTreeMap<String, String>,
        detail: Value,
    ) {
        self.ledger.effect(Effect {
            seq: 0,
            call: call.0,
            kind: kind.to_owned(),
            app: app.map(str::to_owned),
            id: id.to_owned(),
            name: name.to_owned(),
            owner,
            detail,
        });
    }

    /// Notes in the journal what a machine does by itself, and that nobody counts as an effect.
    pub fn note(&self, kind: &str, app: &str, id: &str, detail: Value) {
        self.ledger.note(Effect {
            seq: 0,
            call: None,
            kind: kind.to_owned(),
            app: Some(app.to_owned()),
            id: id.to_owned(),
            name: String::new(),
            owner: BTreeMap::new(),
            detail,
        });
    }

    /// Where everything listens; `None` only while starting.
    pub fn addresses(&self) -> Option<Addresses> {
        self.addresses.get().copied()
    }

    /// Runs something in the background until it is done or the simulator ends.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = future => {}
            }
        });
    }
}
