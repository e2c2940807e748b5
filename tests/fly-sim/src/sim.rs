//! The handle of a running simulator.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::ca::CaError;
use crate::core::{Addresses, Core, Shared};
use crate::fault::Fault;
use crate::hook::{Action, Pause, Point};
use crate::ledger::{Call, Effect, Entry};
use crate::machine::Command;
use crate::mixture::Mixture;
use crate::options::Options;
use crate::record::Exchange;
use crate::state::{Org, Scope, Token, World};
use crate::{agent, control, edge, http, id, platform, prometheus, serve};

/// Why a simulator did not start.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// A port.
    #[error("listen on {address}: choose another port")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The directory.
    #[error("prepare {path}: check that it can be written")]
    Dir {
        /// Which.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The certificate authority.
    #[error("make the certificate authority")]
    Ca(#[from] CaError),
    /// The platform side.
    #[error("start the platform side: {0}")]
    Platform(String),
}

/// A running simulator. It ends, with all its machines, when this is dropped.
#[derive(Debug)]
pub struct Sim {
    core: Shared,
    addresses: Addresses,
    _dir: Option<TempDir>,
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), SimError> {
    let error = |source| SimError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(error)?;
    let bound = listener.local_addr().map_err(error)?;
    Ok((listener, bound))
}

/// A loopback address that machines do not get, different for each simulator of this host.
fn edge_ip() -> std::net::Ipv4Addr {
    let [b, c, d] = rand::random::<[u8; 3]>();
    std::net::Ipv4Addr::new(127, 2 + b % 14, c, 1 + d % 254)
}

fn world(options: &Options) -> World {
    let mut world = World::default();
    for seed in &options.orgs {
        let number = world.number();
        world.orgs.insert(
            seed.slug.clone(),
            Org {
                id: format!("org-{}", id::short(12)),
                internal_numeric_id: 1_000 + number,
                slug: seed.slug.clone(),
                name: seed.slug.clone(),
                billing_status: "CURRENT".to_owned(),
                machine_limit: None,
            },
        );
        world.tokens.insert(
            seed.token.clone(),
            Token {
                id: id::short(16),
                name: format!("{} organization token", seed.slug),
                org_slug: seed.slug.clone(),
                scope: Scope::Org,
                expires_at: None,
                revoked: false,
            },
        );
    }
    world
}

impl Sim {
    /// Starts one. Everything listens when this returns.
    pub async fn start(mut options: Options) -> Result<Self, SimError> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        options.images = options.images.on_top_of(platform::builtin_images());
        let (temporary, dir) = match &options.dir {
            Some(dir) => (None, dir.clone()),
            None => {
                let temporary = TempDir::with_prefix("fly-sim-").map_err(|source| {
                    let path = std::env::temp_dir();
                    SimError::Dir { path, source }
                })?;
                let dir = temporary.path().to_owned();
                (Some(temporary), dir)
            }
        };
        std::fs::create_dir_all(&dir).map_err(|source| SimError::Dir {
            path: dir.clone(),
            source,
        })?;
        let (api, api_address) = listen(options.listen).await?;
        let (control, control_address) = listen(options.control_listen).await?;
        let (edge, edge_address) = listen(options.edge_listen).await?;
        let addresses = Addresses {
            api: api_address,
            control: control_address,
            edge: edge_address,
            edge_ip: edge_ip(),
        };
        let world = world(&options);
        let core = Arc::new(Core::new(options, dir, world)?);
        let _ = core.addresses.set(addresses);
        platform::start(&core).await?;

        let shutdown = core.shutdown.clone();
        core.spawn(serve::accept(
            api,
            http::router(Arc::clone(&core)),
            shutdown.clone(),
        ));
        core.spawn(serve::accept(
            control,
            control::router(Arc::clone(&core)),
            shutdown,
        ));
        core.spawn(edge::serve(Arc::clone(&core), edge));
        core.spawn(prometheus::run(Arc::clone(&core)));
        if core.options.agent {
            let path = core.flyctl_dir().join(agent::SOCKET);
            match agent::listen(&path) {
                Ok(listener) => core.spawn(agent::serve(Arc::clone(&core), listener)),
                // The path of a socket may be too long. All else works without it.
                Err(error) => {
                    tracing::warn!(%error, path = %path.display(), "flyctl finds no agent here");
                }
            }
        }
        Ok(Self {
            core,
            addresses,
            _dir: temporary,
        })
    }

    /// Base URL of all of Fly's HTTP surfaces: Machines API, GraphQL, ui-ex, registry.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.addresses.api)
    }

    /// Base URL of control and ledger.
    pub fn control_url(&self) -> String {
        format!("http://{}", self.addresses.control)
    }

    /// Where the TLS edge listens; hostnames are told apart by SNI.
    pub fn edge(&self) -> SocketAddr {
        self.addresses.edge
    }

    /// The loopback address where all public TCP ports of services are open, under their own numbers.
    pub fn edge_ip(&self) -> std::net::Ipv4Addr {
        self.addresses.edge_ip
    }

    /// The certificate of the edge's authority.
    pub fn ca_pem(&self) -> String {
        self.core.ca.pem()
    }

    /// The seeded token of an organization.
    pub fn token(&self, org: &str) -> Option<String> {
        self.core
            .options
            .orgs
            .iter()
            .find(|seed| seed.slug == org)
            .map(|seed| seed.token.clone())
    }

    /// A new token for all of the first organization, in the form that flyctl wants: it refuses
    /// to manage databases with a token that is no macaroon.
    pub fn org_token(&self) -> Option<String> {
        let org = self.core.options.orgs.first()?.slug.clone();
        let name = "organization token";
        let issued = self
            .core
            .write(|world| crate::platform::tokens::issue(world, &org, Scope::Org, name, None));
        Some(format!("FlyV1 {}", issued.ok()?.1))
    }

    /// Everything inside, for what has no method here.
    pub fn core(&self) -> &Shared {
        &self.core
    }

    /// Where files are.
    pub fn dir(&self) -> &Path {
        &self.core.dir
    }

    /// Adds a fault to the plan.
    pub fn fault(&self, fault: Fault) {
        self.core.plan(fault);
    }

    /// Lets calls go wrong at random from now on; `None` ends it.
    pub fn mix(&self, mixture: Option<Mixture>) {
        self.core.faults.mix(mixture);
    }

    /// How many calls a mixture has hit so far, by kind. Ending it forgets nothing.
    pub fn mixed(&self) -> BTreeMap<String, u64> {
        self.core.faults.mixed()
    }

    /// Removes all faults.
    pub fn clear_faults(&self) {
        self.core.faults.clear();
    }

    /// All effects so far, in logical time.
    pub fn ledger(&self) -> Vec<Effect> {
        self.core.ledger.effects()
    }

    /// All that happened since the start, with its time: the effects, the starts of machines, the
    /// results of their checks and how the edge answered. `reset` does not shorten it.
    pub fn journal(&self) -> Vec<Entry> {
        self.core.ledger.journal()
    }

    /// How many calls an endpoint got: `POST /v1/apps/{app}/machines`.
    pub fn calls(&self, endpoint: &str) -> u64 {
        self.core
            .ledger
            .counts()
            .get(endpoint)
            .copied()
            .unwrap_or_default()
    }

    /// How many calls each endpoint got.
    pub fn call_counts(&self) -> BTreeMap<String, u64> {
        self.core.ledger.counts()
    }

    /// The calls themselves, oldest first.
    pub fn call_list(&self) -> Vec<Call> {
        self.core.ledger.calls()
    }

    /// Milliseconds since the simulator started, as in `Call.at_ms`.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.core.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Requests and answers since the last call of this, word for word; empty unless
    /// `Options.record` is set.
    pub fn take_exchanges(&self) -> Vec<Exchange> {
        self.core.recorder.take()
    }

    /// Number of mutating calls since the start or the last reset.
    pub fn mutations(&self) -> u64 {
        self.core.ledger.mutations()
    }

    /// Forgets calls, effects, faults and hooks; numbers start from 1 again. The world stays.
    pub fn reset(&self) {
        self.core.ledger.clear();
        self.core.faults.clear();
        self.core.hooks.clear();
    }

    /// Runs an action at a point of the k-th mutating call (from 1, since start or reset). The
    /// call goes on when the action's future is done.
    pub fn on_mutation(&self, k: u64, point: Point, action: Action) {
        self.core.hooks.set(k, point, action);
    }

    /// Holds the k-th mutating call at a point until the pause is resumed or dropped.
    pub fn pause_at(&self, k: u64, point: Point) -> Pause {
        let (pause, action) = Pause::new();
        self.core.hooks.set(k, point, action);
        pause
    }

    /// Revokes a token, or all.
    pub fn revoke(&self, token: Option<&str>) {
        self.core.set_revoked(token, true);
    }

    /// Gives a token back, or all.
    pub fn unrevoke(&self, token: Option<&str>) {
        self.core.set_revoked(token, false);
    }

    /// The live machines of an app as the API lists them.
    pub fn machines(&self, app: &str) -> Vec<Value> {
        match crate::machine::list_of(&self.core, app) {
            Value::Array(machines) => machines,
            _ => Vec::new(),
        }
    }

    /// Kills a machine's program as the kernel does when memory has run out; says whether there
    /// is such a machine.
    pub fn out_of_memory(&self, app: &str, id: &str) -> bool {
        self.tell(app, id, Command::OutOfMemory)
    }

    /// Kills a machine's program as if it had crashed; says whether there is such a machine.
    pub fn kill(&self, app: &str, id: &str) -> bool {
        self.tell(app, id, Command::Signal(nix::sys::signal::Signal::SIGKILL))
    }

    fn tell(&self, app: &str, id: &str, command: Command) -> bool {
        let told = self.core.read(|world| {
            world.apps.get(app)?.machines.get(id)?.send(command);
            Some(())
        });
        told.is_some()
    }

    /// Names of all apps.
    pub fn apps(&self) -> Vec<String> {
        self.core.read(|world| world.apps.keys().cloned().collect())
    }

    /// Ends it and waits until its machines have gone.
    pub async fn stop(self) {
        self.core.shutdown.cancel();
        self.core.tasks.close();
        self.core.tasks.wait().await;
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.core.shutdown.cancel();
    }
}

impl Core {
    /// What `FLY_CONFIG_DIR` has to be for flyctl to find its agent here.
    pub fn flyctl_dir(&self) -> std::path::PathBuf {
        self.dir.join("flyctl")
    }

    /// Revokes a token or all of them, or gives them back; says how many changed.
    pub fn set_revoked(&self, token: Option<&str>, revoked: bool) -> usize {
        self.write(|world| {
            let mut changed = 0;
            for (text, entry) in &mut world.tokens {
                if token.is_none_or(|wanted| wanted == text) && entry.revoked != revoked {
                    entry.revoked = revoked;
                    changed += 1;
                }
            }
            changed
        })
    }
}
