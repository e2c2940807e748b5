//! The connection to PostgreSQL: one, opened when first needed, opened again when it has died.
//!
//! One connection is enough, because the protocol lets requests queue behind each other on it, and
//! a small service stays within the few connections that a small database allows. Statements are
//! sent with their types and without a name, so that a pooler like PgBouncer may sit in between.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, NoTls, Row};

/// Longest wait for a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Longest wait for the answer to one statement of the service.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// `DATABASE_URL` is not a PostgreSQL address.
    #[error(
        "DATABASE_URL is not a PostgreSQL address; it must look like postgres://user:password@host:5432/name"
    )]
    Url(#[source] tokio_postgres::Error),
    /// No connection.
    #[error("cannot connect to the database")]
    Connect(#[source] tokio_postgres::Error),
    /// Connected, but the statement failed.
    #[error("cannot {doing}")]
    Statement {
        /// What the statement was for.
        doing: &'static str,
        /// PostgreSQL's answer.
        source: tokio_postgres::Error,
    },
    /// No answer in time.
    #[error("cannot {doing}: no answer within {limit:?}")]
    Timeout {
        /// What the statement was for.
        doing: &'static str,
        /// How long we waited.
        limit: Duration,
    },
    /// The switch `no-database`.
    #[error("cannot connect to the database: the switch no-database is on")]
    SwitchedOff,
}

impl DatabaseError {
    /// PostgreSQL's own code for what went wrong, if it answered at all.
    pub fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Statement { source, .. } => source.code(),
            _ => None,
        }
    }
}

/// A parameter of a statement with its type.
pub type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// The database of the service.
pub struct Database {
    config: tokio_postgres::Config,
    client: Mutex<Option<Arc<Client>>>,
    switched_off: bool,
}

impl Database {
    /// Prepares the connection without opening it. `switched_off` makes every use fail as if the
    /// server could not be reached.
    pub fn new(url: &SecretString, switched_off: bool) -> Result<Self, DatabaseError> {
        let mut config =
            tokio_postgres::Config::from_str(url.expose_secret()).map_err(DatabaseError::Url)?;
        config.connect_timeout(CONNECT_TIMEOUT);
        if config.get_application_name().is_none() {
            config.application_name("cabanas");
        }
        Ok(Self {
            config,
            client: Mutex::new(None),
            switched_off,
        })
    }

    /// Opens a connection of its own, for work that must not share one.
    pub async fn connect(&self) -> Result<Client, DatabaseError> {
        if self.switched_off {
            return Err(DatabaseError::SwitchedOff);
        }
        let opened = timeout(CONNECT_TIMEOUT, self.config.connect(NoTls)).await;
        let (client, connection) = opened
            .map_err(|_| DatabaseError::Timeout {
                doing: "connect to the database",
                limit: CONNECT_TIMEOUT,
            })?
            .map_err(DatabaseError::Connect)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::warn!(error = %chain(&error), "the connection to the database ended");
            }
        });
        Ok(client)
    }

    /// Like [`Database::connect`], but tries again until `patience` is over: a database that was
    /// created a moment ago may need some seconds until its name resolves.
    pub async fn connect_patiently(&self, patience: Duration) -> Result<Client, DatabaseError> {
        let deadline = Instant::now() + patience;
        let mut pause = Duration::from_millis(200);
        loop {
            match self.connect().await {
                Err(error) if Instant::now() + pause < deadline => {
                    tracing::info!(error = %chain(&error), "the database is not there yet");
                    sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(2));
                }
                result => return result,
            }
        }
    }

    async fn client(&self) -> Result<Arc<Client>, DatabaseError> {
        let mut slot = self.client.lock().await;
        if let Some(client) = slot.as_ref().filter(|c| !c.is_closed()) {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(self.connect().await?);
        *slot = Some(Arc::clone(&client));
        Ok(client)
    }

    /// Runs one statement and returns its rows. `doing` completes "cannot …" in the error.
    pub async fn rows(
        &self,
        doing: &'static str,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, DatabaseError> {
        let client = self.client().await?;
        match timeout(STATEMENT_TIMEOUT, client.query_typed(sql, parameters)).await {
            Ok(result) => result.map_err(|source| DatabaseError::Statement { doing, source }),
            Err(_) => {
                // Whatever blocks this connection would block the next statement too.
                *self.client.lock().await = None;
                Err(DatabaseError::Timeout {
                    doing,
                    limit: STATEMENT_TIMEOUT,
                })
            }
        }
    }

    /// Asks `select 1`.
    pub async fn ping(&self) -> Result<(), DatabaseError> {
        self.rows("ask the database a question", "select 1", &[])
            .await
            .map(drop)
    }

    /// The number of the newest migration that has been applied, `None` before the first.
    pub async fn applied_schema(&self) -> Result<Option<i32>, DatabaseError> {
        let sql = "select max(version) from refinery_schema_history";
        match self.rows("read the schema version", sql, &[]).await {
            Ok(rows) => Ok(rows.first().and_then(|row| row.get(0))),
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// An error and its causes in one line, without repeating a cause that its parent already shows.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        if !text.contains(&next_text) {
            text = format!("{text}: {next_text}");
        }
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_the_scheme_and_a_disabled_tls_are_understood() {
        for url in [
            "postgres://u:p@localhost:5432/db?sslmode=disable",
            "postgresql://u:p@localhost/db",
            "postgres://u:p%40ss@[::1]:5433/db?sslmode=prefer",
        ] {
            assert!(Database::new(&url.into(), false).is_ok(), "{url}");
        }
    }

    #[test]
    fn a_wrong_address_is_refused_without_showing_its_password() {
        let error = Database::new(&"mysql://u:canary-4711@host/db".into(), false).err();
        let text = error
            .map(|e| format!("{} {e:?}", chain(&e)))
            .unwrap_or_default();
        assert!(text.contains("DATABASE_URL"), "{text}");
        assert!(!text.contains("canary-4711"), "{text}");
    }
}
