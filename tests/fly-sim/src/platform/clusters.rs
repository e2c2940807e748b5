//! Managed Postgres clusters: their life, and the real roles and databases behind them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::StatusCode;
use jiff::Timestamp;
use serde_json::json;

use crate::core::{CallId, Core, Shared};
use crate::error::{FlyError, FlyResult};
use crate::id;
use crate::platform::orgs::check_billing;
use crate::platform::pgproxy::Proxy;
use crate::platform::postgres::{DatabaseError, Right};
use crate::state::{Caller, Scope};

/// The user and the database that every cluster has from the start.
pub const FIRST_USER: &str = "fly-user";
/// The database that every cluster has from the start.
pub const FIRST_DATABASE: &str = "fly-db";

/// Names that Fly keeps for itself.
const RESERVED: &[&str] = &[
    "postgres",
    "repmgr",
    "flypgadmin",
    "pgbouncer",
    "template0",
    "template1",
];

/// A size of cluster. Source: flyctl, internal/command/mpg/plans.go.
#[derive(Debug)]
pub struct Plan {
    /// Name, lower case.
    pub name: &'static str,
    /// CPUs.
    pub cpus: u32,
    /// `shared` or `performance`.
    pub cpu_kind: &'static str,
    /// Memory in MB.
    pub memory_mb: u32,
}

/// All plans.
pub const PLANS: &[Plan] = &[
    Plan {
        name: "basic",
        cpus: 2,
        cpu_kind: "shared",
        memory_mb: 1_024,
    },
    Plan {
        name: "starter",
        cpus: 2,
        cpu_kind: "shared",
        memory_mb: 2_048,
    },
    Plan {
        name: "launch",
        cpus: 2,
        cpu_kind: "performance",
        memory_mb: 8_192,
    },
    Plan {
        name: "scale",
        cpus: 4,
        cpu_kind: "performance",
        memory_mb: 33_792,
    },
    Plan {
        name: "performance",
        cpus: 8,
        cpu_kind: "performance",
        memory_mb: 65_536,
    },
];

/// Where a cluster is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Asked for.
    Creating,
    /// Its servers start.
    Initializing,
    /// It answers.
    Ready,
    /// It will never be ready.
    Failed,
    /// It goes.
    Deleting,
    /// It has gone.
    Deleted,
}

impl Status {
    /// The word of the Machines API.
    pub fn word(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Initializing => "initializing",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Deleting => "deleting",
            Self::Deleted => "deleted",
        }
    }

    /// The word of the ui-ex API, where a failed cluster is an error.
    pub fn ui_word(self) -> &'static str {
        match self {
            Self::Failed => "error",
            other => other.word(),
        }
    }
}

/// A user of a cluster.
#[derive(Clone)]
pub struct User {
    /// Its password.
    pub password: String,
    /// What it may do.
    pub right: Right,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User")
            .field("right", &self.right)
            .finish_non_exhaustive()
    }
}

/// An app that uses a cluster. Attaching sets no secret.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// Opaque number.
    pub id: u64,
    /// When.
    pub attached_at: Timestamp,
}

/// A backup.
#[derive(Clone, Debug)]
pub struct Backup {
    /// Opaque id.
    pub id: String,
    /// `full`, `incr`, `diff`.
    pub kind: String,
    /// When.
    pub at: Timestamp,
}

/// A cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// 16 letters and digits.
    pub id: String,
    /// Not unique.
    pub name: String,
    /// Owner.
    pub org_slug: String,
    /// Region.
    pub region: String,
    /// Size.
    pub plan: &'static Plan,
    /// Disk in GB.
    pub disk_gb: u64,
    /// What was asked for; the real server is of one version.
    pub pg_major_version: String,
    /// Asked for.
    pub postgis: bool,
    /// State.
    pub status: Status,
    /// When.
    pub created_at: Timestamp,
    /// Of its names on the real server.
    pub prefix: String,
    /// By name.
    pub users: BTreeMap<String, User>,
    /// Names.
    pub databases: Vec<String>,
    /// By app name.
    pub attachments: BTreeMap<String, Attachment>,
    /// Newest last.
    pub backups: Vec<Backup>,
    /// Where clients connect; absent until it is ready.
    pub proxy: Option<Arc<Proxy>>,
}

impl Cluster {
    /// Host and port for clients.
    pub fn address(&self) -> Option<SocketAddr> {
        self.proxy.as_ref().map(|proxy| proxy.address())
    }

