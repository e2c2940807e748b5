//! The platform side: secrets, addresses, certificates, releases, databases, GraphQL, registry.
//!
//! The machines side needs little of it: what a machine gets at boot, where the edge answers,
//! and for whom. These are the functions of this file.

pub mod addons;
pub mod addresses;
pub mod certificates;
pub mod clusters;
pub mod control;
pub mod flex;
pub mod gql;
pub mod graph;
pub mod graph_addons;
pub mod graph_app;
pub mod graph_mutation;
pub mod hosts;
pub mod macaroon;
pub mod mpg;
pub mod mpg_public;
pub mod orgs;
pub mod pgproxy;
pub mod postgres;
pub mod private;
pub mod regions;
pub mod registry;
pub mod releases;
pub mod secrets;
pub mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use axum::Router;
use jiff::Timestamp;
use rand::RngExt;

use crate::core::{Core, Shared};
use crate::images::Image;
use crate::machine::{BootEnv, ExecRequest, ExecResult};
use postgres::{Backend, DatabaseError};

/// Name in `images.toml` of a program that does nothing.
pub const IDLE: &str = "idle";

/// The region nearest to every caller here.
pub const NEAREST: &str = "eze";

/// Settings of the platform side.
#[derive(Clone, Debug, Default)]
pub struct PlatformOptions {
    /// Connection string of a superuser of a PostgreSQL server that runs already. Without it one
    /// is started when the first database is wanted, and shared by all simulators of the process.
    pub postgres_url: Option<String>,
    /// Whether DNS of every hostname points here from the start, so that certificates are issued
    /// without a control call.
    pub certificates_auto: bool,
}

/// State of the platform side that belongs to no app.
#[derive(Debug)]
pub struct Platform {
    /// Signs macaroons.
    pub key: [u8; 32],
    /// All regions.
    pub regions: Vec<regions::Region>,
    /// Managed Postgres clusters by id, deleted ones included.
    pub clusters: BTreeMap<String, clusters::Cluster>,
    /// So many clusters that become ready next fail instead.
    pub postgres_failures: u32,
    /// Clusters do not become ready while this is true.
    pub postgres_hold: bool,
    /// Of legacy Fly Postgres: the machine that takes the writes, by the app's number.
    pub primaries: BTreeMap<u64, String>,
    /// `registry/repository`, `registry/repository:tag` or digests that cannot be pulled.
    pub removed_images: BTreeSet<String>,
    /// Tags that were added or moved: `registry/repository:tag`, and the one that it stands for.
    pub moved_tags: BTreeMap<String, String>,
    /// Who may read the images of other registries that not everybody may: `registry/repository`.
    pub private_images: BTreeMap<String, private::Private>,
    /// Add-ons by name.
    pub add_ons: BTreeMap<String, addons::AddOn>,
    /// Tells the names of this simulator on a shared database server from those of others.
    pub salt: String,
    /// Servers behind it.
    pub runtime: Arc<Runtime>,
}

impl Default for Platform {
    fn default() -> Self {
        Self {
            key: rand::rng().random(),
            regions: regions::table(),
            clusters: BTreeMap::new(),
            postgres_failures: 0,
            postgres_hold: false,
            primaries: BTreeMap::new(),
            removed_images: BTreeSet::new(),
            moved_tags: BTreeMap::new(),
            private_images: BTreeMap::new(),
            add_ons: BTreeMap::new(),
            salt: crate::id::short(6),
            runtime: Arc::default(),
        }
    }
}

/// Real servers of one simulator.
#[derive(Debug, Default)]
pub struct Runtime {
    /// The database server that was given in the options.
    given: Arc<Backend>,
}

/// One database server for all simulators of a process: starting one takes a second. It ends with
/// the process.
static SHARED: LazyLock<Arc<Backend>> = LazyLock::new(Arc::default);

/// The server behind all simulated databases, started if it does not run, and where it listens.
pub async fn backend(core: &Core) -> Result<(Arc<Backend>, SocketAddr), DatabaseError> {
    let given = core.options.platform.postgres_url.as_deref();
    let backend = match given {
        Some(_) => core.read(|world| Arc::clone(&world.platform.runtime.given)),
        None => Arc::clone(&SHARED),
    };
    let address = backend.start(&core.dir, given).await?;
    Ok((backend, address))
}

/// The same server, if it was ever started.
pub fn started_backend(core: &Core) -> Option<Arc<Backend>> {
    let backend = match core.options.platform.postgres_url {
        Some(_) => core.read(|world| Arc::clone(&world.platform.runtime.given)),
        None => Arc::clone(&SHARED),
    };
    backend.is_started().then_some(backend)
}

/// Images of Docker Hub that the platform itself needs; `images.toml` may replace them.
pub fn builtin_images() -> Vec<Image> {
    let mut flex = Image::new("flyio/postgres-flex", "postgres-flex")
        .label("fly.version", "v0.1.0")
        .label("fly.app_role", "postgres_cluster")
        .label("fly.pg-manager", "repmgr")
        .label("fly.pg-version", "17.2");
    flex.tag = Some("17.2".to_owned());
    flex.program = None;
    flex.builtin = Some(flex::BUILTIN.to_owned());
    vec![flex]
}

