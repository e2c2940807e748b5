//! Legacy Fly Postgres: what runs in a machine with the image `flyio/postgres-flex`.
//!
//! It serves PostgreSQL on ports 5432 and 5433 of the machine's address, the admin API and the
//! checks on 5500 and metrics on 9187. The data is on the shared real server, under a prefix of
//! the app, and stays when the machine stops. Source of the API: fly-apps/postgres-flex,
//! internal/api/handler.go.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::core::{Core, Shared};
use crate::machine::State as MachineState;
use crate::machine::process::{self, Program};
use crate::machine::{BootEnv, ExecRequest, ExecResult};
use crate::platform::pgproxy::Proxy;
use crate::platform::postgres::{Backend, DatabaseError, Right};

/// Name in `images.toml`.
pub const BUILTIN: &str = "postgres-flex";

/// Longest time of a command in the machine. Fly's own limit is not public.
const EXEC_LIMIT: Duration = Duration::from_secs(60);

/// Super users and the secret that has their password.
const SUPERUSERS: &[(&str, &str)] = &[
    ("postgres", "OPERATOR_PASSWORD"),
    ("flypgadmin", "SU_PASSWORD"),
    ("repmgr", "REPL_PASSWORD"),
];

struct Cluster {
    core: Shared,
    app: String,
    machine: String,
    backend: Arc<Backend>,
    prefix: String,
}

impl Cluster {
    /// Whether this machine takes the writes: the first of the app that came up does, and when it is
    /// not up any more the next that is asked.
    fn is_primary(&self) -> bool {
        self.core.write(|world| {
            let Some(app) = world.apps.get(&self.app) else {
                return false;
            };
            let primaries = &mut world.platform.primaries;
            let now = primaries
                .get(&app.internal_numeric_id)
                .and_then(|id| app.machines.get(id))
                .filter(|machine| machine.state == MachineState::Started)
                .map(|machine| machine.id.clone());
            if now.is_none() {
                primaries.insert(app.internal_numeric_id, self.machine.clone());
            }
            now.is_none_or(|id| id == self.machine)
        })
    }

    fn role(&self) -> &'static str {
        if self.is_primary() {
            "primary"
        } else {
            "replica"
        }
    }

    /// A replica changes nothing, as PostgreSQL says it.
    fn writes(&self) -> Result<(), Refused> {
        if self.is_primary() {
            return Ok(());
        }
        let text = "ERROR: cannot execute in a read-only transaction (SQLSTATE 25006)";
        Err(Refused(StatusCode::INTERNAL_SERVER_ERROR, text.to_owned()))
    }
}

/// Prefix of an app's names on the shared server.
fn prefix(core: &Core, app: &str) -> Option<String> {
    core.read(|world| Some(prefix_of(&world.platform.salt, world.apps.get(app)?)))
}

fn prefix_of(salt: &str, app: &crate::state::App) -> String {
    format!("{salt}{:x}_", app.internal_numeric_id % 0x10_0000)
}

/// Runs until the machine is stopped, when this future is dropped; an exit code if it cannot.
pub async fn run(core: Shared, boot: BootEnv) -> i32 {
    match serve(&core, &boot).await {
        Ok(()) => 0,
        Err(why) => {
            tracing::warn!(app = %boot.app, %why, "a simulated Postgres machine ended");
            1
        }
    }
}

async fn serve(core: &Shared, boot: &BootEnv) -> Result<(), String> {
    let prefix = prefix(core, &boot.app).ok_or("the app has gone")?;
    let (backend, server) = super::backend(core).await.map_err(text)?;
    backend.create_namespace(&prefix).await.map_err(text)?;
    for (name, variable) in SUPERUSERS {
        let password = boot
            .env
            .get(*variable)
            .ok_or_else(|| format!("the secret {variable} is not set"))?;
        let made = backend
            .create_user(&prefix, name, password, Right::Superuser)
            .await;
        match made {
            Err(error) if error.exists() => backend
                .set_password(&prefix, name, password)
                .await
                .map_err(text)?,
            other => other.map_err(text)?,
        }
    }
    match backend.create_database(&prefix, "postgres").await {
        Err(error) if !error.exists() => return Err(text(error)),
        _ => {}
    }

    let at = |port: u16| SocketAddr::from((boot.bind_ip, port));
    let mut proxies = Vec::new();
    for port in [5432, 5433] {
        let proxy = Proxy::start(at(port), prefix.clone(), server).await;
        proxies.push(proxy.map_err(|error| format!("listen on {}: {error}", at(port)))?);
    }
    let cluster = Arc::new(Cluster {
        core: core.clone(),
        app: boot.app.clone(),
        machine: boot.machine.clone(),
        backend,
        prefix,
    });
    let listen = async |port: u16| {
        TcpListener::bind(at(port))
            .await
            .map_err(|error| format!("listen on {}: {error}", at(port)))
    };
    let (admin, metrics) = (listen(5500).await?, listen(9187).await?);
    let exporter = Router::new().route("/metrics", get(async || "# TYPE pg_up gauge\npg_up 1\n"));
    let admin = axum::serve(admin, router().with_state(cluster)).into_future();
    let metrics = axum::serve(metrics, exporter).into_future();
    tokio::select! {
        ended = admin => ended.map_err(|error| error.to_string()),
        ended = metrics => ended.map_err(|error| error.to_string()),
    }
}