    /// Connection string of a user for a database; none until it is ready.
    pub fn url(&self, user: &str, database: &str) -> Option<String> {
        let password = &self.users.get(user)?.password;
        let address = self.address()?;
        Some(format!(
            "postgresql://{user}:{password}@{address}/{database}"
        ))
    }
}

/// What a new cluster is to be.
#[derive(Debug)]
pub struct Wanted {
    /// Name.
    pub name: String,
    /// Organization.
    pub org_slug: String,
    /// Region.
    pub region: String,
    /// Plan.
    pub plan: String,
    /// Disk in GB.
    pub disk_gb: u64,
    /// `16`, ...
    pub pg_major_version: String,
    /// With PostGIS.
    pub postgis: bool,
}

/// Finds a cluster that the caller may see. Deleted ones only if wanted.
pub fn find(core: &Core, caller: &Caller, id: &str, deleted: bool) -> FlyResult<Cluster> {
    core.read(|world| {
        world
            .platform
            .clusters
            .get(id)
            .filter(|cluster| caller.tokens.iter().any(|t| t.org_slug == cluster.org_slug))
            .filter(|cluster| deleted || cluster.status != Status::Deleted)
            .cloned()
            .ok_or_else(|| FlyError::not_found(format!("Cluster {id} not found")))
    })
}

/// Finds a cluster that the caller may change.
pub fn find_to_change(core: &Core, caller: &Caller, id: &str) -> FlyResult<Cluster> {
    let cluster = find(core, caller, id, true)?;
    if cluster.status == Status::Deleted {
        return Err(FlyError::new(
            StatusCode::GONE,
            format!("Cluster {id} has been deleted"),
        ));
    }
    let may = caller
        .tokens
        .iter()
        .any(|token| token.org_slug == cluster.org_slug && token.scope != Scope::ReadOnly);
    if may {
        Ok(cluster)
    } else {
        Err(FlyError::forbidden(
            "unauthorized: this token may not change the cluster",
        ))
    }
}

/// Finds a cluster whose databases the caller may change now.
pub fn find_ready(core: &Core, caller: &Caller, id: &str) -> FlyResult<Cluster> {
    let cluster = find_to_change(core, caller, id)?;
    if cluster.status != Status::Ready {
        return Err(not_ready(&cluster));
    }
    Ok(cluster)
}

/// 503: the cluster's own administration does not answer.
pub fn not_ready(cluster: &Cluster) -> FlyError {
    FlyError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        format!(
            "Cluster {} is {}, not ready",
            cluster.id,
            cluster.status.word()
        ),
    )
}

/// Clusters of an organization, oldest first.
pub fn list(core: &Core, org_slug: &str, deleted: bool) -> Vec<Cluster> {
    let mut clusters: Vec<_> = core.read(|world| {
        world
            .platform
            .clusters
            .values()
            .filter(|cluster| cluster.org_slug == org_slug)
            .filter(|cluster| deleted || cluster.status != Status::Deleted)
            .cloned()
            .collect()
    });
    clusters.sort_by_key(|cluster| cluster.created_at);
    clusters
}

fn check(core: &Core, caller: &Caller, wanted: &Wanted) -> FlyResult<&'static Plan> {
    core.read(|world| {
        let org = world.org(caller, &wanted.org_slug)?;
        let may = caller
            .tokens
            .iter()
            .any(|token| token.org_slug == org.slug && token.scope == Scope::Org);
        if !may {
            return Err(FlyError::forbidden(
                "unauthorized: this token may not create clusters",
            ));
        }
        check_billing(org)?;
        let region = world.platform.known_region(&wanted.region)?;
        if !region.mpg_available || region.deprecated {
            return Err(FlyError::unprocessable(format!(
                "Validation failed: Managed Postgres is not available in region {}",
                region.code
            )));
        }
        Ok(())
    })?;
    let name_fits = (1..=63).contains(&wanted.name.len())
        && wanted
            .name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !name_fits {
        return Err(FlyError::unprocessable(
            "Validation failed: Name under 63 chars using numbers, lowercase letters and dashes",
        ));
    }
    if !(10..=1_000).contains(&wanted.disk_gb) {
        return Err(FlyError::unprocessable(
            "Validation failed: Storage must be between 10 and 1000 GB",
        ));
    }
    if !matches!(wanted.pg_major_version.as_str(), "16" | "17") {
        return Err(FlyError::unprocessable(
            "Validation failed: PG major version must be 16 or 17",
        ));
    }
    PLANS
        .iter()
        .find(|plan| plan.name == wanted.plan)
        .ok_or_else(|| {
            FlyError::unprocessable(format!(
                "Validation failed: Plan '{}' is unknown",
                wanted.plan
            ))
        })
}

