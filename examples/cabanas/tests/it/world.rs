//! A database and a Redis for one test, and the service on top of them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cabanas::config::{Config, DatabaseConfig};
use cabanas::migrate;
use cabanas::server::{self, Running};
use kube_env::{Postgres, Redis};
use tempfile::TempDir;
use tokio::sync::OnceCell;

/// Longest wait for anything in these tests.
pub const LIMIT: Duration = Duration::from_secs(30);

/// One PostgreSQL for the whole program, because making a cluster takes a second; each test has a
/// database of its own. It ends with the program: its guard sees that we are gone.
static POSTGRES: OnceCell<(Postgres, TempDir)> = OnceCell::const_new();

/// What one test has for itself.
pub struct World {
    database_url: String,
    redis: Redis,
    dir: TempDir,
}

impl World {
    /// An empty database and an empty Redis.
    pub async fn start() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (postgres, _) = POSTGRES
            .get_or_init(|| async {
                // Nothing that is static is dropped: its log stays where cargo keeps such files.
                let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
                (Postgres::start(dir.path()).await.unwrap(), dir)
            })
            .await;
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let (client, connection) = tokio_postgres::connect(&postgres.url(), tokio_postgres::NoTls)
            .await
            .unwrap();
        let driver = tokio::spawn(connection);
        let sql = format!("create database {name}");
        client.batch_execute(&sql).await.unwrap();
        drop(client);
        driver.await.unwrap().unwrap();
        let dir = tempfile::tempdir().unwrap();
        Self {
            database_url: postgres.url().replace("/postgres?", &format!("/{name}?")),
            redis: Redis::start(dir.path()).await.unwrap(),
            dir,
        }
    }

    /// Like [`World::start`], with the schema of the newest version.
    pub async fn migrated() -> Self {
        let world = Self::start().await;
        migrate::up(&world.database_config(&[])).await.unwrap();
        world
    }

    /// A directory for files of the test.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Ends Redis, for tests of life without it.
    pub fn stop_redis(&mut self) {
        self.redis.process().stop();
    }

    /// The environment of the service, as Fly would give it, with `extra` on top.
    pub fn env(&self, extra: &[(&str, &str)]) -> Vec<(String, String)> {
        let redis_url = self.redis.url();
        let mut env: Vec<(String, String)> = [
            ("DATABASE_URL", self.database_url.as_str()),
            ("REDIS_URL", redis_url.as_str()),
            ("FLY_SIM_BIND_IP", "127.0.0.1"),
            ("PORT", "0"),
            ("FLY_APP_NAME", "sist-cabanas-mvp"),
            ("CABANAS_VERSION", "1.5.0"),
            ("JWT_SECRET", "jwt-canary"),
            ("REDIS_PASSWORD", "redis-canary"),
            ("ICS_SALT", "ics-canary"),
            ("ADMIN_CSRF_SECRET", "csrf-canary"),
            ("GRAFANA_ADMIN_PASSWORD", "grafana-canary"),
            ("WHATSAPP_VERIFY_TOKEN", "verify-canary"),
            ("WHATSAPP_APP_SECRET", "test-app-secret"),
            ("MERCADOPAGO_WEBHOOK_SECRET", "test-secret"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        for (name, value) in extra {
            env.retain(|(n, _)| n != name);
            env.push(((*name).to_owned(), (*value).to_owned()));
        }
        env
    }

    /// What `migrate` gets from [`World::env`].
    pub fn database_config(&self, extra: &[(&str, &str)]) -> DatabaseConfig {
        let env = self.env(extra);
        DatabaseConfig::from_env(|name| look(&env, name)).unwrap()
    }

    /// The service in this process.
    pub async fn serve(&self, extra: &[(&str, &str)]) -> Service {
        let env = self.env(extra);
        let config = Config::from_env(|name| look(&env, name)).unwrap();
        Service(server::start(config).await.unwrap())
    }

    /// One row of the database, first column as text.
    pub async fn scalar(&self, sql: &str) -> Option<String> {
        let (client, connection) =
            tokio_postgres::connect(&self.database_url, tokio_postgres::NoTls)
                .await
                .unwrap();
        let driver = tokio::spawn(connection);
        let row = client.query_one(sql, &[]).await.unwrap();
        drop(client);
        driver.await.unwrap().unwrap();
        row.get(0)
    }
}

fn look(env: &[(String, String)], name: &str) -> Option<String> {
    env.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone())
}

/// A service that listens, in this process.
pub struct Service(pub Running);

impl Service {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }
}