fn text(error: DatabaseError) -> String {
    error.to_string()
}

fn router() -> Router<Arc<Cluster>> {
    Router::new()
        .route("/flycheck/pg", get(check))
        .route(
            "/flycheck/vm",
            get(async || "[✓] disk, load and memory are fine"),
        )
        .route("/flycheck/role", get(role_check))
        .route("/commands/users/list", get(users))
        .route("/commands/users/create", post(create_user))
        .route("/commands/users/delete/{name}", delete(delete_user))
        .route("/commands/users/{name}", get(user))
        .route("/commands/databases/list", get(databases))
        .route("/commands/databases/create", post(create_database))
        .route("/commands/databases/delete/{name}", delete(delete_database))
        .route("/commands/databases/{name}", get(database))
        .route("/commands/admin/role", get(role))
        .route(
            "/commands/admin/readonly/state",
            get(async || Json(json!({"result": false}))),
        )
}

struct Refused(StatusCode, String);

impl From<DatabaseError> for Refused {
    fn from(error: DatabaseError) -> Self {
        let status = if error.exists() {
            StatusCode::CONFLICT
        } else {
            StatusCode::INTERNAL_SERVER_ERROR
        };
        Self(status, error.to_string())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": self.1}))).into_response()
    }
}

type Answer = Result<Json<Value>, Refused>;

fn missing() -> Refused {
    Refused(StatusCode::NOT_FOUND, "no rows in result set".to_owned())
}

async fn check(State(cluster): State<Arc<Cluster>>) -> Result<&'static str, Refused> {
    cluster.backend.databases(&cluster.prefix).await?;
    Ok("[✓] transactions: read/write\n[✓] connections: 14 used, 3 reserved, 300 max")
}

type Here = State<Arc<Cluster>>;

async fn role_check(State(cluster): Here) -> &'static str {
    cluster.role()
}

async fn role(State(cluster): Here) -> Json<Value> {
    Json(json!({"result": cluster.role()}))
}

fn user_json(name: &str, databases: &[String]) -> Value {
    let superuser = SUPERUSERS.iter().any(|(known, _)| *known == name);
    json!({
        "username": name,
        "superuser": superuser,
        "replication": name == "repmgr",
        "databases": databases,
    })
}

async fn users(State(cluster): State<Arc<Cluster>>) -> Answer {
    let databases = cluster.backend.databases(&cluster.prefix).await?;
    let users = cluster.backend.users(&cluster.prefix).await?;
    let users: Vec<_> = users
        .iter()
        .map(|name| user_json(name, &databases))
        .collect();
    Ok(Json(json!({"result": users})))
}

async fn user(State(cluster): State<Arc<Cluster>>, Path(name): Path<String>) -> Answer {
    let users = cluster.backend.users(&cluster.prefix).await?;
    if !users.contains(&name) {
        return Err(missing());
    }
    let databases = cluster.backend.databases(&cluster.prefix).await?;
    Ok(Json(json!({"result": user_json(&name, &databases)})))
}

#[derive(Deserialize)]
struct NewUser {
    username: String,
    password: String,
    #[serde(default)]
    superuser: bool,
}

async fn create_user(State(cluster): State<Arc<Cluster>>, Json(user): Json<NewUser>) -> Answer {
    cluster.writes()?;
    let right = if user.superuser {
        Right::Superuser
    } else {
        Right::SchemaAdmin
    };
    cluster
        .backend
        .create_user(&cluster.prefix, &user.username, &user.password, right)
        .await?;
    Ok(Json(json!({"result": true})))
}

async fn delete_user(State(cluster): State<Arc<Cluster>>, Path(name): Path<String>) -> Answer {
    cluster.writes()?;
    if !cluster
        .backend
        .users(&cluster.prefix)
        .await?
        .contains(&name)
    {
        return Err(missing());
    }
    cluster.backend.drop_user(&cluster.prefix, &name).await?;
    Ok(Json(json!({"result": true})))
}

async fn databases(State(cluster): State<Arc<Cluster>>) -> Answer {
    let (users, databases) = (
        cluster.backend.users(&cluster.prefix).await?,
        cluster.backend.databases(&cluster.prefix).await?,
    );
    let all: Vec<_> = databases
        .iter()
        .map(|name| json!({"name": name, "users": users}))
        .collect();
    Ok(Json(json!({"result": all})))
}

async fn database(State(cluster): State<Arc<Cluster>>, Path(name): Path<String>) -> Answer {
    if !cluster
        .backend
        .databases(&cluster.prefix)
        .await?
        .contains(&name)
    {
        return Err(missing());
    }
    let users = cluster.backend.users(&cluster.prefix).await?;
    Ok(Json(json!({"result": {"name": name, "users": users}})))
}

#[derive(Deserialize)]
struct NewDatabase {
    name: String,
}