/// Creates a cluster; it becomes ready in the background.
pub async fn create(
    core: &Shared,
    caller: &Caller,
    call: CallId,
    wanted: Wanted,
) -> FlyResult<Cluster> {
    let plan = check(core, caller, &wanted)?;
    core.options.latency.pause("postgres.create").await;
    let cluster = Cluster {
        id: id::short(16),
        name: wanted.name,
        org_slug: wanted.org_slug,
        region: wanted.region,
        plan,
        disk_gb: wanted.disk_gb,
        pg_major_version: wanted.pg_major_version,
        postgis: wanted.postgis,
        status: Status::Creating,
        created_at: Timestamp::now(),
        prefix: format!("m{}_", id::short(8)),
        users: BTreeMap::new(),
        databases: Vec::new(),
        attachments: BTreeMap::new(),
        backups: Vec::new(),
        proxy: None,
    };
    core.write(|world| {
        world
            .platform
            .clusters
            .insert(cluster.id.clone(), cluster.clone())
    });
    core.effect(
        call,
        "postgres.create",
        None,
        &cluster.id,
        &cluster.name,
        BTreeMap::new(),
        json!({"organization": cluster.org_slug, "region": cluster.region, "plan": plan.name}),
    );
    let (later, id) = (core.clone(), cluster.id.clone());
    core.spawn(async move {
        if let Err(error) = bring_up(&later, &id).await {
            tracing::warn!(cluster = %id, %error, "a simulated database cluster failed");
            set(&later, &id, |cluster| cluster.status = Status::Failed);
        }
    });
    Ok(cluster)
}

fn set(core: &Core, id: &str, f: impl FnOnce(&mut Cluster)) {
    core.write(|world| {
        if let Some(cluster) = world.platform.clusters.get_mut(id) {
            f(cluster);
        }
    });
}

async fn bring_up(core: &Shared, id: &str) -> Result<(), DatabaseError> {
    let started = tokio::time::Instant::now();
    let time = core.options.latency.draw("postgres.ready");
    tokio::time::sleep(time / 4).await;
    let mut prefix = None;
    set(core, id, |cluster| {
        if cluster.status == Status::Creating {
            cluster.status = Status::Initializing;
            prefix = Some(cluster.prefix.clone());
        }
    });
    let Some(prefix) = prefix else {
        return Ok(());
    };
    let password = id::short(32);
    let (backend, server) = super::backend(core).await?;
    backend.create_namespace(&prefix).await?;
    backend
        .create_user(&prefix, FIRST_USER, &password, Right::SchemaAdmin)
        .await?;
    backend.create_database(&prefix, FIRST_DATABASE).await?;
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let proxy = Proxy::start(any, prefix, server)
        .await
        .map_err(|_| DatabaseError::Address)?;
    tokio::time::sleep_until(started + time).await;

    // Control may hold clusters back, and let some fail.
    let mut changes = core.changes();
    while core.read(|world| world.platform.postgres_hold) {
        if changes.changed().await.is_err() {
            break;
        }
    }
    core.write(|world| {
        let fails = world.platform.postgres_failures > 0;
        let Some(cluster) = world.platform.clusters.get_mut(id) else {
            return;
        };
        if cluster.status != Status::Initializing {
            return;
        }
        if fails {
            world.platform.postgres_failures -= 1;
            cluster.status = Status::Failed;
            return;
        }
        cluster.users.insert(
            FIRST_USER.to_owned(),
            User {
                password,
                right: Right::SchemaAdmin,
            },
        );
        cluster.databases.push(FIRST_DATABASE.to_owned());
        cluster.proxy = Some(Arc::new(proxy));
        cluster.status = Status::Ready;
    });
    Ok(())
}