/// State of the platform side within one app.
#[derive(Debug, Default)]
pub struct AppPlatform {
    /// Secrets.
    pub secrets: secrets::Secrets,
    /// Addresses, oldest first.
    pub addresses: Vec<addresses::Address>,
    /// Certificates by hostname.
    pub certificates: BTreeMap<String, certificates::Certificate>,
    /// Releases, oldest first.
    pub releases: Vec<releases::Release>,
    /// Legacy Postgres clusters that the app uses.
    pub postgres_attachments: Vec<graph_mutation::Attachment>,
    /// Id of the lock that is held on the app.
    pub lock: Option<String>,
}

impl AppPlatform {
    /// The secrets that a machine which boots now sees.
    pub fn boot_secrets(&self) -> BTreeMap<String, String> {
        self.secrets.visible(Timestamp::now()).1
    }

    /// The newest secrets version that a host sees now (`min_secrets_version`).
    pub fn secrets_version(&self) -> u64 {
        self.secrets.visible(Timestamp::now()).0
    }

    /// Whether the edge answers for the app at all: it has a public address.
    pub fn has_public_address(&self) -> bool {
        self.addresses
            .iter()
            .any(|address| address.kind.is_public())
    }

    /// Whether it has an address of its own, which also carries ports that are told apart by nothing
    /// but the address (fly.io/docs/networking/services, "Shared IPv4").
    pub fn has_own_address(&self) -> bool {
        let own = [addresses::Type::V4, addresses::Type::V6];
        self.addresses
            .iter()
            .any(|address| own.contains(&address.kind))
    }

    /// Hostnames besides `<app>.fly.dev` whose certificate is active.
    pub fn active_hostnames(&self) -> Vec<String> {
        self.certificates
            .values()
            .filter(|certificate| certificate.is_active())
            .map(|certificate| certificate.hostname.clone())
            .collect()
    }
}

/// All routes of the platform side.
pub fn router() -> Router<Shared> {
    Router::new()
        .merge(secrets::router())
        .merge(addresses::router())
        .merge(certificates::router())
        .merge(tokens::router())
        .merge(regions::router())
        .merge(orgs::router())
        .merge(releases::router())
        .merge(mpg::router())
        .merge(mpg_public::router())
        .merge(registry::router())
        .merge(graph::router())
}

/// Called once when the simulator has its addresses and before it answers.
pub async fn start(_core: &Shared) -> Result<(), crate::SimError> {
    Ok(())
}

/// For GraphQL: the root field of the operation (`createAddOn`) and whether it may change
/// something. `None` if the body is no GraphQL request.
pub fn graphql_operation(body: &[u8]) -> Option<(String, bool)> {
    gql::operation(body)
}

/// Runs an image that has `builtin = "name"` inside the simulator, until the machine stops, when
/// the future is dropped. Its value is the exit code.
pub async fn builtin(core: Shared, name: String, boot: BootEnv) -> i32 {
    match name.as_str() {
        flex::BUILTIN => flex::run(core, boot).await,
        // It does nothing, whatever it is told to run; as a release command it is done at once.
        IDLE if boot.env.contains_key("RELEASE_COMMAND") => 0,
        IDLE => std::future::pending().await,
        _ => 127,
    }
}

/// `exec` in a machine that runs a built-in image.
pub async fn builtin_exec(
    core: Shared,
    name: String,
    boot: BootEnv,
    request: ExecRequest,
) -> Option<ExecResult> {
    match name.as_str() {
        flex::BUILTIN => flex::exec(&core, boot, &request).await,
        _ => None,
    }
}

/// Called when an app has been deleted: what else goes with it.
pub fn app_deleted(core: &Core, app: &crate::state::App) {
    core.write(|world| {
        for cluster in world.platform.clusters.values_mut() {
            cluster.attachments.remove(&app.name);
        }
    });
    flex::forget(core, app);
}

/// Somebody revokes the token of this name at a console.
fn revoke_token(core: &Shared, name: &str) -> bool {
    core.write(|world| {
        let mut tokens = world.tokens.values_mut();
        let found = tokens.find(|token| token.name == name && !token.revoked);
        found.map(|token| token.revoked = true).is_some()
    })
}

/// Somebody deletes something of the platform side in an app: `secrets`, `addresses`,
/// `certificates`, `releases`; or, of any app, `cluster:<id>` or `redis:<name>`. Says whether there
/// was anything.
pub async fn external_deletion(core: &Shared, app: &str, target: &str) -> bool {
    if let Some(id) = target.strip_prefix("cluster:") {
        let found = core.read(|world| world.platform.clusters.get(id).cloned());
        if let Some(cluster) = &found {
            clusters::delete(core, crate::core::CallId(None), cluster);
        }
        return found.is_some();
    }
    if let Some(name) = target.strip_prefix("redis:") {
        return addons::remove(core, crate::core::CallId(None), name).await;
    }
    if let Some(name) = target.strip_prefix("token:") {
        return revoke_token(core, name);
    }
    if let Some(user) = target.strip_prefix("postgres-user:") {
        return clusters::external_drop(core, user, clusters::Part::User).await;
    }
    if let Some(database) = target.strip_prefix("postgres-database:") {
        return clusters::external_drop(core, database, clusters::Part::Database).await;
    }
    core.write(|world| {
        let Some(app) = world.apps.get_mut(app) else {
            return false;
        };
        let platform = &mut app.platform;
        match target {
            "secrets" => platform.secrets.clear(Timestamp::now()),
            "addresses" => !std::mem::take(&mut platform.addresses).is_empty(),
            "certificates" => !std::mem::take(&mut platform.certificates).is_empty(),
            "releases" => !std::mem::take(&mut platform.releases).is_empty(),
            _ => false,
        }
    })
}