async fn create_database(
    State(cluster): State<Arc<Cluster>>,
    Json(database): Json<NewDatabase>,
) -> Answer {
    cluster.writes()?;
    let (backend, prefix) = (&cluster.backend, &cluster.prefix);
    backend.create_database(prefix, &database.name).await?;
    Ok(Json(json!({"result": true})))
}

async fn delete_database(State(cluster): State<Arc<Cluster>>, Path(name): Path<String>) -> Answer {
    cluster.writes()?;
    if !cluster
        .backend
        .databases(&cluster.prefix)
        .await?
        .contains(&name)
    {
        return Err(missing());
    }
    let (backend, prefix) = (&cluster.backend, &cluster.prefix);
    backend.drop_database(prefix, &name).await?;
    Ok(Json(json!({"result": true})))
}

/// `psql` of the machine: every name of the machine means its own address.
const PSQL: &str = r#"#!/bin/sh
host() {
    case "$1" in
        localhost|127.0.0.1|::1|*.internal|*.flycast|"$FLY_PRIVATE_IP"|/*) echo "$FLY_SIM_BIND_IP" ;;
        *) echo "$1" ;;
    esac
}
left=$#
takes_host=
while [ "$left" -gt 0 ]; do
    arg=$1; shift; left=$((left - 1))
    if [ -n "$takes_host" ]; then
        arg=$(host "$arg"); takes_host=
    else
        case "$arg" in
            -h|--host) takes_host=1 ;;
            -h?*) arg=-h$(host "${arg#-h}") ;;
            --host=*) arg=--host=$(host "${arg#--host=}") ;;
            postgres://*@*|postgresql://*@*)
                rest=${arg##*@}; name=${rest%%[:/?]*}
                arg=${arg%@*}@$(host "$name")${rest#"$name"} ;;
        esac
    fi
    set -- "$@" "$arg"
done
self=$(dirname "$0")
PATH=$(printf %s "$PATH" | tr ':' '\n' | grep -vxF "$self" | paste -sd:)
exec psql "$@"
"#;

/// `curl` of the machine: `localhost` means its own address.
const CURL: &str = r#"#!/bin/sh
left=$#
while [ "$left" -gt 0 ]; do
    arg=$1; shift; left=$((left - 1))
    case "$arg" in
        http://localhost[:/]*) arg=http://$FLY_SIM_BIND_IP${arg#http://localhost} ;;
        http://127.0.0.1[:/]*) arg=http://$FLY_SIM_BIND_IP${arg#http://127.0.0.1} ;;
    esac
    set -- "$@" "$arg"
done
self=$(dirname "$0")
PATH=$(printf %s "$PATH" | tr ':' '\n' | grep -vxF "$self" | paste -sd:)
exec curl "$@"
"#;

/// Runs a command in the machine: with its secrets, and with `psql` and `curl` where they would be.
pub async fn exec(core: &Core, mut boot: BootEnv, request: &ExecRequest) -> Option<ExecResult> {
    use std::os::unix::fs::PermissionsExt;

    let dir = core.dir.join("machines").join(&boot.machine);
    let bin = dir.join("bin");
    std::fs::create_dir_all(&bin).ok()?;
    for (name, script) in [("psql", PSQL), ("curl", CURL)] {
        let tool = bin.join(name);
        if !tool.exists() {
            // Moved into place, so that nobody runs half of it.
            let new = bin.join(format!("{name}-{}", crate::id::short(6)));
            std::fs::write(&new, script).ok()?;
            std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).ok()?;
            std::fs::rename(&new, &tool).ok()?;
        }
    }
    let path = boot.env.entry("PATH".to_owned()).or_default();
    *path = format!("{}:{path}", bin.display());
    let search = path.clone();
    boot.env
        .entry("PGHOST".to_owned())
        .or_insert_with(|| boot.bind_ip.to_string());
    boot.env
        .entry("PGPORT".to_owned())
        .or_insert_with(|| "5433".to_owned());

    let failed = |why: String| ExecResult {
        exit_code: 127,
        stderr: why,
        ..ExecResult::default()
    };
    let mut argv = request.command.clone();
    let first = argv.first_mut()?;
    match process::find(first, &search) {
        Some(found) => *first = found.display().to_string(),
        None => {
            return Some(failed(format!(
                "{first}: executable file not found in $PATH"
            )));
        }
    }
    let program = Program {
        argv,
        env: boot.env,
        dir,
    };
    Some(match process::run(&program, request, EXEC_LIMIT).await {
        Ok(Some(result)) => result,
        Ok(None) => failed("the command did not finish in time".to_owned()),
        Err(error) => failed(error.to_string()),
    })
}

/// Drops the databases of an app that has gone.
pub fn forget(core: &Core, app: &crate::state::App) {
    let backend = super::started_backend(core);
    if let (Some(backend), "postgres_cluster") = (backend, app.role.as_str()) {
        let prefix = prefix_of(&core.read(|world| world.platform.salt.clone()), app);
        core.spawn(async move {
            if let Err(error) = backend.drop_namespace(&prefix).await {
                tracing::warn!(%error, "cannot drop the databases of a legacy cluster");
            }
        });
    }
}