/// Deletes a cluster; its databases go in the background.
pub fn delete(core: &Shared, call: CallId, cluster: &Cluster) {
    let mut first = false;
    set(core, &cluster.id, |cluster| {
        first = !matches!(cluster.status, Status::Deleting | Status::Deleted);
        cluster.status = Status::Deleting;
        cluster.proxy = None;
    });
    if !first {
        return;
    }
    core.effect(
        call,
        "postgres.delete",
        None,
        &cluster.id,
        &cluster.name,
        BTreeMap::new(),
        serde_json::Value::Null,
    );
    let (later, id, prefix) = (core.clone(), cluster.id.clone(), cluster.prefix.clone());
    core.spawn(async move {
        if let Ok((backend, _)) = super::backend(&later).await
            && let Err(error) = backend.drop_namespace(&prefix).await
        {
            tracing::warn!(cluster = %id, %error, "cannot drop the databases of a cluster");
        }
        set(&later, &id, |cluster| cluster.status = Status::Deleted);
    });
}

fn effect(core: &Core, call: CallId, kind: &str, cluster: &Cluster, name: &str) {
    core.effect(
        call,
        kind,
        None,
        &cluster.id,
        name,
        BTreeMap::new(),
        json!({"cluster": cluster.name}),
    );
}

fn refused(error: &DatabaseError) -> FlyError {
    match error {
        DatabaseError::Name(_) => FlyError::bad_request(error.to_string()),
        error if error.exists() => FlyError::conflict(error.to_string()),
        error => FlyError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

async fn real(core: &Shared) -> FlyResult<Arc<super::postgres::Backend>> {
    super::backend(core)
        .await
        .map(|(backend, _)| backend)
        .map_err(|error| refused(&error))
}

/// Adds a user with a password of its own.
pub async fn add_user(
    core: &Shared,
    call: CallId,
    cluster: &Cluster,
    name: &str,
    right: &str,
) -> FlyResult<()> {
    if RESERVED.contains(&name) {
        return Err(FlyError::bad_request(format!(
            "username {name} is reserved"
        )));
    }
    let right = Right::parse(right).ok_or_else(|| {
        FlyError::unprocessable("role must be one of schema_admin, writer, reader")
    })?;
    if cluster.users.contains_key(name) {
        return Err(FlyError::conflict(format!("user {name} already exists")));
    }
    let password = id::short(32);
    real(core)
        .await?
        .create_user(&cluster.prefix, name, &password, right)
        .await
        .map_err(|error| refused(&error))?;
    set(core, &cluster.id, |cluster| {
        cluster
            .users
            .insert(name.to_owned(), User { password, right });
    });
    effect(core, call, "postgres.user.create", cluster, name);
    Ok(())
}

fn user<'c>(cluster: &'c Cluster, name: &str) -> FlyResult<&'c User> {
    cluster
        .users
        .get(name)
        .ok_or_else(|| FlyError::not_found(format!("user {name} not found")))
}

/// Changes what a user may do.
pub async fn set_right(
    core: &Shared,
    call: CallId,
    cluster: &Cluster,
    name: &str,
    right: &str,
) -> FlyResult<()> {
    user(cluster, name)?;
    let right = Right::parse(right).ok_or_else(|| {
        FlyError::unprocessable("role must be one of schema_admin, writer, reader")
    })?;
    real(core)
        .await?
        .set_right(&cluster.prefix, name, right)
        .await
        .map_err(|error| refused(&error))?;
    set(core, &cluster.id, |cluster| {
        if let Some(user) = cluster.users.get_mut(name) {
            user.right = right;
        }
    });
    effect(core, call, "postgres.user.update", cluster, name);
    Ok(())
}

/// Gives a user a new password and returns it.
pub async fn rotate_password(
    core: &Shared,
    call: CallId,
    cluster: &Cluster,
    name: &str,
) -> FlyResult<String> {
    user(cluster, name)?;
    let password = id::short(32);
    real(core)
        .await?
        .set_password(&cluster.prefix, name, &password)
        .await
        .map_err(|error| refused(&error))?;
    let new = password.clone();
    set(core, &cluster.id, |cluster| {
        if let Some(user) = cluster.users.get_mut(name) {
            user.password = new;
        }
    });
    effect(core, call, "postgres.user.rotate", cluster, name);
    Ok(password)
}

/// Drops a user.
pub async fn drop_user(
    core: &Shared,
    call: CallId,
    cluster: &Cluster,
    name: &str,
) -> FlyResult<()> {
    user(cluster, name)?;
    if name == FIRST_USER {
        return Err(FlyError::bad_request(format!(
            "username {name} is reserved"
        )));
    }
    real(core)
        .await?
        .drop_user(&cluster.prefix, name)
        .await
        .map_err(|error| refused(&error))?;
    set(core, &cluster.id, |cluster| {
        cluster.users.remove(name);
    });
    effect(core, call, "postgres.user.delete", cluster, name);
    Ok(())
}

/// A part of a cluster that somebody can drop.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    /// A user.
    User,
    /// A database.
    Database,
}

/// Somebody drops a user or a database in the only cluster that has one of this name. Says whether there
/// was one.
pub async fn external_drop(core: &Shared, name: &str, part: Part) -> bool {
    let found = core.read(|world| {
        let mut all = world.platform.clusters.values();
        let has = |cluster: &&Cluster| match part {
            Part::User => cluster.users.contains_key(name),
            Part::Database => cluster.databases.iter().any(|known| known == name),
        };
        all.find(has).cloned()
    });
    let Some(cluster) = found else {
        return false;
    };
    let call = CallId(None);
    let dropped = match part {
        Part::User => drop_user(core, call, &cluster, name).await,
        Part::Database => drop_database(core, call, &cluster, name).await,
    };
    dropped.is_ok()
}

/// Adds a database.
pub async fn add_database(
    core: &Shared,
    call: CallId,
    cluster: &Cluster,
    name: &str,
) -> FlyResult<()> {
    if RESERVED.contains(&name) {
        return Err(FlyError::bad_request(format!(
            "database {name} is reserved"
        )));
    }
    if cluster.databases.iter().any(|known| known == name) {
        return Err(FlyError::conflict(format!(
            "database {name} already exists"
        )));
    }
    real(core)
        .await?
        .create_database(&cluster.prefix, name)
        .await
        .map_err(|error| refused(&error))?;
    set(core, &cluster.id, |cluster| {
        cluster.databases.push(name.to_owned())
    });
    effect(core, call, "postgres.database.create", cluster, name);
    Ok(())
}

/// Drops a database.
pub async fn drop_database(
    core: &Shared,
    call: CallId,
    cluster: &Cluster,
    name: &str,
) -> FlyResult<()> {
    if !cluster.databases.iter().any(|known| known == name) {
        return Err(FlyError::not_found(format!("database {name} not found")));
    }
    real(core)
        .await?
        .drop_database(&cluster.prefix, name)
        .await
        .map_err(|error| refused(&error))?;
    set(core, &cluster.id, |cluster| {
        cluster.databases.retain(|known| known != name);
    });
    effect(core, call, "postgres.database.delete", cluster, name);
    Ok(())
}

/// Notes that an app uses the cluster; says whether that is new.
pub fn attach(
    core: &Shared,
    caller: &Caller,
    call: CallId,
    cluster: &Cluster,
    app: &str,
) -> FlyResult<(Attachment, bool)> {
    let (attachment, new) = core.write(|world| {
        world.app_mut(caller, app)?;
        let number = world.number();
        let known = world
            .platform
            .clusters
            .get_mut(&cluster.id)
            .ok_or_else(|| FlyError::not_found(format!("Cluster {} not found", cluster.id)))?;
        let new = !known.attachments.contains_key(app);
        let attachment = known
            .attachments
            .entry(app.to_owned())
            .or_insert_with(|| Attachment {
                id: number,
                attached_at: Timestamp::now(),
            });
        Ok::<_, FlyError>((attachment.clone(), new))
    })?;
    if new {
        effect(core, call, "postgres.attach", cluster, app);
    }
    Ok((attachment, new))
}

/// Forgets that an app uses the cluster.
pub fn detach(core: &Shared, call: CallId, cluster: &Cluster, app: &str) -> FlyResult<()> {
    let mut found = false;
    set(core, &cluster.id, |cluster| {
        found = cluster.attachments.remove(app).is_some();
    });
    if !found {
        return Err(FlyError::not_found(format!("app {app} is not attached")));
    }
    effect(core, call, "postgres.detach", cluster, app);
    Ok(())
}

/// Makes a backup, which takes no time.
pub fn back_up(core: &Shared, call: CallId, cluster: &Cluster, kind: &str) -> FlyResult<Backup> {
    if !matches!(kind, "full" | "incr" | "diff") {
        return Err(FlyError::unprocessable(
            "type must be one of full, incr, diff",
        ));
    }
    let backup = Backup {
        id: id::short(12),
        kind: kind.to_owned(),
        at: Timestamp::now(),
    };
    set(core, &cluster.id, |cluster| {
        cluster.backups.push(backup.clone())
    });
    effect(core, call, "postgres.backup", cluster, &backup.id);
    Ok(backup)
}
